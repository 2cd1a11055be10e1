"""Alerts in the ledger: who wants to hear of what, which new posts were not yet compared, and quiet hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from appliance.ledger.database import Database
from appliance.ledger.notices import Notice, Notices
from appliance.ledger.posts import has_key, pages
from appliance.ledger.rows import storable
from appliance.ledger.sealing import open_row, seal_row
from appliance.ledger.tables import alert, alert_id_seq, fresh_post, unindexed
from appliance.schema import PostKey
from appliance.vault import Vault


@dataclass(frozen=True, slots=True)
class Alert:
    """A person wants to be told when somebody writes about something.

    Attributes
    ----------
    text : str
        As they put it.
    above : float
        Probability of relevance from which on a post is told.
    """

    alert_id: int
    user_id: int
    text: str
    above: float
    made_at: datetime


class Alerts:
    """Alerts and the posts they are to be compared with; blocking, thread-safe.

    Parameters
    ----------
    database : Database
    vault : Vault or None
    notices : Notices
    """

    def __init__(self, database: Database, vault: Vault | None, notices: Notices) -> None:
        self._database = database
        self._vault = vault
        self._notices = notices

    def add(self, user_id: int, text: str, above: float, most: int) -> Alert | None:
        """Store an alert.

        Parameters
        ----------
        user_id : int
        text : str
        above : float
        most : int
            A person may have.

        Returns
        -------
        Alert or None
            None when they have the most already.
        """

        def save(connection: sa.Connection) -> Alert | None:
            have = sa.select(sa.func.count()).where(alert.c.user_id == user_id)
            if int(connection.execute(have).scalar_one()) >= most:
                return None
            alert_id = int(connection.execute(sa.select(alert_id_seq.next_value())).scalar_one())
            made = Alert(alert_id, user_id, storable(text), above, datetime.now(UTC))
            row = {"alert_id": alert_id, "user_id": user_id, "text": made.text}
            values = {**seal_row(self._vault, "alert", row), "above": above, "made_at": made.made_at}
            connection.execute(sa.insert(alert).values(values))
            return made

        return self._database.write(save)

    def listed(self, user_id: int | None = None) -> list[Alert]:
        """List a person's alerts, or everybody's, the oldest first."""
        statement = sa.select(*alert.c).order_by(alert.c.alert_id)
        if user_id is not None:
            statement = statement.where(alert.c.user_id == user_id)
        rows = (open_row(self._vault, "alert", dict(row._mapping)) for row in self._database.read(statement))
        return [Alert(**row) for row in rows]

    def change(self, user_id: int, alert_id: int, above: float) -> bool:
        """Make a person's own alert stricter or wider; False when they have no such alert."""
        own = sa.and_(alert.c.alert_id == alert_id, alert.c.user_id == user_id)
        statement = sa.update(alert).where(own).values(above=above)
        return self._database.write(lambda connection: bool(connection.execute(statement).rowcount))

    def remove(self, user_id: int, alert_id: int) -> bool:
        """Delete a person's own alert; False when they have no such alert."""
        statement = sa.delete(alert).where(alert.c.alert_id == alert_id, alert.c.user_id == user_id)
        return self._database.write(lambda connection: bool(connection.execute(statement).rowcount))

    def fresh(self, limit: int = 500) -> list[PostKey]:
        """List new posts that can be searched and were not yet compared.

        Parameters
        ----------
        limit : int

        Returns
        -------
        list of PostKey
        """
        keys = (fresh_post.c.channel_id, fresh_post.c.message_id)
        waits = sa.and_(unindexed.c.channel_id == keys[0], unindexed.c.message_id == keys[1])
        statement = sa.select(*keys).distinct().where(~sa.exists().where(waits)).order_by(*keys).limit(limit)
        return [(row[0], row[1]) for row in self._database.read(statement)]

    def heard(self, keys: Sequence[PostKey], notices: Sequence[Notice]) -> int:
        """Say that posts were compared, and store what is to be told of them, both or neither.

        Parameters
        ----------
        keys : sequence of PostKey
        notices : sequence of Notice

        Returns
        -------
        int
            New notices.
        """

        def act(connection: sa.Connection) -> int:
            for page in pages(list(keys)):
                connection.execute(sa.delete(fresh_post).where(has_key(fresh_post, page)))
            return self._notices.insert(connection, notices)

        return self._database.write(act)
