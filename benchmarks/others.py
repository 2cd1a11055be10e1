"""Methods that need weights which need not be here: BGE-M3's three heads, and the product with a cross-encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from appliance.index import Scope
from appliance.ranking import calibration_of, rank
from appliance.reranking import READ
from appliance.search import CANDIDATES, query_lemmas
from benchmarks.methods import DEEP, top
from benchmarks.metrics import MEASURES
from benchmarks.sets import documents_of, indexed
from models.errors import ModelError
from models.load import load_embedder, load_reranker
from models.ports import Embedder

if TYPE_CHECKING:
    from benchmarks.retrieval import Corpus
    from models.embed_bge_m3 import BgeM3

M3, CROSS = "bge-m3", "bge-reranker-v2-m3"
HEADS = ("m3 dense", "m3 sparse", "m3 multi-vector")
RERANKED = "cross-encoder"


def others(
    corpora: Sequence[Corpus], embedder: Embedder, *, weights_dir: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Measure what can be measured here.

    Parameters
    ----------
    corpora : sequence of Corpus
    embedder : Embedder
        Of the product's search.
    weights_dir : Path
        Folder of model weights.

    Returns
    -------
    figures : dict
        By set, then by method.
    not_run : dict of str to str
        Reasons, by method.
    """
    figures: dict[str, dict[str, Any]] = {corpus.search_set.name: {} for corpus in corpora}
    not_run: dict[str, str] = {}
    ways: dict[tuple[str, ...], Callable[[], dict[str, dict[str, Any]]]] = {
        HEADS: partial(heads, corpora, weights_dir),
        (RERANKED,): partial(cross_encoder, corpora, embedder, weights_dir),
    }
    for names, measured in ways.items():
        try:
            for name, found in measured().items():
                figures[name] |= found
        except ModelError as error:
            not_run |= dict.fromkeys(names, str(error).split("\n", 1)[0])
    return figures, not_run


def heads(corpora: Sequence[Corpus], weights_dir: Path) -> dict[str, dict[str, Any]]:
    """Search by each head of BGE-M3: cosines, learned words' weights, and the late interaction of the first hundred.

    Parameters
    ----------
    corpora : sequence of Corpus
    weights_dir : Path

    Returns
    -------
    dict
        By set, then by head.

    Raises
    ------
    ModelError
        Its weights are not here.
    """
    embedder = cast("BgeM3", load_embedder(M3, weights_dir=weights_dir))
    found: dict[str, dict[str, Any]] = {}
    for corpus in corpora:
        questions = list(corpus.search_set.queries.values())
        posts = embedder.encode(corpus.texts, sparse=True, multi_vector=True)
        asked = embedder.encode(questions, sparse=True, multi_vector=True)
        weights, tokens = posts.sparse or [], posts.multi_vector or []
        ranked: dict[str, list[list[str]]] = {name: [] for name in HEADS}
        for place, words in enumerate(asked.sparse or []):
            dense = posts.dense @ asked.dense[place]
            sparse = np.array([_overlap(words, other) for other in weights], np.float32)
            late = np.full(len(weights), -1.0, np.float32)
            for row in top(dense, DEEP).tolist():
                late[row] = ((asked.multi_vector or [])[place] @ tokens[row].T).max(axis=1).mean()
            for name, scores, above in zip(HEADS, (dense, sparse, late), (-1.0, 0.0, -1.0), strict=True):
                ranked[name].append(corpus.best(scores, above=above))
        found[corpus.search_set.name] = {name: judged(corpus, lists) for name, lists in ranked.items()}
    return found


def cross_encoder(corpora: Sequence[Corpus], embedder: Embedder, weights_dir: Path) -> dict[str, dict[str, Any]]:
    """Let a cross-encoder order anew what the product finds first, as `appliance.reranking` does.

    Parameters
    ----------
    corpora : sequence of Corpus
    embedder : Embedder
    weights_dir : Path

    Returns
    -------
    dict
        By set: the one method, with ``ms`` of a query at the median.

    Raises
    ------
    ModelError
        Its weights are not here.
    """
    reranker = load_reranker(CROSS, weights_dir=weights_dir)
    found = {}
    for corpus in corpora:
        lists, times = [], []
        with indexed(corpus.search_set.posts, embedder) as index:
            for (query, text), vector in zip(corpus.search_set.queries.items(), corpus.queries, strict=True):
                start = time.perf_counter()
                candidates = index.candidates(vector, query_lemmas(text), scope=Scope(), n=CANDIDATES)
                hits = rank(candidates, calibration_of(index.embedder.card), limit=READ)
                scores = reranker.score(text, [hit.chunk_text for hit in hits])
                order = np.argsort(-scores, kind="stable").tolist()
                times.append(time.perf_counter() - start)
                lists.append(documents_of([hits[row] for row in order], corpus.search_set, query))
        figures = judged(corpus, lists) | {"ms": float(np.median(times)) * 1e3}
        found[corpus.search_set.name] = {RERANKED: figures}
    return found


def judged(corpus: Corpus, lists: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the mean figures of ranked lists."""
    relevant = [corpus.search_set.relevant[query] for query in corpus.search_set.queries]
    return {
        name: float(np.mean([measure(one, answers) for one, answers in zip(lists, relevant, strict=True)]))
        for name, measure in MEASURES.items()
    }


def _overlap(query: dict[int, float], passage: dict[int, float]) -> float:
    return sum(weight * passage[token] for token, weight in query.items() if token in passage)
