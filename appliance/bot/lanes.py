"""Ordered work by key: one job of a key at a time, in order; many keys at once, but not too many."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable

import structlog

log = structlog.get_logger()

Job = Callable[[], Awaitable[None]]


class Lanes:
    """Runs jobs in lanes.

    Parameters
    ----------
    at_once : int
        Lanes that work at the same time.

    Attributes
    ----------
    waiting : int
        Jobs taken and not ended.
    """

    def __init__(self, at_once: int) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._jobs: dict[Hashable, deque[Job]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._ended = asyncio.Event()
        self.waiting = 0

    def put(self, key: Hashable, job: Job) -> None:
        """Add a job behind the others of its key.

        Parameters
        ----------
        key : hashable
        job : callable
            What it raises is logged by kind and ends nothing else.
        """
        self.waiting += 1
        if key in self._jobs:
            self._jobs[key].append(job)
            return
        self._jobs[key] = deque([job])
        task = asyncio.create_task(self._run(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def room(self, most: int) -> None:
        """Wait until fewer than `most` jobs wait."""
        while self.waiting >= most:
            self._ended.clear()
            await self._ended.wait()

    async def close(self, grace_s: float) -> None:
        """Start no further job, let those under way end within `grace_s`, then cancel them."""
        self._is_closing = True
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=grace_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, key: Hashable) -> None:
        jobs = self._jobs[key]
        while jobs:
            async with self._slots:
                job = jobs.popleft()
                try:
                    if not self._is_closing:
                        await job()
                except Exception as error:
                    log.error("job failed", kind=type(error).__name__)
                finally:
                    self.waiting -= 1
                    self._ended.set()
        del self._jobs[key]
