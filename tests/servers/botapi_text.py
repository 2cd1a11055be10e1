"""What Telegram does to a message's text: bounds of entities in UTF-16, and the links it finds by itself."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from tests.servers.botapi_schema import BadCallError

MAX_TEXT = 4096  # UTF-16 units here, the strictest reading of "1-4096 characters after entities parsing"
MAX_ENTITIES = 100
_OPAQUE = {"code", "pre"}
_OWN_LINKS = {"text_link", "text_mention", "custom_emoji"}
_ADDRESS = r"(?:https?|ftp|tg|ton|tonsite)://[^\s<>\"«»]+"
_DOMAIN = (
    r"(?<![\w@./-])(?:[\w-]+\.)+(?:com|ru|su|org|net|me|io|dev|info|biz|xyz|рф|app|ai|gg|to|link|site|online|сайт)\b"
    r"(?:[/?#:][^\s<>\"«»]*)?"
)
_FOUND = (
    ("url", re.compile(f"{_ADDRESS}|{_DOMAIN}", re.IGNORECASE)),
    ("email", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("mention", re.compile(r"(?<![\w@/.])@[A-Za-z][A-Za-z0-9_]{2,31}\b")),
    ("bot_command", re.compile(r"(?<![\w/@<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/])")),
    ("hashtag", re.compile(r"(?<![\w#])#\w*[^\W\d]\w*")),
)


def utf16(text: str) -> int:
    """Length in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, offset: int, length: int) -> str:
    """Return the part of `text` at a UTF-16 offset and length; an `UnicodeDecodeError` where it splits a symbol."""
    return text.encode("utf-16-le")[offset * 2 : (offset + length) * 2].decode("utf-16-le")


def find_entities(text: str, taken: list[tuple[int, int]] | None = None) -> list[dict[str, Any]]:
    """Find links, mentions, commands and hashtags, as Telegram does in every message.

    Parameters
    ----------
    text : str
    taken : list of (start, end), optional
        UTF-16 ranges where nothing is sought (code, links the sender made).
    """
    busy = list(taken or [])
    found = []
    for kind, pattern in _FOUND:
        for match in pattern.finditer(text):
            start, end = utf16(text[: match.start()]), utf16(text[: match.end()])
            if all(end <= left or start >= right for left, right in busy):
                busy.append((start, end))
                found.append({"type": kind, "offset": start, "length": end - start})
    return sorted(found, key=lambda entity: entity["offset"])


def checked_text(text: str, entities: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Check an outgoing text as Telegram does and add the entities it finds.

    Raises
    ------
    BadCallError
        Empty or too long, or an entity out of bounds or in the middle of a symbol.
    """
    if not text.strip():
        raise BadCallError("Bad Request: message text is empty")
    try:
        size = len(text.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        raise BadCallError("Bad Request: strings must be encoded in UTF-8") from None
    if size > MAX_TEXT:
        raise BadCallError("Bad Request: message is too long")
    for entity in entities:
        start, length = entity["offset"], entity["length"]
        if start < 0 or length <= 0:
            raise BadCallError(f"Bad Request: entity of length {length} at UTF-16 offset {start}")
        if start + length > size:
            raise BadCallError(
                f"Bad Request: entity beginning at UTF-16 offset {start} ends after the end of the text"
                f" at UTF-16 offset {size}"
            )
        try:
            cut(text, start, length)
        except UnicodeDecodeError:
            raise BadCallError("Bad Request: entity begins or ends in a middle of a UTF-16 symbol") from None
        if entity["type"] == "text_link" and not re.match(r"(https?|tg)://\S+$", entity.get("url", "")):
            raise BadCallError("Bad Request: wrong HTTP URL in text_link")
    spans = sorted((entity["offset"], -entity["length"]) for entity in entities)
    for (left, minus), (right, other) in pairwise(spans):
        if right < left - minus < right - other:
            raise BadCallError("Bad Request: entities cross")
    kept = sorted(entities, key=lambda entity: entity["offset"])[:MAX_ENTITIES]
    taken = [(e["offset"], e["offset"] + e["length"]) for e in kept if e["type"] in _OPAQUE | _OWN_LINKS]
    return text, sorted([*kept, *find_entities(text, taken)], key=lambda entity: entity["offset"])


def checked_markup(markup: dict[str, Any] | None) -> dict[str, Any] | None:
    """Check inline buttons: one action each, callback data of 1 to 64 bytes."""
    for row in (markup or {}).get("inline_keyboard", []):
        for button in row:
            if not button.get("text"):
                raise BadCallError("Bad Request: BUTTON_TEXT_EMPTY")
            if "callback_data" in button and not 1 <= len(button["callback_data"].encode()) <= 64:
                raise BadCallError("Bad Request: BUTTON_DATA_INVALID")
            if len(button) < 2:
                raise BadCallError("Bad Request: BUTTON_TYPE_INVALID")
    return markup


def clickable(message: dict[str, Any]) -> list[str]:
    """Return what a reader could press in a message's text: addresses, mentions, commands, e-mails."""
    pressed = []
    for entity in message.get("entities", []):
        if entity["type"] == "text_link":
            pressed.append(entity["url"])
        elif entity["type"] in {"url", "mention", "bot_command", "email"}:
            pressed.append(cut(message["text"], entity["offset"], entity["length"]))
    return pressed
