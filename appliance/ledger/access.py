"""Who may do what: roles, keys of the API, and the log of administrative acts."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from appliance.errors import BadInput
from appliance.ledger.database import Database
from appliance.ledger.rows import storable
from appliance.ledger.tables import api_key, event, user

ROLES = ("owner", "admin", "moderator", "trusted", "member", "guest")  # the mightiest first
SCOPES = ("ask", "search", "read", "rate")
KEY_MARK = "pf"  # first letters of every key


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the API, without its secret."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    per_minute: int
    made_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class Access:
    """Roles, API keys and the audit log; blocking, thread-safe.

    Parameters
    ----------
    database : Database

    Attributes
    ----------
    roles_set : int
        How often roles were given since the start.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.roles_set = 0
        self._keys: dict[str, tuple[ApiKey, str]] = {}
        for row in database.read(sa.select(*api_key.c)):
            self._keys[row.key_id] = (_key_of(row), row.digest)

    def role(self, user_id: int | None) -> str:
        """Return a person's role; ``guest`` for who is not registered."""
        rows = self._database.read(sa.select(user.c.role).where(user.c.user_id == (user_id or 0)))
        return str(rows[0][0]) if rows else "guest"

    def set_role(self, user_id: int, role: str) -> bool:
        """Give a person a role.

        Parameters
        ----------
        user_id : int
        role : str
            Of `ROLES`.

        Returns
        -------
        bool
            False when there is no such person.

        Raises
        ------
        BadInput
            No such role.
        """
        if role not in ROLES:
            raise BadInput("There is no such role.", cure=f"Roles are {', '.join(ROLES)}.")
        statement = sa.update(user).where(user.c.user_id == user_id).values(role=role)
        is_given = self._database.write(lambda connection: bool(connection.execute(statement).rowcount))
        self.roles_set += 1
        return is_given

    def make_key(self, name: str, *, scopes: tuple[str, ...], days: int, per_minute: int) -> tuple[ApiKey, str]:
        """Make a key of the API.

        Parameters
        ----------
        name : str
            For whom, as the operator calls it.
        scopes : tuple of str
            Of `SCOPES`.
        days : int
            How long it is good, 1 to 3650.
        per_minute : int
            Most calls a minute.

        Returns
        -------
        (ApiKey, str)
            The record, and the key itself, which is stored nowhere.

        Raises
        ------
        BadInput
            An unknown scope, or days or calls out of range.
        """
        if not scopes or set(scopes) - set(SCOPES):
            raise BadInput("There is no such scope.", cure=f"Scopes are {', '.join(SCOPES)}.")
        if not 1 <= days <= 3650 or not 1 <= per_minute <= 100_000:
            raise BadInput("A key is good for 1 to 3650 days and 1 to 100000 calls a minute.", cure="Choose fewer.")
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        made = ApiKey(key_id, name, scopes, per_minute, now, now + timedelta(days=days), None)
        digest = _digest(secret)
        row = {
            "key_id": key_id,
            "name": name,
            "digest": digest,
            "scopes": list(scopes),
            "per_minute": per_minute,
            "made_at": now,
            "expires_at": made.expires_at,
            "revoked_at": None,
        }
        self._database.write(lambda connection: connection.execute(sa.insert(api_key).values(row)))
        self._keys[key_id] = (made, digest)
        return made, f"{KEY_MARK}_{key_id}_{secret}"

    def key(self, given: str) -> ApiKey | None:
        """Return the record of a key that is good now.

        Parameters
        ----------
        given : str
            As `make_key` returned it.

        Returns
        -------
        ApiKey or None
            None for one that is unknown, wrong, revoked or expired; compared in constant time.
        """
        mark, _, rest = given.partition("_")
        key_id, _, secret = rest.partition("_")
        known = self._keys.get(key_id) if mark == KEY_MARK else None
        digest = known[1] if known else "0" * 64
        is_right = hmac.compare_digest(_digest(secret), digest)
        if known is None or not is_right or known[0].revoked_at or known[0].expires_at <= datetime.now(UTC):
            return None
        return known[0]

    def keys(self) -> list[ApiKey]:
        """List the keys, the newest first."""
        return sorted((key for key, _ in self._keys.values()), key=lambda key: key.made_at, reverse=True)

    def revoke_key(self, key_id: str) -> bool:
        """Make a key good for nothing, at once; False when there is none."""
        if key_id not in self._keys:
            return False
        statement = sa.update(api_key).where(api_key.c.key_id == key_id).values(revoked_at=datetime.now(UTC))
        self._database.write(lambda connection: connection.execute(statement))
        row = self._database.read(sa.select(*api_key.c).where(api_key.c.key_id == key_id))[0]
        self._keys[key_id] = (_key_of(row), row.digest)
        return True

    def record(
        self, kind: str, *, actor_id: int | None = None, subject: str = "", detail: dict[str, Any] | None = None
    ) -> None:
        """Append an administrative act or an error to the log of events.

        Parameters
        ----------
        kind : str
            ``"ban"``, ``"error.telegram"``, …
        actor_id : int, optional
            Who did it.
        subject : str
            Whom or what it concerns; never a message's text.
        detail : dict, optional
            JSON-ready.
        """
        row = {
            "happened_at": datetime.now(UTC),
            "kind": kind,
            "actor_id": actor_id,
            "subject": storable(subject),
            "detail": detail or {},
        }
        self._database.write(lambda connection: connection.execute(sa.insert(event).values(row)))

    def acts(self, limit: int = 100) -> list[dict[str, Any]]:
        """List the newest administrative acts.

        Parameters
        ----------
        limit : int

        Returns
        -------
        list of dict
            JSON-ready, newest first.
        """
        statement = sa.select(*event.c).order_by(event.c.event_id.desc()).limit(limit)
        return [dict(row._mapping) for row in self._database.read(statement)]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()  # 32 random bytes need no slow hash


def _key_of(row: Any) -> ApiKey:
    return ApiKey(row.key_id, row.name, tuple(row.scopes), row.per_minute, row.made_at, row.expires_at, row.revoked_at)
