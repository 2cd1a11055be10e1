"""Telegram Desktop's JSON export as channels and posts, read as a stream with bounded memory.

Albums are not marked in an export: each picture is a message of its own, with the second, the author and the origin of
the others; they are joined by these. Topics are not marked either: a message in a topic replies to the topic's first
message or to a message of that topic.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from appliance.errors import BadExport
from appliance.links import USERNAME
from appliance.schema import Broken, Channel, Post
from appliance.telegram_json import (
    CHOOSE_JSON,
    EXPORT_AGAIN,
    BytesRead,
    Damage,
    Head,
    Skipped,
    find_export,
    read_events,
)

__all__ = ["BytesRead", "Item", "Skipped", "Topic", "find_export", "join_album", "read_export", "read_message"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a group, as the message of its creation says; ``id`` is that message's."""

    channel_id: int
    id: int
    title: str


Item = Channel | Post | Topic | Skipped | Broken | BytesRead


def read_export(path: Path, *, username: str | None = None) -> Iterator[Item]:
    """Read an export as a stream.

    Parameters
    ----------
    path : Path
        The ``result.json`` of one chat or of a whole account, or the folder it lies in.
    username : str, optional
        Public name of the exported channel (an export does not hold it), with or without ``@``; for one chat only.

    Yields
    ------
    Channel
        Before the posts of each channel or group.
    Post
        In the file's order, an album as one, under its first id. A post without text (a bare picture) has an empty
        ``text``. Times come from ``date_unixtime``; exports older than 2021 have only the exporting computer's local
        time, which is then taken for UTC.
    Topic, Skipped
        Topics of a group; what was left out on purpose.
    Broken
        A message that cannot be read, with the reason and the cure; reading goes on after it.
    BytesRead
        After every 64 KB or so, and at the end.

    Raises
    ------
    BadExport
        The file is no export at all.
    """
    file_path = find_export(path)
    public_name = _username(username)
    name = str(file_path)
    chat: _Chat | None = None
    has_channel = False
    with file_path.open("rb") as file:
        for event in read_events(file, name, file_path.stat().st_size):
            if isinstance(event, dict):
                assert chat is not None
                yield from _take(chat, event, name)
            elif isinstance(event, Damage):
                yield Broken(name, event.message_id, event.reason, EXPORT_AGAIN)
                if chat is not None:
                    chat.is_doubted |= event.is_doubtful
            elif isinstance(event, Head):
                yield from _leave(chat)
                chat = None
                if event.is_wanted:
                    chat = _Chat(_channel(event, public_name), event.in_account)
                    has_channel = True
                    yield chat.channel
            else:
                yield event
        yield from _leave(chat)
    if not has_channel:
        raise BadExport(f"{name} holds no channel and no group.", cure=CHOOSE_JSON)


def _username(typed: str | None) -> str | None:
    """Take a username as people type it, or the link of a channel."""
    if not typed:
        return None
    name = re.sub(r"^(?:https?://)?t\.me/|^@", "", typed.strip()).rstrip("/")
    if not USERNAME.fullmatch(name):
        raise BadExport(
            f"{typed!r} is not a Telegram username.",
            cure="Give it as in t.me/NAME: 4 to 32 Latin letters, digits and underscores.",
        )
    return name


def _channel(head: Head, username: str | None) -> Channel:
    """Make the channel's record of what its head says."""
    assert head.id is not None
    if username and head.in_account:
        raise BadExport(
            "A username goes with the export of one chat, and this is a whole account's.",
            cure="Leave the username out, or export the channel alone.",
        )
    return Channel(
        id=head.id,
        title=head.name or username or str(head.id),
        username=username,
        kind=head.kind,
        is_open=head.kind.startswith("public"),
    )


def read_message(message: dict[str, Any], channel: Channel) -> Post | None:
    """Turn one message, written as in an export, into a post by the same rules.

    Parameters
    ----------
    message : dict
        Of type ``message``.
    channel : Channel
        It stands there.

    Returns
    -------
    Post or None
        None where it lacks what every message has.
    """
    try:
        return _post(message, _Chat(channel), message["id"], _time(message, "date"))
    except _Unreadable:
        return None


