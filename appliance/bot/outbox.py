"""The sender: takes messages from the outbox in order, paced, until Telegram has them or refuses them for good."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from aiogram import Bot
from aiogram.exceptions import (
    AiogramError,
    ClientDecodeError,
    TelegramAPIError,
    TelegramBadRequest,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.types import Message
from aiohttp import ClientConnectorError

from appliance.bot.outgoing import call_of
from appliance.bot.pacing import Pacer
from appliance.journal import Journal, Outgoing, Queued

log = structlog.get_logger()

TIMEOUT_S = 20
AT_ONCE = 16
LISTED = 500  # messages looked at in one go
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 60.0
IDLE_S = 30.0  # nothing wakes the sender: look anyway


class Outbox:
    """Sends what the journal's outbox holds. `wake` it after queueing; run it in one task.

    Parameters
    ----------
    bot : Bot
        Tells `pacer` of refusals; see `appliance.bot.run.open_bot`.
    journal : Journal
    pacer : Pacer
    """

    def __init__(self, bot: Bot, journal: Journal, pacer: Pacer) -> None:
        self._bot = bot
        self._journal = journal
        self._pacer = pacer
        self._wake = asyncio.Event()
        self._sending: dict[int, asyncio.Task[None]] = {}  # by chat
        self._is_closing = False

    def wake(self) -> None:
        """Tell the sender that something was queued."""
        self._wake.set()

    async def run(self) -> None:
        """Send until `close`."""
        if self._journal.maybe_twice:
            log.warning(
                "messages that a crash may have sent already go out again", count=len(self._journal.maybe_twice)
            )
        while not self._is_closing:
            self._wake.clear()
            wait_s = await self._send_due()
            if wait_s > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_s, IDLE_S)):
                        await self._wake.wait()

    async def close(self, grace_s: float) -> None:
        """Start no further call, let those under way end; what is not sent stays queued.

        Parameters
        ----------
        grace_s : float
            How long to wait for them.
        """
        self._is_closing = True
        self.wake()
        if self._sending:
            await asyncio.wait(list(self._sending.values()), timeout=grace_s)
        for task in list(self._sending.values()):
            task.cancel()
        await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _send_due(self) -> float:
        """Start what may go now; return the seconds until more may."""
        now = time.time()
        waiting = await asyncio.to_thread(self._journal.due, now + IDLE_S, limit=LISTED)
        soonest = IDLE_S
        for item in waiting:
            if len(self._sending) >= AT_ONCE:
                return IDLE_S  # a call that ends wakes us
            if item.chat_id in self._sending:
                continue
            chat_id = item.chat_id or None
            wait_s = max(item.not_before - now, self._pacer.wait_s(chat_id, spare=item.priority == "draft"))
            if wait_s > 0:
                soonest = min(soonest, wait_s)
                continue
            sent = self._pacer.sent(chat_id)
            task = asyncio.create_task(self._send(item))
            self._sending[item.chat_id] = task
            task.add_done_callback(partial(self._ended, item.chat_id, sent))
        return soonest

    def _ended(self, chat_id: int, sent: float, task: asyncio.Task[None]) -> None:
        del self._sending[chat_id]
        self._pacer.answered(sent)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sender failed", kind=type(error).__name__)
        self.wake()

    async def _send(self, item: Queued) -> None:
        if not await asyncio.to_thread(self._journal.mark_sending, item.id):
            return
        try:
            call = call_of(item.method, item.payload)
        except ValueError as error:
            await self._give_up(item, f"unreadable call: {type(error).__name__}")
            return
        try:
            result = await self._bot(call, request_timeout=TIMEOUT_S)
        except TelegramRetryAfter as error:
            await self._postpone(item, error.retry_after, "retry_after")
        except TelegramMigrateToChat as error:
            await self._give_up(item, error.message)
            moved = {**item.payload, "chat_id": error.migrate_to_chat_id}
            moved.pop("reply_parameters", None)  # message ids start anew there
            again = Outgoing(error.migrate_to_chat_id, item.method, moved, item.priority)
            await asyncio.to_thread(self._journal.enqueue, [again])
        except TelegramBadRequest as error:
            if "message is not modified" in error.message:
                await asyncio.to_thread(self._journal.mark_sent, item.id)
            else:
                await self._give_up(item, error.message)
                if (other := another_way(item)) is not None:
                    await asyncio.to_thread(self._journal.enqueue, [other])
        except (TelegramServerError, TelegramUnauthorizedError) as error:
            await self._postpone(item, _backoff_s(item.attempts), type(error).__name__)
        except ClientDecodeError as error:  # a proxy's page, or a result of a newer Bot API
            if isinstance(error.data, dict) and error.data.get("ok") is True:
                await asyncio.to_thread(self._journal.mark_sent, item.id, _message_id(error.data.get("result")))
            else:
                await self._postpone(item, _backoff_s(item.attempts), "undecodable reply")
        except TelegramNetworkError as error:
            is_lost = not isinstance(error.__cause__, ClientConnectorError)
            if is_lost:
                log.warning("no reply to a call; it is repeated and may have been sent", method=item.method)
            await self._postpone(item, _backoff_s(item.attempts), type(error).__name__, maybe_sent=is_lost)
        except TelegramAPIError as error:
            await self._give_up(item, error.message)
        except AiogramError as error:
            await self._postpone(item, _backoff_s(item.attempts), type(error).__name__)
        else:
            await asyncio.to_thread(self._journal.mark_sent, item.id, _message_id(result))

    async def _postpone(self, item: Queued, seconds: float, reason: str, *, maybe_sent: bool = False) -> None:
        log.info(
            "sending again later", method=item.method, why=reason, wait_s=round(seconds, 1), attempts=item.attempts
        )
        until = time.time() + seconds
        await asyncio.to_thread(self._journal.postpone, item.id, until, reason, maybe_sent=maybe_sent)

    async def _give_up(self, item: Queued, reason: str) -> None:
        log.warning("message refused for good", method=item.method, why=reason)
        await asyncio.to_thread(self._journal.fail, item.id, reason)


def another_way(item: Queued) -> Outgoing | None:
    """Find how else an answer can reach its asker when Telegram refuses the way it was to go.

    Parameters
    ----------
    item : Queued

    Returns
    -------
    Outgoing or None
        What was to be shown to one person in a group goes to their private chat; what was to stand in the place of a
        message that is gone becomes a message.
    """
    whispered = item.payload.get("ephemeral_message_parameters")
    if item.method == "sendMessage" and whispered is not None:
        chat_id = whispered["receiver_user_id"]
        dropped = {"ephemeral_message_parameters", "reply_parameters", "message_thread_id"}
    elif item.method == "editMessageText" and item.dialogue_id is not None:
        chat_id, dropped = item.chat_id, {"message_id"}
    else:
        return None
    payload = {**{key: value for key, value in item.payload.items() if key not in dropped}, "chat_id": chat_id}
    return Outgoing(chat_id, "sendMessage", payload, dialogue_id=item.dialogue_id)


def _message_id(result: Any) -> int | None:
    if isinstance(result, Message):
        return result.message_id
    found = result.get("message_id") if isinstance(result, dict) else None
    return found if isinstance(found, int) else None


def _backoff_s(attempts: int) -> float:
    """Seconds before the next try: doubling, with jitter, so that chats do not return all at once."""
    longest = min(FIRST_RETRY_S * 2.0 ** min(attempts, 10), LONGEST_RETRY_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311
