"""Russian as people type it: wrong keyboard layout, Latin letters, slips, part words, dates. Pure, no I/O.

A word is changed only when what was typed is unknown (to the dictionary of Russian and to the words of the posts) and
what it becomes is known. Of several readings the one that the posts use most wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from heapq import heappop, heappush

from appliance.text import is_dictionary_word, lemmas

Count = Callable[[str], int]  # lemma → chunks of the posts in reach that have it
Near = Callable[[str], list[tuple[str, float]]]  # lemma → words of the posts like it, best first

_LATIN_KEYS = "qwertyuiop[]asdfghjkl;'zxcvbnm,.`"
_CYRILLIC_KEYS = "йцукенгшщзхъфывапролджэячсмитьбюё"
_TO_CYRILLIC = str.maketrans(_LATIN_KEYS + '{}:"<>~', _CYRILLIC_KEYS + "хъжэбюё")
_TO_LATIN = str.maketrans(_CYRILLIC_KEYS, _LATIN_KEYS)
_HAS_CYRILLIC = re.compile("[а-яё]")
_HAS_LATIN = re.compile("[a-z]")
_ALL_CYRILLIC = re.compile("[а-яё]+")
_ALL_LATIN = re.compile("[a-z']+")
_ENDING = re.compile(r"[.,;:!?…)»\"]+$")
_ENGLISH = frozenset(
    "the and are was were what which who how why when where does did for with not can could should would will this"
    " that these those there from have has you they your about between".split()
)
_LETTERS = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
_MONTHS = "января февраля марта апреля мая июня июля августа сентября октября ноября декабря".split()
_DATE = re.compile(r"(?<![\d.,])(0?[1-9]|[12]\d|3[01])\.(0[1-9]|1[0-2])\.((?:19|20)\d\d)(?![\d.,]\d|\d)")
_DAY = re.compile(r"(?<![\d.,])(0[1-9]|[12]\d|3[01])\.(0[1-9])(?![.,]?\d)")
_UNIT = re.compile(r"(?<![\w.,])(\d+)(см|мм|кг|руб|вт|тыс|мл|мин|гр)(?!\w)", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<![\w.,])(?!(?:19|20)\d\d(?!\d))([1-9]\d{0,2})(\d{3})(?![\d.,]*\d|[^\W\d_])")
_BY = re.compile(r"(?<=\d)[хx](?=\d)", re.IGNORECASE)

# Readings of Latin letters, the commonest first; a later one costs more.
_READINGS: dict[str, tuple[str, ...]] = {
    "shch": ("щ",), "sch": ("щ",), "sh": ("ш", "щ"), "ch": ("ч",), "zh": ("ж",), "kh": ("х",), "ts": ("ц", "тс", "тьс"),
    "ya": ("я",), "ja": ("я",), "ia": ("ия", "я"), "yu": ("ю",), "ju": ("ю",), "iu": ("ию", "ю"), "yo": ("е",),
    "jo": ("е", "жо"), "ye": ("е", "ье"), "ii": ("ий",), "iy": ("ий",), "yy": ("ый",), "yi": ("ый",),
    "a": ("а",), "b": ("б",), "v": ("в",), "w": ("в", "ш"), "g": ("г",), "d": ("д",), "e": ("е", "э"), "z": ("з",),
    "i": ("и", "й"), "j": ("ж", "й"), "k": ("к",), "l": ("л", "ль"), "m": ("м", "мь"), "n": ("н", "нь"), "o": ("о",),
    "p": ("п",), "r": ("р", "рь"), "s": ("с", "сь"), "t": ("т", "ть"), "u": ("у",), "f": ("ф",), "h": ("х",),
    "c": ("ц", "к", "с"), "y": ("ы", "й", "и"), "x": ("кс", "х"), "q": ("к",), "'": ("ь", "ъ"),
}  # fmt: skip
_READINGS_TRIED = 300


def as_meant(query: str, *, count: Count, near: Near) -> str:
    """Spell a query as it was meant.

    Parameters
    ----------
    query : str
        Cleaned text.
    count : callable
        Number of chunks in the asker's reach that have a lemma.
    near : callable
        Words in the asker's reach that look like a lemma.

    Returns
    -------
    str
        The query, changed only where what was typed is unknown and what it becomes is known.
    """
    query = _numbers(query, count)
    tokens = query.split()
    lowered = [token.lower() for token in tokens]
    if any(_HAS_LATIN.search(token) for token in lowered):
        changed = _other_layout(lowered, count) or _from_latin(lowered, count)
    else:
        changed = [None] * len(tokens)
    for place, token in enumerate(lowered):
        if changed[place] is None and (bare := _ALL_CYRILLIC.fullmatch(_ENDING.sub("", token))):
            if place and tokens[place].istitle():
                continue  # a name
            changed[place] = _mended(token, bare.group(), count, near)
    if not any(changed):
        return query
    return " ".join(new or token for token, new in zip(tokens, changed, strict=True))


def _known(word: str, count: Count) -> bool:
    """Whether the posts or the dictionary of Russian have a word."""
    if _ALL_CYRILLIC.fullmatch(word) and is_dictionary_word(word):
        return True
    return bool(word) and all(count(lemma) > 0 for lemma in lemmas(word)) and bool(lemmas(word))


def _other_layout(tokens: list[str], count: Count) -> list[str | None] | None:
    """Read Latin tokens as typed with the keyboard in the wrong layout; None when they were not."""
    readings: list[str | None] = [None] * len(tokens)
    strong = 0
    for place, token in enumerate(tokens):
        if _HAS_CYRILLIC.search(token) or not _HAS_LATIN.search(token):
            continue
        ending = _ENDING.search(token)
        bare = token[: ending.start()] if ending else token
        choices = [(token, "")] + ([(bare, token[len(bare) :])] if ending else [])
        for typed, rest in choices:
            word = typed.translate(_TO_CYRILLIC)
            if _ALL_CYRILLIC.fullmatch(word) and is_dictionary_word(word):
                readings[place] = word + rest
                if len(word) >= 3 and not _known(typed, count):
                    strong += 1
                break
            if len(word) >= 4 and _ALL_CYRILLIC.fullmatch(word) and _known(word, count):
                readings[place] = word + rest
                strong += 1
                break
        else:
            if len(bare) >= 3 and _ALL_LATIN.fullmatch(bare) and bare in _ENGLISH:
                return None
    unread = [place for place, token in enumerate(tokens) if readings[place] is None and _HAS_LATIN.search(token)]
    if not strong or strong < len(unread) or any(_known(_ENDING.sub("", tokens[place]), count) for place in unread):
        return None
    for place in unread:  # nobody changes the layout in the middle of a question
        readings[place] = tokens[place].translate(_TO_CYRILLIC)
    return readings


def _from_latin(tokens: list[str], count: Count) -> list[str | None]:
    """Read Latin tokens as Russian in Latin letters, where most of them are that."""
    nothing: list[str | None] = [None] * len(tokens)
    bare = [_ENDING.sub("", token) for token in tokens]
    latin = [place for place, token in enumerate(bare) if _ALL_LATIN.fullmatch(token)]
    if any(bare[place] in _ENGLISH for place in latin):
        return nothing
    is_mixed = any(_HAS_CYRILLIC.search(token) for token in tokens)
    readings = nothing[:]
    foreign = read = in_posts = 0
    for place in latin:
        word = bare[place]
        if len(word) >= 4 and count(word) > 0:
            foreign += 1
            continue
        reading = _reading(word, count, must_count=is_mixed)
        if reading is None:
            foreign += len(word) >= 3
            continue
        readings[place] = reading + tokens[place][len(word) :]
        read += len(word) >= 3
        in_posts += len(word) >= 4 and any(count(lemma) for lemma in lemmas(reading))
    return readings if in_posts and read > foreign else nothing


def _reading(word: str, count: Count, *, must_count: bool) -> str | None:
    """Find the cheapest Russian reading of a word in Latin letters that the posts, or else the dictionary, know."""
    fallback = None
    for reading in _readings(word):
        in_dictionary = is_dictionary_word(reading)
        if in_dictionary and fallback is None:
            fallback = reading
        if count(reading) > 0 or (in_dictionary and any(count(lemma) for lemma in lemmas(reading))):
            return reading
    return None if must_count else fallback


@lru_cache(maxsize=4096)
def _readings(word: str) -> tuple[str, ...]:
    """Russian readings of a word in Latin letters, the likeliest first."""
    heap: list[tuple[int, int, str]] = [(0, 0, "")]  # cost, letters left unread counted from the end, reading
    found: dict[str, None] = {}
    for _ in range(_READINGS_TRIED * 8):
        if not heap or len(found) >= _READINGS_TRIED:
            break
        cost, left, reading = heappop(heap)
        at = -left
        if at == len(word):
            found[reading] = None
            continue
        for size in (4, 3, 2, 1):
            for price, letters in enumerate(_READINGS.get(word[at : at + size] if at + size <= len(word) else "", ())):
                longer = any(word[at : at + more] in _READINGS for more in range(size + 1, 5) if at + more <= len(word))
                heappush(heap, (cost + price + longer, -(at + size), reading + letters))
    return tuple(found)


def _mended(token: str, word: str, count: Count, near: Near) -> str | None:
    """Mend an unknown Cyrillic word: the other layout, the rest of a part word, a slip."""
    if len(word) < 4 or is_dictionary_word(word) or any(count(lemma) for lemma in lemmas(word)):
        return None
    rest = token[len(word) :]
    english = word.translate(_TO_LATIN)
    if _ALL_LATIN.fullmatch(english) and count(english) > 0:
        return english + rest
    likely = near(word)
    whole = [other for other, _ in likely if other.startswith(word)]
    if whole:
        return max(whole, key=count) + rest if len(word) >= 5 else None
    best, most = "", 0.0
    for slip in _slips(word):
        if len(word) < 6 and len(slip) <= len(word) and sorted(slip) != sorted(word):
            continue  # a short word with one letter mistaken is too often another word
        if is_dictionary_word(slip) or count(slip):
            used = max((count(lemma) for lemma in lemmas(slip)), default=0)
            weight = used * (4.0 if sorted(slip) == sorted(word) or len(slip) > len(word) else 1.0)
            if weight > most:
                best, most = slip, weight
    if not best and len(word) >= 9:
        best = next((other for other, _ in likely if _ALL_CYRILLIC.fullmatch(other) and _edits(word, other) <= 2), "")
    return best + rest if best else None


def _slips(word: str) -> Iterator[str]:
    """Words one slip away: a letter swapped with the next, lost, added or mistaken (the first one stays)."""
    for at in range(1, len(word) + 1):
        head, tail = word[:at], word[at:]
        if tail:
            yield head[:-1] + tail[0] + head[-1] + tail[1:]
            yield head + tail[1:]
        for letter in _LETTERS:
            yield head + letter + tail
            if tail and letter != tail[0]:
                yield head + letter + tail[1:]


def _edits(a: str, b: str) -> int:
    """Count edits between two words, a swap of neighbours as one (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        earlier, before, row = before, row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                row[j] = min(row[j], earlier[j - 2] + 1)
    return row[-1]


def _numbers(query: str, count: Count) -> str:
    """Write dates in words, sizes apart from their units, and thousands apart («4 800»), as posts do."""
    if not any(map(str.isdigit, query)):
        return query

    def in_words(match: re.Match[str]) -> str:
        if count(match.group()):
            return match.group()
        year = f" {match.group(3)}" if match.re.groups == 3 else ""
        return f"{int(match.group(1))} {_MONTHS[int(match.group(2)) - 1]}{year}"

    query = _DAY.sub(in_words, _DATE.sub(in_words, query))
    query = _UNIT.sub(lambda match: match.group() if count(match.group().lower()) else f"{match[1]} {match[2]}", query)
    query = _THOUSANDS.sub(lambda match: match.group() if count(match.group()) else f"{match[1]} {match[2]}", query)
    return _BY.sub(" × ", query)
