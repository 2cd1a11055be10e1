"""Answers not for everybody at once: seen by the asker alone, drafted for administrators, published by a tap."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from aiogram import Bot, F, Router
from aiogram.filters import Command, CommandObject
from aiogram.methods import DeleteEphemeralMessage, EditMessageReplyMarkup, SendMessage
from aiogram.types import (
    CallbackQuery,
    EphemeralMessageParameters,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
    MessageEntity,
    Update,
)
from aiogram.utils.formatting import Text

from appliance.bot.asking import answered, question_of, question_said, row_id
from appliance.bot.courtesies import Courtesies, topic_of
from appliance.bot.modes import is_administrator, listening_admins
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.render import answer_messages, rating_buttons
from appliance.bot.who import (
    ANONYMOUS,
    GROUPS,
    Calls,
    DialogueOf,
    is_addressed,
    mention_of,
    read_find,
    said,
    toast,
    who_asks,
)
from appliance.errors import PostFinderError, StoreError
from appliance.intents import courtesy
from appliance.journal import Outgoing
from appliance.notices import Notice
from appliance.schema import Answer, Asker, Filters, Final, Language, Question
from appliance.texts import say
from appliance.verbs import Verbs

log = structlog.get_logger()

_DATA = re.compile(r"h:(?P<act>[pd]):(?P<held>[0-9a-f]{16})\Z", re.ASCII)


def held_router() -> Router:
    """Build the handlers of ``/whisper`` and of the buttons under held answers."""
    router = Router(name="held")
    router.message.filter(F.chat.type.in_(GROUPS))
    router.message.register(whisper, Command("whisper", ignore_case=True))
    router.callback_query.register(decided, F.data.regexp(_DATA.pattern), F.message.as_("message"))
    return router


async def spoken_to(
    message: Message,
    bot: Bot,
    verbs: Verbs,
    courtesies: Courtesies,
    dialogue_of: DialogueOf,
    event_update: Update,
    albums: deque[str],
) -> Calls:
    """Answer what was said to the bot in a group, in the way that was chosen for the topic."""
    question = await question_said(message, bot, verbs, dialogue_of, albums)
    return (
        [] if question is None else await in_its_way(message, question, bot, verbs, courtesies, event_update.update_id)
    )


async def is_polite(message: Message, bot: Bot) -> bool | dict[str, Any]:
    """Tell whether a group's message says nothing to the bot but a word of courtesy; pass it on."""
    is_bot = message.from_user is not None and message.from_user.is_bot and message.from_user.id not in ANONYMOUS
    if is_bot or message.forward_origin is not None or not await is_addressed(message, bot):
        return False
    word = courtesy(mention_of(await bot.me()).sub(" ", message.text or "").strip(" ,"))
    return False if word is None else {"word": word}


async def polite(message: Message, word: str, verbs: Verbs) -> Calls:
    """Return a greeting or a thank you in a group; to a mere «понятно» say nothing."""
    if word == "noted":
        return []
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    return messages_for(message, [Text(say(f"told_{word}", asker.language))])


async def found_in_group(
    message: Message,
    command: CommandObject,
    bot: Bot,
    verbs: Verbs,
    courtesies: Courtesies,
    dialogue_of: DialogueOf,
    event_update: Update,
) -> Calls:
    """Answer ``/find`` in a group, in the way that was chosen for the topic."""
    names, text = read_find(command.args or "", (await bot.me()).username or "")
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if not text:
        return messages_for(message, [Text(say("find_usage", asker.language))])
    base = await question_of(message, asker, bot, verbs, dialogue_of)
    question = Question(text, asker, Filters(channels=names or None), "telegram", base.dialogue_id)
    return await in_its_way(message, question, bot, verbs, courtesies, event_update.update_id)


async def in_its_way(
    message: Message, question: Question, bot: Bot, verbs: Verbs, courtesies: Courtesies, update_id: int
) -> Calls:
    """Answer a question asked in a group: to all, to its asker alone, or through the administrators."""
    way = verbs.chats.mode(message.chat.id, topic_of(message)).way
    if way == "whisper":
        return await whispered(message, replace(question, id=row_id(message, update_id)), verbs)
    if way == "admins":
        return await drafted(message, question, bot, verbs, update_id)
    return await answered(message, question, verbs, courtesies, update_id)


