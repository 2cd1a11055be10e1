"""The answer without a language model: the sentences of the found posts that speak to the query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.schema import FoundPost, Sentence
from appliance.text import clean, lemmas, sentences

MAX_POSTS = 3
MAX_SENTENCES = 4
MAX_PER_POST = 3
MAX_SENTENCE_CHARS = 420
WORTH_QUOTING = 0.55  # a further post must be this close to the first in relevance
NEIGHBOUR_WEIGHT = 0.25  # an answer often follows the sentence that repeats the question


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of a post with its score; `post` is the post's place among the found, `place` the sentence's."""

    post: int
    place: int
    text: str
    score: float


def sentence_scores(texts: Sequence[str], query: Sequence[str], weight: Callable[[str], float]) -> list[float]:
    """Score sentences by the weighted share of the query's lemmas they hold.

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
        One score in [0, 1 + NEIGHBOUR_WEIGHT] a sentence; a neighbour's match counts a little, for an answer
        often stands right after the words of its question.
    """
    wanted = dict.fromkeys(query)
    total = sum(weight(lemma) for lemma in wanted) or 1.0
    own = []
    for text in texts:
        held = set(lemmas(text))
        own.append(sum(weight(lemma) for lemma in wanted if lemma in held) / total)
    scores = []
    for place, score in enumerate(own):
        before = own[place - 1] if place else 0.0
        scores.append(score + NEIGHBOUR_WEIGHT * before)
    return scores


def quote(found: Sequence[FoundPost], query: str, weight: Callable[[str], float]) -> list[Quote]:
    """Choose the sentences that answer, best post first, each post's sentences in their own order.

    Parameters
    ----------
    found : sequence of FoundPost
        Best first; must not be empty for an answer to exist.
    query : str
        The query as searched.
    weight : callable
        Rarity of a lemma.

    Returns
    -------
    list of Quote
        At most `MAX_SENTENCES`, from at most `MAX_POSTS` posts; the first post always speaks.
    """
    if not found:
        return []
    wanted = lemmas(query)
    bar = found[0].relevance * WORTH_QUOTING
    chosen: list[Quote] = []
    for number, hit in enumerate(found[:MAX_POSTS]):
        if number and hit.relevance < bar:
            break
        text = clean(hit.post.text)
        spans = [text[start:end].strip() for start, end in sentences(text)]
        texts = [span for span in spans if any(map(str.isalnum, span))]
        if not texts:
            continue
        scores = sentence_scores(texts, wanted, weight)
        ranked = sorted(range(len(texts)), key=lambda place: (-scores[place], place))
        room = min(MAX_PER_POST if number == 0 else 1, MAX_SENTENCES - len(chosen))
        best = scores[ranked[0]]
        places = sorted(place for place in ranked[:room] if scores[place] >= 0.5 * best)
        chosen += [Quote(number, place, shorten(texts[place]), scores[place]) for place in places]
        if len(chosen) >= MAX_SENTENCES:
            break
    return chosen


def shorten(text: str, limit: int = MAX_SENTENCE_CHARS) -> str:
    """Cut at a word's end and say so with an ellipsis; line breaks become spaces."""
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    return flat[: limit - 1].rsplit(" ", 1)[0] + "…"


def as_sentences(quotes: Sequence[Quote], numbers: dict[int, int]) -> tuple[Sentence, ...]:
    """Turn quotes into an answer's sentences; `numbers` maps a post's place to its citation number."""
    return tuple(Sentence(text=quote.text, citations=(numbers[quote.post],)) for quote in quotes)
