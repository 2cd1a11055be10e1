"""The question's walk: dialogue → search → quotes or model → one row → answer, streamed part by part."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from time import perf_counter

from appliance.config import Config
from appliance.dialogue import standalone
from appliance.errors import BadInput
from appliance.index import Index
from appliance.ledger import Ledger
from appliance.quoting import as_sentences, quote, shorten
from appliance.schema import (
    Answer,
    Citation,
    Final,
    FoundPost,
    Links,
    Outcome,
    Part,
    Piece,
    Question,
    QuestionRow,
    SearchResult,
    Sentence,
)
from appliance.text import clean, language_of

NEAREST = 3  # posts shown with a refusal
TITLE_CHARS = 90
TURNS = 6


def question_text(question: Question, max_chars: int) -> str:
    """Return the question cleaned, or say what is wrong with it.

    Raises
    ------
    BadInput
        Nothing to read in it (``empty_question``) or more than `max_chars` (``question_too_long``).
    """
    if len(question.text) > max_chars:
        raise BadInput(
            f"The question has {len(question.text)} characters.",
            cure=f"Ask in at most {max_chars}.",
            code="question_too_long",
        )
    text = clean(question.text).strip()
    if not any(map(str.isalnum, text)):
        raise BadInput("There are no words in the question.", cure="Ask in words.", code="empty_question")
    return text


def cite(found: Sequence[FoundPost]) -> tuple[Citation, ...]:
    """Number found posts from 1 in the order given."""
    return tuple(
        Citation(
            number=number,
            link=hit.link,
            channel=hit.channel.title,
            date=hit.post.date,
            title=shorten(next(iter(clean(hit.post.text).strip().splitlines()), ""), TITLE_CHARS),
            post=hit.post.key,
        )
        for number, hit in enumerate(found, start=1)
    )


async def ask(
    question: Question,
    *,
    config: Config,
    search: Callable[..., Awaitable[SearchResult]],
    index: Index,
    ledger: Ledger,
    answer_above: float,
    saved: Callable[[QuestionRow], None] = lambda row: None,
) -> AsyncIterator[Part]:
    """Answer a question from the posts its asker may see.

    Parameters
    ----------
    question : Question
    config : Config
    search : callable
        `appliance.search.search` with its stores bound.
    index : Index
        Asked for the rarity of lemmas.
    ledger : Ledger
        Holds the dialogue's turns and takes the question's row.
    answer_above : float
        Calibrated relevance in [0, 1] under which the honest answer is "not found".
    saved : callable
        Told of the row once it is durable (metrics).

    Yields
    ------
    Part
        `Links` at once, a `Piece` a sentence, and one `Final`.

    Raises
    ------
    BadInput
        An unusable question; nothing is stored.
    UnknownChannel
        A channel the asker cannot see.
    """
    started = perf_counter()
    asked_at = datetime.now(UTC)
    text = question_text(question, config.max_question_chars)
    dialogue_id = question.dialogue_id or uuid.uuid4().hex
    turns = await asyncio.to_thread(ledger.turns, dialogue_id, TURNS) if question.dialogue_id else []
    turns = [turn for turn in turns if turn.user_id == question.asker.user_id]
    query = standalone(text, [turn.query for turn in turns])
    result = await search(query, asker=question.asker, filters=question.filters)
    times_ms = dict(result.times_ms)
    times_ms["links"] = (perf_counter() - started) * 1000

    outcome: Outcome = "answered" if result.found and result.relevance >= answer_above else "not_found"
    sentences: tuple[Sentence, ...] = ()
    if outcome == "answered":
        before = perf_counter()
        quotes = await asyncio.to_thread(quote, result.found, query, index.rarity)
        order = list(dict.fromkeys(item.post for item in quotes))
        citations = cite([result.found[place] for place in order])
        sentences = as_sentences(quotes, {place: number for number, place in enumerate(order, start=1)})
        times_ms["quote"] = (perf_counter() - before) * 1000
        if not sentences:  # a picture's post may have no words to quote
            outcome = "not_found"
    if outcome == "not_found":
        citations = cite(result.found[:NEAREST])
    yield Links(citations)
    for sentence in sentences:
        yield Piece(sentence)

    times_ms["complete"] = (perf_counter() - started) * 1000
    language = language_of(text)
    row = QuestionRow(
        id=uuid.uuid4().hex,
        dialogue_id=dialogue_id,
        user_id=question.asker.user_id,
        door=question.door,
        asked_at=asked_at,
        text=text,
        query=query,
        language=language,
        outcome=outcome,
        model="quotes",
        posts=tuple(citation.post for citation in citations),
        answer_text=" ".join(sentence.text for sentence in sentences),
        relevance=result.relevance,
        tokens=0,
        times_ms=times_ms,
    )
    await asyncio.to_thread(ledger.save_question, row)
    saved(row)
    yield Final(
        Answer(
            id=row.id,
            dialogue_id=dialogue_id,
            outcome=outcome,
            sentences=sentences,
            citations=citations,
            searched=result.searched,
            language=language,
            model=row.model,
            query=query,
            times_ms=times_ms,
        )
    )
