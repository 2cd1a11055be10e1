"""Order in the ledger: who was let in, who waits, who is banned until when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from appliance.ledger.database import Database
from appliance.ledger.rows import storable
from appliance.ledger.sealing import open_row, seal_row
from appliance.ledger.tables import admission, ban, barred, invited, user
from appliance.vault import Vault

STAFF = ("owner", "admin", "moderator")
SCANNED = 20_000  # newest-seen people whose names are opened to find one


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban in force; ``until`` None has no end."""

    user_id: int
    cause: str
    reason: str
    since: datetime
    until: datetime | None
    appeal: str = ""
    appealed_at: datetime | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A person as those who keep order see them."""

    user_id: int
    telegram_id: int
    username: str | None
    first_name: str
    last_name: str | None
    role: str
    language: str
    registered_at: datetime
    seen_at: datetime
    state: str | None = None  # waiting, member, refused; None where nobody decided
    ban: Ban | None = None

    @property
    def name(self) -> str:
        """First and last name, and the @username."""
        return " ".join(filter(None, (self.first_name, self.last_name, self.username and f"@{self.username}")))


class Order:
    """Admission and bans; blocking, thread-safe.

    Parameters
    ----------
    database : Database
    vault : Vault or None
    """

    def __init__(self, database: Database, vault: Vault | None) -> None:
        self._database = database
        self._vault = vault

    def hash_of(self, kind: str, value: str) -> str:
        """Return the keyed hash under which somebody is invited or barred."""
        return self._vault.blind(kind, value) if self._vault else value[-16:]

    def staff(self) -> list[Member]:
        """List those who keep order, the mightiest first."""
        found = self._members(sa.select(*_COLUMNS).where(user.c.role.in_(STAFF)))
        return sorted(found, key=lambda one: (STAFF.index(one.role), one.user_id))

    def trusted(self) -> list[Member]:
        """List the members who are trusted with the questions that wait, and keep no order."""
        return self._members(sa.select(*_COLUMNS).where(user.c.role == "trusted").order_by(user.c.user_id))

    def member(self, user_id: int) -> Member | None:
        """Return one person with their admission and ban."""
        return next(iter(self._members(sa.select(*_COLUMNS).where(user.c.user_id == user_id))), None)

    def members(self, *, only: str = "", wanted: str = "", skip: int = 0, limit: int = 50) -> tuple[list[Member], int]:
        """List people, the last seen first.

        Parameters
        ----------
        only : str
            ``waiting``, ``refused``, ``banned``, ``staff``, or empty for all.
        wanted : str
            Part of a name or of a number.
        skip, limit : int

        Returns
        -------
        (list of Member, int)
            A page of them, and how many there are.
        """
        statement = sa.select(*_COLUMNS).order_by(user.c.seen_at.desc(), user.c.user_id)
        if only in {"waiting", "refused"}:
            state = sa.select(admission.c.user_id).where(admission.c.state == only)
            statement = statement.where(user.c.user_id.in_(state))
        elif only == "banned":
            statement = statement.where(user.c.user_id.in_(sa.select(ban.c.user_id)))
        elif only == "staff":
            statement = statement.where(user.c.role.in_(STAFF))
        if wanted.strip():
            part = wanted.strip().lstrip("@").casefold()
            found = self._members(statement.limit(SCANNED))
            found = [one for one in found if part in f"{one.name} {one.user_id} {one.telegram_id}".casefold()]
            return found[skip : skip + limit], len(found)
        count = self._database.read(sa.select(sa.func.count()).select_from(statement.order_by(None).subquery()))
        return self._members(statement.offset(skip).limit(limit)), int(count[0][0])

    def _members(self, statement: sa.Select[Any]) -> list[Member]:
        rows = [open_row(self._vault, "user", dict(row._mapping)) for row in self._database.read(statement)]
        ids = [row["user_id"] for row in rows]
        states: dict[int, str] = {}
        bans: dict[int, Ban] = {}
        for start in range(0, len(ids), 1000):
            page = ids[start : start + 1000]
            known = sa.select(admission.c.user_id, admission.c.state).where(admission.c.user_id.in_(page))
            states.update({row[0]: row[1] for row in self._database.read(known)})
            bans.update({one.user_id: one for one in self._bans(ban.c.user_id.in_(page))})
        return [Member(**row, state=states.get(row["user_id"]), ban=bans.get(row["user_id"])) for row in rows]

    def known_before(self, moment: datetime) -> set[int]:
        """Return Telegram's numbers of the people who came before a moment."""
        rows = self._database.read(sa.select(user.c.telegram_id).where(user.c.registered_at < moment))
        return {row[0] for row in rows}

    # Admission

    def state(self, user_id: int) -> tuple[str | None, str, datetime | None]:
        """Return what was decided of a person, their role, and when they came."""
        columns = (admission.c.state, user.c.role, user.c.registered_at)
        joined = user.outerjoin(admission, admission.c.user_id == user.c.user_id)
        rows = self._database.read(sa.select(*columns).select_from(joined).where(user.c.user_id == user_id))
        return (rows[0][0], str(rows[0][1]), rows[0][2]) if rows else (None, "guest", None)

    def set_state(self, user_id: int, state: str) -> bool:
        """Note that a person waits, was let in or refused; False when that was already so."""
        now = datetime.now(UTC)

        def save(connection: sa.Connection) -> bool:
            known = connection.execute(sa.select(*admission.c).where(admission.c.user_id == user_id)).first()
            if known is not None and known.state == state:
                return False
            decided = None if state == "waiting" else now
            values = {"user_id": user_id, "state": state, "decided_at": decided}
            values["asked_at"] = now if known is None or state == "waiting" else known.asked_at
            connection.execute(sa.delete(admission).where(admission.c.user_id == user_id))
            connection.execute(sa.insert(admission).values(values))
            return True

        return self._database.write(save)

    def waiting(self) -> int:
        """Count those who wait to be let in."""
        counted = sa.select(sa.func.count()).select_from(admission).where(admission.c.state == "waiting")
        return int(self._database.read(counted)[0][0])

    def invite(self, names: Iterable[str]) -> int:
        """Let people in before they write.

        Parameters
        ----------
        names : iterable of str
            ``@username`` or Telegram's number each; only a keyed hash is kept.

        Returns
        -------
        int
            Those who were not invited yet.
        """
        hashes = {self.hash_of("invited", _plain(name)) for name in names if _plain(name)}

        def save(connection: sa.Connection) -> int:
            known = {row[0] for row in connection.execute(sa.select(invited.c.who))}
            fresh = hashes - known
            for who in sorted(fresh):
                connection.execute(sa.insert(invited).values(who=who, added_at=datetime.now(UTC)))
            return len(fresh)

        return self._database.write(save)

    def uninvite(self, names: Iterable[str]) -> int:
        """Take invitations back; returns how many there were."""
        hashes = [self.hash_of("invited", _plain(name)) for name in names if _plain(name)]
        statement = sa.delete(invited).where(invited.c.who.in_(hashes))
        return self._database.write(lambda connection: connection.execute(statement).rowcount)

    def is_invited(self, telegram_id: int, username: str | None) -> bool:
        """Whether somebody was invited by name or number."""
        names = [str(telegram_id), *([username.casefold()] if username else [])]
        hashes = [self.hash_of("invited", name) for name in names]
        return bool(self._database.read(sa.select(invited.c.who).where(invited.c.who.in_(hashes)).limit(1)))

    def invitations(self) -> int:
        """Count the invitations in force."""
        return int(self._database.read(sa.select(sa.func.count()).select_from(invited))[0][0])

    # Bans

    def save_ban(self, made: Ban, telegram_id: int) -> None:
        """Store a ban, instead of the person's earlier one."""
        row = {**{name: getattr(made, name) for name in Ban.__dataclass_fields__}, "reason": storable(made.reason)}
        sealed = seal_row(self._vault, "ban", {**row, "appeal": storable(made.appeal)})
        who = self.hash_of("barred", str(telegram_id))

        def save(connection: sa.Connection) -> None:
            connection.execute(sa.delete(ban).where(ban.c.user_id == made.user_id))
            connection.execute(sa.insert(ban).values(sealed))
            connection.execute(sa.delete(barred).where(barred.c.who == who))
            connection.execute(sa.insert(barred).values(who=who, until=made.until))

        self._database.write(save)

    def lift(self, user_id: int, telegram_id: int) -> bool:
        """End a ban; False when there is none."""
        who = self.hash_of("barred", str(telegram_id))

        def act(connection: sa.Connection) -> bool:
            connection.execute(sa.delete(barred).where(barred.c.who == who))
            return bool(connection.execute(sa.delete(ban).where(ban.c.user_id == user_id)).rowcount)

        return self._database.write(act)

    def bans(self) -> list[Ban]:
        """List the bans, the newest first; those that ended among them until `end_bans`."""
        return sorted(self._bans(sa.true()), key=lambda one: one.since, reverse=True)

    def _bans(self, which: sa.ColumnElement[bool]) -> list[Ban]:
        rows = self._database.read(sa.select(*ban.c).where(which))
        return [Ban(**open_row(self._vault, "ban", dict(row._mapping))) for row in rows]

    def barred(self) -> dict[str, datetime | None]:
        """Return the ends of bans by keyed hash of the person."""
        return {row[0]: row[1] for row in self._database.read(sa.select(barred.c.who, barred.c.until))}

    def end_bans(self, now: datetime) -> list[int]:
        """Remove the bans whose term is over; returns their people."""

        def act(connection: sa.Connection) -> list[int]:
            over = [row[0] for row in connection.execute(sa.select(ban.c.user_id).where(ban.c.until <= now))]
            connection.execute(sa.delete(ban).where(ban.c.until <= now))
            connection.execute(sa.delete(barred).where(barred.c.until <= now))
            return over

        return self._database.write(act)


_COLUMNS = (
    user.c.user_id,
    user.c.telegram_id,
    user.c.username,
    user.c.first_name,
    user.c.last_name,
    user.c.role,
    user.c.language,
    user.c.registered_at,
    user.c.seen_at,
)


def _plain(name: str) -> str:
    return name.strip().lstrip("@").casefold()[:64]
