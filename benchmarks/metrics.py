"""Figures of retrieval and of probabilities, with seeded intervals. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def hit_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Tell whether a relevant document is among the first k.

    Parameters
    ----------
    k : int
    ranked : sequence of str
        Document ids, best first, without repeats.
    relevant : collection of str

    Returns
    -------
    float
        1 or 0.
    """
    return float(any(document in relevant for document in ranked[:k]))


def reciprocal_rank(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """One over the place of the first relevant document among the first k; 0 where there is none."""
    return next((1 / place for place, document in enumerate(ranked[:k], start=1) if document in relevant), 0.0)


def ndcg(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Discounted gain over the best possible one, binary relevance (Järvelin and Kekäläinen, 2002).

    Parameters
    ----------
    k : int
    ranked : sequence of str
        Document ids, best first, without repeats.
    relevant : collection of str
        Not empty.

    Returns
    -------
    float
        In [0, 1].
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = np.array([document in relevant for document in ranked[:k]], float)
    return float(gains @ discounts[: len(gains)] / discounts[: min(len(relevant), k)].sum())


MEASURES: dict[str, Callable[[Sequence[str], Collection[str]], float]] = {
    "hit@1": lambda ranked, relevant: hit_at(1, ranked, relevant),
    "hit@5": lambda ranked, relevant: hit_at(5, ranked, relevant),
    "hit@10": lambda ranked, relevant: hit_at(10, ranked, relevant),
    "mrr@10": lambda ranked, relevant: reciprocal_rank(10, ranked, relevant),
    "ndcg@10": lambda ranked, relevant: ndcg(10, ranked, relevant),
}


def interval(values: Sequence[float], *, seed: int = 0, rounds: int = 2000, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap the mean over queries (percentile method).

    Parameters
    ----------
    values : sequence of float
        One figure a query.
    seed : int, optional
    rounds : int, optional
    level : float, optional
        Share of resampled means inside.

    Returns
    -------
    tuple of (float, float)
    """
    sample = np.asarray(values, float)
    picks = np.random.default_rng(seed).integers(0, len(sample), (rounds, len(sample)))
    low, high = np.quantile(sample[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p(first: Sequence[float], second: Sequence[float], *, seed: int = 0, rounds: int = 10_000) -> float:
    """Two-sided p of a paired randomisation test that two methods differ (Smucker, Allan and Carterette, 2007).

    Parameters
    ----------
    first, second : sequence of float
        One figure a query, in the same order.
    seed : int, optional
    rounds : int, optional

    Returns
    -------
    float
        In (0, 1].
    """
    differences = np.asarray(first, float) - np.asarray(second, float)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (rounds, len(differences)))
    extreme = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12
    return float((extreme.sum() + 1) / (rounds + 1))


def needed(differences: NDArray[np.float64], *, power: float = 0.8, level: float = 0.05) -> float:
    """Return the mean gain that so many questions would show at a two-sided level, with a power, by the normal law.

    Parameters
    ----------
    differences : numpy.ndarray
        Gains by question, whose spread is taken.
    power, level : float, optional

    Returns
    -------
    float
    """
    quantile = NormalDist().inv_cdf
    return float((quantile(1 - level / 2) + quantile(power)) * differences.std(ddof=1) / len(differences) ** 0.5)


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Chance that a positive scores above a negative, ties as half.

    Parameters
    ----------
    positives, negatives : sequence of float
        Scores; neither empty.

    Returns
    -------
    float
        In [0, 1].
    """
    ordered = np.sort(np.asarray(negatives, float))
    scores = np.asarray(positives, float)
    below = np.searchsorted(ordered, scores, side="left")
    upto = np.searchsorted(ordered, scores, side="right")
    return float((below + upto).mean() / 2 / len(ordered))


def reliability(
    chances: Sequence[float],
    truths: Sequence[bool],
    weights: Sequence[float] | None = None,
    *,
    bins: int = 10,
) -> dict[str, object]:
    """Compare probabilities with what happened.

    Parameters
    ----------
    chances : sequence of float
        Predicted probabilities.
    truths : sequence of bool
    weights : sequence of float, optional
        How much each counts; the same by default.
    bins : int, optional
        Equal widths over [0, 1].

    Returns
    -------
    dict
        ``brier``; ``ece`` (expected calibration error); ``bins``: list of (mean prediction, share true, count).
    """
    predicted, true = np.asarray(chances, float), np.asarray(truths, float)
    weight = np.ones(len(predicted)) if weights is None else np.asarray(weights, float)
    weight = weight / weight.sum()
    places = np.minimum((predicted * bins).astype(int), bins - 1)
    rows, error = [], 0.0
    for place in range(bins):
        inside = places == place
        if inside.any():
            mean, share = (float(np.average(values[inside], weights=weight[inside])) for values in (predicted, true))
            rows.append((mean, share, int(inside.sum())))
            error += abs(mean - share) * float(weight[inside].sum())
    return {"brier": float(weight @ (predicted - true) ** 2), "ece": error, "bins": rows}
