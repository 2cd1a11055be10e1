"""The appliance as its operator runs it: its own process in its own environment, asked over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from appliance import sample
from tests.servers.botapi import DEFAULT_TOKEN, BotApi

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"  # the appliance has no torch: its own environment
DEADLINE_S = 120.0  # tokens take seconds on a busy machine


@asynccontextmanager
async def serving(folder: Path, *, bot: BotApi | None = None, **settings: object) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP API of a running appliance that holds the sample channel."""
    env = os.environ | {
        "POSTFINDER_DATA_DIR": str(folder / "data"),
        "POSTFINDER_WEIGHTS_DIR": str(ROOT / "weights"),
        "POSTFINDER_ANSWER_DEADLINE_S": str(DEADLINE_S),
        "POSTFINDER_BACKUP_EVERY_HOURS": "0",
        "POSTFINDER_PORT": "0",
        "POSTFINDER_LOG": "json",
        "PYTHONPATH": str(ROOT),
    }
    if bot is not None:
        env |= {"TELEGRAM_BOT_TOKEN": DEFAULT_TOKEN, "POSTFINDER_TELEGRAM_API": bot.url}
    env |= {f"POSTFINDER_{name.upper()}": str(value) for name, value in settings.items()}
    command = [str(PYTHON), "-m", "appliance.cli"]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen([*command, "serve"], cwd=folder, env=env, stdout=log, stderr=log)  # noqa: ASYNC220
    try:
        at = folder / "data" / "serving.json"
        async with asyncio.timeout(600):
            while not at.exists():
                assert process.poll() is None, (folder / "log.txt").read_text()
                await asyncio.sleep(0.2)
        with sample.export() as path:
            imported = [*command, "import", str(path), "--username", sample.USERNAME]
            run = await asyncio.to_thread(subprocess.run, imported, cwd=folder, env=env, capture_output=True)
            assert run.returncode == 0, (run.stdout + run.stderr).decode()
        url = json.loads(at.read_text())["url"]
        async with httpx.AsyncClient(base_url=url, timeout=2 * DEADLINE_S, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 30)
        process.kill()


async def asked(page: httpx.AsyncClient, question: str) -> tuple[list[tuple[str, float]], dict[str, Any]]:
    """Ask as the page does; returns the events' names with the seconds they came at, and the last one's data."""
    events, answer, started = [], "", time.perf_counter()
    async with page.stream("POST", "/ask", json={"question": question}, headers={"Accept": "text/event-stream"}) as got:
        assert got.status_code == 200
        async for line in got.aiter_lines():
            if line.startswith("event: "):
                events.append((line[7:], time.perf_counter() - started))
            elif line.startswith("data: "):
                answer = line[6:]
    return events, json.loads(answer)
