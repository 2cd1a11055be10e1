"""Backups: taken while it serves, sealed, verified by restoring, put back; damaged or foreign ones are refused."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.app import App, open_app
from appliance.backup import RESTORING, backups_in, make_stopped, restore, vault_for
from appliance.backup_file import pack, unpack
from appliance.errors import BadInput, PostFinderError, StartupError, StoreError
from appliance.journal import Outgoing
from appliance.schema import Asker, Filters
from appliance.sealed_file import HEAD, MAGIC, PIECE, TAG_BYTES, SealedReader, SealedWriter
from tests.conftest import config_for, copy_data

KEY, VAULT = bytes(range(32)), b"v" * 16


def sealed(data: bytes, key: bytes = KEY) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, key, VAULT)
    for start in range(0, len(data), 700_001):
        writer.write(data[start : start + 700_001])
    writer.finish()
    return file.getvalue()


def opened(data: bytes, key: bytes = KEY, vault: bytes = VAULT) -> bytes:
    reader = SealedReader(io.BytesIO(data), key, vault)
    found = b""
    while piece := reader.read(1 << 20):
        found += piece
    return found


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
def test_a_stream_comes_back_whatever_its_length(size: int) -> None:
    data = os.urandom(size)
    assert opened(sealed(data)) == data


@given(st.data())
def test_no_bit_can_be_flipped_and_no_byte_cut_off(data: st.DataObject) -> None:
    whole = sealed(b"post " * 100)
    place = data.draw(st.integers(0, len(whole) * 8 - 1))
    flipped = bytearray(whole)
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(
        BadInput if place // 8 < len(MAGIC) else StoreError, match=r"Take another copy|POSTFINDER_KEY_FILE"
    ):
        opened(bytes(flipped))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadInput if cut < HEAD else StoreError):
        opened(whole[:cut])


def test_pieces_cannot_be_dropped_moved_or_the_end_cut_at_a_piece() -> None:
    whole = sealed(os.urandom(3 * PIECE))
    step = PIECE + TAG_BYTES
    head, pieces = whole[:HEAD], [whole[start : start + step] for start in range(HEAD, len(whole), step)]
    for wrong in ([pieces[1], pieces[0], pieces[2]], pieces[:2], pieces[1:], [*pieces, pieces[2]]):
        with pytest.raises(StoreError):
            opened(head + b"".join(wrong))


def test_another_key_and_another_vault_are_told_apart() -> None:
    with pytest.raises(StoreError, match="damaged"):
        opened(sealed(b"x"), key=b"k" * 32)
    with pytest.raises(StoreError, match="POSTFINDER_KEY_FILE"):
        opened(sealed(b"x"), vault=b"w" * 16)


def test_a_file_that_grew_while_it_was_packed_leaves_no_backup(tmp_path: Path) -> None:
    class Growing(type(Path())):  # type: ignore[misc]
        def open(self, *args, **kwargs):
            file = super().open(*args, **kwargs)
            shutil.copyfile(os.devnull, self)  # what was listed is gone by the time it is read
            return file

    (tmp_path / "a").write_bytes(b"x" * 10_000)
    growing = Growing(tmp_path / "a")
    with pytest.raises((OSError, StoreError)):
        pack({"a": growing}, {}, tmp_path / "b", key=KEY, vault_id=VAULT)
    assert not list(tmp_path.glob("b*"))


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    pack({"../a": tmp_path / "a"}, {}, tmp_path / "b", key=KEY, vault_id=VAULT)
    with pytest.raises(StoreError, match="outside"):
        unpack(tmp_path / "b", tmp_path / "into", key=KEY, vault_id=VAULT)


def content(file: str) -> bytes:
    return Path(file).read_bytes()


def flip(file: str) -> None:
    data = bytearray(content(file))
    data[len(data) // 2] ^= 1
    Path(file).write_bytes(data)


async def found(app: App, text: str) -> list[tuple[int, int]]:
    result = await app.verbs.search(text, asker=Asker(sees_everything=True), filters=Filters())
    return [hit.post.key for hit in result.found]


async def test_made_while_it_serves_verified_and_put_back(app: App, tmp_path: Path) -> None:
    app.journal.take_in(1, [(7, b'{"update_id": 7}')])
    app.journal.enqueue([Outgoing(1, "sendMessage", {"text": "canary"})])
    member = await app.verbs.register(telegram_id=5, username="a", first_name="Анна", last_name=None, language="ru")
    before, counts = await found(app, "разделочная доска"), app.ledger.post_counts()
    made = await app.verbs.backups.make(tmp_path / "copies")
    assert made.rows["post"] == sum(counts.values()) > 0
    assert (made.waiting, made.indexed > 0) == (2, True)
    assert (await app.verbs.backups.verify(Path(made.file))).rows == made.rows
    assert os.stat(made.file).st_mode & 0o077 == 0
    raw = content(made.file)
    assert b"canary" not in raw
    assert b"SQLite format" not in raw
    assert not list(app.config.data_dir.glob(".backup-*"))
    with pytest.raises(StoreError, match="being served"):
        await app.verbs.backups.restore(Path(made.file), app.config.data_dir)
    into = tmp_path / "again" / "data"
    await app.verbs.backups.restore(Path(made.file), into)
    with pytest.raises(StoreError, match="never overwrites"):
        await app.verbs.backups.restore(Path(made.file), into)
    app.ledger.close()
    config = config_for(into).model_copy(update={"key_file": str(tmp_path / "keys" / "master.key")})
    app.verbs.backups.vault.copy_keyring(tmp_path / "keys")  # beside the running one, as on another machine
    shutil.copy(app.config.master_key(), tmp_path / "keys" / "master.key")
    async with open_app(config) as again:
        assert again.ledger.post_counts() == counts
        assert await found(again, "разделочная доска") == before
        assert again.journal.counts()["inbox_pending"] == again.journal.counts()["outbox_queued"] == 1
        assert again.ledger.notes == ()
        newer = await again.verbs.register(telegram_id=6, username="b", first_name="Б", last_name=None, language="ru")
        assert newer.user_id not in {None, member.user_id}


async def test_a_damaged_copy_does_not_verify(app: App, tmp_path: Path) -> None:
    made = await app.verbs.backups.make(tmp_path / "one.pfbackup")
    with pytest.raises(StoreError, match="never overwrites"):
        await app.verbs.backups.make(tmp_path / "one.pfbackup")
    flip(made.file)
    with pytest.raises(StoreError, match="damaged"):
        await app.verbs.backups.verify(Path(made.file))
    with pytest.raises(StoreError, match="damaged"):
        await app.verbs.backups.restore(Path(made.file), tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".verifying-")]


async def test_a_backup_of_other_rows_does_not_verify(app: App, tmp_path: Path) -> None:
    made = await app.verbs.backups.make(tmp_path / "one.pfbackup")
    vault = app.verbs.backups.vault
    keys = {"key": vault.hash_key("backup"), "vault_id": bytes.fromhex(vault.id)}
    about = unpack(Path(made.file), tmp_path / "files", **keys)
    files = {name: tmp_path / "files" / name for name in about.pop("files")}
    about["ledger"]["digests"]["post"] = "1"
    pack(files, about, tmp_path / "two.pfbackup", **keys)
    with pytest.raises(StoreError, match="digests of the ledger"):
        await app.verbs.backups.verify(tmp_path / "two.pfbackup")


async def test_scheduled_backups_are_verified_and_the_oldest_go(app: App, tmp_path: Path) -> None:
    backups = app.verbs.backups
    backups.config = app.config.model_copy(update={"backup_keep": 2, "keyring_copy_dir": str(tmp_path / "copy")})
    folder = app.config.backups()
    assert await backups.keep() is not None
    assert await backups.keep() is None  # none is due
    (first,) = backups_in(folder)
    for _ in range(2):
        for file in backups_in(folder):
            os.utime(file, (1, 1))
        assert await backups.keep() is not None
    assert len(backups_in(folder)) == 2
    assert first not in backups_in(folder)
    assert app.ledger.setting("backup.verified")["file"] == str(backups_in(folder)[0])
    assert (tmp_path / "copy" / "keyring.sqlite").stat().st_mode & 0o077 == 0


def test_stopped_data_is_backed_up_as_it_lies(sample_data: Path, tmp_path: Path) -> None:
    copy_data(sample_data, tmp_path / "data")
    config = config_for(tmp_path / "data")
    with vault_for(config) as vault:
        made = make_stopped(config, vault)
        restore(Path(made.file), tmp_path / "again", vault)
    for name in ("ledger.duckdb", "journal.sqlite", "vault.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "data" / name).read_bytes()


def test_a_restore_that_was_cut_off_is_not_served_and_goes_on(sample_data: Path, tmp_path: Path) -> None:
    copy_data(sample_data, tmp_path / "data")
    config = config_for(tmp_path / "data")
    with vault_for(config) as vault:
        made = make_stopped(config, vault, tmp_path)
        shutil.rmtree(config.data_dir)
        (config.data_dir / RESTORING).mkdir(parents=True)
        (config.data_dir / "ledger.duckdb").write_bytes(b"half")

        async def start() -> None:
            async with open_app(config):
                pass

        with pytest.raises(StartupError, match="cut off"):
            asyncio.run(start())
        restore(Path(made.file), config.data_dir, vault)
    asyncio.run(start())


def test_without_its_keys_nothing_is_restored_and_no_key_is_made(sample_data: Path, tmp_path: Path) -> None:
    copy_data(sample_data, tmp_path / "data")
    config = config_for(tmp_path / "data")
    shutil.rmtree(tmp_path / "data-keys")
    with pytest.raises(PostFinderError, match="copy of the keys folder"), vault_for(config):
        pass
    assert not (tmp_path / "data-keys").exists()


async def test_a_backup_that_is_not_there_is_the_askers_mistake(app: App, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no backup"):
        await app.verbs.backups.verify()
    for file in (tmp_path, tmp_path / "none.pfb"):
        with pytest.raises(BadInput, match="no file"):
            await app.verbs.backups.verify(file)
        with pytest.raises(BadInput, match="no file"):
            await app.verbs.backups.restore(file, tmp_path / "new")
