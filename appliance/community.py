"""What a community adds by itself: answers of trusted members, frequent questions, corrections of answers given."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from appliance import ingest
from appliance.cache import same_words
from appliance.changes import still_says
from appliance.config import Config
from appliance.errors import BadInput, NotAllowed, StoreError
from appliance.journal import Journal
from appliance.ledger import Ledger
from appliance.ledger.community import FaqEntry, MemberAnswer
from appliance.links import parse_link
from appliance.notices import Notice, Notices
from appliance.privacy import Privacy, Receipt
from appliance.schema import MEMBERS_ANSWERS, Asker, Channel, Post, PostKey, QuestionRow
from appliance.text import clean
from models.errors import ModelError

log = structlog.get_logger()

TRUSTED = frozenset({"owner", "admin", "moderator", "trusted"})
DECIDE = frozenset({"owner", "admin"})
QUEUE_DAYS = 90
QUEUE_LOOKED_AT = 2000
CORRECTED_DAYS = 30  # answers older than this are not corrected: their place in the chat is forgotten by then
MOST_TOLD_A_DAY = 3  # corrections a person; the next ones wait a day
SETTLE_S = 60.0  # an author often edits twice
FAQ_DAYS = 90
FAQ_LOOKED_AT = 5000
FAQ_LEAST = 3  # people who asked
FAQ_PROPOSED = 20
MAX_ANSWER_CHARS = 4000
MAX_QUESTION_CHARS = 300
CORPUS_TITLE = "Ответы участников"

_URL = re.compile(r"(?:https?://)?t\.me/[^\s<>\"')]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question that the posts did not answer, with those that ask the same in the same words."""

    question_id: str  # of the newest
    text: str
    asked: int
    asked_at: datetime  # the newest
    language: str
    same: tuple[str, ...] = ()  # ids of all of them


