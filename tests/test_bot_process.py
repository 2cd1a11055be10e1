"""The appliance as a process: killed with questions under way, started again, stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import sample
from appliance.app import open_app
from appliance.config import Config
from appliance.journal import Journal
from appliance.schema import Channel, Post
from appliance.vault import Vault
from tests.servers.botapi import DEFAULT_TOKEN, BotApi

ROOT = Path(__file__).parents[1]
PEOPLE = (501, 502, 503)
QUESTIONS = ("Чем покрыть разделочную доску?", "Куда сдать старые батарейки?", "Где лежат забытые вещи?", "/help")
POSTS = (
    "Разделочную доску покрываем минеральным маслом: нанести, подождать час, стереть.",
    "Старые батарейки сдают в оранжевый ящик у входа.",
    "Забытые вещи лежат в синем сундуке у стойки 30 дней.",
)


@pytest.fixture
async def data_dir(tmp_path: Path) -> Path:
    config = Config(_env_file=None, data_dir=tmp_path / "data", weights_dir=ROOT / "weights", threads=2)
    channel = Channel(id=1500000001, title="Мастерская", username=sample.USERNAME)
    async with open_app(config) as app:
        app.ledger.save_channel(channel)
        moment = datetime(2026, 5, 1, tzinfo=UTC)
        await app.verbs.ingest([Post(channel.id, number, moment, text) for number, text in enumerate(POSTS, 1)])
    return config.data_dir


@pytest.fixture
async def server() -> AsyncIterator[BotApi]:
    async with BotApi() as server:  # with Telegram's own limits
        for person in PEOPLE:
            server.add_user(person, f"Сосед {person}")
        yield server


def serve(server: BotApi, data_dir: Path) -> subprocess.Popen[bytes]:
    env = {
        **os.environ,
        "TELEGRAM_BOT_TOKEN": DEFAULT_TOKEN,
        "POSTFINDER_TELEGRAM_API": server.url,
        "POSTFINDER_DATA_DIR": str(data_dir),
        "POSTFINDER_WEIGHTS_DIR": str(ROOT / "weights"),
        "POSTFINDER_PORT": "0",
        "POSTFINDER_LOG": "json",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "appliance.cli", "serve"]
    with (data_dir / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=data_dir, env=env, stdout=subprocess.DEVNULL, stderr=log)


async def test_killed_and_started_again_it_answers_everything(server: BotApi, data_dir: Path) -> None:
    process = serve(server, data_dir)
    for question in QUESTIONS:
        for person in PEOPLE:
            server.say(person, question)
    await server.until(lambda: not server.pending(), 60)
    process.send_signal(signal.SIGKILL)  # the moment it acknowledged
    process.wait()
    process = serve(server, data_dir)

    def is_answered() -> bool:
        return all(server.from_bot(person) and "/find @" in server.from_bot(person)[-1]["text"] for person in PEOPLE)

    await server.until(is_answered, 90)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == 0
    keys = Vault.open(data_dir.with_name("data-keys") / "master.key", data_dir)
    with closing(keys), Journal.open(data_dir / "journal.sqlite", keys) as journal:
        counts = journal.counts()
    assert counts["inbox_pending"] == counts["outbox_queued"] == counts["inbox_quarantined"] == 0
    repeats = 0
    for person in PEOPLE:
        answers = [message["text"] for message in server.from_bot(person)]
        distinct = list(dict.fromkeys(answers))
        repeats += len(answers) - len(distinct)
        for text, word in zip(distinct, ("масл", "ящик", "сундук", "Что я умею"), strict=True):
            assert word in text
    assert repeats <= counts["maybe_twice"]
    assert (server.flood.refused, server.flood.violations) == (0, 0)
    logged = (data_dir / "log.txt").read_text()
    assert "Traceback" not in logged
    assert DEFAULT_TOKEN not in logged
    assert not any(question in logged for question in QUESTIONS[:3])
