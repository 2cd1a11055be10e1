"""Limits in the words of a question."""

import tomllib
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.schema import Channel, Filters, LimitKind, Worded
from appliance.wording import filters_of, limits_words, period_words, read_words
from benchmarks import wording as suite
from benchmarks.results import ROOT

ZONE = ZoneInfo("Europe/Moscow")
NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
CHANNELS = [
    Channel(101, "Мастерская «Речная»", "masterskaya"),
    Channel(102, "Библиотека Go разработчика", "goproglib"),
    Channel(105, "Соседи по Заречной", kind="private_group", is_open=False),
]
AUTHORS = ["Иван Петров", "Иван Сидоров", "Вера, администратор", "Мастерская на Речной"]


def read(text: str, unread: tuple[LimitKind, ...] = (), now: datetime = NOW) -> Worded:
    return read_words(text, now=now, zone=ZONE, channels=CHANNELS, authors=lambda: AUTHORS, unread=unread)


def test_all_kinds_in_one_question() -> None:
    worded = read("Что писала Вера про печь в канале @masterskaya за прошлую неделю, посты с картинкой?")
    assert worded.text == "Что про печь, посты?"
    assert filters_of(worded.limits, ZONE) == Filters(
        channels=("101",),
        since=datetime(2026, 11, 16, tzinfo=ZONE),
        until=datetime(2026, 11, 23, tzinfo=ZONE),
        author="Вера, администратор",
        media="photo",
    )
    assert (
        limits_words(worded.limits, "ru")
        == "автор — Вера, администратор · @masterskaya · 16–22 ноября 2026 · с картинкой"
    )
    assert limits_words(worded.limits[2:3], "en") == "16–22 November 2026"


def test_the_day_begins_in_the_communitys_zone() -> None:
    late = datetime(2026, 11, 27, 21, 30, tzinfo=UTC)  # already the 28th in Moscow
    (limit,) = read("новости за сегодня", now=late).limits
    assert (limit.first, limit.after) == (date(2026, 11, 28), date(2026, 11, 29))
    assert filters_of((limit,), ZONE).since == datetime(2026, 11, 27, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "пароль от вайфая", "как закрыть канал в Go", "что будет 12 апреля?", "может быть в 1986 году",
        "горутины в канале @other", "кто сдаёт гараж в канале Лесной", "посты от Кузьмы про печь", "как сжать видео",
        "до какого числа платить", "", "какую прошивку поставили на Зину", "как поставить Веру в график",
    ],
)  # fmt: skip
def test_nothing_is_read_where_nothing_is_meant(text: str) -> None:
    assert read(text) == Worded(text)


@pytest.mark.parametrize(
    ("text", "is_sure"),
    [
        ("когда день открытых дверей в марте", False),
        ("что писали о дне открытых дверей в марте", True),
        ("сколько собрали за прошлый год", False),
        ("что обсуждали за прошлую неделю", True),
        ("ключ от Ивана", False),
        ("каналы в канале Go", False),
        ("как открыть файл с картинкой", False),
    ],
)
def test_words_that_may_belong_to_the_question_are_unsure(text: str, is_sure: bool) -> None:
    worded = read(text)
    assert [limit.is_sure for limit in worded.limits] == [is_sure]


def test_names_are_those_of_the_askers_channels_and_authors() -> None:
    closed = "кто сдаёт гараж в группе Соседи по Заречной"
    assert read(closed).limits[0].value == "105"
    others = read_words(closed, now=NOW, zone=ZONE, channels=CHANNELS[:2], authors=lambda: AUTHORS)
    assert others.limits == ()
    assert read("посты Ивана Сидорова").limits[0].value == "Иван Сидоров"
    assert read("посты от Ивана").limits[0].value == "Иван"  # either of the two


def test_several_channels_add_up_and_what_was_set_wins() -> None:
    worded = read("лазер в каналах @masterskaya и @goproglib за вчера")
    assert filters_of(worded.limits, ZONE).channels == ("101", "102")
    given = Filters(channels=("@x",), since=datetime(2025, 1, 1, tzinfo=UTC))
    assert filters_of(worded.limits, ZONE, given) == given


def test_unread_kinds_stay_in_the_words() -> None:
    text = "посты от Веры за прошлую неделю"
    assert [limit.kind for limit in read(text, ("period",)).limits] == ["author"]
    assert read(text, ("period", "author", "media", "channel")) == Worded(text)


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("что писали за прошлую неделю?", True),
        ("что нового на этой неделе", True),
        ("покажи все посты за октябрь", True),
        ("what was posted last week?", True),
        ("что писали про печь за прошлую неделю", False),
        ("новости клуба за вчера", False),
    ],
)
def test_a_question_with_nothing_particular_left_is_open(text: str, is_open: bool) -> None:
    assert read(text).is_open is is_open


@pytest.mark.parametrize(
    ("first", "after", "ru", "en"),
    [
        (date(2026, 11, 17), date(2026, 11, 24), "17–23 ноября 2026", "17–23 November 2026"),
        (date(2026, 3, 1), date(2026, 4, 1), "март 2026", "March 2026"),
        (date(2026, 3, 1), date(2026, 6, 1), "март–май 2026", "March–May 2026"),
        (date(2025, 1, 1), date(2026, 1, 1), "2025 год", "2025"),
        (date(2026, 11, 26), date(2026, 11, 27), "26 ноября 2026", "26 November 2026"),
        (date(2025, 12, 29), date(2026, 1, 5), "29 декабря 2025 – 4 января 2026", "29 December 2025 – 4 January 2026"),
        (date(2026, 10, 29), date(2026, 11, 28), "29 октября – 27 ноября 2026", "29 October – 27 November 2026"),
        (date(2026, 3, 1), None, "с 1 марта 2026", "from 1 March 2026"),
        (None, date(2026, 3, 1), "до 28 февраля 2026", "until 28 February 2026"),
    ],
)
def test_periods_are_said(first: date | None, after: date | None, ru: str, en: str) -> None:
    assert (period_words(first, after, "ru"), period_words(first, after, "en")) == (ru, en)


def test_the_suites_lists_hold() -> None:
    rows = tomllib.loads((ROOT / "benchmarks/suites/wording.toml").read_text("utf-8"))
    result = suite.run()
    assert len(rows["query"]) == result["dev"]["questions"] > 70
    assert result["dev"]["wrong"] == []
    assert result["held_out"]["precision"] >= 0.95


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from("от с в за канале @masterskaya Ивана видео вчера марта ,".split())).map(" ".join)
)
def test_any_text_is_read_without_losing_words_that_were_not(text: str) -> None:
    worded = read(text)
    if not worded.limits:
        assert worded.text == text
    assert len(worded.text) <= len(text)