async def unasked(
    message: Message, bot: Bot, verbs: Verbs, courtesies: Courtesies, dialogue_of: DialogueOf, event_update: Update
) -> Calls:
    """Answer a question to everybody if the posts surely hold it; say nothing otherwise, and register nobody."""
    question = await question_of(message, Asker(), bot, verbs, dialogue_of)
    above = verbs.chats.mode(message.chat.id, topic_of(message)).above
    try:
        result = await verbs.search(question.text, asker=question.asker, filters=Filters(), limit=1)
    except PostFinderError as error:
        log.info("not answered unasked", code=error.code)
        return []
    if result.relevance < above:
        return []
    answer = await answer_to(replace(question, id=row_id(message, event_update.update_id)), verbs)
    if isinstance(answer, str) or answer.outcome != "answered":
        return []
    texts = answer_messages(answer, answer.language)
    return messages_for(
        message, texts, markup=rating_buttons(answer.id), dialogue_id=answer.dialogue_id, question_id=answer.id
    )


async def whisper(message: Message, command: CommandObject, bot: Bot, verbs: Verbs, event_update: Update) -> Calls:
    """Answer ``/whisper question`` so that only the asker sees it."""
    names, text = read_find(command.args or "", (await bot.me()).username or "")
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if not text:
        return _to_one(message, [Text(say("whisper_usage", asker.language))])
    question = Question(text, asker, Filters(channels=names or None), "telegram")
    return await whispered(message, replace(question, id=row_id(message, event_update.update_id)), verbs)


async def whispered(message: Message, question: Question, verbs: Verbs) -> Calls:
    """Show the answer to its asker alone, with a button that publishes it."""
    language = question.asker.language
    answer = await answer_to(question, verbs)
    if isinstance(answer, str):
        return _to_one(message, [Text(answer)])
    texts = answer_messages(answer, language)
    markup = rating_buttons(answer.id)
    if answer.outcome == "answered":
        held = await verbs.talks.hold(question.asker, message.chat.id, _published(message, answer, language))
        markup.inline_keyboard.append(
            [InlineKeyboardButton(text=say("publish", language), callback_data=f"h:p:{held}")]
        )
    return _to_one(message, texts, markup, answer.dialogue_id)


async def drafted(message: Message, question: Question, bot: Bot, verbs: Verbs, update_id: int) -> Calls:
    """Send the answer to the administrators, who publish it or do not."""
    language = question.asker.language
    answer = await answer_to(replace(question, id=row_id(message, update_id)), verbs)
    if isinstance(answer, str) or answer.outcome != "answered":
        words = answer if isinstance(answer, str) else say("not_found", language)
        return messages_for(message, [Text(words)])
    admins = await listening_admins(bot, message.chat.id, verbs)
    if not admins:
        return messages_for(message, [Text(say("drafts_nobody", language))])
    held = await verbs.talks.hold(question.asker, message.chat.id, _published(message, answer, language))
    texts = [content.render() for content in answer_messages(answer, language)]
    body = {
        "held": held,
        "title": message.chat.title or "",
        "question": question.text[:500],
        "parts": [[text, [entity.model_dump(exclude_none=True) for entity in entities]] for text, entities in texts],
    }
    now = datetime.now(UTC)
    await verbs.notices.add(Notice(f"draft:{update_id}:{user_id}", user_id, "draft", body, now) for user_id in admins)
    return messages_for(message, [Text(say("drafted", language))])


async def draft_told(notice: Notice, verbs: Verbs) -> list[SendMessage]:
    """Tell an administrator of a drafted answer."""
    language, body = notice.asker.language, notice.body
    held = await verbs.talks.held(str(body.get("held", "")))
    if held is None:
        return []
    heading = say("draft_heading", language, title=body["title"], question=body["question"])
    keys = [
        InlineKeyboardButton(text=say("publish", language), callback_data=f"h:p:{body['held']}"),
        InlineKeyboardButton(text=say("drop", language), callback_data=f"h:d:{body['held']}"),
    ]
    calls = [SendMessage(chat_id=notice.telegram_id, text=heading, entities=[])]
    for text, entities in body["parts"]:
        shown = [MessageEntity(**entity) for entity in entities]
        calls.append(SendMessage(chat_id=notice.telegram_id, text=text, entities=shown or None))
    calls[-1] = calls[-1].model_copy(update={"reply_markup": InlineKeyboardMarkup(inline_keyboard=[keys])})
    return calls


