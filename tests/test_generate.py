"""The generator against a real HTTP server that streams, stalls, fails and dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import GeneratorDown, ModelError
from models.generate_openai import OpenAIGenerator, Patience, Usage
from models.load import load_generator
from models.ports import ChatMessage, Generator
from tests.servers.openai import ABORT, DIE, OpenAIServer, Raw, Status, say

QUESTION = (ChatMessage("system", "Отвечай по постам."), ChatMessage("user", "Когда митап?"))
QUICK = Patience(connect_s=0.5, first_token_s=0.4, next_token_s=0.3)


@contextlib.asynccontextmanager
async def asking(server: OpenAIServer, **options: object) -> AsyncIterator[OpenAIGenerator]:
    generator = OpenAIGenerator(server.url, patience=QUICK, **options)  # type: ignore[arg-type]
    try:
        yield generator
    finally:
        await generator.aclose()


async def answer(generator: Generator, max_tokens: int = 64) -> str:
    return "".join([piece async for piece in generator.stream(QUESTION, max_tokens=max_tokens)])


async def test_streams_pieces_as_they_come_and_counts_tokens() -> None:
    usage: list[Usage] = []
    async with OpenAIServer(say("Митап ", "в пятницу", " [1].")) as server, asking(server) as generator:
        assert generator.name == ""
        pieces = [p async for p in generator.stream(QUESTION, max_tokens=64, on_end=usage.append)]
        assert pieces == ["Митап ", "в пятницу", " [1]."]
        assert generator.name == "loopback"
        assert (await generator.served()).context_tokens == 4096
    assert server.requests[0]["messages"][1] == {"role": "user", "content": "Когда митап?"}
    assert server.requests[0]["stream"] is True
    assert (usage[0].prompt_tokens, usage[0].completion_tokens, usage[0].finish_reason) == (5, 3, "stop")
    assert 0 < usage[0].first_token_ms <= usage[0].total_ms


async def test_first_piece_comes_before_the_answer_is_finished() -> None:
    async with OpenAIServer(say("раз", 0.2, "два")) as server, asking(server) as generator:  # type: ignore[arg-type]
        times = [time.perf_counter() async for _ in generator.stream(QUESTION, max_tokens=9)]
    assert times[1] - times[0] > 0.15


async def test_body_carries_options_and_the_key_is_a_header() -> None:
    async with (
        OpenAIServer(say("да")) as server,
        asking(server, api_key="k-1", extra={"chat_template_kwargs": {"enable_thinking": False}}) as generator,
    ):
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
        async for _ in generator.stream(
            QUESTION, max_tokens=5, stop=["\n"], cache_salt="t1", extra={"response_format": schema}
        ):
            pass
    body = server.requests[0]
    assert body["cache_salt"] == "t1"
    assert body["stop"] == ["\n"]
    assert body["response_format"] == schema
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert server.headers[0]["Authorization"] == "Bearer k-1"


async def test_closing_the_iterator_closes_the_connection() -> None:
    async with OpenAIServer(lambda _: ["слово "] + [0.02, "ещё "] * 200) as server, asking(server) as generator:
        async with contextlib.aclosing(generator.stream(QUESTION, max_tokens=999)) as stream:
            async for _ in stream:
                break
        await until(lambda: server.left == 1)
        assert server.finished == 0


async def test_cancelling_the_task_closes_the_connection() -> None:
    async with OpenAIServer(lambda _: ["слово ", 0.05, "ещё ", 30.0]) as server, asking(server) as generator:
        task = asyncio.create_task(answer(generator))
        await until(lambda: len(server.requests) == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.left == 1)


async def test_after_a_cancelled_answer_the_next_one_is_whole() -> None:
    async with OpenAIServer(say("а", "б", "в")) as server, asking(server) as generator:
        for _ in range(5):
            async with contextlib.aclosing(generator.stream(QUESTION, max_tokens=9)) as stream:
                assert await anext(stream) == "а"
        assert await answer(generator) == "абв"


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([Status(429, {"retry-after": "7"})], "overloaded"),
        ([Status(503)], "overloaded"),
        ([Status(500)], "broken"),
        ([Status(502)], "broken"),
        ([Status(400)], "refused"),
        ([Status(401)], "refused"),
        ([Status(404)], "refused"),
        ([5.0], "slow"),
        (["начало", 5.0], "slow"),
        (["начало", DIE], "broken"),
        ([DIE], "broken"),
        (["начало", ABORT], "broken"),
        ([Raw(b"data: {nonsense\n\n")], "broken"),
        ([Raw(b'data: ["a list"]\n\n')], "broken"),
        ([Raw(b'data: {"choices": [7]}\n\n')], "broken"),
        ([Raw(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n')], "broken"),
        ([Raw(b'data: {"choices": [], "usage": {"prompt_tokens": "x"}}\n\n')], "broken"),
        ([Raw(b"data: \xff\xfe\n\n")], "broken"),
        ([Raw(b'data: {"error": {"message": "boom"}}\n\n')], "broken"),
        ([Raw(b"data: [DONE]\n\n")], "broken"),
        ([Raw(b"x" * 3_000_000)], "broken"),
    ],
)
async def test_every_failure_is_generator_down_with_its_reason(steps: list[object], reason: str) -> None:
    async with OpenAIServer(lambda _: steps) as server, asking(server) as generator:
        with pytest.raises(GeneratorDown) as down:
            await answer(generator)
    assert down.value.reason == reason
    assert "Когда" not in str(down.value)
    if reason == "overloaded" and isinstance(steps[0], Status) and steps[0].headers:
        assert down.value.retry_after_s == 7


async def test_what_was_streamed_before_a_failure_was_delivered() -> None:
    got: list[str] = []
    async with OpenAIServer(lambda _: ["раз ", "два ", DIE]) as server, asking(server) as generator:
        stream = generator.stream(QUESTION, max_tokens=9)
        got += [await anext(stream), await anext(stream)]
        with pytest.raises(GeneratorDown):
            await anext(stream)
    assert got == ["раз ", "два "]


async def test_keep_alive_comments_do_not_count_as_a_first_token() -> None:
    async with OpenAIServer(lambda _: [Raw(b": ping\n\n"), 0.1] * 50) as server, asking(server) as generator:
        started = time.perf_counter()
        with pytest.raises(GeneratorDown) as down:
            await answer(generator)
    assert down.value.reason == "slow"
    assert time.perf_counter() - started < 2


async def test_after_a_timeout_it_refuses_at_once_for_a_moment_then_recovers() -> None:
    async with OpenAIServer(lambda _: [5.0]) as server, asking(server) as generator:
        with pytest.raises(GeneratorDown):
            await answer(generator)
        started = time.perf_counter()
        with pytest.raises(GeneratorDown) as down:
            await answer(generator)
        assert time.perf_counter() - started < 0.2
        assert 0 < (down.value.retry_after_s or 0) <= 1
        server.script = say("снова здесь")
        await asyncio.sleep(down.value.retry_after_s or 0)
        assert await answer(generator) == "снова здесь"


async def test_unreachable_then_back_with_another_model_without_restart() -> None:
    async with OpenAIServer(say("первая")) as server, asking(server) as generator:
        assert await answer(generator) == "первая"
        await server.stop()
        with pytest.raises(GeneratorDown) as down:
            await answer(generator)
        assert down.value.reason in ("unreachable", "broken")
        server.model, server.script = "second", say("вторая")
        await server.start()
        assert await answer(generator) == "вторая"
        assert generator.name == "second"


async def test_a_renamed_model_is_found_again_after_one_refusal() -> None:
    async with OpenAIServer(say("ответ")) as server, asking(server) as generator:
        assert await answer(generator) == "ответ"
        server.model = "renamed"
        with pytest.raises(GeneratorDown) as down:
            await answer(generator)
        assert down.value.reason == "refused"
        assert await answer(generator) == "ответ"


async def test_ready_is_a_real_one_token_answer() -> None:
    async with OpenAIServer(say("да", "нет")) as server, asking(server) as generator:
        usage = await generator.ready()
        assert (usage.completion_tokens, usage.finish_reason) == (1, "length")
        assert server.requests[0]["max_tokens"] == 1
        server.script = lambda _: [Status(500)]
        with pytest.raises(GeneratorDown):
            await generator.ready()


async def test_a_model_that_is_not_served_is_refused_with_the_cure() -> None:
    async with OpenAIServer(say("да")) as server:
        generator = load_generator(server.url, "other")
        with pytest.raises(GeneratorDown, match="other"):
            await generator.ready()
        assert generator.name == "other"
        await generator.aclose()


async def test_too_long_prompt_says_so_without_quoting_it() -> None:
    said = json.dumps({"error": {"message": "maximum context length is 4096 tokens; секрет"}})
    async with OpenAIServer(lambda _: [Status(400, body=said)]) as server, asking(server) as generator:
        with pytest.raises(GeneratorDown, match="fewer passages") as down:
            await answer(generator)
    assert "секрет" not in str(down.value)


async def test_many_answers_at_once_do_not_mix() -> None:
    def echo(body: dict[str, object]) -> list[object]:
        word = body["messages"][0]["content"]  # type: ignore[index]
        return [word, 0.05, word]

    async with OpenAIServer(echo) as server:
        generator = OpenAIGenerator(server.url)  # not in a hurry

        async def one(i: int) -> str:
            return "".join([p async for p in generator.stream([ChatMessage("user", f"<{i}>")], max_tokens=9)])

        assert await asyncio.gather(*map(one, range(40))) == [f"<{i}>" * 2 for i in range(40)]
        await generator.aclose()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.text(min_size=1), min_size=1, max_size=6), cut=st.integers(1, 7))
def test_any_text_survives_the_stream_however_it_is_cut(pieces: list[str], cut: int) -> None:
    from models.generate_openai import _lines  # the line cutter, fed bytes cut at odd places

    whole = b"".join(b"data: " + json.dumps(p, ensure_ascii=False).encode() + b"\r\n\n" for p in pieces)

    class Body:
        async def aiter_bytes(self) -> AsyncIterator[bytes]:
            for i in range(0, len(whole), cut):
                yield whole[i : i + cut]

    async def read() -> list[str]:
        return [json.loads(line[6:]) async for line in _lines(Body()) if line]  # type: ignore[arg-type]

    assert asyncio.run(read()) == pieces


@pytest.mark.parametrize("url", ["", "vllm:8000", "ftp://vllm/v1", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused_with_the_cure(url: str) -> None:
    with pytest.raises(ModelError, match="http://host:port"):
        load_generator(url)


async def test_v1_is_added_where_there_is_no_path() -> None:
    async with OpenAIServer(say("да")) as server:
        generator = load_generator(server.url.removesuffix("/v1"))
        assert await answer(generator) == "да"
        await generator.aclose()


async def until(condition: object, seconds: float = 3.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not happen in time")
