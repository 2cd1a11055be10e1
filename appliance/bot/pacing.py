"""When a message may be sent: Telegram's limits kept from our side, its `retry_after` obeyed. Pure but for a clock.

Limits: about one message a second into a chat, 20 a minute into a group, 30 a second in all; edits and drafts count
(https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

MAX_CHATS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to send: at most so many messages in any window of so many seconds, a little under the limits.

    Attributes
    ----------
    chat, group, overall : (int, float)
        Messages and seconds.
    speed : float
        All rates times this; above 1 only against a server with looser limits.
    """

    chat: tuple[int, float] = (3, 3.3)
    group: tuple[int, float] = (19, 61.0)
    overall: tuple[int, float] = (28, 1.0)
    speed: float = 1.0


@dataclass(slots=True)
class Window:
    """At most `most` events in any `seconds`, by their times."""

    most: int
    seconds: float
    times: deque[float] = field(default_factory=deque)

    def wait_s(self, now: float, spare: int = 0) -> float:
        """Seconds until one more fits and `spare` more places stay free."""
        if self.is_idle(now):
            return 0.0
        over = len(self.times) + 1 + spare - self.most
        return 0.0 if over <= 0 else self.times[min(over, len(self.times)) - 1] + self.seconds - now

    def is_idle(self, now: float) -> bool:
        """Forget events that left the window; tell whether any is left."""
        while self.times and self.times[0] <= now - self.seconds:
            self.times.popleft()
        return not self.times


class Pacer:
    """Knows what was sent lately and what Telegram refused.

    Parameters
    ----------
    pace : Pace
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self._overall = self._window(pace.overall)
        self._chats: dict[int, Window] = {}
        self._groups: dict[int, Window] = {}
        self._blocked: dict[int | None, float] = {}  # None: every chat

    def wait_s(self, chat_id: int | None, *, spare: bool = False) -> float:
        """Return how long to wait before a message into a chat.

        Parameters
        ----------
        chat_id : int or None
            Negative for groups; None for a call that belongs to no chat.
        spare : bool
            Whether room must stay for a more important message after it.

        Returns
        -------
        float
            Seconds; 0 when it may go now.
        """
        now = self._clock()
        waits = [
            self._blocked.get(None, now) - now,
            self._blocked.get(chat_id, now) - now,
            self._overall.wait_s(now, self._overall.most // 2 if spare else 0),
        ]
        if chat_id is not None:
            waits.append(self._of(self._chats, chat_id, self._pace.chat).wait_s(now, int(spare)))
        if chat_id is not None and chat_id < 0:
            waits.append(self._of(self._groups, chat_id, self._pace.group).wait_s(now, 5 if spare else 0))
        return max(0.0, *waits)

    def sent(self, chat_id: int | None) -> float:
        """Count a message about to be sent into a chat; returns when, for `answered`."""
        now = self._clock()
        self._overall.times.append(now)
        if chat_id is not None:
            self._of(self._chats, chat_id, self._pace.chat).times.append(now)
        if chat_id is not None and chat_id < 0:
            self._of(self._groups, chat_id, self._pace.group).times.append(now)
        return now

    def answered(self, sent: float) -> None:
        """Count a message in all from its answer on: one that came late is not too close to those after it."""
        with suppress(ValueError):  # it has left the window
            self._overall.times.remove(sent)
        self._overall.times.append(self._clock())

    def block(self, chat_id: int | None, seconds: float) -> None:
        """Send nothing into a chat (None: anywhere) for some seconds."""
        self._blocked[chat_id] = max(self._blocked.get(chat_id, 0.0), self._clock() + seconds)
        self._forget_old()

    def is_blocked(self, chat_id: int | None) -> bool:
        """Tell whether Telegram asked to wait with this chat."""
        now = self._clock()
        return max(self._blocked.get(None, 0.0), self._blocked.get(chat_id, 0.0)) > now

    def _window(self, limit: tuple[int, float]) -> Window:
        return Window(limit[0], limit[1] / self._pace.speed)

    def _of(self, windows: dict[int, Window], chat_id: int, limit: tuple[int, float]) -> Window:
        if chat_id not in windows:
            self._forget_old()
            windows[chat_id] = self._window(limit)
        return windows[chat_id]

    def _forget_old(self) -> None:
        now = self._clock()
        for windows in (self._chats, self._groups):
            if len(windows) >= MAX_CHATS_KEPT:
                for chat_id in [key for key, window in windows.items() if window.is_idle(now)]:
                    del windows[chat_id]
        if len(self._blocked) >= MAX_CHATS_KEPT:
            self._blocked = {key: until for key, until in self._blocked.items() if until > now}
