"""What the words of a message tell of it: a light linear classifier of words, for spam and for rudeness. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal
from zlib import crc32

import orjson

Kind = Literal["spam", "toxic"]
FILE = Path(__file__).with_name("wordmarks.json")
BUCKETS = 4096
MAX_CHARS = 1500  # of a message that is read
STEM = 5  # letters of a word that count: endings of Russian words do not
_WORD = re.compile(r"[^\W_]+|[^\w\s]", re.UNICODE)
_CANDIDATE = re.compile(r"[/@.]")
_LINK = re.compile(r"(?:https?://|t\.me/|(?<!\w)@\w{3}|\w\.(?:com|ru|ltd|org|net|io|me)\b)")
_MONEY = re.compile(r"[$€₽]|\b(?:руб|usd|usdt|btc|тыс|долл)")
_EMOJI = re.compile(r"[\U0001F000-\U0010FFFF]")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")


@lru_cache(maxsize=1)  # of one message both kinds are asked
def marks(text: str) -> tuple[int, ...]:
    """Return the places of a message's features among `BUCKETS`, each once.

    Parameters
    ----------
    text : str

    Returns
    -------
    tuple of int
        Words cut to `STEM` letters, pairs of neighbours, and a few signs: links, money, shouting, emoji, length.
    """
    text = text[:MAX_CHARS]
    low = text.lower()
    words = [_place(word[:STEM]) for word in _WORD.findall(low)]
    found = set(words)
    found.update((31 * a + b + 7) % BUCKETS for a, b in pairwise(words))
    signs = [f"#long{min(len(text) // 100, 6)}"]
    if _CANDIDATE.search(low) is not None and (links := len(_LINK.findall(low))):
        signs.append(f"#links{min(links, 3)}")
    if _MONEY.search(low) is not None:
        signs.append("#money")
    if len(text) > 20 and text != low and text == text.upper():
        signs.append("#shouts")
    if _EMOJI.search(text) is not None:
        signs.append("#emoji")
    if _CYRILLIC.search(text) is None:
        signs.append("#not russian")
    found.update(map(_place, signs))
    return tuple(found)


@lru_cache(maxsize=20_000)
def _place(word: str) -> int:
    return crc32(word.encode("utf-8", "replace")) % BUCKETS


@cache
def coefficients(kind: Kind) -> tuple[float, tuple[float, ...]]:
    """Read the intercept and the weights of a classifier, once."""
    kept = orjson.loads(FILE.read_bytes())[kind]
    weights = [0.0] * BUCKETS
    for place, weight in zip(kept["places"], kept["weights"], strict=True):
        weights[place] = weight
    return float(kept["intercept"]), tuple(weights)


def chance(kind: Kind, text: str) -> float:
    """Return the probability that a message is of a kind.

    Parameters
    ----------
    kind : {'spam', 'toxic'}
    text : str

    Returns
    -------
    float
        0 to 1, by logistic regression; see ``benchmarks/antifraud.py`` for how it was fitted and judged.
    """
    intercept, weights = coefficients(kind)
    return of_marks(marks(text), intercept, weights)


def of_marks(places: Sequence[int], intercept: float, weights: Sequence[float]) -> float:
    """Return the probability of features; they are weighed by the square root of their number."""
    if not places:
        return 0.0
    total = intercept + sum(weights[place] for place in places) / math.sqrt(len(places))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))
