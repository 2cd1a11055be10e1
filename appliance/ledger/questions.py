"""Questions, their answers and how people rated them: the one canonical row of each question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from appliance.ledger import figures
from appliance.ledger.database import Database
from appliance.ledger.rows import QUESTION_COLUMNS, question_of, question_values, storable
from appliance.ledger.sealing import open_question, seal_row
from appliance.ledger.tables import feedback, question
from appliance.schema import QuestionRow, Vote
from appliance.vault import Vault

ANONYMOUS = 0  # rater of an unregistered web visitor


class Questions:
    """The rows of questions and the ratings of their answers. Blocking and thread-safe.

    Parameters
    ----------
    database : Database
    vault : Vault, optional
        Seals texts.
    """

    def __init__(self, database: Database, vault: Vault | None = None) -> None:
        self._database = database
        self._vault = vault
        self._read = database.read

    def save(self, row: QuestionRow) -> None:
        """Store the canonical row of a question; storing it again replaces it.

        Parameters
        ----------
        row : QuestionRow
        """
        values = seal_row(self._vault, "question", question_values(row))

        def replace(connection: sa.Connection) -> None:
            connection.execute(sa.delete(question).where(question.c.question_id == row.id))
            connection.execute(sa.insert(question).values(values))

        self._database.append(question, values, otherwise=replace)

    def get(self, question_id: str) -> QuestionRow | None:
        """Fetch a question's row.

        Parameters
        ----------
        question_id : str

        Returns
        -------
        QuestionRow or None
        """
        rows = self._read(sa.select(*QUESTION_COLUMNS).where(question.c.question_id == question_id))
        return self.row_of(rows[0]) if rows else None

    def turns(self, dialogue_id: str, limit: int = 6) -> list[QuestionRow]:
        """Fetch the last turns of a dialogue, oldest first.

        Parameters
        ----------
        dialogue_id : str
        limit : int
            At most this many.

        Returns
        -------
        list of QuestionRow
        """
        # Without a LIMIT: with one, DuckDB leaves the index and reads the whole table. Sorted here: planning a sort
        # takes longer than the rows of a dialogue do.
        found = self._read(sa.select(*QUESTION_COLUMNS).where(question.c.dialogue_id == dialogue_id))
        turns = sorted(map(self.row_of, found), key=lambda turn: (turn.asked_at, turn.id))
        return turns[-limit:]

    def rate(self, question_id: str, user_id: int | None, vote: Vote, reason: str = "") -> bool:
        """Store a rating; the last one of a person counts.

        Parameters
        ----------
        question_id : str
        user_id : int or None
            None for unregistered visitors, who share one vote on a question.
        vote : {'up', 'down'}
        reason : str

        Returns
        -------
        bool
            False when there is no such question.
        """
        rater = ANONYMOUS if user_id is None else user_id

        def store(connection: sa.Connection) -> bool:
            known = sa.select(question.c.question_id).where(question.c.question_id == question_id)
            if connection.execute(known).first() is None:
                return False
            row = {"question_id": question_id, "user_id": rater, "vote": vote, "reason": storable(reason)}
            upsert = insert(feedback).values(**seal_row(self._vault, "feedback", row), rated_at=datetime.now(UTC))
            changed = {name: upsert.excluded[name] for name in ("vote", "reason", "rated_at")}
            connection.execute(
                upsert.on_conflict_do_update(index_elements=["question_id", "user_id"], set_=changed),
            )
            return True

        return self._database.write(store)

    def votes(self) -> dict[str, int]:
        """Count the ratings in force.

        Returns
        -------
        dict of str to int
            ``up`` and ``down``.
        """
        return figures.votes(self._read)

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Count all questions by outcome and door.

        Returns
        -------
        dict of (outcome, door) to int
        """
        columns = (question.c.outcome, question.c.door)
        rows = self._read(sa.select(*columns, sa.func.count()).group_by(*columns))
        return {(row[0], row[1]): row[2] for row in rows}

    def timings(self, limit: int) -> Iterator[dict[str, float]]:
        """Go through the stage times of the newest questions, newest first.

        Parameters
        ----------
        limit : int
            At most this many.

        Yields
        ------
        dict of str to float
            Milliseconds by stage.
        """
        for row in self._read(sa.select(question.c.times_ms).order_by(question.c.asked_at.desc()).limit(limit)):
            yield row[0]

    def row_of(self, row: Sequence[Any]) -> QuestionRow:
        """Unseal a row of `QUESTION_COLUMNS`."""
        return question_of(open_question(self._vault, row))
