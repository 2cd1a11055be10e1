"""The embedding server and its client over real HTTP, on a tiny random BGE-M3."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.embed_bge_m3 import BgeM3, Embeddings, load
from models.embed_http import HttpEmbedder, open_http
from models.errors import EmbedderDown, ModelError, Overloaded
from models.ports import Embedder
from models.serve import Batcher, create_app
from tests import tiny_m3
from tests.servers.uvicorn import serving


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BgeM3:
    weights = tmp_path_factory.mktemp("weights")
    tiny_m3.make(weights / "tiny-m3")
    return load(tiny_m3.card(), weights_dir=weights, threads=1, precision="fp32")


@pytest.fixture(scope="module")
def url(model: BgeM3) -> Iterator[str]:
    with serving(create_app(model)) as base:
        yield base


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client


class Slow:
    """The same engine, taking its time: what a busy card does."""

    def __init__(self, model: BgeM3, seconds: float) -> None:
        self.info, self.tokens_a_step, self.tokenize = model.info, 16, model.tokenize
        self.rounds: list[int] = []
        self.seconds = seconds
        self.fails = False
        self._model = model

    def encode_tokens(self, tokens: Sequence[Sequence[int]], **options: bool) -> Embeddings:
        self.rounds.append(len(tokens))
        time.sleep(self.seconds)
        if self.fails:
            raise RuntimeError("CUDA out of memory")
        return self._model.encode_tokens(tokens, **options)


def test_answers_in_openais_form(http: httpx.Client, model: BgeM3) -> None:
    body = http.post("/v1/embeddings", json={"input": tiny_m3.TEXTS, "model": "tiny-m3"}).json()
    assert body["object"] == "list"
    assert [d["index"] for d in body["data"]] == list(range(len(tiny_m3.TEXTS)))
    rows = np.array([d["embedding"] for d in body["data"]], np.float32)
    assert np.allclose(rows, model.encode(tiny_m3.TEXTS).dense, atol=1e-5)
    assert body["usage"]["prompt_tokens"] == sum(map(len, model.tokenize(tiny_m3.TEXTS)))


def test_base64_sparse_and_multi_vector_come_back(http: httpx.Client, model: BgeM3) -> None:
    asked = {"input": tiny_m3.TEXTS[0], "encoding_format": "base64", "sparse": True, "multi_vector": True}
    entry = http.post("/v1/embeddings", json=asked).json()["data"][0]
    want = model.encode(tiny_m3.TEXTS[:1], sparse=True, multi_vector=True)
    assert want.sparse is not None
    assert want.multi_vector is not None
    assert np.allclose(np.frombuffer(base64.b64decode(entry["embedding"]), "<f4"), want.dense[0], atol=1e-5)
    got = dict(zip(entry["sparse"]["token_ids"], entry["sparse"]["weights"], strict=True))
    assert got == pytest.approx(want.sparse[0], abs=1e-5)
    vectors = np.frombuffer(base64.b64decode(entry["multi_vector"]["data"]), "<f4")
    assert np.allclose(vectors.reshape(entry["multi_vector"]["shape"]), want.multi_vector[0], atol=1e-5)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": []}, 400),
        ({"input": [1, 2, 3]}, 400),
        ({"input": ["секрет"], "encoding_format": "секрет"}, 400),
        ({}, 400),
        ({"input": "да", "model": "other"}, 404),
        ({"input": ["x"] * 2049}, 400),
    ],
)
def test_bad_requests_are_refused_without_repeating_them(body: dict[str, Any], status: int, http: httpx.Client) -> None:
    response = http.post("/v1/embeddings", json=body)
    assert response.status_code == status
    assert response.json()["error"]["code"] == status
    assert "секрет" not in response.text


def test_garbage_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/embeddings", content=b"{nonsense", headers={"content-type": "application/json"})
    assert response.status_code == 400


def test_models_health_and_metrics(http: httpx.Client) -> None:
    entry = http.get("/v1/models").json()["data"][0]
    assert (entry["id"], entry["dim"], entry["max_model_len"]) == ("tiny-m3", 64, 512)
    assert http.get("/health").json() == {"status": "ok", "dim": 64}
    metrics = http.get("/metrics").text
    assert "embed_texts_total" in metrics
    assert "embed_waiting_tokens 0.0" in metrics


def test_client_is_an_embedder_and_equals_the_engine(url: str, model: BgeM3) -> None:
    client = open_http(f"{url}/v1", tiny_m3.card())
    part: Embedder = client
    texts = tiny_m3.corpus(300)  # three requests
    assert np.allclose(part.embed_passages(texts), model.embed_passages(texts), atol=1e-4)
    assert part.embed_queries([]).shape == (0, 64)
    assert (part.info.card, part.info.dim, part.info.engine) == ("tiny-m3", 64, "http-onnxruntime-fp32")
    client.close()


def test_client_refuses_a_server_of_another_dimension(url: str) -> None:
    with pytest.raises(ModelError, match="64"):
        open_http(f"{url}/v1", tiny_m3.card(dim=32))


def test_client_says_when_there_is_no_server() -> None:
    with pytest.raises(EmbedderDown, match="Check its URL"):
        open_http("http://127.0.0.1:9/v1", tiny_m3.card())


def test_callers_share_rounds_and_each_gets_its_own(model: BgeM3) -> None:
    slow = Slow(model, 0.05)
    with serving(create_app(slow)) as base, httpx.Client(base_url=base) as client:  # type: ignore[arg-type]

        def ask(i: int) -> np.ndarray[Any, Any]:
            reply = client.post("/v1/embeddings", json={"input": f"слово {i}"}).json()
            return np.array(reply["data"][0]["embedding"])

        with ThreadPoolExecutor(24) as pool:
            got = list(pool.map(ask, range(24)))
    want = model.encode([f"слово {i}" for i in range(24)]).dense
    assert np.allclose(np.array(got), want, atol=1e-4)
    assert len(slow.rounds) < 20
    assert sum(slow.rounds) == 24


def test_a_question_does_not_wait_for_bulk(model: BgeM3) -> None:
    slow = Slow(model, 0.03)
    bulk = ["длинный пост " * 20] * 60
    with serving(create_app(slow)) as base, httpx.Client(base_url=base, timeout=30) as client:  # type: ignore[arg-type]
        finished: dict[str, float] = {}

        def ask(name: str, texts: list[str]) -> None:
            client.post("/v1/embeddings", json={"input": texts}).raise_for_status()
            finished[name] = time.perf_counter()

        work = threading.Thread(target=ask, args=("bulk", bulk))
        work.start()
        time.sleep(0.2)
        started = time.perf_counter()
        ask("question", ["когда митап?"])
        waited = finished["question"] - started
        work.join()
    assert finished["question"] < finished["bulk"]
    assert waited < 0.5 * (finished["bulk"] - started)


def test_too_much_is_refused_with_when_to_come_back_and_the_client_comes_back(model: BgeM3) -> None:
    slow = Slow(model, 0.1)
    texts = tiny_m3.corpus(8, seed=1)
    with serving(create_app(slow, max_waiting_tokens=100)) as base:  # type: ignore[arg-type]
        with httpx.Client(base_url=base, timeout=30) as client, ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(lambda _: client.post("/v1/embeddings", json={"input": "слово " * 40}), range(16)))
        refused = [r for r in replies if r.status_code == 429]
        assert refused
        assert {r.status_code for r in replies} == {200, 429}
        assert int(refused[0].headers["retry-after"]) >= 1
        clients = [open_http(f"{base}/v1", tiny_m3.card(), patience_s=20) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            got = list(pool.map(lambda c: c.embed_passages(texts), clients))
        for client_ in clients:
            client_.close()
    for rows in got:
        assert np.allclose(rows, model.embed_passages(texts), atol=1e-4)


def test_a_failing_engine_is_said_and_the_server_recovers(model: BgeM3) -> None:
    slow = Slow(model, 0.0)
    with serving(create_app(slow)) as base, httpx.Client(base_url=base) as client:  # type: ignore[arg-type]
        slow.fails = True
        assert client.post("/v1/embeddings", json={"input": "да"}).status_code == 500
        assert client.get("/health").status_code == 500
        slow.fails = False
        assert client.post("/v1/embeddings", json={"input": "да"}).status_code == 200
        assert client.get("/health").status_code == 200


async def test_stopping_refuses_what_waits(model: BgeM3) -> None:
    batcher = Batcher(Slow(model, 0.2), max_waiting_tokens=10_000, registry=CollectorRegistry())  # type: ignore[arg-type]
    running = asyncio.create_task(batcher.run())
    asked = [asyncio.create_task(batcher.embed(["слово " * 60])) for _ in range(5)]
    await asyncio.sleep(0.1)
    running.cancel()
    got = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(g, Overloaded) for g in got)


def test_a_server_that_answers_nonsense_is_not_believed(url: str) -> None:
    from fastapi import FastAPI

    app = FastAPI()
    rows = iter([[3.0, 4.0], [float("nan"), 1.0]])

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"data": [{"id": "m"}]}

    @app.post("/v1/embeddings")
    def embeddings() -> dict[str, Any]:
        row = np.array(next(rows), "<f4").tobytes()
        return {"data": [{"index": 0, "embedding": base64.b64encode(row).decode()}]}

    with serving(app) as base:
        client: HttpEmbedder = open_http(f"{base}/v1", tiny_m3.card(dim=2))
        with pytest.raises(EmbedderDown, match="another shape"):
            client.embed_queries(["да"])
        with pytest.raises(EmbedderDown, match="HTTP 500"):
            client.embed_queries(["да"])
        client.close()
