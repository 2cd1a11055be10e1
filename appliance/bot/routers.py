"""Handlers: an update in, calls out. They hold verbs; what they return is sent once it is recorded."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import structlog
from aiogram import Bot, Dispatcher, F, Router
from aiogram.enums import ContentType
from aiogram.filters import Command, CommandObject
from aiogram.methods import AnswerCallbackQuery, EditMessageReplyMarkup
from aiogram.types import CallbackQuery, InlineKeyboardMarkup, Message, Update, User
from aiogram.utils.formatting import Bold, Text

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.render import (
    answer_messages,
    example_button,
    first_line,
    inert,
    rating_buttons,
    read_button,
)
from appliance.bot.rights import agree_row, rights_router
from appliance.errors import PostFinderError, SlowDown, StoreError
from appliance.journal import Outgoing
from appliance.schema import Answer, Asker, Filters, Final, Language, Part, Piece, PostKey, Question, Sentence, Vote
from appliance.texts import count, language_of_code, say
from appliance.verbs import Verbs

log = structlog.get_logger()

DialogueOf = Callable[[int, int], Awaitable[str | None]]
Calls = list[Outgoing]

GROUPS = {"group", "supergroup"}
CHANNELS_LISTED = 20
DAY = {"день", "сегодня", "сутки", "day", "today", "1"}  # after /digest; a week otherwise
ALBUMS_KEPT = 1000  # ids of albums that had their word
ANONYMOUS = {777000, 1087968824, 136817688}  # Telegram's own accounts that speak for channels and hidden admins
SPOKEN = {  # what a person may send instead of words
    ContentType.ANIMATION, ContentType.AUDIO, ContentType.DOCUMENT, ContentType.PAID_MEDIA, ContentType.PHOTO,
    ContentType.STICKER, ContentType.STORY, ContentType.VIDEO, ContentType.VIDEO_NOTE, ContentType.VOICE,
    ContentType.CHECKLIST, ContentType.CONTACT, ContentType.DICE, ContentType.GAME, ContentType.POLL,
    ContentType.VENUE, ContentType.LOCATION,
}  # fmt: skip
_CHANNEL = re.compile(r"(?:@|(?:https?://)?t\.me/)([A-Za-z]\w{3,31})/?\Z", re.ASCII)


def create_dispatcher(verbs: Verbs, courtesies: Courtesies, dialogue_of: DialogueOf) -> Dispatcher:
    """Build the dispatcher: private chats, groups and buttons, in that order.

    Parameters
    ----------
    verbs : Verbs
    courtesies : Courtesies
    dialogue_of : callable
        Given a chat and a message of the bot, the dialogue it belongs to.

    Returns
    -------
    Dispatcher
        Feeding it an update returns a list of `Outgoing`, or aiogram's ``UNHANDLED``.
    """
    dispatcher = Dispatcher(
        disable_fsm=True,
        verbs=verbs,
        courtesies=courtesies,
        dialogue_of=dialogue_of,
        albums=deque(maxlen=ALBUMS_KEPT),
    )
    dispatcher.include_routers(rights_router(), private_router(), group_router(), button_router())
    return dispatcher


def private_router() -> Router:
    """Build the handlers of private chats."""
    router = Router(name="private")
    router.message.filter(F.chat.type == "private")
    router.edited_message.filter(F.chat.type == "private")
    router.message.register(start, Command("start", ignore_case=True))
    router.message.register(help_, Command("help", ignore_case=True))
    router.message.register(find, Command("find", ignore_case=True))
    router.message.register(digest, Command("digest", ignore_case=True))
    router.message.register(unknown_command, F.text.regexp(r"^/\w"))
    router.message.register(plain_question, F.text | F.caption)
    router.message.register(text_only, F.content_type.in_(SPOKEN))
    router.edited_message.register(edited, F.text | F.caption)
    return router


def group_router() -> Router:
    """Build the handlers of groups, where the bot speaks only when spoken to."""
    router = Router(name="group")
    router.message.filter(F.chat.type.in_(GROUPS), ~F.is_automatic_forward)
    router.message.register(start, Command("start", ignore_case=True))
    router.message.register(help_, Command("help", ignore_case=True))
    router.message.register(find, Command("find", ignore_case=True))
    router.message.register(digest, Command("digest", ignore_case=True))
    router.message.register(unknown_command, is_own_command)
    router.message.register(plain_question, is_addressed)
    return router


def button_router() -> Router:
    """Build the handlers of inline buttons."""
    router = Router(name="buttons")
    router.callback_query.register(pressed)
    return router


async def is_addressed(message: Message, bot: Bot) -> bool:
    """Tell whether a group's message mentions the bot or replies to it."""
    me = await bot.me()
    replied = message.reply_to_message
    if replied is not None and replied.from_user is not None and replied.from_user.id == me.id:
        return True
    return _mention(me).search(message.text or message.caption or "") is not None


