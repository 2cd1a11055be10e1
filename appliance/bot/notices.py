"""Tells people what they are to be told once: a notice becomes messages of the outbox when it is time, by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import structlog
from aiogram.methods import TelegramMethod

from appliance.bot.alerts import alert_told
from appliance.bot.held import draft_told
from appliance.bot.menus import role_told
from appliance.bot.news import SAID, news_told
from appliance.bot.outgoing import outgoing
from appliance.bot.paying import ended_told
from appliance.journal import Journal, Outgoing
from appliance.notices import Later, Notice
from appliance.verbs import Verbs

log = structlog.get_logger()

LONGEST_WAIT_S = 60.0  # the bell was missed: look anyway
PAUSED_LOOK_S = 5.0  # while answering is paused nothing is told: look again
STALE = {"alert": timedelta(days=3)}  # after that it is no news any more; other kinds are told whenever it is
Teller = Callable[[Notice, Verbs], Awaitable[Sequence[TelegramMethod[Any]]]]

# How each kind is told, with the person's rights of this moment; no calls when there is nothing to tell any more.
TELLERS: dict[str, Teller] = {
    "alert": alert_told,
    "draft": draft_told,
    "plan_ended": ended_told,
    "role": role_told,
    **dict.fromkeys(SAID, news_told),
}


async def tell(verbs: Verbs, journal: Journal) -> None:
    """Hand notices to the sender for ever, each once; while answering is paused they wait.

    A stop between the outbox and the ledger's mark hands a notice over again: the outbox knows its name.

    Parameters
    ----------
    verbs : Verbs
    journal : Journal
    """
    rung, loop = asyncio.Event(), asyncio.get_running_loop()
    verbs.notices.bell = lambda: cast(None, loop.call_soon_threadsafe(rung.set))
    while True:
        rung.clear()
        while verbs.admission.paused is None and (due := await verbs.notices.due(TELLERS)):
            calls: list[Outgoing] = []
            done: list[str] = []
            for notice in due:
                try:
                    calls += await told(notice, verbs)
                except Later as later:
                    await verbs.notices.postpone(notice.id, later.until)
                else:
                    done.append(notice.id)
            if calls:
                await asyncio.to_thread(journal.enqueue, calls)
            await verbs.notices.queued(done)
        wait_s = PAUSED_LOOK_S if verbs.admission.paused is not None else await verbs.notices.wait_s(TELLERS)
        try:
            async with asyncio.timeout(LONGEST_WAIT_S if wait_s is None else min(wait_s, LONGEST_WAIT_S)):
                await rung.wait()
        except TimeoutError:
            continue


async def told(notice: Notice, verbs: Verbs) -> list[Outgoing]:
    """Return a notice's messages, named after it; none when it is stale."""
    if datetime.now(UTC) - notice.not_before > STALE.get(notice.kind, timedelta.max):
        return []
    try:
        calls = await TELLERS[notice.kind](notice, verbs)
    except (KeyError, TypeError, ValueError, IndexError) as error:  # one that cannot be read holds up nobody
        log.error("a notice that cannot be told", kind=notice.kind, why=type(error).__name__)
        return []
    return [
        Outgoing(sent.chat_id, sent.method, sent.payload, once=f"{notice.id}#{place}")
        for place, sent in enumerate(map(outgoing, calls))
    ]
