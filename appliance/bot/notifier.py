"""The notifier: what is to be told once goes from the ledger into the outbox, under a name that is taken once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
from aiogram.methods import SendMessage
from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup, ReplyParameters
from aiogram.utils.formatting import Text, TextLink

from appliance.bot.channels import consent_row, decision_buttons
from appliance.bot.outgoing import outgoing
from appliance.bot.render import cut_to, inert
from appliance.errors import StoreError
from appliance.journal import Journal, Outgoing
from appliance.ledger.notices import Notice
from appliance.schema import Asker, Post
from appliance.texts import say
from appliance.verbs import Verbs

log = structlog.get_logger()

LOOK_EVERY_S = 3.0
ASK_AGAIN = "c:again:"
ANSWER_SHOWN = 3000  # characters
Said = tuple[Text, list[list[InlineKeyboardButton]]]


async def notify(verbs: Verbs, journal: Journal, wake: Callable[[], None]) -> None:
    """Queue what is to be told, for ever.

    A stop between the outbox and the ledger's mark repeats the first, which then takes nothing: the name is taken.

    Parameters
    ----------
    verbs : Verbs
    journal : Journal
    wake : callable
        Tells the sender that something was queued.
    """
    while True:
        try:
            for notice in await verbs.community.due(SAID):
                calls = await calls_for(notice, verbs, journal)
                if await asyncio.to_thread(journal.enqueue, calls):
                    wake()
                await verbs.community.told(notice.id)
        except StoreError as error:
            log.error("notices not told; trying again", kind=type(error).__name__)
        await asyncio.sleep(LOOK_EVERY_S)


async def calls_for(notice: Notice, verbs: Verbs, journal: Journal) -> list[Outgoing]:
    """Address a notice: as a reply where its question was answered, else to its person; none where nothing is to say.

    Parameters
    ----------
    notice : Notice
    verbs : Verbs
    journal : Journal

    Returns
    -------
    list of Outgoing
    """
    question_id = notice.body.get("question")
    places = await asyncio.to_thread(journal.places, question_id) if question_id else []
    chat_id, message_id = places[0] if places else (notice.telegram_id, None)
    # In a group everybody reads: open channels alone.
    asker = notice.asker if chat_id > 0 else replace(notice.asker, private_channels=frozenset())
    said = await SAID[notice.kind](replace(notice, asker=asker), verbs)
    if said is None:
        return []
    text, entities = said[0].render()
    call = SendMessage(
        chat_id=chat_id,
        text=text,
        entities=entities or None,
        reply_parameters=ReplyParameters(message_id=message_id, allow_sending_without_reply=True)
        if message_id
        else None,
        reply_markup=InlineKeyboardMarkup(inline_keyboard=said[1]) if said[1] else None,
    )
    return [outgoing(call, once=notice.id)]


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
