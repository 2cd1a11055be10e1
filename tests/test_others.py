"""Rows of the retrieval suite that need weights: the real loading and scoring, on tiny checkpoints made here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.index import Scope
from appliance.ranking import calibration_of, rank
from appliance.reranking import READ
from appliance.schema import Post
from appliance.search import CANDIDATES, query_lemmas
from benchmarks.others import CROSS, HEADS, M3, RERANKED, others
from benchmarks.retrieval import Corpus
from benchmarks.sets import SearchSet, indexed
from benchmarks.tables import METHODS
from models.embed_bge_m3 import BgeM3, Embeddings
from models.fetch import write_manifest
from models.load import load_embedder, load_reranker
from models.ports import Embedder
from tests import tiny_m3

LINES = [line for line in dict.fromkeys([*tiny_m3.TEXTS, *tiny_m3.corpus(40)]) if len(line) > 20]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("weights")
    for card, is_reranker in ((M3, False), (CROSS, True)):
        write_manifest(
            tiny_m3.make(made / card, positions=1026, reranker=is_reranker), card=card, repo="r", revision=""
        )
    return made


@pytest.fixture(scope="module")
def corpus(embedder: Embedder) -> Corpus:
    """Posts asked for by their own words: whoever reads them finds each first."""
    posts = tuple(Post(1, place, datetime(2026, 1, 1, tzinfo=UTC), line) for place, line in enumerate(LINES, 1))
    names = {post.key: str(post.message_id) for post in posts}
    queries = {names[post.key]: post.text for post in posts[::4]}
    relevant = {name: frozenset({name}) for name in queries}
    return Corpus.of(SearchSet("small", posts, names, queries, relevant), embedder)


def test_each_head_of_bge_m3_finds_a_text_by_itself(corpus: Corpus, embedder: Embedder, weights: Path) -> None:
    figures, not_run = others([corpus], embedder, weights_dir=weights)
    found = figures["small"]
    assert not_run == {}
    assert set(found) == {*HEADS, RERANKED}
    assert found.keys() <= METHODS.keys()  # each has a row in the table
    for head in ("m3 dense", "m3 multi-vector"):
        assert found[head]["hit@1"] == 1
    model = load_embedder(M3, weights_dir=weights)
    assert isinstance(model, BgeM3)
    queries = corpus.search_set.queries
    posts, asked = (as_rows(model.encode(texts, sparse=True)) for texts in (corpus.texts, list(queries.values())))
    best = [corpus.documents[row] for row in (asked @ posts.T).argmax(axis=1).tolist()]
    assert found["m3 sparse"]["hit@1"] == np.mean([one == name for one, name in zip(best, queries, strict=True)])
    assert all(0 <= value <= 1 for head in HEADS for value in found[head].values())


def as_rows(encoded: Embeddings) -> NDArray[np.float64]:
    """Sparse weights as a matrix, a column a token."""
    rows = np.zeros((len(encoded.tokens), 600))
    for row, weights in zip(rows, encoded.sparse or [], strict=True):
        row[list(weights)] = list(weights.values())
    return rows


def test_the_cross_encoder_orders_what_the_product_found(corpus: Corpus, embedder: Embedder, weights: Path) -> None:
    found = others([corpus], embedder, weights_dir=weights)[0]["small"][RERANKED]
    reranker = load_reranker(CROSS, weights_dir=weights)
    firsts = []
    with indexed(corpus.search_set.posts, embedder) as index:
        for (query, text), vector in zip(corpus.search_set.queries.items(), corpus.queries, strict=True):
            candidates = index.candidates(vector, query_lemmas(text), scope=Scope(), n=CANDIDATES)
            hits = rank(candidates, calibration_of(embedder.info.card), limit=READ)
            best = hits[int(reranker.score(text, [hit.chunk_text for hit in hits]).argmax())]
            firsts.append(corpus.search_set.names[best.post] == query)
    assert found["hit@1"] == pytest.approx(np.mean(firsts))
    assert found["hit@1"] < 1  # the control: random weights spoil the order that words alone get right
    assert found["ms"] > 0


def test_weights_that_are_not_here_are_a_reason_not_a_row(corpus: Corpus, embedder: Embedder, tmp_path: Path) -> None:
    figures, not_run = others([corpus], embedder, weights_dir=tmp_path)
    assert figures == {"small": {}}
    assert set(not_run) == {*HEADS, RERANKED}
    assert all("postfinder models pull" in why for why in not_run.values())
