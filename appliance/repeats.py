"""Repeated questions in a group: recognised when an earlier one and search agree, answered by pointing at the post.

Likeness of embeddings cannot tell a paraphrase from another name, number or negation (`benchmarks/LOG.md`), so it never
decides alone: search must be sure of a post, and the earlier question must have been answered by that very post.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Any, Literal

import numpy as np

from appliance.answer import LINKS, cite, newest_first
from appliance.errors import BadInput
from appliance.ledger import Ledger
from appliance.ledger.community import GroupQuestion
from appliance.schema import Asker, Citation, Filters, PostKey, SearchResult
from appliance.text import clean
from models.ports import Embedder, Vectors

Mode = Literal["off", "count", "on"]
MODES: tuple[Mode, ...] = ("off", "count", "on")
SETTING = "repeats"
ALIKE_ABOVE = 0.88  # cosine of an earlier question; `postfinder bench repeats` judges both
SURE_ABOVE = 0.50  # probability that the found posts answer: less, and the bot itself would say that it found nothing
AGREE_WITHIN = 2  # found posts among which the earlier question's must be
MOST_EARLIER = 500  # questions of a group, and answered ones of everybody, that are compared
EARLIER_DAYS = 180
FRESH_S = 600.0  # after this the earlier questions are read anew
GROUPS_KEPT = 64
FEWEST_WORDS, MOST_WORDS = 2, 40

_ASKS = re.compile(
    r"^(?:а |и |ну |ребят\w*,? |народ,? |подскажите,? |скажите,? |пожалуйста,? |кто знает,? )*"
    r"(?:кто|что|где|куда|откуда|когда|как|какой|какая|какие|какое|каком|каких|чем|сколько|почём|почем|почему|зачем|"
    r"можно|есть ли|нужно ли|надо ли|работает ли|во сколько|до скольки|"
    r"who|what|where|when|how|which|why|can i|is there|are there|do you|does)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Pointer:
    """An earlier question, and the post that answers it and this one.

    Attributes
    ----------
    repeat_of : int
        Message id of the earlier question in this group; 0 for one asked of the bot.
    citations : tuple of Citation
    is_told : bool
        Whether to say so, or only to count it.
    """

    repeat_of: int
    citations: tuple[Citation, ...]
    is_told: bool


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What is compared with: no words, in RAM alone."""

    message_id: int  # 0 for one asked of the bot
    posts: frozenset[PostKey]
    vector: Vectors


