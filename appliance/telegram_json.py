r"""The file of a Telegram Desktop export, cut into heads of chats and messages as a stream; damage stays where it is.

What is read is what Telegram Desktop writes (``export_output_json.cpp``, github.com/telegramdesktop/tdesktop): one chat
(``name, type, id, messages``) or a whole account (``chats.list`` and ``left_chats.list``, of which private talks are
left out unread). Each message opens with its ``id`` and ``type``, and inside a JSON string a quote is always escaped,
so these bytes are found without parsing what stands between. The file is cut there and each piece is parsed alone:
damage in one message cannot reach the next.

Telegram Desktop's own faults are mended without a word: control characters written as ``\x1F``, which is not JSON
(tdesktop issue 27571), and version 4.1's unquoted ``document_id`` (issue 24961).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from appliance.errors import BadExport

CHUNK_BYTES = 1 << 20
TELL_EVERY_BYTES = 1 << 16
MAX_MESSAGE_BYTES = 4 << 20  # Telegram's largest messages take some 200 KB of JSON

KINDS = frozenset({"public_channel", "private_channel", "public_supergroup", "private_supergroup", "private_group"})
TALKS = frozenset({"personal_chat", "bot_chat", "saved_messages", "replies", "verification_codes"})

EXPORT_AGAIN = "Export the chat again from Telegram Desktop and import the new file; nothing is doubled."
CHOOSE_JSON = (
    "In Telegram Desktop open the channel, ⋮ → Export chat history, set Format to “Machine-readable JSON”, "
    "and give the folder or its result.json."
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Messages left out on purpose: service messages, or a chat that is nobody's to search."""

    channel_id: int | None
    message_id: int | None
    reason: str  # "service", "unsupported", or the kind of the chat, e.g. "personal_chat"
    count: int = 1


@dataclass(frozen=True, slots=True)
class BytesRead:
    """How much of the file has been dealt with."""

    count: int
    total: int


def find_export(path: Path) -> Path:
    """Find the export's file.

    Parameters
    ----------
    path : Path
        The ``result.json`` or the folder that Telegram Desktop made.

    Returns
    -------
    Path
        The file to read.

    Raises
    ------
    BadExport
        There is none; the cure says what to do instead.
    """
    try:
        if path.is_dir():
            return _in_folder(path)
        if not path.exists():
            raise BadExport(f"There is no {path}.", cure="Check the path; give the export's folder or its result.json.")
        if not path.is_file():
            raise BadExport(f"{path} is not a file.", cure=CHOOSE_JSON)
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        cure = "Give this user the right to read it."
        raise BadExport(f"{path} cannot be read ({error.strerror}).", cure=cure) from error
    _check_start(path, start)
    return path


# --- what is given ----------------------------------------------------------------------------------------------------

