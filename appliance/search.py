"""Search: a question in, posts out, inside the asker's rights."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter

from appliance.errors import BadInput, UnknownChannel
from appliance.hot import Scope
from appliance.index import Index
from appliance.ledger import Ledger
from appliance.links import post_link
from appliance.ranking import Ranked, any_relevance, are_key_words_named, calibration_of, rank
from appliance.schema import Asker, Channel, ChannelStatus, Filters, FoundPost, Post, PostKey, Searched, SearchResult
from appliance.spelling import as_meant
from appliance.text import clean, lemmas, sentences
from models.ports import Embedder

MAX_QUERY_CHARS = 800
MAX_QUERY_LEMMAS = 64
CANDIDATES = 100  # of each of the two lists


async def search(
    text: str, *, asker: Asker, filters: Filters, limit: int = 10, index: Index, ledger: Ledger, embedder: Embedder
) -> SearchResult:
    """Find the posts that answer a question.

    Parameters
    ----------
    text : str
        The question as typed or as understood from the dialogue.
    asker : Asker
        Only channels they may see are searched.
    filters : Filters
    limit : int, optional
        Posts wanted, 1 to 50.
    index : Index
    ledger : Ledger
    embedder : Embedder

    Returns
    -------
    SearchResult
        Stage times: ``spelling`` (the query as it was meant), ``embed``, ``retrieve`` (both lists, fusion, folding),
        ``fetch`` (posts from the ledger) and
        ``search`` (all of it).

    Raises
    ------
    BadInput
        No words in the question, or dates the wrong way round.
    UnknownChannel
        A channel named in the filters is not among those the asker may see.
    """
    query = shorten(clean(text))
    if not any(letter.isalnum() for letter in query):
        raise BadInput("There are no words in the question.", cure="Ask in words.", code="empty_question")
    if filters.since and filters.until and filters.since >= filters.until:
        raise BadInput("The first date is after the last.", cure="Swap the dates.", code="bad_dates")
    return await asyncio.to_thread(_search, query, asker, filters, min(max(limit, 1), 50), index, ledger, embedder)


def visible_post(ledger: Ledger, key: PostKey, asker: Asker) -> tuple[Post, str] | None:
    """Return a post with its link if this asker may see its channel."""
    channels: dict[int, Channel] = {status.channel.id: status.channel for status in ledger.channels(asker)}
    channel = channels.get(key[0])
    found = ledger.posts([key]).get(key) if channel else None
    if channel is None or found is None:
        return None
    return found, post_link(channel, found.message_id, found.topic_id)


def _search(
    query: str, asker: Asker, filters: Filters, limit: int, index: Index, ledger: Ledger, embedder: Embedder
) -> SearchResult:
    """Do all of a search's blocking work in one thread."""
    start = perf_counter()
    allowed = ledger.channels(asker)
    chosen = chosen_of(filters, allowed)
    channels = {status.channel.id: status.channel for status in chosen}
    scope = Scope(
        channels=frozenset(channels),
        since=filters.since,
        until=filters.until,
        author=filters.author,
        media=filters.media,
    )
    scoped = perf_counter()
    typed = query
    query = as_meant(
        typed,
        count=lambda lemma: index.count(lemma, scope.channels or frozenset()),
        near=lambda word: index.near(word, scope.channels or frozenset()),
    )
    spelled = perf_counter()
    vector = embedder.embed_queries([query])[0]
    embedded = perf_counter()
    candidates = index.candidates(vector, query_lemmas(query), scope=scope, n=CANDIDATES)
    calibration = calibration_of(index.embedder.card)
    ranked = rank(candidates, calibration, limit=limit)
    retrieved = perf_counter()
    keys = [key for hit in ranked for key in (hit.post, *hit.copies)]
    posts = ledger.posts(keys) if keys else {}
    found = tuple(_found(hit, posts, channels) for hit in ranked if hit.post in posts)
    end = perf_counter()
    newest = None if candidates.newest is None else datetime.fromtimestamp(candidates.newest / 1e6, UTC)
    if filters == Filters(channels=filters.channels):
        newest = max((status.last for status in chosen if status.last), default=newest)
    return SearchResult(
        query=typed,
        found=found,
        searched=Searched(tuple(channel.title for channel in channels.values()), candidates.n_posts, newest),
        relevance=any_relevance(candidates, calibration),
        searched_as=query if query != typed else "",
        are_key_words_named=bool(found) and are_key_words_named(candidates, ranked[0]),
        times_ms={
            "spelling": (spelled - scoped) * 1e3,
            "embed": (embedded - spelled) * 1e3,
            "retrieve": (retrieved - embedded) * 1e3,
            "fetch": (end - retrieved) * 1e3,
            "search": (end - start) * 1e3,
        },
    )


