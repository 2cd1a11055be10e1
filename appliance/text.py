"""Russian and English text: cleaning, words, lemmas, sentences, language, fingerprints. Pure, no I/O."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from appliance.schema import Language

if TYPE_CHECKING:
    from pymorphy3 import MorphAnalyzer

# --- cleaning -------------------------------------------------------------------------------------------------------

# Invisible characters that carry no meaning and are used to hide text: soft hyphen, zero-width, bidirectional marks
# and overrides, fillers, tags, variation selectors other than emoji's U+FE0F. U+200D joins emoji and is judged apart.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_NEWLINE = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile("[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]+")
_LINE_EDGE = re.compile(" ?\n ?")
_BLANK_LINES = re.compile("\n{3,}")
_EMOJI = r"\u00a9\u00ae\u2000-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
_STRAY_JOINER = re.compile(f"(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}])")


def clean(text: str) -> str:
    r"""Take out what a reader cannot see and fold what they cannot tell apart.

    Parameters
    ----------
    text : str
        Any text, lone surrogates and control characters included.

    Returns
    -------
    str
        NFC; invisible, bidirectional and control characters out (emoji joiners stay); one kind of space and of line
        break; no space at line ends; at most one blank line in a row. ``clean(clean(x)) == clean(x)``.
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    text = _SURROGATE.sub("\ufffd", text)
    text = _NEWLINE.sub("\n", text)
    text = _CONTROL.sub("", _INVISIBLE.sub("", text))
    while (joined := _STRAY_JOINER.sub("", text)) != text:
        text = joined
    text = _SPACE.sub(" ", unicodedata.normalize("NFC", text))
    return _BLANK_LINES.sub("\n\n", _LINE_EDGE.sub("\n", text)).strip()


# --- words and lemmas -----------------------------------------------------------------------------------------------

_URL = re.compile(r"(?:https?://|www\.|t\.me/)\S+", re.IGNORECASE)
# A word is letters and digits, joined inside by marks that belong to it (web-сервис, sync.Mutex, io_uring, HTTP/2,
# 3.11, don't) and ending in marks of names (C++, C#, F#).
_WORD = re.compile(r"[^\W_]+(?:[-_.'’/:,&+‑–][^\W_]+)*(?:\+\+|#)?")
_PLAIN = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_STRESS = re.compile("(?<=[А-Яа-яЁё])[\u0300\u0301]")
_CYRILLIC = re.compile("[а-яё]")
_KEPT_JOINTS = re.compile(r"[-_.'/&+]")
_OTHER_JOINTS = re.compile(r"[:,]")


def words(text: str) -> list[str]:
    """Split into lower-case words, ё as е, in order.

    Parameters
    ----------
    text : str
        Cleaned or raw text.

    Returns
    -------
    list of str
        Words; names with inner marks stay whole (``sync.mutex``, ``c++``, ``веб-сервис``, ``3.11``). Of a URL, its
        host and the words of its path.
    """
    lowered = _STRESS.sub("", text).lower().replace("ё", "е")
    found: list[str] = []
    for match in _WORD.finditer(_URL.sub(_spell_url, lowered)):
        word = match.group().replace("’", "'").replace("‑", "-").replace("–", "-")
        if _NUMBER.fullmatch(word):
            found.append(word.replace(",", "."))
        else:
            found.extend(part for part in _OTHER_JOINTS.split(word) if part)
    return found


def _spell_url(match: re.Match[str]) -> str:
    """Host of a URL as one word, the words of its path apart, its parameters dropped."""
    address = re.sub(r"^https?://|^www\.", "", match.group())
    host, _, path = re.split(r"[?#]", address, maxsplit=1)[0].partition("/")
    return f" {host} " + " ".join(_PLAIN.findall(path)) + " "


@lru_cache(maxsize=1)
def _morph() -> MorphAnalyzer:
    """Load the Russian morphology (0.15 s, about 20 MB) on first use."""
    from pymorphy3 import MorphAnalyzer

    return MorphAnalyzer()


@lru_cache(maxsize=1 << 16)
def _lemmas_of_word(word: str) -> tuple[str, ...]:
    """Lemma of a word; of a joined word also the lemmas of its parts."""
    parts = [part for part in _KEPT_JOINTS.split(word) if part]
    if len(parts) < 2 or _NUMBER.fullmatch(word):
        return (_lemma(word),)
    whole = _lemma(word) if "-" in word and _CYRILLIC.search(word) else word
    inner = tuple(_lemma(part) for part in parts)
    return inner if "/" in word and not any(part.isdigit() for part in parts) else (whole, *inner)


