"""The term and the reason that follow ``/ban``, as people write them."""

from __future__ import annotations

import pytest

from appliance.bot.order import read_term


@pytest.mark.parametrize(
    ("text", "days", "reason"),
    [
        ("3 дня спам и ссылки", 3, "спам и ссылки"),
        ("2h flood", 2 / 24, "flood"),
        ("30 мин", 30 / 1440, ""),
        ("1 нед. реклама", 7, "реклама"),
        ("спам", None, "спам"),
        ("", None, ""),
        ("минус в карму", None, "минус в карму"),
        ("на всех ругается", None, "на всех ругается"),
        ("1 месяц спам", 30, "спам"),
        ("2 мес. спам", 60, "спам"),
        ("5 месяцев", 150, ""),
        ("1 month: spam", 30, "spam"),
        ("2 года", 730, ""),
        ("5 лет", 1825, ""),
        ("1 YEAR", 365, ""),
        ("1 сутки флуд", 1, "флуд"),
        ("2 суток", 2, ""),
        ("3 недели", 21, ""),
        ("45 минут", 45 / 1440, ""),
        ("12 часов", 0.5, ""),
        ("на неделю спам", 7, "спам"),
        ("for a month", 30, ""),
    ],
)
def test_terms_of_bans_are_read(text: str, days: float | None, reason: str) -> None:
    term = read_term(text)
    assert term is not None
    assert (term[0] == days) if days is None else term[0] == pytest.approx(days)
    assert term[1] == reason


@pytest.mark.parametrize("text", ["3 фигни", "30", "1.5 дня", "3 частых ошибки", "на 5 спам", "1234567 дней"])
def test_a_number_of_nobody_knows_what_is_no_term_and_no_reason(text: str) -> None:
    assert read_term(text) is None
