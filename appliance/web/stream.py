"""An answer on the wire, part by part; when the listener leaves, the work stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from enum import Enum
from typing import TypeVar

from fastapi.sse import format_sse_event
from starlette.requests import Request

PING_S = 15.0  # proxies close a silent connection after about a minute
AHEAD = 16  # parts made before the listener took the earlier ones

T = TypeVar("T")


class Mark(Enum):
    """What a stream says besides its parts."""

    END = "end"
    SILENCE = "silence"


class ListenerGone(Exception):
    """The client closed the connection before its answer was ready; nobody sees this."""


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Run `work`, and cancel it when the client leaves.

    Parameters
    ----------
    request : Request
        Its body has been read.
    work : awaitable

    Returns
    -------
    object
        What `work` returned.

    Raises
    ------
    ListenerGone
        The client left first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ListenerGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def pumped(parts: AsyncIterator[T]) -> AsyncIterator[asyncio.Queue[T | Exception | Mark]]:
    """Read `parts` in a task of their own, which ends with the block.

    Parameters
    ----------
    parts : async iterator

    Yields
    ------
    asyncio.Queue
        The parts, then `Mark.END` or the error that ended them.
    """
    queue: asyncio.Queue[T | Exception | Mark] = asyncio.Queue(AHEAD)

    async def pump() -> None:
        try:
            async for part in parts:
                await queue.put(part)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(Mark.END)

    task = asyncio.create_task(pump())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()  # left between two parts, it is told now and not when memory is swept


async def arrivals(
    first: T | Exception | Mark, queue: asyncio.Queue[T | Exception | Mark]
) -> AsyncIterator[T | Exception | Mark]:
    """Yield `first` and what follows in the queue until it ends; `Mark.SILENCE` after each `PING_S` without a part."""
    item = first
    while item is not Mark.END:
        yield item
        if isinstance(item, Exception):
            return
        try:
            async with asyncio.timeout(PING_S):
                item = await queue.get()
        except TimeoutError:
            item = Mark.SILENCE


def event(name: str, data: bytes) -> bytes:
    """Return one server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return format_sse_event(event=name, data_str=data.decode())


SILENCE = b": \n\n"  # a comment keeps the connection open
