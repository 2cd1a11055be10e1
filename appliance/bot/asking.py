"""Handlers of questions and of digests: asked, shown at work, stopped, answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import structlog
from aiogram import Bot
from aiogram.filters import CommandObject
from aiogram.methods import EditMessageText
from aiogram.types import Message, MessageGenerationStopped, Update
from aiogram.utils.formatting import Bold, Text

from appliance.bot.courtesies import Courtesies, topic_of
from appliance.bot.more import answer_buttons
from appliance.bot.opinions import survey_call
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.render import answer_messages, rating_buttons
from appliance.bot.who import ANONYMOUS, Calls, DialogueOf, mention_of, read_find, replied_dialogue, said, who_asks
from appliance.errors import PostFinderError, StoreError
from appliance.intents import days_of
from appliance.schema import Answer, Asker, Filters, Final, Language, Part, Piece, Question, Sentence
from appliance.texts import count, date, say
from appliance.verbs import Verbs

log = structlog.get_logger()

RECENT = timedelta(days=1)  # a digest whose newest post is older names that post's day
PERIODS = {1: "digest_day", 7: "digest_week", 31: "digest_month", 365: "digest_year"}  # days: how a digest is headed


@dataclass(frozen=True, slots=True)
class Told:
    """What stands over a digest, and in its place where there were no posts."""

    heading: str
    nothing: str

    def dated(self, answer: Answer, language: Language) -> str:
        """Return the heading, with the day of the newest post where that is not today's or yesterday's."""
        until = answer.searched.until
        if until is None or datetime.now(UTC) - until <= RECENT:
            return self.heading
        return say("digest_until", language, heading=self.heading, until=date(until, language))


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


async def question_said(
    message: Message, bot: Bot, verbs: Verbs, dialogue_of: DialogueOf, albums: deque[str]
) -> Question | None:
    """Read a question in plain words, an album's once; None where another bot speaks."""
    if message.media_group_id is not None:
        albums.append(message.media_group_id)
    if message.from_user is not None and message.from_user.is_bot and message.from_user.id not in ANONYMOUS:
        return None
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    return await question_of(message, asker, bot, verbs, dialogue_of)


async def plain_question(
    message: Message,
    bot: Bot,
    verbs: Verbs,
    courtesies: Courtesies,
    dialogue_of: DialogueOf,
    event_update: Update,
    albums: deque[str],
) -> Calls:
    """Answer a question in plain words; a reply to an answer, or the next word in private, continues its dialogue."""
    question = await question_said(message, bot, verbs, dialogue_of, albums)
    return [] if question is None else await answered(message, question, verbs, courtesies, event_update.update_id)


async def question_of(message: Message, asker: Asker, bot: Bot, verbs: Verbs, dialogue_of: DialogueOf) -> Question:
    """Read the question in a message: without the bot's name; under somebody's question, that question.

    Parameters
    ----------
    message : Message
    asker : Asker
    bot : Bot
    verbs : Verbs
    dialogue_of : callable

    Returns
    -------
    Question
    """
    text = mention_of(await bot.me()).sub(" ", message.text or message.caption or "").strip()
    replied = message.reply_to_message
    is_own = replied is not None and replied.from_user is not None and replied.from_user.id == bot.id
    if not text and replied is not None and not is_own:  # "@bot" under somebody's question
        text = replied.text or replied.caption or ""
    dialogue_id = await replied_dialogue(message, bot, dialogue_of)
    if dialogue_id is None and message.chat.type == "private":
        dialogue_id = await verbs.talks.dialogue(asker, topic_of(message))
    return Question(text=text, asker=asker, door="telegram", dialogue_id=dialogue_id)


async def stopped(event: MessageGenerationStopped, courtesies: Courtesies) -> Calls:
    """Take a press of Stop: the answer ends where it is, and comes as a message."""
    courtesies.stop(event.chat.id, event.draft_id)
    return []


