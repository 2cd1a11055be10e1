"""Periods in words."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.periods import FIRST_YEAR, find_periods

TODAY = date(2026, 11, 27)  # Friday


def one(text: str, today: date = TODAY) -> tuple[str, str, str]:
    (period,) = find_periods(text, today)
    return text[period.start : period.end], str(period.first or ""), str(period.after or "")


@pytest.mark.parametrize(
    ("text", "words", "first", "after"),
    [
        ("что писали за прошлую неделю", "за прошлую неделю", "2026-11-16", "2026-11-23"),
        ("за эту неделю", "за эту неделю", "2026-11-23", "2026-11-30"),
        ("за последние две недели", "за последние две недели", "2026-11-14", "2026-11-28"),
        ("за последние сутки", "за последние сутки", "2026-11-26", "2026-11-28"),
        ("вчера вечером", "вчера вечером", "2026-11-26", "2026-11-27"),
        ("с 1 по 15 марта", "с 1 по 15 марта", "2026-03-01", "2026-03-16"),
        ("с 5 декабря по 10 января", "с 5 декабря по 10 января", "2025-12-05", "2026-01-11"),
        ("с марта по май 2025", "с марта по май 2025", "2025-03-01", "2025-06-01"),
        ("с 01.03.2025 по 15.03.2025", "с 01.03.2025 по 15.03.2025", "2025-03-01", "2025-03-16"),
        ("в 2025 году", "в 2025 году", "2025-01-01", "2026-01-01"),
        ("в декабре", "в декабре", "2025-12-01", "2026-01-01"),
        ("в марте прошлого года", "в марте прошлого года", "2025-03-01", "2025-04-01"),
        ("за второй квартал 2025", "за второй квартал 2025", "2025-04-01", "2025-07-01"),
        ("в прошлом году весной", "в прошлом году весной", "2025-03-01", "2025-06-01"),
        ("летом 2025 года", "летом 2025 года", "2025-06-01", "2025-09-01"),
        ("с начала года", "с начала года", "2026-01-01", ""),
        ("неделю назад", "неделю назад", "2026-11-19", "2026-11-22"),
        ("last month", "last month", "2026-10-01", "2026-11-01"),
        ("in the past month", "in the past month", "2026-10-29", "2026-11-28"),
        ("from march 1 to march 15, 2025", "from march 1 to march 15, 2025", "2025-03-01", "2025-03-16"),
        ("since monday", "since monday", "2026-11-23", ""),
    ],
)
def test_periods_are_read(text: str, words: str, first: str, after: str) -> None:
    assert one(text) == (words, first, after)


@pytest.mark.parametrize(
    "text",
    [
        "в 1812 году", "30 февраля 2026", "в 2031 году", "python 3.11", "сколько лет дому", "автобусы 7 и 23",
        "последние 5 постов", "5.5 мм", "я может быть", "по выходным",
    ],
)  # fmt: skip
def test_what_is_no_time_of_a_post_is_left(text: str) -> None:
    assert find_periods(text, TODAY) == []


def test_the_end_of_a_year_and_of_february() -> None:
    assert one("за прошлую неделю", date(2027, 1, 1)) == ("за прошлую неделю", "2026-12-21", "2026-12-28")
    assert one("в прошлом месяце", date(2024, 3, 31))[1:] == ("2024-02-01", "2024-03-01")
    assert one("29 февраля", date(2024, 3, 31))[1:] == ("2024-02-29", "2024-03-01")
    assert find_periods("29 февраля", date(2025, 3, 31)) == []


@given(
    st.lists(
        st.sampled_from(
            "с по за в до от прошлую последние неделю дня марта мая 1 15 31 2025 2025-03-01 1.03 году года летом назад "
            "last 3 days вчера - – и квартал from to".split()
        ),
        max_size=9,
    ),
    st.dates(date(2020, 1, 1), date(2035, 12, 31)),
)
def test_whatever_is_typed_gives_possible_periods(words: list[str], today: date) -> None:
    text = " ".join(words)
    end = 0
    for period in find_periods(text, today):
        assert end <= period.start < period.end <= len(text)
        end = period.end
        assert period.first is None or period.first <= today
        assert period.after is None or period.after.year >= FIRST_YEAR
        assert period.first is None or period.after is None or period.after - period.first >= timedelta(days=1)
