"""A digest of a period: the posts that tell most, a sentence of each with its link, like by like.

Quoted by default; written by the model where there is one, through the same reader as every answer.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import perf_counter

import numpy as np

from appliance.answer import cite, keep
from appliance.config import Config
from appliance.grounded import Written, write
from appliance.hot import Scope
from appliance.ledger import Ledger
from appliance.links import post_link
from appliance.quoting import has_figure, is_heading, shorten
from appliance.schema import (
    Answer,
    Asker,
    Channel,
    ChannelStatus,
    Door,
    Filters,
    Final,
    FoundPost,
    Links,
    Part,
    Piece,
    Post,
    QuestionRow,
    Searched,
    Sentence,
)
from appliance.search import chosen_of
from appliance.shelf import Pair
from appliance.text import clean, sentences
from models.ports import Generator, Vectors

POSTS = 8  # told of
LOOKED_AT = 5000  # chunks of the period
EMBEDDED = 48  # posts compared by meaning
MIN_CHARS = 40  # a shorter post tells little
ALIKE = 0.5  # share of the spread of cosines above which two posts are of one topic
_ASKED = {
    "ru": "Что главное произошло? Расскажи о каждом посте одним предложением.",
    "en": "What were the main events? Tell of each post in one sentence.",
}


async def digest(
    asker: Asker,
    filters: Filters,
    *,
    days: int | None = 7,
    door: Door = "api",
    text: str = "/digest",
    dialogue_id: str = "",
    question_id: str | None = None,
    config: Config,
    pair: Callable[[], Pair],
    ledger: Ledger,
    generator: Generator | None = None,
    saved: Callable[[QuestionRow], None] = lambda row: None,
) -> AsyncIterator[Part]:
    """Tell what the posts of a period say.

    Parameters
    ----------
    asker : Asker
        Only channels they may see are read.
    filters : Filters
        Dates where given.
    days : int, optional
        Days back from the newest post; used when `filters` has no first date.
    door : {'telegram', 'web', 'api', 'cli'}, optional
    text, dialogue_id : str, optional
        The question that asked for it, and the dialogue it belongs to.
    question_id : str, optional
        Of its row, whose place it takes; a new one by default.
    config : Config
    pair : callable
        Returns the embedder and the index in service.
    ledger : Ledger
    generator : Generator, optional
        Writes the digest; without it, or when it is down or unsupported, the posts are quoted.
    saved : callable, optional
        Told of the row once it is durable.

    Yields
    ------
    Part
        `Links`, a `Piece` a sentence, and one `Final`; ``not_found`` for a period without posts.

    Raises
    ------
    UnknownChannel
        A channel the asker cannot see.
    """
    started, asked_at = perf_counter(), datetime.now(UTC)
    language = asker.language
    found, searched = await asyncio.to_thread(_read, asker, filters, days, pair(), ledger)
    shown = cite(found)
    times_ms = {"links": (perf_counter() - started) * 1000}
    yield Links(shown)
    told: list[Sentence] = []
    model, note, tokens = "quotes", "", 0
    if found and generator is not None:
        written = Written()
        writing = write(
            _ASKED[language],
            found,
            written,
            generator=generator,
            language=language,
            context_tokens=config.generator_context_tokens,
            deadline_s=config.answer_deadline_s,
        )
        async with aclosing(writing):
            async for sentence in writing:
                yield Piece(sentence)
        times_ms["first_token"], tokens = written.first_token_ms, written.pieces
        if written.down:
            note = "model_down"
        elif written.sentences:
            told, model = written.sentences, generator.name
        else:
            note = "model_unsupported"
    if not told:
        told = [Sentence(first_saying(hit.post.text), (number,)) for number, hit in enumerate(found, start=1)]
        for sentence in told:
            yield Piece(sentence)
    times_ms["complete"] = (perf_counter() - started) * 1000
    cited = {number for sentence in told for number in sentence.citations}
    citations = tuple(one for one in shown if one.number in cited)
    row = QuestionRow(
        id=question_id or uuid.uuid4().hex,
        dialogue_id=dialogue_id or uuid.uuid4().hex,
        user_id=asker.user_id,
        door=door,
        asked_at=asked_at,
        text=text,
        query=text,
        language=language,
        outcome="answered" if told else "not_found",
        model=model,
        posts=tuple(citation.post for citation in citations),
        answer_text=" ".join(sentence.text for sentence in told),
        relevance=float(bool(told)),
        tokens=tokens,
        times_ms=times_ms,
    )
    await asyncio.to_thread(keep, row, ledger)
    saved(row)
    yield Final(
        Answer(
            id=row.id,
            dialogue_id=row.dialogue_id,
            outcome=row.outcome,
            sentences=tuple(told),
            citations=citations,
            searched=searched,
            language=language,
            model=model,
            query=row.query,
            relevance=row.relevance,
            note=note,
            times_ms=times_ms,
        )
    )


def _read(
    asker: Asker, filters: Filters, days: int | None, pair: Pair, ledger: Ledger
) -> tuple[tuple[FoundPost, ...], Searched]:
    """Choose the posts of a period. Blocking."""
    allowed: list[ChannelStatus] = ledger.channels(asker)
    chosen = chosen_of(filters, allowed)
    channels = {status.channel.id: status.channel for status in chosen}
    told = [status for status in chosen if status.channel.kind != "answers"] or chosen  # an answer is no news
    newest = max((status.last for status in told if status.last), default=None)
    if filters.since is None and newest is not None and days is not None:
        filters = replace(filters, since=min(newest, filters.until or newest) - timedelta(days=days))
    scope = Scope(
        channels=frozenset(channels),
        since=filters.since,
        until=filters.until,
        author=filters.author,
        media=filters.media,
    )
    anywhere = np.zeros(pair.embedder.info.dim, np.float32)
    anywhere[0] = 1.0
    inside = pair.index.candidates(anywhere, [], scope=scope, n=LOOKED_AT)
    posts = list(ledger.posts(dict.fromkeys(inside.posts)).values())
    searched = Searched(
        tuple(channel.title for channel in channels.values()),
        inside.n_posts,
        max((p.date for p in posts), default=None),
    )
    telling = sorted((post for post in posts if len(post.text) >= MIN_CHARS), key=weight, reverse=True)[:EMBEDDED]
    if not telling:
        return (), searched
    vectors = pair.embedder.embed_passages([clean(post.text)[:600] for post in telling])
    picked = by_topic(vectors, most_telling(vectors, [weight(post) for post in telling], POSTS))
    return tuple(_found(telling[place], channels) for place in picked), searched


def weight(post: Post) -> float:
    """Tell how much a post says by itself: reactions, length, figures."""
    return math.log1p(post.reactions) + math.log1p(len(post.text)) / 4 + 0.5 * has_figure(post.text)


def most_telling(vectors: Vectors, weights: Sequence[float], limit: int) -> list[int]:
    """Choose posts that stand for the period and do not repeat each other (maximal marginal relevance).

    Parameters
    ----------
    vectors : numpy.ndarray
        ``(posts, dim)`` unit rows.
    weights : sequence of float
        What each says by itself.
    limit : int

    Returns
    -------
    list of int
        Places, best first.
    """
    centred = vectors - vectors.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    near = np.einsum("id,jd->ij", centred, centred)
    worth = np.asarray(weights) / max(max(weights), 1e-6) + near.mean(axis=1)
    picked: list[int] = []
    while len(picked) < min(limit, len(weights)):
        said = near[:, picked].max(axis=1) if picked else np.zeros(len(weights))
        left = worth - said
        left[picked] = -np.inf
        picked.append(int(left.argmax()))
    return picked


def by_topic(vectors: Vectors, picked: Sequence[int]) -> list[int]:
    """Put posts of one topic side by side, the first of each topic in the given order."""
    centred = vectors - vectors.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    left, ordered = list(picked), []
    while left:
        head = left.pop(0)
        like = [place for place in left if float(centred[head] @ centred[place]) >= ALIKE]
        ordered += [head, *like]
        left = [place for place in left if place not in like]
    return ordered


def first_saying(text: str) -> str:
    """Return the first sentence of a post that says something, with its heading when that is all there is."""
    flat = clean(text)
    parts = [flat[start:end] for start, end in sentences(flat)] or [flat]
    saying = (part for place, part in enumerate(parts) if not is_heading(part, is_first=place == 0))
    return shorten(next(saying, parts[0]))


def _found(post: Post, channels: dict[int, Channel]) -> FoundPost:
    channel = channels[post.channel_id]
    link = post_link(channel, post.message_id, post.topic_id)
    return FoundPost(post, channel, 0.0, 1.0, 0.0, 0.0, post.text, link)
