"""Ways to score chunks by a query, side by side: words in four cuts, vectors, and how their lists are joined. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from appliance.text import lemmas, words

Scores = NDArray[np.float32]
K1, B = 1.2, 0.75
RRF_K = 60  # Cormack, Clarke and Büttcher, 2009
DEEP = 100  # of each list that is fused
GRAMS = (3, 4, 5)


def raw(text: str) -> list[str]:
    """Cut into words as typed."""
    return words(text)


def stems(text: str) -> list[str]:
    """Cut into words and their Snowball stems (Russian, English)."""
    return [_stem(word) for word in words(text)]


def character_grams(text: str) -> list[str]:
    """Cut into character n-grams of three to five letters, words marked at both ends."""
    return [
        padded[at : at + size]
        for word in words(text)
        for padded in (f"^{word}$",)
        for size in GRAMS
        for at in range(max(1, len(padded) - size + 1))
    ]


@lru_cache(maxsize=1)
def _stemmers() -> tuple[Callable[[str], str], Callable[[str], str]]:
    import snowballstemmer

    return snowballstemmer.stemmer("russian").stemWord, snowballstemmer.stemmer("english").stemWord


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    russian, english = _stemmers()
    return english(word) if word.isascii() else russian(word)


CUTS: dict[str, Callable[[str], list[str]]] = {
    "raw": raw,
    "stems": stems,
    "lemmas": lemmas,
    "n-grams": character_grams,
}


@dataclass(frozen=True, slots=True)
class Postings:
    """An inverted index of texts cut into terms.

    Attributes
    ----------
    rows, counts : dict of str to numpy.ndarray
        By term: ascending row numbers, and how often the term stands in each.
    lengths : numpy.ndarray
        ``(n,)`` terms of each row.
    distinct : numpy.ndarray
        ``(n,)`` different terms of each row.
    """

    rows: dict[str, NDArray[np.int32]]
    counts: dict[str, Scores]
    lengths: Scores
    distinct: Scores

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]]) -> Postings:
        """Index texts already cut into terms."""
        rows: dict[str, list[int]] = {}
        counts: dict[str, list[int]] = {}
        lengths: list[int] = []
        distinct: list[int] = []
        for row, terms in enumerate(texts):
            counted = Counter(terms)
            lengths.append(len(terms))
            distinct.append(len(counted))
            for term, count in counted.items():
                rows.setdefault(term, []).append(row)
                counts.setdefault(term, []).append(count)
        return cls(
            {term: np.array(found, np.int32) for term, found in rows.items()},
            {term: np.array(found, np.float32) for term, found in counts.items()},
            np.array(lengths, np.float32),
            np.array(distinct, np.float32),
        )

    def bm25(self, terms: Sequence[str]) -> Scores:
        """Score every row by BM25 (Robertson and Zaragoza, 2009; Lucene's idf).

        Parameters
        ----------
        terms : sequence of str
            The query, cut as the texts were.

        Returns
        -------
        numpy.ndarray
            ``(n,)`` float32.
        """
        scores = np.zeros(len(self.lengths), np.float32)
        mean = max(float(self.lengths.mean()), 1.0)
        for term in dict.fromkeys(terms):
            if (rows := self.rows.get(term)) is None:
                continue
            count = self.counts[term]
            idf = math.log(1 + (len(self.lengths) - len(rows) + 0.5) / (len(rows) + 0.5))
            scores[rows] += idf * count * (K1 + 1) / (count + K1 * (1 - B + B * self.lengths[rows] / mean))
        return scores

    def jaccard(self, terms: Sequence[str]) -> Scores:
        """Score every row by the share of common terms: the intersection over the union (Jaccard, 1901)."""
        wanted = dict.fromkeys(terms)
        shared = np.zeros(len(self.lengths), np.float32)
        for term in wanted:
            if (rows := self.rows.get(term)) is not None:
                shared[rows] += 1
        found: Scores = shared / np.maximum(len(wanted) + self.distinct - shared, 1)
        return found

    def bytes(self) -> int:
        """Count the bytes of its arrays and terms."""
        arrays = sum(found.nbytes for part in (self.rows, self.counts) for found in part.values())
        return arrays + self.lengths.nbytes + self.distinct.nbytes + sum(len(term.encode()) + 49 for term in self.rows)


def reciprocal_ranks(*lists: Scores) -> Scores:
    """Join score lists by reciprocal rank fusion over the first `DEEP` of each."""
    fused = np.zeros(len(lists[0]), np.float32)
    for scores in lists:
        best = top(scores, DEEP)
        fused[best] += 1 / (RRF_K + 1 + np.arange(len(best), dtype=np.float32))
    return fused


def normalised_sum(lists: Sequence[Scores], weights: Sequence[float]) -> Scores:
    """Join score lists by a weighted sum of z-scores over the union of the first `DEEP` of each."""
    union = np.unique(np.concatenate([top(scores, DEEP) for scores in lists]))
    fused = np.full(len(lists[0]), -1e9, np.float32)
    fused[union] = sum(weight * standard(scores[union]) for scores, weight in zip(lists, weights, strict=True))
    return fused


def standard(values: Scores) -> Scores:
    """Return z-scores."""
    spread: Scores = (values - values.mean()) / max(float(values.std()), 1e-6)
    return spread


def top(scores: Scores, count: int) -> NDArray[np.int64]:
    """Places of the best scores above the least one, best first."""
    count = min(count, len(scores))
    best: NDArray[np.int64] = np.argpartition(-scores, count - 1)[:count]
    best = best[np.argsort(-scores[best], kind="stable")]
    found: NDArray[np.int64] = best[scores[best] > scores.min()]
    return found
