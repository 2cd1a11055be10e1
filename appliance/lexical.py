"""BM25 over lemmas in RAM, with near words for lemmas nobody wrote. Pure, no I/O.

Main postings are NumPy arrays; new rows go to a small delta of Python lists that is folded in when it has grown. Rows
are numbered in order of arrival; which rows still live is the caller's mask.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, count, islice

import numpy as np
from numpy.typing import NDArray

from appliance.dense import best_rows

Scores = NDArray[np.float32]
Rows = NDArray[np.int32]

K1 = 1.2
B = 0.75
RARITY = 1.5
NEAR_WORDS = 4  # vocabulary words that may stand for an unknown one
NEAR_LIKENESS = 0.5
COMMON = 16  # a word in more than this part of the rows is looked at last


class Lexicon:
    """Inverted index of rows of lemmas, scored by BM25 (Robertson and Zaragoza, 2009; Lucene's idf).

    Not thread-safe by itself: the owner holds a lock.
    """

    def __init__(self) -> None:
        self._terms: dict[str, int] = {}
        self._rows = 0  # of main and delta
        self._main_rows = 0
        self._mean_length = 1.0
        self._offsets: NDArray[np.int64] = np.zeros(1, np.int64)  # main: postings of term t at offsets[t]:offsets[t+1]
        self._docs: Rows = np.zeros(0, np.int32)
        self._counts: NDArray[np.uint16] = np.zeros(0, np.uint16)
        self._weights: Scores = np.zeros(0, np.float32)
        self._lengths = array("i")
        self._delta: dict[int, tuple[list[int], list[int]]] = {}  # term → rows, counts
        self._grams: dict[str, array[int]] = {}  # character trigram → terms
        self._gram_sizes = array("i")
        self._words: list[str] = []  # as far as the trigrams go

    def __len__(self) -> int:
        """Count rows, dead ones included."""
        return self._rows

    @property
    def vocabulary(self) -> int:
        """Number of different lemmas."""
        return len(self._terms)

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Append rows.

        Parameters
        ----------
        rows : iterable of sequence of str
            Lemmas of each new row, with repeats.
        """
        added = list(rows)
        if len(added) > _delta_room(self._main_rows):
            self._append_to_main(added)
            return
        terms = self._terms
        for row, lemmas in enumerate(added, start=self._rows):
            self._lengths.append(len(lemmas))
            for lemma, times in Counter(lemmas).items():
                postings = self._delta.setdefault(terms.setdefault(lemma, len(terms)), ([], []))
                postings[0].append(row)
                postings[1].append(min(times, 65535))
        self._rows += len(added)
        if self._rows - self._main_rows > _delta_room(self._main_rows):
            self._append_to_main([])
        elif not self._main_rows:
            self._mean_length = max(sum(self._lengths) / len(self._lengths), 1.0) if self._rows else 1.0

    def _append_to_main(self, added: list[Sequence[str]]) -> None:
        """Fold the delta and the added rows into the main postings."""
        terms = self._terms
        lengths = np.fromiter(map(len, added), np.int64, len(added))
        new = (lemma for lemma in dict.fromkeys(chain.from_iterable(added)) if lemma not in terms)
        terms.update(zip(list(new), count(len(terms)), strict=False))
        flat = np.fromiter(map(terms.__getitem__, chain.from_iterable(added)), np.int64, int(lengths.sum()))
        owner = np.repeat(np.arange(self._rows, self._rows + len(added), dtype=np.int64), lengths)
        keys, counts = np.unique(flat * (1 << 32) + owner, return_counts=True)  # sorted by term, then by row
        self._rows += len(added)
        self._lengths.extend(lengths.tolist())

        old_terms = np.repeat(np.arange(len(self._offsets) - 1, dtype=np.int64), np.diff(self._offsets))
        delta_sizes = [len(rows) for rows, _ in self._delta.values()]
        delta_terms = np.repeat(np.fromiter(self._delta, np.int64, len(self._delta)), delta_sizes)
        delta_docs = np.fromiter(chain.from_iterable(r for r, _ in self._delta.values()), np.int64, sum(delta_sizes))
        delta_counts = np.fromiter(chain.from_iterable(c for _, c in self._delta.values()), np.int64, sum(delta_sizes))
        all_terms = np.concatenate((old_terms, delta_terms, keys >> 32))
        # Parts are sorted by term, and rows only grow from part to part: a stable sort by term is enough.
        order = np.argsort(all_terms, kind="stable")
        self._docs = np.concatenate((self._docs, delta_docs, keys & 0xFFFFFFFF)).astype(np.int32)[order]
        self._counts = np.concatenate((self._counts, delta_counts, np.minimum(counts, 65535))).astype(np.uint16)[order]
        self._offsets = np.zeros(len(terms) + 1, np.int64)
        np.cumsum(np.bincount(all_terms, minlength=len(terms)), out=self._offsets[1:])
        self._delta.clear()
        self._main_rows = self._rows
        all_lengths = np.array(self._lengths, dtype=np.float32)
        self._mean_length = max(float(all_lengths.mean()), 1.0) if len(all_lengths) else 1.0
        self._weights = self._saturate(self._counts.astype(np.float32), all_lengths[self._docs])

    def _saturate(self, counts: Scores, lengths: Scores) -> Scores:
        """BM25's term-frequency part, from counts and row lengths of equal shape."""
        norm = np.float32(K1) * (np.float32(1 - B) + np.float32(B / self._mean_length) * lengths)
        return (counts * np.float32(K1 + 1) / (counts + norm)).astype(np.float32)

    def _postings(self, term: int) -> tuple[Rows, Scores]:
        """Rows of a term, ascending, and their weights."""
        if term < len(self._offsets) - 1:
            part = slice(int(self._offsets[term]), int(self._offsets[term + 1]))
            docs, weights = self._docs[part], self._weights[part]
        else:
            docs, weights = self._docs[:0], self._weights[:0]
        if (delta := self._delta.get(term)) is None:
            return docs, weights
        rows = np.array(delta[0], dtype=np.int32)
        lengths = np.array([self._lengths[row] for row in delta[0]], dtype=np.float32)
        new = self._saturate(np.array(delta[1], dtype=np.float32), lengths)
        return np.concatenate((docs, rows)), np.concatenate((weights, new))

    def rarity(self, lemma: str) -> float:
        """Inverse document frequency of a lemma, > 0; an unknown one has the largest.

        Parameters
        ----------
        lemma : str

        Returns
        -------
        float
        """
        term = self._terms.get(lemma)
        return self._idf(0 if term is None else len(self._postings(term)[0]))

    def rows_of(self, lemma: str) -> Rows:
        """Find the rows that have a lemma, dead ones included.

        Parameters
        ----------
        lemma : str

        Returns
        -------
        numpy.ndarray
            int32 row numbers, ascending; empty for an unknown lemma.
        """
        term = self._terms.get(lemma)
        return self._docs[:0] if term is None else self._postings(term)[0]

    def _idf(self, found_in: int) -> float:
        return math.log(1 + (self._rows - found_in + 0.5) / (found_in + 0.5))

    def near(self, lemma: str) -> list[tuple[str, float]]:
        """Find vocabulary words like an unknown one: part words and typos, by shared character trigrams.

        Parameters
        ----------
        lemma : str
            A lemma, at least four letters; shorter ones have no near words.

        Returns
        -------
        list of (str, float)
            At most four words with their likeness (Dice coefficient of trigrams, a shared beginning counts more),
            best first, each at least 0.5.
        """
        if len(lemma) < 4:
            return []
        self._extend_grams()
        wanted = _trigrams(lemma)
        lists = [np.array(self._grams[gram], dtype=np.int64) for gram in wanted if gram in self._grams]
        if not lists:
            return []
        terms, shared = np.unique(np.concatenate(lists), return_counts=True)
        sizes = np.array([self._gram_sizes[term] for term in terms], dtype=np.float64)
        likeness = 2 * shared / (len(wanted) + sizes)
        best = np.argsort(-likeness, kind="stable")[: 4 * NEAR_WORDS]
        scored = []
        for place in best:
            word = self._words[int(terms[place])]
            value = float(likeness[place])
            if len(lemma) >= 5 and (word.startswith(lemma) or (lemma.startswith(word) and len(word) >= 5)):
                value = max(value, 0.8)
            if value >= NEAR_LIKENESS and (word.isalpha() or not lemma.isalpha()):
                scored.append((word, min(value, 1.0)))
        scored.sort(key=lambda pair: -pair[1])
        return scored[:NEAR_WORDS]

    def _extend_grams(self) -> None:
        """Bring the trigrams of the vocabulary up to date."""
        known = len(self._gram_sizes)
        if known == len(self._terms):
            return
        for term, word in enumerate(islice(self._terms, known, None), start=known):
            self._words.append(word)
            grams = _trigrams(word)
            self._gram_sizes.append(len(grams))
            for gram in grams:
                self._grams.setdefault(gram, array("i")).append(term)

    def prepare(self, lemmas: Sequence[str]) -> list[tuple[float, list[tuple[Rows, Scores]]]]:
        """Look up a query once, for `score` and `detail`.

        Parameters
        ----------
        lemmas : sequence of str
            Lemmas of the query.

        Returns
        -------
        list of (float, list of (rows, weights))
            For each different lemma its idf (an unknown one has the largest) and its postings, idf included; of an
            unknown lemma the postings of its near words, scaled by likeness.
        """
        prepared: list[tuple[float, list[tuple[Rows, Scores]]]] = []
        for lemma in dict.fromkeys(lemmas):
            term = self._terms.get(lemma)
            docs, weights = self._postings(term) if term is not None else (self._docs[:0], self._weights[:0])
            idf = self._idf(len(docs))
            if len(docs):
                prepared.append((idf, [(docs, weights * np.float32(idf))]))
                continue
            nearby = []
            for word, likeness in self.near(lemma):
                docs, weights = self._postings(self._terms[word])
                if len(docs):
                    nearby.append((docs, weights * np.float32(self._idf(len(docs)) * likeness)))
            prepared.append((idf, nearby))
        return prepared

    def score(self, prepared: list[tuple[float, list[tuple[Rows, Scores]]]]) -> Scores:
        """Score all rows.

        Parameters
        ----------
        prepared : list
            From `prepare`.

        Returns
        -------
        numpy.ndarray
            ``(len(self),)`` float32 BM25 scores; 0 where no lemma of the query stands.
        """
        scores = np.zeros(self._rows, np.float32)
        for _, lists in prepared:
            if len(lists) == 1:
                docs, weights = lists[0]
                scores[docs] += weights  # rows of one term are distinct
            elif lists:  # near words are alternatives: the best one counts
                best = np.zeros(self._rows, np.float32)
                for docs, weights in lists:
                    best[docs] = np.maximum(best[docs], weights)
                scores += best
        return scores

    def best(
        self, prepared: list[tuple[float, list[tuple[Rows, Scores]]]], n: int, allowed: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Find the rows with the highest scores.

        Rare words first: once the rows that have them leave no room for rows with common words alone, only those rows
        are scored further (MaxScore, Turtle and Flood, 1995). The result is that of `score`.

        Parameters
        ----------
        prepared : list
            From `prepare`.
        n : int
            How many at most.
        allowed : numpy.ndarray
            ``(len(self),)`` bool: which rows may be chosen.

        Returns
        -------
        numpy.ndarray
            At most ``n`` row numbers with scores above 0, best first.
        """
        rare: list[tuple[float, list[tuple[Rows, Scores]]]] = []
        common: list[tuple[float, list[tuple[Rows, Scores]]]] = []
        for idf, lists in prepared:
            is_common = len(lists) == 1 and len(lists[0][0]) > self._rows // COMMON
            (common if is_common else rare).append((idf, lists))
        scores = self.score(rare)
        if common:
            most = sum(float(lists[0][1].max()) for _, lists in common)
            rows = np.flatnonzero((scores > 0) & allowed)
            found = scores[rows]
            edge = float(np.partition(found, -n)[-n]) if 0 < n <= len(found) else -1.0
            if edge >= most:
                rows = rows[found >= edge - most]
                found = scores[rows] + self.scores_of(common, rows)
                return rows[best_rows(found, n)]
            for _, ((docs, weights),) in common:
                scores[docs] += weights
        return best_rows(scores, n, allowed, above=0.0)

    def scores_of(self, prepared: list[tuple[float, list[tuple[Rows, Scores]]]], rows: NDArray[np.int64]) -> Scores:
        """Score given rows.

        Parameters
        ----------
        prepared : list
            From `prepare`.
        rows : numpy.ndarray
            ``(m,)`` row numbers.

        Returns
        -------
        numpy.ndarray
            ``(m,)`` float32: of `score`, these rows.
        """
        scores = np.zeros(len(rows), np.float32)
        for _, lists in prepared:
            scores += _looked_up(lists, rows)
        return scores

    def detail(
        self, prepared: list[tuple[float, list[tuple[Rows, Scores]]]], rows: NDArray[np.int64]
    ) -> tuple[Scores, Scores, Scores]:
        """Tell how much of the query stands in given rows.

        Parameters
        ----------
        prepared : list
            From `prepare`.
        rows : numpy.ndarray
            ``(m,)`` row numbers.

        Returns
        -------
        scores : numpy.ndarray
            ``(m,)`` float32: of `score`, these rows.
        coverage : numpy.ndarray
            ``(m,)`` float32 in [0, 1]: share of the query's idf whose lemmas the row has.
        rarity : numpy.ndarray
            ``(m,)`` float32: BM25 with idf to the power `RARITY`, so that rare words speak louder.
        """
        found = np.zeros((len(prepared), len(rows)), np.float32)
        for place, (_, lists) in enumerate(prepared):
            found[place] = _looked_up(lists, rows)
        idf = np.array([weight for weight, _ in prepared], np.float32)
        coverage: Scores = (idf / max(float(idf.sum()), 1e-6)) @ (found > 0).astype(np.float32)
        rarity = idf ** np.float32(RARITY - 1) @ found
        return found.sum(axis=0), coverage, rarity.astype(np.float32)

    def judge(self, lemmas: Sequence[str], others: Sequence[Sequence[str]]) -> tuple[Scores, Scores]:
        """Do as `detail` for texts that are not rows, by the idf and the mean length of the rows.

        Parameters
        ----------
        lemmas : sequence of str
            Lemmas of the query.
        others : sequence of sequence of str
            ``m`` texts as lemmas.

        Returns
        -------
        coverage, rarity : numpy.ndarray
            ``(m,)`` float32 each.
        """
        terms = list(dict.fromkeys(lemmas))
        idf = np.array([weight for weight, _ in self.prepare(terms)], np.float32)
        counts = np.array([[other.count(term) for term in terms] for other in others], np.float32)
        counts = counts.reshape(len(others), len(terms))
        lengths = np.array([len(other) for other in others], np.float32)[:, None]
        coverage: Scores = (counts > 0) @ (idf / max(float(idf.sum()), 1e-6))
        rarity: Scores = self._saturate(counts, lengths) @ idf**RARITY
        return coverage.astype(np.float32), rarity.astype(np.float32)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop all rows but the given ones, which are renumbered from 0 in order.

        Parameters
        ----------
        rows : numpy.ndarray
            ``(m,)`` ascending row numbers to keep.
        """
        self._append_to_main([])
        renumbered = np.full(self._rows, -1, np.int32)
        renumbered[rows] = np.arange(len(rows), dtype=np.int32)
        old_terms = np.repeat(np.arange(len(self._offsets) - 1, dtype=np.int64), np.diff(self._offsets))
        alive = renumbered[self._docs] >= 0
        kept_terms = old_terms[alive]
        used, compact = np.unique(kept_terms, return_inverse=True)
        names = list(self._terms)
        self._terms = {names[term]: place for place, term in enumerate(used.tolist())}
        self._words = []
        self._grams.clear()
        self._gram_sizes = array("i")
        self._docs = renumbered[self._docs[alive]]
        self._counts = self._counts[alive]
        self._weights = self._weights[alive]
        self._offsets = np.zeros(len(used) + 1, np.int64)
        np.cumsum(np.bincount(compact, minlength=len(used)), out=self._offsets[1:])
        self._lengths = array("i", np.array(self._lengths, dtype=np.int32)[rows].tolist())
        self._rows = self._main_rows = len(rows)
        self._append_to_main([])


def _looked_up(lists: list[tuple[Rows, Scores]], rows: NDArray[np.int64]) -> Scores:
    """Return the best weight that each row has in any of the lists, 0 where it is in none."""
    best = np.zeros(len(rows), np.float32)
    for docs, weights in lists:
        place = np.searchsorted(docs, rows)
        np.minimum(place, len(docs) - 1, out=place)
        best = np.maximum(best, weights[place] * (docs[place] == rows))
    return best


def _delta_room(main_rows: int) -> int:
    """Rows that the delta may hold before it is folded into the main postings."""
    return max(256, main_rows // 8)


def _trigrams(word: str) -> set[str]:
    padded = f"^{word}$"
    return {padded[i : i + 3] for i in range(len(padded) - 2)}
