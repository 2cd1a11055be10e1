"""The story of a subject: what was said about it over time, period by period, each sentence with its link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta, tzinfo
from time import perf_counter

from appliance.answer import cite
from appliance.limits import Limits
from appliance.quoting import best_places, sentence_scores, shorten
from appliance.schema import Asker, Chapter, Filters, FoundPost, LimitKind, Sentence, Story
from appliance.text import clean, lemmas, sentences

LOOKED_AT = 50  # posts, the most relevant
LEAST = 0.35  # of the relevance of the best post: a less relevant one is about something else
TOLD = 2  # posts of a chapter that speak, the most relevant
MOST_CHAPTERS = 12
SIZES = ("week", "month", "quarter", "year")


async def story(
    text: str,
    *,
    asker: Asker,
    filters: Filters,
    unread: Iterable[LimitKind] = (),
    limits: Limits,
    rarity: Callable[[str], float],
) -> Story:
    """Tell what was said about a subject over time.

    Parameters
    ----------
    text : str
        The subject; limits named in its words count.
    asker : Asker
    filters : Filters
    unread : iterable of {'period', 'channel', 'author', 'media'}, optional
        Kinds of limits not to be read from the words.
    limits : Limits
        Searches.
    rarity : callable
        Inverse document frequency of a lemma.

    Returns
    -------
    Story
        Chapters from the oldest on, by weeks, months, quarters or years: the finest that makes at most twelve. No
        chapters when the posts hold nothing on the subject.

    Raises
    ------
    BadInput, UnknownChannel
        As `appliance.search.search` does.
    """
    started = perf_counter()
    result = await limits(text, asker=asker, filters=filters, limit=LOOKED_AT, unread=unread)
    kept: list[FoundPost] = []
    if limits.answers(result):
        bar = LEAST * max(hit.relevance for hit in result.found)
        kept = sorted((hit for hit in result.found if hit.relevance >= bar), key=lambda hit: hit.post.date)
    sought = result.searched_as or result.query
    chapters = await asyncio.to_thread(_chapters, kept, sought, rarity, limits.zone) if kept else ()
    return Story(
        query=sought,
        chapters=chapters,
        citations=cite(kept),
        searched=result.searched,
        searched_as=result.searched_as,
        limits=result.limits,
        are_limits_held=result.are_limits_held,
        times_ms={**result.times_ms, "complete": (perf_counter() - started) * 1000},
    )


def _chapters(
    kept: Sequence[FoundPost], query: str, rarity: Callable[[str], float], zone: tzinfo
) -> tuple[Chapter, ...]:
    """Group posts, oldest first, and let the most relevant of each group speak."""
    wanted = lemmas(query)
    chapters = []
    for first, after, group in periods_of([hit.post.date for hit in kept], zone):
        best = sorted(group, key=lambda place: -kept[place].relevance)[:TOLD]
        said = tuple(Sentence(_sentence(kept[place], wanted, rarity), (place + 1,)) for place in sorted(best))
        chapters.append(Chapter(first, after, len(group), said, tuple(place + 1 for place in group)))
    return tuple(chapters)


def periods_of(dates: Sequence[datetime], zone: tzinfo) -> list[tuple[date, date, list[int]]]:
    """Group dates by the finest of weeks, months, quarters and years that makes at most twelve groups.

    Parameters
    ----------
    dates : sequence of datetime
        Ascending.
    zone : datetime.tzinfo

    Returns
    -------
    list of (date, date, list of int)
        First day, the day after the last, and the places of the dates.
    """
    days = [moment.astimezone(zone).date() for moment in dates]
    groups: dict[date, list[int]] = {}
    size = SIZES[-1]
    for size in SIZES:
        groups = {}
        for place, day in enumerate(days):
            groups.setdefault(_first(day, size), []).append(place)
        if len(groups) <= MOST_CHAPTERS:
            break
    return [(first, _after(first, size), places) for first, places in groups.items()]


def _first(day: date, size: str) -> date:
    if size == "week":
        return day - timedelta(days=day.weekday())
    if size == "year":
        return day.replace(month=1, day=1)
    return day.replace(month=day.month - (day.month - 1) % (3 if size == "quarter" else 1), day=1)


def _after(first: date, size: str) -> date:
    if size == "week":
        return first + timedelta(days=7)
    months = first.year * 12 + first.month - 1 + {"month": 1, "quarter": 3, "year": 12}[size]
    return date(months // 12, months % 12 + 1, 1)


def _sentence(hit: FoundPost, wanted: Sequence[str], rarity: Callable[[str], float]) -> str:
    """Return the sentence of a post that speaks most to the subject."""
    text = clean(hit.post.text)
    texts = [text[start:end] for start, end in sentences(text)] or [text]
    (place, *_) = best_places(sentence_scores(texts, wanted, rarity), 1) or [0]
    return shorten(texts[place], 280)
