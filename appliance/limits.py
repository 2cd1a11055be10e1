"""Search inside the limits that a question names in words; without them where they would leave nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from time import perf_counter

from appliance.cache import Kept, lies_within
from appliance.schema import (
    Asker,
    Channel,
    ChannelStatus,
    Filters,
    FoundPost,
    LimitKind,
    SearchResult,
    Worded,
)
from appliance.text import clean
from appliance.wording import filters_of, kinds_given, read_words

WITHIN = 0.3  # of the relevance asked for otherwise: whoever names a week wants what it holds

Searching = Callable[..., Awaitable[SearchResult]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Reads limits from questions and searches inside them.

    Attributes
    ----------
    search : callable
        `appliance.search.search` with its stores bound.
    channels : callable
        Channels an asker may see; fast, from memory.
    authors : callable
        Authors of the posts of some channels.
    zone : datetime.tzinfo
        Where the community's days begin.
    answer_above : float
        Relevance from which the posts answer.
    clock : callable
        The time, aware.
    kept : Kept
        Results, for the same words of people with the same rights.
    version : callable
        Of the posts of some channels; another one means that they changed.
    """

    search: Searching
    channels: Callable[[Asker], Sequence[ChannelStatus]]
    authors: Callable[[frozenset[int]], Collection[str]]
    zone: tzinfo
    answer_above: float = 0.5
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    kept: Kept[SearchResult] = field(default_factory=lambda: Kept(0))
    version: Callable[[Iterable[int]], Hashable] = lambda channels: None
    admit: Callable[[Asker], Awaitable[None]] | None = None  # asked before what is remembered, too

    def read(
        self, text: str, *, asker: Asker, filters: Filters | None = None, unread: Iterable[LimitKind] = ()
    ) -> Worded:
        """Read the limits that a question names; see `appliance.wording.read_words`.

        Parameters
        ----------
        text : str
        asker : Asker
            Only channels they may see, and authors there, have names.
        filters : Filters, optional
            What the asker set themselves; limits of these kinds are left in the words.
        unread : iterable of {'period', 'channel', 'author', 'media'}, optional
            Kinds that the asker does not want read.

        Returns
        -------
        Worded
        """
        seen: list[Channel] = [status.channel for status in self.channels(asker)]
        return read_words(
            clean(text),
            now=self.clock(),
            zone=self.zone,
            channels=seen,
            authors=lambda: self.authors(frozenset(channel.id for channel in seen)),
            unread={*unread, *kinds_given(filters or Filters())},
        )

    def filters(self, worded: Worded, given: Filters | None = None) -> Filters:
        """Turn the limits of a question into filters; what the asker set themselves wins."""
        return filters_of(worded.limits, self.zone, given)

    def answers(self, result: SearchResult) -> bool:
        """Tell whether what was found answers, or is what key words name; inside limits less will do."""
        if result.are_key_words_named:
            return True
        is_within = bool(result.limits) and result.are_limits_held
        return bool(result.found) and result.relevance >= self.answer_above * (WITHIN if is_within else 1.0)

    async def has_posts(self, asker: Asker, filters: Filters) -> bool:
        """Tell whether any post lies inside filters."""
        result = await self.search("посты", asker=asker, filters=filters, limit=1)
        return result.searched.posts > 0

    async def __call__(
        self,
        text: str,
        *,
        asker: Asker,
        filters: Filters,
        limit: int = 10,
        unread: Iterable[LimitKind] = (),
        worded: Worded | None = None,
    ) -> SearchResult:
        """Search inside the limits named in words.

        Sure limits hold unless they leave nothing that answers and the rest of the posts has it; unsure ones («в
        марте») hold where the best post found without them lies inside.

        Parameters
        ----------
        text : str
        asker : Asker
        filters : Filters
            Set by the asker, always kept.
        limit : int, optional
            Posts wanted.
        unread : iterable of {'period', 'channel', 'author', 'media'}, optional
        worded : Worded, optional
            The text as it was read before.

        Returns
        -------
        SearchResult
            With the limits that were read and whether they held; ``query`` is what was searched. Of one found before
            the stage times are ``recall`` and ``search``.

        Raises
        ------
        BadInput, UnknownChannel
            As `appliance.search.search` does.
        """
        began = perf_counter()
        if self.admit is not None:
            await self.admit(asker)
        seen = [status.channel for status in self.channels(asker)]
        today = self.clock().astimezone(self.zone).date()
        unread = frozenset(unread)
        read = unread if worded is None else worded.limits
        place = (self.kept.name(text), frozenset(seen), filters, limit, read, today)
        version = self.version(channel.id for channel in seen)
        if (found := self.kept.get(place, version)) is not None:
            took = (perf_counter() - began) * 1000
            return replace(found, times_ms={"recall": took, "search": took})
        found = await self._found(text, asker=asker, filters=filters, limit=limit, unread=unread, worded=worded)
        if found.is_whole and lies_within(found, seen):
            self.kept.put(place, version, found)
        return found

    async def _found(
        self,
        text: str,
        *,
        asker: Asker,
        filters: Filters,
        limit: int,
        unread: Iterable[LimitKind],
        worded: Worded | None,
    ) -> SearchResult:
        worded = worded or self.read(text, asker=asker, filters=filters, unread=unread)
        if not worded.limits:
            return await self.search(text, asker=asker, filters=filters, limit=limit)
        limits = worded.limits
        if not all(one.is_sure for one in limits):
            sure = tuple(one for one in limits if one.is_sure)
            wide = await self.search(text, asker=asker, filters=filters_of(sure, self.zone, filters), limit=limit)
            unsure = filters_of((one for one in limits if not one.is_sure), self.zone)
            if not wide.found or not inside(wide.found[0], unsure):
                if not sure:
                    return wide
                limits = sure
        rest = worded.text if any(map(str.isalnum, worded.text)) else text
        narrow = await self.search(rest, asker=asker, filters=filters_of(limits, self.zone, filters), limit=limit)
        narrow = replace(narrow, limits=limits)
        if self.answers(narrow):
            return narrow
        everywhere = await self.search(text, asker=asker, filters=filters, limit=limit)
        if self.answers(everywhere) or not narrow.found:
            return replace(everywhere, limits=limits, are_limits_held=False)
        return narrow


def inside(found: FoundPost, filters: Filters) -> bool:
    """Tell whether a found post lies inside filters whose channels are ids."""
    post = found.post
    return (
        (filters.since is None or post.date >= filters.since)
        and (filters.until is None or post.date < filters.until)
        and (filters.channels is None or str(post.channel_id) in filters.channels)
        and (filters.author is None or filters.author.casefold() in (post.author or "").casefold())
        and (filters.media is None or post.media == filters.media)
    )
