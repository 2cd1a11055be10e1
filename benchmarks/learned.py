"""Fusion by learned weights: a listwise model of the two scores, fitted on every set but the one it serves. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import DEEP, Scores, standard, top

STEPS, RATE, RIDGE = 300, 0.3, 1e-3
NAMES = ("dense", "lexical", "both", "agree")

Case = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]


class Learned:
    """Weights of fusion by set left out."""

    def __init__(self) -> None:
        self._cases: dict[str, list[Case]] = {}
        self._fitted: dict[str, NDArray[np.float64]] = {}

    def take(self, name: str, cases: Sequence[Case]) -> None:
        """Take the questions of a set."""
        self._cases[name] = list(cases)
        self._fitted.clear()

    @staticmethod
    def features(dense: Scores, lexical: Scores) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Choose the candidates of a question and describe them.

        Parameters
        ----------
        dense, lexical : numpy.ndarray
            ``(n,)`` scores of every chunk.

        Returns
        -------
        rows : numpy.ndarray
            ``(m,)`` of the first of either list.
        features : numpy.ndarray
            ``(m, 4)``: both z-scores, their product where both are above the mean, and whether the row is among the
            first ten of both.
        """
        by_meaning, by_words = top(dense, DEEP), top(lexical, DEEP)
        rows = np.union1d(by_meaning, by_words)
        first, second = standard(dense[rows]), standard(lexical[rows])
        agree = np.isin(rows, np.intersect1d(by_meaning[:10], by_words[:10])).astype(np.float32)
        both = np.maximum(first, 0) * np.maximum(second, 0)
        return rows, np.stack((first, second, both, agree), axis=1).astype(np.float32)

    def scores(self, name: str, dense: Scores, lexical: Scores) -> Scores:
        """Score every chunk for a question of a set by weights learned on the others; those beside the point, least."""
        rows, features = self.features(dense, lexical)
        fused = np.full(len(dense), -1e9, np.float32)
        fused[rows] = features @ self._weights(name).astype(np.float32)
        return fused

    def weights(self, name: str) -> dict[str, float]:
        """Return the weights that serve a set, by feature."""
        return dict(zip(NAMES, map(float, self._weights(name)), strict=True))

    def _weights(self, name: str) -> NDArray[np.float64]:
        if name not in self._fitted:
            self._fitted[name] = fit([cases for other, cases in self._cases.items() if other != name])
        return self._fitted[name]


def fit(sets: Sequence[Sequence[Case]]) -> NDArray[np.float64]:
    """Fit weights that raise the chance of a relevant candidate among all of its question (softmax over the list).

    Parameters
    ----------
    sets : sequence of sequence of Case
        Every set counts the same.

    Returns
    -------
    numpy.ndarray
        One weight a feature.
    """
    weights = np.array([1.0, 0.1, 0.0, 0.0])
    for _ in range(STEPS):
        slope = -RIDGE * weights
        for cases in sets:
            for features, _, truths in cases:
                if not truths.any():
                    continue
                logits = features @ weights
                chances = np.exp(logits - logits.max())
                chances /= chances.sum()
                relevant = chances * truths
                relevant /= max(relevant.sum(), 1e-12)
                slope += features.T @ (relevant - chances) / (len(cases) * len(sets))
        weights += RATE * slope
    return weights
