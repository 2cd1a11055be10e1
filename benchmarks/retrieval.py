"""Suite `retrieval`: how well dense, lexical and fused search find the posts that answer, where answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.index import Index, Scope
from appliance.ranking import Candidates, calibration_of, rank
from appliance.search import CANDIDATES, query_lemmas
from benchmarks.metrics import MEASURES, interval, paired_p
from benchmarks.results import SHARED
from benchmarks.sets import SETS, SearchSet, default_embedder, indexed, read_set, title_set
from models.ports import Embedder

METHODS = ("lexical", "dense", "fused")
DEPTH = 10


def run() -> dict[str, Any]:
    """Measure every set with the default embedder.

    Returns
    -------
    dict
        ``sets``: by name ``queries``, ``posts``, ``methods`` (figures by method), ``intervals`` (95 % bootstrap),
        ``p`` (paired randomisation test on nDCG@10 of fused against each single method); ``margin`` and ``worst``: mean
        and least gain of fused over the better single method in nDCG@10.
    """
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    embedder = default_embedder()
    sets = {one.name: measure(one, embedder) for one in (*map(read_set, SETS), title_set())}
    gains = [
        one["methods"]["fused"]["ndcg@10"] - max(one["methods"][m]["ndcg@10"] for m in METHODS if m != "fused")
        for one in sets.values()
    ]
    return {"sets": sets, "margin": float(np.mean(gains)), "worst": float(min(gains)), "embedder": embedder.info.card}


def measure(search_set: SearchSet, embedder: Embedder) -> dict[str, Any]:
    """Index one set and ask all its queries.

    Parameters
    ----------
    search_set : SearchSet
    embedder : Embedder

    Returns
    -------
    dict
        See `run`.
    """
    per_query: dict[str, dict[str, list[float]]] = {method: {name: [] for name in MEASURES} for method in METHODS}
    with indexed(search_set.posts, embedder) as index:
        vectors = embedder.embed_queries(list(search_set.queries.values()))
        for (query, text), vector in zip(search_set.queries.items(), vectors, strict=True):
            relevant = search_set.relevant[query]
            candidates = index.candidates(vector, query_lemmas(text), scope=Scope(), n=CANDIDATES)
            for method in METHODS:
                documents = ranked_documents(method, candidates, index, search_set, relevant)
                for name, measure_one in MEASURES.items():
                    per_query[method][name].append(measure_one(documents, relevant))
    gains = {method: figures["ndcg@10"] for method, figures in per_query.items()}
    return {
        "posts": len(search_set.posts),
        "queries": len(search_set.queries),
        "methods": {
            method: {name: float(np.mean(values)) for name, values in figures.items()}
            for method, figures in per_query.items()
        },
        "intervals": {
            method: {name: interval(values) for name, values in figures.items()}
            for method, figures in per_query.items()
        },
        "p": {f"fused>{method}": paired_p(gains["fused"], gains[method]) for method in METHODS if method != "fused"},
    }


def ranked_documents(
    method: str, candidates: Candidates, index: Index, search_set: SearchSet, relevant: frozenset[str]
) -> list[str]:
    """Order documents by one method.

    A folded group of reposts is one result: it stands for its relevant members, else for its first.

    Parameters
    ----------
    method : {'lexical', 'dense', 'fused'}
    candidates : Candidates
    index : Index
    search_set : SearchSet
    relevant : frozenset of str

    Returns
    -------
    list of str
        Document ids, best first.
    """
    if method == "fused":
        groups = [
            [search_set.names[key] for key in (hit.post, *hit.copies)]
            for hit in rank(candidates, calibration_of(index.embedder.card), limit=DEPTH)
        ]
        return [name for group in groups for name in ([n for n in group if n in relevant] or group[:1])]
    scores = candidates.dense if method == "dense" else candidates.lexical
    return best_documents(candidates, scores, search_set, above=0.0 if method == "lexical" else -1.0)


def best_documents(
    candidates: Candidates, scores: NDArray[np.float32], search_set: SearchSet, *, above: float
) -> list[str]:
    """Order documents by the best score of their chunks."""
    order: Sequence[int] = [row for row in np.argsort(-scores, kind="stable").tolist() if scores[row] > above]
    return list(dict.fromkeys(search_set.names[candidates.posts[row]] for row in order))[:DEPTH]