def join_album(parts: Sequence[tuple[Post, bool]]) -> list[Post]:
    """Join the messages of one album by the rules of an import: a second caption begins another post.

    Parameters
    ----------
    parts : sequence of (Post, bool)
        By id; whether it has a caption.

    Returns
    -------
    list of Post
    """
    joined: list[Post] = []
    has_caption = False
    for part, is_captioned in parts:
        if joined and not (has_caption and is_captioned) and len(joined[-1].album_ids) < 9:
            joined[-1] = _joined(joined[-1], part)
            has_caption |= is_captioned
        else:
            joined.append(part)
            has_caption = is_captioned
    return joined


# --- messages and posts ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Chat:
    """The chat being read."""

    channel: Channel
    in_account: bool = False  # one of many: a lost start of the next chat must not bring its messages here
    last_id: int | None = None
    last_date: datetime | None = None
    is_doubted: bool = False  # damage may have swallowed the start of another chat
    lost: int = 0  # messages passed over for that
    waiting: Post | None = None  # an album may go on
    has_caption: bool = False  # the waiting one
    topics: set[int] = field(default_factory=set)
    in_topic: array[int] = field(default_factory=lambda: array("q"))  # ids, rising, of messages in topics …
    topic_of: array[int] = field(default_factory=lambda: array("q"))  # … and the topic of each


class _Unreadable(Exception):
    """A message that lacks what every message has; the text says what."""


def _take(chat: _Chat, message: dict[str, Any], file: str) -> Iterator[Item]:
    """Turn one message into what is yielded for it."""
    message_id = message.get("id")
    if type(message_id) is not int or not -(2**63) <= message_id < 2**63:
        yield Broken(file, None, "a message without an id", EXPORT_AGAIN)
        return
    kind = message.get("type")
    try:
        if kind not in ("message", "service", "unsupported"):  # anything may stand there, a list too
            raise _Unreadable("not a kind of message that is known")
        date = _time(message, "date")
        if chat.in_account and not _goes_on(chat, message, message_id, date):
            chat.lost += 1
            if chat.lost == 1:
                yield Broken(
                    file,
                    message_id,
                    "it is not certain which chat this message and those after it belong to",
                    EXPORT_AGAIN,
                )
            return
        chat.is_doubted = False
        post = _post(message, chat, message_id, date) if kind == "message" else None
    except _Unreadable as error:
        yield Broken(file, message_id, str(error), EXPORT_AGAIN)
        return
    chat.last_id, chat.last_date = message_id, date or chat.last_date
    if post is None:
        yield from _release(chat)
        yield Skipped(chat.channel.id, message_id, kind)
        title = message.get("title")
        if message.get("action") == "topic_created" and isinstance(title, str):
            chat.topics.add(message_id)
            yield Topic(chat.channel.id, message_id, title)
        return
    caption = bool(message.get("text") or message.get("text_entities"))
    if chat.waiting is not None and _is_album(chat.waiting, post) and not (chat.has_caption and caption):
        chat.waiting = _joined(chat.waiting, post)
        chat.has_caption |= caption
    else:
        yield from _release(chat)
        chat.waiting, chat.has_caption = post, caption


def _release(chat: _Chat) -> Iterator[Post]:
    """Let the waiting post go."""
    if chat.waiting is not None:
        yield chat.waiting
        chat.waiting = None


def _leave(chat: _Chat | None) -> Iterator[Item]:
    """End a chat."""
    if chat is not None:
        yield from _release(chat)
        if chat.lost:
            yield Skipped(None, None, "unknown", chat.lost)


def _goes_on(chat: _Chat, message: dict[str, Any], message_id: int, date: datetime | None) -> bool:
    """Whether a message of an account's export belongs to the same chat as those before it."""
    if chat.lost or (chat.last_id is not None and message_id <= chat.last_id):  # ids rise in a chat
        return False
    if not chat.is_doubted:
        return True
    if chat.last_date is not None and date is not None and date < chat.last_date:
        return False
    return not chat.channel.kind.endswith("channel") or message.get("from_id") == f"channel{chat.channel.id}"


