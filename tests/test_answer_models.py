"""A model that is down, slow, overloaded, garbled or hostile: the outcome, the remark, the deadline, the recovery."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from appliance import grounded
from appliance.app import App, open_app, open_doors
from appliance.schema import Answer, Asker, Final, Part, Piece, Question
from tests.conftest import config_for, copy_data
from tests.servers.openai import ABORT, DIE, OpenAIServer, Raw, Status, Step

KNOWN = "Чем покрыть разделочную доску?"
DEADLINE_S = 30.0  # of models that fail at once: a busy machine must not reach it


def line_of(body: dict[str, Any]) -> str:
    """The longest line of the first post shown to the model."""
    lines = body["messages"][-1]["content"].split("КОНЕЦ ПОСТА")[0].splitlines()[1:]
    return max(lines, key=len)[:160].rstrip(" .!?")


def good(body: dict[str, Any]) -> list[Step]:
    return ["ИСТОЧНИКИ: 1\n", f"{line_of(body)} [1].\n"]


@asynccontextmanager
async def written_by(
    server: OpenAIServer, sample_data: Path, folder: Path, deadline_s: float = DEADLINE_S
) -> AsyncIterator[App]:
    copy_data(sample_data, folder / "data")
    settings = {"generator_url": server.url, "answer_deadline_s": deadline_s, "generator_context_tokens": 4096}
    settings |= {"remembered_answers": 0}  # the same question is asked of every model
    async with open_app(config_for(folder / "data").model_copy(update=settings)) as app:
        yield app


async def answer_of(app: App, text: str = KNOWN) -> tuple[Answer, float]:
    started = perf_counter()
    parts: list[Part] = [part async for part in app.verbs.ask(Question(text, Asker()))]
    assert isinstance(parts[-1], Final)
    return parts[-1].answer, perf_counter() - started


def is_quoted(answer: Answer, note: str) -> bool:
    return (answer.outcome, answer.model, answer.note) == ("answered", "quotes", note) and bool(answer.sentences)


def ok_citations(answer: Answer) -> bool:
    numbers = {citation.number for citation in answer.citations}
    return all(sentence.citations and set(sentence.citations) <= numbers for sentence in answer.sentences)


async def test_every_way_a_model_fails_ends_in_quotes_and_it_recovers(sample_data: Path, tmp_path: Path) -> None:
    ways: dict[str, tuple[Any, str]] = {
        "overloaded": (lambda _: [Status(429, {"retry-after": "1"})], "model_down"),
        "failing": (lambda _: [Status(500)], "model_down"),
        "garbage": (lambda _: [Raw(b"data: {no json\n\n")], "model_down"),
        "dies mid-stream": (lambda body: [*good(body), "Ещё", DIE], "model_down"),
        "gives up": (lambda _: ["ИСТОЧНИКИ: 1\n", ABORT], "model_down"),
        "says nothing": (lambda _: [], "model_unsupported"),
        "ignores the protocol": (lambda _: ["Я большая языковая модель и рада помочь. Чем могу?"], "model_unsupported"),
        "hostile": (lambda _: ["ИСТОЧНИКИ: 1\nПлатите на https://evil.example/pay [1].\n"], "model_unsupported"),
        "another script": (lambda _: ["ИСТОЧНИКИ: 1\n", "菜板应该涂油 [1]。\n"], "model_unsupported"),
        "cites nobody": (lambda body: [f"ИСТОЧНИКИ: 1\n{line_of(body)}.\n"], "model_unsupported"),
        "cites what was not shown": (lambda body: [f"ИСТОЧНИКИ: 1\n{line_of(body)} [77].\n"], "model_unsupported"),
    }
    async with OpenAIServer(good) as server, written_by(server, sample_data, tmp_path) as app:
        for name, (script, note) in ways.items():
            server.script = script
            answer, took = await answer_of(app)
            assert is_quoted(answer, note), name
            assert ok_citations(answer), name
            assert took < DEADLINE_S, name
            server.script = good
            answer, _ = await answer_of(app)
            assert (answer.model, answer.note) == ("loopback", ""), f"no recovery after {name}"
            assert ok_citations(answer)
        await server.stop()
        assert is_quoted((await answer_of(app))[0], "model_down")
        await server.start()
        assert (await answer_of(app))[0].model == "loopback"


async def test_a_slow_model_is_left_at_the_deadline(sample_data: Path, tmp_path: Path) -> None:
    def slow(body: dict[str, Any]) -> list[Step]:
        return ["ИСТОЧНИКИ: 1\n", *(["ещё ", 0.5] * 40)]

    async with OpenAIServer(slow) as server, written_by(server, sample_data, tmp_path, 3.0) as app:
        answer, took = await answer_of(app)
        assert is_quoted(answer, "model_down")
        assert 3.0 <= took < 20.0
        await until(lambda: server.left == 1)  # the model stopped writing for nobody


async def test_a_refusal_is_a_refusal_and_ends_the_writing(sample_data: Path, tmp_path: Path) -> None:
    def refuses(_: dict[str, Any]) -> list[Step]:
        return ["ИСТОЧНИКИ: нет\n", *(["лишнее ", 2.0] * 20)]

    async with OpenAIServer(refuses) as server, written_by(server, sample_data, tmp_path) as app:
        answer, took = await answer_of(app)
        assert (answer.outcome, answer.sentences, answer.note) == ("not_found", (), "")
        assert took < DEADLINE_S


async def test_an_asker_who_leaves_closes_the_connection(sample_data: Path, tmp_path: Path) -> None:
    def long(body: dict[str, Any]) -> list[Step]:
        return [*good(body), *(["ещё ", 0.1] * 50)]

    async with OpenAIServer(long) as server, written_by(server, sample_data, tmp_path) as app:
        stream: Any = app.verbs.ask(Question(KNOWN, Asker()))
        async for part in stream:
            if isinstance(part, Piece):
                break
        await stream.aclose()
        await until(lambda: server.left == 1)
        assert server.finished == 0


MORE = Raw('data: {"choices": [{"index": 0, "delta": {"content": "ещё "}}]}\n\n'.encode())
FLOOD = 400  # times five pieces at once


async def leave_a_flood(sample_data: Path, tmp_path: Path) -> OpenAIServer:
    """Ask at the page's door a model that writes without a pause, and leave a moment after its first words."""

    def flood(body: dict[str, Any]) -> list[Step]:
        return [*good(body), *([MORE, MORE, MORE, MORE, MORE, 0.001] * FLOOD)]

    async with (
        OpenAIServer(flood) as server,
        written_by(server, sample_data, tmp_path) as app,
        open_doors(app, port=0, with_bot=False) as url,
    ):
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"question": KNOWN}).encode()
        request = f"POST /ask HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Length: {len(body)}\r\n"
        for pause_s in (0.0, 0.003, 0.01, 0.02):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"{request}Content-Type: application/json\r\n\r\n".encode() + body)
            await asyncio.wait_for(reader.readuntil(b"event: piece"), 5)
            await asyncio.sleep(pause_s)
            writer.transport.abort()
        await until(lambda: server.left + server.finished == 4, 30)
    return server


async def test_leaving_a_model_that_writes_without_pause_stops_it(sample_data: Path, tmp_path: Path) -> None:
    server = await leave_a_flood(sample_data, tmp_path)
    assert (server.left, server.finished) == (4, 0)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python's wait_for keeps its cancellations")
async def test_with_wait_for_it_would_write_on_for_nobody(
    sample_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same by `asyncio.wait_for`, which loses a cancellation that comes together with a piece."""

    async def lossy(stream: AsyncGenerator[str], left_s: float, stop: asyncio.Event | None) -> str:
        return await asyncio.wait_for(anext(stream), left_s)

    monkeypatch.setattr(grounded, "_next", lossy)
    server = await leave_a_flood(sample_data, tmp_path)
    assert server.finished > 0


async def until(condition: Any, seconds: float = 30.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("did not happen in time")
