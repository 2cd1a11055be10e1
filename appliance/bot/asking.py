"""Handlers of questions and of digests: asked, shown at work, answered."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import blake2b

import structlog
from aiogram import Bot
from aiogram.filters import CommandObject
from aiogram.types import Message, Update
from aiogram.utils.formatting import Text

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for
from appliance.bot.render import answer_messages, rating_buttons
from appliance.bot.who import ANONYMOUS, Calls, DialogueOf, mention_of, replied_dialogue, said, who_asks
from appliance.errors import PostFinderError, StoreError
from appliance.intents import days_of
from appliance.schema import Answer, Filters, Final, Part, Piece, Question, Sentence
from appliance.texts import say
from appliance.verbs import Verbs

log = structlog.get_logger()

_CHANNEL = re.compile(r"(?:@|(?:https?://)?t\.me/)([A-Za-z]\w{3,31})/?\Z", re.ASCII)


async def find(
    message: Message,
    command: CommandObject,
    bot: Bot,
    verbs: Verbs,
    courtesies: Courtesies,
    dialogue_of: DialogueOf,
    event_update: Update,
) -> Calls:
    """Answer ``/find @channel question``."""
    channels, text = read_find(command.args or "", (await bot.me()).username or "")
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if not text:
        return messages_for(message, [Text(say("find_usage", asker.language))])
    question = Question(
        text=text,
        asker=asker,
        filters=Filters(channels=channels or None),
        door="telegram",
        dialogue_id=await replied_dialogue(message, bot, dialogue_of),
    )
    return await answered(message, question, verbs, courtesies, event_update.update_id)


async def plain_question(
    message: Message,
    bot: Bot,
    verbs: Verbs,
    courtesies: Courtesies,
    dialogue_of: DialogueOf,
    event_update: Update,
    albums: deque[str],
) -> Calls:
    """Answer a question in plain words; a reply to an answer continues its dialogue."""
    if message.media_group_id is not None:
        albums.append(message.media_group_id)
    if message.from_user is not None and message.from_user.is_bot and message.from_user.id not in ANONYMOUS:
        return []
    text = mention_of(await bot.me()).sub(" ", message.text or message.caption or "").strip()
    replied = message.reply_to_message
    is_own = replied is not None and replied.from_user is not None and replied.from_user.id == bot.id
    if not text and replied is not None and not is_own:  # "@bot" under somebody's question
        text = replied.text or replied.caption or ""
    question = Question(
        text=text,
        asker=await who_asks(message.from_user, verbs, message.chat.type),
        door="telegram",
        dialogue_id=await replied_dialogue(message, bot, dialogue_of),
    )
    return await answered(message, question, verbs, courtesies, event_update.update_id)


async def digest(
    message: Message, command: CommandObject, verbs: Verbs, courtesies: Courtesies, event_update: Update
) -> Calls:
    """Answer ``/digest [day|week]``."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    days = read_days(command.args or "")
    question_id = row_id(message, event_update.update_id)
    work = verbs.digest(asker, Filters(), days=days, door="telegram", question_id=question_id)
    question = Question(text="/digest", asker=asker, door="telegram")
    return await answered(message, question, verbs, courtesies, event_update.update_id, parts=work)


async def answered(
    message: Message,
    question: Question,
    verbs: Verbs,
    courtesies: Courtesies,
    update_id: int,
    *,
    parts: AsyncIterator[Part] | None = None,
) -> Calls:
    """Ask, showing that work goes on, and render what came.

    Parameters
    ----------
    message : Message
        Where the answer goes.
    question : Question
    verbs : Verbs
    courtesies : Courtesies
    update_id : int
        Names the draft.
    parts : async iterator of Part, optional
        Instead of the answer to the question.

    Returns
    -------
    list of Outgoing
        The answer with its rating buttons, or what went wrong in words.
    """
    language = question.asker.language
    answer: Answer | None = None
    ready: list[Sentence] = []
    topic_id = message.message_thread_id if message.is_topic_message else None
    draft_id = update_id % 2**31 or 1 if message.chat.type == "private" else None
    question = replace(question, id=row_id(message, update_id))
    try:
        async with courtesies.working(message.chat.id, topic_id, draft_id, ready):
            async for part in parts if parts is not None else verbs.ask(question):
                if isinstance(part, Piece):
                    ready.append(part.sentence)
                elif isinstance(part, Final):
                    answer = part.answer
    except PostFinderError as error:
        (log.error if isinstance(error, StoreError) else log.info)("question refused", code=error.code)
        return messages_for(message, [Text(said(error, language))])
    if answer is None:
        return messages_for(message, [Text(say("failed", language))])
    return messages_for(
        message,
        answer_messages(answer if message.chat.type == "private" else replace(answer, quota=None), language),
        markup=rating_buttons(answer.id) if answer.outcome in {"answered", "not_found"} else None,
        dialogue_id=answer.dialogue_id,
        question_id=answer.id,
    )


def read_days(args: str) -> int:
    """Read what follows ``/digest``: a number of days, or a period in words; a week otherwise."""
    number = args.strip()
    if number.isascii() and number.isdigit() and len(number) < 5:
        return max(1, int(number))
    return days_of(number) or 7


def row_id(message: Message, update_id: int) -> str | None:
    """Name the row of an update's question: worked on again after a crash, it makes no second one.

    Keyed with the bot's token, so that nobody guesses it; with the message's time, for Telegram numbers updates anew.

    Parameters
    ----------
    message : Message
    update_id : int

    Returns
    -------
    str or None
        32 hexadecimal digits; None for a message without its bot.
    """
    if message.bot is None:
        return None
    what = f"{update_id}/{message.chat.id}/{message.date.timestamp()}"
    return blake2b(what.encode(), digest_size=16, key=message.bot.token.encode()[:64]).hexdigest()


def read_find(args: str, own_name: str) -> tuple[tuple[str, ...], str]:
    """Read what follows ``/find``: channels first, then the question.

    Parameters
    ----------
    args : str
    own_name : str
        The bot's username, which is no channel.

    Returns
    -------
    (channels, question)
        Channels as ``@name``, each once.
    """
    words = args.split()
    channels: list[str] = []
    while words and (name := _CHANNEL.match(words[0])) is not None:
        words.pop(0)
        if name[1].lower() != own_name.lower() and f"@{name[1]}" not in channels:
            channels.append(f"@{name[1]}")
    return tuple(channels), " ".join(words)
