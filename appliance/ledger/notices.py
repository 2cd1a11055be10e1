"""Notices: what a person is to be told once. Written with what caused them, then handed to the sender."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from appliance.ledger.database import Database
from appliance.ledger.sealing import open_row, seal_row
from appliance.ledger.tables import membership, notice, user
from appliance.schema import Asker, Language
from appliance.vault import Vault

KEPT = timedelta(days=30)  # after they went to the sender; a repeat is recognised for so long


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell a person.

    Attributes
    ----------
    id : str
        Names what is told and to whom, at most 64 characters; a second one of the same name is not stored.
    user_id : int
    kind : str
        Which words tell it; at most 16 characters.
    body : dict
        What the words need; JSON, sealed with the person's key.
    not_before : datetime
    telegram_id : int
        The person's private chat; 0 before it is stored.
    asker : Asker
        The person with their rights now.
    """

    id: str
    user_id: int
    kind: str
    body: dict[str, Any]
    not_before: datetime
    telegram_id: int = 0
    asker: Asker = field(default_factory=Asker)


class Notices:
    """Notices kept in the ledger; blocking, thread-safe.

    Parameters
    ----------
    database : Database
    vault : Vault or None
    """

    def __init__(self, database: Database, vault: Vault | None) -> None:
        self._database = database
        self._vault = vault

    def add(self, notices: Iterable[Notice]) -> int:
        """Store notices; ones stored before, told or not, stay as they are.

        Parameters
        ----------
        notices : iterable of Notice

        Returns
        -------
        int
            How many are new.
        """
        wanted = list(notices)
        return self._database.write(lambda connection: self.insert(connection, wanted)) if wanted else 0

    def insert(self, connection: sa.Connection, notices: Sequence[Notice]) -> int:
        """Do so within a transaction."""
        ids = [one.id for one in notices]
        stored = sa.select(notice.c.notice_id).where(notice.c.notice_id.in_(ids))
        known = {row[0] for row in connection.execute(stored)}
        rows = []
        for one in notices:
            if one.id in known:
                continue
            known.add(one.id)
            row = {
                "notice_id": one.id,
                "user_id": one.user_id,
                "kind": one.kind,
                "body": json.dumps(one.body, ensure_ascii=False),
            }
            times = {"not_before": one.not_before, "made_at": datetime.now(UTC), "queued_at": None}
            rows.append({**seal_row(self._vault, "notice", row), **times})
        if rows:
            connection.execute(sa.insert(notice), rows)
        return len(rows)

    def due(self, now: datetime, limit: int = 100, kinds: Iterable[str] = ()) -> list[Notice]:
        """List what may be told now and was not, the oldest first.

        Parameters
        ----------
        now : datetime
        limit : int
        kinds : iterable of str
            Only these; none is all.

        Returns
        -------
        list of Notice
        """
        columns = (notice.c.notice_id, notice.c.user_id, notice.c.kind, notice.c.body, notice.c.not_before)
        statement = (
            sa.select(*columns, user.c.telegram_id, user.c.language)
            .join(user, user.c.user_id == notice.c.user_id)
            .where(notice.c.queued_at.is_(None), notice.c.not_before <= now)
            .order_by(notice.c.made_at, notice.c.notice_id)
            .limit(limit)
        )
        if wanted := list(kinds):
            statement = statement.where(notice.c.kind.in_(wanted))
        rows = self._database.read(statement)
        rights = self._rights({row.user_id for row in rows})
        found = []
        for row in rows:
            body = open_row(self._vault, "notice", {"notice_id": row[0], "user_id": row[1], "body": row[3]})["body"]
            language: Language = "en" if row.language == "en" else "ru"
            asker = Asker(row.user_id, language, rights.get(row.user_id, frozenset()))
            kept = json.loads(body) if body else {}
            found.append(Notice(row[0], row[1], row[2], kept, row[4], row.telegram_id, asker))
        return found

    def _rights(self, user_ids: set[int]) -> dict[int, frozenset[int]]:
        statement = sa.select(membership.c.user_id, membership.c.channel_id).where(membership.c.user_id.in_(user_ids))
        found: dict[int, set[int]] = {}
        for user_id, channel_id in self._database.read(statement) if user_ids else ():
            found.setdefault(user_id, set()).add(channel_id)
        return {user_id: frozenset(channels) for user_id, channels in found.items()}

    def next_at(self, kinds: Iterable[str] = ()) -> datetime | None:
        """Return when the next notice, of these kinds or of any, may be told; None when none waits."""
        statement = sa.select(sa.func.min(notice.c.not_before)).where(notice.c.queued_at.is_(None))
        if wanted := list(kinds):
            statement = statement.where(notice.c.kind.in_(wanted))
        rows = self._database.read(statement)
        moment: datetime | None = rows[0][0]
        return moment

    def postpone(self, notice_id: str, until: datetime) -> None:
        """Let one wait until a moment."""
        later = sa.update(notice).where(notice.c.notice_id == notice_id).values(not_before=until)
        self._database.write(lambda connection: connection.execute(later))

    def queued(self, ids: Sequence[str]) -> None:
        """Say that these went to the sender, or need not be told any more; forget those told long ago."""
        now = datetime.now(UTC)

        def act(connection: sa.Connection) -> None:
            connection.execute(sa.update(notice).where(notice.c.notice_id.in_(ids)).values(queued_at=now, body=""))
            connection.execute(sa.delete(notice).where(notice.c.queued_at < now - KEPT))

        self._database.write(act)
