"""Periods named in a question: «за прошлую неделю», «с 1 по 15 марта», "last month", as dates. Pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

FIRST_YEAR = 2013  # Telegram began then: an earlier year is never when a post was written

_NUMBERS = {
    "один": 1, "одну": 1, "два": 2, "две": 2, "пару": 2, "три": 3, "несколько": 3, "четыре": 4, "пять": 5, "шесть": 6,
    "семь": 7, "восемь": 8, "девять": 9, "десять": 10, "one": 1, "a": 1, "an": 1, "two": 2, "couple of": 2,
    "few": 3, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "ten": 10, "пары": 2, "двух": 2, "трёх": 3,
    "трех": 3, "четырех": 4, "пяти": 5, "шести": 6, "семи": 7, "десяти": 10, "нескольких": 3,
}  # fmt: skip
_NUMBER = r"\d{1,3}|" + "|".join(sorted(_NUMBERS, key=len, reverse=True))
_MONTHS = ("янв", "фев", "мар", "апр", "ма", "июн", "июл", "авг", "сен", "окт", "ноя", "дек")
_MONTHS_EN = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?:январ[еья]|феврал[еья]|март[ае]?|апрел[еья]|ма[ейя]|июн[еья]|июл[еья]|август[ае]?|сентябр[еья]|октябр[еья]"
    r"|ноябр[еья]|декабр[еья]|january|february|march|april|may|june|july|august|september|october|november|december"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)(?!\w)\.?"
)
_SEASONS = {"зим": 12, "весн": 3, "лет": 6, "осен": 9, "winter": 12, "spring": 3, "summer": 6, "autumn": 9, "fall": 9}
_SEASON = r"(?:зим[ауеойы]{1,2}|весн[ауеойы]{1,2}|лет[оауе]м?|осен(?:ью|ь|и)|winter|spring|summer|autumn|fall)(?!\w)"
_YEAR_NUMBER = r"20[12]\d(?!\d|[.,]\d)"
_YEAR = (
    rf"(?:{_YEAR_NUMBER}(?:-?(?:м|го|й))?(?:\s*(?:года|году|годы|год|гг?\.?)(?!\w))?"
    r"|(?:позапрошлого|прошлого|этого|текущего|нынешнего)\s+года(?!\w)|(?:last|this)\s+year(?!\w))"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:-?(?:го|е|st|nd|rd|th))?(?!\w)"
_FULL = r"(?:20[12]\d-[01]\d-[0-3]\d|[0-3]?\d[./][01]?\d[./](?:20)?[12]\d)(?![.\w])"
_NUMERIC = rf"(?:{_FULL}|[0-3]?\d\.[01]\d(?![.\w]))"
_MOMENT = (
    rf"(?:{_NUMERIC}|{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR})?|{_MONTH}\s+{_DAY}(?:,?\s+{_YEAR})?"
    rf"|{_MONTH}(?:,?\s+{_YEAR})?)"
)
_UNITS = {
    "час": "hour", "hour": "hour", "сут": "day", "ден": "day", "дня": "day", "дне": "day", "дни": "day", "day": "day",
    "нед": "week", "wee": "week", "мес": "month", "mon": "month", "ква": "quarter", "qua": "quarter", "год": "year",
    "лет": "year", "yea": "year", "пол": "half",
}  # fmt: skip
_UNIT = (
    r"(?:час(?:а|ов)?|сут(?:ки|ок)|день|дня|дней|дни|недел[юяие]|недель|месяц(?:а|ев|е|ы)?|квартал(?:а|е|ов)?"
    r"|год(?:а|у)?|лет|полгода|полугодие|hours?|days?|weeks?|months?|quarters?|years?)(?!\w)"
)
_WEEKDAYS = ("понедельник", "вторник", "сред", "четверг", "пятниц", "суббот", "воскресень")
_WEEKDAYS_EN = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAY = (
    r"(?:понедельника|вторника|среды|четверга|пятницы|субботы|воскресенья"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday)(?!\w)"
)
_DAYS = {"day": 1, "week": 7, "month": 30, "quarter": 91, "half": 182, "year": 365}

Span = tuple[date | None, date | None]  # first day, and the day after the last


@dataclass(frozen=True, slots=True)
class Period:
    """A period named in a text.

    Attributes
    ----------
    start, end : int
        ``text[start:end]`` names it, its preposition included.
    first, after : datetime.date or None
        First day, and the day after the last one; None is open.
    strength : int
        2 tells by itself when posts were written («за последнюю неделю»); 1 may («в марте»); 0 only beside a word of
        posting («12 апреля»): else it is what the posts speak of.
    """

    start: int
    end: int
    first: date | None
    after: date | None
    strength: int


def find_periods(text: str, today: date) -> list[Period]:
    """Find the periods that a text names.

    Parameters
    ----------
    text : str
        In lower case, ё as е.
    today : datetime.date
        In the community's time zone.

    Returns
    -------
    list of Period
        In order, not overlapping; none that is not a date, begins after today or ends before Telegram began.
    """
    found: list[Period] = []
    for pattern, read, strength in _RULES:
        for match in pattern.finditer(text):
            start, end = match.span()
            if any(start < other.end and other.start < end for other in found):
                continue
            try:
                span = read(match, today)
            except ValueError:
                continue  # 31 February
            if span is not None and _is_possible(span, today):
                found.append(Period(start, end, *span, strength))
    return sorted(found, key=lambda one: one.start)


def _is_possible(span: Span, today: date) -> bool:
    first, after = span
    if first is not None and (first > today or (after is not None and after <= first)):
        return False
    return after is None or after.year >= FIRST_YEAR


# --- reading --------------------------------------------------------------------------------------------------------


def _number(word: str | None) -> int:
    return 1 if not word else int(word) if word.isdigit() else _NUMBERS[word]


def _month_of(word: str) -> int:
    for names in (_MONTHS_EN, _MONTHS):
        for number, stem in enumerate(names, start=1):
            if word.startswith(stem):
                return number
    raise ValueError(word)


def _year_of(words: str | None, today: date) -> int | None:
    """Year named by digits or by «прошлого года»."""
    if not words:
        return None
    if digits := re.search(r"20[12]\d", words):
        return int(digits.group())
    back = 2 if words.startswith("позапрошл") else 1 if words.startswith(("прошл", "last")) else 0
    return today.year - back


def _months(first: date, count: int) -> date:
    """First day of the month `count` months after that of a day."""
    months = first.year * 12 + first.month - 1 + count
    return date(months // 12, months % 12 + 1, 1)


def _moment(words: str, today: date, *, year: int | None = None) -> tuple[date, date]:
    """First day of a named day or month, and the day after it; without a year the latest one that has begun."""
    if iso := re.fullmatch(r"(20[12]\d)-(\d\d)-(\d\d)", words):
        day = date(int(iso[1]), int(iso[2]), int(iso[3]))
        return day, day + timedelta(days=1)
    if numeric := re.fullmatch(r"(\d{1,2})[./](\d{1,2})(?:[./](\d{2,4}))?", words):
        named = int(numeric[3]) if numeric[3] else year
        named = named + 2000 if named is not None and named < 100 else named
        return _day(int(numeric[1]), int(numeric[2]), named, today)
    month = re.search(_MONTH, words)
    if month is None:
        raise ValueError(words)
    rest = words[: month.start()] + " " + words[month.end() :]
    years = re.search(_YEAR, rest)
    named = _year_of(years.group() if years else None, today) or year
    days = re.search(r"\d{1,2}", rest[: years.start()] + rest[years.end() :] if years else rest)
    number = _month_of(month.group())
    if days:
        return _day(int(days.group()), number, named, today)
    first = date(named or (today.year if number <= today.month else today.year - 1), number, 1)
    return first, _months(first, 1)


def _day(day: int, month: int, year: int | None, today: date) -> tuple[date, date]:
    found = date(year or today.year, month, day)
    if year is None and found > today:
        found = date(today.year - 1, month, day)
    return found, found + timedelta(days=1)


def _range(match: re.Match[str], today: date) -> Span:
    """«с 1 по 15 марта», «с марта по май 2025», «1–15 марта»: the first takes the month and year of the second."""
    last = match["b"]
    year = re.search(_YEAR, last)
    named = _year_of(year.group() if year else None, today)
    first_day, after = _moment(last, today)
    if re.fullmatch(_DAY, match["a"]):
        begin = date(first_day.year, first_day.month, int(re.sub(r"\D", "", match["a"])))
        return begin, after
    begin = _moment(match["a"], today, year=named)[0]
    if begin > first_day and not re.search(_YEAR, match["a"]):
        begin = begin.replace(year=first_day.year - (begin.month > first_day.month))
    return begin, after


def _years(match: re.Match[str], today: date) -> Span:
    return date(int(match["a"]), 1, 1), date(int(match["b"]) + 1, 1, 1)


def _single(match: re.Match[str], today: date) -> Span:
    return _moment(match["a"], today)


def _since(match: re.Match[str], today: date) -> Span:
    first, after = _moment(match["a"], today)
    return (after if match.group().startswith(("после", "after")) else first), None


def _until(match: re.Match[str], today: date) -> Span:
    return None, _moment(match["a"], today)[0]


def _whole_year(match: re.Match[str], today: date) -> Span:
    year = _year_of(match["a"], today) or today.year
    return date(year, 1, 1), date(year + 1, 1, 1)


def _since_year(match: re.Match[str], today: date) -> Span:
    return date(int(match["a"]) + match.group().startswith(("после", "after")), 1, 1), None


def _quarter(match: re.Match[str], today: date) -> Span:
    word = match["n"]
    stems = ("перв", "втор", "трет", "четв")
    number = int(word[0]) if word[0].isdigit() else next(n for n, stem in enumerate(stems, 1) if word.startswith(stem))
    year = _year_of(match["a"], today) or (today.year if number * 3 - 2 <= today.month else today.year - 1)
    first = date(year, number * 3 - 2, 1)
    return first, _months(first, 3)


def _half(match: re.Match[str], today: date) -> Span:
    number = 1 + (match["n"] == "втор")
    year = _year_of(match["a"], today) or (today.year if number * 6 - 5 <= today.month else today.year - 1)
    first = date(year, number * 6 - 5, 1)
    return first, _months(first, 6)


def _season(match: re.Match[str], today: date) -> Span:
    """«летом 2025», «прошлой осенью»; the winter of a year is the one that ends in it."""
    month = next(month for stem, month in _SEASONS.items() if match["s"].startswith(stem))
    how, named = match.groupdict().get("how") or "", match.groupdict().get("a")
    year = _year_of(named, today)
    if year is not None:
        first = date(year - (month == 12), month, 1)
    else:
        first = date(today.year, month, 1)
        if first > today:
            first = date(today.year - 1, month, 1)
        if how.startswith(("прошл", "прошедш", "last", "past", "минувш")) and _months(first, 3) > today:
            first = date(first.year - 1, month, 1)
    return first, _months(first, 3)


def _around(unit: str, today: date, back: int) -> Span:
    """Calendar unit that many units ago."""
    if unit == "week":
        first = today - timedelta(days=today.weekday() + 7 * back)
        return first, first + timedelta(days=7)
    if unit == "day":
        return today - timedelta(days=back), today - timedelta(days=back - 1)
    if unit == "year":
        return date(today.year - back, 1, 1), date(today.year - back + 1, 1, 1)
    size = 3 if unit == "quarter" else 1
    first = _months(today.replace(month=today.month - (today.month - 1) % size), -size * back)
    return first, _months(first, size)


def _calendar(match: re.Match[str], today: date) -> Span | None:
    unit = _UNITS[match["unit"][:3]]
    if unit in {"hour", "half"}:
        return None
    how = match["how"]
    back = (
        2
        if how.startswith("позапрошл")
        else 1
        if how.startswith(("прошл", "прошедш", "last", "prev", "предыд", "минувш"))
        else 0
    )
    return _around(unit, today, back)


def _weekend(match: re.Match[str], today: date) -> Span:
    saturday = today - timedelta(days=(today.weekday() - 5) % 7)
    if match["how"].startswith(("прошл", "прошедш", "last", "past", "минувш")) and today.weekday() >= 5:
        saturday -= timedelta(days=7)
    return saturday, saturday + timedelta(days=2)


def _rolling(match: re.Match[str], today: date) -> Span:
    """«за последние 3 недели», «за месяц»: back from today, today included."""
    number, unit = _number(match["n"]), _UNITS[match["unit"][:3]]
    if not match["n"] and match["unit"] in {"дни", "days"}:
        number = 7
    elif not match["n"] and match["unit"] in {"недели", "weeks", "месяцы", "months"}:
        number = 3
    if unit == "hour":
        return today - timedelta(days=-(-number // 24)), today + timedelta(days=1)
    days = max(number * _DAYS[unit] - 1, 1)
    return today - timedelta(days=days), today + timedelta(days=1)


def _lately(match: re.Match[str], today: date) -> Span:
    return today - timedelta(days=30), today + timedelta(days=1)


def _ago(match: re.Match[str], today: date) -> Span | None:
    """«неделю назад» and about then."""
    unit = _UNITS[match["unit"][:3]]
    if unit == "hour":
        return today, today + timedelta(days=1)
    back = _number(match["n"]) * _DAYS[unit]
    about = {"day": 0, "week": 1}.get(unit, _DAYS[unit] // 4)
    middle = today - timedelta(days=back)
    return middle - timedelta(days=about), middle + timedelta(days=about + 1)


def _named_day(match: re.Match[str], today: date) -> Span:
    word = match["w"]
    back = 2 if word.startswith("позавчер") else 1 if word.startswith(("вчера", "yester")) else 0
    return _around("day", today, back)


def _since_start(match: re.Match[str], today: date) -> Span:
    return _around(_UNITS[match["unit"][:3]], today, 0)[0], None


def _since_calendar(match: re.Match[str], today: date) -> Span | None:
    span = _calendar(match, today)
    return None if span is None else (span[0], None)


def _since_weekday(match: re.Match[str], today: date) -> Span:
    word = match["w"]
    names = _WEEKDAYS_EN if word.isascii() else _WEEKDAYS
    day = next(n for n, name in enumerate(names) if word.startswith(name[:5] if word.isascii() else name[:4]))
    return today - timedelta(days=(today.weekday() - day) % 7), None


Reader = Callable[[re.Match[str], date], Span | None]
_THIS = (
    r"(?:позапрошл|прошл|прошедш|эт|текущ|минувш|предыдущ|нынешн)(?:ую|ого|ой|ей|ем|ом|им|ый|ие|ые|их|ых|ий|от|у|о|и)"
)
_LAST = r"последн(?:юю|ий|ие|их|ее|ей|ем)"
_BEFORE = r"(?<![\w.])"
_FROM = r"(?:(?:в|за)\s+период\s+)?(?:с|со|from|between)\s+"


def _rules() -> Iterator[tuple[int, str, Reader]]:
    """Strengths, patterns and their readers, the longer readings first."""
    year, years = rf"(?P<a>{_YEAR_NUMBER})", r"(?:\s*(?:год\w{0,2}|гг?\.?)(?!\w))?"
    yield 1, rf"{_FROM}(?P<a>{_MOMENT}|{_DAY})\s+(?:по|до|to|till|until|through|and)\s+(?P<b>{_MOMENT})", _range
    yield 1, rf"(?:за|в)\s+(?P<a>{_MOMENT}|{_DAY})\s?[-–—]\s?(?P<b>{_MOMENT})", _range
    yield 0, rf"(?P<a>{_MOMENT}|{_DAY})\s?[-–—]\s?(?P<b>{_MOMENT})", _range
    yield 1, rf"{_FROM}{year}{years}\s+(?:по|до|to|and)\s+(?P<b>{_YEAR_NUMBER}){years}", _years
    yield 1, rf"(?:за|в)\s+{year}\s?[-–—]\s?(?P<b>{_YEAR_NUMBER}){years}", _years
    yield 0, rf"(?:с|со|начиная с|since|from|после|after)\s+(?P<a>{_MOMENT})", _since
    yield 0, rf"(?:до|before|until)\s+(?P<a>{_MOMENT})", _until
    yield 0, rf"(?:с|since|после|after)\s+{year}(?:\s+года)?(?!\w)", _since_year
    yield 0, rf"(?:from|of)\s+{year}(?!\w)", _whole_year
    numbers = r"[1-4](?:-?[йм])?|перв\w+|втор\w+|трет\w+|четверт\w+"
    yield 1, rf"(?:за|в|во)\s+(?P<n>{numbers})\s+квартале?(?:\s+(?P<a>{_YEAR}))?", _quarter
    yield 1, rf"(?:между|between)\s+(?P<a>{_MOMENT}|{_DAY})\s+(?:и|and)\s+(?P<b>{_MOMENT})", _range
    yield 1, rf"(?:за|in|from|during|of)\s+(?P<a>{_MOMENT})", _single
    yield 1, rf"(?:в|во)\s+(?P<a>{_MONTH}(?:,?\s+{_YEAR})?)", _single
    yield 0, rf"(?:в|во|от|on|of)\s+(?P<a>{_FULL}|{_DAY}\s+{_MONTH}|{_MONTH}\s+{_DAY})", _single
    yield 0, rf"(?P<a>{_FULL}|{_DAY}\s+{_MONTH}(?:,?\s+{_YEAR})?|{_MONTH}\s+{_YEAR})", _single
    seasons = r"(?:(?P<how>прошл\w+|эт\w+|минувш\w+|last|this)\s+)"
    yield 1, rf"(?:(?:за|in|во?)\s+)?{seasons}?(?P<s>{_SEASON})\s+(?P<a>{_YEAR})", _season
    yield 1, rf"(?:(?:за|во?)\s+)?{seasons}(?P<s>{_SEASON})", _season
    yield 1, rf"во?\s+(?P<a>прошл|эт|позапрошл)ом\s+году\s+(?P<s>{_SEASON})", _season
    yield 1, rf"(?:за|в)\s+(?P<n>перв|втор)\w+\s+(?:полугоди[еюи]|половин[уе])(?:\s+(?P<a>{_YEAR}))?", _half
    yield 1, rf"за\s+(?P<s>{_SEASON})", _season
    yield 1, rf"(?:за|на протяжении)\s+{year}(?:\s*(?:год|г\.?)(?!\w))?(?!\w)", _whole_year
    yield 1, rf"(?:в|во)\s+{year}(?:-?м)?\s*(?:году|г\.?)(?!\w)", _whole_year
    yield 1, rf"(?:in|during)\s+{year}(?!\w)", _whole_year
    yield 0, rf"{year}(?:-?го)?\s+года(?!\w)", _whole_year
    yield 2, r"(?:в|за|на)\s+(?P<how>прошл\w+|прошедш\w+|минувш\w+)\s+выходны[ех]", _weekend
    yield 1, r"(?:в|за|на)\s+(?P<how>эт\w+)\s+выходны[ех]", _weekend
    yield 2, r"(?:on\s+|over\s+)?(?:the\s+)?(?P<how>last|past)\s+weekend", _weekend
    yield 1, r"(?:on\s+|over\s+)?(?P<how>this)\s+weekend", _weekend
    yield 2, rf"(?:с|со)\s+(?P<how>{_THIS})\s+(?P<unit>{_UNIT})", _since_calendar
    yield 2, rf"since\s+(?P<how>last|this)\s+(?P<unit>{_UNIT})", _since_calendar
    yield 0, rf"на\s+(?P<how>эту|этот|текущую|текущий)\s+(?P<unit>{_UNIT})", _calendar  # of a schedule to come
    yield 2, rf"(?:за|на)\s+(?P<how>{_THIS})\s+(?P<unit>{_UNIT})", _calendar
    yield 1, rf"(?:в|во)\s+(?P<how>{_THIS})\s+(?P<unit>{_UNIT})", _calendar
    yield 1, r"(?:за|в)\s+последнее\s+время|на\s+днях|недавно|lately|recently", _lately
    yield 2, rf"(?:за|в\s+течение|на|в)\s+{_LAST}\s+(?:(?P<n>{_NUMBER})\s+)?(?P<unit>{_UNIT})", _rolling
    yield 2, rf"{_LAST}\s+(?P<n>{_NUMBER})\s+(?P<unit>{_UNIT})", _rolling
    yield 1, rf"(?:за|в\s+течение)\s+(?:(?P<n>{_NUMBER})\s+)?(?P<unit>{_UNIT})", _rolling
    over = r"(?:(?:in|over|within|during|for|from)\s+)?(?:the\s+)?"
    yield 2, rf"{over}(?:last|past)\s+(?P<n>{_NUMBER})\s+(?P<unit>{_UNIT})", _rolling
    yield 2, rf"{over}(?<=the )(?:last|past)\s+(?P<n>)(?P<unit>{_UNIT})", _rolling
    yield 2, rf"(?:(?:in|from|during)\s+)?(?P<how>last|this|previous)\s+(?P<unit>{_UNIT})(?:'s)?", _calendar
    yield 1, rf"(?:(?P<n>{_NUMBER})\s+)?(?P<unit>{_UNIT})\s+(?:тому\s+)?(?:назад|ago)", _ago
    day = r"(?:\s+(?:утром|днем|вечером|ночью|день))?"
    named = r"позавчера(?:шн\w+)?|вчера(?:шн\w+)?|сегодня(?:шн\w+)?|yesterday|today"
    yield 1, rf"(?:за\s+|со?\s+)?(?P<w>{named})(?:'s)?{day}", _named_day
    yield 2, rf"(?:с|со)\s+начала\s+(?:этого\s+|этой\s+)?(?P<unit>{_UNIT})", _since_start
    yield 2, rf"since\s+the\s+(?:start|beginning)\s+of\s+(?:the\s+|this\s+)?(?P<unit>{_UNIT})", _since_start
    yield 1, rf"(?:с|со|since)\s+(?P<w>{_WEEKDAY})", _since_weekday


_RULES: tuple[tuple[re.Pattern[str], Reader, int], ...] = tuple(
    (re.compile(f"{_BEFORE}(?:{pattern})(?!\\w)"), reader, strength) for strength, pattern, reader in _rules()
)
