"""The hot tier: all chunks of a corpus in RAM, searched inside the asker's rights. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from appliance.dense import Matrix, Vectors
from appliance.lexical import Lexicon
from appliance.ranking import QUESTION_LEMMAS, Candidates
from appliance.schema import Chunk, PostKey

SAMPLE = 4096  # rows that say what an unrelated chunk's cosine is
VIEWS = 16  # scopes whose rows are kept marked


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be searched; applied before anything is ranked. None means no limit.

    Attributes
    ----------
    channels : frozenset of int or None
        Channel ids: the asker's rights and the channels they named.
    since, until : datetime or None
        Dates of posts, UTC-aware; ``until`` is exclusive.
    author : str or None
        Part of the author's name, any case.
    media : str or None
        Kind of media; ``"any"`` is any but none.
    """

    channels: frozenset[int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    author: str | None = None
    media: str | None = None


def microseconds(moment: datetime) -> int:
    """UTC-aware time as whole microseconds since 1970."""
    return round(moment.timestamp() * 1_000_000)


class Column(IntEnum):
    """Rows of the table of numbers; channels, authors and media are codes of their names."""

    CHANNEL = 0
    MESSAGE = 1
    ORDINAL = 2
    DATE = 3  # microseconds since 1970
    FINGERPRINT = 4
    AUTHOR = 5
    MEDIA = 6
    ALIVE = 7


@dataclass(frozen=True, slots=True)
class _View:
    """What a scope lets see of the rows as they are.

    Attributes
    ----------
    allowed : numpy.ndarray
        ``(rows,)`` bool.
    n_posts : int
    newest : int or None
        Microseconds since 1970.
    usual : tuple of numpy.ndarray
        ``(dim,)`` and ``(dim, dim)``: mean and covariance of the vectors in the channels; they tell what cosine with a
        query is usual.
    """

    allowed: NDArray[np.bool_]
    n_posts: int
    newest: int | None
    usual: tuple[Vectors, Vectors]


class HotTier:
    """Chunks as columns; a row is a chunk. Thread-safe: one lock around each call.

    Parameters
    ----------
    dim : int
        Length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._lock = Lock()
        self._lexicon = Lexicon()
        self._matrix = Matrix(dim)
        self._texts: list[str] = []
        self._buffer = np.zeros((len(Column), 64), np.int64)
        self._channels: dict[int, int] = {}  # id → code
        self._authors: dict[str | None, int] = {None: 0}
        self._media: dict[str | None, int] = {None: 0}
        self._rows_of: dict[PostKey, list[int]] = {}
        self._dead = 0
        self._views: dict[Scope, _View] = {}

    def __len__(self) -> int:
        """Count live chunks."""
        return len(self._texts) - self._dead

    def __contains__(self, post: PostKey) -> bool:
        """Whether a post has chunks here."""
        return post in self._rows_of

    def add(self, chunks: Sequence[Chunk], lemmas: Sequence[Sequence[str]], vectors: Vectors) -> None:
        """Append chunks.

        Parameters
        ----------
        chunks : sequence of Chunk
        lemmas : sequence of sequence of str
            Lemmas of each chunk.
        vectors : numpy.ndarray
            ``(len(chunks), dim)`` float32 unit rows.
        """
        with self._lock:
            self._add(chunks, lemmas, vectors)

    def replace(
        self, posts: Sequence[PostKey], chunks: Sequence[Chunk], lemmas: Sequence[Sequence[str]], vectors: Vectors
    ) -> None:
        """Put the chunks of posts in place of what these posts had; a search sees all of it or none."""
        with self._lock:
            self._remove(posts)
            self._add(chunks, lemmas, vectors)

    def remove(self, posts: Sequence[PostKey]) -> None:
        """Drop the chunks of posts; unknown posts are passed over."""
        with self._lock:
            self._remove(posts)

    def _add(self, chunks: Sequence[Chunk], lemmas: Sequence[Sequence[str]], vectors: Vectors) -> None:
        self._views.clear()
        start, end = len(self._texts), len(self._texts) + len(chunks)
        if end > self._buffer.shape[1]:
            grown = np.zeros((len(Column), max(end, self._buffer.shape[1] * 5 // 4)), np.int64)
            grown[:, :start] = self._buffer[:, :start]
            self._buffer = grown
        for row, chunk in enumerate(chunks, start=start):
            self._buffer[:, row] = (
                self._channels.setdefault(chunk.channel_id, len(self._channels)),
                chunk.message_id,
                chunk.ordinal,
                microseconds(chunk.date),
                chunk.fingerprint,
                self._authors.setdefault(chunk.author, len(self._authors)),
                self._media.setdefault(chunk.media, len(self._media)),
                True,
            )
            self._texts.append(chunk.text)
            self._rows_of.setdefault((chunk.channel_id, chunk.message_id), []).append(row)
        self._lexicon.add(lemmas)
        self._matrix.add(vectors)

    def _remove(self, posts: Sequence[PostKey]) -> None:
        gone = [row for post in dict.fromkeys(posts) for row in self._rows_of.pop(post, ())]
        if not gone:
            return
        self._views.clear()
        for row in gone:
            self._texts[row] = ""
        self._buffer[Column.ALIVE, gone] = False
        self._matrix.blank(np.array(gone))
        self._dead += len(gone)
        if self._dead > max(1000, len(self._texts) // 4):
            self._squeeze()

    def _squeeze(self) -> None:
        """Renumber the live rows."""
        rows = np.flatnonzero(self._column(Column.ALIVE))
        self._views.clear()
        self._lexicon.keep(rows)
        self._matrix.keep(rows)
        self._buffer = self._buffer[:, rows]
        self._texts = [self._texts[row] for row in rows.tolist()]
        self._rows_of = {}
        for row, post in enumerate(self._posts(np.arange(len(rows)))):
            self._rows_of.setdefault(post, []).append(row)
        self._dead = 0

    def _column(self, column: Column) -> NDArray[np.int64]:
        return self._buffer[column, : len(self._texts)]

    def _posts(self, rows: NDArray[np.int64]) -> list[PostKey]:
        ids = list(self._channels)
        channels = [ids[code] for code in self._buffer[Column.CHANNEL, rows].tolist()]
        return list(zip(channels, self._buffer[Column.MESSAGE, rows].tolist(), strict=True))

    def post_counts(self) -> dict[int, int]:
        """Count posts by channel."""
        with self._lock:
            counts: dict[int, int] = {}
            for channel, _ in self._rows_of:
                counts[channel] = counts.get(channel, 0) + 1
            return counts

    def rarity(self, lemma: str) -> float:
        """Inverse document frequency of a lemma, > 0."""
        with self._lock:
            return self._lexicon.rarity(lemma)

    def count(self, lemma: str, channels: Set[int]) -> int:
        """Count the live chunks of these channels that have a lemma."""
        with self._lock:
            return self._count(lemma, channels)

    def authors(self, channels: Set[int]) -> frozenset[str]:
        """Collect the authors of these channels' chunks."""
        with self._lock:
            codes = [code for channel, code in self._channels.items() if channel in channels]
            if not codes or len(self._authors) < 2:
                return frozenset()
            rows = np.isin(self._column(Column.CHANNEL), codes) & (self._column(Column.ALIVE) != 0)
            names = list(self._authors)
            found = np.unique(self._column(Column.AUTHOR)[rows])
            return frozenset(name for code in found.tolist() if (name := names[code]) is not None)

    def near(self, word: str, channels: Set[int]) -> list[tuple[str, float]]:
        """Find words of these channels that look like a word; see `Lexicon.near`."""
        with self._lock:
            return [pair for pair in self._lexicon.near(word) if self._count(pair[0], channels)]

    def _count(self, lemma: str, channels: Set[int]) -> int:
        rows = self._lexicon.rows_of(lemma)
        if not len(rows):
            return 0
        table = np.array([channel in channels for channel in self._channels] or [False])
        alive = self._column(Column.ALIVE)[rows] != 0
        return int((table[self._column(Column.CHANNEL)[rows]] & alive).sum())

    def candidates(self, vector: Vectors, lemmas: Sequence[str], *, scope: Scope, n: int) -> Candidates:
        """Find the best chunks by vector and by words, inside the scope.

        Parameters
        ----------
        vector : numpy.ndarray
            ``(dim,)`` unit vector of the query.
        lemmas : sequence of str
            Lemmas of the query.
        scope : Scope
        n : int
            Length of each of the two lists.

        Returns
        -------
        Candidates
            Union of the two lists, with both scores of every chunk.
        """
        with self._lock:
            view = self._view(scope)
            prepared = self._lexicon.prepare(lemmas)
            by_vector = self._matrix.nearest(vector, n, view.allowed)
            by_words = self._lexicon.best(prepared, n, view.allowed)
            rows = np.unique(np.concatenate((by_vector, by_words)))
            lexical, coverage, rarity = self._lexicon.detail(prepared, rows)
            mean, covariance = view.usual
            return Candidates(
                posts=self._posts(rows),
                ordinals=self._column(Column.ORDINAL)[rows],
                dates=self._column(Column.DATE)[rows],
                fingerprints=self._column(Column.FINGERPRINT)[rows],
                texts=[self._texts[row] for row in rows.tolist()],
                dense=self._matrix.score(vector, rows),
                lexical=lexical,
                coverage=coverage,
                rarity=rarity,
                idf=np.array([idf for idf, _ in prepared], np.float32),
                dense_mean=float(mean @ vector),
                dense_std=max(float(vector @ covariance @ vector), 0.0) ** 0.5,
                asks=not QUESTION_LEMMAS.isdisjoint(lemmas),
                n_posts=view.n_posts,
                newest=view.newest,
            )

    def judge(
        self, lemmas: Sequence[str], others: Sequence[Sequence[str]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Judge texts that are not here by what is rare here; see `Lexicon.judge`."""
        with self._lock:
            return self._lexicon.judge(lemmas, others)

    def _view(self, scope: Scope) -> _View:
        """Return what a scope lets see, kept until something changes."""
        view = self._views.pop(scope, None)
        if view is None:
            allowed = self._mask(scope)
            inside = np.flatnonzero(allowed)
            # What is usual is judged over the channels: the few posts of one day are not usual by themselves.
            channels = Scope(channels=scope.channels)
            usual = self._usual(inside) if scope == channels else self._view(channels).usual
            view = _View(
                allowed=allowed,
                n_posts=int((allowed & (self._column(Column.ORDINAL) == 0)).sum()),
                newest=int(self._column(Column.DATE)[inside].max()) if len(inside) else None,
                usual=usual,
            )
            if len(self._views) >= VIEWS:
                del self._views[next(iter(self._views))]
        self._views[scope] = view  # the last used comes last
        return view

    def _usual(self, rows: NDArray[np.int64]) -> tuple[Vectors, Vectors]:
        """Return mean and covariance of the vectors of rows, of a sample where they are many."""
        sample = self._matrix.vectors[rows[:: max(1, len(rows) // SAMPLE)]]
        if not len(sample):
            return np.zeros(self.dim, np.float32), np.eye(self.dim, dtype=np.float32)
        mean = sample.mean(axis=0)
        centred = sample - mean
        return mean, (centred.T @ centred / len(sample)).astype(np.float32)

    def _mask(self, scope: Scope) -> NDArray[np.bool_]:
        """Rows that live and lie inside the scope."""
        mask: NDArray[np.bool_] = self._column(Column.ALIVE) != 0
        if scope.channels is not None:
            table = np.array([channel in scope.channels for channel in self._channels] or [False])
            mask &= table[self._column(Column.CHANNEL)]
        if scope.since is not None:
            mask &= self._column(Column.DATE) >= microseconds(scope.since)
        if scope.until is not None:
            mask &= self._column(Column.DATE) < microseconds(scope.until)
        if scope.author is not None:
            wanted = scope.author.casefold()
            table = np.array([name is not None and wanted in name.casefold() for name in self._authors])
            mask &= table[self._column(Column.AUTHOR)]
        if scope.media == "any":
            mask &= self._column(Column.MEDIA) != 0
        elif scope.media is not None:
            mask &= self._column(Column.MEDIA) == self._media.get(scope.media, -1)
        return mask