def _found(hit: Ranked, posts: dict[PostKey, Post], channels: dict[int, Channel]) -> FoundPost:
    def link(key: PostKey) -> str:
        return post_link(channels[key[0]], key[1], posts[key].topic_id)

    return FoundPost(
        post=replace(posts[hit.post], author_id=None),  # nobody's business where posts are shown
        channel=channels[hit.post[0]],
        score=hit.score,
        relevance=hit.relevance,
        dense=hit.dense,
        lexical=hit.lexical,
        chunk_text=hit.chunk_text,
        link=link(hit.post),
        reposts=tuple(link(key) for key in hit.copies if key in posts),
    )


def query_lemmas(query: str) -> list[str]:
    """Reduce a question to the different lemmas that are searched.

    Parameters
    ----------
    query : str

    Returns
    -------
    list of str
        In order, at most 64.
    """
    return list(dict.fromkeys(lemmas(query)))[:MAX_QUERY_LEMMAS]


def shorten(query: str, *, max_chars: int = MAX_QUERY_CHARS) -> str:
    """Cut an over-long question to what it asks: its last questions, else its beginning and its end.

    Parameters
    ----------
    query : str
        Cleaned text.
    max_chars : int, optional

    Returns
    -------
    str
        At most `max_chars`, cut between sentences or words.
    """
    if len(query) <= max_chars:
        return query
    parts = [query[start:end] for start, end in sentences(query)]
    asked = [part for part in parts if part.rstrip("\"'»”)").endswith("?")]
    kept: list[str] = []
    room = max_chars
    for part in reversed(asked):
        if len(part) + 1 > room:
            break
        kept.insert(0, part)
        room -= len(part) + 1
    if kept:
        return " ".join(kept)
    half = max_chars // 2 - 1
    return f"{query[:half].rsplit(' ', 1)[0]} {query[-half:].split(' ', 1)[-1]}"


def chosen_of(filters: Filters, allowed: Sequence[ChannelStatus]) -> list[ChannelStatus]:
    """Choose the channels to search: the named ones, else all whose owners agree to be found unnamed.

    Parameters
    ----------
    filters : Filters
    allowed : sequence of ChannelStatus
        Channels the asker may see; of them only approved ones are searched.

    Returns
    -------
    list of ChannelStatus

    Raises
    ------
    UnknownChannel
        A named one is not among them.
    """
    approved = [status for status in allowed if status.state == "approved"]
    if filters.channels is not None:
        return resolve(filters.channels, approved)
    return [status for status in approved if status.channel.is_cross]


def resolve(names: Sequence[str], allowed: Sequence[ChannelStatus]) -> list[ChannelStatus]:
    """Find the channels a person named among those they may see.

    Parameters
    ----------
    names : sequence of str
        ``@username``, ``t.me/username``, title, part of one title, or id, as typed.
    allowed : sequence of ChannelStatus
        Channels the asker may see.

    Returns
    -------
    list of ChannelStatus
        Without repeats.

    Raises
    ------
    UnknownChannel
        Names the unknown one and those available.
    """
    found: dict[int, ChannelStatus] = {}
    for name in names:
        matches = _matches(name, allowed)
        if len(matches) != 1:
            known = ", ".join(_shown(status.channel) for status in allowed[:20]) or "none"
            what = "more than one channel fits" if matches else "there is no channel"
            raise UnknownChannel(f"For «{clean(name)[:64]}» {what}.", cure=f"Available: {known}.")
        found[matches[0].channel.id] = matches[0]
    return list(found.values())


def _matches(name: str, allowed: Sequence[ChannelStatus]) -> list[ChannelStatus]:
    """Channels with this username or id; else with this title; else with this in the title."""
    wanted = clean(name).casefold()
    handle = re.sub(r"^(?:https?://)?(?:www\.)?(?:t\.me/|telegram\.me/|@)", "", wanted).rstrip("/")
    number = re.sub(r"^-100(?=\d{5})", "", handle)
    by_name = [
        status
        for status in allowed
        if handle and (handle == (status.channel.username or "").casefold() or number == str(status.channel.id))
    ]
    if by_name or not wanted or wanted.startswith("@"):
        return by_name
    titles = [(status.channel.title.casefold(), status) for status in allowed]
    exact = [status for title, status in titles if title == wanted]
    return exact or [status for title, status in titles if wanted in title]


def _shown(channel: Channel) -> str:
    return f"@{channel.username}" if channel.username else channel.title