async def is_own_command(message: Message, bot: Bot) -> bool:
    """Tell whether a group's message is a command with the bot's name: ``/command@bot``."""
    name = re.escape((await bot.me()).username or "")
    return re.match(rf"/\w+@{name}\b", message.text or "", re.IGNORECASE) is not None


async def start(message: Message, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Register and explain in a few lines, with an example to press; ask for consent until it is given."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    is_asked = message.chat.type == "private" and asker.user_id is not None
    if is_asked and asker.user_id is not None and not await verbs.privacy.has_agreed(asker.user_id):
        consent = InlineKeyboardMarkup(inline_keyboard=[agree_row(asker.language)])
        asking = messages_for(message, [Text(say("consent", asker.language))], markup=consent)
    else:
        asking = []
    return [*await introduction(message, asker, verbs), *asking]


async def introduction(message: Message, asker: Asker, verbs: Verbs) -> Calls:
    """Explain in a few lines, with an example to press."""
    try:
        statuses = [status for status in await verbs.channels(asker) if status.posts]
        if not statuses:
            words = f"{say('start', asker.language)}\n\n{say('start_nothing', asker.language)}"
            return messages_for(message, [Text(words)])
        title = max(statuses, key=lambda status: status.posts).channel.title
        result = await verbs.search(title, asker=asker, filters=Filters(), limit=5)
    except PostFinderError as error:
        log.info("no example", code=error.code)
        return messages_for(message, [Text(say("start", asker.language))])
    buttons = [button for found in result.found if (button := example_button(found)) is not None]
    return messages_for(message, [Text(say("start", asker.language))], markup=buttons[0] if buttons else None)


async def help_(message: Message, verbs: Verbs) -> Calls:
    """Say what the bot can do and where it searches."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    try:
        channels = [status.channel for status in await verbs.channels(asker)][:CHANNELS_LISTED]
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, asker.language))])
    names = [f"{channel.title} (@{channel.username})" if channel.username else channel.title for channel in channels]
    listed = inert(say("help_channels", asker.language, channels=", ".join(names))) if names else Text()
    return messages_for(message, [Text(say("help", asker.language), *(["\n\n", listed] if names else []))])


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
        dialogue_id=await _dialogue(message, bot, dialogue_of),
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
    text = _mention(await bot.me()).sub(" ", message.text or message.caption or "").strip()
    replied = message.reply_to_message
    is_own = replied is not None and replied.from_user is not None and replied.from_user.id == bot.id
    if not text and replied is not None and not is_own:  # "@bot" under somebody's question
        text = replied.text or replied.caption or ""
    question = Question(
        text=text,
        asker=await who_asks(message.from_user, verbs, message.chat.type),
        door="telegram",
        dialogue_id=await _dialogue(message, bot, dialogue_of),
    )
    return await answered(message, question, verbs, courtesies, event_update.update_id)


async def unknown_command(message: Message, verbs: Verbs) -> Calls:
    """Say that there is no such command."""
    return messages_for(message, [Text(say("unknown_command", _language(message.from_user)))])


async def text_only(message: Message, albums: deque[str]) -> Calls:
    """Ask for words, once for an album."""
    if message.media_group_id is not None:
        if message.media_group_id in albums:
            return []
        albums.append(message.media_group_id)
    return messages_for(message, [Text(say("text_only", _language(message.from_user)))])


async def edited(message: Message) -> Calls:
    """Ask for a new message instead of an edited one."""
    return messages_for(message, [Text(say("edited", _language(message.from_user)))])


async def pressed(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies, event_update: Update) -> Calls:
    """Take a press of a button, ours or forged."""
    language = _language(query.from_user)
    read = read_button(query.data)
    if read is None or query.message is None:
        _toast(query, courtesies, say("bad_button", language))
        return []
    asker = await who_asks(query.from_user, verbs, query.message.chat.type)
    try:
        if isinstance(read[0], str):
            return await _rated(query, read[0], str(read[1]), asker, verbs, courtesies)
        return await _example(query, (read[0], int(read[1])), asker, verbs, courtesies, event_update.update_id)
    except PostFinderError as error:
        _toast(query, courtesies, said(error, language))
        return []


async def _rated(
    query: CallbackQuery, vote: Vote, question_id: str, asker: Asker, verbs: Verbs, courtesies: Courtesies
) -> Calls:
    is_stored = await verbs.rate(question_id, asker=asker, vote=vote)
    _toast(query, courtesies, say(f"rated_{vote}" if is_stored else "rating_lost", asker.language))
    if not is_stored or query.message is None or query.message.chat.type != "private":
        return []  # in a group the buttons are everybody's
    edit = EditMessageReplyMarkup(
        chat_id=query.message.chat.id,
        message_id=query.message.message_id,
        reply_markup=rating_buttons(question_id, vote),
    )
    return [outgoing(edit, priority="draft")]


async def _example(
    query: CallbackQuery, key: PostKey, asker: Asker, verbs: Verbs, courtesies: Courtesies, update_id: int
) -> Calls:
    found = await verbs.post(key, asker)
    if found is None or not isinstance(query.message, Message):
        _toast(query, courtesies, say("bad_button", asker.language))
        return []
    _toast(query, courtesies, None)
    text = first_line(found[0].text)
    asked = messages_for(query.message, [Text("🔎 ", Bold(inert(text)))])
    question = Question(text=text, asker=asker, door="telegram")
    return [*asked, *await answered(query.message, question, verbs, courtesies, update_id)]


async def digest(
    message: Message, command: CommandObject, verbs: Verbs, courtesies: Courtesies, event_update: Update
) -> Calls:
    """Answer ``/digest [day|week]``."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    days = 1 if (command.args or "").strip().lower() in DAY else 7
    work = verbs.digest(asker, Filters(), days=days, door="telegram")
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
        answer_messages(answer, language),
        markup=rating_buttons(answer.id) if answer.outcome in {"answered", "not_found"} else None,
        dialogue_id=answer.dialogue_id,
    )


