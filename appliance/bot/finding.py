"""Handlers of ``/search``: the posts themselves, in pages, with filters as buttons. The message holds its own state."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from aiogram import Bot, F, Router
from aiogram.filters import Command, CommandObject
from aiogram.methods import EditMessageText
from aiogram.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message
from aiogram.utils.formatting import Bold, Text, TextLink

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.render import inert, joined, short
from appliance.bot.who import Calls, read_find, said, toast, who_asks
from appliance.errors import PostFinderError
from appliance.schema import Asker, ChannelStatus, Filters, FoundPost, Language
from appliance.search import resolve
from appliance.text import clean
from appliance.texts import date, say
from appliance.verbs import Verbs

PER_PAGE = 5
MOST = 50
QUERY_CHARS = 200  # kept in the message
EXCERPT_CHARS = 220
CHANNELS_A_PAGE = 8
RELEVANT = 0.005  # below it a post is shown only on the first page
PERIODS = {"-": None, "d": 1, "w": 7, "m": 31, "y": 366}  # days
MEDIA = {"-": None, "p": "photo", "v": "video", "f": "file", "a": "voice", "x": "any"}
GLASS = "🔎 "
_DATA = re.compile(
    r"s:(?P<shown>[rcpm]):(?P<page>\d{1,3}):(?P<channel>\d{1,15}):(?P<period>[-dwmy]):(?P<media>[-pvfax])\Z"
)


@dataclass(frozen=True, slots=True)
class View:
    """What a message of ``/search`` shows: it travels in the data of its buttons.

    Attributes
    ----------
    shown : str
        ``r`` results; ``c``, ``p``, ``m`` the choice of a channel, a period, a kind of media.
    page : int
        From 0.
    channel : int
        Id; 0 for all.
    period, media : str
        Of `PERIODS` and `MEDIA`.
    """

    shown: str = "r"
    page: int = 0
    channel: int = 0
    period: str = "-"
    media: str = "-"

    def data(self, **changed: object) -> str:
        """Return the data of a button that leads to this view, changed."""
        view = replace(self, **changed)  # type: ignore[arg-type]
        return f"s:{view.shown}:{view.page}:{view.channel}:{view.period}:{view.media}"


@dataclass(frozen=True, slots=True)
class Page:
    """A message of ``/search``."""

    text: Text
    markup: InlineKeyboardMarkup


def finding_router() -> Router:
    """Build the handlers, in private chats and groups."""
    router = Router(name="finding")
    router.message.filter(F.chat.type.in_({"private", "group", "supergroup"}), ~F.is_automatic_forward)
    router.message.register(search, Command("search", ignore_case=True))
    router.callback_query.register(turned, F.data.regexp(_DATA.pattern), F.message.as_("message"))
    return router


async def search(message: Message, command: CommandObject, bot: Bot, verbs: Verbs) -> Calls:
    """Answer ``/search @channel words`` with the first page."""
    names, text = read_find(command.args or "", (await bot.me()).username or "")
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if not text:
        return messages_for(message, [Text(say("search_usage", asker.language))])
    try:
        channel = resolve(names[:1], await verbs.channels(asker))[0].channel.id if names else 0
        page = await found_page(text, View(channel=channel), asker, verbs)
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, asker.language))])
    return messages_for(message, [page.text], markup=page.markup)


async def turned(query: CallbackQuery, message: Message, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Turn a page, open a choice or choose: within the rights of who presses, whoever searched."""
    asker = await who_asks(query.from_user, verbs, message.chat.type)
    read = _DATA.match(query.data or "")
    text = query_in(getattr(message, "text", None) or "")
    if read is None or not text:
        toast(query, courtesies, say("bad_button", asker.language))
        return []
    view = View(read["shown"], int(read["page"]), int(read["channel"]), read["period"], read["media"])
    try:
        page = await found_page(text, view, asker, verbs)
    except PostFinderError as error:
        toast(query, courtesies, said(error, asker.language))
        return []
    toast(query, courtesies, None)
    content, entities = page.text.render()
    edit = EditMessageText(
        chat_id=message.chat.id,
        message_id=message.message_id,
        text=content,
        entities=entities or None,
        reply_markup=page.markup,
    )
    return [outgoing(edit)]


def query_in(text: str) -> str:
    """Read back the query that a message of ``/search`` begins with; empty when it is none."""
    first = text.split("\n", 1)[0]
    return first.removeprefix(GLASS).strip() if first.startswith(GLASS) else ""


