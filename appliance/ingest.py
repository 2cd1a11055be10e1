"""Posts in: read, cut, embedded, stored; the embedder never waits for the rest.

A post is saved in the ledger, which remembers it as not indexed; then its chunks replace the old ones in the index;
then the ledger forgets to worry. A stop anywhere between leaves a post that is either absent or known to be missing
from the index, and `reconcile` brings it there.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TypeVar

import numpy as np
import structlog

from appliance.chunking import chunks_of
from appliance.index import Index
from appliance.ledger import Ledger
from appliance.schema import Broken, Channel, Chunk, ImportProgress, Post, PostKey
from appliance.telegram_export import BytesRead, Skipped, find_export, read_export
from models.ports import Embedder, Vectors

POSTS_A_BATCH = 512  # compared with the ledger, embedded and stored together: many small commits bloat the index
POSTS_FIRST = 64  # of the first batch of an import, so that the embedder starts at once
TEXTS_A_STEP = 64  # embedded between two looks at whether to stop
# Python lets a thread keep its turn for 5 ms; paid at each return from a kernel, that cost the embedder a third of its
# speed beside a busy neighbour.
PYTHON_TURN_S = 0.0005
BROKEN_KEPT = 1000  # reported one by one; further ones are counted
PROGRESS_EVERY_S = 1.0

Result = TypeVar("Result")
Edited = Callable[[Sequence[tuple[Post, Post]]], None]  # posts as they were, and as they are now

_LETTER = re.compile("[0-9A-Za-zА-Яа-яЁё]")

log = structlog.get_logger()

# What the ledger decides about a post and what the index then holds must not be interleaved with another writer's.
_storing = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Posts to store together."""

    posts: list[Post]
    chunks: list[Chunk]
    bytes_read: int = 0  # of the file, when it was complete


@dataclass(slots=True)
class _Tally:
    """What an import has done so far. Each count is written by one thread alone."""

    file: str
    bytes_total: int
    started: float = field(default_factory=monotonic)
    bytes_read: int = 0
    batched: int = 0  # posts read into batches …
    embedded: int = 0  # … and done with
    new: int = 0
    edited: int = 0
    same: int = 0
    overtaken: int = 0  # another writer stored the same first
    skipped: int = 0
    chunks: int = 0
    broken: list[Broken] = field(default_factory=list)
    broken_more: int = 0
    channels: list[Channel] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def progress(self, *, done: bool = False) -> ImportProgress:
        """Take a picture."""
        broken = tuple(self.broken)
        if self.broken_more:
            broken += (Broken(self.file, None, f"{self.broken_more} more of the like", self.broken[-1].cure),)
        return ImportProgress(
            file=self.file,
            bytes_read=self.bytes_total if done else self.bytes_read,
            bytes_total=self.bytes_total,
            new=self.new,
            edited=self.edited,
            same=self.same + self.overtaken,
            skipped=self.skipped,
            chunks=self.chunks,
            elapsed_s=monotonic() - self.started,
            broken=broken,
            channels=tuple(self.channels),
            done=done,
        )


async def import_export(
    path: Path,
    *,
    username: str | None = None,
    dry_run: bool = False,
    index: Index,
    ledger: Ledger,
    embedder: Embedder,
    edited: Edited | None = None,
) -> AsyncIterator[ImportProgress]:
    """Import a Telegram Desktop export. Doing it again changes nothing; a newer export updates edits.

    Parameters
    ----------
    path : Path
        The ``result.json`` or its folder.
    username : str, optional
        Public name of the exported channel, which the export does not hold.
    dry_run : bool, optional
        Say what would be done; write and embed nothing.
    index : Index
    ledger : Ledger
    embedder : Embedder
    edited : callable, optional
        Told of posts as they were and as they are, before they are stored.

    Yields
    ------
    ImportProgress
        About once a second, and at the end with ``done``. ``bytes_read`` counts what has been dealt with. What a
        progress counts as new or edited is stored for good, also when the import is then stopped.

    Raises
    ------
    BadExport
        It is no Telegram export.
    """
    file = await asyncio.to_thread(find_export, path)
    tally = _Tally(str(file), file.stat().st_size)
    if dry_run:
        work = asyncio.create_task(_in_thread(_count, _read(file, username, tally, ledger, is_dry=True), tally))
    else:
        await catch_up(index=index, ledger=ledger, embedder=embedder)
        batches = _read(file, username, tally, ledger, is_dry=False, edited=edited)
        work = asyncio.create_task(_flow(batches, tally, partial(_save, index, ledger, tally), embedder))
    try:
        while not (await asyncio.wait({work}, timeout=PROGRESS_EVERY_S))[0]:
            yield tally.progress()
        await work
    finally:
        tally.stop.set()
        await _settle(work)
    report = tally.progress(done=True)
    log.info(
        "import.done",
        file=report.file,
        new=report.new,
        edited=report.edited,
        same=report.same,
        skipped=report.skipped,
        broken=len(tally.broken) + tally.broken_more,
        chunks=report.chunks,
        seconds=round(report.elapsed_s, 1),
        dry_run=dry_run,
    )
    yield report


