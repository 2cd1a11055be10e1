"""How many questions are answered at one time: one more is asked to come back instead of slowing all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

from appliance.errors import SlowDown
from appliance.schema import Part, Question

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
        if self._inside >= self._limit:
            raise SlowDown("Too many questions at once.", retry_after_s=RETRY_AFTER_S, cure="Ask again in a second.")
        self._inside += 1
        try:
            async with aclosing(cast("AsyncGenerator[Part]", self._ask(question))) as parts:
                async for part in parts:
                    yield part
        finally:
            self._inside -= 1
