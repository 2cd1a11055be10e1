"""An OpenAI-compatible chat server on loopback: real HTTP, and it misbehaves as told.

A script gets the request's body and gives steps: a text is a piece of the answer, a number is a pause in seconds,
`Status` an HTTP error instead of an answer, `Raw` bytes written as they are, `DIE` a cut connection, `ABORT` an answer
the server gave up. ``async with OpenAIServer(script) as server`` serves at ``server.url``; `start` and `stop` keep the
port, so a test can kill it and bring it back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True)
class Status:
    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = '{"error": {"message": "told to", "code": 0}}'


@dataclass(frozen=True)
class Raw:
    data: bytes


DIE = object()
ABORT = object()

Step = str | float | Status | Raw | object
Script = Callable[[dict[str, Any]], Iterable[Step]]


def say(*pieces: str) -> Script:
    """A script that gives the same pieces every time."""
    return lambda _body: pieces


class OpenAIServer:
    def __init__(self, script: Script, *, model: str = "loopback", context: int = 4096) -> None:
        self.script = script
        self.model = model
        self.context = context
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.finished = 0  # answers written whole
        self.left = 0  # answers whose reader went away
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _models(self, _request: web.Request) -> web.Response:
        entry = {"id": self.model, "object": "model", "owned_by": "test", "max_model_len": self.context}
        return web.json_response({"object": "list", "data": [entry]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(request.headers)
        if body["model"] != self.model:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        steps = iter(self.script(body))
        step = next(steps, None)
        if isinstance(step, Status):
            return web.Response(
                status=step.code, headers=dict(step.headers), text=step.body, content_type="application/json"
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self._write(request, response, body, step, steps)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left += 1
            raise
        return response

    async def _write(
        self,
        request: web.Request,
        response: web.StreamResponse,
        body: dict[str, Any],
        step: Step | None,
        steps: Iterable[Step],
    ) -> None:
        await _event(response, _chunk({"role": "assistant", "content": ""}))
        pieces = 0
        for now in (step, *()) if step is None else _chain(step, steps):
            if now is DIE:
                assert request.transport is not None
                request.transport.abort()
                return
            if now is ABORT:
                await _event(response, _chunk({}, finish="abort"))
                break
            if isinstance(now, Raw):
                await response.write(now.data)
            elif isinstance(now, int | float):
                await asyncio.sleep(now)
            elif isinstance(now, str):
                pieces += 1
                await _event(response, _chunk({"content": now}))
                if pieces >= body["max_tokens"]:
                    await _event(response, _chunk({}, finish="length"))
                    break
        else:
            await _event(response, _chunk({}, finish="stop"))
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {
                "prompt_tokens": sum(len(m["content"].split()) for m in body["messages"]),
                "completion_tokens": pieces,
                "prompt_tokens_details": {"cached_tokens": 0},
            }
            await _event(response, {"object": "chat.completion.chunk", "choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        self.finished += 1


def _chain(first: Step, rest: Iterable[Step]) -> Iterable[Step]:
    yield first
    yield from rest


def _chunk(delta: dict[str, str], *, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


async def _event(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
