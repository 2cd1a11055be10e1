"""Remembered answers and searches: what people with the same rights ask again is found once. In RAM; no text of theirs.

Only the same words are the same question. Likeness of embeddings was measured and cannot tell a paraphrase from
another name, number or negation (`benchmarks/LOG.md`).
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

from appliance.schema import Answer, Channel, Citation, Filters, LimitKind, SearchResult
from appliance.text import clean

T = TypeVar("T")
MAX_AGE_S = 3600.0  # what "today" means moves on

_EDGE = re.compile(r"""(?<!\S)["'«“„(\[]+|["'»”)\].,!?…;:]+(?!\S)""")
_POLITE = re.compile(
    r"^(?:(?:здравствуйте|привет|добрый день|добрый вечер|доброе утро|подскажите|скажите|пожалуйста|hello|hi|please)"
    r" )+(?=\S+ \S)"
)


def lies_within(result: SearchResult, channels: Collection[Channel]) -> bool:
    """Tell whether a search looked at no other channels than these.

    A channel that is opened between the look at what an asker may read and the search is in the result. Kept for all
    who may read the same, it would still be told to them when the channel is closed again.

    Parameters
    ----------
    result : SearchResult
    channels : collection of Channel
        What the result is to be kept for.

    Returns
    -------
    bool
    """
    titles = Counter(channel.title for channel in channels)
    return Counter(result.searched.channels) <= titles and all(hit.channel in channels for hit in result.found)


class Kept(Generic[T]):
    """What was made of posts, by who asked what; gone when the posts change or an hour is over. Bounded, thread-safe.

    Parameters
    ----------
    limit : int
        Most kept, the least recently used go first; 0 keeps none.
    clock : callable, optional
        Monotonic seconds.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._secret = token_bytes(16)
        self._kept: OrderedDict[Hashable, tuple[T, Hashable, float]] = OrderedDict()
        self._lock = Lock()

    def name(self, text: str) -> bytes:
        """Name a text without keeping it; nobody else can make the name."""
        return blake2b(text.encode("utf-8", "replace"), digest_size=16, key=self._secret).digest()

    def get(self, place: Hashable, version: Hashable) -> T | None:
        """Recall what was kept.

        Parameters
        ----------
        place : hashable
        version : hashable
            Of the posts now; what was made of another version is dropped.

        Returns
        -------
        object or None
        """
        with self._lock:
            kept = self._kept.get(place)
            if kept is None:
                return None
            value, made_of, at = kept
            if made_of != version or self._clock() - at > MAX_AGE_S:
                del self._kept[place]
                return None
            self._kept.move_to_end(place)
            return value

    def put(self, place: Hashable, version: Hashable, value: T) -> None:
        """Keep something.

        Parameters
        ----------
        place : hashable
        version : hashable
            Of the posts, read before they were looked at.
        value : object
        """
        if not self._limit:
            return
        with self._lock:
            self._kept[place] = value, version, self._clock()
            self._kept.move_to_end(place)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything (posts were removed or erased)."""
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        """Count what is kept."""
        return len(self._kept)


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer with the links first shown for it."""

    answer: Answer  # its query is empty
    links: tuple[Citation, ...]


class Memory:
    """Answers by question, rights and filters; see `Kept`.

    Parameters
    ----------
    limit : int
    clock : callable, optional
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._kept: Kept[Remembered] = Kept(limit, clock=clock)

    def place(
        self, text: str, channels: Iterable[Channel], filters: Filters, unread: Iterable[LimitKind] = ()
    ) -> Hashable:
        """Name a question; equal names mean that one answer serves both.

        Parameters
        ----------
        text : str
            Complete in itself: no follow-up of a dialogue.
        channels : iterable of Channel
            All that the asker may see; a channel that is renamed is another one.
        filters : Filters
        unread : iterable of {'period', 'channel', 'author', 'media'}, optional
            Kinds of limits not read from the words.

        Returns
        -------
        hashable
        """
        digest = self._kept.name(same_words(text))
        return digest, frozenset(channels), filters, frozenset(unread)

    def get(self, place: Hashable, version: Hashable) -> Remembered | None:
        """Recall an answer.

        Parameters
        ----------
        place : hashable
            From `place`.
        version : hashable
            Of the posts now; an answer made of another version is dropped.

        Returns
        -------
        Remembered or None
        """
        return self._kept.get(place, version)

    def put(
        self, place: Hashable, version: Hashable, *, query: str, answer: Answer, links: tuple[Citation, ...]
    ) -> None:
        """Remember an answer.

        Parameters
        ----------
        place : hashable
        version : hashable
            Of the posts, read before they were searched.
        query : str
            The question, never kept.
        answer : Answer
            Kept without its question.
        links : tuple of Citation
            As first shown.
        """
        if answer.note or answer.query != query or answer.limits:
            return  # a model that was down may be up again; a rewritten question is not complete in itself; days go by
        bare = Answer(
            id="",
            dialogue_id="",
            outcome=answer.outcome,
            sentences=answer.sentences,
            citations=answer.citations,
            searched=answer.searched,
            language=answer.language,
            model=answer.model,
            query="",
            relevance=answer.relevance,
        )
        self._kept.put(place, version, Remembered(bare, links))

    def clear(self) -> None:
        """Forget everything (posts were removed or erased)."""
        self._kept.clear()

    def __len__(self) -> int:
        """Count answers kept."""
        return len(self._kept)


def same_words(text: str) -> str:
    """Fold what does not change a question: case, ё, marks at the edges of words, a greeting before it.

    Word forms, their order, signs and numbers stay: each can make another question.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        ``same_words(same_words(x)) == same_words(x)``.
    """
    folded = clean(text).casefold().replace("ё", "е")
    while True:
        bare = _POLITE.sub("", " ".join(_EDGE.sub("", folded).split()))
        if bare == folded:
            return bare
        folded = bare