_ALBUM_KINDS = {"photo": "pictures", "video": "pictures", "file": "files", "audio": "music"}


def _is_album(first: Post, post: Post) -> bool:
    """Whether two neighbours are of one album: Telegram sends at most ten at once, in one second, of like media."""
    return (
        first.date == post.date
        and 0 < post.message_id - first.message_id < 20
        and len(first.album_ids) < 9
        and first.author_id == post.author_id
        and first.forwarded_from == post.forwarded_from
        and first.reply_to_id == post.reply_to_id
        and first.media in _ALBUM_KINDS
        and _ALBUM_KINDS[first.media] == _ALBUM_KINDS.get(post.media or "")
    )


def _joined(first: Post, post: Post) -> Post:
    """Join the next part of an album to the post."""
    return replace(
        first,
        text="\n".join(text for text in (first.text, post.text) if text),
        edited_at=max((time for time in (first.edited_at, post.edited_at) if time), default=None),
        album_ids=(*first.album_ids, post.message_id),
        links=tuple(dict.fromkeys((*first.links, *post.links))),
        reactions=first.reactions + post.reactions,
    )


def _post(message: dict[str, Any], chat: _Chat, message_id: int, date: datetime | None) -> Post:
    """Make a post of a message."""
    if date is None:
        raise _Unreadable("no date")
    links: list[str] = []
    text = _text(message.get("text"), links) or _text(message.get("text_entities"), links)
    more, media = _media(message, links)
    author_id = message.get("from_id")
    origin = "Deleted Account" if message.get("forwarded_from", "") is None else _line(message, "forwarded_from")
    topic_id, reply_to_id = _thread(chat, message, message_id)
    return Post(
        channel_id=chat.channel.id,
        message_id=message_id,
        date=date,
        text="\n".join(line for line in (text, *more) if line).replace("\0", ""),
        edited_at=_time(message, "edited"),
        author=_line(message, "author") or _line(message, "from") or None,
        author_id=f"user{author_id}" if type(author_id) is int else _line(message, "from_id") or None,
        topic_id=topic_id,
        reply_to_id=reply_to_id,
        forwarded_from=origin or None,
        media=media,
        links=tuple(dict.fromkeys(_url(link) for link in links if link)),
        reactions=_reactions(message.get("reactions")),
    )


def _time(message: dict[str, Any], name: str) -> datetime | None:
    """Read a time: exact where ``…_unixtime`` is written, else the local one, taken for UTC; None where absent."""
    exact, local = message.get(f"{name}_unixtime"), message.get(name)
    try:
        if exact is not None:
            return datetime.fromtimestamp(int(exact), UTC)
        if local is not None:
            time = datetime.fromisoformat(local)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise _Unreadable(f"the field {name!r} is not a time") from None
    return None


# Links without an entity: Telegram Desktop drops an entity that stands inside another (a bold link).
_URL = re.compile(r"https?://[^\s<>\"'«»]*[^\s<>\"'«».,:;!?)\]}…]")


def _url(link: str) -> str:
    """Give a link the scheme that Telegram reads into it."""
    return link if "://" in link or link.startswith(("mailto:", "tel:", "tg:")) else f"http://{link}"


def _text(value: object, links: list[str]) -> str:
    """Join the parts of a text as readers see it; where they lead goes to `links`."""
    if value is None:
        return ""
    if not isinstance(value, str | list):
        raise _Unreadable("the text is not a text")
    parts: list[str] = []
    for part in [value] if isinstance(value, str) else value:
        if isinstance(part, str):
            parts.append(part)
            links.extend(_URL.findall(part))
            continue
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise _Unreadable("the text is not a text")
        parts.append(text)
        if part.get("type") == "link":
            links.append(text.strip())
        elif part.get("type") == "text_link":
            links.append(_line(part, "href"))
        else:
            links.extend(_URL.findall(text))
    return "".join(parts)


