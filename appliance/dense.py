"""Unit vectors in RAM, searched exactly. Pure, no I/O."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


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
        self._buffer[self._rows : needed] = vectors
        self._rows = needed

    def score(self, query: Vectors) -> Vectors:
        """Compare a query with all rows.

        Parameters
        ----------
        query : numpy.ndarray
            ``(dim,)`` float32 unit vector.

        Returns
        -------
        numpy.ndarray
            ``(len(self),)`` float32 cosines.
        """
        # One thread: a BLAS product would wait for a second one, which costs milliseconds on a busy machine.
        scores: Vectors = np.einsum("ij,j->i", self.vectors, query)
        return scores

    def blank(self, rows: NDArray[np.int64]) -> None:
        """Overwrite rows with zeros (erased posts leave no vector behind)."""
        self._buffer[rows] = 0

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop all rows but the given ones, which are renumbered from 0 in order."""
        self._buffer = self._buffer[rows]
        self._rows = len(rows)


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
