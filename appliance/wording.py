"""Limits in the words of a question: «за прошлую неделю», «в канале …», «от Ивана», «с картинкой». Pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta, tzinfo

from appliance.periods import find_periods
from appliance.schema import Channel, Filters, Language, Limit, LimitKind, Worded
from appliance.text import lemmas, words
from appliance.texts import say

POSTS = frozenset(
    "пост публикация сообщение новость анонс запись писать написать публиковать публиковаться опубликовать выложить "
    "выкладывать постить запостить обсуждать обсудить обсуждение говорить сказать рассказывать рассказать сообщать "
    "сообщить упоминать упомянуть найти искать поискать показать показывать вывести отписаться сказано дайджест лента "
    "post message news write wrote written publish published posted discuss discussed mention mentioned said say "
    "find show search announcement announced announce digest".split()
)
ABOUT_MONEY = frozenset(  # «отчёт за месяц», «сколько стоит за неделю»: of what is asked, not when it was written
    "отчет итог статистика выручка сбор плата оплата оплатить платить заплатить стоить цена тариф взнос долг показание "
    "сколько заработать потратить собрать смета бюджет аренда зарплата сумма план report total cost price pay paid fee"
    " budget income".split()
)
EMPTY = frozenset(  # with these words alone nothing particular is asked
    "что какой какая какое какие кто о об обо про на в во с со и а но же ли бы там тут у нас вас мы вы это то все весь "
    "быть есть был новый нового интересный интересного главный важный важного хороший лучший случиться случилось "
    "произойти происходить писать написать публиковать опубликовать обсуждать рассказать рассказать-ка рассказывать "
    "показать найти вывести пост публикация сообщение новость новинка событие дайджест сводка обзор лента запись "
    "говорить сообщать выйти выходить последний свежий мне пожалуйста канал чат за дать давать "
    "what which was were is are happen happened new news post posts message written wrote published posted discussed "
    "in on the a of there show me find all digest summary please about any going".split()
)
SHORTEST_NAME = 3  # letters
_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_ENDING = re.compile(r"(?:ого|его|ому|ему|ыми|ими|ами|ями|ой|ей|ым|им|ом|ем|ах|ях|ую|юю|ая|яя|[аяуюыиеоьй])$")
_PEOPLE_WROTE = (
    r"(?:писал[аи]?|написал[аи]?|пиш[еу]т|говорил[аи]?|говорят|сказал[аи]?|обсуждал[аи]?|обсуждают|обсуждалось"
    r"|публиковал[аи]?|опубликовал[аи]?|сообщал[аи]?|рассказывал[аи]?|рассказал[аи]?|постил[аи]?|выкладывал[аи]?"
    r"|упоминал[аи]?|wrote|write|written|posted|published|said|say|discussed|announced)"
)
_FIND = r"(?:(?:найди|покажи|ищи|поищи|выведи|дай)(?:те)?|найти|показать|find|show|search(?: for)?|give)"
_FOR_ME = r"(?:\s+(?:мне|нам|me|us))?(?:\s+(?:все|всё|all|the|any))*"
_ORDER = re.compile(
    rf"^\W*(?:пожалуйста\W+)?{_FIND}{_FOR_ME}"
    r"(?:\s+(?:посты|пост|публикации|сообщения|записи|новости|posts?|messages?|news))?"
    r"(?:\s+(?:про|о|об|обо|about|on|with))?\s+",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"^\W*(?:[аи]\s+)?(?:что|чего|кто|о ч[её]м|об ч[её]м|какие посты|что-нибудь|what|anything)"
    r"(?:\s+(?:там|тут|у нас|мы|вы|интересного|нового|was|were|did they|did you|has been|have they))*"
    rf"\s+{_PEOPLE_WROTE}\s+(?:(?:про|о|об|обо|about|on)\s+)?(?=\w)",
    re.IGNORECASE,
)
_MEDIA: dict[str, str] = {
    "photo": r"картинк(?:ой|ами|и|у)|фото(?:графи(?:ей|ями|и|ю))?|фотк(?:ой|ами|и|у)|изображени(?:ем|ями|я|е)"
    r"|скрин(?:шот)?(?:ом|ами|ы)?|pictures?|photos?|images?|screenshots?",
    "video": r"видео(?:запис(?:ью|ями|и|ь)|ролик(?:ом|ами|и)?)?|ролик(?:ом|ами|и)?|videos?|clips?",
    "file": r"файл(?:ом|ами|ы|ик\w*)?|документ(?:ом|ами|ы)|вложени(?:ем|ями|я)|files?|documents?|attachments?",
    "voice": r"голосов(?:ым|ыми|ые|ое)|войс(?:ом|ами|ы)?|voice(?: messages?)?",
    "audio": r"аудио(?:запис(?:ью|ями|и|ь))?|музык(?:ой|у)|audio|music",
    "poll": r"опрос(?:ом|ами|ы)|голосовани(?:ем|ями|я)|polls?",
}
_ANY_MEDIA = "|".join(_MEDIA.values())
_MEDIA_RULES = (
    rf"(?:с|со|with|где\s+есть|в\s+которых\s+есть)\s+(?:(?:прикрепленн\w+|приложенн\w+|an?|attached)\s+)?"
    rf"(?P<m>{_ANY_MEDIA})(?:\s+сообщени\w+)?",
    rf"^\W*{_FIND}{_FOR_ME}\s+(?P<m>{_ANY_MEDIA})",
)
_NOUN = (  # «поставили» and «записаться» are none
    r"(?:пост(?:а|у|ом|е|ы|ов|ам|ами|ах)?|публикаци\w+|сообщени\w+|запис(?:ь|и|ью|ей|ям|ями|ях)|новост\w+"
    r"|posts?|messages?)"
)
_POST_NOUN = re.compile(rf"(?<!\w){_NOUN}\s*$")
_HANDLE = r"(?:@|(?:https?://)?t\.me/)[a-z]\w{3,31}"
_HANDLES = re.compile(
    rf"(?<![\w@./])(?:(?:в|на|из|по|in|on|from)\s+)?(?:(?:канал|чат|групп)\w*\s+|(?:the\s+)?channels?\s+)?"
    rf"(?P<names>{_HANDLE}(?:(?:\s*,\s*|\s+и\s+|\s+and\s+){_HANDLE})*)(?!\w)"
)
_CHANNEL_WORD = re.compile(
    r"(?<!\w)(?:в|во|на|из|по|in|on|from)\s+(?:the\s+)?(?:телеграм\S*\s+)?"
    r"(?:канал(?:е|у|а|ах)|чат(?:е|у|а)|групп(?:е|ы)|channel)\s+"
)
_QUOTED_TITLE = re.compile(r"(?<!\w)(?:в|во|на|из|in|on|from)\s+(?=[«\"“„])")
_BY = re.compile(
    r"(?<!\w)(?:(?P<of>от)|(?P<by>автора?|авторства|пишет|писал[аи]?|написал[аи]?|рассказал[аи]?|by|from))\s+"
)
_OF_POSTS = re.compile(rf"(?<!\w){_NOUN}\s+")
_WROTE = re.compile(rf"\s+{_PEOPLE_WROTE}(?!\w)")

Spanned = tuple[int, int, Limit]


def read_words(
    text: str,
    *,
    now: datetime,
    zone: tzinfo,
    channels: Sequence[Channel] = (),
    authors: Callable[[], Collection[str]] = tuple,
    unread: Iterable[LimitKind] = (),
) -> Worded:
    """Read the limits that a question names in words.

    Parameters
    ----------
    text : str
        Cleaned question.
    now : datetime.datetime
        Aware.
    zone : datetime.tzinfo
        Of the community: where its days begin.
    channels : sequence of Channel
        That the asker may see; others are not names of channels.
    authors : callable
        Authors of the posts in the asker's reach, asked for only where one may be named; other names are not read.
    unread : iterable of {'period', 'channel', 'author', 'media'}, optional
        Kinds to leave in the text.

    Returns
    -------
    Worded
        The text without what was read (the text itself where nothing was), and the limits.
    """
    low = _folded(text)
    left = set(unread)
    spans: list[Spanned] = []
    today = now.astimezone(zone).date()
    said = {*lemmas(low), *words(low)}
    for kind, read in (
        ("channel", lambda: _channels(low, channels)),
        ("period", lambda: _periods(low, today, said)),
        ("media", lambda: _media(low)),
        ("author", lambda: _authors(low, authors, said)),
    ):
        if kind not in left:
            _take(spans, read)
    if not spans:
        return Worded(text)
    spans.sort(key=lambda one: one[0])
    rest, at = "", 0
    for start, end in dict.fromkeys(span[:2] for span in spans):
        rest += text[at:start] + " "
        at = end
    rest = _tidied(rest + text[at:])
    limits = tuple(limit for _, _, limit in spans)
    return Worded(rest, limits, is_open=not _asked(rest))


def _take(spans: list[Spanned], read: Callable[[], Iterator[Spanned]]) -> None:
    for start, end, limit in read():
        if all((start, end) == other[:2] or end <= other[0] or other[1] <= start for other in spans):
            spans.append((start, end, limit))  # of one place several: «в каналах @a и @b»


def filters_of(limits: Iterable[Limit], zone: tzinfo, given: Filters | None = None) -> Filters:
    """Turn limits into filters.

    Parameters
    ----------
    limits : iterable of Limit
        Of several periods or authors the last counts; channels add up.
    zone : datetime.tzinfo
    given : Filters, optional
        What the asker set themselves; it wins.

    Returns
    -------
    Filters
    """
    wanted = Filters()
    names: list[str] = []
    for limit in limits:
        if limit.kind == "period":
            wanted = replace(wanted, since=_midnight(limit.first, zone), until=_midnight(limit.after, zone))
        elif limit.kind == "channel":
            names += [limit.value]
        elif limit.kind == "author":
            wanted = replace(wanted, author=limit.value)
        else:
            wanted = replace(wanted, media=limit.value)
    given = given or Filters()
    dated = given.since or given.until
    return Filters(
        channels=given.channels or tuple(dict.fromkeys(names)) or None,
        since=given.since if dated else wanted.since,
        until=given.until if dated else wanted.until,
        author=given.author or wanted.author,
        media=given.media or wanted.media,
    )


def kinds_given(filters: Filters) -> set[LimitKind]:
    """Kinds of limits that the asker set themselves."""
    kinds: set[LimitKind] = set()
    if filters.since or filters.until:
        kinds.add("period")
    if filters.channels:
        kinds.add("channel")
    if filters.author:
        kinds.add("author")
    if filters.media:
        kinds.add("media")
    return kinds


def _midnight(day: date | None, zone: tzinfo) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), zone)


# --- saying ---------------------------------------------------------------------------------------------------------


def limit_words(limit: Limit, language: Language) -> str:
    """Say a limit in a few words: «16–22 ноября», «@канал», «от: Иван», «с картинкой».

    Parameters
    ----------
    limit : Limit
    language : {'ru', 'en'}

    Returns
    -------
    str
    """
    if limit.kind == "period":
        return period_words(limit.first, limit.after, language)
    if limit.kind == "author":
        return say("limit_author", language, name=limit.value)
    if limit.kind == "media":
        return say(f"limit_{limit.value}", language)
    return limit.label or limit.value


def limits_words(limits: Iterable[Limit], language: Language) -> str:
    """Say limits on one line: «16–22 ноября · @канал»."""
    return " · ".join(dict.fromkeys(limit_words(limit, language) for limit in limits))


def period_words(first: date | None, after: date | None, language: Language) -> str:
    """Say a period: «16–22 ноября 2026», «март 2025», «2025 год», «с 1 марта 2026».

    Parameters
    ----------
    first, after : datetime.date or None
        First day, and the day after the last.
    language : {'ru', 'en'}

    Returns
    -------
    str
        Empty when both are None.
    """
    if first is None or after is None:
        if first is not None:
            return say("period_since", language, day=_day(first, language))
        return say("period_until", language, day=_day(after - timedelta(days=1), language)) if after else ""
    last = after - timedelta(days=1)
    if (first.month, first.day, after.month, after.day) == (1, 1, 1, 1):
        years = f"{first.year}" if first.year == last.year else f"{first.year}–{last.year}"
        return say("period_year" if first.year == last.year else "period_years", language, years=years)
    if first.day == 1 and after.day == 1 and first.year == last.year:
        months = [say(f"month_{first.month}", language), say(f"month_{last.month}", language)]
        return "–".join(dict.fromkeys(months)) + f" {last.year}"
    if first == last:
        return _day(first, language)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{_day(last, language)}"
    return f"{_day(first, language, year=first.year != last.year)} – {_day(last, language)}"


def _day(day: date, language: Language, *, year: bool = True) -> str:
    name = say(f"of_month_{day.month}", language)
    return f"{day.day} {name} {day.year}" if year else f"{day.day} {name}"


# --- reading --------------------------------------------------------------------------------------------------------


def _folded(text: str) -> str:
    """Lower case, ё as е, of the same length."""
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text).replace("ё", "е")


def _tidied(text: str) -> str:
    """Text without the holes that were left, and without «найди посты о», «что писали про»."""
    text = re.sub(r"\s+([?!.,;:])", r"\1", " ".join(re.sub(r"\(\s*\)", " ", text).split()))
    text = re.sub(r"^[\s,;:.–—-]+|[\s,;:–—-]+$|[,;:–—-]+(?=[?!.]$)", "", text)
    for asked in (_ORDER, _ASKED):
        text = asked.sub("", text) or text
    return text


def _asked(text: str) -> bool:
    """Whether words of content are left."""
    return any(lemma not in EMPTY for lemma in lemmas(text))


def _periods(low: str, today: date, said: set[str]) -> Iterator[Spanned]:
    of_posts, of_money = bool(said & POSTS), bool(said & ABOUT_MONEY)
    for one in find_periods(low, today):
        strength = min(one.strength, 1) if of_money else 2 if of_posts else one.strength
        if strength:
            yield (
                one.start,
                one.end,
                Limit("period", low[one.start : one.end], strength > 1, first=one.first, after=one.after),
            )


def _media(low: str) -> Iterator[Spanned]:
    for pattern in _MEDIA_RULES:
        for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", low):
            kind = next(kind for kind, words in _MEDIA.items() if re.fullmatch(words, match["m"]))
            is_sure = _POST_NOUN.search(low[: match.start()]) is not None
            yield match.start(), match.end(), Limit("media", match.group(), is_sure, value=kind)


def _channels(low: str, channels: Sequence[Channel]) -> Iterator[Spanned]:
    by_name = {channel.username.casefold(): channel for channel in channels if channel.username}
    for match in _HANDLES.finditer(low):
        found = [by_name.get(re.sub(r"^.*[@/]", "", name)) for name in re.findall(_HANDLE, match["names"])]
        if all(found):
            for channel in found:
                if channel is not None:
                    yield match.start(), match.end(), _channel_limit(channel, match.group(), is_sure=True)
    titles = [([_stem(word) for word in _WORD.findall(_folded(channel.title))], channel) for channel in channels]
    for opening, least in ((_CHANNEL_WORD, 0.0), (_QUOTED_TITLE, 1.0)):
        for match in opening.finditer(low):
            found_run = _title_at(low, match.end(), titles, least)
            if found_run is not None:
                end, channel, share, size = found_run
                yield (
                    match.start(),
                    end,
                    _channel_limit(channel, low[match.start() : end], is_sure=share >= 1 or size > 1),
                )


def _channel_limit(channel: Channel, typed: str, *, is_sure: bool) -> Limit:
    label = f"@{channel.username}" if channel.username else channel.title
    return Limit("channel", typed, is_sure, value=str(channel.id), label=label)


def _title_at(
    low: str, at: int, titles: Sequence[tuple[list[str], Channel]], least: float
) -> tuple[int, Channel, float, int] | None:
    """Longest run of words from a place on that is a title, or a part of one title alone.

    Returns
    -------
    (end, channel, share of the title, words) or None
    """
    matches = list(_WORD.finditer(low, at))[:8]
    if not matches or low[at : matches[0].start()].strip('«"“„ '):
        return None
    for size in range(len(matches), 0, -1):
        run = [_stem(match.group()) for match in matches[:size]]
        if matches[size - 1].start() - at > 80:
            continue
        holders = [(title, channel) for title, channel in titles if _has_run(title, run)]
        whole = [pair for pair in holders if len(pair[0]) == size]
        holders = whole or holders
        if len(holders) == 1 and size / len(holders[0][0]) >= least:
            end = matches[size - 1].end()
            end += 1 if low[end : end + 1] in {"»", '"', "”", "“"} else 0
            return end, holders[0][1], size / len(holders[0][0]), size
    return None


def _has_run(words: Sequence[str], run: Sequence[str]) -> bool:
    return any(list(words[at : at + len(run)]) == list(run) for at in range(len(words) - len(run) + 1))


def _authors(low: str, authors: Callable[[], Collection[str]], said: set[str]) -> Iterator[Spanned]:
    if not any(pattern.search(low) for pattern in (_BY, _OF_POSTS, _WROTE)):
        return
    names = [
        (name, [(_stem(match.group()), match.span()) for match in _WORD.finditer(_folded(name))])
        for name in sorted(authors())
    ]
    known = {stem for _, words in names for stem, _ in words if len(stem) > 1}
    tokens = list(_WORD.finditer(low))
    place = 0
    while place < len(tokens):
        size = 0
        while size < 4 and place + size < len(tokens) and _stem(tokens[place + size].group()) in known:
            size += 1
        step = 1
        for length in range(size, 0, -1):
            run = tokens[place : place + length]
            found = _author_limit(low, run[0].start(), run[-1].end(), [_stem(one.group()) for one in run], names)
            if found is not None:
                start, end, limit = found
                yield start, end, replace(limit, is_sure=limit.is_sure or not start or bool(said & POSTS))
                step = length
                break
        place += step


def _author_limit(
    low: str, start: int, end: int, run: list[str], names: list[tuple[str, list[tuple[str, tuple[int, int]]]]]
) -> Spanned | None:
    """Limit to an author named at a place, where the words around it say that somebody's posts are meant."""
    holders = [(name, words) for name, words in names if _has_run([stem for stem, _ in words], run)]
    if not holders or max(map(len, run)) < SHORTEST_NAME:  # «на» of «Мастерская на Речной» names nobody
        return None
    before = low[:start]
    by = next((match for match in _BY.finditer(before) if match.end() == start), None)
    posts = next((match for match in _OF_POSTS.finditer(before) if match.end() == start), None)
    wrote = _WROTE.match(low, end)
    if by is None and posts is None and wrote is None:
        return None
    name, words = holders[0]
    if len(holders) > 1:  # several have this name: the words they share
        stems = [stem for stem, _ in words]
        at = next(at for at in range(len(stems)) if stems[at : at + len(run)] == run)
        name = name[words[at][1][0] : words[at + len(run) - 1][1][1]]
    is_sure = by is None or by["by"] is not None  # «от Ивана» may also be a letter or a key
    begin = by.start() if by is not None else start
    finish = wrote.end() if wrote is not None and by is None and posts is None else end
    return begin, finish, Limit("author", low[begin:finish], is_sure, value=name)


def _stem(word: str) -> str:
    word = word.replace("ё", "е")
    bare = _ENDING.sub("", word)
    return bare if len(bare) >= 3 else word
