"""What a community is told once: a member's reply, an answer that changed, a channel that waits or was decided on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiogram.methods import SendMessage
from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup, ReplyParameters
from aiogram.utils.formatting import Text, TextLink

from appliance.bot.channels import consent_row, decision_buttons
from appliance.bot.render import cut_to, inert
from appliance.notices import Notice
from appliance.schema import Asker, Post
from appliance.texts import say
from appliance.verbs import Verbs

ASK_AGAIN = "c:again:"
ANSWER_SHOWN = 3000  # characters
Said = tuple[Text, list[list[InlineKeyboardButton]]]


async def news_told(notice: Notice, verbs: Verbs) -> list[SendMessage]:
    """Address what is told: as a reply where its question was answered, else to its person; none where nothing is left.

    Parameters
    ----------
    notice : Notice
        Of a kind in `SAID`.
    verbs : Verbs

    Returns
    -------
    list of SendMessage
    """
    question_id = notice.body.get("question")
    places = await verbs.community.places(question_id) if question_id else []
    chat_id, message_id = places[0] if places else (notice.telegram_id, None)
    # In a group everybody reads: open channels alone.
    asker = notice.asker if chat_id > 0 else replace(notice.asker, private_channels=frozenset())
    said = await SAID[notice.kind](replace(notice, asker=asker), verbs)
    if said is None:
        return []
    text, entities = said[0].render()
    reply = ReplyParameters(message_id=message_id, allow_sending_without_reply=True) if message_id else None
    return [
        SendMessage(
            chat_id=chat_id,
            text=text,
            entities=entities or None,
            reply_parameters=reply,
            reply_markup=InlineKeyboardMarkup(inline_keyboard=said[1]) if said[1] else None,
        )
    ]


async def _channel_waits(notice: Notice, verbs: Verbs) -> Said | None:
    language = notice.asker.language
    status = await verbs.pool.status(notice.body["channel"])
    if status is None or status.state != "waiting":
        return None
    words = Text(inert(say("channel_waits", language, title=status.channel.title)))
    return words, [decision_buttons(status.channel.title, str(status.channel.id), language)]


async def _channel_proposed(notice: Notice, verbs: Verbs) -> Said | None:
    language, name = notice.asker.language, notice.body["username"]
    words = Text(inert(say("channel_is_proposed", language, title=f"@{name}")))
    return words, [decision_buttons(f"@{name}", name, language)]


async def _channel_settled(notice: Notice, verbs: Verbs) -> Said | None:
    is_here = notice.body.get("is_here") or notice.kind == "channel_refused"
    key = notice.kind if is_here else "channel_approved_soon"
    return Text(inert(say(key, notice.asker.language, title=f"@{notice.body['username']}"))), []


async def _consent(notice: Notice, verbs: Verbs) -> Said | None:
    language = notice.asker.language
    status = await verbs.pool.status(notice.body["channel"])
    if status is None or status.state == "refused":
        return None
    key = "consent_asked" if status.state == "approved" else "consent_asked_waiting"
    words = Text(inert(say(key, language, title=status.channel.title)))
    return words, consent_row(status.channel.id, language)


async def _reply(notice: Notice, verbs: Verbs) -> Said | None:
    """Tell an asker what a trusted member answered, if they may read it."""
    key = notice.body["answer"]
    found = await verbs.post((key[0], key[1]), notice.asker)
    return None if found is None else (member_answer(found, notice.asker, "member_answered"), [])


def member_answer(found: tuple[Post, str], asker: Asker, heading: str) -> Text:
    """Render a member's answer with its author and its link.

    Parameters
    ----------
    found : (Post, str)
        With its link.
    asker : Asker
        Who reads it.
    heading : str
        Key of the words above it; they name the ``author``.

    Returns
    -------
    Text
        Within a message's limits.
    """
    post, link = found
    question, _, answer = post.text.partition("\n")
    pieces = cut_to(answer or question, ANSWER_SHOWN)
    more: list[str | Text] = ["\n\n", TextLink(say("member_answer_link", asker.language), url=link)] if link else []
    return Text(inert(say(heading, asker.language, author=post.author or "—")), "\n\n", inert(pieces[0]), *more)


async def _changed(notice: Notice, verbs: Verbs) -> Said | None:
    """Tell whoever got an answer that a post under it changed, or is gone."""
    row = await verbs.community.question(notice.body["question"])
    if row is None or not row.text:
        return None
    asked = " ".join(row.text.split())
    shown = asked if len(asked) <= 100 else f"{asked[:99]}…"
    language = notice.asker.language
    button = InlineKeyboardButton(text=say("ask_again", language), callback_data=f"{ASK_AGAIN}{row.id}")
    return Text(inert(say(f"post_{notice.kind}", language, question=shown))), [[button]]


async def _faq_proposed(notice: Notice, verbs: Verbs) -> Said | None:
    return Text(say("faq_waits", notice.asker.language)), []


SAID: dict[str, Callable[[Notice, Verbs], Awaitable[Said | None]]] = {
    "channel_waits": _channel_waits,
    "channel_proposed": _channel_proposed,
    "channel_approved": _channel_settled,
    "channel_refused": _channel_settled,
    "consent": _consent,
    "reply": _reply,
    "edited": _changed,
    "deleted": _changed,
    "faq_proposed": _faq_proposed,
}
