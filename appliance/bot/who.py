"""Who wrote, in which language and in which conversation: what every handler asks first."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiogram import Bot
from aiogram.methods import AnswerCallbackQuery, EditMessageReplyMarkup
from aiogram.types import CallbackQuery, Message, User

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import outgoing
from appliance.errors import Paused, PostFinderError, QuotaSpent, SlowDown
from appliance.journal import Outgoing
from appliance.schema import Asker, Language
from appliance.texts import count, language_of_code, say
from appliance.verbs import Verbs

DialogueOf = Callable[[int, int], Awaitable[str | None]]
Calls = list[Outgoing]

GROUPS = {"group", "supergroup"}
TOAST_S = 5.0  # while Telegram fails, a press is answered again for so long: its button spins
ANONYMOUS = {777000, 1087968824, 136817688}  # Telegram's own accounts that speak for channels and hidden admins
_COMMAND = re.compile(r"/(?P<name>\w+)(?:@(?P<bot>\w+))?")
_CHANNEL = re.compile(r"(?:@|(?:https?://)?t\.me/)([A-Za-z]\w{3,31})/?\Z", re.ASCII)


async def who_asks(user: User | None, verbs: Verbs, chat_type: str) -> Asker:
    """Register whoever wrote and return them as an asker; in a group only open channels are theirs to search."""
    if user is None or user.id in ANONYMOUS:
        return Asker(language=language_of(user))
    asker = await verbs.register(
        telegram_id=user.id,
        username=user.username,
        first_name=user.first_name,
        last_name=user.last_name,
        language=language_of(user),
    )
    return asker if chat_type == "private" else replace(asker, private_channels=frozenset())


def language_of(user: User | None) -> Language:
    """Choose the interface's language of whoever wrote."""
    return language_of_code(user.language_code if user is not None else None)


def mention_of(me: User) -> re.Pattern[str]:
    """Return the pattern of the bot's own mention."""
    return re.compile(rf"(?<!\w)@{re.escape(me.username or '')}\b", re.IGNORECASE)


async def is_addressed(message: Message, bot: Bot) -> bool:
    """Tell whether a group's message mentions the bot or replies to it."""
    me = await bot.me()
    replied = message.reply_to_message
    if replied is not None and replied.from_user is not None and replied.from_user.id == me.id:
        return True
    text = message.text or message.caption or ""
    return "@" in text and mention_of(me).search(text) is not None


def command_of(text: str | None) -> tuple[str, str]:
    """Return a command's name and the bot it is for, in small letters; empty where there is none."""
    found = _COMMAND.match(text or "")
    return ("", "") if found is None else (found["name"].lower(), (found["bot"] or "").lower())


async def is_own_command(message: Message, bot: Bot) -> bool:
    """Tell whether a group's message is a command with the bot's name: ``/command@bot``."""
    name, other = command_of(message.text)
    return bool(name and other) and other == ((await bot.me()).username or "").lower()


async def replied_dialogue(message: Message, bot: Bot, dialogue_of: DialogueOf) -> str | None:
    """Return the dialogue of the bot's message that this one replies to."""
    replied = message.reply_to_message
    if replied is None or replied.from_user is None or replied.from_user.id != bot.id:
        return None
    return await dialogue_of(message.chat.id, replied.message_id)


def toast(query: CallbackQuery, courtesies: Courtesies, text: str | None) -> None:
    """Answer a press of a button with a passing word, or with none."""
    courtesies.offer(AnswerCallbackQuery(callback_query_id=query.id, text=text), within_s=TOAST_S)


def said(error: PostFinderError, language: Language) -> str:
    """Say an error in a member's words."""
    if isinstance(error, Paused) and error.word:
        return error.word
    if isinstance(error, SlowDown) and not isinstance(error, QuotaSpent):
        return say("slow_down_wait", language, wait=count("seconds", max(1, math.ceil(error.retry_after_s)), language))
    return say(error.code, language)


def without_buttons(query: CallbackQuery) -> Calls:
    """Take the buttons off the message that was pressed."""
    if query.message is None:
        return []
    edit = EditMessageReplyMarkup(chat_id=query.message.chat.id, message_id=query.message.message_id)
    return [outgoing(edit, priority="draft")]


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
