"""Dialogue by rule: a follow-up is searched together with the turn it leans on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.text import is_name, lemmas, words

_LEANING = re.compile(r"^(а|и|но|ну|тогда|ещё|еще|так|and|but|so|then|what about|how about)\b", re.IGNORECASE)
_POINTING = frozenset(
    "он она оно они его её ее их ему ей им нём нем ней них ним нею это этот эта эти этого этой этому этим этих "
    "тот та те того той тому тем тех там туда оттуда тогда такой такая такое такие так же тоже "
    "it its he she they them their his her this that these those there then one ones".split()
)
_SMALL = frozenset(
    "а и но ну же ли бы не ни в во на с со к ко у о об от до по за из для при про что как где когда кто чем чего "
    "сколько какой какая какое какие почему зачем можно нужно надо есть был была было были будет стоит "
    "what's where's when's who's how's the a an is are was were do does did can could how what where when who why "
    "much many to of in on at for".split()
)
_LEADING = frozenset(
    "в во на с со к ко у о об от до по за из для при про без после через of in on at for to by with from about".split()
)  # a word after one of these says where or for whom: "сколько за час?"
_OF_SOMETHING = frozenset(
    "цена стоимость оплата скидка залог адрес телефон контакт почта ссылка сайт автор причина время срок дата начало "
    "конец график расписание размер вес цвет количество условие правило результат пример номер место вход запись час "
    "человек люди правда день неделя месяц год утро вечер "
    "понедельник вторник среда четверг пятница суббота воскресенье "
    "price cost fee discount deposit address phone contact email link site author reason time date deadline start end "
    "schedule size weight colour color number place example kids adults beginners tomorrow today".split()
)  # what things have: it is asked of what was spoken of
_PRONOUNS = frozenset(
    "он она оно они его её ее их ему ей им нём нем ней них ним нею это этого этому этим "
    "it its he she they them their his her this that".split()
)  # of what was named before, in an earlier clause of the message itself or in an earlier turn
_WHAT_IS = re.compile(r"\b(?:что|кто)\s+так(?:ое|ой|ая|ие)\b", re.IGNORECASE)  # points at nothing
_CLAUSE_END = re.compile(r"[,:;.!?—–]|\s-\s|\b(?:и|and)\b", re.IGNORECASE)
MAX_CARRIED_CHARS = 240


def leans_on_earlier(text: str) -> bool:
    """Tell whether a question needs the turn before it: "а сколько это стоит?", "и когда?".

    Parameters
    ----------
    text : str
        The question as typed.

    Returns
    -------
    bool
        True when it opens with a leaning word, points back with a pronoun, or names nothing that could be asked about
        by itself; "абонемент" and "сколько стоит абонемент" could, "сколько за час?" and "какая цена?" could not.
    """
    text = _WHAT_IS.sub(" ", text.strip())
    if _LEANING.match(text) or _points_back(text):
        return True
    tokens = words(text)
    named = [place for place, token in enumerate(tokens) if token not in _SMALL]
    if len(named) != 1:
        return not named
    (place,) = named
    is_led = place > 0 and tokens[place - 1] in _LEADING
    return is_led or not is_name(tokens[place]) or not _OF_SOMETHING.isdisjoint(lemmas(tokens[place]))


def standalone(text: str, earlier: Sequence[str]) -> str:
    """Make a query that can be searched alone.

    Parameters
    ----------
    text : str
        The question as typed.
    earlier : sequence of str
        Queries of the dialogue's turns, oldest first, as they were searched.

    Returns
    -------
    str
        The question itself, or the last query's end and the question.
    """
    if not earlier or not leans_on_earlier(text):
        return text
    carried = earlier[-1]
    if len(carried) > MAX_CARRIED_CHARS:
        carried = carried[-MAX_CARRIED_CHARS:].split(" ", 1)[-1]
    return f"{carried} {text}"


def _points_back(text: str) -> bool:
    """Tell whether a word points at something that the message itself has not named in an earlier clause."""
    is_named = False
    for clause in _CLAUSE_END.split(text):
        tokens = words(clause)
        if any(token in _POINTING and not (is_named and token in _PRONOUNS) for token in tokens):
            return True
        is_named = is_named or any(token not in _SMALL and is_name(token) for token in tokens)
    return False
