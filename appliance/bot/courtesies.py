"""Calls that may be lost: typing, drafts, toasts. They give way to answers and never hold anything up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog
from aiogram import Bot
from aiogram.exceptions import AiogramError, TelegramNotFound
from aiogram.methods import EditMessageText, SendChatAction, SendMessage, SendMessageDraft, TelegramMethod
from aiogram.types import Message, ReplyParameters

from appliance.bot.pacing import Pacer
from appliance.bot.patience import TRY_S, patiently
from appliance.bot.render import draft_text
from appliance.schema import Language, Sentence
from appliance.texts import say

log = structlog.get_logger()

TIMEOUT_S = 5
TYPING_AFTER_S = 0.2  # a faster answer needs none, and would wait for its call
TYPING_EVERY_S = 4.5  # Telegram shows it for 5
DRAFT_AFTER_S = 1.0  # a faster answer needs no draft
DRAFT_EVERY_S = 1.2
DRAFT_LIVES_S = 20.0  # Telegram shows it for 30
STAND_AFTER_S = 3.0  # a faster answer needs no message that stands for it
STAND_EVERY_S = 3.5  # between edits in a group
SETTLE_S = 1.0  # for calls under way, before the answer goes out
AT_ONCE = 32

T = TypeVar("T")
Shown = Callable[[int, int | None], Awaitable[int | None]]


async def _nowhere(update_id: int, message_id: int | None) -> int | None:
    return message_id


class Courtesies:
    """Makes best-effort calls in the background, when the pacer has room.

    Parameters
    ----------
    bot : Bot
    pacer : Pacer
    shown : callable, optional
        Notes durably, or tells, which message stands for the answer to an update; see `appliance.journal.Journal.show`.
    """

    def __init__(self, bot: Bot, pacer: Pacer, shown: Shown = _nowhere) -> None:
        self._bot = bot
        self._pacer = pacer
        self._shown = shown
        self._tasks: dict[asyncio.Task[None], int | None] = {}  # with the chat of each
        self._stops: dict[tuple[int, int], asyncio.Event] = {}  # of answers under way: by chat and draft
        self._placing: dict[int, asyncio.Task[int | None]] = {}  # messages that are to stand for answers, by update
        self.has_drafts = True

    def offer(self, method: TelegramMethod[Any], *, counts: bool = False, within_s: float = 0.0) -> bool:
        """Make a call soon, or drop it when Telegram is busy.

        Parameters
        ----------
        method : TelegramMethod
        counts : bool
            Whether it counts against the chat's limit, as a draft does.
        within_s : float
            For how long to make it again while Telegram is busy or away, where somebody waits for it.

        Returns
        -------
        bool
            False when it was dropped.
        """
        chat_id = getattr(method, "chat_id", None)
        if len(self._tasks) >= AT_ONCE or (within_s <= 0 and self._pacer.is_blocked(chat_id)):
            return False
        if counts and self._pacer.wait_s(chat_id, spare=True) > 0:
            return False
        sent = self._pacer.sent(chat_id) if counts else None
        call = self._call(method) if within_s <= 0 else self._insist(method, within_s)
        task = asyncio.create_task(call)
        self._tasks[task] = chat_id
        task.add_done_callback(self._tasks.pop)
        if sent is not None:
            task.add_done_callback(lambda _: self._pacer.answered(sent))
        return True

    async def _call(self, method: TelegramMethod[Any]) -> None:
        try:
            await self._bot(method, request_timeout=TIMEOUT_S)
        except TelegramNotFound:  # an older Bot API server
            self.has_drafts = self.has_drafts and not isinstance(method, SendMessageDraft)
        except AiogramError as error:
            log.debug("courtesy lost", method=method.__api_method__, kind=type(error).__name__)

    async def _insist(self, method: TelegramMethod[Any], within_s: float) -> None:
        if await self.insist(method, within_s) is None:
            log.debug("courtesy lost", method=method.__api_method__, kind="no answer in time")

    async def insist(self, method: TelegramMethod[T], within_s: float, *, try_s: float = TRY_S) -> T | None:
        """Make a call that may not lie in the outbox: when the pacer has room, and again until it is done.

        Parameters
        ----------
        method : TelegramMethod
            Harmless when made twice. A message counts against its chat's limit.
        within_s : float
        try_s : float, optional
            The longest that one try may take.

        Returns
        -------
        object or None
            The result; None when time was up or Telegram refused for good.
        """
        clock = asyncio.get_running_loop().time
        ends = clock() + within_s
        chat_id = getattr(method, "chat_id", None)
        while (wait_s := self._pacer.wait_s(chat_id)) > 0:
            if clock() + wait_s >= ends:
                return None
            await asyncio.sleep(wait_s)
        sent = self._pacer.sent(chat_id) if method.__api_method__.startswith("send") else None
        try:
            return await patiently(self._bot, method, ends - clock(), try_s=try_s)
        finally:
            if sent is not None:
                self._pacer.answered(sent)

    async def close(self) -> None:
        """Drop what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self, chat_id: int, draft_id: int) -> bool:
        """Write no more of the answer that a draft shows; False when it is over already."""
        stop = self._stops.get((chat_id, draft_id))
        if stop is not None:
            stop.set()
        return stop is not None

    @asynccontextmanager
    async def working(
        self, message: Message, update_id: int, ready: Sequence[Sentence], language: Language, stop: asyncio.Event
    ) -> AsyncIterator[None]:
        """Show that work goes on while the block runs: typing; in private chats the answer's draft with a Stop button.

        In groups a slow answer gets a message that stands for it and is edited as it grows; `standing` tells its id.

        Parameters
        ----------
        message : Message
            Where the answer goes.
        update_id : int
            Names the draft.
        ready : sequence of Sentence
            Grows as the answer does.
        language : {'ru', 'en'}
        stop : asyncio.Event
            Set when the asker presses Stop.
        """
        chat_id, draft_id = message.chat.id, draft_of(update_id)
        if message.chat.type == "private":
            self._stops[chat_id, draft_id] = stop
            showing = self._draft(message, draft_id, ready)
        else:
            showing = self._stand(message, update_id, ready, language)
        task = asyncio.create_task(showing)
        try:
            yield
        finally:
            self._stops.pop((chat_id, draft_id), None)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if (placing := self._placing.pop(update_id, None)) is not None:
                await asyncio.wait({placing}, timeout=TIMEOUT_S + SETTLE_S)
            if late := [call for call, chat in self._tasks.items() if chat == chat_id]:
                await asyncio.wait(late, timeout=SETTLE_S)  # a draft must not appear after its answer

    async def standing(self, update_id: int) -> int | None:
        """Return the message that stands for the answer to an update; None when there is none."""
        return await self._shown(update_id, None)

    def _typing(self, message: Message) -> None:
        self.offer(SendChatAction(chat_id=message.chat.id, action="typing", message_thread_id=topic_of(message)))

    async def _draft(self, message: Message, draft_id: int, ready: Sequence[Sentence]) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(TYPING_AFTER_S)
        self._typing(message)
        typed, drafted, shown = clock(), 0.0, -1
        await asyncio.sleep(DRAFT_AFTER_S - TYPING_AFTER_S)
        while True:
            if self.has_drafts and (len(ready) != shown or clock() - drafted >= DRAFT_LIVES_S):
                text, entities = draft_text(ready).render()
                draft = SendMessageDraft(
                    chat_id=message.chat.id,
                    message_thread_id=topic_of(message),
                    draft_id=draft_id,
                    text=text or None,  # none reads "Thinking…"
                    entities=entities or None,
                    can_stop=True,
                )
                if self.offer(draft, counts=True):
                    shown, drafted = len(ready), clock()
            if clock() - typed >= TYPING_EVERY_S:
                typed = clock()
                self._typing(message)
            await asyncio.sleep(DRAFT_EVERY_S)

    async def _stand(self, message: Message, update_id: int, ready: Sequence[Sentence], language: Language) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(TYPING_AFTER_S)
        self._typing(message)
        typed, shown = clock(), 0
        standing = await self._shown(update_id, None)
        await asyncio.sleep(STAND_AFTER_S - TYPING_AFTER_S)
        while True:
            if standing is None:
                # Not given up half-way: what was sent must be known, so that the answer takes its place.
                self._placing[update_id] = asyncio.create_task(self._place(message, update_id, language))
                standing = await asyncio.shield(self._placing[update_id])
            elif len(ready) != shown:
                text, entities = draft_text(ready).render()
                edit = EditMessageText(
                    chat_id=message.chat.id, message_id=standing, text=text, entities=entities or None
                )
                if self.offer(edit, counts=True):
                    shown = len(ready)
            if clock() - typed >= TYPING_EVERY_S:
                typed = clock()
                self._typing(message)
            await asyncio.sleep(STAND_EVERY_S)

    async def _place(self, message: Message, update_id: int, language: Language) -> int | None:
        chat_id = message.chat.id
        if self._pacer.is_blocked(chat_id) or self._pacer.wait_s(chat_id, spare=True) > 0:
            return None
        sent = self._pacer.sent(chat_id)
        call = SendMessage(
            chat_id=chat_id,
            message_thread_id=topic_of(message),
            text=say("working", language),
            reply_parameters=ReplyParameters(message_id=message.message_id, allow_sending_without_reply=True),
        )
        try:
            placed = await self._bot(call, request_timeout=TIMEOUT_S)
        except AiogramError as error:
            log.debug("courtesy lost", method=call.__api_method__, kind=type(error).__name__)
            return None
        finally:
            self._pacer.answered(sent)
        return await self._shown(update_id, placed.message_id)


def topic_of(message: Message) -> int | None:
    """Return the topic a message stands in."""
    return message.message_thread_id if message.is_topic_message else None


def draft_of(update_id: int) -> int:
    """Name the draft of the answer to an update; Telegram takes no zero."""
    return update_id % 2**31 or 1