async def new(message: Message, verbs: Verbs) -> Calls:
    """Forget the dialogue of this private chat, or of this topic of it."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    await verbs.talks.begin(asker, topic_of(message))
    return messages_for(message, [Text(say("new_dialogue", asker.language))])


async def digest(
    message: Message, command: CommandObject, verbs: Verbs, courtesies: Courtesies, event_update: Update
) -> Calls:
    """Answer ``/digest [days or period]``, a week without either."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    days = read_days(command.args or "")
    if days is None:
        return messages_for(message, [Text(say("digest_usage", asker.language))])
    question_id = row_id(message, event_update.update_id)
    work = verbs.digest(asker, Filters(), days=days, door="telegram", question_id=question_id)
    question = Question(text="/digest", asker=asker, door="telegram")
    heading = say(PERIODS.get(days, "digest_days"), asker.language, days=count("days", days, asker.language))
    told = Told(heading, say("digest_nothing", asker.language))
    return await answered(message, question, verbs, courtesies, event_update.update_id, parts=work, told=told)


async def missed(message: Message, verbs: Verbs, courtesies: Courtesies, event_update: Update) -> Calls:
    """Tell what was written since the person last was here."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    since = await verbs.talks.away_since(asker)
    question_id = row_id(message, event_update.update_id)
    work = verbs.digest(asker, Filters(since=since), days=None, door="telegram", question_id=question_id)
    question = Question(text="/digest", asker=asker, door="telegram")
    named = {"since": date(since, asker.language)}
    told = Told(say("missed", asker.language, **named), say("missed_nothing", asker.language, **named))
    return await answered(message, question, verbs, courtesies, event_update.update_id, parts=work, told=told)


async def answered(
    message: Message,
    question: Question,
    verbs: Verbs,
    courtesies: Courtesies,
    update_id: int,
    *,
    parts: AsyncIterator[Part] | None = None,
    told: Told | None = None,
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
    told : Told, optional
        Of a digest.

    Returns
    -------
    list of Outgoing
        The answer with its rating buttons, or what went wrong in words.
    """
    language = question.asker.language
    answer: Answer | None = None
    ready: list[Sentence] = []
    stop = asyncio.Event()
    question = replace(question, stop=stop, id=row_id(message, update_id))
    try:
        async with courtesies.working(message, update_id, ready, language, stop):
            async for part in parts if parts is not None else verbs.ask(question):
                if isinstance(part, Piece):
                    ready.append(part.sentence)
                elif isinstance(part, Final):
                    answer = part.answer
    except PostFinderError as error:
        (log.error if isinstance(error, StoreError) else log.info)("question refused", code=error.code)
        return await instead(message, messages_for(message, [Text(said(error, language))]), courtesies, update_id)
    if answer is None:
        return await instead(message, messages_for(message, [Text(say("failed", language))]), courtesies, update_id)
    if message.chat.type != "private":
        answer = replace(answer, quota=None)
    if told is not None and answer.outcome == "not_found":
        texts, markup = [Text(told.nothing)], None
    elif told is not None:
        texts = answer_messages(answer, language, heading=Bold(told.dated(answer, language)))
        markup = rating_buttons(answer.id)
    else:
        is_passed_on = (
            answer.outcome == "not_found"
            and message.chat.type == "private"
            and question.asker.user_id is not None
            and await verbs.community.is_looked_at()
        )
        texts = answer_messages(answer, language, ending=say("passed_on", language) if is_passed_on else "")
        markup = answer_buttons(answer, language)
    calls = messages_for(
        message,
        texts,
        markup=markup,
        dialogue_id=answer.dialogue_id,
        question_id=answer.id,
    )
    if message.chat.type == "private" and answer.outcome == "answered":
        name = await verbs.talks.survey(question.asker)
        calls += [survey_call(message, name, language)] if name else []
    return await instead(message, calls, courtesies, update_id)


def read_days(args: str) -> int | None:
    """Read what follows ``/digest``: a number of days, or a period in words; a week for nothing, None for no period."""
    number = args.strip()
    if number.isascii() and number.isdigit():
        return int(number) if len(number) < 5 and int(number) else None
    return days_of(number) if number else 7


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


async def instead(message: Message, calls: Calls, courtesies: Courtesies, update_id: int) -> Calls:
    """Let the first call take the place of the message that stands for the answer, where there is one."""
    standing = await courtesies.standing(update_id) if message.chat.type != "private" else None
    if standing is None or not calls:
        return calls
    first = calls[0]
    edit = EditMessageText(
        chat_id=message.chat.id,
        message_id=standing,
        text=first.payload["text"],
        entities=first.payload.get("entities"),
        reply_markup=first.payload.get("reply_markup"),
    )
    named = outgoing(edit, dialogue_id=first.dialogue_id or str(update_id), question_id=first.question_id)
    return [named, *calls[1:]]