@dataclass(slots=True)
class _Heard:
    read_at: float
    earlier: list[_Earlier] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Repeats:
    """The stores, and what was asked before.

    Attributes
    ----------
    ledger : Ledger
    search : callable
        `appliance.search.search` with its stores bound.
    embedder : callable
        Returns the one in service.
    """

    ledger: Ledger
    search: Callable[..., Awaitable[SearchResult]]
    embedder: Callable[[], Embedder]
    _heard: OrderedDict[int, _Heard] = field(default_factory=OrderedDict)
    _guard: Lock = field(default_factory=Lock)

    def mode(self, chat_id: int, topic_id: int | None = None) -> Mode:
        """Return what a group, or a topic of it, is set to; off unless somebody turned it on."""
        stored = self.ledger.chats.get(chat_id, topic_id, SETTING)
        mode = stored.get("mode") if isinstance(stored, dict) else None
        return mode if mode in MODES else "off"

    async def set_mode(self, chat_id: int, topic_id: int | None, mode: Mode, *, user_id: int | None = None) -> None:
        """Turn it on, to counting alone, or off.

        Parameters
        ----------
        chat_id : int
        topic_id : int or None
            None for the whole group.
        mode : {'off', 'count', 'on'}
        user_id : int, optional
            Who does.
        """
        stored = self.ledger.chats.get(chat_id, topic_id, SETTING) or {}
        since = stored.get("since") if stored.get("mode") == mode else None
        value = {"mode": mode, "since": since or datetime.now(UTC).isoformat(timespec="seconds")}
        await asyncio.to_thread(self.ledger.chats.set, chat_id, topic_id, SETTING, value)
        subject = f"chat:{chat_id}/{topic_id or 0}"
        await asyncio.to_thread(
            self.ledger.access.record, "chat.repeats", actor_id=user_id, subject=subject, detail={"to": mode}
        )

    async def move(self, chat_id: int, new_id: int) -> None:
        """Carry a group's settings over to the supergroup it became."""
        if any(chat == chat_id for chat, _ in self.ledger.chats.of(SETTING)):
            await asyncio.to_thread(self.ledger.chats.move, chat_id, new_id)

    async def look(
        self,
        text: str,
        *,
        asker: Asker,
        chat_id: int,
        message_id: int,
        asked_at: datetime,
        topic_id: int | None = None,
    ) -> Pointer | None:
        """Hear a message of a group: keep it where it is a question, and tell whether it repeats one.

        Parameters
        ----------
        text : str
        asker : Asker
            Registered; only open channels are theirs here.
        chat_id, message_id : int
        asked_at : datetime
        topic_id : int, optional

        Returns
        -------
        Pointer or None
            None where it is no question, is new, or search is not sure.
        """
        mode = self.mode(chat_id, topic_id)
        if mode == "off" or asker.user_id is None or not is_question(text):
            return None
        try:
            result = await self.search(text, asker=Asker(), filters=Filters())
        except BadInput:
            return None
        asked = GroupQuestion(chat_id, message_id, asker.user_id, asked_at, clean(text), None)
        return await asyncio.to_thread(self._judge, asked, result, mode)

    def _judge(self, asked: GroupQuestion, result: SearchResult, mode: Mode) -> Pointer | None:
        vector = self.embedder().embed_queries([asked.text])[0]
        heard = self._earlier(asked.chat_id)
        is_sure = bool(result.found) and result.relevance >= SURE_ABOVE
        found = result.found[:AGREE_WITHIN] if is_sure else ()
        others = [one for one in heard.earlier if not one.message_id or one.message_id != asked.message_id]
        agreed = repeated([hit.post.key for hit in found], vector, others)
        post = newest_first(result.found[:LINKS])[0].post.key if is_sure else None  # the one an answer begins with
        repeat_of = agreed[0].message_id if agreed else None
        is_told = agreed is not None and mode == "on"
        kept = GroupQuestion(
            asked.chat_id, asked.message_id, asked.user_id, asked.asked_at, asked.text, post, repeat_of, is_told
        )
        if self.ledger.community.keep_group_question(kept) and post is not None:
            with self._guard:
                heard.earlier.append(_Earlier(asked.message_id, frozenset({post}), vector))
                del heard.earlier[: -2 * MOST_EARLIER]
        if agreed is None:
            return None
        cited = cite([hit for hit in found if hit.post.key == agreed[1]])
        return Pointer(agreed[0].message_id, cited, is_told)

    def _earlier(self, chat_id: int) -> _Heard:
        """Return what was asked before in a group and of the bot, read anew when it is old. Blocking."""
        now = monotonic()
        with self._guard:
            heard = self._heard.get(chat_id)
            if heard is not None and now - heard.read_at < FRESH_S:
                self._heard.move_to_end(chat_id)
                return heard
        said: list[tuple[int, frozenset[PostKey], str]] = []
        open_ones = self.ledger.visible_channels(Asker())
        for row, _ in self.ledger.community.answered(days=EARLIER_DAYS, limit=MOST_EARLIER):
            posts = frozenset(key for key in row.posts[:1] if key[0] in open_ones)
            if posts and row.query and not row.query.startswith("/"):
                said.append((0, posts, row.query))
        said += [
            (one.message_id, frozenset({one.post}), one.text)
            for one in self.ledger.community.group_questions(chat_id, MOST_EARLIER)
            if one.post is not None and one.post[0] in open_ones and one.text
        ]
        vectors = self.embedder().embed_queries([text for *_, text in said]) if said else np.empty((0, 0), np.float32)
        fresh = _Heard(now, [_Earlier(*one[:2], vector) for one, vector in zip(said, vectors, strict=True)])
        with self._guard:
            self._heard[chat_id] = fresh
            while len(self._heard) > GROUPS_KEPT:
                self._heard.popitem(last=False)
        return fresh

    def forget(self) -> None:
        """Drop what is held in RAM: somebody was erased, posts were removed."""
        with self._guard:
            self._heard.clear()

    def figures(self) -> list[dict[str, Any]]:
        """Count repeats in every group, before it was turned on (while only counting) and after. Blocking."""
        settings = {chat: value for (chat, _), value in self.ledger.chats.of(SETTING).items()}
        found = []
        for chat_id, asked in self.ledger.community.repeats().items():
            value = settings.get(chat_id) or {}
            since = datetime.fromisoformat(value["since"]) if value.get("mode") == "on" else None
            parts = {"before": [one for one in asked if since is None or one[0] < since]}
            parts["after"] = [one for one in asked if since is not None and one[0] >= since]
            found.append(
                {
                    "chat_id": chat_id,
                    "mode": value.get("mode", "off"),
                    "since": value.get("since"),
                    **{name: _counted(some) for name, some in parts.items()},
                }
            )
        return found


def _counted(asked: Sequence[tuple[datetime, bool, bool]]) -> dict[str, float]:
    days = max(1.0, (asked[-1][0] - asked[0][0]) / timedelta(days=1)) if asked else 1.0
    repeats = sum(is_repeat for _, is_repeat, _ in asked)
    return {
        "questions": len(asked),
        "repeats": repeats,
        "told": sum(is_told for *_, is_told in asked),
        "repeats_a_day": round(repeats / days, 2),
    }


def repeated(
    found: Sequence[PostKey], vector: Vectors, earlier: Sequence[_Earlier], *, above: float | None = None
) -> tuple[_Earlier, PostKey] | None:
    """Pick the earlier question that is most alike among those whose post search found again.

    Parameters
    ----------
    found : sequence of PostKey
        Posts that search is sure of, best first.
    vector : numpy.ndarray
        Of the question now, a unit row.
    earlier : sequence
        What was asked before.
    above : float, optional
        Least cosine.

    Returns
    -------
    (earlier question, PostKey), or None
    """
    least = ALIKE_ABOVE if above is None else above
    both = [one for one in earlier if not one.posts.isdisjoint(found)] if found else []
    if not both:
        return None
    likeness = np.stack([one.vector for one in both]) @ vector
    best = int(likeness.argmax())
    if likeness[best] < least:
        return None
    return both[best], next(key for key in found if key in both[best].posts)


def is_question(text: str) -> bool:
    """Tell whether a message of a group asks something that posts could answer."""
    flat = " ".join(clean(text).split())
    if not FEWEST_WORDS <= len(_WORD.findall(flat)) <= MOST_WORDS:
        return False
    return "?" in flat or _ASKS.match(flat) is not None
