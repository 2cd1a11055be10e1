"""Telegram's limits on sending, and faults on demand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

CROSSING_S = 0.25  # a refusal may still be on its way when a call arrives
FaultKind = Literal["429", "500", "502", "timeout", "reset", "lost"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast a bot may send.

    Attributes
    ----------
    chat_per_s, chat_burst : float, int
        Messages a second into one chat, and how many at once.
    group_per_min : int
        Messages a minute into one group.
    overall_per_s : float
        Messages a second in all.
    speed : float
        All rates times this; tests run faster than Telegram.
    """

    chat_per_s: float = 1.0
    chat_burst: int = 3
    group_per_min: int = 20
    overall_per_s: float = 30.0
    speed: float = 1.0


@dataclass(slots=True)
class Fault:
    """A fault to inject.

    Attributes
    ----------
    kind : str
        ``429``; ``500`` (JSON); ``502`` (a proxy's HTML page); ``timeout`` (silence, then a closed connection);
        ``reset`` (closed at once, nothing done); ``lost`` (done, but the reply is lost).
    methods : tuple of str
        Empty means every method but ``getUpdates``.
    probability : float
        Chance for a call to meet it.
    times : int or None
        How often it may strike; None has no limit.
    """

    kind: FaultKind
    methods: tuple[str, ...] = ()
    probability: float = 1.0
    times: int | None = None
    retry_after_s: int = 1
    hang_s: float = 1.0

    def strikes(self, method: str, chance: float) -> bool:
        """Tell whether it meets this call; `chance` is uniform in [0, 1)."""
        if self.times == 0 or (method not in self.methods if self.methods else method == "getUpdates"):
            return False
        if chance >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class _Bucket:
    rate: float
    size: float
    level: float
    at: float

    def wait(self, now: float) -> float:
        self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now
        return 0.0 if self.level >= 1 else (1 - self.level) / self.rate


@dataclass(slots=True)
class Flood:
    """Counts what is sent and refuses what is too much.

    Attributes
    ----------
    violations : int
        Calls made inside a ``retry_after`` that the bot must have heard of.
    """

    limits: Limits
    clock: Callable[[], float]
    violations: int = 0
    refused: int = 0
    _buckets: dict[object, _Bucket] = field(default_factory=dict)
    _since: dict[object, float] = field(default_factory=dict)
    _blocked: dict[object, float] = field(default_factory=dict)

    def retry_after(self, chat_id: object, *, is_group: bool) -> int:
        """Count a message into a chat; 0 lets it pass, else the seconds to wait."""
        now, speed = self.clock(), self.limits.speed
        if now < self._blocked.get(chat_id, 0.0):
            self.violations += now > self._since[chat_id] + CROSSING_S
            return math.ceil(self._blocked[chat_id] - now)
        asked = [
            self._bucket("all", self.limits.overall_per_s * speed, self.limits.overall_per_s * max(1, speed), now),
            self._bucket(chat_id, self.limits.chat_per_s * speed, self.limits.chat_burst * max(1, speed), now),
        ]
        if is_group:
            per_s = self.limits.group_per_min * speed / 60
            asked.append(self._bucket((chat_id, "group"), per_s, self.limits.group_per_min * max(1, speed), now))
        wait = max(bucket.wait(now) for bucket in asked)
        if wait > 0:
            self.refused += 1
            return self.block(chat_id, math.ceil(wait))
        for bucket in asked:
            bucket.level -= 1
        return 0

    def block(self, chat_id: object, seconds: int) -> int:
        """Refuse this chat for some seconds; returns them."""
        self._since[chat_id] = self.clock()
        self._blocked[chat_id] = self._since[chat_id] + seconds
        return seconds

    def _bucket(self, key: object, rate: float, size: float, now: float) -> _Bucket:
        return self._buckets.setdefault(key, _Bucket(rate, size, size, now))
