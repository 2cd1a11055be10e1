"""Figures for the operator, computed from the questions' rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from appliance.ledger.tables import channel, channel_state, event, feedback, post, question, user
from appliance.schema import Channel, ChannelStatus

DAYS = 30  # days listed one by one
TIMED = 10_000  # newest questions whose stage times are ranked

Read = Callable[[sa.Executable], Sequence[Any]]


def stats(read: Read, statuses: Sequence[ChannelStatus]) -> dict[str, Any]:
    """Compute the operator's figures.

    Parameters
    ----------
    read : callable
        Runs a query and returns its rows.
    statuses : sequence of ChannelStatus
        From `channels`.

    Returns
    -------
    dict
        JSON-ready: ``questions`` (total, today, by day with outcomes and people), ``outcomes``, ``doors``,
        ``stages_ms`` (p50, p95, n by stage), ``votes``, ``dau`` (people today), ``users``, ``posts``,
        ``channels``, ``events``.
    """
    today = datetime.now(UTC).date()
    days = _by_day(read, datetime.now(UTC) - timedelta(days=DAYS - 1))
    outcomes = dict(_counts(read, question.c.outcome))
    total = sum(outcomes.values())
    now = days[-1] if days and days[-1]["day"] == today.isoformat() else None
    return {
        "questions": {"total": total, "today": now["questions"] if now else 0, "by_day": days},
        "outcomes": {name: {"n": n, "share": round(n / total, 4)} for name, n in outcomes.items()},
        "doors": dict(_counts(read, question.c.door)),
        "models": dict(_counts(read, question.c.model)),
        "stages_ms": _stages(read),
        "votes": votes(read),
        "dau": now["people"] if now else 0,
        "users": read(sa.select(sa.func.count()).select_from(user))[0][0],
        "posts": sum(status.posts for status in statuses),
        "channels": [
            {
                "id": status.channel.id,
                "title": status.channel.title,
                "posts": status.posts,
                "first": status.first.isoformat() if status.first else None,
                "last": status.last.isoformat() if status.last else None,
            }
            for status in statuses
        ],
        "events": dict(_counts(read, event.c.kind)),
    }


def channels(read: Read) -> list[ChannelStatus]:
    """Count the posts of every channel.

    Parameters
    ----------
    read : callable
        Runs a query and returns its rows.

    Returns
    -------
    list of ChannelStatus
        By title.
    """
    when = post.c.posted_at
    counts = (
        sa.select(
            post.c.channel_id,
            sa.func.count().label("posts"),
            sa.func.min(when, type_=when.type).label("first"),
            sa.func.max(when, type_=when.type).label("last"),
        )
        .group_by(post.c.channel_id)
        .subquery()
    )
    columns = (
        channel.c.channel_id,
        channel.c.title,
        channel.c.username,
        channel.c.kind,
        channel.c.is_open,
        sa.func.coalesce(channel_state.c.is_cross, sa.true()),
    )
    state = sa.func.coalesce(channel_state.c.state, "approved")
    live = sa.func.coalesce(channel_state.c.is_live, sa.false())
    statement = (
        sa.select(*columns, sa.func.coalesce(counts.c.posts, 0), counts.c.first, counts.c.last, state, live)
        .select_from(
            channel.outerjoin(counts, counts.c.channel_id == channel.c.channel_id).outerjoin(
                channel_state, channel_state.c.channel_id == channel.c.channel_id
            )
        )
        .order_by(channel.c.title, channel.c.channel_id)
    )
    return [ChannelStatus(Channel(*row[:6]), *row[6:]) for row in read(statement)]


def votes(read: Read) -> dict[str, int]:
    """Count the ratings in force.

    Parameters
    ----------
    read : callable
        Runs a query and returns its rows.

    Returns
    -------
    dict of str to int
        ``up`` and ``down``.
    """
    return {"up": 0, "down": 0, **dict(_counts(read, feedback.c.vote))}


def _counts(read: Read, column: sa.Column[Any]) -> list[tuple[str, int]]:
    rows = read(sa.select(column, sa.func.count()).group_by(column).order_by(sa.func.count().desc(), column))
    return [(row[0], row[1]) for row in rows]


def _by_day(read: Read, since: datetime) -> list[dict[str, Any]]:
    """Days (UTC) with questions, oldest first; a person is a user, or an unregistered visitor's dialogue."""
    day = sa.cast(question.c.asked_at, sa.Date)
    person = sa.func.coalesce(sa.cast(question.c.user_id, sa.Text), question.c.dialogue_id)
    start = since.replace(hour=0, minute=0, second=0, microsecond=0)
    recent = question.c.asked_at >= start
    days: dict[str, dict[str, Any]] = {}
    for date, people in read(
        sa.select(day, sa.func.count(person.distinct())).where(recent).group_by(day).order_by(day)
    ):
        days[date.isoformat()] = {"day": date.isoformat(), "questions": 0, "people": people, "outcomes": {}}
    outcome = question.c.outcome
    for date, name, n in read(sa.select(day, outcome, sa.func.count()).where(recent).group_by(day, outcome)):
        entry = days[date.isoformat()]
        entry["questions"] += n
        entry["outcomes"][name] = n
    return list(days.values())


def _stages(read: Read) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = defaultdict(list)
    for (row,) in read(sa.select(question.c.times_ms).order_by(question.c.asked_at.desc()).limit(TIMED)):
        for stage, value in row.items():
            times[stage].append(value)
    return {
        stage: {
            "p50": round(float(np.percentile(values, 50)), 3),
            "p95": round(float(np.percentile(values, 95)), 3),
            "n": len(values),
        }
        for stage, values in sorted(times.items())
    }
