"""The static query tower: a query's vector made of the vectors of its words, without running a model. Pure, no I/O.

Every lemma of the posts is embedded once, as a query of one word. The mean of a query's lemmas, the rarer the louder,
brought to where questions lie among all vectors, finds nearly what the embedder's own vector finds; figures and what
was tried instead (ridge regression from words and n-grams) are in `benchmarks/LOG.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from appliance.dense import Vectors

LEAST_KNOWN = 0.9  # share of the query's weight whose words must be known
REACH = 1.5  # how far from the mean a query made of words is put, in the usual distance: a mean of words is shy


class Tower:
    """Vectors of words, and where queries lie. Replaced words stay; not thread-safe by itself.

    Parameters
    ----------
    dim : int
        Length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self._places: dict[str, int] = {}
        self._vectors: Vectors = np.zeros((0, dim), np.float32)  # more rows than words: it grows by halves
        self._sum: Vectors = np.zeros(dim, np.float32)
        self._home: Vectors = np.zeros(dim, np.float32)  # mean of queries
        self._reach = 0.0

    def __len__(self) -> int:
        """Count words."""
        return len(self._places)

    def missing(self, lemmas: Iterable[str]) -> list[str]:
        """Return the lemmas that have no vector yet, each once."""
        return [lemma for lemma in dict.fromkeys(lemmas) if lemma not in self._places]

    def learn(self, lemmas: Sequence[str], vectors: Vectors) -> None:
        """Add words.

        Parameters
        ----------
        lemmas : sequence of str
            New ones.
        vectors : numpy.ndarray
            ``(len(lemmas), dim)`` float32: each embedded as a query.
        """
        known, needed = len(self._places), len(self._places) + len(lemmas)
        if needed > len(self._vectors):
            grown = np.zeros((max(needed, len(self._vectors) * 3 // 2), len(self._sum)), np.float32)
            grown[:known] = self._vectors[:known]
            self._vectors = grown
        self._vectors[known:needed] = vectors
        self._places.update(zip(lemmas, range(known, needed), strict=True))
        self._sum += vectors.sum(axis=0)

    def settle(self, queries: Vectors) -> None:
        """Learn where queries lie.

        Parameters
        ----------
        queries : numpy.ndarray
            ``(m, dim)`` float32: whole queries embedded, such as first lines of posts.
        """
        self._home = queries.mean(axis=0)
        self._reach = REACH * float(np.linalg.norm(queries - self._home, axis=1).mean())

    def encode(self, lemmas: Iterable[str], rarity: Callable[[str], float]) -> Vectors | None:
        """Make a query's vector.

        Parameters
        ----------
        lemmas : iterable of str
            Of the query.
        rarity : callable
            Weight of a lemma, > 0.

        Returns
        -------
        numpy.ndarray or None
            ``(dim,)`` float32 unit vector; None where too little of the query is known: the embedder must read it.
        """
        weights = {lemma: rarity(lemma) for lemma in lemmas}
        known = [lemma for lemma in weights if lemma in self._places]
        loud = np.array([weights[lemma] for lemma in known], np.float32)
        if not known or not self._reach or float(loud.sum()) < LEAST_KNOWN * sum(weights.values()):
            return None
        aim = loud @ (self._vectors[[self._places[lemma] for lemma in known]] - self._sum / len(self._places))
        vector = self._home + self._reach * aim / max(float(np.linalg.norm(aim)), 1e-9)
        return (vector / np.linalg.norm(vector)).astype(np.float32)
