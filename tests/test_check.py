"""`postfinder check`: every fault is seen, and its finding names the cure."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from appliance import probes
from appliance.app import App
from appliance.check import check_stopped, journal_findings, language_model
from appliance.config import Config
from appliance.keyring import make_key
from appliance.probes import Finding
from appliance.vault import Vault
from tests.conftest import config_for, copy_data
from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.openai import OpenAIServer, Status, say
from tests.web_door import OPERATOR, at, door


def named(found: Iterable[Finding], name: str) -> Finding:
    return next(item for item in found if item.name == name)


def is_cured(finding: Finding, status: str, word: str) -> bool:
    return finding.status == status and word in finding.cure


@pytest.fixture
def stopped(sample_data: Path, tmp_path: Path) -> Config:
    copy_data(sample_data, tmp_path / "data")
    return config_for(tmp_path / "data").model_copy(update={"port": 0})


def test_a_cpu_without_the_instructions_ends_the_child_and_not_us() -> None:
    assert is_cured(probes.cpu("import os, signal; os.kill(os.getpid(), signal.SIGILL)"), "fail", "AVX2")
    assert is_cured(probes.cpu("raise ImportError('libgomp.so.1')"), "fail", "make")
    assert probes.cpu("pass").status == "ok"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no file system in memory")
def test_data_in_memory_is_refused() -> None:
    assert is_cured(named(probes.disk(Path("/dev/shm/postfinder")), "disk kind"), "fail", "POSTFINDER_DATA_DIR")


def test_a_folder_that_cannot_be_written() -> None:
    if os.geteuid() == 0:
        assert is_cured(named(probes.disk(Path("/proc/self")), "durability"), "fail", "Give this user")


def test_keys_that_are_loose_missing_or_inside_the_data(stopped: Config) -> None:
    master = stopped.master_key()
    assert named(probes.keys(stopped), "keys").status == "ok"
    assert is_cured(named(probes.keys(stopped), "keyring copy"), "warn", "KEYRING_COPY_DIR")
    master.chmod(0o644)
    assert is_cured(named(probes.keys(stopped), "keys"), "fail", "chmod 600")
    mended = named(probes.keys(stopped, fix=True), "keys")
    assert (mended.is_mended, master.stat().st_mode & 0o077) == (True, 0)
    inside = stopped.model_copy(update={"key_file": str(stopped.data_dir / "master.key")})
    shutil.copytree(master.parent, stopped.data_dir, dirs_exist_ok=True)
    assert is_cured(named(probes.keys(inside), "keys apart"), "fail", "POSTFINDER_KEY_FILE")
    master.unlink()
    assert is_cured(named(probes.keys(stopped), "keys"), "fail", "Put its copy there")


def test_backups_that_are_missing_or_old(stopped: Config) -> None:
    assert is_cured(named(probes.backups(stopped), "backups"), "warn", "postfinder backup")
    stopped.backups().mkdir()
    file = stopped.backups() / "postfinder-20200101T000000.000000Z.pfbackup"
    file.touch()
    assert named(probes.backups(stopped), "backups").status == "ok"
    os.utime(file, (1, time.time() - 40 * 3600))
    assert is_cured(named(probes.backups(stopped), "backups"), "fail", "backup failed")
    never = stopped.model_copy(update={"backup_every_hours": 0.0})
    assert named(probes.backups(never), "backups").status == "ok"
    file.unlink()
    assert is_cured(named(probes.backups(never), "backups"), "warn", "EVERY_HOURS")


def test_a_port_that_is_taken_and_a_door_that_is_open(stopped: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = stopped.model_copy(update={"port": other.getsockname()[1]})
        assert is_cured(named(probes.door(taken, is_served=False), "port"), "fail", "POSTFINDER_PORT")
    assert named(probes.door(taken, is_served=False), "port").status == "ok"
    wide = stopped.model_copy(update={"host": "0.0.0.0"})
    assert is_cured(named(probes.door(wide, is_served=True), "door"), "warn", "TLS")


async def test_the_language_model_writes_a_token_or_is_said_to_be_down(stopped: Config) -> None:
    assert (await language_model(stopped)).status == "ok"  # none is set
    async with OpenAIServer(say("да")) as server:
        config = stopped.model_copy(update={"generator_url": server.url})
        well = await language_model(config)
        server.script = lambda _: [Status(500)]
        failing = await language_model(config)
    assert well.status == "ok"
    assert "loopback writes after" in well.what
    assert "4096 tokens" in well.what
    assert is_cured(failing, "warn", "log")
    assert is_cured(await language_model(config), "warn", "Check that it runs")


async def test_telegram_refusing_out_of_reach_and_well(stopped: Config) -> None:
    import asyncio

    async def said(**settings: object) -> Finding:
        config = stopped.model_copy(update=settings)
        return named(await asyncio.to_thread(lambda: list(probes.telegram(config))), "telegram")

    async with BotApi() as server:
        well = {"telegram_api": server.url, "telegram_token": SecretStr(DEFAULT_TOKEN)}
        assert (await said(**well)).status == "ok"
        wrong = await said(**{**well, "telegram_token": SecretStr("1:wrong")})
        assert is_cured(wrong, "fail", "@BotFather")
        assert "wrong" not in wrong.what
    gone = await said(**well)
    assert is_cured(gone, "fail", "POSTFINDER_TELEGRAM_API")
    assert DEFAULT_TOKEN not in gone.what
    assert (await said()).status == "ok"


@pytest.mark.parametrize(("off_s", "status"), [(0, "ok"), (120, "fail"), (-120, "fail")])
def test_a_clock_that_is_wrong(off_s: int, status: str) -> None:
    header = format_datetime(datetime.now(UTC) - timedelta(seconds=off_s), usegmt=True)
    (found,) = probes.clock(header)
    assert found.status == status
    assert (status == "ok") == (not found.cure)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://vllm:8000/v1", "ok"),
        ("http://10.1.2.3/v1", "ok"),
        ("https://api.example.com/v1", "warn"),
        ("http://8.8.8.8/v1", "warn"),
    ],
)
def test_whatever_leaves_the_network_is_named(stopped: Config, url: str, status: str) -> None:
    (found,) = probes.egress(stopped.model_copy(update={"generator_url": url}))
    assert found.status == status


def test_a_stopped_appliance_is_looked_at_without_changing_it(stopped: Config) -> None:
    data = stopped.data_dir
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    found = check_stopped(stopped)
    assert not [item for item in found if item.status == "fail"]
    assert "204 posts" in named(found, "ledger").what
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()} == before
    with (data / "ledger.duckdb.wal").open("wb") as log:
        log.write(b"\0" * 4096)  # a power cut's shape
    assert is_cured(named(check_stopped(stopped), "ledger log"), "warn", "--fix")
    (data / "ledger.duckdb.wal").unlink()
    (data / "ledger.duckdb").write_bytes(b"\0" * 50_000)
    assert is_cured(named(check_stopped(stopped), "ledger"), "fail", "restore")
    (data / "journal.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 50_000)
    assert is_cured(named(check_stopped(stopped), "journal"), "fail", "aside")
    (data / ".restoring").mkdir()
    assert is_cured(named(check_stopped(stopped), "restore"), "fail", "postfinder restore")


def test_keys_that_do_not_open_the_data_are_seen(stopped: Config, tmp_path: Path) -> None:
    master = stopped.master_key()
    assert named(check_stopped(stopped), "keys open").status == "ok"
    true_key = master.read_bytes()
    make_key(tmp_path / "other.key")
    master.write_bytes((tmp_path / "other.key").read_bytes())
    assert is_cured(named(check_stopped(stopped), "keys open"), "fail", "belongs to this keyring")
    draft = master.with_name(master.name + ".new")  # a rotation that was cut off: the next start finishes it
    draft.write_bytes(true_key)
    draft.chmod(0o600)
    assert named(check_stopped(stopped), "keys open").status == "ok"
    assert master.read_bytes() != true_key
    apart = tmp_path / "apart" / "master.key"
    Vault.open(apart, tmp_path / "another").close()
    others = stopped.model_copy(update={"key_file": str(apart)})
    assert is_cured(named(check_stopped(others), "keys open"), "fail", "belongs to this data")


def test_a_torn_index_is_seen(stopped: Config) -> None:
    for manifest in stopped.data_dir.glob("index/*.lance/_versions/*.manifest"):
        manifest.write_bytes(b"\0" * manifest.stat().st_size)
    assert is_cured(named(check_stopped(stopped), "ledger and index"), "warn", "rebuilds")


async def test_an_index_apart_from_the_ledger_is_seen_and_mended(app: App) -> None:
    async with at(door(app)) as client:
        reply = await client.post("/admin/check", json={"fix": False})
        assert reply.status_code == 401
        key = app.ledger.post_ids(next(iter(app.ledger.post_counts())))[0]
        app.index.remove([(next(iter(app.ledger.post_counts())), key)])
        found = [Finding(**item) for item in (await client.post("/admin/check", json={}, headers=OPERATOR)).json()]
        assert is_cured(named(found, "ledger and index"), "fail", "--fix")
        again = (await client.post("/admin/check", json={"fix": True}, headers=OPERATOR)).json()
    assert named([Finding(**item) for item in again], "ledger and index").is_mended
    assert named([Finding(**item) for item in again], "backups").is_mended
    (found_now,) = [item for item in await app.verbs.check(False) if item.name == "ledger and index"]
    assert found_now.status == "ok"


def test_what_waits_and_what_is_quarantined() -> None:
    calm = dict.fromkeys(
        ("inbox_pending", "inbox_quarantined", "outbox_queued", "outbox_sending", "outbox_failed", "maybe_twice"), 0
    )
    (found,) = journal_findings(calm)
    assert found.status == "ok"
    busy, aside = journal_findings({**calm, "inbox_pending": 5000, "inbox_quarantined": 1})
    assert (busy.status, aside.status) == ("warn", "warn")
