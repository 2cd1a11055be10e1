"""Work on one journalled update: handlers make calls, which are queued together with the mark that it is done."""

from __future__ import annotations

import asyncio
import json
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import structlog
from aiogram import Bot, Dispatcher
from aiogram.types import Message
from aiogram.types import Update as TelegramUpdate
from aiogram.types.update import UpdateTypeLookupError
from aiogram.utils.formatting import Text
from pydantic import ValidationError

from appliance.bot.outbox import Outbox
from appliance.bot.outgoing import messages_for
from appliance.journal import Journal, Update
from appliance.texts import language_of_code, say

log = structlog.get_logger()

MOST_HANDED_OUT = 3  # an update that outlived more processes is worked on alone among its kind, and counted
MOST_BEGUN = 5  # cut off alone this often, it is what ends the process
CALM_S = 0.5  # life of a process before such an update is begun; twice as long after each further process


@dataclass(slots=True)
class Alone:
    """The turn of updates that may be what ended earlier processes.

    A process that is killed often would take the blame out on whatever it was working on. So the oftener an update was
    handed out, the longer a process must have lived before it is begun: what ends the process then is the update.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    since: float = field(default_factory=monotonic)  # when this process began

    async def calm(self, attempts: int) -> None:
        """Wait until this process has lived long enough for an update that was handed out so often."""
        needed_s = CALM_S * 2.0 ** min(attempts - MOST_HANDED_OUT - 1, 5)
        await asyncio.sleep(max(0.0, self.since + needed_s - monotonic()))


async def work_on(
    update: Update, *, bot: Bot, dispatcher: Dispatcher, journal: Journal, outbox: Outbox, alone: Alone
) -> None:
    """Answer an update, or quarantine it with the reason.

    Parameters
    ----------
    update : Update
        From the journal, pending.
    bot : Bot
    dispatcher : Dispatcher
        See `appliance.bot.routers.create_dispatcher`.
    journal : Journal
    outbox : Outbox
        Woken when there is something to send.
    alone : Alone
        The turn of an update that may be what ended earlier processes.
    """
    if update.attempts <= MOST_HANDED_OUT:
        await _work(update, bot, dispatcher, journal, outbox)
        return
    await alone.calm(update.attempts)
    async with alone.turn:
        begun = await asyncio.to_thread(journal.begin, update.key)
        if begun > MOST_BEGUN:
            await _quarantine(update, f"cut off {begun - 1} times", journal)
            with suppress(ValueError, RecursionError):
                event = TelegramUpdate.model_validate(json.loads(update.raw), context={"bot": bot})
                await _excuse(event, journal, outbox)
        else:
            await _work(update, bot, dispatcher, journal, outbox)


async def _work(update: Update, bot: Bot, dispatcher: Dispatcher, journal: Journal, outbox: Outbox) -> None:
    if update.bot_id != bot.id:
        await _quarantine(update, "for another bot", journal)
        return
    try:
        event = TelegramUpdate.model_validate(json.loads(update.raw), context={"bot": bot})
        _ = event.event_type
    except (ValueError, RecursionError, UpdateTypeLookupError) as error:
        await _quarantine(update, _unreadable(error), journal)
        return
    try:
        calls = await dispatcher.feed_update(bot, event)
    except Exception as error:
        await _quarantine(update, _where(error), journal)
        await _excuse(event, journal, outbox)
        return
    await asyncio.to_thread(journal.done, [update.key], calls if isinstance(calls, list) else [])
    outbox.wake()


async def _quarantine(update: Update, reason: str, journal: Journal) -> None:
    log.error("update quarantined", update_id=update.update_id, why=reason)
    await asyncio.to_thread(journal.quarantine, update.key, reason)


async def _excuse(event: TelegramUpdate, journal: Journal, outbox: Outbox) -> None:
    """Tell whoever sent an update that it went wrong."""
    message = _message(event)
    if message is not None:
        words = Text(say("error", language_of_code(_language_code(event))))
        await asyncio.to_thread(journal.enqueue, messages_for(message, [words]))
        outbox.wake()


def _unreadable(error: Exception) -> str:
    """Say what is wrong without what was sent."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"unreadable: {'.'.join(map(str, first['loc']))[:80]} {first['type']}"
    return (
        "unreadable: unknown kind"
        if isinstance(error, UpdateTypeLookupError)
        else f"unreadable: {type(error).__name__}"
    )


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return (
        f"{type(error).__name__} at {last.filename.rsplit('/', 1)[-1]}:{last.lineno}" if last else type(error).__name__
    )


def _message(event: TelegramUpdate) -> Message | None:
    if event.callback_query is not None:
        return event.callback_query.message if isinstance(event.callback_query.message, Message) else None
    if event.message is None:
        return None
    return event.message if event.message.chat.type in {"private", "group", "supergroup"} else None


def _language_code(event: TelegramUpdate) -> str | None:
    source: Any = event.callback_query or event.message
    return source.from_user.language_code if source is not None and source.from_user is not None else None
