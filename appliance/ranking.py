"""From candidates to posts: fusion, folding of reposts, probability of relevance. Pure, reads its coefficients once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from appliance.lexical import K1, RARITY
from appliance.schema import PostKey
from appliance.text import tokens

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

QUESTION_LEMMAS = frozenset(
    {
        "как",
        "что",
        "какой",
        "кто",
        "где",
        "когда",
        "почему",
        "зачем",
        "сколько",
        "который",
        "чей",
        "куда",
        "откуда",
        "ли",
    }
    | {"how", "what", "which", "who", "whom", "whose", "where", "when", "why"}
)
KEY_WORDS = 2  # a query of more is a question, or wants one post more than another
WHOLLY = 0.999  # coverage of a chunk that has every word
NEAR_BITS = 10  # fingerprints at most this far apart are compared word by word
NEAR_WORDS = 0.8  # share of common words (Jaccard) that makes a copy


@dataclass(frozen=True, slots=True)
class Candidates:
    """Chunks found by vector or by words, with both scores of each; rows run in parallel.

    Attributes
    ----------
    posts : list of (int, int)
        ``(m,)`` keys of the chunks' posts.
    ordinals, dates, fingerprints : numpy.ndarray
        ``(m,)`` int64; dates in microseconds since 1970.
    texts : list of str
        ``(m,)`` chunk texts.
    dense : numpy.ndarray
        ``(m,)`` float32 cosines with the query.
    lexical : numpy.ndarray
        ``(m,)`` float32 BM25 scores; 0 where no word is shared.
    coverage : numpy.ndarray
        ``(m,)`` float32 in [0, 1]: share of the query's idf whose lemmas stand in the chunk.
    rarity : numpy.ndarray
        ``(m,)`` float32 BM25 scores in which rare words speak louder.
    idf : numpy.ndarray
        Idf of each different lemma of the query.
    dense_mean, dense_std : float
        Mean and spread of the cosines in the scope (of a sample where it is large).
    asks : bool
        Whether the query has a question word.
    n_posts : int
        Posts in the scope.
    newest : int or None
        Date of the newest post in the scope, microseconds since 1970.
    """

    posts: list[PostKey]
    ordinals: Integers
    dates: Integers
    fingerprints: Integers
    texts: list[str]
    dense: Floats
    lexical: Floats
    coverage: Floats
    rarity: Floats
    idf: Floats
    dense_mean: float
    dense_std: float
    asks: bool
    n_posts: int
    newest: int | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A post in order of its fused score.

    Attributes
    ----------
    copies : tuple of (int, int)
        Keys of folded reposts, oldest first.
    """

    post: PostKey
    score: float
    relevance: float
    dense: float
    lexical: float
    coverage: float
    chunk_text: str
    copies: tuple[PostKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """Coefficients fitted for one embedder (``python -m benchmarks.calibrate --write`` writes them).

    Attributes
    ----------
    card : str
        The embedder's card.
    dense_unit : float
        Difference of cosines that weighs 1.
    coverage_weight : float
        Weight of the share of a question that stands in the chunk.
    words_weight : float
        Weight of a standard deviation of the words' scores, of a query that is no question.
    each, anything : tuple of float
        Logistic regressions over `evidence` and `query_evidence`: the intercept, then a coefficient for each feature.
    is_own : bool
        False when the embedder was never calibrated and these are the default embedder's.
    """

    card: str
    dense_unit: float
    coverage_weight: float
    words_weight: float
    each: tuple[float, ...]
    anything: tuple[float, ...]
    is_own: bool = True


@lru_cache(maxsize=8)
def calibration_of(card: str) -> Calibration:
    """Read the coefficients of an embedder; of one never calibrated, those of the default embedder.

    Parameters
    ----------
    card : str
        Name of the embedder's card.

    Returns
    -------
    Calibration
    """
    stored = json.loads(files("appliance").joinpath("calibration.json").read_text("utf-8"))
    row = stored["cards"].get(card) or stored["cards"][stored["default"]]
    return Calibration(
        card=card,
        dense_unit=row["dense_unit"],
        coverage_weight=row["coverage_weight"],
        words_weight=row["words_weight"],
        each=tuple(row["each"]),
        anything=tuple(row["anything"]),
        is_own=card in stored["cards"],
    )


def fuse(candidates: Candidates, calibration: Calibration) -> Floats:
    """Join the two kinds of scores of each candidate.

    Cosines keep their scale, so that a clear lead by meaning is not overruled. A question is matched by meaning, its
    words only break near ties: the share of them that the chunk has. Of other queries (titles, key words) the words
    count for more: their scores, rare words louder, standardised over the candidates.

    Parameters
    ----------
    candidates : Candidates
    calibration : Calibration

    Returns
    -------
    numpy.ndarray
        ``(m,)`` float32; only the order means something.
    """
    fused: Floats = candidates.dense / np.float32(calibration.dense_unit)
    if candidates.asks:
        fused += np.float32(calibration.coverage_weight) * candidates.coverage
    elif len(fused):
        rarity = candidates.rarity
        fused += calibration.words_weight * (rarity - rarity.mean()) / max(float(rarity.std()), 1e-6)
    return fused


EVIDENCE = ("dense", "margin", "coverage", "rarity")


def evidence(candidates: Candidates) -> Floats:
    """Features that tell whether a chunk answers the query.

    Parameters
    ----------
    candidates : Candidates

    Returns
    -------
    numpy.ndarray
        ``(m, len(EVIDENCE))`` float32: cosine; its distance from the mean of the scope, in tens of spreads, at most 1;
        share of the query's idf in the chunk; the words' score over the most that the query could get.
    """
    margin = (candidates.dense - candidates.dense_mean) / (10 * max(candidates.dense_std, 1e-3))
    most = max(float((candidates.idf**RARITY).sum()) * (K1 + 1), 1e-6)
    columns = (candidates.dense, np.minimum(margin, 1.0), candidates.coverage, candidates.rarity / most)
    return np.stack(columns, axis=1).astype(np.float32)


def relevance(candidates: Candidates, calibration: Calibration) -> Floats:
    """Probability that each candidate answers the query.

    Parameters
    ----------
    candidates : Candidates
    calibration : Calibration

    Returns
    -------
    numpy.ndarray
        ``(m,)`` float32 in [0, 1].
    """
    return _chance(evidence(candidates), calibration.each)


def query_evidence(candidates: Candidates, scores: Floats) -> Floats:
    """Features that tell whether anything found answers the query.

    Parameters
    ----------
    candidates : Candidates
    scores : numpy.ndarray
        ``(m,)`` fused scores.

    Returns
    -------
    numpy.ndarray
        ``(len(EVIDENCE),)`` float32: the best cosine and margin of all, the words' evidence of the best by score.
    """
    each = evidence(candidates)
    best = int(scores.argmax())
    return np.array([each[:, 0].max(), each[:, 1].max(), each[best, 2], each[best, 3]], np.float32)


def any_relevance(candidates: Candidates, calibration: Calibration) -> float:
    """Probability that anything found answers the query.

    Parameters
    ----------
    candidates : Candidates
    calibration : Calibration

    Returns
    -------
    float
        In [0, 1]; 0 for nothing found.
    """
    if not candidates.posts:
        return 0.0
    return float(_chance(query_evidence(candidates, fuse(candidates, calibration)), calibration.anything))


def are_key_words_named(candidates: Candidates, first: Ranked) -> bool:
    """Tell whether a query is a few key words and no question, and the first post holds them all.

    Such a query is farther by meaning from the post it asks for than a question is from its answer.

    Parameters
    ----------
    candidates : Candidates
    first : Ranked
        The best post.

    Returns
    -------
    bool
    """
    return not candidates.asks and 0 < len(candidates.idf) <= KEY_WORDS and first.coverage >= WHOLLY


def _chance(features: Floats, model: tuple[float, ...]) -> Floats:
    """Logistic regression: an intercept, then a coefficient for each feature."""
    logits = features @ np.array(model[1:], np.float32) + np.float32(model[0])
    chances: Floats = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    return chances.astype(np.float32)


def rank(candidates: Candidates, calibration: Calibration, *, limit: int) -> list[Ranked]:
    """Order posts: the best chunk stands for its post, copies of one text are folded into the oldest.

    Parameters
    ----------
    candidates : Candidates
    calibration : Calibration
    limit : int
        Posts wanted.

    Returns
    -------
    list of Ranked
        At most `limit`, best first.
    """
    scores = fuse(candidates, calibration)
    chances = relevance(candidates, calibration)
    marks = candidates.fingerprints.view(np.uint64)
    seen: set[PostKey] = set()
    groups: list[list[int]] = []  # candidate numbers: the best of the group first
    near = np.bitwise_count(marks[:, None] ^ marks[None, :]) <= NEAR_BITS
    words_of = cache(lambda row: frozenset(tokens(candidates.texts[row])))
    has_near = near.sum(axis=1) > 1
    for row in np.argsort(-scores, kind="stable").tolist():
        post = candidates.posts[row]
        if post in seen:
            continue
        seen.add(post)
        if has_near[row] and (
            group := next((g for g in groups if near[g[0], row] and _is_copy(marks, g[0], row, words_of)), None)
        ):
            group.append(row)
        elif len(groups) < limit:
            groups.append([row])
    return [_ranked(candidates, group, scores, chances) for group in groups]


def _ranked(candidates: Candidates, group: Sequence[int], scores: Floats, chances: Floats) -> Ranked:
    """Oldest post of a group of copies, with the scores of the best of them."""
    by_age = sorted(group, key=lambda row: (candidates.dates[row], candidates.posts[row]))
    best, oldest = group[0], by_age[0]
    return Ranked(
        post=candidates.posts[oldest],
        score=float(scores[best]),
        relevance=float(chances[best]),
        dense=float(candidates.dense[best]),
        lexical=float(candidates.lexical[best]),
        coverage=float(candidates.coverage[best]),
        chunk_text=candidates.texts[oldest],
        copies=tuple(candidates.posts[row] for row in by_age[1:]),
    )


def _is_copy(marks: NDArray[np.uint64], a: int, b: int, words_of: Callable[[int], frozenset[str]]) -> bool:
    """Tell whether two candidates with near fingerprints are the same piece of reposted text.

    Equal fingerprints are; near ones are where the chunks share most words and all numbers (a digest of another week or
    the notes of another version are not copies).
    """
    if not marks[a] or not marks[b]:
        return False
    if marks[a] == marks[b]:
        return True
    first, second = words_of(a), words_of(b)
    if any(word[0].isdigit() for word in first ^ second):
        return False
    return len(first & second) >= NEAR_WORDS * len(first | second)
