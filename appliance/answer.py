"""The question's walk: dialogue → search → quotes or model → one row → answer, streamed part by part."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter

from appliance.cache import Memory, Remembered, lies_within
from appliance.config import Config
from appliance.dialogue import leans_on_earlier
from appliance.errors import BadInput
from appliance.grounded import Written, write
from appliance.index import Index
from appliance.ledger import Ledger
from appliance.limits import Limits
from appliance.quoting import is_part, quote, shorten
from appliance.rewriting import rewritten
from appliance.schema import (
    Answer,
    Channel,
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
    Worded,
)
from appliance.search import query_lemmas
from appliance.text import clean, first_line, language_of, lemmas
from models.ports import Generator

LINKS = 5  # posts shown at once, quoted from and shown to the model
NEAREST = 3  # posts shown with a refusal
LEADING, AS_RELEVANT = 3, 0.35  # posts that change places by age
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
    """Make citations of found posts, numbered from 1 in the order given."""
    return tuple(
        Citation(
            number=number,
            link=hit.link,
            channel=hit.channel.title if hit.channel.kind != "answers" else f"{hit.channel.title}: {hit.post.author}",
            date=hit.post.date,
            title=shorten(first_line(hit.post.text), TITLE_CHARS),
            post=hit.post.key,
        )
        for number, hit in enumerate(found, start=1)
    )


def to_answer_from(result: SearchResult) -> tuple[FoundPost, ...]:
    """Choose the posts that may speak: of key words, those that hold them all.

    Parameters
    ----------
    result : SearchResult

    Returns
    -------
    tuple of FoundPost
        Best first; never empty where something was found.
    """
    if not result.are_key_words_named:
        return result.found
    wanted = query_lemmas(result.searched_as or result.query)

    def holds(text: str) -> bool:
        held = set(lemmas(text))
        return all(lemma in held or is_part(lemma, text) for lemma in wanted)

    return tuple(hit for hit in result.found if holds(hit.chunk_text)) or result.found[:1]


def newest_first(found: Sequence[FoundPost]) -> tuple[FoundPost, ...]:
    """Let the newest of the equally relevant leading posts speak first: rules and prices change.

    Parameters
    ----------
    found : sequence of FoundPost
        Best first.

    Returns
    -------
    tuple of FoundPost
        The same posts; only leading ones, at least `AS_RELEVANT` as relevant as the first, changed places.
    """
    leading = 0
    while leading < min(len(found), LEADING) and found[leading].relevance >= AS_RELEVANT * found[0].relevance:
        leading += 1
    return (*sorted(found[:leading], key=lambda hit: hit.post.date, reverse=True), *found[leading:])


def keep(row: QuestionRow, ledger: Ledger) -> None:
    """Store a question's row; of a post that was removed while its answer was made, the row keeps no word. Blocking.

    Parameters
    ----------
    row : QuestionRow
    ledger : Ledger
    """
    ledger.questions.save(row)
    if gone := set(row.posts).difference(ledger.posts(row.posts)):
        ledger.people.drop_answers(gone)


async def ask(
    question: Question,
    *,
    config: Config,
    search: Limits,
    index: Index,
    ledger: Ledger,
    generator: Generator | None = None,
    saved: Callable[[QuestionRow], None] = lambda row: None,
    memory: Memory | None = None,
    tell: Callable[..., AsyncIterator[Part]] | None = None,
) -> AsyncIterator[Part]:
    """Answer a question from the posts its asker may see.

    Parameters
    ----------
    question : Question
    config : Config
    search : Limits
        Searches inside the limits that the question names in words.
    index : Index
        Asked for the rarity of lemmas.
    ledger : Ledger
        Holds the dialogue's turns and takes the question's row.
    generator : Generator, optional
        Writes the answer; without it, or when it is down or unsupported, the posts are quoted.
    saved : callable
        Told of the row once it is durable (metrics).
    memory : Memory, optional
        Answers the same question again without search or model.
    tell : callable, optional
        `appliance.digest.digest` with its stores bound: tells of a period when nothing particular is asked of it.

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
    turns = await asyncio.to_thread(ledger.questions.turns, dialogue_id, TURNS) if question.dialogue_id else []
    turns = [turn for turn in turns if turn.user_id == question.asker.user_id and turn.id != question.id]
    place, version = None, ("", 0)
    seen: list[Channel] = []
    if memory is not None and not (turns and leans_on_earlier(text)):
        seen = [status.channel for status in ledger.channels(question.asker)]
        place = memory.place(text, seen, question.filters, question.unread)
        version = index.version(one.id for one in seen)
        if (kept := memory.get(place, version)) is not None:
            async for part in again(kept, question, text, dialogue_id, asked_at, started, ledger=ledger, saved=saved):
                yield part
            return
    query = await rewritten(text, [turn.query for turn in turns], generator=generator)
    rewritten_at = perf_counter()
    worded = search.read(query, asker=question.asker, filters=question.filters, unread=question.unread)
    if tell is not None and worded.is_open and any(limit.kind == "period" for limit in worded.limits):
        async for part in told(question, text, dialogue_id, worded, tell=tell, limits=search):
            yield part
        return
    result = await search(query, asker=question.asker, filters=question.filters, worded=worded)
    sought = result.searched_as or result.query  # what was meant, without the limits: quoted by and written from
    query = query if result.limits else sought  # carried on in the dialogue
    times_ms = {"rewrite": (rewritten_at - started) * 1000, **result.times_ms}
    times_ms["links"] = (perf_counter() - started) * 1000

    language = language_of(text)
    known = search.answers(result)
    found = newest_first(to_answer_from(result)[:LINKS]) if known else result.found[:NEAREST]
    shown = cite(found)
    yield Links(shown)

    sentences: list[Sentence] = []
    model, note, tokens = "quotes", "", 0
    if known and generator is not None:
        written = Written()
        writing = write(
            sought,
            found,
            written,
            generator=generator,
            language=language,
            context_tokens=config.generator_context_tokens,
            deadline_s=config.answer_deadline_s,
            stop=question.stop,
        )
        async with aclosing(writing):
            async for sentence in writing:
                yield Piece(sentence)
        times_ms["first_token"], tokens = written.first_token_ms, written.pieces
        if written.refused:
            known = False
        elif written.stopped:
            note = "stopped"
            sentences, model = written.sentences, generator.name if written.sentences else model
        elif written.down:
            note = "model_down"
        elif not written.sentences:
            note = "model_unsupported"
        else:
            sentences, model = written.sentences, generator.name
    if known and not sentences:
        before = perf_counter()
        sentences = await asyncio.to_thread(quote, found, sought, index.rarity)
        times_ms["quote"] = (perf_counter() - before) * 1000
        for sentence in sentences:
            yield Piece(sentence)

    outcome: Outcome = "answered" if sentences else "not_found"
    cited = {number for sentence in sentences for number in sentence.citations}
    citations = tuple(one for one in shown if one.number in cited) if sentences else shown[:NEAREST]
    times_ms["complete"] = (perf_counter() - started) * 1000
    row = QuestionRow(
        id=question.id or uuid.uuid4().hex,
        dialogue_id=dialogue_id,
        user_id=question.asker.user_id,
        door=question.door,
        asked_at=asked_at,
        text=text,
        query=query,
        language=language,
        outcome=outcome,
        model=model,
        posts=tuple(citation.post for citation in citations),
        answer_text=" ".join(sentence.text for sentence in sentences),
        relevance=result.relevance,
        tokens=tokens,
        times_ms=times_ms,
    )
    await asyncio.to_thread(keep, row, ledger)
    saved(row)
    answer = Answer(
        id=row.id,
        dialogue_id=dialogue_id,
        outcome=outcome,
        sentences=tuple(sentences),
        citations=citations,
        searched=result.searched,
        language=language,
        model=row.model,
        query=query,
        relevance=result.relevance,
        note=note,
        times_ms=times_ms,
        searched_as=result.searched_as,
        limits=result.limits,
        are_limits_held=result.are_limits_held,
    )
    if memory is not None and place is not None and result.is_whole and lies_within(result, seen):
        memory.put(place, version, query=text, answer=answer, links=shown)
    yield Final(answer)


