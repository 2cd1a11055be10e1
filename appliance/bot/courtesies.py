"""Calls that may be lost: typing, drafts, toasts. They give way to answers and never hold anything up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aiogram import Bot
from aiogram.exceptions import AiogramError, TelegramNotFound, TelegramRetryAfter
from aiogram.methods import SendChatAction, SendMessageDraft, TelegramMethod

from appliance.bot.pacing import Pacer
from appliance.bot.render import draft_text
from appliance.schema import Sentence

log = structlog.get_logger()

TIMEOUT_S = 5
TYPING_EVERY_S = 4.5  # Telegram shows it for 5
DRAFT_AFTER_S = 1.0  # a faster answer needs no draft
DRAFT_EVERY_S = 1.2
AT_ONCE = 32


class Courtesies:
    """Makes best-effort calls in the background, when the pacer has room.

    Parameters
    ----------
    bot : Bot
    pacer : Pacer
    """

    def __init__(self, bot: Bot, pacer: Pacer) -> None:
        self._bot = bot
        self._pacer = pacer
        self._tasks: set[asyncio.Task[None]] = set()
        self.has_drafts = True

    def offer(self, method: TelegramMethod[Any], *, counts: bool = False) -> None:
        """Make a call soon, or drop it when Telegram is busy.

        Parameters
        ----------
        method : TelegramMethod
        counts : bool
            Whether it counts against the chat's limit, as a draft does.
        """
        chat_id = getattr(method, "chat_id", None)
        if len(self._tasks) >= AT_ONCE or self._pacer.is_blocked(chat_id):
            return
        if counts:
            if self._pacer.wait_s(chat_id, spare=True) > 0:
                return
            self._pacer.sent(chat_id)
        task = asyncio.create_task(self._call(method, chat_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, method: TelegramMethod[Any], chat_id: int | None) -> None:
        try:
            await self._bot(method, request_timeout=TIMEOUT_S)
        except TelegramRetryAfter as error:
            self._pacer.block(chat_id, error.retry_after)
        except TelegramNotFound:  # an older Bot API server
            self.has_drafts = self.has_drafts and not isinstance(method, SendMessageDraft)
        except AiogramError as error:
            log.debug("courtesy lost", method=method.__api_method__, kind=type(error).__name__)

    async def close(self) -> None:
        """Drop what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def working(
        self, chat_id: int, topic_id: int | None, draft_id: int | None, ready: Sequence[Sentence]
    ) -> AsyncIterator[None]:
        """Show that work goes on while the block runs: typing, and in private chats the answer's draft.

        Parameters
        ----------
        chat_id : int
        topic_id : int or None
        draft_id : int or None
            Not zero; None shows no draft.
        ready : sequence of Sentence
            Grows as the answer does.
        """
        task = asyncio.create_task(self._show(chat_id, topic_id, draft_id, ready))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _show(self, chat_id: int, topic_id: int | None, draft_id: int | None, ready: Sequence[Sentence]) -> None:
        self.offer(SendChatAction(chat_id=chat_id, action="typing", message_thread_id=topic_id))
        shown = -1
        typed = 0.0
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.sleep(DRAFT_AFTER_S)
        while True:
            if draft_id is not None and self.has_drafts and len(ready) != shown:
                shown = len(ready)
                text, entities = draft_text(ready).render()
                draft = SendMessageDraft(
                    chat_id=chat_id,
                    message_thread_id=topic_id,
                    draft_id=draft_id,
                    text=text or None,
                    entities=entities or None,
                )
                self.offer(draft, counts=True)
            if clock() - began - typed >= TYPING_EVERY_S:
                typed = clock() - began
                self.offer(SendChatAction(chat_id=chat_id, action="typing", message_thread_id=topic_id))
            await asyncio.sleep(DRAFT_EVERY_S)
