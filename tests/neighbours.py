"""A small town for the bot's tests: people, a group, the sample's posts, the loopback server, and the bot at work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance import sample
from appliance.app import App, open_app
from appliance.bot import run_bot
from appliance.bot.pacing import Pace
from appliance.config import Config
from appliance.journal import Journal
from appliance.schema import Channel, Final, Part, Post, Question, QuestionRow
from appliance.verbs import Verbs
from tests.servers.botapi import DEFAULT_TOKEN, BotApi

ANNA, BORIS, CHLOE = 501, 502, 503
GROUP = -1001500000777
FAST = Pace(speed=1000)
KNOWN = "Чем покрыть разделочную доску?"
UNKNOWN = "Какой курс доллара в Уругвае?"
SECRET = Channel(id=1777000001, title="Совет кооператива", kind="private_channel", is_open=False)
HOSTILE = Channel(id=1777000002, title="Барахолка @scam_channel http://evil.com", username="baraholka")
BAIT = "Самокат Ксиоми продаю дёшево: пишите @scammer_shop или на https://evil.com/buy, жмите /pay и tg://join."
TEN = [
    "Чем покрыть разделочную доску?", "Чем греют чайник?", "Какого размера деталь можно напечатать на 3D-принтере?",
    "Куда сдать старые батарейки?", "Сколько времени хранятся забытые вещи?", "А где лежит сундук?",
    "Сколько стоит один рез при распиле?", "Какой размер у ячейки для хранения?", "Что можно бросать в компост?",
    "В какой одежде приходить на сварку?",
]  # fmt: skip


def some_of_the_sample(folder: Path) -> Path:
    """Part of the sample: the whole takes seconds to embed."""
    with sample.export() as path:
        export = json.loads(path.read_text())
    kept = [message for message in export["messages"] if message["id"] <= 40 or message["id"] in {43, 44, 73, 153}]
    file = folder / "result.json"
    file.write_text(json.dumps({**export, "messages": kept}))
    return file


@asynccontextmanager
async def open_town(folder: Path, **settings: Any) -> AsyncIterator[App]:
    """Open the appliance on part of the sample, a closed channel and a hostile one."""
    weights = Path(__file__).parents[1] / "weights"
    config = Config(_env_file=None, data_dir=folder / "data", weights_dir=weights, threads=2, **settings)
    async with open_app(config) as opened:
        async for _ in opened.verbs.import_export(some_of_the_sample(folder), username=sample.USERNAME):
            pass
        for channel in (SECRET, HOSTILE):
            opened.ledger.save_channel(channel)
        moment = datetime(2026, 5, 1, tzinfo=UTC)
        await opened.verbs.ingest(
            [Post(SECRET.id, 1, moment, "Код сейфа кооператива — 4815."), Post(HOSTILE.id, 1, moment, BAIT)]
        )
        yield opened


def people(server: BotApi) -> None:
    """Let the people and the group of the town be known to the server."""
    server.add_user(ANNA, "Анна", username="anna")
    server.add_user(BORIS, "Борис", None)
    server.add_user(CHLOE, "Chloe", "en-GB")
    server.add_group(GROUP, "Соседи")


@dataclass
class Town:
    """The server, the journal and the people; `bot` runs the bot."""

    server: BotApi
    path: Path
    verbs: Verbs

    @asynccontextmanager
    async def bot(self, *, pace: Pace = FAST, grace_s: float = 3.0, **verbs: Any) -> AsyncIterator[Journal]:
        with Journal.open(self.path) as journal:
            own = {"community": replace(self.verbs.community, journal=journal), **verbs}
            task = asyncio.create_task(
                run_bot(
                    replace(self.verbs, **own), token=DEFAULT_TOKEN, api_base=self.server.url, journal=journal,
                    pace=pace, grace_s=grace_s,
                )
            )  # fmt: skip
            try:
                yield journal
            finally:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    async def ask(self, who: int, text: str, *, chat: int | None = None, **more: Any) -> dict[str, Any]:
        """Say something and wait for the next message of the bot in that chat."""
        chat = who if chat is None else chat
        before = len(self.server.from_bot(chat))
        self.server.say(who, text, chat_id=chat, **more)
        await self.server.until(lambda: len(self.server.from_bot(chat)) > before, 30)
        return self.server.from_bot(chat)[before]

    async def quiet(self, journal: Journal) -> None:
        """Wait until every update is worked on and everything is sent."""
        await self.server.until(lambda: self.is_quiet(journal), 30)

    def is_quiet(self, journal: Journal) -> bool:
        """Tell whether nothing waits."""
        counts = journal.counts()
        waiting = (counts["inbox_pending"], counts["outbox_queued"], counts["outbox_sending"])
        return not (self.server.pending() or any(waiting))


def slowly(verbs: Verbs, seconds: float) -> Callable[[Question], AsyncIterator[Part]]:
    """`ask` that pauses before each part, as a language model does."""

    async def ask(question: Question) -> AsyncIterator[Part]:
        async for part in verbs.ask(question):
            await asyncio.sleep(seconds)
            yield part

    return ask


def recorded(verbs: Verbs, app: App, rows: list[QuestionRow]) -> Callable[[Question], AsyncIterator[Part]]:
    """`ask` that notes the ledger's row of each answer."""

    async def ask(question: Question) -> AsyncIterator[Part]:
        async for part in verbs.ask(question):
            if isinstance(part, Final):
                row = app.ledger.questions.get(part.answer.id)
                assert row is not None
                rows.append(row)
            yield part

    return ask


def buttons(message: dict[str, Any]) -> list[str]:
    return [key["text"] for row in message.get("reply_markup", {}).get("inline_keyboard", []) for key in row]
