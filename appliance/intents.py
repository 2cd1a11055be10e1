"""Commands in plain words: what a member's message asks of the bot itself, or that it is a question. Pure, no I/O.

The frame of a message is read, not its subject: words that no command knows are one unknown word each run. A small
linear model over these frames, trained by `postfinder bench intents`, gives a probability of each intent.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from appliance.text import is_order, lemmas, words

QUESTION = "question"
MOST_CHARS = 160  # a longer message is a question, or a tale
SURE = 0.6  # from this probability on a command is taken at its word
SURE_TO_ERASE = 0.5  # whoever may want to be erased is asked, never doubted silently
ASKED = 0.28  # from this on an intent is worth asking about
DOUBT = 0.55  # of a question: under it the bot asks
CAREFUL = frozenset({"forget", "plan_cancel"})  # never done at once, however sure
TOPICAL = frozenset({"subscribe", "unsubscribe", "search"})  # these name a subject
MOST_UNKNOWN = 2  # words that no command knows, in a command that names no subject
UNKNOWN = "<x>"
_NUMBER, _ORDER = "<n>", "<!>"
_WEIGHTS = Path(__file__).with_name("intent_weights.json")

_TOPIC = re.compile(
    r"(?:\b(?:про|об?|обо|насч[её]т|о том|по теме|на тему|за темой|теме|темой|по слову|на слово|упоминания(?:ми)?|"
    r"новости|новостей|появ(?:ит|ят)ся|подпиш\w+ на|подписк\w+ (?:на|от)|оповещения о|объявят|откро\w+|от|на|"
    r"about|mentions|mentioning|posts on|alerts? (?:for|on)|notifying me (?:of|on)|subscribe me to|subscribe to|"
    r"unsubscribe me from|unsubscribe from|eye on|track|follow|search for|when|if|когда|если|как только)\b)\s+",
    re.IGNORECASE,
)
_TOPIC_HEAD = re.compile(
    r"^(?:(?:что-то|что-нибудь|новое|новости|новостей|пост|посты|всех постах|новых постах|вс[её]|вс[её]м|всех?|"
    r"тему|теме|темы|слово|про|об?|обо|someone posts|someone mentions|anything|there (?:is|are)|news|posts|new|"
    r"updates?|the|a)\s+(?=(?:.*\S)))+",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"(?:кто-то |кто-нибудь |someone |anyone |somebody |anybody |people |they )?(?:будут писать|пишут|напиш\w+|"
    r"упомян\w+|будет|будут|появ\w+|выйд\w+|выложат|опубликуют|найд[её]тся|привезут|posts?|mentions?|writes?|talks?)\s+",
    re.IGNORECASE,
)
_TOPIC_TAIL = re.compile(
    r"(?:,?\s+(?:и )?(?:пиши|сообщай|присылай|дай знать|сообщи|напиши)(?: мне)?|\s+for me|\s+please|,?\s+пожалуйста|"
    r"\s+(?:posts|updates|news|alerts))$",
    re.IGNORECASE,
)
_SMILES = "👋👍👌❤🔥👏🙏🙂😊😀😁😃😄😉😍🥰🎉✅💪🤝🙌😂🤣\ufe0f\U0001f3fb-\U0001f3ff"
_POLITE = re.compile(
    r"(?:(?P<thanks>(?:(?:ок|понял|поняла|ясно|отлично|супер|ok|great),? )?(?:большое )?(?:с?пасиб\w*|благодарю|"
    r"спс|thanks|thank you|thx)(?: (?:большое|огромное|тебе|вам|вас|за ответ|за помощь|a lot|very much|so much))*)"
    r"|(?P<hello>(?:всем )?(?:привет(?:ик|ствую)?|здравствуйте?|добр(?:ый день|ый вечер|ое утро)|доброго дня|хай|салют|"
    r"hello|hi|hey|good (?:morning|evening))|как (?:дела|ты|жизнь|поживаешь)|how are you)"
    r"|(?P<noted>ок|окей|ok|okay|понятно|понял|поняла|ясно|хорошо|ладно|отлично|супер|круто|класс|договорились|пока|"
    rf"до свидания|до встречи|спокойной ночи|got it|great|cool|bye|see you|good night|(?=[{_SMILES}]|\)\))))"
    rf"(?:,? (?:бот|bot|there|всем|как дела|how are you))*[\s.!?){_SMILES}]*\Z",
    re.IGNORECASE,
)
_QUIET = re.compile(
    r"(?:пожалуйста,? )?(?:(?:тихие часы|(?:set )?quiet hours)(?:[:,]? (?P<hours>.*\d))?"
    r"|(?:не (?:пиши|беспокой|тревожь|буди|присылай)(?:те)?|(?:do not|don't) (?:write|disturb|message))"
    r"(?: мне| меня| ничего| me)* (?:(?P<night>по ночам|ночью|at night)|(?P<between>(?:с|from) \d.*\d))(?: утра)?)"
    r"[\s.!]*\Z",
    re.IGNORECASE,
)
NIGHT = "23-8"
_ERASING = re.compile(
    r"удал|стер|стир|сотр|уничтож|забуд|забыть|забвен|вычерк|убер|убра|закр|отзыв|отозва|не храни|не остал|"
    r"delete|erase|remove|wipe|destroy|forget|withdraw|gone",
    re.IGNORECASE,
)
_OWN = re.compile(
    r"\b(?:мо[йяеиё]\w*|мо(?:их|им|ими|ем|ей|ю)|мне|меня|мной|обо мне|себ[яе]|собой|сво\w+|персональн\w+|забвени\w+|"
    r"аккаунт|профиль|my|me|i|account)\b",
    re.IGNORECASE,
)
_PAID = re.compile(
    r"тариф|подписк|преми|списыв|продл|плат|plan|subscription|premium|charg|bill|renew|paid", re.IGNORECASE
)
_ASKS_WHEN = re.compile(
    r"(?:под)?скажи(?:те)?,? (?:(?:мне|пожалуйста),? )*когда (?:будет|будут|откро\w+|начн\w+) "
    r"(?!(?:что-то |что-нибудь |новое |посты? |новость )?(?:про|об?) )",
    re.IGNORECASE,
)  # «скажи, когда будет ремонтное кафе» may want the day, not word of a post
_QUOTED = re.compile(r"[«\"“„]([^»\"”]{2,80})[»\"”]")
_NUMBERS = {
    "два": 2, "две": 2, "двое": 2, "три": 3, "четыре": 4, "пять": 5, "шесть": 6, "семь": 7, "восемь": 8,
    "девять": 9, "десять": 10, "пару": 2, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "ten": 10, "couple": 2,
}  # fmt: skip
_UNITS = {"день": 1, "сутки": 1, "сегодня": 1, "today": 1, "day": 1, "вчера": 2, "вчерашний": 2, "yesterday": 2,
          "неделя": 7, "week": 7, "выходной": 7, "weekend": 7, "месяц": 31, "month": 31, "квартал": 92, "год": 365,
          "year": 365}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """What a message asks for.

    Attributes
    ----------
    intent : str
        ``question``, ``ask`` when the bot should ask which of `among` is meant, or a command's name.
    among : tuple of str
        The likely meanings, the likeliest first; for ``ask`` at least two.
    certainty : float
        Probability of the likeliest.
    """

    intent: str
    among: tuple[str, ...] = ()
    certainty: float = 1.0


def read(text: str) -> Reading:
    """Tell a command in plain words from a question.

    Parameters
    ----------
    text : str
        A member's message.

    Returns
    -------
    Reading
        Long and empty messages are questions.
    """
    if not text or len(text) > MOST_CHARS or "\n" in text.strip():
        return Reading(QUESTION)
    if (polite := courtesy(text)) is not None:
        return Reading(polite)
    if _QUIET.match(text.strip()):
        return Reading("quiet")
    reading = judged(probabilities(text), unknown_in(text, _model()["forms"], _model()["lemmas"]))
    return careful(text, reading)


def courtesy(text: str) -> str | None:
    """Tell a word of courtesy that asks nothing.

    Parameters
    ----------
    text : str

    Returns
    -------
    str or None
        ``hello``, ``thanks`` or ``noted`` («понятно», «пока», 👍); None for anything else.
    """
    found = _POLITE.match(text.strip())
    return None if found is None else found.lastgroup


def careful(text: str, reading: Reading) -> Reading:
    """Take nothing for a wish to erase, to cancel or to be told that does not say so in words of its own.

    Parameters
    ----------
    text : str
    reading : Reading

    Returns
    -------
    Reading
        The same, or one in which the bot asks.
    """
    says = {
        "forget": _ERASING.search(text) is not None and _OWN.search(text) is not None,
        "plan_cancel": _PAID.search(text) is not None,
        "subscribe": _ASKS_WHEN.match(text.strip()) is None,
    }
    if says.get(reading.intent, True):
        return reading
    others = tuple(name for name in reading.among if name != reading.intent)
    return Reading("ask", (reading.intent, *(others or (QUESTION,))), reading.certainty)


def judged(scores: dict[str, float], unknown: int = 0) -> Reading:
    """Decide by the probabilities of all intents.

    Parameters
    ----------
    scores : dict of str to float
    unknown : int
        Words that no command knows.

    Returns
    -------
    Reading
    """
    ranked = sorted(scores, key=lambda name: -scores[name])
    if unknown > MOST_UNKNOWN:
        ranked = [name for name in ranked if name in TOPICAL or name == QUESTION]
    best, certainty = ranked[0], scores[ranked[0]]
    likely = tuple(name for name in ranked if scores[name] >= ASKED)[:3] or (best,)
    if best == QUESTION and (certainty >= DOUBT or len(likely) < 2):
        return Reading(QUESTION, likely, certainty)
    is_alone = all(name in {best, QUESTION} for name in likely)
    if best != QUESTION and is_alone and certainty >= (SURE_TO_ERASE if best in CAREFUL else SURE):
        return Reading(best, likely, certainty)
    if len(likely) < 2:
        if certainty < ASKED:
            return Reading(QUESTION, likely, certainty)
        likely = (best, QUESTION)
    return Reading("ask", likely, certainty)


def unknown_in(text: str, forms: frozenset[str], known: frozenset[str]) -> int:
    """Count the words that no command knows; see `frame`."""
    return sum(
        word not in forms and not word.isdigit() and not known.intersection(lemmas(word)[:1]) for word in words(text)
    )


def probabilities(text: str) -> dict[str, float]:
    """Give every intent its probability.

    Parameters
    ----------
    text : str

    Returns
    -------
    dict of str to float
        Sums to 1.
    """
    model = _model()
    logits = list(model["bias"])
    rows = model["weights"]
    for feature in features(text, model["forms"], model["lemmas"]):
        row = rows.get(feature)
        if row is not None:
            for place, weight in row:
                logits[place] += weight
    top = max(logits)
    powers = [math.exp(value - top) for value in logits]
    total = sum(powers)
    return {name: power / total for name, power in zip(model["intents"], powers, strict=True)}


@lru_cache(maxsize=1)
def _model() -> dict[str, Any]:
    """Read the coefficients, once."""
    kept = orjson.loads(_WEIGHTS.read_bytes())
    unit = kept["unit"]
    weights = {
        feature: [(flat[i], flat[i + 1] * unit) for i in range(0, len(flat), 2)]
        for feature, flat in kept["weights"].items()
    }
    return {
        "intents": kept["intents"],
        "bias": [value * unit for value in kept["bias"]],
        "forms": frozenset(kept["forms"]),
        "lemmas": frozenset(kept["lemmas"]),
        "weights": weights,
    }


def frame(text: str, forms: frozenset[str], known: frozenset[str]) -> list[tuple[str, str]]:
    """Reduce a message to its frame.

    Parameters
    ----------
    text : str
    forms : frozenset of str
        Word forms that frames are made of.
    known : frozenset of str
        Their lemmas.

    Returns
    -------
    list of (str, str)
        Form and lemma of each known word; of others, an imperative is an order, and each run of the rest is one
        `UNKNOWN`.
    """
    found: list[tuple[str, str]] = []
    for word in words(text):
        lemma = lemmas(word)[:1]
        if word in forms:
            found.append((word, lemma[0] if lemma else word))
        elif word.isdigit():
            found.append((_NUMBER, _NUMBER))
        elif lemma and lemma[0] in known:
            found.append(("", lemma[0]))
        elif is_order(word):
            found.append((_ORDER, _ORDER))
        elif not found or found[-1][1] != UNKNOWN:
            found.append((UNKNOWN, UNKNOWN))
    return found


def features(text: str, forms: frozenset[str], known: frozenset[str]) -> set[str]:
    """Name what stands in a message's frame: words, neighbours, its length and its mark.

    Parameters
    ----------
    text : str
    forms, known : frozenset of str
        As for `frame`.

    Returns
    -------
    set of str
    """
    read_as = frame(text, forms, known)
    count = len(read_as)
    found = {f"#{min(count, 3) if count < 4 else 5 if count < 7 else 9}"}
    unknown = sum(lemma == UNKNOWN for _, lemma in read_as)
    found.add(f"#x{min(unknown, 3)}")
    if text.rstrip().endswith("?"):
        found.add("?")
    by_form = ["^", *(form or lemma for form, lemma in read_as), "$"]
    by_lemma = ["^", *(lemma for _, lemma in read_as), "$"]
    found.update(by_form[1:-1])
    found.update(f"~{lemma}" for lemma in by_lemma[1:-1])
    found.update(f"{a} {b}" for a, b in pairwise(by_form))
    found.update(f"~{a} {b}" for a, b in pairwise(by_lemma))
    found.update(f"~{a} * {b}" for a, b in zip(by_lemma, by_lemma[2:], strict=False))
    found.update(f"~{a} {b} {c}" for a, b, c in zip(by_lemma, by_lemma[1:], by_lemma[2:], strict=False))
    return found


def topic_of(text: str) -> str:
    """Cut out what a subscription or a search is about.

    Parameters
    ----------
    text : str
        As typed.

    Returns
    -------
    str
        Empty when nothing is named.
    """
    bare = text.strip().rstrip(".!?… ")
    if (quoted := _QUOTED.search(bare)) is not None:
        return quoted[1].strip()
    bare = _TOPIC_TAIL.sub("", bare)
    found = list(_TOPIC.finditer(bare))
    if not found:
        return ""
    rest = bare[found[0].end() :]  # the first marker opens the topic; what follows may only lead to it
    while True:
        before = rest
        for leading in (_TOPIC, _CLAUSE, _TOPIC_HEAD):
            if (lead := leading.match(rest)) is not None:
                rest = rest[lead.end() :]
        if rest == before:
            return rest.strip(' ,.:;-–—«»"')


def hours_of(text: str) -> str:
    """Return the quiet hours that a message names, as written; those of a night for "at night", else empty."""
    found = _QUIET.match(text.strip())
    if found is None:
        return ""
    return NIGHT if found["night"] else found["hours"] or found["between"] or ""


def days_of(text: str) -> int | None:
    """Read a period back from now.

    Parameters
    ----------
    text : str

    Returns
    -------
    int or None
        Days; None when no period is named.
    """
    number = 1
    named: int | None = None
    for word in words(text):
        if word.isdigit() and len(word) < 4:
            number = int(word)
        elif word in _NUMBERS:
            number = _NUMBERS[word]
        else:
            for lemma in lemmas(word):
                if lemma in _UNITS:
                    named = max(named or 0, min(number * _UNITS[lemma], 3660))
                    number = 1
    return named
