"""The answer without a language model: the sentences of the found posts that speak to the query."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from appliance.schema import FoundPost, Sentence
from appliance.text import clean, lemmas, sentences, words

MAX_POSTS = 3
MAX_SENTENCES = 5
MAX_FIRST = 3  # sentences of the first post; the others give one each
MAX_SENTENCE_CHARS = 420
WORTH_QUOTING = 0.35  # a further post must be this close to the first in relevance
CARRIED = (0.7, 0.4)  # what a sentence gives the two after it: an answer stands right after the words of its question
HEADING_WORDS = 12
_ENDS = re.compile(r"[.!…)»\"”]\W*$")
_ITEM = re.compile(r"^(?:\W|\d+[.)])")
_TAGS = re.compile(r"^\W*(?:#\w+\W*)+$")


def sentence_scores(texts: Sequence[str], query: Sequence[str], weight: Callable[[str], float]) -> list[float]:
    """Score sentences by the weighted share of the query's lemmas they hold, and follow.

    Parameters
    ----------
    texts : sequence of str
        Sentences of one post, in order.
    query : sequence of str
        Lemmas of the query.
    weight : callable
        Rarity of a lemma (inverse document frequency), > 0.

    Returns
    -------
    list of float
        One score a sentence. Headings, questions and tags say nothing themselves, so they score 0 and hand theirs on.
    """
    wanted = dict.fromkeys(query)
    total = sum(weight(lemma) for lemma in wanted) or 1.0
    own, speaks = [], []
    for place, text in enumerate(texts):
        held = set(lemmas(text))
        own.append(sum(weight(lemma) for lemma in wanted if lemma in held) / total)
        speaks.append(place == len(texts) - 1 or not is_heading(text, is_first=place == 0))
    scores = []
    for place, score in enumerate(own):
        handed = max(
            (own[place - back] * share for back, share in enumerate(CARRIED, start=1) if back <= place), default=0
        )
        scores.append((score + handed) * (speaks[place] and not _TAGS.match(texts[place])))
    return scores


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
    bar = found[0].relevance * WORTH_QUOTING
    chosen: list[Sentence] = []
    for rank, hit in enumerate(found[:MAX_POSTS], start=1):
        if rank > 1 and hit.relevance < bar:
            break
        text = clean(hit.post.text)
        texts = [text[start:end] for start, end in sentences(text)]
        if not texts:
            continue
        room = min(1 if chosen else MAX_FIRST, MAX_SENTENCES - len(chosen))
        scores = sentence_scores(texts, wanted, weight)
        chosen += [Sentence(text=shorten(texts[place]), citations=(rank,)) for place in best_places(scores, room)]
    return chosen


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
