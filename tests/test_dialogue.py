"""Follow-ups lean on the turn before; whole questions stand alone."""

from __future__ import annotations

import pytest

from appliance.dialogue import MAX_CARRIED_CHARS, leans_on_earlier, standalone


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
    ],
)
def test_whole_questions_stand_alone(text: str) -> None:
    assert not leans_on_earlier(text)
    assert standalone(text, ["Когда открыта столярка?"]) == text


def test_a_follow_up_carries_the_last_query() -> None:
    assert (
        standalone("а сколько это стоит?", ["Где столярка?", "Когда керамика?"])
        == "Когда керамика? а сколько это стоит?"
    )
    assert standalone("а сколько это стоит?", []) == "а сколько это стоит?"


def test_what_is_carried_stays_short() -> None:
    query = standalone("а когда?", ["слово " * 200])
    assert len(query) <= MAX_CARRIED_CHARS + len("а когда?") + 1