_MEDIA_TYPES = {
    "sticker": "sticker",
    "video_message": "video_message",
    "voice_message": "voice",
    "animation": "animation",
    "video_file": "video",
    "audio_file": "audio",
}
_MEDIA_FIELDS = {
    "photo": "photo",
    "file": "file",
    "poll": "poll",
    "todo_list": "checklist",
    "contact_information": "contact",
    "place_name": "place",
    "location_information": "place",
    "game_title": "game",
    "invoice_information": "invoice",
    "giveaway_information": "giveaway",
    "giveaway_results": "giveaway",
    "paid_stars_amount": "paid",
}


def _media(message: dict[str, Any], links: list[str]) -> tuple[list[str], str | None]:
    """Lines that readers see beside the text, and the kind of media; links of buttons go to `links`."""
    media = _MEDIA_TYPES.get(str(message.get("media_type"))) or next(
        (kind for name, kind in _MEDIA_FIELDS.items() if name in message), None
    )
    lines: list[str] = []
    if media == "file":
        lines.append(_line(message, "file_name"))
    elif media == "audio":
        lines.append(" — ".join(filter(None, (_line(message, "performer"), _line(message, "title")))))
    elif media == "poll":
        lines += _listed(message["poll"], "question", links)
    elif media == "checklist":
        lines += _listed(message["todo_list"], "title", links)
    elif media is not None:
        contact = _record(message.get("contact_information"))
        invoice = _record(message.get("invoice_information"))
        prize = _record(message.get("giveaway_information") or message.get("giveaway_results"))
        lines += [
            " ".join(filter(None, (_line(contact, name) for name in ("first_name", "last_name", "phone_number")))),
            *(_line(message, name) for name in ("place_name", "address", "game_title", "game_description")),
            *(_line(invoice, name) for name in ("title", "description")),
            _line(prize, "additional_prize"),
        ]
    rows = message.get("inline_bot_buttons")
    for row in rows if isinstance(rows, list) else ():
        buttons = [_record(button) for button in row] if isinstance(row, list) else []
        links.extend(_line(button, "data") for button in buttons if button.get("type") in {"url", "auth"})
    return lines, media


def _listed(value: object, heading: str, links: list[str]) -> list[str]:
    """Lines of a poll or a checklist: its heading, then its items."""
    record = _record(value)
    items = record.get("answers") or record.get("items")
    texts = [_text(_record(item).get("text"), links) for item in items] if isinstance(items, list) else []
    return [_text(record.get(heading), links), *(f"• {text}" for text in texts if text)]


def _record(value: object) -> dict[str, Any]:
    """Take an object, also one written inside a string (Telegram Desktop does so with invoices)."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def _line(record: dict[str, Any], name: str) -> str:
    """Take a field that is a text, else nothing."""
    value = record.get(name)
    return value.replace("\0", "").strip() if isinstance(value, str) else ""


def _thread(chat: _Chat, message: dict[str, Any], message_id: int) -> tuple[int | None, int | None]:
    """Find the topic of a message and what it replies to; replies into another chat are none here."""
    target = message.get("reply_to_message_id")
    if type(target) is not int or message.get("reply_to_peer_id") is not None or not -(2**63) <= target < 2**63:
        return None, None
    if not chat.topics:
        return None, target
    is_root = target in chat.topics
    topic = target if is_root else None
    if topic is None:
        place = bisect_left(chat.in_topic, target)
        if place < len(chat.in_topic) and chat.in_topic[place] == target:
            topic = chat.topic_of[place]
    if topic is not None and (not chat.in_topic or chat.in_topic[-1] < message_id):
        chat.in_topic.append(message_id)
        chat.topic_of.append(topic)
    return topic, None if is_root else target


def _reactions(value: object) -> int:
    """Sum the reactions of all kinds."""
    counts = (_record(reaction).get("count") for reaction in value) if isinstance(value, list) else ()
    return min(sum(count for count in counts if type(count) is int and count > 0), 2**31 - 1)
