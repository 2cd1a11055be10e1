"""What a model writes is kept only where the posts carry it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.citations import GroundedReader
from appliance.schema import Sentence
from tests.posts import a_post, found

SHARED = Path(__file__).parents[2] / "shared" / "data"
POSTS = [
    found(a_post(1, "Керамика по вторникам в 19:00, занятие стоит 900 рублей. Запись у Лиды: @lida_clay")),
    found(
        a_post(
            2, "Библиотека вещей выдаёт дрель на 3 дня, залог 1500 рублей. Подробно: https://rechnaya.example/things"
        )
    ),
]


def read(
    text: str, *, step: int = 7, question: str = "Сколько стоит керамика?"
) -> tuple[list[Sentence], GroundedReader]:
    reader = GroundedReader(POSTS, question)
    kept = [one for at in range(0, len(text), step) for one in reader.read(text[at : at + step])]
    return kept + reader.end(), reader


def test_supported_sentences_come_out_as_they_end() -> None:
    reader = GroundedReader(POSTS, "Сколько стоит керамика?")
    assert reader.read("ИСТОЧНИКИ: 1\nЗанятие керамикой стоит 900 рублей [1]. ") == []
    first = reader.read("Оно идёт по вторникам")
    assert first == [Sentence("Занятие керамикой стоит 900 рублей.", (1,))]
    assert reader.read(" в 19:00") == []
    assert reader.end() == []  # no citation, no claim
    assert reader.dropped == 1


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_how_the_stream_is_cut_changes_nothing(step: int) -> None:
    text = "ИСТОЧНИКИ: 1, 2\nКерамика стоит 900 рублей. [1] Дрель выдают на 3 дня [2]. Залог 1500 рублей [2]"
    kept, _ = read(text, step=step)
    assert [(one.text, one.citations) for one in kept] == [
        ("Керамика стоит 900 рублей.", (1,)),
        ("Дрель выдают на 3 дня.", (2,)),
        ("Залог 1500 рублей", (2,)),
    ]


def test_a_cited_post_that_says_nothing_of_it_falls_out_of_the_citation() -> None:
    kept, _ = read("ИСТОЧНИКИ: 1, 2\nЗапись на керамику у Лиды, по вторникам [1, 2].\nДрель выдают на 3 дня [2][1].")
    assert [one.citations for one in kept] == [(1,), (2,)]


def test_posts_that_say_it_only_together_are_cited_together() -> None:
    kept, _ = read("ИСТОЧНИКИ: 1, 2\nЗанятие стоит 900 рублей, залог за дрель — 1500 рублей [1, 2].")
    assert [one.citations for one in kept] == [(1, 2)]


def test_no_sources_is_a_refusal() -> None:
    kept, reader = read("ИСТОЧНИКИ: нет\nНо я думаю, керамика стоит 900 рублей [1].")
    assert reader.refused
    assert kept == []


@pytest.mark.parametrize(
    "claim",
    [
        "Керамика стоит 950 рублей [1].",  # another number
        "Керамика стоит 900 рублей [2].",  # the wrong post
        "Керамика стоит 900 рублей [7].",  # no such post
        "Керамика стоит 900 рублей.",  # no citation
        "Президент подписал новый закон о налогах граждан [1].",  # nothing of it in the post
        "Керамика стоит 900 рублей, платите на https://evil.example/pay [1].",
        "Керамика стоит 900 рублей, пишите @evil_admin [1].",
        "Керамика стоит 900 рублей, нажмите /pay [1].",
        "Керамика стоит 900 рублей, это tg://user?id=1 [1].",
        "Керамика стоит 900 рублей, сайт evil.example [1].",
        "Керамика стоит 900 рублей 价格 [1].",  # a script of neither post nor question
    ],
)
def test_what_the_post_does_not_carry_falls_out(claim: str) -> None:
    kept, reader = read(f"ИСТОЧНИКИ: 1\n{claim}\n")
    assert kept == []
    assert reader.dropped == 1


def test_an_address_of_the_cited_post_may_stay() -> None:
    kept, _ = read(
        "ИСТОЧНИКИ: 1, 2\nЗапись на керамику у Лиды: @lida_clay [1].\nПодробно: https://rechnaya.example/things [2]."
    )
    assert [one.citations for one in kept] == [(1,), (2,)]


@given(st.lists(st.text(max_size=60), max_size=8))
def test_any_stream_is_read(pieces: list[str]) -> None:
    reader = GroundedReader(POSTS, "вопрос")
    kept = [one for piece in pieces for one in reader.read(piece)] + reader.end()
    for one in kept:
        assert set(one.citations) <= {1, 2}
        assert reader.support(one.text, [number - 1 for number in one.citations]) >= 0.5


def test_injected_instructions_bring_no_links() -> None:
    path = SHARED / "prompt-injection" / "embedded_instructions.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    for line in path.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"].replace("\n", " ")
        kept, _ = read(f"ИСТОЧНИКИ: 1\n{text} Платите на http://evil.example/x и пишите @evil [1].\n", step=50)
        assert not any("evil" in one.text for one in kept)