@dataclass(frozen=True, slots=True)
class Community:
    """The stores, and what members may do for each other.

    Attributes
    ----------
    config : Config
    ledger : Ledger
    privacy : Privacy
    journal : Journal
        Knows where answers stand.
    notices : Notices
        What people are told once.
    take : callable
        Takes new or edited posts.
    bot : dict
        ``username`` of the bot, once Telegram told it.
    """

    config: Config
    ledger: Ledger
    privacy: Privacy
    journal: Journal
    notices: Notices
    take: Callable[[list[Post]], Awaitable[int]]
    bot: dict[str, str] = field(default_factory=dict)

    async def places(self, question_id: str) -> list[tuple[int, int]]:
        """Tell where the answer to a question stands, the last part of a long one first."""
        return await asyncio.to_thread(self.journal.places, question_id)

    async def question(self, question_id: str) -> QuestionRow | None:
        """Return a question's row."""
        return await asyncio.to_thread(self.ledger.questions.get, question_id)

    # Questions that wait

    async def queue(self, limit: int = 20) -> list[Waiting]:
        """List what the posts did not answer, the most asked first."""
        return (await asyncio.to_thread(self._queue))[:limit]

    def _queue(self) -> list[Waiting]:
        rows = self.ledger.community.refusals(days=QUEUE_DAYS, limit=QUEUE_LOOKED_AT)
        alike: dict[str, list[QuestionRow]] = {}
        for row in rows:
            if row.text and not row.text.startswith("/"):
                alike.setdefault(same_words(row.text), []).append(row)
        found = [
            Waiting(
                question_id=some[0].id,
                text=some[0].text,
                asked=len(some),
                asked_at=some[0].asked_at,
                language=some[0].language,
                same=tuple(row.id for row in some),
            )
            for some in alike.values()
        ]
        return sorted(found, key=lambda one: (-one.asked, -one.asked_at.timestamp()))

    def _alike(self, question_id: str) -> list[QuestionRow]:
        """Rows of a question and of those in the same words that wait, this one first; empty when it is unknown."""
        row = self.ledger.questions.get(question_id)
        if row is None or row.outcome != "not_found" or not row.text:
            return []
        words = same_words(row.text)
        waiting = self.ledger.community.refusals(days=QUEUE_DAYS, limit=QUEUE_LOOKED_AT)
        return [row, *(one for one in waiting if one.id != row.id and same_words(one.text) == words)]

    async def may_reply(self, user_id: int | None) -> bool:
        """Whether this person is trusted with the queue."""
        return await asyncio.to_thread(self.ledger.access.role, user_id) in TRUSTED

    async def is_looked_at(self) -> bool:
        """Whether anybody is trusted with the queue."""
        return bool(await asyncio.to_thread(self.ledger.community.staff, TRUSTED))

    async def drop(self, question_id: str, *, user_id: int | None = None) -> int:
        """Take a question out of the queue unanswered; returns how many rows that were."""
        rows = await asyncio.to_thread(self._alike, question_id)
        if rows:
            await asyncio.to_thread(self.ledger.community.close, rows, "dropped")
            await self.privacy.act("question.drop", user_id, f"question:{question_id}")
        return len(rows)

    async def reply(
        self, question_id: str, text: str, *, author: str, user_id: int | None = None, source: str = ""
    ) -> MemberAnswer:
        """Take a trusted member's answer: it answers the next asker, and those who asked are told.

        Parameters
        ----------
        question_id : str
        text : str
        author : str
            Name shown with it.
        user_id : int or None
            None for the operator.
        source : str
            Where it came from; the same again is the same answer.

        Returns
        -------
        MemberAnswer

        Raises
        ------
        NotAllowed
            The author is not trusted.
        BadInput
            No such question waits, or no words.
        """
        if user_id is not None and not await self.may_reply(user_id):
            raise NotAllowed("Only trusted members answer.", cure="Ask an admin.")
        said = clean(text).strip()
        if not any(map(str.isalnum, said)) or len(said) > MAX_ANSWER_CHARS:
            code = "answer_too_long" if len(said) > MAX_ANSWER_CHARS else "answer_no_words"
            cure = "Write it anew."
            raise BadInput(f"An answer has words, at most {MAX_ANSWER_CHARS} characters.", cure=cure, code=code)
        rows = await asyncio.to_thread(self._alike, question_id)
        is_new = not await asyncio.to_thread(self.ledger.community.is_closed, question_id)
        if not rows or not (is_new or (source and self.ledger.community.answers(source=source))):
            raise BadInput("No such question waits.", cure="Look at the queue again.", code="question_gone")
        kept, post = await asyncio.to_thread(self._kept, rows[0], said, author, user_id, source)
        await self._search_in(post)
        answer = list(kept.key)
        told = [
            Notice(f"reply:{row.id}", row.user_id, "reply", {"question": row.id, "answer": answer}, datetime.now(UTC))
            for row in rows
            if row.user_id is not None
        ]
        await self.notices.add(told)
        await asyncio.to_thread(self.ledger.community.close, rows, "answered")
        await self.privacy.act("question.answer", user_id, f"question:{question_id}", {"answer": kept.answer_id})
        return kept

    def _kept(
        self, row: QuestionRow, said: str, author: str, user_id: int | None, source: str
    ) -> tuple[MemberAnswer, Post]:
        corpus = self._corpus_of(said)
        kept = self.ledger.community.keep_answer(
            corpus_id=corpus.id,
            user_id=user_id,
            asker_id=row.user_id,
            question_id=row.id,
            text=said,
            source=source,
        )
        self.ledger.save_channel(corpus)
        self.ledger.pool.rename(corpus)
        asked = " ".join(row.text.split())[:MAX_QUESTION_CHARS]
        return kept, _post_of(kept, asked, author)

    def _corpus_of(self, text: str) -> Channel:
        """Return the corpus of an answer: one that points into a closed channel is for that channel's members alone."""
        channels = [status.channel for status in self.ledger.channels()]
        by_name: dict[str | int, Channel] = {one.id: one for one in channels}
        by_name |= {one.username.casefold(): one for one in channels if one.username}
        for link in _URL.findall(text):
            parsed = parse_link(link.rstrip(".,;:!?»"))
            name = parsed and (parsed[0].casefold() if isinstance(parsed[0], str) else parsed[0])
            found = by_name.get(name) if name else None
            if found is not None and not found.is_open:
                title = f"{CORPUS_TITLE}: {found.title}"
                return Channel(MEMBERS_ANSWERS + found.id, title, self.bot.get("username"), "answers", is_open=False)
        return Channel(MEMBERS_ANSWERS, CORPUS_TITLE, self.bot.get("username"), "answers")

    async def _search_in(self, post: Post) -> None:
        """Make a member's answer searchable, now or when the embedder is back."""
        try:
            await self.take([post])
        except (ModelError, StoreError):
            await asyncio.to_thread(partial(ingest.keep, [post], ledger=self.ledger))

    async def may_remove(self, key: PostKey, user_id: int | None) -> bool:
        """Whether this person may remove a member's answer: its author, or one who decides."""
        found = await asyncio.to_thread(partial(self.ledger.community.answers, key=key))
        if not found or user_id is None:
            return False
        role = await asyncio.to_thread(self.ledger.access.role, user_id)
        return found[0].user_id == user_id or role in DECIDE

    async def remove_answer(self, key: PostKey, *, user_id: int | None = None) -> Receipt:
        """Remove a member's answer for good.

        Raises
        ------
        NotAllowed
            Neither its author nor one who decides.
        BadInput
            No such answer.
        """
        if not await asyncio.to_thread(partial(self.ledger.community.answers, key=key)):
            raise BadInput("There is no such answer.", cure="Look at its link.")
        if user_id is not None and not await self.may_remove(key, user_id):
            raise NotAllowed("Only its author or an admin removes an answer.", cure="Ask an admin.")
        receipt = await self.privacy.forget_posts([key])
        await asyncio.to_thread(self.ledger.community.drop_answers, [key])
        await self.privacy.act("answer.remove", user_id, f"answer:{key[1]}", {"receipt": receipt.receipt_id})
        return receipt

    async def know(self, username: str) -> None:
        """Learn the bot's username: links to members' answers lead to it."""
        self.bot["username"] = username
        await asyncio.to_thread(self._name_corpora, username)

    def _name_corpora(self, username: str) -> None:
        for status in self.ledger.channels():
            if status.channel.kind == "answers" and status.channel.username != username:
                self.ledger.pool.rename(replace(status.channel, username=username))

    # Frequent questions

    async def faq(self, *states: str) -> list[FaqEntry]:
        """List frequent questions of these states, approved ones by default."""
        return await asyncio.to_thread(self.ledger.community.faq, *(states or ("approved",)))

    async def mine(self) -> int:
        """Propose the questions that many people ask and that are answered well; returns how many are new."""
        return await asyncio.to_thread(self._mine)

    def _mine(self) -> int:
        open_ones = self.ledger.visible_channels(Asker())
        groups: dict[Any, list[QuestionRow]] = {}
        score: dict[str, int] = {}
        for row, points in self.ledger.community.answered(days=FAQ_DAYS, limit=FAQ_LOOKED_AT):
            if not row.text or row.text.startswith("/") or any(key[0] not in open_ones for key in row.posts):
                continue
            groups.setdefault(same_words(row.text), []).append(row)
            score[row.id] = points
        frequent = []
        for rows in groups.values():
            people = len({row.user_id if row.user_id is not None else row.dialogue_id for row in rows})
            if people >= FAQ_LEAST:
                best = max(rows, key=lambda row: (score[row.id], row.asked_at))
                frequent.append(FaqEntry(min(row.id for row in rows), best.user_id, best.text, people, "proposed"))
        known = {same_words(entry.text) for entry in self.ledger.community.faq("approved", "refused", "proposed")}
        fresh = [entry for entry in frequent if same_words(entry.text) not in known]
        new = self.ledger.community.propose(sorted(fresh, key=lambda one: -one.asked)[:FAQ_PROPOSED])
        if new:
            now = datetime.now(UTC)
            staff = self.ledger.community.staff(DECIDE)
            self.notices.put(
                Notice(f"faq:{now:%Y-%m-%d}:{one}", one, "faq_proposed", {"new": new}, now) for one in staff
            )
        return new

    async def decide_faq(self, question_id: str, state: str, *, user_id: int | None = None) -> bool:
        """Approve or refuse a frequent question; False when there is no such."""
        done = await asyncio.to_thread(self.ledger.community.set_faq, question_id, state)
        if done:
            await self.privacy.act(f"faq.{state}", user_id, f"question:{question_id}")
        return done

    # Corrections

    def edited(self, pairs: Sequence[tuple[Post, Post]]) -> None:
        """Mark the answers that no longer hold after these edits, before they are stored; told once. Blocking.

        Parameters
        ----------
        pairs : sequence of (Post, Post)
            Posts as they were and as they are.
        """
        changed = {old.key: (old.text, new.text) for old, new in pairs if old.text != new.text}
        if not changed:
            return
        rows = self.ledger.community.answers_using(changed, days=CORRECTED_DAYS)
        wrong = [
            row
            for row in rows
            if not all(still_says(row.answer_text, *changed[key]) for key in row.posts if key in changed)
        ]
        self._mark(wrong, "edited")

    def removed(self, keys: Sequence[PostKey]) -> None:
        """Mark the answers that stand on posts about to be removed; told once. Blocking."""
        self._mark(self.ledger.community.answers_using(keys, days=CORRECTED_DAYS), "deleted")

    def _mark(self, rows: Sequence[QuestionRow], kind: str) -> None:
        marked = self.ledger.community.correct(rows, kind)
        now = datetime.now(UTC)
        self.notices.put(
            Notice(
                f"fix:{row.id}",
                row.user_id,
                kind,
                {"question": row.id},
                now + timedelta(seconds=SETTLE_S, days=lately // MOST_TOLD_A_DAY),
            )
            for row, lately in marked
            if row.user_id is not None and row.door == "telegram"
        )
        if marked:
            log.info("answers marked", why=kind, answers=len(marked))

    def erasing(self, user_id: int) -> list[PostKey]:
        """Take a person's words out of members' answers before they are erased; returns the posts to remove. Blocking.

        Their own answers go. Of answers given to them the question's words go: the rest is kept anew under another id.
        """
        community = self.ledger.community
        mine = community.answers(by=user_id)
        keys = [one.key for one in mine]
        for one in community.answers(asked_by=user_id):
            if one.user_id != user_id:
                post = self.ledger.posts([one.key]).get(one.key)
                again = community.keep_answer(
                    corpus_id=one.corpus_id,
                    user_id=one.user_id,
                    asker_id=None,
                    question_id=None,
                    text=one.text,
                    source=f"again:{one.answer_id}",
                )
                fresh = _post_of(again, "", (post and post.author) or "")
                ingest.keep([fresh], ledger=self.ledger)
                keys.append(one.key)
        return keys

    # Figures

    def figures(self) -> dict[str, Any]:
        """Count the queue and the corrections, for the operator. Blocking."""
        return {
            "unanswered": len(self._queue()),
            "faq": len(self.ledger.community.faq("approved")),
            "corrections": self.ledger.community.corrections(),
        }


def _post_of(kept: MemberAnswer, asked: str, author: str) -> Post:
    """Make the post that is searched: the question as its heading, then the answer."""
    return Post(
        channel_id=kept.corpus_id,
        message_id=kept.answer_id,
        date=kept.answered_at,
        text=f"{asked}\n{kept.text}" if asked else kept.text,
        author=author or None,
    )