_ARCHIVES = {b"PK": "zip", b"Rar!": "rar", b"7z\xbc\xaf": "7z", b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


def _in_folder(folder: Path) -> Path:
    """Find the export in a folder."""
    found = folder / "result.json"
    if found.is_file():
        return find_export(found)
    inner = sorted(path.parent for path in folder.glob("*/result.json"))
    if inner:
        raise BadExport(
            f"There is no result.json in {folder}, but there is in {', '.join(path.name for path in inner[:5])}.",
            cure=f"Give one of those folders, e.g. {inner[0]}.",
        )
    if any(folder.glob("messages*.html")):
        raise BadExport(f"{folder} holds an export as web pages (HTML), which cannot be imported.", cure=CHOOSE_JSON)
    raise BadExport(f"There is no result.json in {folder}.", cure=CHOOSE_JSON)


def _check_start(path: Path, start: bytes) -> None:
    """Refuse a file that cannot be an export by its first bytes."""
    if not start:
        raise BadExport(f"{path} is empty.", cure=EXPORT_AGAIN)
    for mark, kind in _ARCHIVES.items():
        if start.startswith(mark):
            raise BadExport(f"{path} is an archive ({kind}).", cure="Unpack it and give the folder.")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadExport(
            f"{path} is in UTF-16.", cure="Give the file as Telegram Desktop wrote it, or save it as UTF-8."
        )
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        raise BadExport(f"{path} is an export as web pages (HTML), which cannot be imported.", cure=CHOOSE_JSON)
    if not text.startswith(b"{"):
        raise BadExport(f"{path} is not a Telegram export in JSON.", cure=CHOOSE_JSON)


# --- pieces of the file ---------------------------------------------------------------------------------------------

# The start of a message, or of a list of messages. In a JSON string every quote stands after a backslash, so neither
# can be met inside one.
_CUT = re.compile(rb'"(?:id"\s*:\s*(-?\d{1,19})\s*,\s*"type"\s*:\s*"|messages"\s*:\s*\[)')
_CUT_REACH = 512  # bytes a cut may take, white space included
_TAIL_BYTES = 1 << 16  # kept of what is passed over: the next chat's name stands at its end


class _Piece(NamedTuple):
    """Bytes between two cuts."""

    data: bytes
    message_id: int | None  # of the message it opens with, if it does
    is_headed: bool  # it ends in the head of a chat, with `"messages": [`
    is_cut_short: bool = False  # only the end of something too large, or of what stands before the first chat
    is_too_large: bool = False  # not even the end
    is_last: bool = False


def _pieces(file: BinaryIO, total: int) -> Iterator[_Piece | BytesRead]:
    """Cut a file where messages and lists of messages start; no piece is longer than a message may be."""
    buffer = b""
    begin = scan = read = told = 0
    message_id: int | None = None
    is_passing = True  # over bytes that are not kept, but for their end
    while chunk := _read(file, read):
        read += len(chunk)
        buffer = buffer[begin:] + chunk
        scan = max(0, scan - begin)
        begin = 0
        while match := _CUT.search(buffer, scan):
            scan = match.end()
            is_message = match[1] is not None
            end = _brace_before(buffer, begin, match.start()) if is_message else match.end()
            if end < 0:
                continue
            yield _Piece(buffer[begin:end], message_id, not is_message, is_passing)
            begin, message_id, is_passing = end, int(match[1]) if is_message else None, False
            if (at := read - len(buffer) + begin) - told >= TELL_EVERY_BYTES:
                told = at
                yield BytesRead(at, total)
        scan = max(scan, len(buffer) - _CUT_REACH, begin)
        if not is_passing and len(buffer) - begin > MAX_MESSAGE_BYTES:
            yield _Piece(b"", message_id, is_headed=False, is_cut_short=True, is_too_large=True)
            is_passing, message_id = True, None
        if is_passing and len(buffer) - begin > _TAIL_BYTES:
            begin = len(buffer) - _TAIL_BYTES
            yield BytesRead(read - _TAIL_BYTES, total)
    yield _Piece(buffer[begin:], message_id, is_headed=False, is_cut_short=is_passing, is_last=True)
    yield BytesRead(read, total)


def _read(file: BinaryIO, at: int) -> bytes:
    """Read on; a disk that fails is told of like a file that cannot be imported."""
    try:
        return file.read(CHUNK_BYTES)
    except OSError as error:
        cure = "Copy the export to a sound disk and import it again; nothing is doubled."
        raise BadExport(f"The file cannot be read beyond byte {at} ({error.strerror}).", cure=cure) from error


def _brace_before(buffer: bytes, begin: int, end: int) -> int:
    """Place of the opening brace right before `end`, white space aside; -1 where there is none."""
    place = buffer.rfind(b"{", max(begin, end - _CUT_REACH), end)
    return place if place >= 0 and not buffer[place + 1 : end].strip() else -1


_ESCAPED = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|.)", re.DOTALL)
_BARE_PATH = re.compile(rb'("document_id": )(?!["\d])([^"\n]+?)(?=,?\n)')


def _mend(data: bytes) -> bytes:
    r"""Undo Telegram Desktop's own faults: ``\x1F`` and an unquoted path as ``document_id``."""
    if b"\\x" in data:
        data = _ESCAPED.sub(lambda match: b"\\u00" + match[1] if match[1] else match[0], data)
    return _BARE_PATH.sub(rb'\1"\2"', data) if b'"document_id": ' in data else data


_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


def _messages(piece: _Piece) -> tuple[list[dict[str, Any]], bytes]:
    """Parse the message a piece opens with, and those after it if there are.

    Returns
    -------
    list of dict, bytes
        The messages, and the rest from where it cannot be parsed on.
    """
    if piece.message_id is not None and not piece.is_headed:
        try:
            return [orjson.loads(piece.data.rstrip(b", \r\n\t"))], b""
        except orjson.JSONDecodeError:
            pass
    text = _mend(piece.data).decode("utf-8", "surrogateescape")
    found: list[dict[str, Any]] = []
    place = 0
    while True:
        between = _BETWEEN.match(text, place)
        place = between.end() if between else place
        if not text.startswith("{", place):
            break
        try:
            value, end = _DECODER.raw_decode(text, place)
            # Through the strict parser too: no stray surrogates (bytes that are not UTF-8), no NaN, no huge numbers.
            found.append(orjson.loads(json.dumps(value, ensure_ascii=False).encode()))
        except (ValueError, RecursionError):
            break
        place = end
    return found, text[place:].encode("utf-8", "surrogateescape")


# --- chats and messages ---------------------------------------------------------------------------------------------


class Head(NamedTuple):
    """What stands before the messages of a chat."""

    kind: str
    id: int | None
    name: str | None
    in_account: bool  # one chat of an account's many

    @property
    def is_wanted(self) -> bool:
        """Whether it is a channel or a group."""
        return self.kind in KINDS and self.id is not None


class Damage(NamedTuple):
    """Bytes that cannot be read."""

    message_id: int | None
    reason: str
    is_doubtful: bool = False  # the start of another chat may be among them