def _lemma(word: str) -> str:
    if len(word) > 40:
        return word[:40]
    if _CYRILLIC.search(word):
        return str(_morph().parse(word)[0].normal_form).replace("ё", "е")
    return _stem_english(word)


def is_dictionary_word(word: str) -> bool:
    """Tell whether the dictionary of Russian has a word form.

    Parameters
    ----------
    word : str
        One Cyrillic word in lower case; ё may be typed as е.

    Returns
    -------
    bool
    """
    return bool(_morph().word_is_known(word))


@lru_cache(maxsize=1 << 14)
def is_order(word: str) -> bool:
    """Tell whether a Russian word is most likely an imperative: «сделай», «покажите».

    Parameters
    ----------
    word : str
        In lower case.

    Returns
    -------
    bool
    """
    return bool(_CYRILLIC.search(word)) and len(word) < 40 and "impr" in _morph().parse(word)[0].tag


def is_name(word: str) -> bool:
    """Tell whether a word by itself may be what a question is about: «абонемент», «парковка», «wifi».

    Parameters
    ----------
    word : str
        In lower case.

    Returns
    -------
    bool
        True for a Russian noun that may stand in the nominative, and for a word not in Cyrillic.
    """
    if not _CYRILLIC.search(word):
        return not word.isdigit()
    if len(word) >= 40:
        return False
    return any("NOUN" in one.tag and "nomn" in one.tag for one in _morph().parse(word))


def _stem_english(word: str) -> str:
    """Fold English plurals and possessives (Harman's S stemmer, 1991)."""
    if word.endswith("'s"):
        word = word[:-2]
    if len(word) < 4 or not word.isalpha() or not word.endswith("s"):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    return word if word.endswith(("us", "ss", "is")) else word[:-1]


def lemmas(text: str) -> list[str]:
    """Reduce words to dictionary forms.

    Russian by pymorphy3, English plurals folded, ё as е. A joined word gives itself and its parts
    (``sync.mutex`` → ``sync.mutex, sync, mutex``).

    Parameters
    ----------
    text : str
        Cleaned or raw text.

    Returns
    -------
    list of str
        Lemmas in order, with repeats.
    """
    return [lemma for word in words(text) for lemma in _lemmas_of_word(word)]


# --- sentences ------------------------------------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"[.!?…]+(?:[\"'»”’)\]]+)?(?=\s)")
_BULLET_INSIDE = re.compile(r"(?<=\s)(?=[•●▪▫◦‣∙]\s)|(?<=\s)(?=[🔘🔹🔸🔺🔻▶✅☑✔❌👉📌⚡🔥]\S{0,2}\s?\w)")
_SHORTENED_WORDS = (
    "т тт тд тп е д п к м г гг в вв н э др пр им ул пер просп стр рис табл см ср напр проф акад доц св ст руб коп тыс"
    " млн млрд трлн чел кв корп обл р ок изд англ лат нем фр греч исп ит рус яз сокр ред авт букв вып гл"
    " mr mrs ms dr prof vs etc eg ie e g i no fig st jr sr inc ltd approx"
)
_SHORTENED = frozenset(_SHORTENED_WORDS.split())
_ENDS_A_PHRASE = frozenset(
    {"г", "гг", "в", "вв", "др", "пр", "д", "п", "руб", "коп", "тыс", "чел", "etc", "inc", "ltd"}
)
_LAST_WORD = re.compile(r"([^\W\d_]+)\.$")


