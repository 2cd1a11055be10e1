"""A reranker from its setting to the answer: a tiny checkpoint really loaded, and one that is slow, broken or hung."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.app import App, open_app
from appliance.cache import Kept
from appliance.errors import StartupError
from appliance.reranking import READ, STEP, Reranking, in_order
from appliance.schema import Asker, Filters, Final, Question, SearchResult
from models.fetch import verify, write_manifest
from models.load import load_reranker
from tests import tiny_m3
from tests.conftest import config_for, copy_data

CARD = "bge-reranker-v2-m3"
QUESTION = "Сколько стоит занятие керамикой?"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder in which a tiny cross-encoder lies as the card's own."""
    made = tmp_path_factory.mktemp("weights")
    write_manifest(tiny_m3.make(made / CARD, positions=1026, reranker=True), card=CARD, repo="r", revision="")
    return made


@pytest.fixture
async def fused(app: App) -> SearchResult:
    return await app.verbs.search(QUESTION, asker=Asker(), filters=Filters(), limit=READ)


async def test_the_setting_puts_the_cross_encoder_between_search_and_answer(
    app: App, fused: SearchResult, sample_data: Path, tmp_path: Path, weights: Path
) -> None:
    copy_data(sample_data, tmp_path / "again")
    config = config_for(tmp_path / "again").model_copy(
        update={"reranker": CARD, "weights_dir": weights, "reranker_deadline_s": 60.0}
    )
    async with open_app(config) as reranked:
        result = await reranked.verbs.search(QUESTION, asker=Asker(), filters=Filters(), limit=5)
        parts = [part async for part in reranked.verbs.ask(Question(QUESTION, Asker()))]
    model, texts = load_reranker(CARD, weights_dir=weights), [hit.chunk_text for hit in fused.found]
    scores = np.concatenate([model.score(QUESTION, texts[at : at + STEP]) for at in range(0, READ, STEP)])
    expected = [fused.found[row].post.key for row in np.argsort(-scores, kind="stable")]
    assert [hit.post.key for hit in result.found] == expected[:5]
    assert expected[:5] != [hit.post.key for hit in fused.found[:5]]  # the control: it does change the order
    assert result.times_ms["search"] > result.times_ms["rerank"] > 0
    assert result.relevance == fused.relevance  # whether the posts answer is not the reranker's word
    assert isinstance(parts[-1], Final)
    assert parts[-1].answer.times_ms["rerank"] > 0
    assert "rerank" not in fused.times_ms  # off by default
    assert any(name.endswith(".onnx") for name in verify(weights / CARD)["files"])


@pytest.mark.parametrize(
    ("card", "says"),
    [("bge-reranker", "no model card"), ("bge-m3", "POSTFINDER_RERANKER"), (CARD, "postfinder models pull")],
)
async def test_a_reranker_that_is_not_here_stops_the_start_with_the_cure(tmp_path: Path, card: str, says: str) -> None:
    config = config_for(tmp_path / "data").model_copy(update={"reranker": card, "weights_dir": tmp_path / "none"})
    with pytest.raises(StartupError, match=says):
        async with open_app(config):
            pass


async def test_changed_weights_stop_the_start(tmp_path: Path) -> None:
    folder = tiny_m3.make(tmp_path / CARD, reranker=True)
    write_manifest(folder, card=CARD, repo="r", revision="")
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text("utf-8").replace("</s>", "<\\s>"), "utf-8")
    config = config_for(tmp_path / "data").model_copy(update={"reranker": CARD, "weights_dir": tmp_path})
    with pytest.raises(StartupError, match=r"tokenizer\.json has changed"):
        async with open_app(config):
            pass


def test_a_graph_put_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    folder = tiny_m3.make(tmp_path / CARD, reranker=True)
    write_manifest(folder, card=CARD, repo="r", revision="")
    honest = load_reranker(CARD, weights_dir=tmp_path).score("когда митап?", tiny_m3.TEXTS)
    (graph,) = folder.glob("*.onnx")
    planted = graph.read_bytes()[:-1] + b"?"
    for path in folder.glob("*.onnx*"):
        path.unlink()
    write_manifest(folder, card=CARD, repo="r", revision="")
    graph.write_bytes(planted)
    assert np.array_equal(load_reranker(CARD, weights_dir=tmp_path).score("когда митап?", tiny_m3.TEXTS), honest)
    assert graph.read_bytes() != planted


