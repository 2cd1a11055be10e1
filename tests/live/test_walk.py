"""The whole walk: the appliance's own process, its page's API and its bot, through real vLLM on the CPU.

The model is tiny and random, so no post ever bears out what it writes: the answers are quotes, and say why.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import sample
from tests import tiny_llm
from tests.live.vllm_server import Vllm
from tests.servers.botapi import DEFAULT_TOKEN, BotApi

pytest.importorskip("vllm", reason="the live environment is not installed")

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"  # the appliance has no torch: its own environment
QUESTION = "Чем покрыть разделочную доску?"
AGAIN = ("Чем пропитать разделочную доску?", "Каким маслом покрыть доску?", "Чем покрыть новую разделочную доску?")
DEADLINE_S = 60.0
PERSON = 501

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the appliance's environment is not installed")


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    folder = tmp_path_factory.mktemp("walk")
    tiny_llm.make(folder / "tiny-qwen3", context=16384)  # its 500 tokens are nearly letters: prompts are long
    server = Vllm(folder / "tiny-qwen3", "--max-model-len", "16384", log=folder / "vllm.log")
    print(f"vLLM started in {server.start():.0f} s")  # noqa: T201
    yield server
    server.kill()


@pytest.fixture
async def bot() -> AsyncIterator[BotApi]:
    async with BotApi() as server:
        server.add_user(PERSON, "Сосед")
        yield server


@pytest.fixture
async def page(vllm: Vllm, bot: BotApi, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The page's API of a running appliance that holds the sample channel."""
    env = os.environ | {
        "TELEGRAM_BOT_TOKEN": DEFAULT_TOKEN,
        "POSTFINDER_TELEGRAM_API": bot.url,
        "POSTFINDER_DATA_DIR": str(tmp_path / "data"),
        "POSTFINDER_WEIGHTS_DIR": str(ROOT / "weights"),
        "POSTFINDER_GENERATOR_URL": vllm.url,
        "POSTFINDER_GENERATOR_CONTEXT_TOKENS": "16384",
        "POSTFINDER_ANSWER_DEADLINE_S": str(DEADLINE_S),
        "POSTFINDER_PORT": "0",
        "POSTFINDER_LOG": "json",
        "PYTHONPATH": str(ROOT),
    }
    command = [str(PYTHON), "-m", "appliance.cli"]
    with (tmp_path / "log.txt").open("ab") as log:
        process = subprocess.Popen([*command, "serve"], cwd=tmp_path, env=env, stdout=log, stderr=log)  # noqa: ASYNC220
    try:
        serving = tmp_path / "data" / "serving.json"
        async with asyncio.timeout(180):
            while not serving.exists():
                assert process.poll() is None, (tmp_path / "log.txt").read_text()
                await asyncio.sleep(0.2)
        with sample.export() as path:
            imported = [*command, "import", str(path), "--username", sample.USERNAME]
            run = await asyncio.to_thread(subprocess.run, imported, cwd=tmp_path, env=env, capture_output=True)
            assert run.returncode == 0, (run.stdout + run.stderr).decode()
        url = json.loads(serving.read_text())["url"]
        async with httpx.AsyncClient(base_url=url, timeout=2 * DEADLINE_S, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 30)
        process.kill()


async def asked(page: httpx.AsyncClient, question: str = QUESTION) -> tuple[list[str], dict[str, Any], float]:
    """Ask as the page does; returns the events' names in order, the answer, and the seconds it took."""
    names, answer, started = [], "", time.perf_counter()
    async with page.stream("POST", "/ask", json={"question": question}, headers={"Accept": "text/event-stream"}) as got:
        assert got.status_code == 200
        async for line in got.aiter_lines():
            if line.startswith("event: "):
                names.append(line[7:])
            elif line.startswith("data: "):
                answer = line[6:]
    return names, json.loads(answer), time.perf_counter() - started


async def running(vllm: Vllm) -> float:
    return await asyncio.to_thread(vllm.metric, "vllm:num_requests_running")


async def made(vllm: Vllm) -> float:
    return await asyncio.to_thread(vllm.metric, "vllm:generation_tokens_total")


def is_quoted(answer: dict[str, Any], note: str) -> None:
    assert (answer["outcome"], answer["model"], answer["note"]) == ("answered", "quotes", note)
    assert answer["remark"]
    assert answer["sentences"]
    assert all(sentence["citations"] for sentence in answer["sentences"])
    assert all(cited["link"].startswith("https://t.me/") for cited in answer["citations"])


async def test_page_and_bot_through_vllm_left_killed_and_back(page: httpx.AsyncClient, bot: BotApi, vllm: Vllm) -> None:
    # the page: links first, then what vLLM writes is checked against the posts
    before = await made(vllm)
    names, answer, _ = await asked(page)
    is_quoted(answer, "model_unsupported")
    whole = await made(vllm) - before
    assert whole > 0  # vLLM did write
    assert names.index("links") < len(names) - 1
    print(f"page: {names[:4]}…, vLLM wrote {whole:.0f} tokens, {answer['times_ms']}")  # noqa: T201

    # the bot
    before = await made(vllm)
    bot.say(PERSON, AGAIN[0])
    await bot.until(lambda: any("t.me/" in json.dumps(m) for m in bot.from_bot(PERSON)), 2 * DEADLINE_S)
    assert await made(vllm) > before

    # a reader who leaves stops vLLM
    async with page.stream("POST", "/ask", json={"question": AGAIN[1]}, headers={"Accept": "text/event-stream"}) as got:
        lines = got.aiter_lines()  # held: dropped, it would close the connection
        async for line in lines:
            if line == "event: links":
                break
        async with asyncio.timeout(30):
            while not await running(vllm):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        before = await made(vllm)
    left = time.perf_counter()
    async with asyncio.timeout(10):
        while await running(vllm):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    after = await made(vllm) - before
    assert after < whole / 2  # it was stopped, it did not end
    print(f"left: {after:.0f} tokens more, vLLM idle after {time.perf_counter() - left:.2f} s")  # noqa: T201

    # killed: quoted within the deadline, and said so
    await asyncio.to_thread(vllm.kill)
    _, answer, took_s = await asked(page, AGAIN[2])
    is_quoted(answer, "model_down")
    assert took_s < DEADLINE_S
    print(f"vLLM dead: quoted after {took_s:.2f} s")  # noqa: T201

    # back, with the appliance never restarted
    await asyncio.to_thread(vllm.start)
    before = await made(vllm)
    _, answer, _ = await asked(page, AGAIN[2])
    is_quoted(answer, "model_unsupported")
    assert await made(vllm) > before
