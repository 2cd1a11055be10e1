"""What people are to be told once is told once, also when the process dies between the two stores."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.bot import notices
from appliance.journal import Journal, Outgoing
from appliance.ledger import Ledger
from appliance.ledger.notices import Notice
from appliance.notices import Notices
from appliance.vault import Vault
from tests.servers.telling import plainly

NOW = datetime.now(UTC)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Ledger, Journal, int]]:
    with (
        closing(Vault.open(tmp_path / "master.key", tmp_path)) as vault,
        Ledger.open(tmp_path / "ledger.duckdb", vault) as ledger,
        Journal.open(tmp_path / "journal.sqlite", vault) as journal,
    ):
        anna = ledger.save_user(telegram_id=501, username=None, first_name="Анна").user_id
        assert anna is not None
        yield ledger, journal, anna


async def tell_until_quiet(ledger: Ledger, journal: Journal) -> None:
    verbs: Any = SimpleNamespace(admission=SimpleNamespace(paused=None), notices=Notices(ledger))
    task = asyncio.create_task(notices.tell(verbs, journal))
    try:
        async with asyncio.timeout(20):
            while ledger.notices.due(datetime.now(UTC)) and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("named", [True, False])
async def test_a_death_between_outbox_and_mark_repeats_nothing(
    stores: tuple[Ledger, Journal, int], monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    ledger, journal, anna = stores
    monkeypatch.setitem(notices.TELLERS, "alert", plainly)
    enqueue = journal.enqueue
    if not named:  # the broken control: messages without a name
        monkeypatch.setattr(journal, "enqueue", lambda calls: enqueue([replace(one, once=None) for one in calls]))
    ledger.notices.add([Notice("alert:1", anna, "alert", {}, NOW)])
    with monkeypatch.context() as dying:
        dying.setattr(ledger.notices, "queued", lambda ids: (_ for _ in ()).throw(ProcessLookupError))
        with pytest.raises(ProcessLookupError):
            await tell_until_quiet(ledger, journal)
    await tell_until_quiet(ledger, journal)
    assert journal.counts()["outbox_queued"] == (1 if named else 2)


async def test_one_that_cannot_be_told_holds_up_nobody(
    stores: tuple[Ledger, Journal, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, journal, anna = stores

    async def picky(notice: Notice, verbs: Any) -> list[Any]:
        return [] if notice.body["n"] == 2 else await plainly(notice, verbs)

    monkeypatch.setitem(notices.TELLERS, "alert", picky)
    bodies: list[dict[str, Any]] = [{}, {"n": 1}, {"n": 2}]
    ledger.notices.add([Notice(f"alert:{n}", anna, "alert", body, NOW) for n, body in enumerate(bodies)])
    ledger.notices.add([Notice("other", anna, "unknown", {}, NOW)])  # somebody else's kind
    verbs: Any = SimpleNamespace(admission=SimpleNamespace(paused=None), notices=Notices(ledger))
    task = asyncio.create_task(notices.tell(verbs, journal))
    async with asyncio.timeout(20):
        while ledger.notices.due(datetime.now(UTC), kinds=["alert"]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert journal.counts()["outbox_queued"] == 1
    assert [one.kind for one in ledger.notices.due(datetime.now(UTC))] == ["unknown"]
    assert journal.enqueue([Outgoing(501, "sendMessage", {}, once="alert:1#0")]) == []


@pytest.mark.slow
async def test_kills_lose_and_repeat_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    with (
        closing(Vault.open(tmp_path / "master.key", tmp_path)) as vault,
        Ledger.open(tmp_path / "ledger.duckdb", vault) as ledger,
    ):
        anna = ledger.save_user(telegram_id=501, username=None, first_name="Анна").user_id
    noted: set[int] = set()
    for round_ in range(8):
        command = [sys.executable, "-m", "tests.servers.telling", str(tmp_path), str(anna), str(round_ * 100_000)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        noted.add(int(await asyncio.wait_for(process.stdout.readline(), 120)))
        await asyncio.sleep(rng.uniform(0.02, 1.0))
        process.kill()
        rest = await process.stdout.read()
        noted |= {int(line) for line in rest.split(b"\n")[:-1]}
        await process.wait()
    monkeypatch.setitem(notices.TELLERS, "alert", plainly)
    with (
        closing(Vault.open(tmp_path / "master.key", tmp_path)) as vault,
        Ledger.open(tmp_path / "ledger.duckdb", vault) as ledger,
        Journal.open(tmp_path / "journal.sqlite", vault) as journal,
    ):
        await tell_until_quiet(ledger, journal)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as outbox:
        names = [row[0] for row in outbox.execute("SELECT once FROM outbox WHERE once LIKE 'alert:%'")]
    assert len(names) == len(set(names))
    assert {f"alert:{number}#0" for number in noted} <= set(names)
    assert len(noted) > 50
