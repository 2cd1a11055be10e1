"""Unit vectors in RAM: rounded to bytes to tell which are worth comparing exactly. Pure, no I/O.

A byte a dimension is enough that none of the nearest is missed; figures: `postfinder bench hot`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import simsimd
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
Vectors = NDArray[np.float32]

RESCORED = 64  # rows at least that are compared exactly, and four times as many as are wanted
SAMPLED = 1 << 14  # estimates looked at to tell which are high
BLOCK = 1 << 13  # rows rounded at once


class Matrix:
    """A growing float32 matrix of unit rows. Rows are numbered in order of arrival; the caller masks dead ones.

    Not thread-safe by itself: the owner holds a lock.

    Parameters
    ----------
    dim : int
        Length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self._buffer: Vectors = np.zeros((0, dim), np.float32)
        self._bytes = np.zeros((0, dim), np.int8)  # each row in steps of its own
        self._steps: Vectors = np.zeros(0, np.float32)
        self._rows = 0

    def __len__(self) -> int:
        """Count rows, dead ones included."""
        return self._rows

    @property
    def vectors(self) -> Vectors:
        """All rows, ``(len(self), dim)``; a view."""
        return self._buffer[: self._rows]

    def add(self, vectors: Vectors) -> None:
        """Append rows.

        Parameters
        ----------
        vectors : numpy.ndarray
            ``(m, dim)`` float32.
        """
        start, self._rows = self._rows, self._rows + len(vectors)
        if self._rows > len(self._buffer):
            room = max(self._rows, len(self._buffer) * 5 // 4, 64)
            self._buffer = _grown(self._buffer, start, room)
            self._bytes = _grown(self._bytes, start, room)
            self._steps = _grown(self._steps, start, room)
        self._buffer[start : self._rows] = vectors
        for first in range(start, self._rows, BLOCK):
            last = min(first + BLOCK, self._rows)
            self._bytes[first:last], self._steps[first:last] = _in_bytes(self._buffer[first:last])

    def score(self, query: Vectors, rows: NDArray[np.int64] | None = None) -> Vectors:
        """Compare a query with rows exactly.

        Parameters
        ----------
        query : numpy.ndarray
            ``(dim,)`` float32 unit vector.
        rows : numpy.ndarray, optional
            ``(m,)`` row numbers; all rows by default.

        Returns
        -------
        numpy.ndarray
            ``(m,)`` float32 cosines.
        """
        # One thread: a BLAS product would wait for a second one, which costs milliseconds on a busy machine.
        vectors = self.vectors if rows is None else self._buffer.take(rows, axis=0)
        scores: Vectors = np.einsum("ij,j->i", vectors, query)
        return scores

    def nearest(self, query: Vectors, n: int, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Find the rows nearest to a query.

        Parameters
        ----------
        query : numpy.ndarray
            ``(dim,)`` float32 unit vector.
        n : int
            How many at most.
        allowed : numpy.ndarray
            ``(len(self),)`` bool: which rows may be chosen.

        Returns
        -------
        numpy.ndarray
            At most ``n`` row numbers, best first. Those compared exactly are chosen by their rounded vectors.
        """
        inside = int(np.count_nonzero(allowed))
        wanted = max(RESCORED, 4 * n)
        if inside <= wanted:
            rows = np.flatnonzero(allowed)
        else:
            likely = self._estimates(query)
            if inside < self._rows:
                places = np.flatnonzero(allowed)
                rows = places[_high(likely[places], wanted)]
            else:
                rows = _high(likely, wanted)
        return rows[best_rows(self.score(query, rows), n)]

    def _estimates(self, query: Vectors) -> Vectors:
        """Estimate the cosines of all rows, but for a factor that is the same for all."""
        asked, _ = _in_bytes(query[None])
        products = simsimd.cdist(asked, self._bytes[: self._rows], metric="dot", out_dtype="float32")
        estimates: Vectors = np.asarray(products)[0]
        estimates *= self._steps[: self._rows]
        return estimates

    def blank(self, rows: NDArray[np.int64]) -> None:
        """Overwrite rows with zeros (erased posts leave no vector behind)."""
        self._buffer[rows] = 0
        self._bytes[rows] = 0
        self._steps[rows] = 0

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop all rows but the given ones, which are renumbered from 0 in order."""
        self._buffer, self._bytes, self._steps = self._buffer[rows], self._bytes[rows], self._steps[rows]
        self._rows = len(rows)


def _grown(table: NDArray[T], used: int, room: int) -> NDArray[T]:
    grown = np.empty((room, *table.shape[1:]), table.dtype)
    grown[:used] = table[:used]
    return grown


def _in_bytes(vectors: Vectors) -> tuple[NDArray[np.int8], Vectors]:
    """Round rows to 255 levels, each by its own largest coordinate; returns them and the length of a step."""
    steps = np.maximum(np.abs(vectors).max(axis=1), np.float32(1e-9)) / np.float32(127)
    return np.rint(vectors / steps[:, None]).astype(np.int8), steps


def _high(scores: Vectors, wanted: int) -> NDArray[np.int64]:
    """Choose about as many of the highest scores as are wanted: what is high is told by a sample."""
    sample = scores[:: max(1, len(scores) // SAMPLED)]
    share = max(1, wanted * len(sample) // len(scores))
    rows = np.flatnonzero(scores >= np.partition(sample, -share)[-share])
    return rows if len(rows) >= wanted // 2 else np.argpartition(scores, -wanted)[-wanted:]


def best_rows(
    scores: Vectors, n: int, mask: NDArray[np.bool_] | None = None, *, above: float = -np.inf
) -> NDArray[np.int64]:
    """Choose the best rows.

    Parameters
    ----------
    scores : numpy.ndarray
        ``(rows,)`` float32.
    n : int
        How many at most.
    mask : numpy.ndarray, optional
        ``(rows,)`` bool: which rows may be chosen.
    above : float, optional
        Only scores above this.

    Returns
    -------
    numpy.ndarray
        At most ``n`` row numbers, best first; equal scores in order of row number.
    """
    if mask is not None:
        scores = np.where(mask, scores, np.float32(-np.inf))
    if 0 < n < len(scores):
        edge = np.partition(scores, len(scores) - n)[len(scores) - n]
        rows = np.flatnonzero(scores >= edge)
    else:
        rows = np.arange(len(scores)) if n > 0 else np.zeros(0, np.int64)
    rows = rows[scores[rows] > above]
    return rows[np.argsort(-scores[rows], kind="stable")][:n]