async def ingest(
    posts: Sequence[Post], *, index: Index, ledger: Ledger, embedder: Embedder, edited: Edited | None = None
) -> int:
    """Take new or edited posts. What is returned from is stored for good.

    Parameters
    ----------
    posts : sequence of Post
        Live ones; of known channels.
    index : Index
    ledger : Ledger
    embedder : Embedder
    edited : callable, optional
        Told of posts as they were and as they are, before they are stored.

    Returns
    -------
    int
        How many were new or edited; posts without text are neither, unless they had one.
    """
    tally = _Tally("", 0)
    await _flow(_batch_of(posts, tally, ledger, edited), tally, partial(_save, index, ledger, tally), embedder)
    return tally.new + tally.edited


def keep(posts: Sequence[Post], *, ledger: Ledger, edited: Edited | None = None) -> int:
    """Store posts that cannot be embedded now; `catch_up` makes them searchable. Blocking.

    Parameters
    ----------
    posts : sequence of Post
    ledger : Ledger
    edited : callable, optional

    Returns
    -------
    int
        How many were new or edited.
    """
    changed = _changed(posts, _Tally("", 0), ledger, is_dry=False, edited=edited)
    with _storing:
        changes = ledger.save_posts(changed)
    return len(changes.new) + len(changes.edited)


def withdraw(keys: Sequence[PostKey], *, index: Index, ledger: Ledger) -> int:
    """Remove posts that turned out to be parts of others, or of a channel refused; they may come back. Blocking.

    Parameters
    ----------
    keys : sequence of PostKey
    index : Index
    ledger : Ledger

    Returns
    -------
    int
        How many there were.
    """
    with _storing:
        gone = ledger.remove_posts(keys)
        if gone:
            index.remove(keys)
    return gone


async def reconcile(*, index: Index, ledger: Ledger, embedder: Embedder) -> list[str]:
    """Make the index hold what the ledger holds: after a crash, a lost index, another embedder.

    Parameters
    ----------
    index : Index
    ledger : Ledger
    embedder : Embedder

    Returns
    -------
    list of str
        What was done, for the operator; empty when all was well.
    """
    notes = []
    caught = await catch_up(index=index, ledger=ledger, embedder=embedder)
    if caught:
        notes.append(f"{caught} posts were saved but not searchable; now they are.")
    missing, orphans = await _in_thread(difference, index, ledger)
    if orphans:
        await _in_thread(index.remove, orphans)
        await _in_thread(index.compact)
        notes.append(f"{len(orphans)} posts were searchable but gone from the ledger; now they are gone from both.")
    if missing:
        log.info("index.rebuild", posts=len(missing))
        added = await _index_again(missing, index=index, ledger=ledger, embedder=embedder)
        if added:
            notes.append(f"{added} posts of the ledger were missing from the index; now they are there.")
    return notes


# --- what there is to do --------------------------------------------------------------------------------------------


def _read(
    file: Path, username: str | None, tally: _Tally, ledger: Ledger, *, is_dry: bool, edited: Edited | None = None
) -> Iterator[_Batch]:
    """Read an export into batches of the posts that change something; count the rest."""
    read: list[Post] = []
    changed: dict[PostKey, Post] = {}
    at = 0
    enough = POSTS_FIRST
    for item in read_export(file, username=username):
        if isinstance(item, Post):
            read.append(item)
            if len(read) == enough:
                _add(changed, _changed(read, tally, ledger, is_dry=is_dry, edited=edited))
                read = []
        elif isinstance(item, Channel):
            tally.channels.append(item)
            if not is_dry:
                ledger.save_channel(item)
        elif isinstance(item, Skipped):
            tally.skipped += item.count
        elif isinstance(item, Broken):
            if len(tally.broken) < BROKEN_KEPT:
                tally.broken.append(item)
            else:
                tally.broken_more += 1
        elif isinstance(item, BytesRead):
            at = item.count
            if not changed and tally.batched == tally.embedded:
                tally.bytes_read = at
        if len(changed) >= enough:
            yield _batch(changed.values(), tally, at)
            changed = {}
            enough = POSTS_A_BATCH
        if tally.stop.is_set():
            return
    _add(changed, _changed(read, tally, ledger, is_dry=is_dry, edited=edited))
    if changed:
        yield _batch(changed.values(), tally, at)


