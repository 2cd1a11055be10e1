"""Unit vectors in RAM: a bit a dimension tells which are worth comparing exactly. Pure, no I/O.

Codes are those of RaBitQ (Gao and Long, 2024) without its rotation, which changed nothing here: the signs of the
centred vector, its cosine with the centre, and the length of its shadow on its signs. Figures: `postfinder bench hot`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
Vectors = NDArray[np.float32]

EXACT = 4096  # rows up to which every one is compared: codes gain nothing there
RESCORED = 800  # rows at least that are compared exactly
RESCORED_SHARE = 1 / 50  # … and this share of all
PLANES = 2  # bits of a query's coordinate
STEP = 0.9957  # between its four levels, in standard deviations (Max, 1960)
BLOCK = 1 << 13  # rows whose codes are compared at once: they stay in the processor's cache


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
        self._codes: NDArray[np.uint64] = np.zeros((-(-dim // 64), 0), np.uint64)
        self._factors: Vectors = np.zeros((2, 0), np.float32)  # cosine with the centre; shadow
        self._centre: Vectors = np.zeros(dim, np.float32)
        self._centred_at = 0  # rows when the centre was found
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
        needed = self._rows + len(vectors)
        if needed > len(self._buffer):
            grown = np.empty((max(needed, len(self._buffer) * 5 // 4, 64), self._buffer.shape[1]), np.float32)
            grown[: self._rows] = self.vectors
            self._buffer = grown
            self._codes = _widened(self._codes, self._rows, len(grown))
            self._factors = _widened(self._factors, self._rows, len(grown))
        self._buffer[self._rows : needed] = vectors
        start, self._rows = self._rows, needed
        if needed > 2 * self._centred_at:
            self._centre = self.vectors.mean(axis=0)
            self._centred_at, start = needed, 0
        self._code(start)

    def _code(self, start: int) -> None:
        """Write the codes of the rows from `start` on."""
        for first in range(start, self._rows, BLOCK):
            last = min(first + BLOCK, self._rows)
            centred = self._buffer[first:last] - self._centre
            self._codes[:, first:last] = _packed(centred > 0).T
            lengths = np.einsum("ij,ij->i", centred, centred)
            self._factors[0, first:last] = np.einsum("ij,j->i", self._buffer[first:last], self._centre)
            self._factors[1, first:last] = lengths / np.maximum(np.abs(centred).sum(axis=1), 1e-9)

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
            At most ``n`` row numbers, best first. Exact up to `EXACT` allowed rows; of more, those missed are few
            (`RESCORED` of them, or ``4 n`` if that is more, are compared exactly).
        """
        inside = int(np.count_nonzero(allowed))
        wanted = max(RESCORED, int(self._rows * RESCORED_SHARE), 4 * n)
        if inside <= max(EXACT, wanted):
            rows = np.flatnonzero(allowed)
        else:
            likely = self._estimates(query)
            if inside < self._rows:
                likely[~allowed] = -np.inf
            rows = np.flatnonzero(likely >= np.partition(likely, -wanted)[-wanted])
        return rows[best_rows(self.score(query, rows), n)]

    def _estimates(self, query: Vectors) -> Vectors:
        """Estimate the cosines of all rows, but for what is the same for all, from their codes."""
        centred = query - self._centre
        step = np.float32(STEP) * centred.std()
        levels = np.clip(np.floor(centred / step) + 2, 0, 3).astype(np.uint8)
        planes = [_packed(levels[None] >> plane & 1)[0][:, None] for plane in reversed(range(PLANES))]
        found = np.empty(self._rows, np.float32)
        differing = np.empty((len(self._codes), BLOCK), np.uint64)
        bits = np.empty((len(self._codes), BLOCK), np.uint8)
        far = np.empty((PLANES, BLOCK), np.uint16)
        none_differs = np.float32(1.5 * len(query))
        for start in range(0, self._rows, BLOCK):
            end = min(start + BLOCK, self._rows)
            part, counts, steps = differing[:, : end - start], bits[:, : end - start], far[:, : end - start]
            for plane, code in enumerate(planes):
                np.bitwise_xor(self._codes[:, start:end], code, out=part)
                np.bitwise_count(part, out=counts)
                np.add.reduce(counts, axis=0, dtype=np.uint16, out=steps[plane])
            steps[0] *= 2
            steps[0] += steps[1]
            estimate = found[start:end]
            np.subtract(none_differs, steps[0], out=estimate)
            estimate *= step
            estimate *= self._factors[1, start:end]
            estimate += self._factors[0, start:end]
        return found

    def blank(self, rows: NDArray[np.int64]) -> None:
        """Overwrite rows with zeros (erased posts leave no vector behind)."""
        self._buffer[rows] = 0
        self._codes[:, rows] = 0
        self._factors[:, rows] = 0

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop all rows but the given ones, which are renumbered from 0 in order."""
        self._buffer = self._buffer[rows]
        self._codes = np.ascontiguousarray(self._codes[:, rows])
        self._factors = np.ascontiguousarray(self._factors[:, rows])
        self._rows = len(rows)


def _widened(table: NDArray[T], used: int, columns: int) -> NDArray[T]:
    wider = np.zeros((len(table), columns), table.dtype)
    wider[:, :used] = table[:, :used]
    return wider


def _packed(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Pack rows of bits into rows of 64-bit words; missing bits are 0."""
    packed = np.packbits(bits, axis=1)
    missing = -packed.shape[1] % 8
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, missing)))).view(np.uint64)


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
