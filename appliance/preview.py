"""A public channel's preview page (``t.me/s/NAME``) as posts. Pure.

The page shows the newest twenty or so messages to anyone; its classes are Telegram's, seen in 2026 as in 2019. It names
the channel's id in ``data-view`` (base64 of JSON, ``c``), without which a link could not be told from an import's.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser

import orjson

from appliance.links import parse_link
from appliance.schema import Channel, Post

MARKED = 10**12  # ids may come as -100…
VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
_MEDIA = {
    "tgme_widget_message_photo_wrap": "photo",
    "tgme_widget_message_video_player": "video",
    "tgme_widget_message_roundvideo_player": "video_message",
    "tgme_widget_message_voice_player": "voice",
    "tgme_widget_message_document_wrap": "file",
    "tgme_widget_message_sticker_wrap": "sticker",
    "tgme_widget_message_poll": "poll",
}
_COUNT = re.compile(r"([\d.]+)\s*([KM]?)\s*\Z")
_SCALE = {"": 1, "K": 1_000, "M": 1_000_000}


@dataclass(slots=True)
class _Message:
    """A message while its part of the page is read."""

    name: str
    message_id: int
    channel_id: int | None
    text: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    date: str = ""
    author: str = ""
    origin: str = ""
    reply_to: int | None = None
    media: str | None = None
    album: set[int] = field(default_factory=set)
    reactions: int = 0


def read_preview(page: str, name: str, *, known_id: int | None = None) -> tuple[Channel, list[Post]] | None:
    """Read a preview page.

    Parameters
    ----------
    page : str
        HTML.
    name : str
        Username of the channel; messages of others on the page are left out.
    known_id : int, optional
        The channel's id where it is known already.

    Returns
    -------
    (Channel, list of Post), or None
        Oldest first; None where the page is no preview, or does not tell the channel's id.
    """
    reader = _Page(name)
    reader.feed(page)
    reader.close()
    ids = {one.channel_id for one in reader.messages if one.channel_id}
    channel_id = known_id or (ids.pop() if len(ids) == 1 else None)
    if channel_id is None or not reader.messages:
        return None
    title = "".join(reader.title).strip() or name
    channel = Channel(channel_id, title, name)
    return channel, [post for one in reader.messages if (post := _post(one, channel)) is not None]


def _post(one: _Message, channel: Channel) -> Post | None:
    try:
        date = datetime.fromisoformat(one.date).astimezone(UTC)
    except ValueError:
        return None
    return Post(
        channel_id=channel.id,
        message_id=one.message_id,
        date=date,
        text=re.sub(r"\n{3,}", "\n\n", "".join(one.text)).strip(),
        author=one.author.strip() or channel.title,
        author_id=f"channel{channel.id}",
        reply_to_id=one.reply_to,
        forwarded_from=one.origin.strip() or None,
        media=one.media,
        album_ids=tuple(sorted(one.album - {one.message_id})),
        links=tuple(dict.fromkeys(one.links)),
        reactions=one.reactions,
    )


class _Page(HTMLParser):
    """Reads the page once, in order."""

    def __init__(self, name: str) -> None:
        super().__init__(convert_charrefs=True)
        self.name = name.lower()
        self.messages: list[_Message] = []
        self.title: list[str] = []
        self._stack: list[tuple[str, frozenset[str]]] = []
        self._now: _Message | None = None
        self._depth = 0  # of the stack where the message began
        self._reaction = ""

    def _within(self, name: str) -> bool:
        return any(name in classes for _, classes in self._stack)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        classes = frozenset(given.get("class", "").split())
        if "data-post" in given:
            self._begin(given)
        now = self._now
        if now is not None:
            if tag == "br" and self._within("tgme_widget_message_text"):
                now.text.append("\n")
            if tag == "a" and self._within("tgme_widget_message_text") and given.get("href"):
                now.links.append(given["href"])
            for name in classes & _MEDIA.keys():
                now.media = now.media or _MEDIA[name]
            if "grouped_media_wrap" in classes and (parsed := parse_link(given.get("href", ""))):
                now.album.add(parsed[1])
            if "tgme_widget_message_reply" in classes and (parsed := parse_link(given.get("href", ""))):
                now.reply_to = parsed[1] if str(parsed[0]).lower() == self.name else None
            if tag == "time" and self._within("tgme_widget_message_date") and not now.date:
                now.date = given.get("datetime", "")
            if "tgme_reaction" in classes:
                self._reaction = ""
        if tag not in VOID:
            self._stack.append((tag, classes))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def _begin(self, given: dict[str, str]) -> None:
        name, _, number = given["data-post"].partition("/")
        self._now = None
        if name.lower() == self.name and number.isascii() and number.isdigit() and len(number) <= 15:
            self._now = _Message(name, int(number), _channel_id(given.get("data-view", "")))
            self._depth = len(self._stack)
            self.messages.append(self._now)

    def handle_endtag(self, tag: str) -> None:
        if not any(opened == tag for opened, _ in self._stack):
            return
        while self._stack:
            opened, classes = self._stack.pop()
            if self._now is not None and "tgme_reaction" in classes:
                self._now.reactions += _count(self._reaction)
            if opened == tag:
                break
        if self._now is not None and len(self._stack) <= self._depth:
            self._now = None

    def handle_data(self, data: str) -> None:
        now = self._now
        if now is None:
            if self._within("tgme_channel_info_header_title"):
                self.title.append(data)
            return
        if self._within("tgme_reaction"):
            self._reaction += data
        elif self._within("tgme_widget_message_reply"):
            return  # the words of another message
        elif self._within("tgme_widget_message_text") or self._within("tgme_widget_message_poll_question"):
            now.text.append(data)
        elif self._within("tgme_widget_message_poll_option_text"):
            now.text.append(f"\n• {data}")
        elif self._within("tgme_widget_message_document_title"):
            now.text.append(data)
        elif self._within("tgme_widget_message_forwarded_from_name"):
            now.origin += data
        elif self._within("tgme_widget_message_from_author"):
            now.author += data


def _channel_id(view: str) -> int | None:
    """Read the channel's id out of ``data-view``."""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(view + "=" * (-len(view) % 4)))["c"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None
    if type(found) is not int or found >= 0:
        return None
    return -found - MARKED if -found > MARKED else -found


def _count(shown: str) -> int:
    """Read "1.2K" as 1200."""
    found = _COUNT.search(shown)
    try:
        return int(float(found[1]) * _SCALE[found[2]]) if found else 0
    except ValueError:
        return 0
