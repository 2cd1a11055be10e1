"""The ledger's tables, in SQLAlchemy Core: one schema for DuckDB and PostgreSQL.

Three habits keep it portable: identifiers come from explicit sequences, nothing cascades (rows that belong together are
removed together, in code), and times are stored as UTC without a zone. There are no foreign keys: DuckDB checks them
too eagerly to remove a parent and its children in one transaction.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Sequence,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, stored as UTC without a zone; so no session time zone can shift it."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn stored naive UTC into an aware time."""
        return None if value is None else value.replace(tzinfo=UTC)


user_id_seq = Sequence("user_id_seq", metadata=metadata)
type_id_seq = Sequence("type_id_seq", metadata=metadata)
subscription_id_seq = Sequence("subscription_id_seq", metadata=metadata)
event_id_seq = Sequence("event_id_seq", metadata=metadata)
alert_id_seq = Sequence("alert_id_seq", metadata=metadata)

user = Table(
    "user",
    metadata,
    Column("user_id", BigInteger, user_id_seq, primary_key=True),
    Column("telegram_id", BigInteger, nullable=False),
    Column("username", Text),
    Column("first_name", Text, nullable=False),
    Column("last_name", Text),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("role", String(16), nullable=False),  # owner, admin, moderator, trusted, member, guest
    Column("language", String(8), nullable=False),
    UniqueConstraint("telegram_id", name="user_telegram_id_key"),
)

subscription_type = Table(
    "subscription_type",
    metadata,
    Column("type_id", BigInteger, type_id_seq, primary_key=True),
    Column("type_name", Text, nullable=False),
    Column("monthly_price", Numeric(12, 2), nullable=False),  # in Telegram Stars
    Column("per_day", Integer),  # questions; None has no limit
    Column("per_month", Integer),
    Column("retired_at", UtcDateTime),  # no longer sold; who has it keeps it
    UniqueConstraint("type_name", name="subscription_type_type_name_key"),
)

