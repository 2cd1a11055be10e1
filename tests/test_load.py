"""The load's own parts: the lean sender, what it counts, and capacity."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from benchmarks.capacity import carried, members_of, memory_gb
from benchmarks.load.__main__ import misses, seconds
from benchmarks.results import SHARED

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the load's questions are in the shared data")


@asynccontextmanager
async def door(statuses: list[int]) -> AsyncIterator[str]:
    """A door that answers with these statuses in turn."""
    turn = iter(range(1 << 30))

    async def search(request: web.Request) -> web.Response:
        assert (await request.json())["query"]
        status = statuses[next(turn) % len(statuses)]
        return web.Response(status=status, body=b'{"found":[],"times_ms":{"recall":1}}')

    app = web.Application()
    app.router.add_post("/search", search)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_links_are_counted_each_once() -> None:
    from benchmarks.load.links import drive

    async with door([200, 200, 429, 500]) as url:
        found = await drive(url, 200, 0.4)
    assert found["asked"] == 80
    assert (found["answered"], found["shed"], found["failed"], found["recalled"]) == (40, 20, 20, 40)
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]


async def test_a_door_that_is_not_there_is_a_failure() -> None:
    from benchmarks.load.links import drive

    found = await drive("http://127.0.0.1:9", 50, 0.1)
    assert (found["answered"], found["failed"]) == (0, 5)


def result(**links: float) -> dict[str, object]:
    good = {"asked": 100, "answered": 100, "shed": 0, "failed": 0, "p95_ms": 10.0}
    return {
        "links": {**good, **links},
        "memory_mb": {"links_growth": 0.01},
        "answers_without_a_row": 0,
        "journal_left": 0,
    }


def test_each_target_can_be_missed() -> None:
    assert misses(result(), 1800) == []
    assert misses(result(p95_ms=51.0), 60)
    assert misses(result(failed=1), 60)
    assert misses(result(answered=98), 60)  # two answers never came
    assert misses({**result(), "answers_without_a_row": 1}, 60)
    assert misses({**result(), "journal_left": 1}, 60)
    assert misses({**result(), "memory_mb": {"links_growth": 0.06}}, 1800)
    assert not misses({**result(), "memory_mb": {"links_growth": 0.06}}, 60)  # too short to tell


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("0s", 0)])
def test_times_are_read(text: str, value: float) -> None:
    assert seconds(text) == value


def test_capacity_follows_its_figures() -> None:
    assert members_of(10.0, a_day=1.0, peak=0.25) == 100_800
    assert members_of(20.0, a_day=2.0, peak=0.25) == 100_800
    small, large = memory_gb(500, 10_000, 384), memory_gb(500, 1_000_000, 384)
    assert 0.4 < small < large < 5
    row = carried("x", 10.0, small, 30.0, a_day=1.0, peak=0.25)
    assert row.per_thousand == pytest.approx(30 / (100_800 * 30.4) * 1000)
    assert carried("nothing", 0.0, small, 30.0, a_day=1.0, peak=0.25).members == 0


def test_the_command_says_what_is_missing_or_shows_a_table() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from benchmarks.capacity import app; app()", "--card", "no-such-card"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "make load" in done.stdout or "no-such-card" in done.stdout
