"""Who logs in by Telegram: what its login page and its mini apps sign with the bot's token, checked. Pure.

The formats: https://core.telegram.org/widgets/login#checking-authorization and
https://core.telegram.org/bots/webapps#validating-data-received-via-the-mini-app
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl

import orjson

FRESH_S = 300  # how long what Telegram signed is taken
AHEAD_S = 60  # how far its clock may be before ours
MAX_CHARS = 4096
_FIELDS = frozenset({"id", "first_name", "last_name", "username", "photo_url", "auth_date"})


def by_login_page(fields: Mapping[str, object], token: str, now: float) -> int | None:
    """Check what Telegram's login page hands over.

    Parameters
    ----------
    fields : mapping
        ``id``, ``auth_date``, ``hash`` and more, as received.
    token : str
        The bot's.
    now : float
        Seconds since the epoch.

    Returns
    -------
    int or None
        Telegram's number of the person; None for what is forged, altered, or older than `FRESH_S`.
    """
    given = fields.get("hash")
    if not token or not isinstance(given, str) or not set(fields) - {"hash"} <= _FIELDS:
        return None
    lines = "\n".join(f"{name}={fields[name]}" for name in sorted(fields) if name != "hash")
    key = hashlib.sha256(token.encode()).digest()
    if len(lines) > MAX_CHARS or not _is_signed(lines, key, given) or not _is_fresh(fields.get("auth_date"), now):
        return None
    return _number(fields.get("id"))


def by_mini_app(data: str, token: str, now: float) -> int | None:
    """Check the ``initData`` of a mini app.

    Parameters
    ----------
    data : str
        A query string, as Telegram made it.
    token : str
        The bot's.
    now : float
        Seconds since the epoch.

    Returns
    -------
    int or None
        As `by_login_page`.
    """
    if not token or len(data) > MAX_CHARS:
        return None
    pairs = parse_qsl(data, keep_blank_values=True)
    fields = dict(pairs)
    given = fields.pop("hash", "")
    if len(fields) != len(pairs) - 1:  # a name given twice
        return None
    lines = "\n".join(f"{name}={fields[name]}" for name in sorted(fields))
    key = hmac.new(b"WebAppData", token.encode(), hashlib.sha256).digest()
    if not _is_signed(lines, key, given) or not _is_fresh(fields.get("auth_date"), now):
        return None
    try:
        user = orjson.loads(fields.get("user", ""))
    except orjson.JSONDecodeError:
        return None
    return _number(user.get("id")) if isinstance(user, dict) else None


def _is_signed(lines: str, key: bytes, given: str) -> bool:
    digest = hmac.new(key, lines.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest.encode(), given.encode("utf-8", "replace"))


def _is_fresh(moment: object, now: float) -> bool:
    number = _number(moment)
    return number is not None and -AHEAD_S <= now - number <= FRESH_S


def _number(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else None