user_subscription = Table(
    "user_subscription",
    metadata,
    Column("subscription_id", BigInteger, subscription_id_seq, primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("type_id", BigInteger, nullable=False),
    Column("valid_from", UtcDateTime, nullable=False),
    Column("valid_to", UtcDateTime),
    Column("charge_id", Text),  # of its first payment; None for one that was given
    Column("renews", Boolean),
)

membership = Table(  # closed channels a user may read
    "membership",
    metadata,
    Column("user_id", BigInteger, nullable=False),
    Column("channel_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "channel_id"),
)

channel = Table(
    "channel",
    metadata,
    Column("channel_id", BigInteger, primary_key=True, autoincrement=False),
    Column("title", Text, nullable=False),
    Column("username", Text),
    Column("kind", Text, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("added_at", UtcDateTime, nullable=False),
)

post = Table(
    "post",
    metadata,
    Column("channel_id", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("posted_at", UtcDateTime, nullable=False),
    Column("text", Text, nullable=False),
    Column("edited_at", UtcDateTime),
    Column("author", Text),
    Column("author_id", Text),
    Column("topic_id", BigInteger),
    Column("reply_to_id", BigInteger),
    Column("forwarded_from", Text),
    Column("media", Text),
    Column("album_ids", JSON, nullable=False),
    Column("links", JSON, nullable=False),
    Column("reactions", Integer, nullable=False),
    Column("content_hash", String(32), nullable=False),  # with edited_at: the post's version
    PrimaryKeyConstraint("channel_id", "message_id"),
)

unindexed = Table(  # posts saved here whose index entry is not yet known to be durable; empty at rest
    "unindexed",
    metadata,
    Column("channel_id", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
)

question = Table(
    "question",
    metadata,
    Column("question_id", String(64), primary_key=True),
    Column("dialogue_id", String(64), nullable=False),
    Column("user_id", BigInteger),
    Column("door", String(16), nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("text", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("language", String(8), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("model", Text, nullable=False),
    Column("posts", JSON, nullable=False),
    Column("answer_text", Text, nullable=False),
    Column("relevance", Float(53), nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("times_ms", JSON, nullable=False),
    Index("question_dialogue_id", "dialogue_id"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("question_id", String(64), nullable=False),
    Column("user_id", BigInteger, nullable=False),  # 0: an unregistered web visitor
    Column("vote", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    Column("rated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("question_id", "user_id"),
)

setting = Table(
    "setting",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

event = Table(  # append-only: administrative acts and errors, by kind
    "event",
    metadata,
    Column("event_id", BigInteger, event_id_seq, primary_key=True),
    Column("happened_at", UtcDateTime, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("actor_id", BigInteger),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
)

consent = Table(  # to which text of the privacy notice a person agreed, and when
    "consent",
    metadata,
    Column("user_id", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("agreed_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("user_id", "version"),
)

api_key = Table(  # the key itself is shown once and never stored
    "api_key",
    metadata,
    Column("key_id", String(16), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("per_minute", Integer, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)

opt_out = Table(  # authors, by a keyed hash, whose posts are not kept
    "opt_out",
    metadata,
    Column("author", String(16), primary_key=True),
    Column("asked_at", UtcDateTime, nullable=False),
)

receipt = Table(  # of erasures; free of personal data
    "receipt",
    metadata,
    Column("receipt_id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("erased_at", UtcDateTime, nullable=False),
    Column("counts", JSON, nullable=False),
)


# Members: alerts, modes of chats, surveys

chat_setting = Table(  # what a chat or one topic of it is set to; topic 0 is the whole chat
    "chat_setting",
    metadata,
    Column("chat_id", BigInteger, nullable=False),
    Column("topic_id", BigInteger, nullable=False),
    Column("name", String(32), nullable=False),
    Column("value", JSON, nullable=False),
    Column("set_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("chat_id", "topic_id", "name"),
)

person_setting = Table(  # what a person set for themselves: quiet hours and the like
    "person_setting",
    metadata,
    Column("user_id", BigInteger, nullable=False),
    Column("name", String(32), nullable=False),
    Column("value", JSON, nullable=False),
    Column("set_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("user_id", "name"),
)

talk = Table(  # the dialogue that goes on in a topic of a person's private chat; topic 0 is the chat itself
    "talk",
    metadata,
    Column("user_id", BigInteger, nullable=False),
    Column("topic_id", BigInteger, nullable=False),
    Column("dialogue_id", String(64), nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("user_id", "topic_id"),
)

held_answer = Table(  # an answer that waits for somebody to publish it
    "held_answer",
    metadata,
    Column("held_id", String(32), primary_key=True),
    Column("user_id", BigInteger, nullable=False),  # the asker; 0: unknown
    Column("chat_id", BigInteger, nullable=False),
    Column("calls", Text, nullable=False),
    Column("held_at", UtcDateTime, nullable=False),
    Column("decided_by", BigInteger),  # the update that published or dropped it
)

alert = Table(  # "tell me when somebody writes about …"
    "alert",
    metadata,
    Column("alert_id", BigInteger, alert_id_seq, primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("above", Float(53), nullable=False),  # probability of relevance
    Column("made_at", UtcDateTime, nullable=False),
)

fresh_post = Table(  # new posts not yet compared with the alerts; empty at rest
    "fresh_post",
    metadata,
    Column("channel_id", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
)

notice = Table(  # what a person is to be told once, from when on, and whether it went to the sender
    "notice",
    metadata,
    Column("notice_id", String(64), primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("not_before", UtcDateTime, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime),
)

survey = Table(  # how content a person is, asked at most once in 30 days
    "survey",
    metadata,
    Column("user_id", BigInteger, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("score", Integer),  # 1 to 5; none where it was not answered
    Column("answered_at", UtcDateTime),
    PrimaryKeyConstraint("user_id", "asked_at"),
)


# Plans: limits, use, payments

payment = Table(  # in Telegram Stars; one row a charge, however often Telegram tells of it
    "payment",
    metadata,
    Column("charge_id", String(128), primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("type_id", BigInteger),  # None where the invoice is not one of ours
    Column("stars", Integer, nullable=False),
    Column("is_renewal", Boolean, nullable=False),
    Column("paid_at", UtcDateTime, nullable=False),
    Column("refunded_at", UtcDateTime),
)


# Community: repeated questions, unanswered ones, approved answers, corrections, live channels

answer_id_seq = Sequence("answer_id_seq", metadata=metadata)

channel_state = Table(  # a channel without a row was imported by the operator: approved, found in all searches
    "channel_state",
    metadata,
    Column("channel_id", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),  # waiting, approved, refused
    Column("is_cross", Boolean, nullable=False),  # its owner agrees that it is found without being named
    Column("is_live", Boolean, nullable=False),  # the bot is an admin there now
    Column("source", String(16), nullable=False),  # export, bot, preview, feed
    Column("address", Text, nullable=False),  # of the feed
    Column("changed_at", UtcDateTime, nullable=False),
)

channel_request = Table(  # a member proposes a channel
    "channel_request",
    metadata,
    Column("username", String(32), nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, approved, refused
    Column("asked_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("username", "user_id"),
)

album_part = Table(  # messages of albums that came one by one, each with its own caption and reactions
    "album_part",
    metadata,
    Column("channel_id", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("group_id", String(64), nullable=False),
    Column("part", Text, nullable=False),
    PrimaryKeyConstraint("channel_id", "message_id"),
)

group_question = Table(  # questions that members asked each other in a group that counts repeats
    "group_question",
    metadata,
    Column("chat_id", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("text", Text, nullable=False),
    Column("post_channel_id", BigInteger),  # the post that answers it, where search is sure
    Column("post_message_id", BigInteger),
    Column("repeat_of", BigInteger),  # message id of the earlier question; 0: one asked of the bot
    Column("is_told", Boolean, nullable=False),
    PrimaryKeyConstraint("chat_id", "message_id"),
)

member_answer = Table(  # replies of trusted members; searched as posts of a corpus of their own
    "member_answer",
    metadata,
    Column("answer_id", BigInteger, answer_id_seq, primary_key=True),  # message id in the corpus
    Column("corpus_id", BigInteger, nullable=False),
    Column("user_id", BigInteger),  # its author
    Column("asker_id", BigInteger),  # whose words the question is in
    Column("question_id", String(64)),
    Column("answered_at", UtcDateTime, nullable=False),
    Column("text", Text, nullable=False),
    Column("source", String(64), nullable=False),  # the message it came in: the same one again is the same answer
)

closed_question = Table(  # refusals that are not in the queue any more
    "closed_question",
    metadata,
    Column("question_id", String(64), primary_key=True),
    Column("user_id", BigInteger),
    Column("reason", String(16), nullable=False),  # answered, dropped
    Column("closed_at", UtcDateTime, nullable=False),
)

faq = Table(  # frequent questions with good answers; asked anew when pressed, so that no answer is kept here
    "faq",
    metadata,
    Column("question_id", String(64), primary_key=True),
    Column("user_id", BigInteger),
    Column("text", Text, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("state", String(16), nullable=False),  # proposed, approved, refused
    Column("found_at", UtcDateTime, nullable=False),
)

correction = Table(  # answers marked because a post under them was edited or removed
    "correction",
    metadata,
    Column("question_id", String(64), primary_key=True),
    Column("user_id", BigInteger),
    Column("kind", String(16), nullable=False),  # edited, deleted
    Column("made_at", UtcDateTime, nullable=False),
)


# Order: admission, bans, signs of abuse

admission = Table(  # where not everyone may ask: who asked to be let in, and what was decided
    "admission",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),  # waiting, member, refused
    Column("asked_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
)

invited = Table(  # people let in before they write, by a keyed hash of their @username or number
    "invited",
    metadata,
    Column("who", String(16), primary_key=True),
    Column("added_at", UtcDateTime, nullable=False),
)

ban = Table(  # in force, with what the person is told; what came before stands in the audit log
    "ban",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("cause", String(16), nullable=False),  # hand, or the sign of abuse
    Column("reason", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("until", UtcDateTime),
    Column("appeal", Text, nullable=False),
    Column("appealed_at", UtcDateTime),
    Column("answered_at", UtcDateTime),
)

barred = Table(  # the same by a keyed hash of Telegram's number: erasing oneself does not end a ban
    "barred",
    metadata,
    Column("who", String(16), primary_key=True),
    Column("until", UtcDateTime),
)


def personal_tables() -> list[Table]:
    """Return the tables with a ``user_id``: what they hold of a person is exported and erased with them."""
    return [table for table in metadata.sorted_tables if "user_id" in table.c]


def chat_tables() -> list[Table]:
    """Return the other tables with a ``chat_id``: a private chat has its person's number, and goes with them."""
    return [table for table in metadata.sorted_tables if "chat_id" in table.c and "user_id" not in table.c]


def channel_tables() -> list[Table]:
    """Return the tables with a ``channel_id``: what they hold of a channel goes with it."""
    return [table for table in metadata.sorted_tables if "channel_id" in table.c]
