"""Methods that need weights which need not be here: BGE-M3's three heads, a cross-encoder, the static tower."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from benchmarks.methods import DEEP, top
from benchmarks.metrics import MEASURES
from benchmarks.results import ROOT
from models.cards import RerankerCard, load_card
from models.errors import ModelError
from models.load import load_embedder

if TYPE_CHECKING:
    from benchmarks.retrieval import Corpus
    from models.embed_bge_m3 import BgeM3

M3, CROSS = "bge-m3", "bge-reranker-v2-m3"
RERANKED = 30  # candidates that a cross-encoder reads
HEADS = ("m3 dense", "m3 sparse", "m3 multi-vector")


def others(corpora: Sequence[Corpus]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Measure what can be measured here.

    Parameters
    ----------
    corpora : sequence of Corpus

    Returns
    -------
    figures : dict
        By set, then by method.
    not_run : dict of str to str
        Reasons, by method.
    """
    figures: dict[str, dict[str, Any]] = {corpus.search_set.name: {} for corpus in corpora}
    not_run: dict[str, str] = {}
    for names, work in ((HEADS, heads), (("cross-encoder",), cross_encoder)):
        try:
            for name, found in work(corpora).items():
                figures[name] |= found
        except ModelError as error:
            not_run |= dict.fromkeys(names, str(error).split("\n", 1)[0])
    if importlib.util.find_spec("appliance.tower") is None:
        not_run["tower"] = "No static tower is built."
    return figures, not_run


def heads(corpora: Sequence[Corpus], embedder: BgeM3 | None = None) -> dict[str, dict[str, Any]]:
    """Search by each head of BGE-M3: cosines, learned words' weights, and the late interaction of the first hundred.

    Parameters
    ----------
    corpora : sequence of Corpus
    embedder : BgeM3, optional
        Instead of the one whose weights are here.

    Raises
    ------
    ModelError
        Its weights are not here.
    """
    embedder = embedder or cast("BgeM3", load_embedder(M3, weights_dir=ROOT / "weights"))
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


def cross_encoder(corpora: Sequence[Corpus]) -> dict[str, dict[str, Any]]:
    """Let a cross-encoder order the first thirty by meaning.

    Raises
    ------
    ModelError
        Its weights are not here.
    """
    from models.rerank_cross import load

    card = load_card(CROSS)
    assert isinstance(card, RerankerCard)
    reranker = load(card, weights_dir=ROOT / "weights")
    found = {}
    for corpus in corpora:
        lists = []
        for text, vector in zip(corpus.search_set.queries.values(), corpus.queries, strict=True):
            rows = top(corpus.vectors @ vector, RERANKED)
            scores = np.full(len(corpus.texts), -1e9, np.float32)
            scores[rows] = reranker.score(text, [corpus.texts[row] for row in rows.tolist()])
            lists.append(corpus.best(scores, above=-1e8))
        found[corpus.search_set.name] = {"cross-encoder": judged(corpus, lists)}
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
