"""Sessions of those who keep order at the admin pages: links that work once, logins by Telegram. In RAM alone."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from appliance.telegram_login import FRESH_S, by_login_page, by_mini_app

LINK_S = 300.0  # how long a link works, once
IDLE_S = 3600.0  # a session that nobody used so long ends
LONGEST_S = 12 * 3600.0  # and every session ends then
MOST = 500  # sessions and links kept; the oldest go


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody logged in; ``csrf`` must come with every change."""

    user_id: int
    csrf: str
    began: float
    seen: float


class Sessions:
    """Links and sessions by the digest of their secret; a restart ends them all.

    Parameters
    ----------
    token : str
        The bot's, whose signatures are checked; empty lets nobody in by Telegram's signature.
    clock : callable
        Seconds since the epoch.

    Attributes
    ----------
    address : str
        Where the web door is reached; set once it is open.
    """

    def __init__(self, token: str, address: str = "", clock: Callable[[], float] = time.time) -> None:
        self._token = token
        self.address = address.rstrip("/")
        self._clock = clock
        self._links: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()  # signatures that let somebody in

    def link(self, user_id: int) -> tuple[str, int]:
        """Make a link that logs a person in once.

        Returns
        -------
        (str, int)
            The address, its secret in the fragment (which no server logs), and the minutes it works.
        """
        secret = secrets.token_urlsafe(32)
        _keep(self._links, _digest(secret), (user_id, self._clock() + LINK_S))
        return f"{self.address}/admin#once={secret}", int(LINK_S // 60)

    def by_link(self, secret: str) -> int | None:
        """Return whose link it is, once; None for one that is unknown, used or too old."""
        user_id, until = self._links.pop(_digest(secret), (0, 0.0))
        return user_id if until > self._clock() else None

    def by_telegram(self, *, fields: Mapping[str, object] | None = None, data: str = "") -> int | None:
        """Return Telegram's number of who was signed for, by the login page or a mini app; each signature works once.

        Parameters
        ----------
        fields : mapping, optional
            Of the login page.
        data : str
            ``initData`` of a mini app.

        Returns
        -------
        int or None
        """
        now = self._clock()
        found = by_mini_app(data, self._token, now) if fields is None else by_login_page(fields, self._token, now)
        if found is None:
            return None
        mark = _digest(data if fields is None else str(fields.get("hash")))
        while self._used and next(iter(self._used.values())) < now - 2 * FRESH_S:
            self._used.popitem(last=False)
        if mark in self._used or len(self._used) >= 100 * MOST:
            return None
        self._used[mark] = now
        return found

    def begin(self, user_id: int) -> tuple[str, Session]:
        """Begin a session; returns its secret, which is kept nowhere, and the session."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        session = Session(user_id, secrets.token_urlsafe(24), now, now)
        _keep(self._sessions, _digest(secret), session)
        return secret, session

    def get(self, secret: str) -> Session | None:
        """Return the session of a secret, if it has not ended, and keep it alive."""
        mark, now = _digest(secret), self._clock()
        session = self._sessions.get(mark)
        if session is None:
            return None
        if now - session.seen > IDLE_S or now - session.began > LONGEST_S:
            del self._sessions[mark]
            return None
        self._sessions[mark] = replace(session, seen=now)
        return session

    def end(self, secret: str) -> None:
        """End a session."""
        self._sessions.pop(_digest(secret), None)

    def end_all(self, user_id: int) -> None:
        """End every session and link of a person."""
        for mark in [mark for mark, one in self._sessions.items() if one.user_id == user_id]:
            del self._sessions[mark]
        for mark in [mark for mark, one in self._links.items() if one[0] == user_id]:
            del self._links[mark]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _keep(kept: OrderedDict[str, Any], mark: str, value: object) -> None:
    kept[mark] = value
    if len(kept) > MOST:
        kept.popitem(last=False)
