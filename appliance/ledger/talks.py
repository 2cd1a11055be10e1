"""A person's own ways: dialogues of the private chat, settings, visits, surveys, answers held for publishing."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from appliance.ledger.database import Database
from appliance.ledger.sealing import open_row, seal_row
from appliance.ledger.tables import held_answer, membership, person_setting, question, survey, talk, user
from appliance.schema import Asker
from appliance.vault import Vault

HELD = timedelta(days=7)
VISITS_READ = 500  # newest questions of a person, read to find when they were here before


class Talks:
    """What belongs to one person besides their questions; blocking, thread-safe.

    Parameters
    ----------
    database : Database
    vault : Vault or None
    """

    def __init__(self, database: Database, vault: Vault | None) -> None:
        self._database = database
        self._vault = vault

    def asker(self, user_id: int) -> Asker | None:
        """Return a person with their rights now; None when there is none."""
        rows = self._database.read(sa.select(user.c.language).where(user.c.user_id == user_id))
        if not rows:
            return None
        mine = self._database.read(sa.select(membership.c.channel_id).where(membership.c.user_id == user_id))
        return Asker(user_id, "en" if rows[0][0] == "en" else "ru", frozenset(row[0] for row in mine))

    # The dialogue of a private chat and of each of its topics

    def dialogue(self, user_id: int, topic_id: int, pause: timedelta | None) -> str:
        """Return the dialogue that goes on, or begin one.

        Parameters
        ----------
        user_id : int
        topic_id : int
            0 for the chat itself.
        pause : timedelta or None
            Of silence, after which another dialogue begins; None never.

        Returns
        -------
        str
            Its id.
        """
        own = sa.and_(talk.c.user_id == user_id, talk.c.topic_id == topic_id)
        rows = self._database.read(sa.select(talk.c.dialogue_id, talk.c.began_at).where(own))
        if rows:
            dialogue_id, last = str(rows[0][0]), rows[0][1]
            if pause is None:
                return dialogue_id
            asked = sa.select(sa.func.max(question.c.asked_at)).where(question.c.dialogue_id == dialogue_id)
            last = self._database.read(asked)[0][0] or last
            if datetime.now(UTC) - last < pause:
                return dialogue_id
        return self.begin(user_id, topic_id)

    def begin(self, user_id: int, topic_id: int) -> str:
        """Begin another dialogue there; what was said before is not looked at any more."""
        row = {"user_id": user_id, "topic_id": topic_id, "dialogue_id": uuid.uuid4().hex, "began_at": _now()}

        def save(connection: sa.Connection) -> str:
            connection.execute(sa.delete(talk).where(talk.c.user_id == user_id, talk.c.topic_id == topic_id))
            connection.execute(sa.insert(talk).values(row))
            return str(row["dialogue_id"])

        return self._database.write(save)

    # Settings of a person

    def setting(self, user_id: int, name: str, default: Any = None) -> Any:
        """Return what a person set, or the default."""
        own = sa.and_(person_setting.c.user_id == user_id, person_setting.c.name == name)
        rows = self._database.read(sa.select(person_setting.c.value).where(own))
        return rows[0][0] if rows else default

    def settings(self, name: str) -> dict[int, Any]:
        """Return what everybody set under a name, by user id."""
        columns = (person_setting.c.user_id, person_setting.c.value)
        return {row[0]: row[1] for row in self._database.read(sa.select(*columns).where(person_setting.c.name == name))}

    def set(self, user_id: int, name: str, value: Any) -> None:
        """Store what a person set; JSON, but not null."""

        def save(connection: sa.Connection) -> None:
            own = sa.and_(person_setting.c.user_id == user_id, person_setting.c.name == name)
            connection.execute(sa.delete(person_setting).where(own))
            row = {"user_id": user_id, "name": name, "value": value, "set_at": _now()}
            connection.execute(sa.insert(person_setting).values(row))

        self._database.write(save)

    # Visits

    def away_since(self, user_id: int, gap: timedelta) -> datetime | None:
        """Return when a person last asked before the visit that goes on now.

        Parameters
        ----------
        user_id : int
        gap : timedelta
            Silence that ends a visit.

        Returns
        -------
        datetime or None
            None for who was never here before.
        """
        statement = (
            sa.select(question.c.asked_at)
            .where(question.c.user_id == user_id)
            .order_by(question.c.asked_at.desc())
            .limit(VISITS_READ)
        )
        later = _now()
        for (asked_at,) in self._database.read(statement):
            if later - asked_at >= gap:
                return asked_at  # type: ignore[no-any-return]
            later = asked_at
        return None

    # Answers held until somebody publishes them

    def hold(self, user_id: int | None, chat_id: int, calls: Sequence[dict[str, Any]]) -> str:
        """Keep the calls that would publish an answer; returns the name to publish it by."""
        held_id = secrets.token_hex(8)
        row = {
            "held_id": held_id,
            "user_id": user_id or 0,
            "chat_id": chat_id,
            "calls": orjson.dumps(list(calls)).decode(),
        }
        values = {**seal_row(self._vault, "held_answer", row), "held_at": _now(), "decided_by": None}

        def save(connection: sa.Connection) -> str:
            connection.execute(sa.delete(held_answer).where(held_answer.c.held_at < _now() - HELD))
            connection.execute(sa.insert(held_answer).values(values))
            return held_id

        return self._database.write(save)

    def held(self, held_id: str) -> tuple[int, int] | None:
        """Return the asker and the chat of a held answer; None when there is none."""
        columns = (held_answer.c.user_id, held_answer.c.chat_id)
        rows = self._database.read(sa.select(*columns).where(held_answer.c.held_id == held_id))
        return (rows[0][0], rows[0][1]) if rows else None

    def decide(self, held_id: str, update_id: int) -> list[dict[str, Any]] | None:
        """Take a held answer to publish it or drop it; the first to decide does.

        Parameters
        ----------
        held_id : str
        update_id : int
            Of the press; the same press may ask again.

        Returns
        -------
        list of dict or None
            Calls; None when it is gone or somebody else decided.
        """
        row_of = held_answer.c.held_id == held_id

        def act(connection: sa.Connection) -> dict[str, Any] | None:
            row = connection.execute(sa.select(*held_answer.c).where(row_of)).mappings().first()
            if row is None or row["decided_by"] not in {None, update_id}:
                return None
            connection.execute(sa.update(held_answer).where(row_of).values(decided_by=update_id))
            return dict(row)

        found = self._database.write(act)
        if found is None:
            return None
        calls = open_row(self._vault, "held_answer", found)["calls"]
        return list(orjson.loads(calls)) if calls else None

    # Surveys

    def ask_survey(self, user_id: int, every: timedelta, after: int) -> datetime | None:
        """Note that a person is asked how content they are, if it is time.

        Parameters
        ----------
        user_id : int
        every : timedelta
            At least between two.
        after : int
            Questions they must have asked since the last one.

        Returns
        -------
        datetime or None
            Names the survey; None when it is not time.
        """
        now = _now().replace(microsecond=0)

        def act(connection: sa.Connection) -> datetime | None:
            last = connection.execute(sa.select(sa.func.max(survey.c.asked_at)).where(survey.c.user_id == user_id))
            asked_at = last.scalar_one()
            if asked_at is not None and now - asked_at < every:
                return None
            mine = sa.select(sa.func.count()).select_from(question).where(question.c.user_id == user_id)
            if asked_at is not None:
                mine = mine.where(question.c.asked_at > asked_at)
            if int(connection.execute(mine).scalar_one()) < after:
                return None
            connection.execute(sa.insert(survey).values(user_id=user_id, asked_at=now, score=None, answered_at=None))
            return now

        return self._database.write(act)

    def answer_survey(self, user_id: int, asked_at: datetime, score: int) -> bool:
        """Store a person's score, 1 to 5; False when they were not asked then."""
        own = sa.and_(survey.c.user_id == user_id, survey.c.asked_at == asked_at)
        statement = sa.update(survey).where(own).values(score=score, answered_at=_now())
        return self._database.write(lambda connection: bool(connection.execute(statement).rowcount))

    def scores(self, since: datetime) -> list[int]:
        """Return the scores given since a time, the newest of each person."""
        columns = (survey.c.user_id, survey.c.score)
        given = sa.select(*columns).where(survey.c.answered_at >= since, survey.c.score.is_not(None))
        rows = self._database.read(given.order_by(survey.c.answered_at))
        return list({row[0]: row[1] for row in rows}.values())


def _now() -> datetime:
    return datetime.now(UTC)
