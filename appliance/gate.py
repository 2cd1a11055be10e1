"""The gate: what every question passes first, at whichever door: the switch, bans, admission; and what it ended in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from appliance.admission import Admission
from appliance.antifraud import Antifraud
from appliance.schema import (
    Asker,
    ChannelStatus,
    Door,
    Filters,
    Final,
    FoundPost,
    Part,
    Post,
    PostKey,
    Question,
    SearchResult,
)
from appliance.verbs import Digest, Related, Search


@dataclass(frozen=True, slots=True)
class Gate:
    """Those who keep order, in front of the flows that answer."""

    admission: Admission
    antifraud: Antifraud

    def ask(self, inner: Callable[[Question], AsyncIterator[Part]]) -> Callable[[Question], AsyncIterator[Part]]:
        """Put the gate before answering."""

        async def ask(question: Question) -> AsyncIterator[Part]:
            await self.admission.check(question.asker, question.door)
            async with aclosing(cast("AsyncGenerator[Part]", inner(question))) as parts:
                async for part in parts:
                    if isinstance(part, Final) and part.answer.outcome == "not_found":
                        self.antifraud.missed(question.asker.user_id)
                    yield part

        return ask

    async def admit(self, asker: Asker) -> None:
        """Refuse a search of somebody who may not ask now; see `Admission.check`."""
        await self.admission.check(asker, "api")

    def search(self, inner: Search) -> Search:
        """Put the gate before searching."""

        async def search(text: str, *, asker: Asker, filters: Filters, limit: int = 10) -> SearchResult:
            await self.admit(asker)
            return await inner(text, asker=asker, filters=filters, limit=limit)

        return search

    def channels(
        self, inner: Callable[[Asker], Awaitable[list[ChannelStatus]]]
    ) -> Callable[[Asker], Awaitable[list[ChannelStatus]]]:
        """Show no channels to who is not let in."""

        async def channels(asker: Asker) -> list[ChannelStatus]:
            return await inner(asker) if await self.admission.may_read(asker) else []

        return channels

    def related(self, inner: Related) -> Related:
        """Show no related posts to who is not let in."""

        async def related(key: PostKey, *, asker: Asker, limit: int = 5) -> tuple[FoundPost, ...] | None:
            return await inner(key, asker=asker, limit=limit) if await self.admission.may_read(asker) else None

        return related

    def post(
        self, inner: Callable[[PostKey, Asker], Awaitable[tuple[Post, str] | None]]
    ) -> Callable[[PostKey, Asker], Awaitable[tuple[Post, str] | None]]:
        """Show no posts to who is not let in."""

        async def post(key: PostKey, asker: Asker) -> tuple[Post, str] | None:
            return await inner(key, asker) if await self.admission.may_read(asker) else None

        return post

    def digest(self, inner: Digest) -> Digest:
        """Put the gate before digests."""

        async def digest(
            asker: Asker,
            filters: Filters,
            *,
            days: int | None = 7,
            door: Door = "api",
            question_id: str | None = None,
        ) -> AsyncIterator[Part]:
            await self.admission.check(asker, door)
            told = inner(asker, filters, days=days, door=door, question_id=question_id)
            async with aclosing(cast("AsyncGenerator[Part]", told)) as parts:
                async for part in parts:
                    yield part

        return digest
