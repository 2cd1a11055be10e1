"""Handlers of groups: in which way the bot answers there, set by the chat's administrators with ``/mode``."""

from __future__ import annotations

import re
import time

from aiogram import Bot, F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.enums import ChatMemberStatus
from aiogram.filters import Command, CommandObject
from aiogram.methods import EditMessageText, GetChatAdministrators, GetChatMember
from aiogram.types import CallbackQuery, ChatMemberUpdated, InlineKeyboardButton, InlineKeyboardMarkup, Message
from aiogram.utils.formatting import Text

from appliance.bot.courtesies import Courtesies, topic_of
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.patience import ASKED_S, patiently
from appliance.bot.who import GROUPS, Calls, is_addressed, language_of, toast, who_asks
from appliance.chats import CONFIDENCES, WAYS, Mode
from appliance.ranking import QUESTION_LEMMAS
from appliance.schema import Language
from appliance.text import lemmas
from appliance.texts import say
from appliance.verbs import Verbs

WHOLE = {"chat", "group", "all", "чат", "группа", "всё", "все"}  # after /mode: the whole chat, not this topic
ADMINS_KNOWN_S = 60.0
LONGEST_ASKED, SHORTEST_ASKED = 500, 3  # characters, words of a message that may be a question to everybody
_DATA = re.compile(r"m:(?P<topic>\d{1,15}):(?P<way>[a-z]{3,8})(?::(?P<above>\d{2}))?\Z", re.ASCII)
_admins: dict[tuple[int, int], tuple[float, bool]] = {}  # (chat, person): until when it is known, and what


def modes_router() -> Router:
    """Build the handlers; where the bot is off, they swallow all else that is said."""
    router = Router(name="modes")
    router.message.filter(F.chat.type.in_(GROUPS))
    router.message.register(moved, F.migrate_to_chat_id)
    router.message.register(mode, Command("mode", ignore_case=True))
    router.message.register(silent, is_off)
    router.my_chat_member.register(arrived, F.chat.type.in_(GROUPS))
    router.callback_query.register(chosen, F.data.regexp(_DATA.pattern), F.message.as_("message"))
    return router


async def is_off(message: Message, verbs: Verbs) -> bool:
    """Tell whether the bot is off where this was said."""
    return verbs.chats.mode(message.chat.id, topic_of(message)).way == "off"


async def silent(message: Message) -> Calls:
    """Say nothing."""
    return []


async def moved(message: Message, verbs: Verbs) -> Calls:
    """Carry the settings over when a group becomes a supergroup."""
    if message.migrate_to_chat_id is not None:
        await verbs.chats.move(message.chat.id, message.migrate_to_chat_id)
    raise SkipHandler  # others keep something of a chat too


async def arrived(event: ChatMemberUpdated, verbs: Verbs) -> Calls:
    """Note that the bot came to a group, so that it can be set from elsewhere, or left it."""
    now = event.new_chat_member
    is_out = now.status in {ChatMemberStatus.LEFT, ChatMemberStatus.KICKED} or not getattr(now, "is_member", True)
    await verbs.chats.name(event.chat.id, None if is_out else event.chat.title or str(event.chat.id))
    return []


async def mode(message: Message, command: CommandObject, bot: Bot, verbs: Verbs) -> Calls:
    """Show how the bot answers here, with a button for each way; to administrators alone."""
    language = language_of(message.from_user)
    if not await is_admin(message, bot):
        return messages_for(message, [Text(say("mode_admins_only", language))])
    topic_id = 0 if (command.args or "").strip().lower() in WHOLE else topic_of(message) or 0
    text, markup = _shown(verbs.chats.mode(message.chat.id, topic_id), topic_id, language)
    return messages_for(message, [Text(text)], markup=markup)


