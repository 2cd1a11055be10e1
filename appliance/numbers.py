"""Numbers for those who keep order: who asks, what is answered, how fast, what is missing. Never of a person alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from appliance.ledger import Ledger
from appliance.ranking import QUESTION_LEMMAS
from appliance.schema import QuestionRow
from appliance.text import first_line, lemmas

DAYS = 30
FEWEST = 3  # people, under whom a count stays unsaid
LISTED = 8
READ = 3000  # newest questions whose words are compared
ALIKE = 0.5  # share of lemmas in common, from which questions speak of the same
EMPTY = QUESTION_LEMMAS | set(  # lemmas that do not say what a question is about
    "для есть быть это этот при про над под без или ваш наш мочь можно нужно надо хотеть бывать"
    " the and for are is was can does there with from have has you your our any".split()
)
WAITS = {"search": "found", "links": "links", "first_token": "first_word", "complete": "answer"}


async def numbers(
    *, ledger: Ledger, plans: Callable[[], Awaitable[list[dict[str, Any]]]] | None = None, days: int = DAYS
) -> dict[str, Any]:
    """Compute the numbers of the last days.

    Parameters
    ----------
    ledger : Ledger
    plans : callable, optional
        Says how the plans are used.
    days : int

    Returns
    -------
    dict
        JSON-ready; a count of fewer than `FEWEST` people is None, and so is what could be worked out from it.
    """
    found = await asyncio.to_thread(_numbers, ledger, days, datetime.now(UTC))
    return {**found, "plans": await plans() if plans is not None else []}


def _numbers(ledger: Ledger, days: int, now: datetime) -> dict[str, Any]:
    since = (now - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    by_day = filled(ledger.numbers.by_day(since), since.date(), days)
    total = sum(one["questions"] for one in by_day)
    answered = sum(one["answered"] for one in by_day)
    active = ledger.numbers.people(since, now)
    before = ledger.numbers.people(since - timedelta(days=days), since)
    rows = ledger.numbers.questions(since, READ)
    votes = ledger.numbers.votes(since)
    raters = ledger.numbers.raters(since)
    scores = ledger.talks.scores(since)
    waits = ledger.numbers.waits_ms(since)
    return {
        "days": days,
        "until": now.isoformat(),
        "by_day": [{**one, "people": few(one["people"])} for one in by_day],
        "questions": total,
        "answered_share": share(answered, total),
        "dau": few(by_day[-1]["people"]),
        "people": few(ledger.numbers.askers(since)),
        "churn": share(len(before - active), len(before)) if len(before) >= FEWEST else None,
        "newcomers": few(len(active - before)),
        "satisfaction": share(votes["up"], votes["up"] + votes["down"]) if raters >= FEWEST else None,
        "raters": few(raters),
        "score": round(sum(scores) / len(scores), 2) if len(scores) >= FEWEST else None,
        "scored": few(len(scores)),
        "repeats": share(repeated(rows), len(rows)) if len(rows) >= FEWEST else None,
        "waits_ms": {name: waits[stage] for stage, name in WAITS.items() if stage in waits},
        "topics": topics(ledger, since),
        "gaps": gaps(rows),
    }


def filled(found: Sequence[dict[str, Any]], first: date, days: int) -> list[dict[str, Any]]:
    """Put the days without questions between the others."""
    known = {one["day"]: one for one in found}
    nothing = {"questions": 0, "answered": 0, "people": 0}
    names = [(first + timedelta(days=number)).isoformat() for number in range(days)]
    return [known.get(name, {"day": name, **nothing}) for name in names]


def few(count: int) -> int | None:
    """Return a count of people, or None where so few could be recognised."""
    return count if count == 0 or count >= FEWEST else None


def share(part: int, whole: int) -> float | None:
    """Return a share, or None of nothing."""
    return round(part / whole, 4) if whole else None


def repeated(rows: Sequence[QuestionRow]) -> int:
    """Count the questions whose words were asked before in the period."""
    seen: set[frozenset[str]] = set()
    count = 0
    for row in sorted(rows, key=lambda one: one.asked_at):
        words = frozenset(lemmas(row.query))
        count += bool(words) and words in seen
        seen.add(words)
    return count


def topics(ledger: Ledger, since: datetime) -> list[dict[str, Any]]:
    """List the posts that answered most people: their first lines are the community's own words."""
    cited = {key: who for key, who in ledger.numbers.cited(since).items() if len(who) >= FEWEST}
    best = sorted(cited, key=lambda key: (-len(cited[key]), key))[:LISTED]
    posts = ledger.posts(best)
    open_ = {status.channel.id for status in ledger.channels() if status.channel.is_open}
    return [
        {"title": _line(posts[key].text), "people": len(cited[key])} for key in best if key in posts and key[0] in open_
    ]


def gaps(rows: Sequence[QuestionRow]) -> list[dict[str, Any]]:
    """Group the questions that found nothing by their words; what fewer than `FEWEST` people asked stays unsaid.

    Parameters
    ----------
    rows : sequence of QuestionRow

    Returns
    -------
    list of dict
        ``words`` that the questions of a group share, as asked; ``questions`` and ``people``; no question itself.
    """
    groups: list[tuple[set[str], list[tuple[QuestionRow, frozenset[str]]]]] = []
    for row in rows:
        words = frozenset(word for word in lemmas(row.query) if len(word) > 2)
        if row.outcome != "not_found" or not words:
            continue
        for core, members in groups:
            if len(core & words) >= ALIKE * len(core | words):
                members.append((row, words))
                core &= words
                break
        else:
            groups.append((set(words), [(row, words)]))
    found: list[dict[str, Any]] = []
    for core, members in groups:
        who = {row.user_id or row.dialogue_id for row, _ in members}
        if len(who) >= FEWEST and core:
            asked = [word for word in dict.fromkeys(lemmas(members[0][0].query)) if word in core]
            telling = [word for word in asked if word not in EMPTY] or asked
            found.append({"words": " ".join(telling), "questions": len(members), "people": len(who)})
    return sorted(found, key=lambda one: -one["people"])[:LISTED]


def _line(text: str) -> str:
    line = first_line(text)
    return line if len(line) <= 90 else f"{line[:89].rstrip()}…"
