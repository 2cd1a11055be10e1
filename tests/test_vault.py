from __future__ import annotations

import base64
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import StartupError, StoreError
from appliance.keyring import KEYRING
from appliance.vault import PREFIX, Vault, person

TEXT = "Канарейка поёт в шахте"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "master.key"


@pytest.fixture
def vault(key_file: Path, tmp_path: Path) -> Iterator[Vault]:
    opened = Vault.open(key_file, tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    folder = tmp_path_factory.mktemp("vault")
    opened = Vault.open(folder / "master.key", folder / "data")
    yield opened
    opened.close()


def test_what_is_sealed_opens_again_after_a_restart(key_file: Path, tmp_path: Path) -> None:
    vault = Vault.open(key_file, tmp_path / "data")
    sealed = vault.seal("user:1", "user.first_name:1", TEXT)
    vault.close()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert sealed.startswith(PREFIX)
    assert TEXT not in sealed
    again = Vault.open(key_file, tmp_path / "data")
    assert again.open_text("user:1", "user.first_name:1", sealed) == TEXT
    again.close()


@given(text=st.text(min_size=1), flip=st.integers(min_value=0))
def test_a_flipped_bit_is_refused(text: str, flip: int, shared: Vault) -> None:
    raw = bytearray(shared.seal_bytes("channel:1", "post.text:1/2", text.encode("utf-8", "replace")))
    bit = flip % (len(raw) * 8)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StoreError, match="damaged"):
        shared.open_bytes("channel:1", "post.text:1/2", bytes(raw))


def test_a_value_opens_only_where_it_was_sealed(vault: Vault) -> None:
    sealed = vault.seal("channel:1", "post.text:1/2", TEXT)
    with pytest.raises(StoreError, match="belongs elsewhere"):
        vault.open_text("channel:1", "post.text:1/3", sealed)
    vault.seal("channel:2", "post.text:1/2", TEXT)
    with pytest.raises(StoreError, match="belongs elsewhere"):
        vault.open_text("channel:2", "post.text:1/2", sealed)


@pytest.mark.parametrize("plain", [TEXT, PREFIX, PREFIX + "????", PREFIX + "QUJD"])
def test_a_plain_text_in_a_sealed_place_is_refused(vault: Vault, plain: str) -> None:
    vault.seal("user:1", "a.b:1", "x")
    with pytest.raises(StoreError):
        vault.open_text("user:1", "a.b:1", plain)


def test_a_destroyed_key_reads_as_nothing_and_makes_no_new_one(vault: Vault, key_file: Path, tmp_path: Path) -> None:
    sealed = vault.seal(person(7), "user.first_name:7", TEXT)
    wrapped = vault._wrapped(person(7))
    assert wrapped
    assert vault.destroy(person(7))
    assert vault.open_text(person(7), "user.first_name:7", sealed) == ""
    with pytest.raises(StoreError, match="destroyed"):
        vault.seal(person(7), "user.first_name:7", TEXT)
    assert vault.knows(person(7))
    vault.close()
    assert not any(wrapped in file.read_bytes() for file in key_file.parent.iterdir())
    again = Vault.open(key_file, tmp_path / "data")
    assert again.open_text(person(7), "user.first_name:7", sealed) == ""
    again.close()


def test_a_missing_master_key_is_never_replaced(key_file: Path, tmp_path: Path) -> None:
    Vault.open(key_file, tmp_path / "data").close()
    key_file.rename(tmp_path / "aside")
    with pytest.raises(StartupError, match="missing"):
        Vault.open(key_file, tmp_path / "data")
    assert not key_file.exists()
    (key_file.parent / KEYRING).unlink()  # the whole folder of keys lost: the data's mark still says it is sealed
    with pytest.raises(StartupError, match="missing"):
        Vault.open(key_file, tmp_path / "data")
    (tmp_path / "aside").rename(key_file)
    with pytest.raises(StartupError, match="keyring"):
        Vault.open(key_file, tmp_path / "data")


def test_a_wrong_or_open_master_key_is_refused(key_file: Path, tmp_path: Path) -> None:
    Vault.open(key_file, tmp_path / "data").close()
    good = key_file.read_bytes()
    key_file.write_bytes(base64.b64encode(bytes(32)))
    with pytest.raises(StartupError, match="does not open"):
        Vault.open(key_file, tmp_path / "data")
    key_file.write_bytes(b"no key at all")
    with pytest.raises(StartupError, match="damaged"):
        Vault.open(key_file, tmp_path / "data")
    key_file.write_bytes(good)
    key_file.chmod(0o640)
    with pytest.raises(StartupError, match="chmod 600"):
        Vault.open(key_file, tmp_path / "data")


def test_keys_of_another_data_folder_are_refused(key_file: Path, tmp_path: Path) -> None:
    Vault.open(key_file, tmp_path / "data").close()
    Vault.open(tmp_path / "other" / "master.key", tmp_path / "other-data").close()
    with pytest.raises(StartupError, match="another vault's"):
        Vault.open(key_file, tmp_path / "other-data")


def test_rotation_keeps_the_data_readable_and_retires_the_old_key(key_file: Path, tmp_path: Path) -> None:
    vault = Vault.open(key_file, tmp_path / "data")
    sealed = vault.seal("user:1", "a.b:1", TEXT)
    name = vault.blind("lemma", "кот")
    old = key_file.read_bytes()
    assert vault.rotate() == 1
    assert vault.open_text("user:1", "a.b:1", sealed) == TEXT
    vault.close()
    again = Vault.open(key_file, tmp_path / "data")
    assert again.open_text("user:1", "a.b:1", sealed) == TEXT
    assert again.blind("lemma", "кот") == name
    again.close()
    key_file.write_bytes(old)
    with pytest.raises(StartupError, match="does not open"):
        Vault.open(key_file, tmp_path / "data")


def test_a_rotation_cut_off_before_its_last_step_is_finished(key_file: Path, tmp_path: Path) -> None:
    vault = Vault.open(key_file, tmp_path / "data")
    sealed = vault.seal("user:1", "a.b:1", TEXT)
    old = key_file.read_bytes()
    vault.rotate()
    vault.close()
    key_file.rename(key_file.with_name("master.key.new"))  # as a stop between commit and rename leaves it
    key_file.write_bytes(old)
    key_file.chmod(0o600)
    again = Vault.open(key_file, tmp_path / "data")
    assert again.open_text("user:1", "a.b:1", sealed) == TEXT
    assert not key_file.with_name("master.key.new").exists()
    again.close()


def test_many_threads_share_one_key_an_owner(vault: Vault) -> None:
    sealed: list[tuple[int, str]] = []

    def work(number: int) -> None:
        sealed.extend((owner, vault.seal(f"user:{owner}", "a.b:1", f"{TEXT} {number}")) for owner in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sealed) == 80
    assert all(vault.open_text(f"user:{owner}", "a.b:1", text).startswith(TEXT) for owner, text in sealed)


def test_blind_names_are_stable_and_separate_by_kind(vault: Vault) -> None:
    assert vault.blind("lemma", "кот") == vault.blind("lemma", "кот")
    assert vault.blind("lemma", "кот") != vault.blind("author", "кот")
    assert vault.blind("lemma", "кот") != vault.blind("lemma", "пёс")
