"""Processes to be killed: they take updates in, carefully or not, and answer each with its own text.

Run as ``python -m tests.servers.crash``; each line ``URL JOURNAL KIND`` on standard input forks a process and prints
its id. ``careful`` is the appliance's intake, work and outbox; ``hasty`` acknowledges before it journals; ``stock`` is
aiogram's own polling. ``posted`` takes updates in by a webhook; so does ``careless``, and says yes before it journals.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import uvicorn
from aiogram import Bot, Dispatcher
from aiogram.types import Message
from aiogram.utils.formatting import Text
from fastapi import FastAPI

from appliance.bot import intake, work
from appliance.bot.lanes import Lanes
from appliance.bot.outbox import Outbox
from appliance.bot.outgoing import messages_for
from appliance.bot.pacing import Pace, Pacer
from appliance.bot.run import introduce, open_bot
from appliance.bot.webhook import Webhook
from appliance.bot.work import work_on
from appliance.journal import Journal, Outgoing
from appliance.web.receiving import PATH, receiving
from tests.servers.botapi import DEFAULT_TOKEN

WORK_S = 0.05
LATE_S = 3.0  # between a careless yes and the journal
SECRET = "secret-of-the-loopback-webhook"
LISTENING: list[socket.socket] = []
PACER = Pacer(Pace(speed=1000))
DEADLY = "смертельно"  # ends the process that works on it


async def echo(message: Message) -> list[Outgoing]:
    if message.text == DEADLY:
        os._exit(9)
    await asyncio.sleep(WORK_S)
    return messages_for(message, [Text(message.text or "")])


async def careful(bot: Bot, journal: Journal, hook: Webhook | None = None) -> None:
    outbox, lanes, arrived = Outbox(bot, journal, PACER), Lanes(8), asyncio.Event()
    arrived = hook.arrived if hook else arrived
    dispatcher = Dispatcher(disable_fsm=True)
    dispatcher.message.register(echo)
    work.CALM_S = 0.02
    alone = work.Alone()
    job = partial(partial, work_on, bot=bot, dispatcher=dispatcher, journal=journal, outbox=outbox, alone=alone)
    taking = posting(hook) if hook else intake.poll(bot, journal, arrived.set)
    await asyncio.gather(taking, intake.feed(journal, lanes, job, arrived), outbox.run())


async def posting(hook: Webhook) -> None:
    """Serve the webhook's route."""
    api = FastAPI()
    api.include_router(receiving(hook))
    await uvicorn.Server(uvicorn.Config(api, fd=LISTENING[0].fileno(), log_config=None, lifespan="off")).serve()


async def posted(bot: Bot, journal: Journal) -> None:
    LISTENING.append(listening := socket.create_server(("127.0.0.1", 0)))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}{PATH}"
    hook = Webhook.of(url, SECRET, token=DEFAULT_TOKEN, journal=journal)
    await introduce(bot, hook)
    await careful(bot, journal, hook)


async def careless(bot: Bot, journal: Journal) -> None:
    """Acknowledge what is posted, journal it a moment later."""
    take_in = journal.take_in

    def late(*words: Any) -> int:
        Timer(LATE_S, take_in, words).start()
        return 1

    journal.take_in = late  # type: ignore[method-assign]
    await posted(bot, journal)


async def hasty(bot: Bot, journal: Journal) -> None:
    """Acknowledge as soon as updates are here, journal a moment later: what a crash between loses is lost."""
    get_updates = intake.get_updates

    async def acknowledging(bot: Bot, offset: int, limit: int, wanted: Sequence[str] = ()) -> tuple[int, bytes]:
        status, body = await get_updates(bot, offset, limit, wanted)
        updates = intake.read_updates(body)
        if updates:
            await bot.get_updates(offset=updates[-1][0] + 1, timeout=0, limit=1)
            await asyncio.sleep(WORK_S * 10)
        return status, body

    intake.get_updates = acknowledging
    await careful(bot, journal)


async def stock(bot: Bot, journal: Journal) -> None:
    dispatcher = Dispatcher()

    @dispatcher.message()
    async def answer(message: Message) -> None:
        await asyncio.sleep(WORK_S * 10 * random.random())
        await message.answer(message.text or "")

    await dispatcher.start_polling(bot)


async def main(url: str, path: str, kind: str) -> None:
    bot = open_bot(DEFAULT_TOKEN, url, PACER)
    kinds = {"careful": careful, "hasty": hasty, "stock": stock, "posted": posted, "careless": careless}
    with Journal.open(Path(path)) as journal:
        await kinds[kind](bot, journal)


def serve() -> None:
    """Fork a process for each line: importing aiogram once is quicker than once for each."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)  # its log is no answer to a line
            asyncio.run(main(*line.split()))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