async def told(
    question: Question,
    text: str,
    dialogue_id: str,
    worded: Worded,
    *,
    tell: Callable[..., AsyncIterator[Part]],
    limits: Limits,
) -> AsyncIterator[Part]:
    """Tell of a period of which nothing particular is asked; of an empty one, of the last days there are posts.

    Parameters
    ----------
    question : Question
    text : str
        The question cleaned.
    dialogue_id : str
    worded : Worded
        The question as it was read.
    tell : callable
        `appliance.digest.digest` with its stores bound.
    limits : Limits

    Yields
    ------
    Part
    """
    row = {"text": text, "dialogue_id": dialogue_id, "question_id": question.id}
    telling = partial(tell, question.asker, door=question.door, **row)
    filters = limits.filters(worded, question.filters)
    are_held = await limits.has_posts(question.asker, filters)
    days = None if are_held else 7
    async for part in telling(filters if are_held else question.filters, days=days):
        if isinstance(part, Final):
            part = Final(replace(part.answer, limits=worded.limits, are_limits_held=are_held))
        yield part


async def again(
    kept: Remembered,
    question: Question,
    text: str,
    dialogue_id: str,
    asked_at: datetime,
    started: float,
    *,
    ledger: Ledger,
    saved: Callable[[QuestionRow], None],
) -> AsyncIterator[Part]:
    """Give a remembered answer: its words at once, its end when this question's own row is durable.

    Parameters
    ----------
    kept : Remembered
    question : Question
    text : str
        The question cleaned.
    dialogue_id : str
    asked_at : datetime
    started : float
        ``perf_counter`` at the question's arrival.
    ledger : Ledger
    saved : callable

    Yields
    ------
    Part
    """
    past = kept.answer
    took = (perf_counter() - started) * 1000
    times_ms = {"remembered": took, "links": took, "complete": took}
    yield Links(kept.links)
    for sentence in past.sentences:
        yield Piece(sentence)
    row = QuestionRow(
        id=question.id or uuid.uuid4().hex,
        dialogue_id=dialogue_id,
        user_id=question.asker.user_id,
        door=question.door,
        asked_at=asked_at,
        text=text,
        query=text,
        language=past.language,
        outcome=past.outcome,
        model=past.model,
        posts=tuple(citation.post for citation in past.citations),
        answer_text=" ".join(sentence.text for sentence in past.sentences),
        relevance=past.relevance,
        tokens=0,
        times_ms=times_ms,
    )
    await asyncio.to_thread(keep, row, ledger)
    saved(row)
    yield Final(replace(past, id=row.id, dialogue_id=dialogue_id, query=text, times_ms=times_ms))
