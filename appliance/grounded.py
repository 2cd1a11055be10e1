"""The answer a language model writes from the posts: prompted, read sentence by sentence, within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import cast

from appliance.citations import GroundedReader
from appliance.prompts import answer_prompt, fit, stable_order
from appliance.schema import FoundPost, Language, Sentence
from models.errors import GeneratorDown
from models.ports import Generator

ANSWER_TOKENS = 512


@dataclass(slots=True)
class Written:
    """What became of a model's answer; filled while it is read.

    Attributes
    ----------
    sentences : list of Sentence
        Supported ones, citing the found posts by rank from 1.
    refused : bool
        The model says that no post answers.
    down : str
        Reason (`GeneratorDown`) why there is no whole answer, or empty.
    stopped : bool
        The asker wanted no more.
    dropped : int
        Sentences that invented or were not supported.
    first_token_ms : float
        From the call to the model's first piece; 0 before it.
    pieces : int
        Pieces streamed: tokens, or nearly.
    """

    sentences: list[Sentence] = field(default_factory=list)
    refused: bool = False
    down: str = ""
    stopped: bool = False
    dropped: int = 0
    first_token_ms: float = 0.0
    pieces: int = 0


async def write(
    query: str,
    found: Sequence[FoundPost],
    written: Written,
    *,
    generator: Generator,
    language: Language,
    context_tokens: int,
    deadline_s: float,
    stop: asyncio.Event | None = None,
) -> AsyncGenerator[Sentence]:
    """Let the model answer from the found posts.

    Parameters
    ----------
    query : str
        Standalone question.
    found : sequence of FoundPost
        Best first.
    written : Written
        Filled as the stream goes; complete when this generator ends.
    generator : Generator
    language : {'ru', 'en'}
    context_tokens : int
        Most of the model's context to use, tokens; never more than its server says it has.
    deadline_s : float
        For the whole answer; what is missing then counts as down.
    stop : asyncio.Event, optional
        Ends the answer where it is.

    Yields
    ------
    Sentence
        Supported sentences as they end, citing `found` by rank from 1.
    """
    started = perf_counter()
    context_tokens = min(context_tokens, generator.context_tokens or context_tokens)
    best = fit(found, context_tokens=context_tokens, answer_tokens=ANSWER_TOKENS, question=query)
    passages = stable_order(best)
    rank = {number: best.index(hit) + 1 for number, hit in enumerate(passages, start=1)}
    reader = GroundedReader(passages, query)

    def keep(sentences: list[Sentence]) -> list[Sentence]:
        ranked = [replace(one, citations=tuple(rank[number] for number in one.citations)) for one in sentences]
        written.sentences += ranked
        return ranked

    prompt = answer_prompt(passages, query, language)
    stream = cast(AsyncGenerator[str], generator.stream(prompt, max_tokens=ANSWER_TOKENS))
    try:
        async with aclosing(stream):
            while True:
                try:
                    piece = await _next(stream, deadline_s - (perf_counter() - started), stop)
                except StopAsyncIteration:
                    break
                if piece is None:
                    written.stopped = True
                    break
                written.first_token_ms = written.first_token_ms or (perf_counter() - started) * 1000
                written.pieces += 1
                for sentence in keep(reader.read(piece)):
                    yield sentence
                if reader.refused:
                    break
        for sentence in [] if written.stopped else keep(reader.end()):
            yield sentence
    except TimeoutError:
        written.down = "slow"
    except GeneratorDown as error:
        written.down = error.reason
    written.refused, written.dropped = reader.refused, reader.dropped


async def _next(stream: AsyncGenerator[str], left_s: float, stop: asyncio.Event | None) -> str | None:
    """Next piece, in time; None when the asker wants no more.

    Not by ``wait_for``: Python 3.11's loses a cancellation that comes together with a piece, and a reader who left
    would be written for to the end.
    """
    if left_s <= 0:
        raise TimeoutError
    if stop is None:
        async with asyncio.timeout(left_s):
            return await anext(stream)
    reading, stopping = asyncio.ensure_future(anext(stream)), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({reading, stopping}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return None
        if not reading.done():
            raise TimeoutError
        return await reading
    finally:
        for task in (reading, stopping):
            task.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)
