"""A second reading of what was found: a cross-encoder orders the first posts anew, or they stay as they were found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic, perf_counter

import numpy as np
import structlog

from appliance.config import Config
from appliance.errors import StartupError
from appliance.schema import FoundPost, SearchResult
from models.errors import ModelError
from models.load import load_reranker
from models.ports import Reranker

READ = 20  # posts read again, of those found
STEP = 4  # read between two looks at the clock

log = structlog.get_logger()


class Reranking:
    """A reranker that may be slow or broken: then what was found keeps its order, within the deadline.

    Parameters
    ----------
    reranker : Reranker
    deadline_s : float
        Seconds that one search may wait for it.
    """

    def __init__(self, reranker: Reranker, deadline_s: float) -> None:
        self._reranker = reranker
        self._deadline_s = deadline_s
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="reranker")  # it takes all the threads it was given
        self._overdue: Future[list[float]] | None = None

    async def order(self, result: SearchResult, limit: int) -> SearchResult:
        """Order the first posts anew.

        Parameters
        ----------
        result : SearchResult
            `READ` posts or more, where so many were found.
        limit : int
            Posts wanted of them.

        Returns
        -------
        SearchResult
            With the stage time ``rerank``, which ``search`` holds too; not whole where scores are wanting.
        """
        began = perf_counter()
        read, rest = result.found[:READ], result.found[READ:]
        scores = await self._scores(result.searched_as or result.query, [hit.chunk_text for hit in read])
        found = (*(in_order(read, scores) if scores else read), *rest)
        took = (perf_counter() - began) * 1000
        times = {**result.times_ms, "rerank": took, "search": result.times_ms["search"] + took}
        return replace(result, found=found[:limit], times_ms=times, is_whole=scores is not None)

    async def _scores(self, query: str, texts: list[str]) -> list[float] | None:
        """Score texts; None when that fails, takes too long, or something that took too long still runs."""
        if self._overdue is not None and not self._overdue.done():
            return None
        until = monotonic() + self._deadline_s
        work = self._worker.submit(self._read, query, texts, until)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            self._overdue = work
            log.warning("reranker late", deadline_s=self._deadline_s)
        except Exception as error:  # whatever an engine raises: the answer does without it
            log.error("reranker failed", kind=type(error).__name__)
        return None

    def _read(self, query: str, texts: list[str], until: float) -> list[float]:
        scores: list[float] = []
        for start in range(0, len(texts), STEP):
            if monotonic() > until:
                raise TimeoutError
            scores += self._reranker.score(query, texts[start : start + STEP]).tolist()
        if len(scores) != len(texts) or not np.isfinite(scores).all():
            raise ValueError("no score for each text")
        return scores

    def close(self) -> None:
        """Wait for nobody."""
        self._worker.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def open_reranking(config: Config) -> AsyncIterator[Reranking | None]:
    """Open the reranker that is set.

    Parameters
    ----------
    config : Config

    Yields
    ------
    Reranking or None

    Raises
    ------
    StartupError
        There is no such card, or its weights are missing or damaged.
    """
    if not config.reranker:
        yield None
        return
    try:
        reranker = await asyncio.to_thread(
            load_reranker, config.reranker, weights_dir=config.weights_dir, threads=config.threads
        )
    except ModelError as error:
        raise StartupError(str(error)) from error
    reranking = Reranking(reranker, config.reranker_deadline_s)
    try:
        yield reranking
    finally:
        reranking.close()


def in_order(found: Sequence[FoundPost], scores: Sequence[float]) -> tuple[FoundPost, ...]:
    """Put posts into the order of their scores.

    Parameters
    ----------
    found : sequence of FoundPost
    scores : sequence of float
        Higher is better; of equal ones the first found stays first.

    Returns
    -------
    tuple of FoundPost
        Places keep their score and relevance, best first: how much is relevant is known from calibrated evidence, the
        reranker says which.
    """
    order = np.argsort(-np.array(scores), kind="stable").tolist()
    fused = sorted((hit.score for hit in found), reverse=True)
    chances = sorted((hit.relevance for hit in found), reverse=True)
    return tuple(
        replace(found[row], score=score, relevance=chance)
        for row, score, chance in zip(order, fused, chances, strict=True)
    )
