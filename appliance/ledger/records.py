"""Records of processing, made from the schema: what is kept of people, why, how long (GDPR art. 30, 152-FZ art. 22)."""

from __future__ import annotations

from datetime import datetime

from appliance.ledger.sealing import SEALED
from appliance.ledger.tables import metadata

# table: (purpose, whose data, how long)
PURPOSES: dict[str, tuple[str, str, str]] = {
    "user": ("to answer a person, with their rights", "members", "until erased, or unseen for keep_quiet_people_days"),
    "consent": ("to prove consent", "members", "with the person"),
    "membership": ("to answer from closed channels to their members alone", "members", "with the person"),
    "subscription_type": ("the plans on offer", "nobody", "until changed"),
    "user_subscription": ("to keep what a person bought", "members", "with the person"),
    "payment": ("to prove, renew and refund payments", "members", "with the person"),
    "channel": ("to name and open or close a channel", "the community", "until the channel is forgotten"),
    "post": ("to be searched and quoted with a link", "authors of posts", "until deleted, or the author opts out"),
    "unindexed": ("to index what a stop left over", "nobody", "moments"),
    "question": ("to answer, to carry a dialogue on, to measure quality", "members", "keep_questions_days"),
    "feedback": ("to learn which answers were good", "members", "with the question"),
    "chat_setting": ("what a group or its topic is set to", "nobody", "until changed"),
    "person_setting": ("what a person set for themselves", "members", "with the person"),
    "talk": ("to carry a private conversation on", "members", "with the person"),
    "held_answer": ("an answer that waits to be published", "members", "7 days"),
    "alert": ("to tell a person of new posts they asked for", "members", "until stopped, or with the person"),
    "fresh_post": ("to compare new posts with alerts", "nobody", "moments"),
    "notice": ("to tell a person something once", "members", "30 days"),
    "survey": ("to learn how content members are", "members", "with the person"),
    "setting": ("the appliance's own settings", "nobody", "until changed"),
    "event": ("to account for administrative acts", "administrators", "keep_events_days"),
    "api_key": ("to let programs ask", "their owners", "until expired and removed"),
    "opt_out": ("not to keep an author's posts again", "authors, by a keyed hash", "for ever"),
    "admission": ("to let in who may ask", "members", "with the person"),
    "invited": ("to let in people before they write", "the invited, by a keyed hash", "until withdrawn"),
    "ban": ("to keep order, and to explain a ban", "members", "until the ban ends, or with the person"),
    "barred": ("so that erasing oneself does not end a ban", "the banned, by a keyed hash", "until the ban ends"),
    "receipt": ("to prove an erasure", "nobody: counts alone", "for ever"),
    "channel_state": ("to know which channels were approved and agreed to be searched", "the community", "with it"),
    "channel_request": ("to tell a member what became of a channel they proposed", "members", "with the person"),
    "album_part": ("to join messages of an album into one post", "authors of posts", "with the post"),
    "group_question": ("to recognise repeated questions in a group", "members", "keep_questions_days"),
    "member_answer": ("to answer with what a trusted member replied", "members", "with its author"),
    "closed_question": ("not to show an answered refusal again", "members", "keep_questions_days"),
    "faq": ("to offer frequent questions", "members", "with the person, or until removed"),
    "correction": ("to tell members once that an answer changed", "members", "keep_questions_days"),
}
PERSONAL = {  # beyond what is sealed
    "user": {"user_id", "telegram_id", "language", "role", "registered_at", "seen_at"},
    "consent": {"user_id"},
    "membership": {"user_id"},
    "user_subscription": {"user_id", "charge_id"},
    "payment": {"user_id", "charge_id"},
    "question": {"user_id"},
    "feedback": {"user_id"},
    "person_setting": {"user_id", "value"},
    "talk": {"user_id"},
    "held_answer": {"user_id"},
    "alert": {"user_id"},
    "notice": {"user_id"},
    "survey": {"user_id", "score"},
    "admission": {"user_id"},
    "ban": {"user_id"},
    "event": {"actor_id"},
    "api_key": {"name"},
    "channel_request": {"user_id"},
    "group_question": {"user_id"},
    "member_answer": {"user_id", "asker_id"},
    "closed_question": {"user_id"},
    "faq": {"user_id"},
    "correction": {"user_id"},
}


def as_markdown(now: datetime) -> str:
    """Return the records of processing.

    Parameters
    ----------
    now : datetime
        Printed as the day they were made.

    Returns
    -------
    str
        Markdown, a table of the schema's tables.
    """
    lines = [
        "# Records of processing",
        "",
        f"Made from the ledger's schema on {now:%Y-%m-%d} by `postfinder records`.",
        "",
        "| data | purpose | whose | kept | personal fields | sealed fields |",
        "|---|---|---|---|---|---|",
    ]
    for table in metadata.sorted_tables:
        purpose, whose, kept = PURPOSES[table.name]
        sealed = SEALED.get(table.name, ())
        personal = [column.name for column in table.c if column.name in {*PERSONAL.get(table.name, ()), *sealed}]
        cells = (table.name, purpose, whose, kept, ", ".join(personal) or "—", ", ".join(sealed) or "—")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Updates and messages under way (`journal.sqlite`) are sealed whole and kept 7 days, chat ids 30 days. Vectors "
        "of posts (`index`) are not sealed: see the threat model. Nothing leaves the host but Telegram's own traffic "
        "and what the operator configured.",
    ]
    return "\n".join(lines) + "\n"
