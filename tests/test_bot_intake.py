"""The intake: on disk before acknowledged, through faults, poison and kills, with careless ones that must lose."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiogram import Bot
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bot import intake, work
from appliance.bot.intake import lane_of, poll, read_updates
from appliance.bot.lanes import Lanes
from appliance.bot.pacing import Pace, Pacer
from appliance.bot.run import introduce, open_bot
from appliance.bot.work import MOST_BEGUN, MOST_HANDED_OUT
from appliance.errors import StartupError
from appliance.journal import Journal
from appliance.texts import say
from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.botapi_limits import Fault, Limits
from tests.servers.crash import DEADLY

ANNA = 501
ROOT = Path(__file__).parents[1]


@pytest.fixture
async def server() -> AsyncIterator[BotApi]:
    async with BotApi(limits=Limits(speed=1000)) as server:
        server.add_user(ANNA, "Анна")
        yield server


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield journal


@asynccontextmanager
async def polling(server: BotApi, journal: Journal) -> AsyncIterator[asyncio.Event]:
    bot = open_bot(DEFAULT_TOKEN, server.url, Pacer(Pace()))
    arrived = asyncio.Event()
    task = asyncio.create_task(poll(bot, journal, arrived.set))
    try:
        yield arrived
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await close(bot)


async def close(bot: Bot) -> None:
    client: ClientSession = await bot.session.create_session()  # type: ignore[attr-defined]
    await client.close()


def texts(journal: Journal) -> list[str]:
    return [json.loads(update.raw)["message"]["text"] for update in journal.next_pending(limit=1000)]


async def test_updates_are_journalled_in_order_and_acknowledged(server: BotApi, journal: Journal) -> None:
    for number in range(150):
        server.say(ANNA, f"вопрос {number}")
    async with polling(server, journal) as arrived:
        await server.until(lambda: not server.pending())
        assert arrived.is_set()
    assert texts(journal) == [f"вопрос {number}" for number in range(150)]


async def test_faults_of_the_server_lose_nothing(
    server: BotApi, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "backoff_s", lambda failures: 0.01)
    for kind in ("500", "502", "reset", "lost", "timeout", "429"):
        server.faults.append(Fault(kind, methods=("getUpdates",), times=1, hang_s=0.05, retry_after_s=1))  # type: ignore[arg-type]
    async with polling(server, journal):
        for number in range(20):
            server.say(ANNA, f"{number}")
            await asyncio.sleep(0.01)
        await server.until(lambda: not server.pending())
    assert texts(journal) == [str(number) for number in range(20)]
    assert all(fault.times == 0 for fault in server.faults)


async def test_nothing_is_acknowledged_that_cannot_be_stored(
    server: BotApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "backoff_s", lambda failures: 0.01)
    closed = Journal.open(tmp_path / "journal.sqlite")
    closed.close()
    server.say(ANNA, "вопрос")
    async with polling(server, closed):
        await server.until(lambda: sum(method == "getUpdates" for _, method, *_ in server.calls) > 5)
    assert len(server.pending()) == 1


async def test_poison_is_quarantined_and_the_rest_flow_on(server: BotApi, journal: Journal) -> None:
    first = server._next_update_id
    server.say(ANNA, "раз")
    server.push_raw(f'{{"update_id": {first + 1}, "message": {{broken')
    server.push_raw("[" * 100_000 + f'"update_id": {first + 2}')
    server.say(ANNA, "два")
    server.push_raw(f'{{"update_id": {first + 4}, "message": {{"text": "\\ud800"}}}}', first + 4)
    server.say(ANNA, "три")
    async with polling(server, journal):
        await server.until(lambda: not server.pending())
    assert [update.update_id for update in journal.quarantined()] == [first + 2, first + 1]
    assert [json.loads(update.raw)["message"]["text"] for update in journal.next_pending()] == [
        "раз", "два", "\ud800", "три",
    ]  # fmt: skip


async def test_numbers_that_start_anew_are_still_fetched(server: BotApi, journal: Journal) -> None:
    server.say(ANNA, "до")
    async with polling(server, journal):
        await server.until(lambda: not server.pending())
        await asyncio.sleep(0.1)
        server._next_update_id = 5
        server.say(ANNA, "после")
        await server.until(lambda: journal.counts()["inbox_pending"] == 2)
    assert texts(journal) == ["до", "после"]


async def test_a_repeated_update_is_taken_once(server: BotApi, journal: Journal) -> None:
    for _ in range(2):
        server.push({"message": {"text": "раз"}}, update_id=9)
        async with polling(server, journal):
            await server.until(lambda: not server.pending())
    assert journal.counts()["inbox_pending"] == 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ok", "result", "update_id", "message", "chat", "id", "callback_query", "from"]), inner, max_size=4)).map(lambda value: json.dumps(value).encode()))  # fmt: skip  # noqa: E501
def test_any_reply_is_read_or_refused(body: bytes) -> None:
    updates = read_updates(body)
    assert updates is None or all(json.loads(raw)["update_id"] == update_id for update_id, raw in updates)
    hash(lane_of(body))


def test_lanes_are_chats_and_pressers() -> None:
    assert lane_of(b'{"update_id": 1, "message": {"chat": {"id": -5}}}') == ("chat", -5)
    assert lane_of(b'{"update_id": 1, "edited_message": {"chat": {"id": 7}}}') == ("chat", 7)
    assert lane_of(b'{"update_id": 1, "callback_query": {"from": {"id": 7}}}') == ("press", 7)
    assert lane_of(b'{"update_id": 1, "poll": {"id": "7"}}') == "other"


async def test_lanes_keep_order_within_and_run_beside_each_other() -> None:
    lanes, log, together, most = Lanes(4), [], 0, 0
    chance = random.Random(3)

    def job(key: int, number: int) -> Any:
        async def run() -> None:
            nonlocal together, most
            together += 1
            most = max(most, together)
            await asyncio.sleep(chance.random() / 200)
            together -= 1
            log.append((key, number))
            if number == 3:
                raise RuntimeError

        return run

    for number in range(10):
        for key in range(12):
            lanes.put(key, job(key, number))
    await lanes.room(1)
    assert 1 < most <= 4
    for key in range(12):
        assert [number for lane, number in log if lane == key] == list(range(10))
    assert lanes.waiting == 0


async def test_closing_lanes_starts_no_further_job() -> None:
    lanes, ran = Lanes(1), []

    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await may_end.wait()
        ran.append(1)

    for _ in range(5):
        lanes.put("a", slow)
    await begun.wait()
    closing = asyncio.create_task(lanes.close(30))
    await asyncio.sleep(0)
    may_end.set()
    await closing
    assert ran == [1]


async def test_a_refused_or_malformed_token_stops_the_start_with_its_cure(server: BotApi) -> None:
    bot = open_bot("1000001:another-token-altogether-abcdefgh", server.url, Pacer(Pace()))
    with pytest.raises(StartupError, match="@BotFather"):
        await introduce(bot)
    await close(bot)
    with pytest.raises(StartupError, match="malformed"):
        open_bot("nonsense", server.url, Pacer(Pace()))


async def test_the_bot_introduces_itself_when_telegram_comes_back(
    server: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.bot.run.backoff_s", lambda failures: 0.01)
    server.webhook = {"url": "http://127.0.0.1:9/old"}
    server.faults.append(Fault("502", times=3))
    bot = open_bot(DEFAULT_TOKEN, server.url, Pacer(Pace()))
    await introduce(bot)
    await close(bot)
    assert server.webhook is None
    offered = {command["command"] for command in server.commands["ru"]}
    assert offered >= {"find", "help", "start", "privacy", "mydata", "forget"}
    assert server.commands[""] != server.commands["ru"]


@pytest.fixture(scope="module")
def forks() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers.crash"],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        yield process
        process.kill()


@dataclass
class Killer:
    """Starts and kills processes of a kind, while a person goes on asking."""

    forks: subprocess.Popen[str]
    server: BotApi
    journal: Path
    kind: str

    async def start(self) -> int:
        assert self.forks.stdin is not None
        assert self.forks.stdout is not None
        self.forks.stdin.write(f"{self.server.url} {self.journal} {self.kind}\n")
        self.forks.stdin.flush()
        return int(await asyncio.to_thread(self.forks.stdout.readline))

    async def run(self, *, kills: int, said: int, seed: int) -> int:
        """Kill and start again; let the last process run until all is quiet; return how many were never answered."""
        chance, server = random.Random(seed), self.server
        for round_ in range(kills):
            process = await self.start()
            calls = len(server.calls)
            for number in range(said):
                server.say(ANNA, f"{round_}.{number}")
            await server.until(lambda: not server.pending(), 60)  # acknowledged
            if round_ % 2:
                await server.until(lambda since=calls: any(c[1] == "sendMessage" for c in server.calls[since:]), 60)  # type: ignore[misc]
                await asyncio.sleep(chance.random() * 0.2)
            os.kill(process, signal.SIGKILL)
            await server.until(lambda process=process: not is_alive(process))  # type: ignore[misc]
        process = await self.start()
        server.say(ANNA, "конец")  # lanes keep order: once this is answered, nothing before it is left to answer
        await server.until(lambda: any(m["text"] == "конец" for m in server.from_bot(ANNA)), 60)
        await asyncio.sleep(1 if self.kind == "stock" else 0.1)
        os.kill(process, signal.SIGKILL)
        await server.until(lambda: not is_alive(process))
        asked = {message["text"] for message in server.seen(ANNA) if message["from"]["id"] == ANNA}
        return len(asked - {message["text"] for message in server.from_bot(ANNA)})


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def test_kills_lose_no_question(server: BotApi, tmp_path: Path, forks: subprocess.Popen[str]) -> None:
    path = tmp_path / "journal.sqlite"
    assert await Killer(forks, server, path, "careful").run(kills=4, said=6, seed=1) == 0
    with Journal.open(path) as journal:
        counts = journal.counts()
    answers = [message["text"] for message in server.from_bot(ANNA)]
    assert len(answers) - len(set(answers)) <= counts["maybe_twice"]
    assert counts["inbox_pending"] == 0


async def test_an_update_that_ends_the_process_is_put_aside(
    server: BotApi, tmp_path: Path, forks: subprocess.Popen[str]
) -> None:
    path = tmp_path / "journal.sqlite"
    killer = Killer(forks, server, path, "careful")
    server.say(ANNA, DEADLY)
    server.say(ANNA, "после")
    starts = 0

    def texts() -> list[str]:
        return [message["text"] for message in server.from_bot(ANNA)]

    while "после" not in texts():
        process = await killer.start()
        starts += 1
        assert starts < 12
        await server.until(lambda process=process: "после" in texts() or not is_alive(process))  # type: ignore[misc]
    os.kill(process, signal.SIGKILL)
    await server.until(lambda: not is_alive(process))
    assert texts() == [say("error", "ru"), "после"]  # said to whoever sent it
    with Journal.open(path) as journal:
        assert [update.reason for update in journal.quarantined()] == [f"cut off {MOST_BEGUN} times"]


async def test_the_oftener_an_update_was_handed_out_the_longer_a_process_lives_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "CALM_S", 0.05)
    alone = work.Alone()
    for attempts, needed_s in ((MOST_HANDED_OUT + 1, 0.05), (MOST_HANDED_OUT + 3, 0.2), (MOST_HANDED_OUT + 2, 0.1)):
        await alone.calm(attempts)
        assert time.monotonic() - alone.since >= needed_s


@pytest.mark.parametrize("kind", ["hasty", "stock"])
async def test_careless_intakes_lose_questions(
    server: BotApi, tmp_path: Path, kind: str, forks: subprocess.Popen[str]
) -> None:
    assert await Killer(forks, server, tmp_path / "journal.sqlite", kind).run(kills=1, said=10, seed=1) > 0
