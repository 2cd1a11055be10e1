"""How many questions are answered at one time: one more is asked to come back instead of slowing all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import cast

from appliance.errors import SlowDown
from appliance.schema import Asker, Filters, Part, Question, SearchResult
from appliance.verbs import Search

RETRY_AFTER_S = 1.0


class Crowd:
    """Lets a bounded number of questions in; of one event loop.

    Parameters
    ----------
    ask : callable
        `appliance.answer.ask` with its stores bound.
    limit : int
        Most questions in work.
    """

    def __init__(self, ask: Callable[[Question], AsyncIterator[Part]], limit: int) -> None:
        self._ask = ask
        self._limit = limit
        self._inside = 0

    async def ask(self, question: Question) -> AsyncIterator[Part]:
        """Answer a question if there is room.

        Parameters
        ----------
        question : Question

        Yields
        ------
        Part

        Raises
        ------
        SlowDown
            Too many are being answered; nothing was done.
        """
        with self._room():
            async with aclosing(cast("AsyncGenerator[Part]", self._ask(question))) as parts:
                async for part in parts:
                    yield part

    def search(self, inner: Search) -> Search:
        """Bound the searches too: what is remembered never comes here, the rest costs an embedding each."""

        async def search(text: str, *, asker: Asker, filters: Filters, limit: int = 10) -> SearchResult:
            with self._room():
                return await inner(text, asker=asker, filters=filters, limit=limit)

        return search

    @contextmanager
    def _room(self) -> Iterator[None]:
        if self._inside >= self._limit:
            raise SlowDown("Too many questions at once.", retry_after_s=RETRY_AFTER_S, cure="Ask again in a second.")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
