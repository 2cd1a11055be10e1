"""The answer without a language model: the sentences of the found posts that speak to the query."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

from appliance.schema import FoundPost, Sentence
from appliance.text import clean, lemmas, sentences, words

MAX_POSTS = 3
MAX_SENTENCES = 5
MAX_FIRST = 3  # sentences of the first post; the others give one each
MAX_SENTENCE_CHARS = 420
WORTH_QUOTING = 0.35  # a further post must be this close to the first in relevance
CARRIED = (0.7, 0.4)  # what a sentence gives the two after it: an answer stands right after the words of its question
SIGNATURE = 4  # lines at most, an empty one before it among them
FIGURE_WANTED = 1.6  # what a sentence with a number weighs more where the question asks for one
HEADING_WORDS = 12
MIN_PART = 5  # letters of a lemma that may stand inside a word
_ENDS = re.compile(r"[.!…)»\"”]\W*$")
_ITEM = re.compile(r"^(?:\W|\d+[.)])")
_TAGS = re.compile(r"^\W*(?:#\w+\W*)+$")
_ASKS_FOR_A_FIGURE = re.compile(
    r"\b(?:сколько|скольки|когда|поч[её]м|како\w+ (?:числа|цена)|в каком году|котор\w+ час\w*)\b"
    r"|\b(?:how (?:many|much|long|old)|when|what (?:time|date|price|year))\b",
    re.IGNORECASE,
)


def sentence_scores(
    texts: Sequence[str], query: Sequence[str], weight: Callable[[str], float], *, wants_figure: bool = False
) -> list[float]:
    """Score sentences by the weighted share of the query's lemmas they hold, and follow.

    Parameters
    ----------
    texts : sequence of str
        Sentences of one post, in order.
    query : sequence of str
        Lemmas of the query.
    weight : callable
        Rarity of a lemma (inverse document frequency), > 0.
    wants_figure : bool, optional
        A number is asked for: a sentence with one weighs more, one without gains nothing from what stands before it.

    Returns
    -------
    list of float
        One score a sentence. Headings, questions, tags and mere echoes of the query say nothing themselves, so they
        score 0 and hand theirs on. Where no sentence holds a lemma, parts of words count: «парковка» in «велопарковка».
    """
    wanted = dict.fromkeys(query)
    total = sum(weight(lemma) for lemma in wanted) or 1.0
    holds = [set(lemmas(text)) for text in texts]
    own = [sum(weight(lemma) for lemma in wanted if lemma in held) / total for held in holds]
    if not any(own):
        own = [sum(weight(lemma) for lemma in wanted if is_part(lemma, text)) / total for text in texts]
    speaks = []
    for place, (text, held) in enumerate(zip(texts, holds, strict=True)):
        is_last, is_echo = place == len(texts) - 1, held <= wanted.keys() and not has_figure(text)
        speaks.append(is_last or not (is_echo or is_heading(text, is_first=place == 0)))
    scores = []
    for place, score in enumerate(own):
        handed = max(
            (own[place - back] * share for back, share in enumerate(CARRIED, start=1) if back <= place), default=0
        )
        if wants_figure:
            score, handed = (
                (score * FIGURE_WANTED, handed * FIGURE_WANTED) if has_figure(texts[place]) else (score, 0.0)
            )
        scores.append((score + handed) * (speaks[place] and not _TAGS.match(texts[place])))
    return scores


def is_part(lemma: str, text: str) -> bool:
    """Tell whether a lemma, but for its ending, is part of a word of a text."""
    return len(lemma) >= MIN_PART and lemma[:-1] in text.casefold()


def is_heading(text: str, *, is_first: bool) -> bool:
    """Tell whether a sentence only announces what follows: a question, a line that ends with a colon, a title.

    Parameters
    ----------
    text : str
    is_first : bool
        It opens the post.

    Returns
    -------
    bool
    """
    last = text.rstrip(' »"”)*_')[-1:]
    if last in {"?", ":"}:
        return True
    is_item = bool(_ITEM.match(text)) and not is_first
    return not is_item and not _ENDS.search(text) and len(words(text)) <= HEADING_WORDS and not has_figure(text)


def has_figure(text: str) -> bool:
    """Tell whether a sentence holds a number: it says something, however short."""
    return any(map(str.isdigit, text))


def quote(found: Sequence[FoundPost], query: str, weight: Callable[[str], float]) -> list[Sentence]:
    """Choose the sentences that answer, best post first, each post's sentences in their own order.

    Parameters
    ----------
    found : sequence of FoundPost
        Best first; cited by rank from 1.
    query : str
        The query as searched.
    weight : callable
        Rarity of a lemma.

    Returns
    -------
    list of Sentence
        At most `MAX_SENTENCES`, from at most `MAX_POSTS` posts; the first post with words always speaks.
    """
    if not found:
        return []
    wanted = lemmas(query)
    wants_figure = _ASKS_FOR_A_FIGURE.search(query) is not None
    bar = found[0].relevance * WORTH_QUOTING
    chosen: list[Sentence] = []
    for rank, hit in enumerate(found[:MAX_POSTS], start=1):
        if rank > 1 and hit.relevance < bar:
            break
        others = [other.post.text for other in found if is_neighbour(hit, other)]
        text = clean(without_signature(hit.post.text, others))
        texts = [text[start:end] for start, end in sentences(text)]
        if not texts:
            continue
        room = min(1 if chosen else MAX_FIRST, MAX_SENTENCES - len(chosen))
        scores = sentence_scores(texts, wanted, weight, wants_figure=wants_figure)
        chosen += [Sentence(text=shorten(texts[place]), citations=(rank,)) for place in best_places(scores, room)]
    return chosen


def is_neighbour(hit: FoundPost, other: FoundPost) -> bool:
    """Tell whether two found posts are different ones of one channel."""
    return hit.post.channel_id == other.post.channel_id and hit.post.key != other.post.key


def without_signature(text: str, others: Iterable[str]) -> str:
    """Leave out how a channel ends its posts: "Subscribe: @…" may hold words of a question, and answers none.

    Parameters
    ----------
    text : str
        Of a post.
    others : iterable of str
        Texts of other posts of the channel.

    Returns
    -------
    str
        Without the last lines, if another post ends with the same; all of it where these are more than `SIGNATURE` or
        half of the post: it was said again.
    """
    lines = text.rstrip().split("\n")
    most = min(SIGNATURE, len(lines) // 2)
    ends = [_alike(reversed(lines), reversed(other.rstrip().split("\n"))) for other in others]
    return "\n".join(lines[: len(lines) - max((end for end in ends if end <= most), default=0)])


def _alike(texts: Iterable[str], others: Iterable[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(texts, others, strict=False)))


def best_places(scores: Sequence[float], room: int) -> list[int]:
    """Choose up to `room` sentences: the best, and others at least half as good, in the post's order."""
    ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:room]
    return sorted(place for place in ranked if scores[place] >= 0.5 * scores[ranked[0]])


def shorten(text: str, limit: int = MAX_SENTENCE_CHARS) -> str:
    """Cut at a word's end and say so with an ellipsis; line breaks become spaces."""
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    return flat[:limit].rsplit(" ", 1)[0][: limit - 1] + "…"
