"""The embedding server: BGE-M3 behind OpenAI's ``/v1/embeddings``, plus its sparse and multi-vector outputs.

Texts of all callers are cut into tokens as they come, wait in two lanes — questions and bulk — and are computed in
rounds of bounded size, batched by length; a question never waits for more than the round under way. When too much
waits, callers are told to come back (429). It listens on an internal network: there is no key.

Format: https://platform.openai.com/docs/api-reference/embeddings.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from models.embed_bge_m3 import BgeM3, Embeddings
from models.errors import EmbedderDown, ModelError, Overloaded
from models.ports import Vectors

log = structlog.get_logger(__name__)

URGENT_TOKENS = 512  # a request of at most so many tokens goes before bulk ones
STEPS_A_ROUND = 4  # enough texts to batch by length, few enough for a question to wait for
MAX_TEXTS = 2048
MAX_CHARS = 200_000
HEALTH_TIMEOUT_S = 10.0


class EmbeddingRequest(BaseModel):
    """Body of ``POST /v1/embeddings``; `sparse` and `multi_vector` are ours, the rest is OpenAI's."""

    model_config = ConfigDict(extra="ignore")

    input: (
        Annotated[str, Field(max_length=MAX_CHARS)]
        | Annotated[list[Annotated[str, Field(max_length=MAX_CHARS)]], Field(min_length=1, max_length=MAX_TEXTS)]
    )
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    sparse: bool = False
    multi_vector: bool = False


@dataclass(slots=True)
class _Job:
    """A request that waits: its texts' tokens, and what has come of them."""

    tokens: list[list[int]]
    sparse: bool
    multi_vector: bool
    done: asyncio.Future[Embeddings]
    queued: float
    next: int = 0  # first text not taken into a round yet
    parts: list[Embeddings] | None = None