_ACCOUNT = re.compile(rb'"(?:left_)?chats"\s*:\s*\{')
_CLOSED = re.compile(rb"\][\s\]},]*\Z")


def read_events(
    file: BinaryIO, name: str, total: int
) -> Iterator[Head | Damage | Skipped | BytesRead | dict[str, Any]]:
    """Read the heads of chats, and after each its messages; those of private talks are counted unread.

    Parameters
    ----------
    file : BinaryIO
        The export, at its start.
    name : str
        Of the file, for people.
    total : int
        Its size in bytes.

    Yields
    ------
    Head
        Before the messages of a chat.
    dict
        A message, as JSON.
    Damage, Skipped, BytesRead
        As they come.

    Raises
    ------
    BadExport
        No chat can be found.
    """
    head: Head | None = None
    in_account = False
    passed = 0
    rest = b""
    for piece in _pieces(file, total):
        if isinstance(piece, BytesRead):
            yield piece
            continue
        rest = piece.data
        if head is None:
            in_account = _ACCOUNT.search(rest) is not None
        elif not head.is_wanted:
            passed += piece.message_id is not None
        elif not piece.is_cut_short:
            messages, rest = _messages(piece)
            yield from messages
            is_end = piece.is_headed or (piece.is_last and (in_account or _CLOSED.match(rest)))
            if rest and not (rest.startswith(b"]") and is_end):
                yield _damage(piece, rest, opens=not messages, in_account=in_account)
        elif piece.is_too_large:
            yield Damage(piece.message_id, f"larger than {MAX_MESSAGE_BYTES >> 20} MB", is_doubtful=in_account)
        found = _head(rest, in_account) if piece.is_headed else None
        if found is None and (found := _damaged_head(rest, in_account)) is not None:
            yield Damage(None, "the description of a chat is damaged")
        elif found is None and (head is None or piece.is_headed):
            if not in_account:
                raise BadExport(f"{name} holds no chat that can be read.", cure=CHOOSE_JSON)
            yield Damage(None, "the description of a chat is damaged; its messages are left out")
            found = Head("unknown", None, None, in_account)
        if found is not None:
            if passed and head is not None:
                yield Skipped(None, None, head.kind, passed)
            head, passed = found, 0
            yield head
    if passed and head is not None:
        yield Skipped(None, None, head.kind, passed)
    if not _CLOSED.search(rest):
        yield Damage(None, "the file ends before its list of messages does; later messages may be missing")


def _damage(piece: _Piece, rest: bytes, *, opens: bool, in_account: bool) -> Damage:
    """Say what is wrong with bytes that cannot be parsed; `opens` where they are the message the piece opens with."""
    found = re.search(rb'"id"\s*:\s*(-?\d{1,18})\b', rest) if rest.startswith(b"{") else None
    message_id = piece.message_id if opens else int(found[1]) if found else None
    if piece.is_last and rest.startswith(b"{"):
        return Damage(message_id, "the file ends inside this message")
    try:
        rest.decode()
    except UnicodeDecodeError:
        return Damage(message_id, "bytes that are not UTF-8", in_account)
    return Damage(message_id, "damaged JSON", in_account)


def _head(data: bytes, in_account: bool) -> Head | None:
    """Parse the head of a chat (``name, type, id``) that ends `data`."""
    data = _mend(data[-_TAIL_BYTES:])
    cut = place = data.rfind(b'"messages"')
    for _ in range(64):
        place = data.rfind(b"{", 0, max(place, 0))
        if place < 0:
            break
        try:
            value = orjson.loads(data[place:cut].rstrip(b", \r\n\t") + b"}")
        except orjson.JSONDecodeError:
            continue
        kind, number, title = value.get("type"), value.get("id"), value.get("name")
        if type(number) is int and 0 < number < 2**63:
            return Head(str(kind or "unknown"), number, title if isinstance(title, str) else None, in_account)
    return None


_KIND = re.compile(rb'"type"\s*:\s*"(' + "|".join(sorted(KINDS | TALKS)).encode() + rb')"')
_HEAD_ID = re.compile(rb'"id"\s*:\s*(\d{1,18})\s*[,}\]]')
_HEAD_NAME = re.compile(rb'"name"\s*:\s*("(?:[^"\\\n]|\\.)*")')


def _damaged_head(data: bytes, in_account: bool) -> Head | None:
    """Collect what is left of a damaged head of a chat; None without its kind and, for a channel or group, its id."""
    kinds = list(_KIND.finditer(data))
    if not kinds:
        return None
    kind = kinds[-1]
    number = _HEAD_ID.search(data, kind.end())
    if number is None and kind[1].decode() in KINDS:
        return None
    names = _HEAD_NAME.findall(data, 0, kind.start())
    try:
        title = orjson.loads(_mend(names[-1])) if names else None
    except orjson.JSONDecodeError:
        title = None
    return Head(kind[1].decode(), int(number[1]) if number else None, title, in_account)
