"""Every text exists in both languages, fits its values, and is known wherever it is asked for."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import errors, texts
from appliance.texts import COUNTED, TEXTS, count, date, language_of_code, say

ROOM = Path(texts.__file__).parent
CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)


def names(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_have_it_with_the_same_values(key: str) -> None:
    russian, english = TEXTS[key]
    assert CYRILLIC.search(russian)
    assert not CYRILLIC.search(english)
    assert names(russian) == names(english)
    filled = dict.fromkeys(names(russian), "{x}")
    for language in ("ru", "en"):
        said = say(key, language, **filled)
        assert said.strip() == said
        assert len(said) <= 1000


def test_every_error_has_words_that_need_no_values() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(kinds) > 5
    for kind in kinds:
        assert kind.code in TEXTS
        assert not names(TEXTS[kind.code][0])


def test_keys_asked_for_in_the_sources_are_known() -> None:
    asked = set()
    for path in ROOM.rglob("*.py"):
        source = path.read_text("utf-8")
        asked |= set(re.findall(r"\bsay\(\s*\"(\w+)\"", source))
        asked |= set(re.findall(r"\bnote = \"(\w+)\"", source))
    assert {"start", "help", "not_found"} <= asked
    assert asked <= set(TEXTS)


def test_one_thing_has_one_name_and_a_button_suits_everyone() -> None:
    russian = {key: both[0].lower() for key, both in TEXTS.items()}
    assert not [key for key, said in russian.items() if "уведомлен" in said]  # they are «оповещения»
    assert not re.search(r"\bсоглас(?:ен|на)\b", russian["agree"])  # whoever presses it may be a woman or a man


def test_values_are_not_templates() -> None:
    assert "{channels} {0}" in say("help_channels", "ru", channels="{channels} {0}")


def test_an_unknown_code_is_an_ordinary_error() -> None:
    assert say("no such key", "en") == TEXTS["error"][1]


@pytest.mark.parametrize(
    ("number", "russian", "english"),
    [
        (0, "0 постов", "0 posts"),
        (1, "1 пост", "1 post"),
        (3, "3 поста", "3 posts"),
        (11, "11 постов", "11 posts"),
        (14, "14 постов", "14 posts"),
        (21, "21 пост", "21 posts"),
        (3430, "3\u00a0430 постов", "3\u00a0430 posts"),
        (112, "112 постов", "112 posts"),
    ],
)
def test_counted_nouns(number: int, russian: str, english: str) -> None:
    assert count("posts", number, "ru") == russian
    assert count("posts", number, "en") == english


def test_counted_nouns_are_complete() -> None:
    assert all(len(russian) == 3 and len(english) == 2 for russian, english in COUNTED.values())


def test_dates_and_languages() -> None:
    moment = datetime(2026, 3, 2, tzinfo=UTC)
    assert (date(moment, "ru"), date(moment, "en")) == ("02.03.2026", "2 Mar 2026")
    assert [language_of_code(code) for code in (None, "", "ru", "ru-RU", "uk", "en-US", "de")] == [
        "ru", "ru", "ru", "ru", "ru", "en", "en",
    ]  # fmt: skip
