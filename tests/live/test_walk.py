"""The whole walk: the appliance's own process, its page's API and its bot, through real vLLM on the CPU.

The checkpoint is tiny and says what it was made to say: two sentences that a post of the sample bears out, then a long
tail that no post does. So what vLLM writes is kept, streamed and linked, and there is time to leave and to be killed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import tiny_llm
from tests.live.appliance_process import DEADLINE_S, PYTHON, asked, serving
from tests.live.vllm_server import Vllm
from tests.servers.botapi import BotApi

pytest.importorskip("vllm", reason="the live environment is not installed")

QUESTION = "Чем покрыть разделочную доску?"
AGAIN = (
    "Чем пропитать разделочную доску?",
    "Каким маслом покрыть доску?",
    "Чем покрыть новую разделочную доску?",
    "Чем обработать разделочную доску?",
    "Чем смазать разделочную доску?",
)
ALL = "[1, 2, 3, 4, 5]"  # whichever of them it is: those that do not bear it out fall out
SAID = (
    *("ИСТОЧНИКИ: 1, 2, 3, 4, 5\n", "Разделочную доску", " покрывают", " минеральным маслом:", " оно дёшево"),
    *(" и не горчит,", " обновлять", " раз в месяц", f" {ALL}.", "\nПодсолнечное", " масло", " не надо:"),
    *(" прогоркнет", f" {ALL} .", "\n"),
)
TAIL = tuple(f" ещё{n}" for n in range(440))  # tokens of seconds
KEPT = "Разделочную доску покрывают минеральным маслом: оно дёшево и не горчит, обновлять раз в месяц."
POST = "https://t.me/masterskaya_rechnaya/73"
PERSON = 501

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the appliance's environment is not installed")


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    folder = tmp_path_factory.mktemp("walk")
    tiny_llm.parrot(folder / "parrot", [*SAID, *TAIL])
    server = Vllm(folder / "parrot", "--max-model-len", "16384", log=folder / "vllm.log")
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
    settings = {"generator_url": vllm.url, "generator_context_tokens": 16384, "remembered_answers": 0}
    async with serving(tmp_path, bot=bot, **settings) as client:
        yield client


async def running(vllm: Vllm) -> float:
    return await asyncio.to_thread(vllm.metric, "vllm:num_requests_running")


async def made(vllm: Vllm) -> float:
    return await asyncio.to_thread(vllm.metric, "vllm:generation_tokens_total")


async def left_alone(vllm: Vllm) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await running(vllm):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def is_written(answer: dict[str, Any]) -> None:
    """Said by the model, each sentence with its link, and nothing of the tail."""
    assert (answer["outcome"], answer["model"], answer["note"]) == ("answered", "parrot", "")
    assert answer["sentences"][0]["text"] == KEPT
    assert len(answer["sentences"]) == 2
    assert [cited["link"] for cited in answer["citations"]] == [POST]
    assert all(sentence["citations"] == [answer["citations"][0]["number"]] for sentence in answer["sentences"])


def is_quoted(answer: dict[str, Any], note: str) -> None:
    assert (answer["outcome"], answer["model"], answer["note"]) == ("answered", "quotes", note)
    assert answer["remark"]
    assert answer["sentences"]
    assert all(sentence["citations"] for sentence in answer["sentences"])
    assert all(cited["link"].startswith("https://t.me/") for cited in answer["citations"])


async def test_page_and_bot_through_vllm_left_killed_and_back(page: httpx.AsyncClient, bot: BotApi, vllm: Vllm) -> None:
    # the page: links first, sentences as vLLM ends them, long before it ends its tail
    before = await made(vllm)
    events, answer = await asked(page, QUESTION)
    is_written(answer)
    whole = await made(vllm) - before
    assert [name for name, _ in events] == ["links", "piece", "piece", "final"]
    at = dict(events[::-1])  # the first piece's time, not the second's
    assert at["links"] < at["piece"] < at["final"] - 0.3  # its tail takes seconds
    print(f"page: {events}, vLLM wrote {whole:.0f} tokens, {answer['times_ms']}")  # noqa: T201

    # the bot says the same, with the link
    bot.say(PERSON, AGAIN[0])
    said = await bot.until(
        lambda: [m for m in bot.from_bot(PERSON) if "минеральным маслом" in json.dumps(m, ensure_ascii=False)],
        2 * DEADLINE_S,
    )
    assert POST in json.dumps(said, ensure_ascii=False)
    await left_alone(vllm)

    # readers who leave stop vLLM
    for question in AGAIN[1:3]:
        await left_alone(vllm)
        before = await made(vllm)
        async with page.stream(
            "POST", "/ask", json={"question": question}, headers={"Accept": "text/event-stream"}
        ) as got:
            lines = got.aiter_lines()  # held: dropped, it would close the connection
            async for line in lines:
                if line == "event: piece":  # vLLM is in the middle of it
                    break
        left = time.perf_counter()
        await left_alone(vllm)
        took = await made(vllm) - before
        assert took < whole  # it was stopped: left to itself it writes the same tokens every time
        print(f"left: {took:.0f} of {whole:.0f} tokens, idle after {time.perf_counter() - left:.2f} s")  # noqa: T201

    # killed in the middle of an answer: quoted within the deadline, and said so
    started = time.perf_counter()
    asking = asyncio.create_task(asked(page, AGAIN[3]))
    async with asyncio.timeout(DEADLINE_S):
        while not await running(vllm):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.to_thread(vllm.kill)
    _, answer = await asking
    is_quoted(answer, "model_down")
    assert time.perf_counter() - started < DEADLINE_S
    started = time.perf_counter()
    _, answer = await asked(page, AGAIN[4])
    is_quoted(answer, "model_down")
    print(f"vLLM dead: quoted after {time.perf_counter() - started:.2f} s")  # noqa: T201

    # back, with the appliance never restarted
    await asyncio.to_thread(vllm.start)
    _, answer = await asked(page, AGAIN[4])
    is_written(answer)
