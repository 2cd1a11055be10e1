"""Suite `retrieval`: ways to search side by side, on sets whose answers are known; what the product does among them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.chunking import chunks_of
from appliance.index import Index, Scope
from appliance.ranking import calibration_of, rank
from appliance.search import CANDIDATES, query_lemmas
from benchmarks.learned import Learned
from benchmarks.methods import CUTS, Postings, Scores, normalised_sum, reciprocal_ranks
from benchmarks.metrics import MEASURES, interval, needed, paired_p
from benchmarks.others import others
from benchmarks.results import ROOT, SHARED
from benchmarks.sets import SETS, SearchSet, default_embedder, documents_of, indexed, read_set, title_set
from models.ports import Embedder, Vectors

CHOSEN = "fused"
SINGLE = ("jaccard", "raw", "stems", "n-grams", "lexical", "dense")  # lexical: BM25 over lemmas
LEXICAL_WHISPER = 0.15  # of a z-score, against one of the cosines
DEPTH = 10


@dataclass(frozen=True, slots=True)
class Method:
    """A way to search one set.

    Attributes
    ----------
    search : callable
        From a query's text, its vector and its place to document ids, best first.
    build_s : float
        Seconds its index took.
    memory_mb : float
        Of its index.
    """

    search: Callable[[str, Vectors, int], list[str]]
    build_s: float = 0.0
    memory_mb: float = 0.0


def run() -> dict[str, Any]:
    """Measure every set with the default embedder.

    Returns
    -------
    dict
        ``sets``: by name ``queries``, ``posts``, ``methods`` (figures by method, with ``ms`` of a query at the median,
        its embedding not counted, ``build_s`` and ``memory_mb``), ``intervals`` (95 % bootstrap), ``p`` (paired
        randomisation test on nDCG@10 of the product's search against each method), ``detectable`` (the gain over dense
        alone that so many questions would show at p < .05 four times in five); ``margin`` and ``worst``: mean and least
        gain of the product's search over the best single method in nDCG@10; ``not_run``: methods that need weights
        which are not here.
    """
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    embedder = default_embedder()
    loaded = [*map(read_set, SETS), title_set()]
    learned = Learned()
    corpora = [Corpus.of(one, embedder) for one in loaded]
    for corpus in corpora:
        learned.take(corpus.search_set.name, corpus.features())
    sets = {corpus.search_set.name: measure(corpus, embedder, learned) for corpus in corpora}
    gains = [
        one["methods"][CHOSEN]["ndcg@10"] - max(one["methods"][m]["ndcg@10"] for m in SINGLE) for one in sets.values()
    ]
    beside, not_run = others(corpora, embedder, weights_dir=ROOT / "weights")
    for name, figures in beside.items():
        sets[name]["methods"] |= figures
    return {
        "sets": sets,
        "margin": float(np.mean(gains)),
        "worst": float(min(gains)),
        "over_lemmas_wiki": sets["wiki-qa"]["methods"][CHOSEN]["ndcg@10"]
        - sets["wiki-qa"]["methods"]["lexical"]["ndcg@10"],
        "embedder": embedder.info.card,
        "not_run": {method: why.replace(f"{ROOT}/", "") for method, why in not_run.items()},
    }


@dataclass(frozen=True, slots=True)
class Corpus:
    """A set cut into chunks, with every index that a method searches.

    Attributes
    ----------
    documents : list of str
        Document id of each chunk.
    postings : dict of str to Postings
        By cut, with the seconds it took.
    vectors, queries : numpy.ndarray
        Of the chunks and of the questions.
    """

    search_set: SearchSet
    texts: list[str]
    documents: list[str]
    postings: dict[str, tuple[Postings, float]]
    vectors: Vectors
    queries: Vectors

    @classmethod
    def of(cls, search_set: SearchSet, embedder: Embedder) -> Corpus:
        """Cut and index a set."""
        chunks = [chunk for post in search_set.posts for chunk in chunks_of(post)]
        texts = [chunk.text for chunk in chunks]
        postings = {}
        for name, cut in CUTS.items():
            start = time.perf_counter()
            postings[name] = (Postings.of([cut(text) for text in texts]), time.perf_counter() - start)
        return cls(
            search_set,
            texts,
            [search_set.names[chunk.channel_id, chunk.message_id] for chunk in chunks],
            postings,
            embedder.embed_passages(texts),
            embedder.embed_queries(list(search_set.queries.values())),
        )

    def best(self, scores: Scores, *, above: float = 0.0) -> list[str]:
        """Order documents by the best score of their chunks."""
        order = np.argsort(-scores, kind="stable")[: DEPTH * 20].tolist()
        return list(dict.fromkeys(self.documents[row] for row in order if scores[row] > above))[:DEPTH]

    def lexical(self, text: str, cut: str) -> Scores:
        """BM25 scores of every chunk under a cut."""
        return self.postings[cut][0].bm25(CUTS[cut](text))

    def features(self) -> list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]]:
        """Features, rows and truths of the candidates of each question, for learned fusion."""
        found = []
        for vector, (query, text) in zip(self.queries, self.search_set.queries.items(), strict=True):
            rows, features = Learned.features(self.vectors @ vector, self.lexical(text, "lemmas"))
            relevant = self.search_set.relevant[query]
            found.append((features, rows, np.array([self.documents[row] in relevant for row in rows.tolist()])))
        return found


def methods_of(corpus: Corpus, index: Index, learned: Learned) -> dict[str, Method]:
    """Build every method of a set that needs no further weights."""
    postings = {
        name: Method(_by_words(corpus, name), built, part.bytes() / 2**20)
        for name, (part, built) in corpus.postings.items()
    }
    lemmas, dense_mb = postings["lemmas"], corpus.vectors.nbytes / 2**20
    both_mb = lemmas.memory_mb + dense_mb
    name, questions = corpus.search_set.name, list(corpus.search_set.queries)

    def dense(text: str, vector: Vectors, place: int) -> list[str]:
        return corpus.best(corpus.vectors @ vector, above=-1.0)

    def jaccard(text: str, vector: Vectors, place: int) -> list[str]:
        return corpus.best(corpus.postings["lemmas"][0].jaccard(CUTS["lemmas"](text)))

    def ranks(text: str, vector: Vectors, place: int) -> list[str]:
        return corpus.best(reciprocal_ranks(corpus.vectors @ vector, corpus.lexical(text, "lemmas")))

    def summed(text: str, vector: Vectors, place: int) -> list[str]:
        lists = (corpus.vectors @ vector, corpus.lexical(text, "lemmas"))
        return corpus.best(normalised_sum(lists, (1.0, LEXICAL_WHISPER)), above=-1e8)

    def learnt(text: str, vector: Vectors, place: int) -> list[str]:
        scores = learned.scores(name, corpus.vectors @ vector, corpus.lexical(text, "lemmas"))
        return corpus.best(scores, above=-1e8)

    def chosen(text: str, vector: Vectors, place: int) -> list[str]:
        candidates = index.candidates(vector, query_lemmas(text), scope=Scope(), n=CANDIDATES)
        hits = rank(candidates, calibration_of(index.embedder.card), limit=DEPTH)
        return documents_of(hits, corpus.search_set, questions[place])

    return {
        "jaccard": Method(jaccard, lemmas.build_s, lemmas.memory_mb),
        "raw": postings["raw"],
        "stems": postings["stems"],
        "n-grams": postings["n-grams"],
        "lexical": lemmas,
        "dense": Method(dense, 0.0, dense_mb),
        "ranks": Method(ranks, lemmas.build_s, both_mb),
        "summed": Method(summed, lemmas.build_s, both_mb),
        "learned": Method(learnt, lemmas.build_s, both_mb),
        CHOSEN: Method(chosen, lemmas.build_s, both_mb),
    }


def _by_words(corpus: Corpus, cut: str) -> Callable[[str, Vectors, int], list[str]]:
    def search(text: str, vector: Vectors, place: int) -> list[str]:
        return corpus.best(corpus.lexical(text, cut))

    return search


def measure(corpus: Corpus, embedder: Embedder, learned: Learned) -> dict[str, Any]:
    """Ask all questions of one set by every method.

    Parameters
    ----------
    corpus : Corpus
    embedder : Embedder
    learned : Learned
        Weights learned on the other sets.

    Returns
    -------
    dict
        See `run`.
    """
    search_set = corpus.search_set
    figures: dict[str, dict[str, list[float]]] = {}
    costs: dict[str, dict[str, float]] = {}
    with indexed(search_set.posts, embedder) as index:
        for name, method in methods_of(corpus, index, learned).items():
            figures[name] = {measured: [] for measured in MEASURES}
            times = []
            for place, (query, text) in enumerate(search_set.queries.items()):
                start = time.perf_counter()
                documents = method.search(text, corpus.queries[place], place)
                times.append(time.perf_counter() - start)
                for measured, measure_one in MEASURES.items():
                    figures[name][measured].append(measure_one(documents, search_set.relevant[query]))
            costs[name] = {
                "ms": float(np.median(times)) * 1e3,
                "build_s": method.build_s,
                "memory_mb": method.memory_mb,
            }
    gains = {name: found["ndcg@10"] for name, found in figures.items()}
    return {
        "posts": len(search_set.posts),
        "queries": len(search_set.queries),
        "methods": {
            name: {measured: float(np.mean(values)) for measured, values in found.items()} | costs[name]
            for name, found in figures.items()
        },
        "intervals": {
            name: {measured: interval(values) for measured, values in found.items()} for name, found in figures.items()
        },
        "p": {f"{CHOSEN}>{name}": paired_p(gains[CHOSEN], gains[name]) for name in gains if name != CHOSEN},
        "gain_over_dense": float(np.mean(gains[CHOSEN]) - np.mean(gains["dense"])),
        "detectable": needed(np.array(gains[CHOSEN]) - np.array(gains["dense"])),
        "left_out_weights": learned.weights(search_set.name),
    }
