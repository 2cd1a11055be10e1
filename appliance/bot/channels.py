"""Handlers of channels: posts as they appear, the bot coming and going, what members propose and admins decide."""

from __future__ import annotations

from aiogram import Bot, F, Router
from aiogram.enums import ChatMemberStatus
from aiogram.filters import Command, CommandObject
from aiogram.methods import EditMessageReplyMarkup, GetChatMember
from aiogram.types import (
    CallbackQuery,
    ChatMemberUpdated,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
    MessageReactionCountUpdated,
)
from aiogram.utils.formatting import Bold, Text

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.patience import ASKED_S, patiently
from appliance.bot.reading import SUPERGROUP, bare_id, channel_of, post_of
from appliance.bot.render import inert
from appliance.bot.who import Calls, language_of, toast, who_asks, without_buttons
from appliance.errors import PostFinderError
from appliance.pool import DECIDE, PoolEntry
from appliance.schema import ChannelState, Language
from appliance.texts import count, say
from appliance.verbs import Verbs

SHOWN = 20  # channels of the pool in one message
MARKS = {"approved": "✅", "waiting": "⏳", "refused": "🚫"}
_STATES: dict[str, ChannelState] = {"ok": "approved", "no": "refused", "del": "refused"}


def channels_router() -> Router:
    """Build the handlers."""
    router = Router(name="channels")
    router.channel_post.register(posted)
    router.edited_channel_post.register(posted)
    router.message_reaction_count.register(reacted)
    router.my_chat_member.register(moved, F.chat.type == "channel")
    router.message.register(channel, Command("channel", ignore_case=True), F.chat.type == "private")
    router.message.register(channels, Command("channels", ignore_case=True), F.chat.type == "private")
    router.callback_query.register(decided, F.data.regexp(r"^ch:(?:ok|no|del|keep):[A-Za-z0-9_]{1,32}\Z"))
    router.callback_query.register(agreed, F.data.regexp(r"^ch:(?:all|named):\d{1,15}\Z"))
    return router


async def posted(message: Message, verbs: Verbs) -> Calls:
    """Take a post of a channel, new or edited; a service message tells at most the channel's new name."""
    read = post_of(message)
    where = channel_of(message.chat)
    if read is not None:
        await verbs.pool.post(where, read[0], has_caption=read[1], album=message.media_group_id)
    elif message.new_chat_title:
        await verbs.pool.renamed(where)
    return []


async def reacted(event: MessageReactionCountUpdated, verbs: Verbs) -> Calls:
    """Take the number of reactions to a post."""
    total = sum(max(0, reaction.total_count) for reaction in event.reactions)
    await verbs.pool.reacted(bare_id(event.chat.id), event.message_id, total)
    return []


async def moved(event: ChatMemberUpdated, verbs: Verbs) -> Calls:
    """Note that the bot was made an admin of a channel, or is none any more."""
    if event.new_chat_member.status != ChatMemberStatus.ADMINISTRATOR:
        await verbs.pool.removed(bare_id(event.chat.id))
        return []
    adder = await verbs.privacy.user_id(event.from_user.id)
    await verbs.pool.added(channel_of(event.chat), adder)
    return []


async def channel(message: Message, command: CommandObject, verbs: Verbs) -> Calls:
    """Note the channel that a member proposes: ``/channel @name``."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    try:
        became = await verbs.pool.propose(asker, command.args or "")
    except PostFinderError as error:
        return messages_for(message, [Text(say(error.code, asker.language))])
    return messages_for(message, [Text(say(f"channel_{became}", asker.language))])


async def channels(message: Message, verbs: Verbs) -> Calls:
    """Show an admin the pool, with buttons under what waits or was refused."""
    language = language_of(message.from_user)
    if message.from_user is None or await _role(message.from_user.id, verbs) not in DECIDE:
        return messages_for(message, [Text(say("not_allowed", language))])
    entries = await verbs.pool.entries()
    lines = [_line(entry, language) for entry in entries[:SHOWN]] or [Text(say("channels_none", language))]
    if len(entries) > SHOWN:
        lines.append(Text(say("and_more", language, count=len(entries) - SHOWN)))
    words = Text(*(part for line in lines for part in (line, "\n")))
    rows = [decision_row(entry, language) for entry in entries[:SHOWN] if entry.state != "approved"]
    return messages_for(message, [words], markup=InlineKeyboardMarkup(inline_keyboard=rows) if rows else None)


def _line(entry: PoolEntry, language: Language) -> Text:
    notes = [count("posts", entry.posts, language)] if entry.id is not None else []
    notes += [say("channel_is_live", language)] if entry.is_live else []
    notes += [say("channel_is_named", language)] if entry.id is not None and not entry.is_cross else []
    notes += [say("channel_by", language, count=entry.proposed_by)] if entry.proposed_by else []
    return Text(MARKS[entry.state], " ", Bold(inert(entry.title)), f" — {', '.join(notes)}")


def decision_row(entry: PoolEntry, language: Language) -> list[InlineKeyboardButton]:
    """Return the buttons with which an admin approves or refuses a channel; a refused one can still be approved."""
    buttons = decision_buttons(entry.title, str(entry.id or entry.username), language)
    return buttons[:1] if entry.state == "refused" else buttons


def _sure_row(entry: PoolEntry, language: Language) -> list[InlineKeyboardButton]:
    """Return the buttons that ask whether a channel's posts are to go."""
    name, posts = str(entry.id or entry.username), count("posts", entry.posts, language)
    return [
        InlineKeyboardButton(text=say("channel_refuse_yes", language, posts=posts), callback_data=f"ch:del:{name}"),
        InlineKeyboardButton(text=say("channel_refuse_no", language), callback_data=f"ch:keep:{name}"),
    ]


