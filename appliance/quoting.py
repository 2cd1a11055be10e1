"""The answer without a language model: the sentences of the found posts that speak to the query."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.schema import FoundPost, Sentence
from appliance.text import clean, lemmas, sentences

MAX_POSTS = 3
MAX_SENTENCES = 4
MAX_PER_POST = 3
MAX_SENTENCE_CHARS = 420
WORTH_QUOTING = 0.55  # a further post must be this close to the first in relevance
NEIGHBOUR_WEIGHT = 0.25  # an answer often follows the sentence that repeats the question


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
        scores = sentence_scores(texts, wanted, weight)
        ranked = sorted(range(len(texts)), key=lambda place: (-scores[place], place))
        room = min(MAX_PER_POST if not chosen else 1, MAX_SENTENCES - len(chosen))
        best = scores[ranked[0]]
        places = sorted(place for place in ranked[:room] if scores[place] >= 0.5 * best)
        chosen += [Sentence(text=shorten(texts[place]), citations=(rank,)) for place in places]
        if len(chosen) >= MAX_SENTENCES:
            break
    return chosen


def shorten(text: str, limit: int = MAX_SENTENCE_CHARS) -> str:
    """Cut at a word's end and say so with an ellipsis; line breaks become spaces."""
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    return flat[:limit].rsplit(" ", 1)[0][: limit - 1] + "…"
