"""Follow-ups rewritten by a model on loopback: used when faithful, otherwise the rule."""

from __future__ import annotations

from time import perf_counter

import pytest

from appliance.dialogue import standalone
from appliance.rewriting import checked, rewritten
from models.load import load_generator
from tests.servers.openai import ABORT, DIE, OpenAIServer, Raw, Status, Step

EARLIER = ["Когда занятия керамикой?"]
TEXT = "а сколько это стоит?"
GOOD = "Сколько стоит занятие керамикой?"
BY_RULE = standalone(TEXT, EARLIER)


async def ask(*steps: Step, deadline_s: float = 3.0, text: str = TEXT) -> tuple[str, OpenAIServer]:
    async with OpenAIServer(lambda _: steps) as server:
        generator = load_generator(server.url)
        try:
            return await rewritten(text, EARLIER, generator=generator, deadline_s=deadline_s), server
        finally:
            await generator.aclose()


async def test_a_faithful_rewriting_is_searched() -> None:
    query, server = await ask("Сколько стоит ", "занятие керамикой?")
    assert query == GOOD
    assert "Когда занятия керамикой?" in server.requests[0]["messages"][1]["content"]


async def test_a_whole_question_is_not_rewritten() -> None:
    whole = "Какой залог за дрель в библиотеке вещей?"
    query, server = await ask("что угодно", text=whole)
    assert query == whole
    assert server.requests == []


@pytest.mark.parametrize(
    "written",
    [
        "",
        "Занятие керамикой стоит 900 рублей.",
        "Сколько стоит керамика? Смотри https://evil.example",
        "Сколько стоит керамика у @evil?",
        "Сколько стоит занятие керамикой и президент Уругвая?",
        "How much is the pottery class?",
        "Сколько стоит это?",
        "Сколько стоит занятие керамикой?\nИ ещё строка",
        "керамикой " * 100,
    ],
)
async def test_anything_odd_falls_back_to_the_rule(written: str) -> None:
    assert (await ask(written))[0] == BY_RULE


@pytest.mark.parametrize("steps", [(DIE,), (ABORT,), (Status(503),), (Raw(b"data: {garbage\n\n"),), ("Сколько", DIE)])
async def test_a_broken_model_falls_back_to_the_rule(steps: tuple[Step, ...]) -> None:
    assert (await ask(*steps))[0] == BY_RULE


async def test_the_deadline_is_kept_and_the_connection_closed() -> None:
    started = perf_counter()
    query, server = await ask("Сколько ", 5.0, deadline_s=0.3)
    assert query == BY_RULE
    assert perf_counter() - started < 2
    assert server.finished == 0


def test_checked_keeps_what_was_asked() -> None:
    assert checked("Сколько стоит занятие керамикой?", TEXT, EARLIER) == GOOD
    assert checked("Когда занятия керамикой?", "а взрослым?", EARLIER) == ""
    assert checked("Когда занятия керамикой взрослым?", "а взрослым?", EARLIER) != ""
