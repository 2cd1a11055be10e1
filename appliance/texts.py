"""All words a member reads, in Russian and English, read once from `words/*.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from appliance.schema import Language, Quota

WORDS = Path(__file__).with_name("words")
TEXTS: dict[str, tuple[str, str]] = {  # key: (Russian, English), from the files of `words`, one a subject
    key: (words["ru"], words["en"])
    for file in sorted(WORDS.glob("*.toml"))
    for key, words in tomllib.loads(file.read_text("utf-8")).items()
}

_changed: dict[tuple[str, str], str] = {}  # (key, language): words put in force by those who keep order

# key: (one, few, many) in Russian; (one, other) in English
COUNTED: dict[str, tuple[tuple[str, str, str], tuple[str, str]]] = {
    "posts": (("пост", "поста", "постов"), ("post", "posts")),
    "seconds": (("секунду", "секунды", "секунд"), ("second", "seconds")),
    "questions": (("вопрос", "вопроса", "вопросов"), ("question", "questions")),
    "times": (("раз", "раза", "раз"), ("time", "times")),
    "days": (("день", "дня", "дней"), ("day", "days")),
    "channels": (("канал", "канала", "каналов"), ("channel", "channels")),
}
_MONTHS_EN = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def say(key: str, language: Language, **values: object) -> str:
    """Return a text in a language.

    Parameters
    ----------
    key : str
        Of `TEXTS`; an error's ``code`` that is not there reads as ``"error"``.
    language : {'ru', 'en'}
    **values
        Filled into the text's braces; never read as a template themselves.

    Returns
    -------
    str
    """
    russian, english = TEXTS.get(key, TEXTS["error"])
    words = _changed.get((key, language)) or (russian if language == "ru" else english)
    return words.format(**values)


def change(changed: Mapping[str, Mapping[str, str]]) -> None:
    """Put other words in force, instead of those changed before; see `appliance.phrasing`.

    Parameters
    ----------
    changed : mapping
        Words by key and language; empty for the words as shipped.
    """
    _changed.clear()
    _changed.update({(key, language): text for key, words in changed.items() for language, text in words.items()})


def count(key: str, number: int, language: Language) -> str:
    """Return a number with its noun in the right form: "3 поста", "1 post".

    Parameters
    ----------
    key : str
        Of `COUNTED`.
    number : int
        Not negative.
    language : {'ru', 'en'}

    Returns
    -------
    str
        The number with spaces between thousands.
    """
    russian, english = COUNTED[key]
    shown = f"{number:,}".replace(",", "\u00a0")
    if language == "en":
        return f"{shown} {english[number != 1]}"
    if number % 10 == 1 and number % 100 != 11:
        return f"{shown} {russian[0]}"
    if number % 10 in {2, 3, 4} and number % 100 not in {12, 13, 14}:
        return f"{shown} {russian[1]}"
    return f"{shown} {russian[2]}"


def left_words(quota: Quota, language: Language) -> str:
    """Say what is left to ask, as «Осталось 3 вопроса из 20 на сегодня».

    Parameters
    ----------
    quota : Quota
    language : {'ru', 'en'}

    Returns
    -------
    str
    """
    if quota.left == 0:
        return say(f"left_{quota.period}_none", language, of=quota.of)
    is_one = quota.left % 10 == 1 and quota.left % 100 != 11
    key = f"left_{quota.period}_one" if is_one else f"left_{quota.period}"
    return say(key, language, left=count("questions", quota.left, language), of=quota.of)


def date(moment: datetime, language: Language) -> str:
    """Return a date as people write it: "12.03.2026", "12 Mar 2026"."""
    if language == "ru":
        return f"{moment:%d.%m.%Y}"
    return f"{moment.day} {_MONTHS_EN[moment.month - 1]} {moment.year}"


def language_of_code(code: str | None) -> Language:
    """Choose the interface's language by an IETF tag, as Telegram's ``language_code``: Russian unless another is named.

    Parameters
    ----------
    code : str or None

    Returns
    -------
    {'ru', 'en'}
        Russian too for the neighbours who mostly read it (be, kk, ky, uk, uz, tg, tt, ba, hy, az).
    """
    tag = (code or "ru").lower().replace("_", "-").split("-")[0]
    return "ru" if tag in {"ru", "be", "kk", "ky", "uk", "uz", "tg", "tt", "ba", "hy", "az"} else "en"