async def chosen(query: CallbackQuery, message: Message, bot: Bot, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Set the way that an administrator chose."""
    language = language_of(query.from_user)
    read = _DATA.match(query.data or "")
    if read is None or read["way"] not in WAYS or message.chat.type not in GROUPS:
        toast(query, courtesies, say("bad_button", language))
        return []
    if not await is_administrator(bot, message.chat.id, query.from_user.id):
        toast(query, courtesies, say("mode_admins_only", language))
        return []
    topic_id = int(read["topic"])
    new = Mode(read["way"], int(read["above"]) / 100 if read["above"] else Mode().above)
    actor = await who_asks(query.from_user, verbs, message.chat.type)
    await verbs.chats.name(message.chat.id, message.chat.title or "")
    await verbs.chats.set_mode(message.chat.id, topic_id, new, actor_id=actor.user_id)
    toast(query, courtesies, say("mode_set", language))
    text, markup = _shown(new, topic_id, language)
    if new.way == "admins":
        known = len(await listening_admins(bot, message.chat.id, verbs))
        text += "\n\n" + say("mode_admins_known", language, count=known)
    edit = EditMessageText(chat_id=message.chat.id, message_id=message.message_id, text=text, reply_markup=markup)
    return [outgoing(edit)]


async def is_admin(message: Message, bot: Bot) -> bool:
    """Tell whether a group's message is an administrator's, a hidden one's included."""
    if message.sender_chat is not None:
        return message.sender_chat.id == message.chat.id
    return message.from_user is not None and await is_administrator(bot, message.chat.id, message.from_user.id)


async def is_administrator(bot: Bot, chat_id: int, user_id: int) -> bool:
    """Ask Telegram whether somebody administers a chat; known for a minute. False when it does not answer."""
    known = _admins.get((chat_id, user_id))
    if known is not None and known[0] > time.monotonic():
        return known[1]
    member = await patiently(bot, GetChatMember(chat_id=chat_id, user_id=user_id), ASKED_S)
    if member is None:
        return False
    if len(_admins) > 10_000:
        _admins.clear()
    found = member.status in {"creator", "administrator"}
    _admins[chat_id, user_id] = (time.monotonic() + ADMINS_KNOWN_S, found)
    return found


async def listening_admins(bot: Bot, chat_id: int, verbs: Verbs) -> list[int]:
    """Return the ledger's ids of a chat's administrators whom the bot knows."""
    members = await patiently(bot, GetChatAdministrators(chat_id=chat_id), ASKED_S)
    found = [await verbs.privacy.user_id(member.user.id) for member in members or () if not member.user.is_bot]
    return [user_id for user_id in found if user_id is not None]


async def asks_everybody(message: Message, bot: Bot, verbs: Verbs) -> bool:
    """Tell whether a message is a question to nobody in particular, where the bot answers unasked."""
    if verbs.chats.mode(message.chat.id, topic_of(message)).way != "auto":
        return False
    sender = message.from_user
    if (sender is not None and sender.is_bot) or message.reply_to_message is not None or message.via_bot is not None:
        return False
    return looks_asked(message.text or message.caption or "") and not await is_addressed(message, bot)


def looks_asked(text: str) -> bool:
    """Tell whether words look like a question: a question mark, or a question word in front."""
    words = text.split()
    if len(text) > LONGEST_ASKED or len(words) < SHORTEST_ASKED or text.startswith("/"):
        return False
    return "?" in text or bool(QUESTION_LEMMAS.intersection(lemmas(" ".join(words[:2]))))


def _shown(now: Mode, topic_id: int, language: Language) -> tuple[str, InlineKeyboardMarkup]:
    rows = []
    for way in WAYS:
        name = say(f"mode_{way}", language)
        if way != "auto":
            text = f"✓ {name}" if way == now.way else name
            rows.append([InlineKeyboardButton(text=text, callback_data=f"m:{topic_id}:{way}")])
            continue
        keys = []
        for above in CONFIDENCES:
            is_it = now.way == "auto" and abs(now.above - above) < 0.01
            text = f"{'✓ ' if is_it else ''}{name} ≥ {above:.0%}"
            keys.append(InlineKeyboardButton(text=text, callback_data=f"m:{topic_id}:auto:{round(above * 100)}"))
        rows += [[key] for key in keys]
    where = say("mode_here" if topic_id else "mode_chat", language)
    return f"{where} {say(f'mode_{now.way}_is', language)}", InlineKeyboardMarkup(inline_keyboard=rows)
