"""Follow-ups lean on the turn before; whole questions stand alone."""

from __future__ import annotations

import pytest

from appliance.dialogue import MAX_CARRIED_CHARS, leans_on_earlier, standalone
from benchmarks.results import SHARED
from benchmarks.sets import read_set


@pytest.mark.parametrize(
    "text",
    [
        "а сколько это стоит?",
        "И когда?",
        "Сколько стоит?",
        "А где его взять?",
        "что насчёт них?",
        "how much is it?",
        "А у осьминога?",
        "сколько за час?",
        "взрослым?",
        "Какая цена?",
        "во сколько начало",
        "for kids?",
        "what's the price?",
        "Какое число наибольшее из них?",
        "Можно туда с детьми, и есть ли скидка?",
    ],
)
def test_follow_ups_lean(text: str) -> None:
    assert leans_on_earlier(text)


@pytest.mark.parametrize(
    "text",
    [
        "Сколько стоит занятие керамикой?",
        "Как записаться на ремонт велосипеда?",
        "Where can I borrow a drill for the weekend?",
        "wifi",
        "керамика",
        "сколько стоит абонемент",
        "Где парковка?",
        "аптечки",
        "how much is membership?",
        "Что такое замыкания?",
        "Кто такие наставники мастерской?",
        "Стул шатается, как его починить?",
        "Утечки памяти: как их обнаружить и устранить?",
        "Where is the kiln and who runs it?",
    ],
)
def test_whole_questions_stand_alone(text: str) -> None:
    assert not leans_on_earlier(text)
    assert standalone(text, ["Когда открыта столярка?"]) == text


@pytest.mark.skipif(not SHARED.exists(), reason="the shared questions are not here")
def test_questions_of_channel_authors_stand_alone() -> None:
    """They were written to be asked alone: «Что такое …?», «… в Go: что это и зачем они нужны?»."""
    questions = read_set("telegram-search").queries.values()
    assert [one for one in questions if leans_on_earlier(one)] == []


def test_a_follow_up_carries_the_last_query() -> None:
    assert (
        standalone("а сколько это стоит?", ["Где столярка?", "Когда керамика?"])
        == "Когда керамика? а сколько это стоит?"
    )
    assert standalone("а сколько это стоит?", []) == "а сколько это стоит?"


def test_what_is_carried_stays_short() -> None:
    query = standalone("а когда?", ["слово " * 200])
    assert len(query) <= MAX_CARRIED_CHARS + len("а когда?") + 1
