"""The generator against real vLLM on the CPU: streamed, cancelled mid-way, killed and recovered."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import GeneratorDown
from models.generate_openai import OpenAIGenerator, Patience, Usage
from models.ports import ChatMessage
from tests import tiny_llm
from tests.live.vllm_server import Vllm

pytest.importorskip("vllm", reason="the live environment is not installed")

PATIENT = Patience(connect_s=5, first_token_s=120, next_token_s=60)
QUESTION = (ChatMessage("system", "Отвечай по постам."), ChatMessage("user", "Когда митап?"))
FOREVER = {"ignore_eos": True}
WRITTEN = 400  # tokens of seconds, beside which a cold or crowded start is short


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    folder = tmp_path_factory.mktemp("v")
    tiny_llm.make(folder / "tiny-qwen3")
    server = Vllm(folder / "tiny-qwen3", "--max-model-len", "4096", log=folder / "vllm.log")
    print(f"vLLM started in {server.start():.0f} s")  # noqa: T201
    yield server
    server.kill()


async def test_an_answer_is_streamed_and_counted(vllm: Vllm) -> None:
    generator = OpenAIGenerator(vllm.url, patience=PATIENT)
    ready = await generator.ready()
    assert (ready.completion_tokens, generator.name) == (1, "tiny-qwen3")
    assert (await generator.served()).context_tokens == 4096
    usage: list[Usage] = []
    started = time.perf_counter()
    stream = generator.stream(QUESTION, max_tokens=WRITTEN, extra=FOREVER, on_end=usage.append)
    times = [time.perf_counter() - started async for _ in stream]
    assert usage[0].completion_tokens == WRITTEN
    assert usage[0].finish_reason == "length"
    assert usage[0].prompt_tokens > 10
    assert len(times) > 10
    assert times[0] < times[-1] / 2  # pieces came as they were made
    bare: list[float] = []
    for _ in range(8):
        async for _ in generator.stream(QUESTION, max_tokens=8, extra=FOREVER, on_end=usage.append):
            pass
        bare.append(usage[-1].first_token_ms)
    print(f"first token {sorted(bare)[4]:.0f} ms; {WRITTEN / times[-1]:.0f} tokens/s")  # noqa: T201
    await generator.aclose()


async def test_greedy_answers_repeat_and_salts_are_taken(vllm: Vllm) -> None:
    generator = OpenAIGenerator(vllm.url, patience=PATIENT)

    async def answer(**options: str) -> str:
        stream = generator.stream(QUESTION, max_tokens=20, extra=FOREVER, **options)  # type: ignore[arg-type]
        return "".join([piece async for piece in stream])

    assert await answer() == await answer() == await answer(cache_salt="tenant-1")
    await generator.aclose()


async def test_closing_mid_way_stops_vllm(vllm: Vllm) -> None:
    generator = OpenAIGenerator(vllm.url, patience=PATIENT)
    made_before = await asyncio.to_thread(vllm.metric, "vllm:generation_tokens_total")
    async with contextlib.aclosing(generator.stream(QUESTION, max_tokens=3500, extra=FOREVER)) as stream:
        async for _ in stream:
            break
    for _ in range(100):
        if await asyncio.to_thread(vllm.metric, "vllm:num_requests_running") == 0:
            break
        await asyncio.sleep(0.1)
    made = await asyncio.to_thread(vllm.metric, "vllm:generation_tokens_total") - made_before
    assert await asyncio.to_thread(vllm.metric, "vllm:num_requests_running") == 0
    assert made < 2500
    print(f"cancelled after {made:.0f} of 3,500 tokens")  # noqa: T201
    await generator.aclose()


async def test_a_prompt_beyond_the_context_is_refused_with_the_cure(vllm: Vllm) -> None:
    generator = OpenAIGenerator(vllm.url, patience=PATIENT)
    with pytest.raises(GeneratorDown, match="fewer passages") as down:
        await anext(generator.stream([ChatMessage("user", "слово " * 4000)], max_tokens=9))
    assert down.value.reason == "refused"
    await generator.aclose()


async def test_structured_output_is_passed_on(vllm: Vllm) -> None:
    generator = OpenAIGenerator(vllm.url, patience=PATIENT)
    asked = {"structured_outputs": {"choice": ["да", "нет"]}}
    answer = "".join([piece async for piece in generator.stream(QUESTION, max_tokens=9, extra=asked)])
    assert answer in ("да", "нет")
    await generator.aclose()


def test_the_plans_cache_arithmetic_is_vllms(vllm: Vllm) -> None:
    found = re.search(r"KV cache size: ([\d,]+) tokens", vllm.log.read_text())
    assert found is not None
    per_token = 2 * 4 * 2 * 64 * 2  # 2 × layers × key-value heads × head width × 2 bytes: models.plan's formula
    assert int(found[1].replace(",", "")) == pytest.approx((1 << 30) / per_token, rel=0.02)


async def test_killed_mid_way_it_is_said_and_recovers_without_restart(vllm: Vllm) -> None:
    generator = OpenAIGenerator(vllm.url, patience=PATIENT)
    await generator.ready()
    stream = generator.stream(QUESTION, max_tokens=3500, extra=FOREVER)
    got = await anext(stream)
    await asyncio.to_thread(vllm.kill)
    with pytest.raises(GeneratorDown) as down:
        got += "".join([piece async for piece in stream])
    assert down.value.reason in ("broken", "unreachable")
    started = time.perf_counter()
    with pytest.raises(GeneratorDown) as down:
        await anext(generator.stream(QUESTION, max_tokens=5))
    assert down.value.reason == "unreachable"
    assert time.perf_counter() - started < 1
    await asyncio.to_thread(vllm.start)
    answer = "".join([p async for p in generator.stream(QUESTION, max_tokens=5, extra=FOREVER)])
    assert got.startswith(answer[:1])
    await generator.aclose()


async def test_vllm_serves_the_4_bit_checkpoint_that_quantize_wrote(vllm: Vllm, tmp_path: Path) -> None:
    pytest.importorskip("vllm_bnb_plugin", reason="the bitsandbytes plugin is not installed")
    from models.quantize import quantize

    vllm.kill()
    tiny_llm.make(tmp_path / "tiny")
    await asyncio.to_thread(quantize, tmp_path / "tiny", tmp_path / "tiny-4bit", card="tiny-4bit")
    server = Vllm(
        tmp_path / "tiny-4bit", "--max-model-len", "512", "--load-format", "bitsandbytes", log=tmp_path / "vllm.log"
    )
    try:
        await asyncio.to_thread(server.start)
        generator = OpenAIGenerator(server.url, patience=PATIENT)
        usage = await generator.ready()
        assert (usage.completion_tokens, generator.name) == (1, "tiny-4bit")
        await generator.aclose()
    finally:
        server.kill()
