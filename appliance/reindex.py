"""Another embedder without downtime: its index is built beside the one in service, checked, then put in its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from time import monotonic

import numpy as np
import structlog

from appliance.chunking import chunks_of
from appliance.errors import BadInput, StoreError
from appliance.hot import Scope
from appliance.index import Index
from appliance.ledger import Ledger
from appliance.ranking import calibration_of
from appliance.schema import Chunk, Post, PostKey, ReindexProgress
from appliance.shelf import Pair, Shelf
from appliance.text import clean, sentences
from models.errors import ModelError
from models.ports import Embedder

POSTS_A_BATCH = 32  # embedded and stored together; nothing larger is lost by a stop
SAMPLE = 60  # posts that must find themselves
TOP = 10
AS_GOOD = 0.9  # share of the old index's self-retrieval that the new one must reach
PROGRESS_EVERY_S = 0.5

log = structlog.get_logger()


async def reindex(
    card: str,
    *,
    shelf: Shelf,
    ledger: Ledger,
    load: Callable[[str], Embedder],
    rollback: bool = False,
    force: bool = False,
) -> AsyncIterator[ReindexProgress]:
    """Embed all posts with another model and switch to it. Searches go on; leaving this stream stops nothing.

    Parameters
    ----------
    card : str
        Card of the embedder; ignored for a rollback.
    shelf : Shelf
    ledger : Ledger
        Where the posts come from.
    load : callable
        Opens an embedder by its card; blocking.
    rollback : bool, optional
        Go back to the embedder before.
    force : bool, optional
        Switch even when the new index finds less.

    Yields
    ------
    ReindexProgress
        Twice a second, and at the end with ``done``. Called again while it runs, it shows the running one; called again
        after a stop, it goes on where that stopped.

    Raises
    ------
    BadInput
        It serves already, another one is being built, or there is nothing to go back to.
        Or the model cannot be opened or fails, or its index finds less than the old one; the old one goes on serving.
    StoreError
        The appliance stops.
    """
    if rollback:
        card = shelf.choice.previous
        if not card:
            raise BadInput("There is no index to go back to.", cure="`postfinder reindex --model CARD` makes another.")
    if shelf.job is None or shelf.job.done():
        if card == shelf.now.embedder.info.card:
            raise BadInput(f"The embedder {card} is in service already.", cure="Name another with --model.")
        shelf.progress = ReindexProgress(card=card, before=shelf.now.embedder.info.card)
        shelf.job = asyncio.create_task(asyncio.to_thread(_build, card, shelf, ledger, load, force or rollback))
    elif shelf.progress is not None and shelf.progress.card != card:
        raise BadInput(f"The index of {shelf.progress.card} is being built.", cure="Wait for its end.")
    job = shelf.job
    while not (await asyncio.wait({job}, timeout=PROGRESS_EVERY_S))[0]:
        if shelf.progress is not None:
            yield shelf.progress
    try:
        job.result()
    except ModelError as error:
        raise BadInput(error.args[0], cure=error.cure or "Run the command again: it goes on from here.") from error
    if shelf.progress is not None:
        yield shelf.progress


async def stop(shelf: Shelf) -> None:
    """Stop building, at the end of a batch; what is built stays."""
    shelf.stop.set()
    if shelf.job is not None:
        await asyncio.gather(shelf.job, return_exceptions=True)


def _build(card: str, shelf: Shelf, ledger: Ledger, load: Callable[[str], Embedder], force: bool) -> None:
    """Open, fill, check, switch. Blocking."""
    started = monotonic()
    embedder = load(card)

    def tell(**fields: object) -> None:
        assert shelf.progress is not None
        shelf.progress = replace(shelf.progress, elapsed_s=monotonic() - started, **fields)  # type: ignore[arg-type]

    index = shelf.open_for(embedder)
    tell(calibrated=calibration_of(card).is_own)
    bare: set[PostKey] = set()
    while missing := [key for key in _missing(index, ledger) if key not in bare]:
        total = sum(ledger.post_counts().values())
        for start in range(0, len(missing), POSTS_A_BATCH):
            if shelf.stop.is_set():
                raise StoreError("Building the index was stopped.", cure="The same command goes on with it.")
            tell(stage="building", posts=total - len(missing) + start, of=total)
            bare |= _fill(missing[start : start + POSTS_A_BATCH], embedder, index, shelf, ledger)
    tell(stage="checking", posts=len(index.posts()))
    mine, theirs, overlap = compare(Pair(embedder, index), shelf.now, ledger)
    tell(self_retrieval=mine, self_retrieval_before=theirs, overlap=overlap)
    if mine < AS_GOOD * theirs and not force:
        raise BadInput(
            f"With {card}, {mine:.0%} of sampled posts find themselves; with the one in service, {theirs:.0%}.",
            cure="The old index goes on serving. --force switches all the same.",
        )
    with shelf.lock:  # posts wait; searches do not
        _fill(_missing(index, ledger), embedder, index, shelf, ledger)
        index.remove(sorted(index.posts() - _wanted(ledger)))
        held, before = len(index.posts()), len(shelf.now.index.posts())
        if held < before and not force:
            raise BadInput(
                f"The new index holds {held} posts, the one in service {before}.",
                cure="The old index goes on serving. Run the command again, or with --force.",
            )
        shelf.switch(Pair(embedder, index))
    ledger.access.record("reindex", subject=card, detail={"posts": held, "self_retrieval": mine, "overlap": overlap})
    tell(stage="done", posts=held, of=held, done=True)
    log.info("reindex.done", card=card, posts=held, seconds=round(monotonic() - started, 1))


def _wanted(ledger: Ledger) -> set[PostKey]:
    return {(channel_id, message) for channel_id in ledger.post_counts() for message in ledger.post_ids(channel_id)}


def _missing(index: Index, ledger: Ledger) -> list[PostKey]:
    return sorted(_wanted(ledger) - index.posts())


def _fill(keys: Sequence[PostKey], embedder: Embedder, index: Index, shelf: Shelf, ledger: Ledger) -> set[PostKey]:
    """Embed posts of the ledger into an index, unless they change meanwhile; returns those with nothing to index."""
    read: dict[PostKey, Post] = ledger.posts(keys)
    chunks: list[Chunk] = [chunk for post in read.values() for chunk in chunks_of(post)]
    vectors = embedder.embed_passages([chunk.text for chunk in chunks])
    with shelf.lock:
        stored = ledger.posts(keys)
        same = {key for key, post in read.items() if stored.get(key) == post}
        rows = [row for row, chunk in enumerate(chunks) if (chunk.channel_id, chunk.message_id) in same]
        if rows:
            kept = [chunks[row] for row in rows]
            index.replace(
                sorted({(one.channel_id, one.message_id) for one in kept}), kept, vectors[np.array(rows, np.intp)]
            )
    return set(keys) - {(chunk.channel_id, chunk.message_id) for chunk in chunks}


def compare(new: Pair, old: Pair, ledger: Ledger) -> tuple[float, float, float]:
    """Ask both indexes, by vectors alone, with a sentence of each of some posts.

    Parameters
    ----------
    new, old : Pair
    ledger : Ledger

    Returns
    -------
    (mine, theirs, overlap)
        Share of the posts among the first ten found with the new and the old index, and the mean share of the first ten
        that both have in common; 1 for an empty index.
    """
    keys = sorted(new.index.posts())
    posts = ledger.posts(keys[:: max(1, len(keys) // SAMPLE)][:SAMPLE])
    if not posts:
        return 1.0, 1.0, 1.0
    scope = Scope(channels=frozenset(ledger.post_counts()), since=None, until=None, author=None, media=None)
    queries = []
    for post in posts.values():
        text = clean(post.text)
        spans = sentences(text) or [(0, len(text))]
        start, end = spans[len(spans) // 2]
        queries.append(text[start:end])
    mine = _nearest(new, queries, scope)
    theirs = _nearest(old, queries, scope)
    share = [len(set(a) & set(b)) / max(len(a), len(b), 1) for a, b in zip(mine, theirs, strict=True)]
    return (
        float(np.mean([key in found for key, found in zip(posts, mine, strict=True)])),
        float(np.mean([key in found for key, found in zip(posts, theirs, strict=True)])),
        float(np.mean(share)),
    )


def _nearest(pair: Pair, queries: Sequence[str], scope: Scope) -> list[list[PostKey]]:
    """First ten posts by vector of each query."""
    found = []
    for vector in pair.embedder.embed_queries(queries):
        candidates = pair.index.candidates(vector, [], scope=scope)
        order = np.argsort(-candidates.dense, kind="stable").tolist()
        found.append(list(dict.fromkeys(candidates.posts[row] for row in order))[:TOP])
    return found
