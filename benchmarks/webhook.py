"""Suite `webhook`: from the bytes Telegram posts to the bytes of the answer, for an answer that is remembered.

Everything in between is real: the HTTP door, the journal's commits to disk (printed apart), the handlers, the paced
sender and its call to a Bot API server on loopback, all in one process with what measures them.
"""

from __future__ import annotations

import asyncio
import tempfile
from importlib import import_module
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import httpx
import numpy as np
import orjson
from pydantic import SecretStr

from appliance import sample
from appliance.app import open_app, open_doors
from appliance.config import Config
from appliance.journal import Journal, Outgoing
from benchmarks.results import ROOT

RATE_PER_S = 20.0  # Telegram takes at most 30 messages a second from a bot: faster questions wait in the pacer
CHATS = 75  # each is written to less than once a second, as Telegram asks
ROUNDS = 4
SECRET = "benchmark_" * 4
QUESTION = "По каким дням поливают чётные грядки?"
FIRST_ID = 880_000_000
PATIENCE_S = 30.0
KEPT = httpx.Limits(keepalive_expiry=2.0)  # the door closes a connection after five quiet seconds


def run() -> dict[str, Any]:
    """Ask one remembered question from many chats at a fixed rate."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder)))


async def measure(folder: Path) -> dict[str, Any]:
    """Return milliseconds from a posted update to the call that answers it, and those of the commits between."""
    servers, limits = import_module("tests.servers.botapi"), import_module("tests.servers.botapi_limits")
    async with servers.BotApi(limits=limits.Limits(speed=1000)) as server:
        config = Config(
            data_dir=folder / "data",
            weights_dir=ROOT / "weights",
            TELEGRAM_BOT_TOKEN=SecretStr(servers.DEFAULT_TOKEN),
            telegram_api=server.url,
            telegram_webhook_url="https://bot.example.org/telegram/webhook",
            telegram_webhook_secret=SecretStr(SECRET),
            _env_file=None,
        )
        async with open_app(config) as app:
            with sample.export() as path:
                async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                    pass
            async with open_doors(app, port=0) as url, httpx.AsyncClient(base_url=url, limits=KEPT) as client:
                while server.webhook is None:  # noqa: ASYNC110 - the bot introduces itself by calls
                    await asyncio.sleep(0.05)
                took = await ask_all(server, client)
    one, many = np.percentile(took, [50, 99])
    commits = commits_ms(folder / "journal.sqlite")
    return {
        "asked": len(took),
        "per_second": RATE_PER_S,
        "p50_ms": float(one),
        "p99_ms": float(many),
        "commits": commits,
        "without_commits_p50_ms": max(0.0, float(one) - sum(commits.values())),
        # A reply in the webhook's own response would wait for the first two commits and make no call.
        "reply_in_response_p50_ms": max(0.0, float(one) - commits["mark_sending"]),
    }


async def ask_all(server: Any, client: httpx.AsyncClient) -> list[float]:
    """Post the question from every chat, round by round; the first round makes everybody known and is not timed."""
    took: list[float] = []
    number = 0
    for turn in range(ROUNDS + 1):
        posted: dict[int, float] = {}
        heard = len(server.calls)
        began = perf_counter()
        posting = []
        for chat in range(CHATS):
            person = 7_000 + chat
            if turn == 0:
                server.add_user(person, "Гость")
                server.messages[person][0] = {"message_id": 0}  # they wrote first
            await asyncio.sleep(max(0.0, began + chat / RATE_PER_S - perf_counter()))
            number += 1
            posted[person] = monotonic()
            posting.append(asyncio.create_task(post(client, number, person)))
        await asyncio.gather(*posting)
        answered = await answers(server, heard, set(posted))
        if turn:
            took += [(answered[person] - at) * 1000 for person, at in posted.items()]
    return took


async def post(client: httpx.AsyncClient, number: int, person: int) -> None:
    """Post one update as Telegram does."""
    user = {"id": person, "is_bot": False, "first_name": "Гость", "language_code": "ru"}
    message = {
        "message_id": number,
        "date": 1_790_000_000,
        "chat": {"id": person, "type": "private", "first_name": "Гость"},
        "from": user,
        "text": QUESTION,
    }
    body = orjson.dumps({"update_id": FIRST_ID + number, "message": message})
    headers = {"X-Telegram-Bot-Api-Secret-Token": SECRET}
    (await client.post("/telegram/webhook", content=body, headers=headers)).raise_for_status()


async def answers(server: Any, heard: int, people: set[int]) -> dict[int, float]:
    """Wait until everybody was written to; returns when, by person."""
    end = monotonic() + PATIENCE_S
    while True:
        found: dict[int, float] = {}
        for at, method, chat, status in server.calls[heard:]:
            if method in {"sendMessage", "sendRichMessage"} and status == 200 and chat is not None:
                found.setdefault(int(chat), at)
        if people <= found.keys():
            return found
        if monotonic() > end:
            raise SystemExit(f"{len(people - found.keys())} of {len(people)} were not answered.")
        await asyncio.sleep(0.05)


def commits_ms(path: Path) -> dict[str, float]:
    """Time the three commits that an answer waits for, on this disk: taken in, done with its call, on its way."""
    with Journal.open(path) as journal:
        times: dict[str, list[float]] = {"take_in": [], "done": [], "mark_sending": []}
        for number in range(1, 101):
            started = perf_counter()
            journal.take_in(1, [(number, b'{"update_id": 1, "message": {"text": "?"}}' * 10)])
            taken = perf_counter()
            call = Outgoing(number, "sendMessage", {"chat_id": number, "text": "Ответ. " * 40}, "final")
            (message,) = journal.done([(1, number)], [call])
            done = perf_counter()
            journal.mark_sending(message)
            sending = perf_counter()
            for name, value in zip(times, (taken - started, done - taken, sending - done), strict=True):
                times[name].append(value * 1000)
    return {name: float(np.percentile(values, 50)) for name, values in times.items()}