@dataclass
class Scripted:
    """A reranker that does what it is told, and says how often it was asked."""

    script: Callable[[Sequence[str]], Sequence[float]]
    asked: list[int] = field(default_factory=list)

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(len(passages))
        return np.array(self.script(passages), np.float32)


def ascending() -> Callable[[Sequence[str]], list[float]]:
    """Give each text more than the one before: the order turned round."""
    rising: Iterator[int] = iter(range(1_000_000))
    return lambda texts: [float(next(rising)) for _ in texts]


def keys(result: SearchResult) -> list[tuple[int, int]]:
    return [hit.post.key for hit in result.found]


async def test_a_reranker_that_hangs_costs_one_deadline_once(fused: SearchResult) -> None:
    release = threading.Event()
    turned = ascending()

    def hang(texts: Sequence[str]) -> list[float]:
        release.wait(20)
        return turned(texts)

    reranking = Reranking(Scripted(hang), 0.3)
    try:
        began = time.monotonic()
        assert keys(await reranking.order(fused, 5)) == keys(fused)[:5]
        assert 0.3 <= time.monotonic() - began < 2
        began = time.monotonic()
        again = await asyncio.gather(*(reranking.order(fused, 5) for _ in range(20)))
        assert time.monotonic() - began < 0.25  # nobody waits behind it
        assert all(keys(one) == keys(fused)[:5] for one in again)
        release.set()
        await asyncio.sleep(0.2)
        assert keys(await reranking.order(fused, READ)) == keys(fused)[::-1]  # it is asked again
    finally:
        release.set()
        reranking.close()


async def test_without_a_deadline_the_same_reranker_would_hold_the_answer(fused: SearchResult) -> None:
    release = threading.Event()

    def hang(texts: Sequence[str]) -> list[float]:
        release.wait(20)
        return [0.0] * len(texts)

    reranking = Reranking(Scripted(hang), 3600)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await reranking.order(fused, 5)
    finally:
        release.set()
        reranking.close()


async def test_a_slow_one_stops_reading_at_the_deadline(fused: SearchResult) -> None:
    def slow(texts: Sequence[str]) -> list[float]:
        time.sleep(0.2)
        return [0.0] * len(texts)

    scripted = Scripted(slow)
    reranking = Reranking(scripted, 0.3)
    assert keys(await reranking.order(fused, 5)) == keys(fused)[:5]
    await asyncio.sleep(1)
    assert scripted.asked == [STEP] * 2  # of five steps
    reranking.close()


@pytest.mark.parametrize(
    "broken",
    [
        lambda texts: [float("nan")] * len(texts),
        lambda texts: [1.0],
        lambda texts: (_ for _ in ()).throw(RuntimeError("an engine's own")),
    ],
)
async def test_a_broken_one_leaves_the_order(fused: SearchResult, broken: Callable[..., list[float]]) -> None:
    reranking = Reranking(Scripted(broken), 5)
    assert keys(await reranking.order(fused, 7)) == keys(fused)[:7]
    reranking.close()


async def test_an_order_for_want_of_scores_is_not_kept(app: App) -> None:
    turned = ascending()

    async def search(text: str, *, asker: Asker, filters: Filters, limit: int = 10) -> SearchResult:
        found = await app.verbs.search(text, asker=asker, filters=filters, limit=limit)
        return await reranking.order(found, limit)

    works = False
    reranking = Reranking(Scripted(lambda texts: turned(texts) if works else [float("nan")] * len(texts)), 60.0)
    limits = replace(app.verbs.limits, search=search, kept=Kept(10))
    first = [await limits(QUESTION, asker=Asker(), filters=Filters()) for _ in range(2)]
    works = True
    then = [await limits(QUESTION, asker=Asker(), filters=Filters()) for _ in range(2)]
    reranking.close()
    assert [one.is_whole for one in (*first, *then)] == [False, False, True, True]
    assert ["recall" in one.times_ms for one in (*first, *then)] == [False, False, False, True]


async def test_nothing_found_is_nothing_read(fused: SearchResult) -> None:
    scripted = Scripted(ascending())
    reranking = Reranking(scripted, 5)
    assert (await reranking.order(replace(fused, found=()), 5)).found == ()
    assert scripted.asked == []
    reranking.close()


def test_places_keep_their_relevance(fused: SearchResult) -> None:
    turned = in_order(fused.found, range(len(fused.found)))
    assert [hit.post.key for hit in turned] == keys(fused)[::-1]
    chances = [hit.relevance for hit in turned]
    assert chances == sorted((hit.relevance for hit in fused.found), reverse=True)