async def decided(
    query: CallbackQuery, message: Message, bot: Bot, verbs: Verbs, courtesies: Courtesies, event_update: Update
) -> Calls:
    """Publish a held answer or drop it, as its asker or an administrator of its chat says; the asker is told of a drop.

    A whisper that went to the private chat is published from there, by its asker alone.
    """
    asker = await who_asks(query.from_user, verbs, message.chat.type)
    language = asker.language
    read = _DATA.match(query.data or "")
    held = await verbs.talks.held(read["held"]) if read else None
    if read is None or held is None:
        toast(query, courtesies, say("held_gone", language))
        return []
    owner, chat_id = held
    is_here = message.chat.id == chat_id or message.chat.type == "private"
    is_own = owner != 0 and owner == asker.user_id and is_here
    if not is_own and not await is_administrator(bot, chat_id, query.from_user.id):
        toast(query, courtesies, say("not_allowed", language))
        return []
    calls = await verbs.talks.decide(read["held"], event_update.update_id)
    if calls is None:
        toast(query, courtesies, say("held_gone", language))
        return []
    is_wanted = read["act"] == "p"
    is_open = is_wanted and await _is_still_open(calls[0]["question_id"], Asker(owner or None), verbs)
    toast(query, courtesies, say("published" if is_open else "held_closed" if is_wanted else "dropped", language))
    if message.ephemeral_message_id is not None:
        gone = DeleteEphemeralMessage(
            chat_id=chat_id, receiver_user_id=query.from_user.id, ephemeral_message_id=message.ephemeral_message_id
        )
        tidy: Calls = [outgoing(gone, priority="draft")]
    else:
        tidy = [_without_ours(message)]
    if is_open:
        return [*(Outgoing(**call) for call in calls), *tidy]
    if is_own and is_wanted:  # a whisper: nobody else was waiting for it
        return tidy
    words = say("draft_dropped", await verbs.talks.language(owner) or language)
    return [*_instead(calls[0]["payload"], words), *tidy]


async def _is_still_open(question_id: str, asker: Asker, verbs: Verbs) -> bool:
    """Whether the posts that an answer leans on are there and may be read by a whole group now."""
    row = await verbs.question(question_id, asker)
    return row is not None and all([await verbs.post(key, asker) is not None for key in row.posts])


def _without_ours(message: Message) -> Outgoing:
    """Take the buttons of a held answer off a message; others, as those that rate it, stay."""
    rows = message.reply_markup.inline_keyboard if message.reply_markup else []
    kept = [row for row in rows if not any(_DATA.match(key.callback_data or "") for key in row)]
    markup = InlineKeyboardMarkup(inline_keyboard=kept) if kept else None
    edit = EditMessageReplyMarkup(chat_id=message.chat.id, message_id=message.message_id, reply_markup=markup)
    return outgoing(edit, priority="draft")


def _instead(payload: dict[str, Any], words: str) -> Calls:
    """Say something where an answer would have been published."""
    kept = {"chat_id", "message_thread_id", "reply_parameters"}
    where = {key: value for key, value in payload.items() if key in kept}
    return [Outgoing(where["chat_id"], "sendMessage", {**where, "text": words})]


async def answer_to(question: Question, verbs: Verbs) -> Answer | str:
    """Ask without showing that work goes on; return the answer, or what went wrong in words."""
    language = question.asker.language
    try:
        async for part in verbs.ask(question):
            if isinstance(part, Final):
                return replace(part.answer, quota=None)  # the group's business it is not
    except PostFinderError as error:
        (log.error if isinstance(error, StoreError) else log.info)("question refused", code=error.code)
        return said(error, language)
    return say("failed", language)


def _published(message: Message, answer: Answer, language: Language) -> list[dict[str, Any]]:
    """Return the calls that show an answer to the whole chat."""
    where = message
    if message.ephemeral_message_id is not None:  # nobody else sees what it would reply to
        where = message.model_copy(update={"message_id": 0})
    calls = messages_for(
        where,
        answer_messages(answer, language),
        markup=rating_buttons(answer.id),
        dialogue_id=answer.dialogue_id,
        question_id=answer.id,
    )
    if message.ephemeral_message_id is not None:
        for call in calls:
            call.payload.pop("reply_parameters", None)
    return [
        {
            "chat_id": call.chat_id,
            "method": call.method,
            "payload": call.payload,
            "dialogue_id": call.dialogue_id,
            "question_id": call.question_id,
        }
        for call in calls
    ]


def _to_one(
    message: Message,
    texts: Sequence[Text],
    markup: InlineKeyboardMarkup | None = None,
    dialogue_id: str | None = None,
) -> Calls:
    """Address texts to one person in a group; who has no account of their own, as a hidden admin, gets them openly."""
    if message.from_user is None or message.from_user.is_bot:
        return messages_for(message, texts, markup=markup, dialogue_id=dialogue_id)
    calls = []
    for place, content in enumerate(texts):
        text, entities = content.render()
        call = SendMessage(
            chat_id=message.chat.id,
            message_thread_id=topic_of(message),
            text=text,
            entities=entities or None,
            reply_markup=markup if place == len(texts) - 1 else None,
            ephemeral_message_parameters=EphemeralMessageParameters(receiver_user_id=message.from_user.id),
        )
        calls.append(outgoing(call, dialogue_id=dialogue_id))
    return calls