def _batch_of(posts: Sequence[Post], tally: _Tally, ledger: Ledger, edited: Edited | None = None) -> Iterator[_Batch]:
    """Put into batches those of a few posts that change something."""
    for start in range(0, len(posts), POSTS_A_BATCH):
        changed: dict[PostKey, Post] = {}
        some = posts[start : start + POSTS_A_BATCH]
        _add(changed, _changed(some, tally, ledger, is_dry=False, edited=edited))
        if changed:
            yield _batch(changed.values(), tally)


def _batch(posts: Iterable[Post], tally: _Tally, bytes_read: int = 0) -> _Batch:
    """Cut posts into chunks."""
    batch = _Batch(list(posts), [], bytes_read)
    for post in batch.posts:
        batch.chunks.extend(chunks_of(post))
    tally.batched += len(batch.posts)
    return batch


def _changed(
    posts: Sequence[Post], tally: _Tally, ledger: Ledger, *, is_dry: bool, edited: Edited | None = None
) -> list[Post]:
    """Pick the posts that the ledger lacks or holds in an older version; count the others."""
    latest: dict[PostKey, Post] = {}
    _add(latest, posts)
    for key in ledger.people.unwanted(latest.values()):
        del latest[key]  # deleted for good, or its author opted out
        tally.skipped += 1
    changes = ledger.classify(list(latest.values()))
    bare = [key for key in changes.new if not _has_words(latest[key])]
    tally.skipped += len(bare)
    tally.same += len(changes.same)
    if changes.same and not is_dry:
        ledger.save_posts([latest[key] for key in changes.same])  # their reactions may have moved
    if is_dry:
        tally.new += len(changes.new) - len(bare)
        tally.edited += len(changes.edited)
    if changes.edited and edited is not None and not is_dry:
        before = ledger.posts(changes.edited)
        edited([(before[key], latest[key]) for key in changes.edited if key in before])
    wanted = {*changes.new, *changes.edited}.difference(bare)
    return [post for key, post in latest.items() if key in wanted]


def _add(latest: dict[PostKey, Post], posts: Iterable[Post]) -> None:
    """Add posts by key; of two of one key the later edit stays, of equals the later one."""
    for post in posts:
        known = latest.get(post.key)
        if known is None or known.edited_at is None or (post.edited_at and post.edited_at >= known.edited_at):
            latest[post.key] = post


def _has_words(post: Post) -> bool:
    """Whether there is anything to search for: a bare picture or emoji has nothing."""
    return _LETTER.search(post.text) is not None or bool(chunks_of(post))


def _count(batches: Iterator[_Batch], tally: _Tally) -> None:
    """Go through the batches of a dry run."""
    for batch in batches:
        tally.chunks += len(batch.chunks)
        tally.embedded += len(batch.posts)


# --- embedding and storing ------------------------------------------------------------------------------------------


async def _flow(
    batches: Iterator[_Batch], tally: _Tally, store: Callable[[_Batch, Vectors], None], embedder: Embedder
) -> None:
    """Embed a batch while the next is read and the one before is stored."""
    turn_s = sys.getswitchinterval()
    sys.setswitchinterval(min(turn_s, PYTHON_TURN_S))
    reading = asyncio.create_task(_in_thread(next, batches, None))
    embedding: asyncio.Task[Vectors | None] | None = None
    storing: asyncio.Task[None] | None = None
    try:
        while (batch := await _result(reading)) is not None:
            reading = asyncio.create_task(_in_thread(next, batches, None))
            embedding = asyncio.create_task(_in_thread(_embed, batch, tally, embedder))
            vectors = await _result(embedding)
            if vectors is None:
                return
            if storing is not None:
                await _result(storing)
            storing = asyncio.create_task(_in_thread(store, batch, vectors))
        if storing is not None:
            await _result(storing)
    finally:
        sys.setswitchinterval(turn_s)
        tally.stop.set()
        for task in (reading, embedding, storing):
            if task is not None:
                await _settle(task)


def _embed(batch: _Batch, tally: _Tally, embedder: Embedder) -> Vectors | None:
    """Embed the chunks of a batch, equal texts once; None when told to stop."""
    rows: dict[str, int] = {}
    for chunk in batch.chunks:
        rows.setdefault(chunk.text, len(rows))
    vectors = np.empty((len(rows), embedder.info.dim), np.float32)
    order = sorted(rows, key=len)
    bytes_before, chunks_before = tally.bytes_read, tally.chunks
    for start in range(0, len(order), TEXTS_A_STEP):
        if tally.stop.is_set():
            return None
        step = order[start : start + TEXTS_A_STEP]
        vectors[[rows[text] for text in step]] = embedder.embed_passages(step)
        share = (start + len(step)) / len(order)
        tally.chunks = chunks_before + int(share * len(batch.chunks))
        tally.bytes_read = bytes_before + int(share * max(0, batch.bytes_read - bytes_before))
    tally.embedded += len(batch.posts)
    places = [rows[chunk.text] for chunk in batch.chunks]
    return vectors[np.array(places, np.intp)]