def sentences(text: str) -> list[tuple[int, int]]:
    """Find sentences; a line break always ends one.

    Knows shortened words (``т. е.``, ``им.``, ``e.g.``), initials, numbered and emoji-bulleted lists, URLs and code
    identifiers (a dot without a space after it ends nothing).

    Parameters
    ----------
    text : str
        Text with its line breaks.

    Returns
    -------
    list of (int, int)
        Spans ``text[start:end]``, in order, not overlapping, without outer spaces, each with a letter or a digit.
    """
    spans: list[tuple[int, int]] = []
    offset = 0
    for line in text.split("\n"):
        start = 0
        for cut in sorted({*_sentence_cuts(line), *(m.start() for m in _BULLET_INSIDE.finditer(line)), len(line)}):
            piece = line[start:cut]
            # A marker without words ("1.", "👉") goes with what follows it; at the end of a line it is no sentence.
            if not _PLAIN.search(piece) or re.fullmatch(r"\W*\d{1,3}[.)]\s*", piece):
                if cut < len(line):
                    continue
                if not _PLAIN.search(piece):
                    break
            left, right = len(piece) - len(piece.lstrip()), len(piece.rstrip())
            spans.append((offset + start + left, offset + start + right))
            start = cut
        offset += len(line) + 1
    return spans


def _sentence_cuts(line: str) -> list[int]:
    """Places after the end marks that end a sentence."""
    cuts = []
    for match in _SENTENCE_END.finditer(line):
        following = line[match.end() :].lstrip()
        if not following:
            continue
        opener = following.lstrip("\"'«“„([—–- ")[:1]
        if opener.islower():
            continue
        if match.group() == "." and (last := _LAST_WORD.search(line[: match.end()])):
            word = last.group(1)
            if len(word) == 1 and word.isupper():  # an initial: А. С. Пушкин
                continue
            if word.lower() in _SHORTENED:
                before = line[: last.start()].rstrip()
                is_end = word.lower() in _ENDS_A_PHRASE and (
                    before[-1:].isdigit() or before.endswith((" и", "т.", "т"))
                )
                if not is_end or not opener.isupper():
                    continue
        cuts.append(match.end())
    return cuts


# --- language -------------------------------------------------------------------------------------------------------

_ENGLISH_SMALL_WORDS = (
    "the a an is are was were what which who whom whose how why when where do does did of in on to for with and or not"
    " can could should would will it this that these those there from by as at be has have i you we they my your mean"
    " means about between"
)
_ENGLISH_SMALL = frozenset(_ENGLISH_SMALL_WORDS.split())


def language_of(text: str) -> Language:
    """Tell Russian from English.

    Parameters
    ----------
    text : str
        A question or a post; English terms inside Russian are expected.

    Returns
    -------
    {'ru', 'en'}
        ``"en"`` for text without Cyrillic that has Latin letters, or with more English small words than Cyrillic words;
        else ``"ru"``.
    """
    cyrillic = latin = english = 0
    for word in _PLAIN.findall(text.lower()):
        if _CYRILLIC.search(word):
            cyrillic += 1
        elif word.isascii() and word.isalpha():
            latin += 1
            english += word in _ENGLISH_SMALL
    return "en" if latin and (not cyrillic or english > cyrillic) else "ru"


def first_line(text: str) -> str:
    """Return the first line that is not blank, cleaned; the rest, which may be long, is not looked at."""
    return next(filter(None, map(clean, text.splitlines())), "")


# --- fingerprints ---------------------------------------------------------------------------------------------------


def tokens(text: str) -> list[str]:
    """Split into bare runs of letters and digits, lower-case, ё as е, without URLs: what makes a copy a copy."""
    return _PLAIN.findall(_URL.sub(" ", text).lower().replace("ё", "е"))


def fingerprint(text: str) -> int:
    """Summarise a text so that near copies have near summaries.

    SimHash (Charikar, 2002) over words and word pairs; URLs, marks, emoji, case and ё do not count.

    Parameters
    ----------
    text : str
        Text of a post.

    Returns
    -------
    int
        Signed 64-bit; equal for equal words, a few bits apart (`distance`) for near copies; 0 for no words.
    """
    found = tokens(text)
    if not found:
        return 0
    pairs = [f"{a} {b}" for a, b in pairwise(found)]
    hashes = b"".join(_hash64(token) for token in found + pairs)
    bits = np.unpackbits(np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 8), axis=1)
    ones = bits.sum(axis=0, dtype=np.int64) * 2 > len(bits)
    return int(np.packbits(ones).view(">i8")[0]) or 1


@lru_cache(maxsize=1 << 15)
def _hash64(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "replace"), digest_size=8).digest()


def distance(a: int, b: int) -> int:
    """Count the bits in which two fingerprints differ (0 to 64)."""
    return ((a ^ b) & 0xFFFFFFFFFFFFFFFF).bit_count()