def said(error: PostFinderError, language: Language) -> str:
    """Say an error in a member's words."""
    if isinstance(error, SlowDown):
        return say("slow_down_wait", language, wait=count("seconds", max(1, math.ceil(error.retry_after_s)), language))
    return say(error.code, language)


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


async def who_asks(user: User | None, verbs: Verbs, chat_type: str) -> Asker:
    """Register whoever wrote and return them as an asker; in a group only open channels are theirs to search."""
    if user is None or user.id in ANONYMOUS:
        return Asker(language=_language(user))
    asker = await verbs.register(
        telegram_id=user.id,
        username=user.username,
        first_name=user.first_name,
        last_name=user.last_name,
        language=_language(user),
    )
    return asker if chat_type == "private" else replace(asker, private_channels=frozenset())


def _language(user: User | None) -> Language:
    return language_of_code(user.language_code if user is not None else None)


def _mention(me: User) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)@{re.escape(me.username or '')}\b", re.IGNORECASE)


async def _dialogue(message: Message, bot: Bot, dialogue_of: DialogueOf) -> str | None:
    replied = message.reply_to_message
    if replied is None or replied.from_user is None or replied.from_user.id != bot.id:
        return None
    return await dialogue_of(message.chat.id, replied.message_id)


def _toast(query: CallbackQuery, courtesies: Courtesies, text: str | None) -> None:
    courtesies.offer(AnswerCallbackQuery(callback_query_id=query.id, text=text))
