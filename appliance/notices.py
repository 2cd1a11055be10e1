"""Notices: what people are to be told once, whoever found it; the bot tells it when it is time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from appliance.ledger import Ledger
from appliance.ledger.notices import Notice

__all__ = ["Later", "Notice", "Notices"]


class Later(Exception):
    """Raised by who tells a notice: it may be told at `until`, not now."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


@dataclass(slots=True)
class Notices:
    """Notices of the ledger, with a bell for who tells them.

    Parameters
    ----------
    ledger : Ledger
    """

    ledger: Ledger
    bell: Callable[[], None] = field(default=lambda: None)  # rung when there are new ones, from any thread

    async def add(self, notices: Iterable[Notice]) -> int:
        """Store notices; one of a name that was stored before, told or not, changes nothing. Returns the new ones."""
        return await asyncio.to_thread(self.put, list(notices))

    def put(self, notices: Iterable[Notice]) -> int:
        """Do so from a thread. Blocking."""
        added = self.ledger.notices.add(notices)
        if added:
            self.bell()
        return added

    async def due(self, kinds: Iterable[str]) -> list[Notice]:
        """List what of these kinds may be told now, with its receiver's rights now."""
        return await asyncio.to_thread(self.ledger.notices.due, datetime.now(UTC), kinds=list(kinds))

    async def wait_s(self, kinds: Iterable[str]) -> float | None:
        """Seconds until the next one of these kinds may be told; None when none waits."""
        moment = await asyncio.to_thread(self.ledger.notices.next_at, list(kinds))
        return None if moment is None else max(0.0, (moment - datetime.now(UTC)).total_seconds())

    async def postpone(self, notice_id: str, until: datetime) -> None:
        """Tell one later."""
        await asyncio.to_thread(self.ledger.notices.postpone, notice_id, until)

    async def queued(self, ids: Sequence[str]) -> None:
        """Say that these went to the sender, or need not be told any more."""
        await asyncio.to_thread(self.ledger.notices.queued, ids)