async def found_page(text: str, view: View, asker: Asker, verbs: Verbs) -> Page:
    """Search and draw a page.

    Parameters
    ----------
    text : str
        The query.
    view : View
    asker : Asker
    verbs : Verbs

    Returns
    -------
    Page

    Raises
    ------
    PostFinderError
        No words, a channel this asker cannot see, a store that fails.
    """
    query = short(text, QUERY_CHARS)
    channels = await verbs.channels(asker)
    named = resolve([str(view.channel)], channels)[0].channel.title if view.channel else ""
    days = PERIODS[view.period]
    filters = Filters(
        channels=(str(view.channel),) if view.channel else None,
        since=None if days is None else datetime.now(UTC) - timedelta(days=days),
        media=MEDIA[view.media],
    )
    result = await verbs.search(query, asker=asker, filters=filters, limit=MOST)
    found = [hit for place, hit in enumerate(result.found) if place < PER_PAGE or hit.relevance >= RELEVANT]
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(view.page, pages - 1) if view.shown == "r" else 0
    some = found[page * PER_PAGE : (page + 1) * PER_PAGE]
    blocks: list[str | Text] = [Text(GLASS, Bold(inert(query)))]
    if chosen := _chosen(view, named, asker.language):
        blocks.append(inert(chosen))
    blocks += [_listed(page * PER_PAGE + place, hit, asker.language) for place, hit in enumerate(some, start=1)]
    if not some:
        blocks.append(say("search_nothing", asker.language))
    return Page(joined(blocks, "\n\n"), _markup(view, page, pages, channels, named, asker.language))


def _listed(number: int, hit: FoundPost, language: Language) -> Text:
    where = f"{number}. {short(hit.channel.title, 60)}, {date(hit.post.date, language)}"
    return Text(
        TextLink(where, url=hit.link), "\n", inert(short(clean(hit.chunk_text or hit.post.text), EXCERPT_CHARS))
    )


def _chosen(view: View, named: str, language: Language) -> str:
    parts = [short(named, 60)] if named else []
    parts += [say(f"period_{view.period}", language)] if view.period != "-" else []
    parts += [say(f"media_{view.media}", language)] if view.media != "-" else []
    return " · ".join(parts)


def _markup(
    view: View, page: int, pages: int, channels: list[ChannelStatus], named: str, language: Language
) -> InlineKeyboardMarkup:
    def key(text: str, **changed: object) -> InlineKeyboardButton:
        return InlineKeyboardButton(text=text, callback_data=view.data(**{"shown": "r", "page": 0, **changed}))

    if view.shown == "c":
        full = [status for status in channels if status.posts]
        last = max(0, (len(full) - 1) // CHANNELS_A_PAGE)
        at = min(view.page, last)
        some = full[at * CHANNELS_A_PAGE : (at + 1) * CHANNELS_A_PAGE]
        rows = [[key(say("channel_all", language), channel=0)]]
        rows += [[key(short(status.channel.title, 40), channel=status.channel.id)] for status in some]
        turns = [key("◀", shown="c", page=at - 1)] if at else []
        turns += [key("▶", shown="c", page=at + 1)] if at < last else []
        return InlineKeyboardMarkup(inline_keyboard=[*rows, *([turns] if turns else [])])
    if view.shown in "pm":
        kinds, name = (PERIODS, "period") if view.shown == "p" else (MEDIA, "media")
        keys = [
            key(say(f"{name}_{code}" if code != "-" else f"{name}_all", language), **{name: code}) for code in kinds
        ]
        return InlineKeyboardMarkup(inline_keyboard=[keys[start : start + 3] for start in range(0, len(keys), 3)])
    turns = [key("◀", page=page - 1)] if page else []
    if pages > 1:
        turns.append(key(f"{page + 1} / {pages}", page=page))
    turns += [key("▶", page=page + 1)] if page < pages - 1 else []
    choices = [
        key(f"📁 {short(named, 20) or say('channel_all', language)}", shown="c"),
        key(f"📅 {say(f'period_{view.period}' if view.period != '-' else 'period_all', language)}", shown="p"),
        key(f"🖼 {say(f'media_{view.media}' if view.media != '-' else 'media_all', language)}", shown="m"),
    ]
    return InlineKeyboardMarkup(inline_keyboard=[*([turns] if turns else []), choices[:1], choices[1:]])
