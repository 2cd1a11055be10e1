"""Queries as people type them, against a small vocabulary."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.lexical import Lexicon
from appliance.spelling import as_meant
from appliance.text import lemmas

POSTS = [
    "Как записаться на инструктаж: напишите в библиотеку вещей. Привет!",
    "Стоимость абонемента 3 200 ₽, резка на лазере, компост, пароль от docker",
    "Моющий пылесос и велопарад, обмен семенами 15 марта, резка фанеры",
]
COUNTS = Counter(lemma for post in POSTS for lemma in set(lemmas(post)))
LEXICON = Lexicon()
LEXICON.add([lemmas(post) for post in POSTS])


def meant(text: str) -> str:
    return as_meant(text, count=lambda lemma: COUNTS[lemma], near=LEXICON.near)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("ghbdtn", "привет"),
        ("vj.obq gsktcjc", "моющий пылесос"),
        (",b,kbjntrf dtotq", "библиотека вещей"),
        ("вщслук", "docker"),
        ("kak zapisatsya", "как записаться"),
        ("moyushiy pylesos", "моющий пылесос"),
        ("лазерная рзека", "лазерная резка"),
        ("абонемнта сколько", "абонемента сколько"),
        ("велопар", "велопарад"),
        ("семена 15.03", "семена 15 марта"),
        ("21.11.2026", "21 ноября 2026"),
        ("абонемент 3200 рублей", "абонемент 3 200 рублей"),
        ("платёж 12.5000 и 3200кг", "платёж 12.5000 и 3 200 кг"),
        ("240см", "240 см"),
    ],
)
def test_what_was_meant(typed: str, wanted: str) -> None:
    assert meant(typed) == wanted


@pytest.mark.parametrize(
    "typed",
    [
        "как записаться на инструктаж",
        "docker",
        "how to find a monitor",
        "kotlin",  # an island in the dictionary, but no word of the posts
        "python 3.11",
        "https://example.org/a.b",
        "C++ и std::vector",
        "зеленая дверь",
        "фывапролд",
    ],
)
def test_what_stays(typed: str) -> None:
    assert meant(typed) == typed


def test_words_out_of_reach_correct_nothing() -> None:
    assert as_meant("велопар", count=lambda lemma: 0, near=lambda word: []) == "велопар"


@given(st.text(max_size=40))
def test_any_text_is_read(text: str) -> None:
    once = meant(text)
    assert isinstance(once, str)
    assert bool(once.strip()) or not text.strip()
