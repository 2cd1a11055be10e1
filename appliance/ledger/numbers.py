"""Numbers of the community, from the questions' rows: by day, by stage, what comes again, what found nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from appliance.ledger.rows import QUESTION_COLUMNS
from appliance.ledger.tables import feedback, question
from appliance.schema import PostKey, QuestionRow

Read = Callable[[sa.Executable], Sequence[Any]]
TIMED = 10_000  # newest questions whose stage times are ranked
PERSON = sa.func.coalesce(sa.cast(question.c.user_id, sa.Text), question.c.dialogue_id)  # a visitor is their dialogue


def by_day(read: Read, since: datetime) -> list[dict[str, Any]]:
    """Count questions, answers and people by day (UTC), oldest first; days without questions are left out."""
    day = sa.cast(question.c.asked_at, sa.Date)
    answered = sa.func.sum(sa.case((question.c.outcome == "answered", 1), else_=0))
    statement = (
        sa.select(day, sa.func.count(), answered, sa.func.count(PERSON.distinct()))
        .where(question.c.asked_at >= since)
        .group_by(day)
        .order_by(day)
    )
    return [
        {"day": row[0].isoformat(), "questions": row[1], "answered": int(row[2]), "people": row[3]}
        for row in read(statement)
    ]


def askers(read: Read, since: datetime) -> int:
    """Count who asked since a moment, as `by_day` does."""
    return int(read(sa.select(sa.func.count(PERSON.distinct())).where(question.c.asked_at >= since))[0][0])


def people(read: Read, since: datetime, until: datetime) -> set[int]:
    """Return who asked in a period, registered people alone."""
    when = (question.c.asked_at >= since, question.c.asked_at < until, question.c.user_id.is_not(None))
    return {row[0] for row in read(sa.select(question.c.user_id).where(*when).distinct())}


def waits_ms(read: Read, since: datetime) -> dict[str, dict[str, float]]:
    """Rank the stage times of the newest questions of a period: p50, p95 and n by stage."""
    times: dict[str, list[float]] = defaultdict(list)
    newest = sa.select(question.c.times_ms).where(question.c.asked_at >= since)
    for (row,) in read(newest.order_by(question.c.asked_at.desc()).limit(TIMED)):
        for stage, value in row.items():
            times[stage].append(value)
    return {
        stage: {
            "p50": round(float(np.percentile(values, 50)), 1),
            "p95": round(float(np.percentile(values, 95)), 1),
            "n": len(values),
        }
        for stage, values in sorted(times.items())
    }


def votes(read: Read, since: datetime) -> dict[str, int]:
    """Count the ratings of a period."""
    counted = sa.select(feedback.c.vote, sa.func.count()).where(feedback.c.rated_at >= since).group_by(feedback.c.vote)
    return {"up": 0, "down": 0, **{row[0]: row[1] for row in read(counted)}}


def raters(read: Read, since: datetime) -> int:
    """Count who rated in a period; of the page's visitors, who cannot be told apart, each rating is one."""
    visitor = sa.case((feedback.c.user_id == 0, feedback.c.question_id))
    who = sa.func.coalesce(visitor, sa.cast(feedback.c.user_id, sa.Text))
    counted = read(sa.select(sa.func.count(who.distinct())).where(feedback.c.rated_at >= since))
    return int(counted[0][0])


def cited(read: Read, since: datetime) -> dict[PostKey, set[int | str]]:
    """Return which posts answers of a period leaned on first, and for whom."""
    columns = (question.c.posts, question.c.user_id, question.c.dialogue_id)
    answered = (question.c.asked_at >= since, question.c.outcome == "answered")
    found: dict[PostKey, set[int | str]] = defaultdict(set)
    for posts, user_id, dialogue_id in read(sa.select(*columns).where(*answered)):
        if posts:
            found[(posts[0][0], posts[0][1])].add(user_id or dialogue_id)
    return found


class Numbers:
    """The same over the open ledger; blocking, thread-safe.

    Parameters
    ----------
    read : callable
        Runs a query and returns its rows.
    question_of : callable
        Opens a row of `QUESTION_COLUMNS`.
    """

    def __init__(self, read: Read, question_of: Callable[[Sequence[Any]], QuestionRow]) -> None:
        self._read = read
        self._question_of = question_of

    def by_day(self, since: datetime) -> list[dict[str, Any]]:
        """See `by_day`."""
        return by_day(self._read, since)

    def askers(self, since: datetime) -> int:
        """See `askers`."""
        return askers(self._read, since)

    def people(self, since: datetime, until: datetime) -> set[int]:
        """See `people`."""
        return people(self._read, since, until)

    def waits_ms(self, since: datetime) -> dict[str, dict[str, float]]:
        """See `waits_ms`."""
        return waits_ms(self._read, since)

    def votes(self, since: datetime) -> dict[str, int]:
        """See `votes`."""
        return votes(self._read, since)

    def raters(self, since: datetime) -> int:
        """See `raters`."""
        return raters(self._read, since)

    def cited(self, since: datetime) -> dict[PostKey, set[int | str]]:
        """See `cited`."""
        return cited(self._read, since)

    def questions(self, since: datetime, limit: int) -> list[QuestionRow]:
        """Return the newest questions of a period, opened."""
        newest = sa.select(*QUESTION_COLUMNS).where(question.c.asked_at >= since)
        rows = self._read(newest.order_by(question.c.asked_at.desc()).limit(limit))
        return [self._question_of(row) for row in rows]
