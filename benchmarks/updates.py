"""Suite `updates`: how many updates a second the bot's whole chain of handlers takes, against bare aiogram.

Messages that need no search: what a group says among itself, stickers, commands nobody knows, edits. Bare aiogram is a
dispatcher of one handler that answers nothing, its state machine off as ours is. Both parse the same bytes. Times are
the process's own, so another program on the machine changes little; rounds of both alternate.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import structlog
from aiogram import Bot, Dispatcher, Router
from aiogram.client.session.base import BaseSession
from aiogram.methods import TelegramMethod
from aiogram.types import Message, Update, User

from appliance.app import App, open_app
from appliance.bot.courtesies import Courtesies
from appliance.bot.outbox import Outbox
from appliance.bot.pacing import Pace, Pacer
from appliance.bot.routers import create_dispatcher
from appliance.bot.work import Alone, work_on
from appliance.config import Config
from appliance.journal import Journal
from benchmarks.results import ROOT

UPDATES = 2_000  # a round
ROUNDS = 7
TAKEN_IN = 100  # updates of one reply of Telegram
PEOPLE, GROUPS = 200, 20
SAID = (
    "всем привет", "кто-нибудь видел рыжего кота?", "завтра субботник, приходите", "ок", "спасибо, разобрались",
    "в третьем подъезде опять нет света", "😂😂😂", "https://example.org/news вот тут писали", "+1", "а где ключи?",
)  # fmt: skip


class Silence(BaseSession):
    """Telegram's end of the wire: takes every call and says yes."""

    async def close(self) -> None:
        """Nothing is open."""

    async def make_request(self, bot: Bot, method: TelegramMethod[Any], timeout: int | None = None) -> Any:  # noqa: ASYNC109
        """Take a call."""
        return True

    async def stream_content(self, *args: Any, **kwargs: Any) -> AsyncGenerator[bytes, None]:
        """No files."""
        yield b""


def updates(count: int, seed: int, first: int = 1) -> list[bytes]:
    """Make updates as Telegram sends them, most of them talk of groups."""
    rng = random.Random(seed)
    return [json.dumps(update(rng, first + number), ensure_ascii=False).encode() for number in range(count)]


def update(rng: random.Random, number: int) -> dict[str, Any]:
    """Make one update that needs no search."""
    person_id = 500_000 + rng.randrange(PEOPLE)
    person = {"id": person_id, "is_bot": False, "first_name": f"П{person_id}", "language_code": "ru"}
    message: dict[str, Any] = {"message_id": number, "date": 1_790_000_000 + number, "from": person}
    dice = rng.random()
    if dice < 0.8:
        place = rng.randrange(GROUPS)
        message["chat"] = {"id": -1_001_500_000_000 - place, "type": "supergroup", "title": f"Соседи {place}"}
        message["text"] = rng.choice(SAID)
        return {"update_id": number, "message": message}
    message["chat"] = {"id": person_id, "type": "private", "first_name": f"П{person_id}"}
    if dice < 0.88:
        sizes = {"width": 512, "height": 512, "is_animated": False, "is_video": False, "type": "regular"}
        message["sticker"] = {"file_id": "f", "file_unique_id": "u", **sizes}
        return {"update_id": number, "message": message}
    if dice < 0.94:
        message["text"] = "/nothing"
        message["entities"] = [{"type": "bot_command", "offset": 0, "length": 8}]
        return {"update_id": number, "message": message}
    return {"update_id": number, "edited_message": {**message, "text": rng.choice(SAID), "edit_date": 1_790_000_001}}


def bare(fsm: bool) -> Dispatcher:
    """Make aiogram's dispatcher with one handler."""
    router = Router()

    async def taken(message: Message) -> list[Any]:
        return []

    router.message.register(taken)
    router.edited_message.register(taken)
    dispatcher = Dispatcher(disable_fsm=not fsm)
    dispatcher.include_router(router)
    return dispatcher


async def fed(dispatcher: Dispatcher, bot: Bot, raws: list[bytes]) -> None:
    """Parse updates and feed them, one after another."""
    for raw in raws:
        await dispatcher.feed_update(bot, Update.model_validate(json.loads(raw), context={"bot": bot}))


async def timed(work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Return processor seconds and seconds by the clock."""
    began, cpu = perf_counter(), process_time()
    await work()
    return process_time() - cpu, perf_counter() - began


async def measure(app: App, folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Measure the chains in turn."""
    bot = Bot("1000001:updates", session=Silence())
    bot._me = User(id=1000001, is_bot=True, first_name="PostFinder", username="postfinder_bot")
    pacer = Pacer(Pace(speed=1000))
    courtesies = Courtesies(bot, pacer)

    async def dialogue_of(chat_id: int, message_id: int) -> str | None:
        return None

    ours = create_dispatcher(app.verbs, courtesies, dialogue_of)
    chains = {"bare": bare(fsm=False), "bare with its state machine": bare(fsm=True), "ours": ours}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in [*chains, "ours with the journal"]}
    with Journal.open(folder / "updates.sqlite") as journal:
        outbox = Outbox(bot, journal, pacer)
        alone = Alone()

        async def journalled(raws: list[bytes]) -> None:
            for start in range(0, len(raws), TAKEN_IN):
                batch = raws[start : start + TAKEN_IN]
                await asyncio.to_thread(journal.take_in, bot.id, [(json.loads(raw)["update_id"], raw) for raw in batch])
                waiting = await asyncio.to_thread(journal.next_pending, limit=TAKEN_IN)
                await asyncio.gather(
                    *(
                        work_on(one, bot=bot, dispatcher=ours, journal=journal, outbox=outbox, alone=alone)
                        for one in waiting
                    )
                )

        for number in range(rounds + 1):
            raws = updates(count, number, 1 + number * count)
            for name, chain in chains.items():
                spent[name].append(await timed(partial(fed, chain, bot, raws)))
            spent["ours with the journal"].append(await timed(partial(journalled, raws)))
    await courtesies.close()
    rates = {name: median(count / cpu for cpu, _ in times[1:]) for name, times in spent.items()}  # the first warms up
    clock = {name: median(count / wall for _, wall in times[1:]) for name, times in spent.items()}
    return {
        "updates": count,
        "rounds": rounds,
        "per_core_s": rates,
        "by_the_clock_s": clock,
        "share_of_bare": rates["ours"] / rates["bare"],
        "share_with_journal": rates["ours with the journal"] / rates["bare"],
        "ours_per_core_s": rates["ours"],
        "journalled_per_core_s": rates["ours with the journal"],
        "middlewares": len(ours.update.outer_middleware) + len(ours.message.outer_middleware),
        "routers": [router.name for router in ours.sub_routers],
    }


def run(count: int = UPDATES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Open the appliance as it is by default and measure."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))

    async def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            config = Config(data_dir=Path(folder) / "data", weights_dir=ROOT / "weights", _env_file=None)
            async with open_app(config) as app:
                return await measure(app, Path(folder), count, rounds)

    return asyncio.run(work())
