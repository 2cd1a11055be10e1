"""Links to messages: built from (channel, message id), and read back. Pure.

Shapes are those of https://core.telegram.org/api/links ("Message links").
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from appliance.schema import MEMBERS_ANSWERS, Channel, PostKey, guarded_by

USERNAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{3,31}")

_HOSTS = frozenset({"t.me", "telegram.me", "telegram.dog"})
# First parts of t.me paths that are no usernames: https://core.telegram.org/api/links
_RESERVED = frozenset(
    "addemoji addlist addstickers addtheme auction boost call confirmphone contact giftcode invoice joinchat login"
    " message nft proxy setlanguage share socks stargift".split()
)
_ANSWER = re.compile(r"a(\d{1,15})(?:-(\d{1,13}))?", re.ASCII)
_MAX_ID = 2**63 - 1


def post_link(channel: Channel, message_id: int, topic_id: int | None = None) -> str:
    """Build the link of a message.

    Parameters
    ----------
    channel : Channel
        With a username the link is public, otherwise it opens for members only.
    message_id : int
        Positive id. A message that came from the small group which became this supergroup has a negative id and no
        link of its own: the link then opens the start of the supergroup, above which it stands.
    topic_id : int, optional
        Id of the topic's first message, in a group with topics.

    Returns
    -------
    str
        ``https://t.me/name/id``, ``https://t.me/c/id/id``, with ``/topic`` before the message where given; empty for
        a small private group (kind ``private_group``), whose messages have no links in Telegram. A member's answer
        opens in the bot, whose username its channel bears.
    """
    if channel.kind == "answers":  # the bot shows them
        name = answer_name((channel.id, message_id))
        return f"https://t.me/{channel.username}?start={name}" if channel.username else ""
    if channel.kind == "private_group" and channel.username is None:
        return ""
    base = f"https://t.me/{channel.username}" if channel.username else f"https://t.me/c/{channel.id}"
    if message_id < 1:
        return f"{base}/1"
    if topic_id is not None and topic_id > 0 and topic_id != message_id:
        return f"{base}/{topic_id}/{message_id}"
    return f"{base}/{message_id}"


def answer_name(key: PostKey) -> str:
    """Name a member's answer for a link that opens it in the bot: ``a12``, of a closed channel ``a12-1465826763``."""
    closed = guarded_by(key[0])
    return f"a{key[1]}" if closed == key[0] else f"a{key[1]}-{closed}"


def answer_key(name: str) -> PostKey | None:
    """Read such a name back; None for anything else."""
    found = _ANSWER.fullmatch(name)
    return (MEMBERS_ANSWERS + int(found[2] or 0), int(found[1])) if found else None


def parse_link(text: str) -> tuple[str | int, int] | None:
    """Read a message link back.

    Understands what `post_link` builds and what people paste: without a scheme, ``telegram.me``, ``name.t.me``, the web
    preview ``t.me/s/name/id``, ``?single``, ``?thread=``, ``tg://resolve`` and ``tg://privatepost``.

    Parameters
    ----------
    text : str
        One link, spaces around it allowed.

    Returns
    -------
    (str or int, int) or None
        Username without ``@`` (public) or bare channel id (private), and the message id; None where the text is not
        the link of a message.
    """
    text = text.strip()
    if len(text) > 2048 or any(mark.isspace() for mark in text):
        return None
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").removeprefix("www.")
        port = parts.port
    except ValueError:  # a host or a port that is none
        return None
    if parts.scheme == "tg":
        return _parse_tg(host, parse_qs(parts.query))
    if parts.scheme not in {"http", "https"} or port not in {None, 80, 443} or parts.username is not None:
        return None
    steps = [step for step in parts.path.split("/") if step]
    if host not in _HOSTS:
        name, _, rest = host.partition(".")
        if rest != "t.me":
            return None
        steps = [name, *steps]
    if steps[:1] == ["c"] and 3 <= len(steps) <= 4:
        return _pair(_number(steps[1]), steps[2:])
    if steps[:1] == ["s"]:
        steps = steps[1:]
    if 2 <= len(steps) <= 3:
        return _pair(_name(steps[0]), steps[1:])
    return None


def _parse_tg(verb: str, query: dict[str, list[str]]) -> tuple[str | int, int] | None:
    """Read ``tg://resolve?domain=…&post=…`` and ``tg://privatepost?channel=…&post=…``."""
    if verb == "resolve":
        return _pair(_name(query.get("domain", [""])[0]), query.get("post", [""]))
    if verb == "privatepost":
        return _pair(_number(query.get("channel", [""])[0]), query.get("post", [""]))
    return None


def _pair(channel: str | int | None, ids: list[str]) -> tuple[str | int, int] | None:
    """Join a channel with the last of its ids (the message; a topic may stand before it)."""
    numbers = [_number(step) for step in ids]
    message = numbers[-1]
    return None if channel is None or message is None or None in numbers else (channel, message)


def _number(text: str) -> int | None:
    """Positive 63-bit number of ASCII digits, else None."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    return number if 0 < (number := int(text)) <= _MAX_ID else None


def _name(text: str) -> str | None:
    """Username if it can be one, else None."""
    return text if USERNAME.fullmatch(text) and text.lower() not in _RESERVED else None