class Batcher:
    """Computes what many callers ask for in shared rounds. Lives in one event loop.

    Parameters
    ----------
    embedder : BgeM3
        Engine.
    max_waiting_tokens : int
        More tokens than this do not wait; the caller is told to come back.
    registry : CollectorRegistry
        Where its metrics are kept.
    """

    def __init__(self, embedder: BgeM3, *, max_waiting_tokens: int, registry: CollectorRegistry) -> None:
        self._embedder = embedder
        self._max_waiting_tokens = max_waiting_tokens
        self._lanes: tuple[deque[_Job], deque[_Job]] = (deque(), deque())  # urgent, bulk
        self._waiting_tokens = 0
        self._tokens_per_s = 1000.0
        self._wake = asyncio.Event()
        self._texts = Counter("embed_texts_total", "Texts embedded.", registry=registry)
        self._tokens = Counter("embed_tokens_total", "Tokens embedded, padding left out.", registry=registry)
        self._refused = Counter("embed_refused_total", "Requests refused because too much waited.", registry=registry)
        self._failed = Counter("embed_failed_rounds_total", "Rounds the engine failed.", registry=registry)
        self._waiting = Gauge("embed_waiting_tokens", "Tokens that wait.", registry=registry)
        self._round_texts = Histogram(
            "embed_round_texts", "Texts of a round.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=registry
        )
        self._round_seconds = Histogram("embed_round_seconds", "Time of a round.", registry=registry)
        self._wait_seconds = Histogram("embed_wait_seconds", "Time from arrival to the answer.", registry=registry)

    async def embed(self, texts: Sequence[str], *, sparse: bool = False, multi_vector: bool = False) -> Embeddings:
        """Embed texts in the next rounds with room.

        Parameters
        ----------
        texts : sequence of str
            At least one.
        sparse, multi_vector : bool, optional
            Whether to give these too.

        Returns
        -------
        Embeddings
            In the order of `texts`.

        Raises
        ------
        Overloaded
            If too much waits already.
        """
        if self._waiting_tokens >= self._max_waiting_tokens:
            self._refuse()
        queued = time.perf_counter()
        tokens = await asyncio.to_thread(self._embedder.tokenize, texts)
        total = sum(map(len, tokens))
        if self._waiting_tokens and self._waiting_tokens + total > self._max_waiting_tokens:
            self._refuse()
        job = _Job(tokens, sparse, multi_vector, asyncio.get_running_loop().create_future(), queued)
        self._lanes[0 if total <= URGENT_TOKENS else 1].append(job)
        self._count_waiting(total)
        self._wake.set()
        done = await job.done
        self._wait_seconds.observe(time.perf_counter() - queued)
        return done

    async def run(self) -> None:
        """Compute rounds until cancelled; then what waits is refused."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while taken := self._take():
                    await self._round(taken)
        finally:
            for lane in self._lanes:
                _fail(lane, _stopping())

    def _take(self) -> list[tuple[_Job, int, int]]:
        """Choose a round: texts of waiting jobs as (job, from, to), questions first, with one set of outputs."""
        room = STEPS_A_ROUND * self._embedder.tokens_a_step
        taken: list[tuple[_Job, int, int]] = []
        for lane in self._lanes:
            while lane and room > 0:
                job = lane[0]
                if job.done.done():  # its caller went away, or a round of it failed
                    self._count_waiting(-sum(map(len, job.tokens[job.next :])))
                    lane.popleft()
                    continue
                if taken and (job.sparse, job.multi_vector) != (taken[0][0].sparse, taken[0][0].multi_vector):
                    return taken
                first = job.next
                while job.next < len(job.tokens) and (room > 0):
                    room -= len(job.tokens[job.next])
                    job.next += 1
                taken.append((job, first, job.next))
                self._count_waiting(-sum(map(len, job.tokens[first : job.next])))
                if job.next == len(job.tokens):
                    lane.popleft()
        return taken

    async def _round(self, taken: list[tuple[_Job, int, int]]) -> None:
        tokens = [ids for job, first, last in taken for ids in job.tokens[first:last]]
        lead = taken[0][0]
        started = time.perf_counter()
        try:
            made = await asyncio.to_thread(
                self._embedder.encode_tokens, tokens, sparse=lead.sparse, multi_vector=lead.multi_vector
            )
        except asyncio.CancelledError:
            _fail([job for job, _, _ in taken], _stopping())
            raise
        except Exception as error:  # whatever the engine raises: its callers hear of it, the server goes on
            self._failed.inc()
            log.error("embed.round_failed", error=type(error).__name__, texts=len(tokens))
            _fail([job for job, _, _ in taken], EmbedderDown(f"The engine failed ({type(error).__name__})."))
            return
        seconds = time.perf_counter() - started
        total = sum(map(len, tokens))
        self._tokens_per_s += 0.2 * (total / seconds - self._tokens_per_s)
        self._round_seconds.observe(seconds)
        self._round_texts.observe(len(tokens))
        self._texts.inc(len(tokens))
        self._tokens.inc(total)
        at = 0
        for job, first, last in taken:
            job.parts = [*(job.parts or ()), _slice(made, at, at + last - first)]
            at += last - first
            if last == len(job.tokens) and not job.done.done():
                job.done.set_result(_join(job.parts))

    def _count_waiting(self, tokens: int) -> None:
        self._waiting_tokens += tokens
        self._waiting.set(self._waiting_tokens)

    def _refuse(self) -> None:
        self._refused.inc()
        seconds = min(60.0, max(1.0, self._waiting_tokens / self._tokens_per_s))
        raise Overloaded("The embedding server has too much to do.", retry_after_s=round(seconds, 1))


def create_app(embedder: BgeM3, *, max_waiting_tokens: int = 262_144) -> FastAPI:
    """Build the server.

    Parameters
    ----------
    embedder : BgeM3
        Engine.
    max_waiting_tokens : int, optional
        Back-pressure; see `Batcher`.

    Returns
    -------
    FastAPI
        ``POST /v1/embeddings``, ``GET /v1/models``, ``GET /health``, ``GET /metrics``; run it with one uvicorn worker.
    """
    registry = CollectorRegistry()
    batcher = Batcher(embedder, max_waiting_tokens=max_waiting_tokens, registry=registry)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(batcher.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    app = FastAPI(title="PostFinder embeddings", lifespan=life, openapi_url=None)

    @app.exception_handler(Overloaded)
    async def overloaded(_: Request, error: Overloaded) -> JSONResponse:
        response = _error(429, "overloaded", str(error))
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = {f"{'.'.join(str(p) for p in e['loc'][1:3])}: {e['msg']}" for e in error.errors()}
        return _error(400, "invalid_request_error", "; ".join(sorted(faults)))  # never the input itself

    @app.exception_handler(EmbedderDown)
    async def failed(_: Request, error: EmbedderDown) -> JSONResponse:
        return _error(500, "server_error", str(error))

    @app.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest) -> Response:
        if body.model not in ("", embedder.info.card):
            return _error(404, "model_not_found", f"This server runs {embedder.info.card}.")
        texts = [body.input] if isinstance(body.input, str) else body.input
        made = await batcher.embed(texts, sparse=body.sparse, multi_vector=body.multi_vector)
        return JSONResponse(await asyncio.to_thread(_answer, made, embedder.info.card, body.encoding_format))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        info = embedder.info
        entry = {"id": info.card, "object": "model", "owned_by": "postfinder", "max_model_len": info.max_tokens}
        return {"object": "list", "data": [entry | {"dim": info.dim, "engine": info.engine}]}

    @app.get("/health")
    async def health() -> Response:
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                made = await batcher.embed(["1"])
        except TimeoutError:
            return _error(503, "not_ready", "No vector came in time.")
        return JSONResponse({"status": "ok", "dim": made.dense.shape[1]})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return app


def run(embedder: BgeM3, *, host: str, port: int, max_waiting_tokens: int = 262_144) -> None:
    """Serve until stopped; see `create_app`."""
    uvicorn.run(
        create_app(embedder, max_waiting_tokens=max_waiting_tokens),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


def _answer(made: Embeddings, model: str, encoding: Literal["float", "base64"]) -> dict[str, Any]:
    data = []
    for i, row in enumerate(made.dense):
        entry: dict[str, Any] = {"object": "embedding", "index": i, "embedding": _numbers(row, encoding)}
        if made.sparse is not None:
            entry["sparse"] = {"token_ids": list(made.sparse[i]), "weights": list(made.sparse[i].values())}
        if made.multi_vector is not None:
            vectors = made.multi_vector[i]
            entry["multi_vector"] = {"shape": list(vectors.shape), "data": _numbers(vectors.reshape(-1), encoding)}
        data.append(entry)
    tokens = sum(made.tokens)
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _numbers(row: Vectors, encoding: Literal["float", "base64"]) -> list[float] | str:
    if encoding == "float":
        return [float(x) for x in row]
    return base64.b64encode(np.ascontiguousarray(row, "<f4").tobytes()).decode()


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status)


def _fail(jobs: Iterable[_Job], error: ModelError) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(error)


def _stopping() -> Overloaded:
    return Overloaded("The embedding server stops.", retry_after_s=5.0)


def _slice(made: Embeddings, first: int, last: int) -> Embeddings:
    return Embeddings(
        dense=made.dense[first:last],
        sparse=None if made.sparse is None else made.sparse[first:last],
        multi_vector=None if made.multi_vector is None else made.multi_vector[first:last],
        tokens=made.tokens[first:last],
    )


def _join(parts: list[Embeddings]) -> Embeddings:
    if len(parts) == 1:
        return parts[0]
    return Embeddings(
        dense=np.concatenate([p.dense for p in parts]),
        sparse=None if parts[0].sparse is None else [s for p in parts for s in p.sparse or ()],
        multi_vector=None if parts[0].multi_vector is None else [m for p in parts for m in p.multi_vector or ()],
        tokens=[t for p in parts for t in p.tokens],
    )