def _save(index: Index, ledger: Ledger, tally: _Tally, batch: _Batch, vectors: Vectors) -> None:
    """Store a batch of new and edited posts for good and count it."""
    with _storing:
        changes = ledger.save_posts(batch.posts)
        _replace(index, ledger, batch, vectors, [*changes.new, *changes.edited])
    tally.new += len(changes.new)
    tally.edited += len(changes.edited)
    tally.overtaken += len(changes.same)


def _save_again(index: Index, ledger: Ledger, batch: _Batch, vectors: Vectors) -> None:
    """Store a batch of posts that came from the ledger, unless they have changed there since."""
    with _storing:
        stored = ledger.posts([post.key for post in batch.posts])
        _replace(index, ledger, batch, vectors, [post.key for post in batch.posts if stored.get(post.key) == post])


def _replace(index: Index, ledger: Ledger, batch: _Batch, vectors: Vectors, keys: Sequence[PostKey]) -> None:
    """Give the index the chunks of these posts of the batch; then the ledger may forget to worry."""
    wanted = set(keys)
    rows = [row for row, chunk in enumerate(batch.chunks) if (chunk.channel_id, chunk.message_id) in wanted]
    index.replace(keys, [batch.chunks[row] for row in rows], vectors[np.array(rows, np.intp)])
    ledger.mark_indexed(keys)


# --- healing --------------------------------------------------------------------------------------------------------


async def catch_up(*, index: Index, ledger: Ledger, embedder: Embedder) -> int:
    """Index the posts that a stop, or an embedder that was away, left saved but not indexed.

    Parameters
    ----------
    index : Index
    ledger : Ledger
    embedder : Embedder

    Returns
    -------
    int
        How many.
    """
    caught = 0
    while posts := await _in_thread(ledger.unindexed, POSTS_A_BATCH):
        tally = _Tally("", 0)
        store = partial(_save_again, index, ledger)
        await _flow(iter([_batch(posts, tally)]), tally, store, embedder)
        caught += len(posts)
    return caught


def difference(index: Index, ledger: Ledger) -> tuple[list[PostKey], list[PostKey]]:
    """Find the posts of the ledger that the index lacks, and those of the index that the ledger lacks. Blocking.

    Parameters
    ----------
    index : Index
    ledger : Ledger

    Returns
    -------
    (list of PostKey, list of PostKey)
        Sorted; posts without a letter are in no index.
    """
    counts = ledger.post_counts()
    if index.post_counts() == counts:
        return [], []
    held = index.posts()
    wanted = {(channel_id, message_id) for channel_id in counts for message_id in ledger.post_ids(channel_id)}
    return sorted(wanted - held), sorted(held - wanted)


async def _index_again(keys: Sequence[PostKey], *, index: Index, ledger: Ledger, embedder: Embedder) -> int:
    """Index posts of the ledger; returns how many have anything to index."""
    tally = _Tally("", 0)
    added: set[PostKey] = set()

    def batches() -> Iterator[_Batch]:
        for start in range(0, len(keys), POSTS_A_BATCH):
            batch = _batch(ledger.posts(keys[start : start + POSTS_A_BATCH]).values(), tally)
            added.update((chunk.channel_id, chunk.message_id) for chunk in batch.chunks)
            log.info("index.rebuild", posts=start + len(batch.posts), of=len(keys))
            yield batch

    await _flow(batches(), tally, partial(_save_again, index, ledger), embedder)
    return len(added)


# --- threads --------------------------------------------------------------------------------------------------------


async def _in_thread(function: Callable[..., Result], *args: object) -> Result:
    """Run a blocking function in a thread; when cancelled, wait for its end all the same."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    if await _settle(work):
        raise asyncio.CancelledError
    return work.result()


async def _result(work: asyncio.Future[Result]) -> Result:
    """Wait for work without cancelling it when cancelled."""
    await asyncio.wait({work})
    return work.result()


async def _settle(work: asyncio.Future[Result]) -> bool:
    """Wait for the end of work, whatever comes of it; returns whether a cancellation came meanwhile."""
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            cancelled = True
    if not work.cancelled():
        work.exception()  # seen: what nobody waits for any more is not reported again
    return cancelled
