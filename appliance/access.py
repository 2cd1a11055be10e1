"""Who may do what: roles, keys of the API with their limits, and the log of administrative acts."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from appliance.errors import BadInput, NotAllowed, SlowDown
from appliance.ledger import Ledger
from appliance.ledger.access import ApiKey
from appliance.notices import Notice, Notices

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Access:
    """The ledger's rights, with the calls of the last minute.

    Parameters
    ----------
    ledger : Ledger
    notices : Notices, optional
        Tell a person of their role, and set their menu of commands.
    clock : callable
        Seconds, never going back.
    """

    ledger: Ledger
    notices: Notices | None = None
    clock: Callable[[], float] = monotonic
    _calls: dict[str, deque[float]] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def roles_set(self) -> int:
        """How often roles were given since the start: what was known of them holds while it stays the same."""
        return self.ledger.access.roles_set

    async def role(self, user_id: int | None) -> str:
        """Return a person's role; ``guest`` for who is not registered."""
        return await asyncio.to_thread(self.ledger.access.role, user_id)

    async def set_role(self, who: str, role: str) -> None:
        """Give a person a role and tell them; nobody becomes owner by being first.

        Parameters
        ----------
        who : str
            ``@username``, the ledger's user id, or ``telegram:`` and Telegram's id.
        role : str

        Raises
        ------
        BadInput
            No such person or role.
        """
        found = await asyncio.to_thread(self.ledger.people.find, who)
        before = await self.role(found.user_id) if found is not None else ""
        if found is None or not await asyncio.to_thread(self.ledger.access.set_role, found.user_id, role):
            raise BadInput("Nobody of that name is known.", cure="They must have written to the bot first.")
        await self._act("role", f"user:{found.user_id}", {"role": role})
        if self.notices is not None and role != before:
            await self.notices.add([role_given(found.user_id, role)])

    async def make_key(self, name: str, *, scopes: tuple[str, ...], days: int, per_minute: int) -> tuple[ApiKey, str]:
        """Make a key of the API; the key itself is returned once and stored nowhere."""
        made = await asyncio.to_thread(
            self.ledger.access.make_key, name, scopes=scopes, days=days, per_minute=per_minute
        )
        await self._act("key.create", f"key:{made[0].key_id}", {"scopes": list(scopes), "days": days})
        return made

    async def revoke_key(self, key_id: str) -> None:
        """Make a key good for nothing.

        Raises
        ------
        BadInput
            No such key.
        """
        if not await asyncio.to_thread(self.ledger.access.revoke_key, key_id):
            raise BadInput("There is no such key.", cure="`postfinder key list` lists them.")
        await self._act("key.revoke", f"key:{key_id}", {})

    def keys(self) -> list[ApiKey]:
        """List the keys, the newest first."""
        return self.ledger.access.keys()

    def key(self, given: str, scope: str) -> ApiKey | None:
        """Check a key that a caller shows.

        Parameters
        ----------
        given : str
        scope : str
            What the call needs.

        Returns
        -------
        ApiKey or None
            None for one that is unknown, wrong, revoked or expired.

        Raises
        ------
        NotAllowed
            The key is good, but not for this.
        SlowDown
            More calls in the last minute than it may make.
        """
        found = self.ledger.access.key(given)
        if found is None:
            return None
        if scope not in found.scopes:
            raise NotAllowed("This key may not do that.", cure=f"It is good for: {', '.join(found.scopes)}.")
        now = self.clock()
        with self._guard:
            calls = self._calls.setdefault(found.key_id, deque())
            while calls and calls[0] <= now - MINUTE_S:
                calls.popleft()
            if len(calls) >= found.per_minute:
                raise SlowDown("Too many calls with this key.", retry_after_s=calls[0] + MINUTE_S - now)
            calls.append(now)
        return found

    async def acts(self, limit: int = 100) -> list[dict[str, Any]]:
        """List the newest administrative acts."""
        return await asyncio.to_thread(self.ledger.access.acts, limit)

    async def grant(self, who: str, channel_id: int, *, may_read: bool) -> None:
        """Let a person read a closed channel, or no longer.

        Raises
        ------
        BadInput
            No such person.
        """
        found = await asyncio.to_thread(self.ledger.people.find, who)
        if found is None:
            raise BadInput("Nobody of that name is known.", cure="They must have written to the bot first.")
        change = self.ledger.grant if may_read else self.ledger.revoke
        await asyncio.to_thread(change, found.user_id, channel_id)
        await self._act(
            "member.grant" if may_read else "member.revoke", f"user:{found.user_id}", {"channel": channel_id}
        )

    async def _act(self, kind: str, subject: str, detail: dict[str, Any]) -> None:
        await asyncio.to_thread(self.ledger.access.record, kind, subject=subject, detail=detail)


def role_given(user_id: int, role: str) -> Notice:
    """Return the notice that tells a person of the role they were given now."""
    now = datetime.now(UTC)
    return Notice(f"role:{user_id}:{now:%Y%m%d%H%M%S%f}", user_id, "role", {"role": role}, now)
