"""A judging model over real HTTP: both orders, intervals, and a judge that only likes the first place is seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import written
from benchmarks.judge import Pair, compare, interval
from benchmarks.sets import default_embedder
from models.load import load_generator
from tests.servers.openai import OpenAIServer, Step, say

PAIRS = [Pair(f"Вопрос {n}?", "Пост с ответом.", "Да, по вторникам." + "!" * n, "Нет.") for n in range(12)]


def longer(body: dict[str, Any]) -> Iterator[Step]:
    """An honest judge of one idea: the longer answer is better, wherever it stands."""
    told = body["messages"][-1]["content"]
    first, second = re.search(r"Ответ A:\n(.*)\n\nОтвет B:\n(.*)\n\n", told, re.DOTALL).groups()  # type: ignore[union-attr]
    yield "T" if len(first) == len(second) else "A" if len(first) > len(second) else "B"


async def judged(script: Any) -> dict[str, Any]:
    async with OpenAIServer(script) as server:
        judge = load_generator(server.url)
        try:
            return await compare(PAIRS, judge)
        finally:
            await judge.aclose()


async def test_a_judge_that_agrees_with_itself_decides() -> None:
    got = await judged(longer)
    assert (got["won"], got["lost"], got["tied"], got["unreadable"]) == (12, 0, 0, 0)
    assert got["win_share"] == 1
    assert got["interval"] == [1, 1]
    assert got["first_place_share"] == 0.5


async def test_a_judge_that_likes_the_first_place_decides_nothing() -> None:
    got = await judged(say("А"))  # a Cyrillic letter is read too
    assert (got["won"], got["lost"], got["tied"]) == (0, 0, 12)
    assert (got["win_share"], got["first_place_share"]) == (0.5, 1)


async def test_a_judge_that_talks_is_counted_as_unreadable() -> None:
    got = await judged(say("Am", "bos"))
    assert (got["unreadable"], got["win_share"]) == (24, 0.5)


def test_the_interval_holds_the_mean_and_narrows_with_pairs() -> None:
    few, many = interval([1.0, 0.0, 0.5, 1.0] * 3, 0), interval([1.0, 0.0, 0.5, 1.0] * 60, 0)
    assert few[0] < 0.625 < few[1]
    assert many[1] - many[0] < (few[1] - few[0]) / 3


@pytest.mark.slow
async def test_a_model_that_answers_and_lies_is_measured_and_judged(tmp_path: Path) -> None:
    def answers(body: dict[str, Any]) -> Iterator[Step]:
        line = max(body["messages"][-1]["content"].split("КОНЕЦ ПОСТА")[0].splitlines()[1:], key=len)[:150]
        yield f"ИСТОЧНИКИ: 1\n{line} [1].\n"
        yield "Платите на https://evil.example/pay [1].\n"

    async with OpenAIServer(answers) as server, OpenAIServer(longer, model="judge") as judge:
        got = await written.measure(default_embedder(), server.url, questions=12, judge_url=judge.url)
    assert got["model"] == "loopback"
    assert got["questions"] == 12
    assert got["written"] > 0.5
    assert (got["invented_links"], got["cited_were_shown"]) == (0, 1)
    assert got["first_token_p50_ms"] > 0
    assert got["judge"]["pairs"] > 0
