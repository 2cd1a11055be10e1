"""Commands in plain words, in private chats: done as if typed with a slash; where it could be either, the bot asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiogram import Dispatcher, F, Router
from aiogram.dispatcher.event.bases import UNHANDLED
from aiogram.filters import Command
from aiogram.methods import EditMessageReplyMarkup, SendMessage
from aiogram.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message, ReplyParameters
from aiogram.utils.formatting import Text

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.who import Calls, language_of, toast
from appliance.dialogue import leans_on_earlier
from appliance.intents import QUESTION, Reading, courtesy, days_of, hours_of, read, topic_of
from appliance.schema import Language
from appliance.texts import TEXTS, say

BUTTON = "w:"
# intent: the commands that do it, the first that this bot has; {topic}, {days} and {hours} are read from the message
COMMANDS: dict[str, tuple[str, ...]] = {
    "subscribe": ("/alert {topic}",),
    "unsubscribe": ("/alerts",),
    "alerts": ("/alerts",),
    "digest": ("/digest {days}",),
    "missed": ("/missed", "/digest {days}"),
    "search": ("/search {topic}",),
    "forget": ("/forget",),  # asks before it erases
    "export": ("/mydata",),
    "new": ("/new",),
    "help": ("/help",),
    "plan": ("/plan",),
    "plan_cancel": ("/plan cancel",),  # asks before it cancels
    "language": ("/language",),
    "quiet": ("/quiet {hours}",),
}
TOLD = {"hello", "thanks", "noted", "language"}  # answered with words where there is no command


def words_router() -> Router:
    """Build the handlers; they stand before those of questions."""
    router = Router(name="words")
    router.message.filter(F.chat.type == "private")
    router.message.register(in_words, F.text, is_in_words)
    router.callback_query.register(chosen, F.data.startswith(BUTTON))
    return router


def commands_of(routers: Iterable[Router]) -> frozenset[str]:
    """Collect the commands that routers know, so that none is promised that is not there."""
    found: set[str] = set()
    for router in routers:
        for handler in router.message.handlers:
            for one in handler.filters or ():
                if isinstance(one.callback, Command):
                    found.update(name for name in one.callback.commands if isinstance(name, str))
        found |= commands_of(router.sub_routers)
    return frozenset(found)


async def is_in_words(message: Message, commands: frozenset[str], as_question: bool = False) -> bool | dict[str, Any]:
    """Read a message that stands alone; pass the reading on when it is a command, or may be one."""
    if as_question or (message.text or "/").startswith("/") or message.forward_origin or message.via_bot:
        return False
    replied = message.reply_to_message
    if replied is not None and not replied.forum_topic_created and courtesy(message.text or "") is None:
        return False  # a reply carries a conversation on
    reading = read(message.text or "")
    among = tuple(name for name in reading.among if name == QUESTION or can_do(name, commands))
    text = message.text or ""
    if reading.intent == "ask" and text.rstrip().endswith("?") and leans_on_earlier(text):
        return False  # "and how much is it?" carries a conversation on too
    if reading.intent == "ask":
        likely = [name for name in among if name != QUESTION]
        return {"reading": Reading("ask", among, reading.certainty)} if likely else False
    return {"reading": reading} if reading.intent != QUESTION and can_do(reading.intent, commands) else False


def can_do(intent: str, commands: frozenset[str]) -> bool:
    """Tell whether this bot does what an intent wants."""
    return intent in TOLD or command_for(intent, "", commands) is not None


def command_for(intent: str, text: str, commands: frozenset[str]) -> str | None:
    """Return the command that does what a message wants, with what it names; None when there is none."""
    for pattern in COMMANDS.get(intent, ()):
        name = pattern.split()[0].removeprefix("/")
        if name in commands:
            named = {"topic": topic_of(text), "days": days_of(text) or "", "hours": hours_of(text)}
            return pattern.format(**named).strip()
    return None


async def in_words(message: Message, reading: Reading, dispatcher: Dispatcher, **data: Any) -> Any:
    """Do what was meant, or ask which it was."""
    language = language_of(message.from_user)
    if reading.intent == "ask":
        return [outgoing(asking(message, reading.among, language))]
    return await done(message, reading.intent, language, dispatcher, data)


async def done(message: Message, intent: str, language: Language, dispatcher: Dispatcher, data: dict[str, Any]) -> Any:
    """Hand a message to the handlers of its command, or of questions, as if it had been typed so."""
    command = None if intent == QUESTION else command_for(intent, message.text or "", data["commands"])
    if command is None and intent in TOLD:
        return messages_for(message, [Text(say(f"told_{intent}", language))])
    as_typed = message if command is None else message.model_copy(update={"text": command, "entities": None})
    passed = {name: value for name, value in data.items() if name not in {"handler", "event_router", "reading"}}
    for router in dispatcher.sub_routers:  # not the dispatcher's own middlewares: they have seen this update
        result = await router.propagate_event(
            "message", as_typed, **{**passed, "dispatcher": dispatcher, "as_question": command is None}
        )
        if result is not UNHANDLED:
            return result
    return []


def asking(message: Message, among: Iterable[str], language: Language) -> SendMessage:
    """Ask which meaning is meant, in reply to the message, which thereby is kept."""
    names = [name for name in among if name != QUESTION and f"want_{name}" in TEXTS]
    rows = [
        [InlineKeyboardButton(text=say(f"want_{name}", language), callback_data=f"{BUTTON}{name}")]
        for name in (*names, QUESTION)
    ]
    return SendMessage(
        chat_id=message.chat.id,
        message_thread_id=message.message_thread_id if message.is_topic_message else None,
        text=say("which_is_meant", language),
        reply_parameters=ReplyParameters(message_id=message.message_id, allow_sending_without_reply=True),
        reply_markup=InlineKeyboardMarkup(inline_keyboard=rows),
    )


async def chosen(query: CallbackQuery, courtesies: Courtesies, dispatcher: Dispatcher, **data: Any) -> Any:
    """Do what the pressed button says with the message that was asked about; anything forged is refused."""
    language = language_of(query.from_user)
    intent = (query.data or "").removeprefix(BUTTON)
    asked = query.message if isinstance(query.message, Message) else None
    original = asked.reply_to_message if asked is not None else None
    is_theirs = (
        asked is not None
        and asked.chat.type == "private"
        and original is not None
        and original.from_user is not None
        and original.from_user.id == query.from_user.id
        and bool(original.text)
    )
    if not is_theirs or asked is None or original is None or not (intent == QUESTION or intent in COMMANDS):
        toast(query, courtesies, say("bad_button", language))
        return []
    toast(query, courtesies, None)
    edit = EditMessageReplyMarkup(chat_id=asked.chat.id, message_id=asked.message_id)
    passed = {**data, "courtesies": courtesies}
    found: Calls = await done(
        original.model_copy(update={"reply_to_message": None}), intent, language, dispatcher, passed
    )
    return [outgoing(edit, priority="draft"), *(found if isinstance(found, list) else [])]