def decision_buttons(title: str, name: str, language: Language) -> list[InlineKeyboardButton]:
    """Return the two buttons for a channel of this name or id."""
    shown = title if len(title) <= 24 else f"{title[:23]}…"
    return [
        InlineKeyboardButton(text=say("channel_approve", language, title=shown), callback_data=f"ch:ok:{name}"),
        InlineKeyboardButton(text=say("channel_refuse", language), callback_data=f"ch:no:{name}"),
    ]


def consent_row(channel_id: int, language: Language) -> list[list[InlineKeyboardButton]]:
    """Return the buttons with which a channel's owner says where its posts are found."""
    return [
        [InlineKeyboardButton(text=say("consent_all", language), callback_data=f"ch:all:{channel_id}")],
        [InlineKeyboardButton(text=say("consent_named", language), callback_data=f"ch:named:{channel_id}")],
    ]


async def decided(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Take an admin's decision on a channel; ask once more before a refusal that removes posts."""
    language = language_of(query.from_user)
    _, what, name = (query.data or "").split(":")
    if await _role(query.from_user.id, verbs) not in DECIDE:
        toast(query, courtesies, say("not_allowed", language))
        return []
    try:
        entry = await verbs.pool.find(name)
        if what == "keep" or (what == "no" and entry.posts):
            toast(query, courtesies, say("channel_refuse_sure", language) if what == "no" else None)
            return await _redrawn(query, verbs, language, sure=name if what == "no" else "")
        entry = await verbs.pool.decide(name, _STATES[what], user_id=await verbs.privacy.user_id(query.from_user.id))
    except PostFinderError:
        toast(query, courtesies, say("bad_button", language))
        return []
    toast(query, courtesies, say(f"channel_is_{entry.state}", language))
    return await _redrawn(query, verbs, language)


async def _redrawn(query: CallbackQuery, verbs: Verbs, language: Language, *, sure: str = "") -> Calls:
    """Draw the buttons of each channel anew, as it stands now; under the channel `sure` ask whether it is meant."""
    message = query.message
    if not isinstance(message, Message) or message.reply_markup is None:
        return without_buttons(query)
    entries = await verbs.pool.entries()
    known = {entry.username.casefold(): entry for entry in entries if entry.username}
    known |= {str(entry.id): entry for entry in entries}
    rows = []
    for row in message.reply_markup.inline_keyboard:
        name = (row[0].callback_data or "").rpartition(":")[2]
        entry = known.get(name.casefold())
        if entry is not None and name == sure:
            rows.append(_sure_row(entry, language))
        elif entry is not None and entry.state != "approved":
            rows.append(decision_row(entry, language))
    markup = InlineKeyboardMarkup(inline_keyboard=rows) if rows else None
    edit = EditMessageReplyMarkup(chat_id=message.chat.id, message_id=message.message_id, reply_markup=markup)
    return [outgoing(edit, priority="draft")]


async def agreed(query: CallbackQuery, bot: Bot, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Take the word of one who runs a channel, asked of Telegram; another press changes it."""
    language = language_of(query.from_user)
    _, what, channel_id = (query.data or "").split(":")
    user_id = await verbs.privacy.user_id(query.from_user.id)
    asked = GetChatMember(chat_id=-SUPERGROUP - int(channel_id), user_id=query.from_user.id)
    standing = await patiently(bot, asked, ASKED_S)
    if standing is None or standing.status not in {ChatMemberStatus.CREATOR, ChatMemberStatus.ADMINISTRATOR}:
        toast(query, courtesies, say("not_allowed", language))
        return []
    try:
        await verbs.pool.consent(channel_id, what == "all", user_id=user_id)
    except PostFinderError:
        toast(query, courtesies, say("bad_button", language))
        return []
    toast(query, courtesies, say(f"consent_noted_{what}", language))
    return []  # the buttons stay: they may think better of it


async def _role(telegram_id: int, verbs: Verbs) -> str:
    return await verbs.access.role(await verbs.privacy.user_id(telegram_id))
