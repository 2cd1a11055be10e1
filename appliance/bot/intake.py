"""The intake: updates are fetched raw, journalled, acknowledged by the next offset, and only then worked on."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import aiohttp
import structlog
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession

from appliance.bot.lanes import Job, Lanes
from appliance.journal import Journal, Update

log = structlog.get_logger()

POLL_S = 25
PATIENCE_S = 15  # beyond the poll, for a slow network
MOST_WAITING = 1000  # updates in lanes; more wait in the journal, then at Telegram
LONGEST_RETRY_S = 30.0
ASIDE = {"stopped_message_generation"}
CURES = {
    401: "The token is wrong or revoked: take a new one from @BotFather.",
    404: "The token is malformed: take it from @BotFather again.",
    409: "Another program polls with this token, or a webhook is set: stop it.",
}
_UPDATE_ID = re.compile(rb'"update_id"\s*:\s*(\d{1,18})\b')


async def poll(bot: Bot, journal: Journal, arrived: Callable[[], None], wanted: Sequence[str] = ()) -> None:
    """Fetch updates for ever: put them on disk, tell `arrived`, acknowledge them with the next call.

    What cannot be fetched or stored is tried again, unacknowledged; an update that cannot be read is stored as it came
    and quarantined, so that it does not hold up the rest.

    Parameters
    ----------
    bot : Bot
        With an aiohttp session.
    journal : Journal
    arrived : callable
        Called when new updates are on disk.
    wanted : sequence of str, optional
        Kinds of updates; none leaves the choice to Telegram.
    """
    offset = failures = 0
    limit = 100
    while True:
        try:
            status, body = await get_updates(bot, offset, limit, wanted)
            if status != 200:
                raise RefusedError(status, body)
            updates = read_updates(body)
            if updates is None and limit > 1:
                limit = 1  # one by one, to find the one that cannot be read
                continue
            if updates is None:
                updates = await _set_aside(bot, journal, body)
            else:
                limit = 100
            if await asyncio.to_thread(journal.take_in, bot.id, updates):
                arrived()
        except Exception as error:
            failures += 1
            wait_s = backoff_s(failures)
            if isinstance(error, RefusedError):
                wait_s = max(wait_s, error.retry_after_s)
            log.warning(
                "updates not taken in; trying again", why=_why(error), wait_s=round(wait_s, 1), failures=failures
            )
            await asyncio.sleep(wait_s)
            continue
        failures = 0
        # Numbering starts anew after a quiet week: with everything confirmed, ask from wherever it starts.
        offset = max((update_id for update_id, _ in updates), default=-1) + 1


class RefusedError(Exception):
    """The Bot API server refused a call.

    Parameters
    ----------
    status : int
        HTTP status.
    body : bytes
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}. {CURES.get(status, '')}".strip())
        try:
            self.retry_after_s = float(json.loads(body)["parameters"]["retry_after"])
        except (ValueError, KeyError, TypeError):
            self.retry_after_s = 0.0


async def get_updates(bot: Bot, offset: int, limit: int, wanted: Sequence[str] = ()) -> tuple[int, bytes]:
    """Ask for updates, waiting up to `POLL_S` seconds for one.

    Parameters
    ----------
    bot : Bot
    offset : int
        One more than the last update that is on disk; 0 starts at the first unconfirmed one.
    limit : int
        At most this many.
    wanted : sequence of str, optional

    Returns
    -------
    (int, bytes)
        HTTP status and body.
    """
    if not isinstance(bot.session, AiohttpSession):
        raise TypeError("updates are fetched through an aiohttp session")
    client = await bot.session.create_session()
    asked: dict[str, Any] = {"timeout": POLL_S, "limit": limit}
    if wanted:
        asked["allowed_updates"] = list(wanted)
    if offset:
        asked["offset"] = offset
    async with client.post(
        bot.session.api.api_url(token=bot.token, method="getUpdates"),
        json=asked,
        timeout=aiohttp.ClientTimeout(total=POLL_S + PATIENCE_S),
    ) as response:
        return response.status, await response.read()


def read_updates(body: bytes) -> list[tuple[int, bytes]] | None:
    """Take a reply of ``getUpdates`` apart, without looking into the updates.

    Parameters
    ----------
    body : bytes

    Returns
    -------
    list of (update id, raw JSON), or None
        None when it cannot be read, or an update in it has no id.
    """
    try:
        reply = json.loads(body)  # forgiving where orjson is strict: lone surrogates, NaN
        return [(_id_of(update), json.dumps(update).encode("ascii")) for update in reply["result"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _id_of(update: dict[str, Any]) -> int:
    update_id = update["update_id"]
    if type(update_id) is not int or not 0 <= update_id < 2**62:  # true is an int, too
        raise ValueError("not an update id")
    return update_id


def update_id_in(body: bytes) -> int | None:
    """Find an update's id in what cannot be read; None when there is none."""
    found = _UPDATE_ID.search(body)
    return int(found[1]) if found else None


async def _set_aside(bot: Bot, journal: Journal, body: bytes) -> list[tuple[int, bytes]]:
    update_id = update_id_in(body)
    if update_id is None:
        raise ValueError("a reply that holds no update")
    await asyncio.to_thread(journal.take_in, bot.id, [(update_id, body)])
    await asyncio.to_thread(journal.quarantine, (bot.id, update_id), "not JSON")
    log.error("update quarantined", update_id=update_id, why="not JSON")
    return [(update_id, body)]


async def feed(journal: Journal, lanes: Lanes, job: Callable[[Update], Job], arrived: asyncio.Event) -> None:
    """Hand journalled updates to their lanes for ever, those left by an earlier process first.

    Parameters
    ----------
    journal : Journal
    lanes : Lanes
    job : callable
        Makes the work on an update.
    arrived : asyncio.Event
        Set when new updates are on disk.
    """
    after = failures = 0
    while True:
        await lanes.room(MOST_WAITING)
        arrived.clear()
        try:
            updates = await asyncio.to_thread(journal.next_pending, after=after, limit=100)
        except Exception as error:
            failures += 1
            log.error("the journal cannot be read; trying again", why=_why(error), failures=failures)
            await asyncio.sleep(backoff_s(failures))
            continue
        failures = 0
        for update in updates:
            after = update.seq
            lanes.put(lane_of(update.raw), job(update))
        if not updates:
            await arrived.wait()


def lane_of(raw: bytes) -> Hashable:
    """Choose an update's lane: its chat, so that a chat is answered in order; what has no chat goes by its person.

    A press of Stop must not wait behind the answer that it stops.

    Parameters
    ----------
    raw : bytes

    Returns
    -------
    hashable
    """
    try:
        update = json.loads(raw)
        kind, event = next((kind, event) for kind, event in update.items() if isinstance(event, dict))
        if kind in ASIDE:
            return ("stop", int(event["chat"]["id"]))
        if "chat" in event:
            return ("chat", int(event["chat"]["id"]))
        return ("press", int(event["from"]["id"]))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError, OverflowError):
        return "other"


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling from half a second, with jitter."""
    return min(0.5 * 2.0 ** min(failures - 1, 10), LONGEST_RETRY_S) * random.uniform(0.5, 1.0)  # noqa: S311


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, RefusedError) else type(error).__name__  # others may name the token's URL
