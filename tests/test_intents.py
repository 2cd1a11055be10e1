"""Commands in plain words: what is a command, what stays a question, and when the bot asks."""

from __future__ import annotations

import tomllib
from pathlib import Path

import orjson
import pytest

from appliance.intents import CAREFUL, QUESTION, Reading, careful, days_of, hours_of, judged, read, topic_of

SUITES = Path(__file__).parents[1] / "benchmarks" / "suites"
SHARED = Path(__file__).parents[2] / "shared" / "data"
SAME = {"alerts": "unsubscribe", "missed": "digest", "plan_cancel": "plan"}


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("подпишись на новости про сварку", "subscribe"),
        ("скажи, когда напишут про вакансии", "subscribe"),
        ("что нового за неделю?", "digest"),
        ("Что я пропустил?", "missed"),
        ("what did I miss", "missed"),
        ("удали мои данные", "forget"),
        ("мой тариф", "plan"),
        ("сколько осталось вопросов", "plan"),
        ("помощь", "help"),
        ("новый разговор", "new"),
        ("Привет!", "hello"),
        ("Привет, как дела?", "hello"),
        ("спасибо", "thanks"),
        ("Понял, спасибо!", "thanks"),
        ("пасиб", "thanks"),
        ("ок", "noted"),
        ("Понятно.", "noted"),
        ("пока", "noted"),
        ("👍🏻", "noted"),
        (")))", "noted"),
        ("👎", QUESTION),
        ("пока нет воды?", QUESTION),
        ("Привет, когда ремонтное кафе?", QUESTION),
        ("не пиши мне ночью", "quiet"),
        ("тихие часы", "quiet"),
        ("не пиши больше про керамику", "unsubscribe"),
        ("отмени подписку", "ask"),
        ("скажи, когда будет ремонтное кафе", "ask"),
        ("подскажи, когда откроют сад", "ask"),
        ("скажи, когда будет пост про сварку", "subscribe"),
        ("где взять ключи от подвала?", QUESTION),
        ("как удалить данные с флешки", QUESTION),
        ("", QUESTION),
        ("удали мои данные " * 20, QUESTION),
    ],
)
def test_plain_words(text: str, intent: str) -> None:
    assert read(text).intent == intent


def test_the_project_s_own_list() -> None:
    data = tomllib.loads((SUITES / "intents.toml").read_text("utf-8"))
    right = sum(SAME.get(got := read(item["text"]).intent, got) == item["intent"] for item in data["command"])
    kept = [read(item["text"]) for item in data["question"]]
    right += sum(one.intent == QUESTION for one in kept)
    assert right / (len(data["command"]) + len(data["question"])) >= 0.95
    assert not [one for one in kept if one.intent in CAREFUL]
    assert all(read(item["text"]).intent == "ask" for item in data["ambiguous"])


def test_the_shipped_coefficients_know_every_intent_of_the_phrases() -> None:
    phrases = tomllib.loads((SUITES / "phrases.toml").read_text("utf-8"))
    shipped = orjson.loads((Path(__file__).parents[1] / "appliance" / "intent_weights.json").read_bytes())
    assert shipped["intents"] == [*phrases["command"], QUESTION]


def test_real_questions_stay_questions() -> None:
    file = SHARED / "telegram-search" / "queries.jsonl"
    if not file.exists():
        pytest.skip("the shared data is not here")
    readings = [read(orjson.loads(line)["text"]) for line in file.read_bytes().splitlines()]
    assert {one.intent for one in readings} <= {QUESTION, "ask"}


def test_to_erase_one_must_say_so() -> None:
    sure = judged({"forget": 0.99, QUESTION: 0.01})
    assert careful("сотри всё обо мне", sure).intent == "forget"
    for text in ("хочу чаю", "удали пятно", "мои вопросы где"):
        assert careful(text, sure) == Reading("ask", ("forget", QUESTION), 0.99)


def test_doubt_is_asked_about() -> None:
    assert judged({"new": 0.5, "forget": 0.45, QUESTION: 0.05}).intent == "ask"
    assert judged({"digest": 0.55, QUESTION: 0.45}).intent == "ask"
    assert judged({QUESTION: 0.5, "digest": 0.3, "plan": 0.2}) == Reading("ask", (QUESTION, "digest"), 0.5)
    assert judged({QUESTION: 0.9, "digest": 0.1}).intent == QUESTION
    assert judged({"help": 0.9, QUESTION: 0.1}, unknown=3).intent == QUESTION  # too much else is said


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("скажи, когда напишут про сварку", "сварку"),
        ("подпиши меня на новости сада", "сада"),
        ("следи за темой «обмен семенами» и пиши мне", "обмен семенами"),
        ("отслеживай упоминания столярки", "столярки"),
        ("let me know when someone posts about welding", "welding"),
        ("скажи, если будут писать про абонемент", "абонемент"),
        ("tell me when they write about the kiln", "kiln"),
        ("хватит", ""),
    ],
)
def test_topics(text: str, topic: str) -> None:
    assert topic_of(text) == topic


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("за неделю", 7),
        ("за последние три дня", 3),
        ("сегодня", 1),
        ("за 2 недели", 14),
        ("a month", 31),
        ("лес", None),
    ],
)
def test_periods(text: str, days: int | None) -> None:
    assert days_of(text) == days


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("не беспокой меня по ночам!", "23-8"),
        ("Не пиши с 22 до 9 утра", "с 22 до 9"),
        ("тихие часы 23-8", "23-8"),
        ("quiet hours from 22 to 7", "from 22 to 7"),
        ("тихие часы", ""),
    ],
)
def test_quiet_hours(text: str, hours: str) -> None:
    assert hours_of(text) == hours
