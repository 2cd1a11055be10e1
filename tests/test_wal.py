"""The ledger's log after power cuts: real images, damaged in many ways, opened again."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import StartupError
from appliance.ledger import Ledger
from appliance.ledger.wal import checksum, heal, measure
from appliance.schema import Channel, Post

DAY = datetime(2024, 5, 1, tzinfo=UTC)
WAL = "ledger.duckdb.wal"


def make_post(message_id: int, version: int = 0) -> Post:
    rng = random.Random(message_id * 1000 + version)
    text = "".join(rng.choices("абвгдежзиклмнопрст ", k=20 + message_id % 300))
    return Post(1, message_id, DAY, f"{version} {text}", edited_at=DAY.replace(minute=version) if version else None)


def posts_in(ledger: Ledger) -> dict[int, Post]:
    return {key[1]: post for key, post in ledger.posts([(1, n) for n in range(2000)]).items()}


@dataclass(frozen=True)
class Image:
    """The files after an acknowledged write, with the posts then stored."""

    folder: Path
    posts: dict[int, Post]
    log_size: int


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    root = tmp_path_factory.mktemp("images")
    rng = random.Random(7)
    expected: dict[int, Post] = {}
    found = []
    with Ledger.open(root / "live" / "ledger.duckdb") as ledger:
        ledger.save_channel(Channel(1, "Канал"))
        for step in range(9):
            if step % 3 == 2:
                gone = rng.choice(sorted(expected))
                ledger.remove_posts([(1, gone)])
                del expected[gone]
            else:
                edited = rng.sample(sorted(expected), min(2, len(expected)))
                batch = [make_post(n, step) for n in [*edited, *range(step * 100, step * 100 + (1, 30)[step % 2])]]
                ledger.save_posts(batch)
                expected |= {post.message_id: post for post in batch}
            folder = root / str(step)
            folder.mkdir()
            for file in (ledger.path, ledger.path.with_name(WAL)):
                shutil.copy(file, folder)
            found.append(Image(folder, dict(expected), (folder / WAL).stat().st_size))
    return found


def zero_from(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(len(data) - at)


def garbage_from(data: bytes, at: int) -> bytes:
    return data[:at] + random.Random(at).randbytes(len(data) - at)


def flip_bit(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


DAMAGE = {
    "cut": lambda data, at: data[:at],
    "zeros to the end": zero_from,
    "garbage to the end": garbage_from,
    "one bit": flip_bit,
    "one sector of zeros": lambda data, at: data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :],
    "zeros appended": lambda data, at: data + bytes(at % 5000 + 1),
    "garbage appended": lambda data, at: data + random.Random(at).randbytes(at % 5000 + 1),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("seed", range(3))
def test_every_acknowledged_row_before_a_damaged_tail_is_back(
    images: list[Image], tmp_path: Path, kind: str, seed: int
) -> None:
    rng = random.Random(f"{kind} {seed}")
    before, after = rng.choice(list(itertools.pairwise(images)))
    shutil.copytree(after.folder, tmp_path, dirs_exist_ok=True)
    log = tmp_path / WAL
    data = log.read_bytes()
    damaged = DAMAGE[kind](data, rng.randrange(before.log_size, after.log_size))
    assert damaged != data
    log.write_bytes(damaged)

    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        assert posts_in(ledger) in (before.posts, after.posts)
        if len(damaged) != before.log_size:
            assert len(ledger.notes) == 1
            assert "sound and kept" in ledger.notes[0]
        ledger.save_posts([make_post(1999)])
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        assert 1999 in posts_in(ledger)
        assert ledger.notes == ()


def test_the_control_without_mending_is_refused(images: list[Image], tmp_path: Path) -> None:
    shutil.copytree(images[4].folder, tmp_path, dirs_exist_ok=True)
    log = tmp_path / WAL
    log.write_bytes(zero_from(log.read_bytes(), images[3].log_size))
    with pytest.raises(duckdb.IOException, match="WAL"):
        duckdb.connect(str(tmp_path / "ledger.duckdb"))
    assert heal(tmp_path / "ledger.duckdb")
    duckdb.connect(str(tmp_path / "ledger.duckdb")).close()


def test_damage_before_acknowledged_rows_is_said_and_the_original_kept(images: list[Image], tmp_path: Path) -> None:
    shutil.copytree(images[6].folder, tmp_path, dirs_exist_ok=True)
    log = tmp_path / WAL
    damaged = flip_bit(log.read_bytes(), images[2].log_size + 40)
    log.write_bytes(damaged)
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        assert posts_in(ledger) == images[2].posts
        assert "up to 4 stored transaction(s) after the damage are lost" in ledger.notes[0]
    assert [file.read_bytes() for file in tmp_path.glob("*.damaged-*")] == [damaged]


def test_a_length_beyond_the_file_is_not_silently_believed(images: list[Image], tmp_path: Path) -> None:
    shutil.copytree(images[6].folder, tmp_path, dirs_exist_ok=True)
    log = tmp_path / WAL
    data = bytearray(log.read_bytes())
    data[images[2].log_size + 6] = 0xFF  # the next entry's length, high byte
    log.write_bytes(data)
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        assert posts_in(ledger) == images[2].posts
        assert "are lost" in ledger.notes[0]


def test_a_damaged_header_loses_nothing(images: list[Image], tmp_path: Path) -> None:
    shutil.copytree(images[6].folder, tmp_path, dirs_exist_ok=True)
    log = tmp_path / WAL
    log.write_bytes(bytes(30) + log.read_bytes()[30:])
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        assert posts_in(ledger) == images[6].posts
        assert "only its header" in ledger.notes[0]


def test_an_unreadable_log_is_set_aside_and_said(images: list[Image], tmp_path: Path) -> None:
    shutil.copytree(images[6].folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / WAL).write_bytes(bytes(5000))
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        assert posts_in(ledger) == {}
        assert "since the last checkpoint is lost" in ledger.notes[0]


def test_a_sound_log_that_duckdb_cannot_replay_is_set_aside_and_said(images: list[Image], tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        ledger.save_posts([make_post(5)])
    shutil.copy(images[6].folder / WAL, tmp_path)  # another ledger's
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        assert posts_in(ledger)[5] == make_post(5)
        assert "could not replay" in ledger.notes[0]


def test_a_log_without_its_database_is_kept(images: list[Image], tmp_path: Path) -> None:
    shutil.copy(images[6].folder / WAL, tmp_path)
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        assert "is missing" in ledger.notes[0]
    assert list(tmp_path.glob("*.wal.damaged-*"))


def test_a_broken_file_is_refused_with_the_cure_and_left_alone(images: list[Image], tmp_path: Path) -> None:
    shutil.copytree(images[6].folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "ledger.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StartupError, match="backup"):
        Ledger.open(tmp_path / "ledger.duckdb")
    assert (tmp_path / WAL).read_bytes() == (images[6].folder / WAL).read_bytes()


def test_a_first_start_cut_off_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "ledger.duckdb.new").write_bytes(bytes(5000))
    (tmp_path / "ledger.duckdb.new.wal").write_bytes(b"half")
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        ledger.save_posts([make_post(1)])
        assert ledger.notes == ()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ledger.duckdb", "ledger.duckdb.lock"]


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_measured(data: bytes, headed: bool) -> None:
    data = bytes.fromhex("640062650002ffff") + data if headed else data
    sound = measure(data)
    assert 0 <= sound.start <= sound.end <= len(data)
    assert sound.has_header or not headed


@settings(max_examples=50)
@given(st.integers(0, 10**6))
def test_a_cut_log_keeps_whole_transactions_alone(images_log: bytes, at: int) -> None:
    at %= len(images_log)
    sound = measure(images_log[:at])
    assert sound.end <= at
    assert sound.end == sound.start or images_log[: sound.end].endswith(bytes.fromhex("640064ffff"))


@pytest.fixture(scope="module")
def images_log(images: list[Image]) -> bytes:
    return (images[-1].folder / WAL).read_bytes()


def test_checksum_is_duckdbs(images_log: bytes) -> None:
    sound = measure(images_log)
    assert (sound.end, sound.has_header) == (len(images_log), True)
    assert checksum(b"") == 5381


KILLED = """
import os, random, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
import pyarrow
from appliance.ledger import Ledger
from appliance.schema import Post

path, rounds, rng, day = Path(sys.argv[1]), int(sys.argv[2]), random.Random(3), datetime(2024, 5, 1, tzinfo=UTC)
for round in range(rounds):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        ledger = Ledger.open(path)
        os.write(writer, b"0 0\\n")
        for step in range(10**6):
            first, n = round * 10**6 + step * 1000, rng.choice([1, 50, 300])
            ledger.save_posts([Post(1, first + i, day, f"{i} {first} " + "текст " * 100) for i in range(n)])
            os.write(writer, f"{first} {n}\\n".encode())
    os.close(writer)
    with os.fdopen(reader, "rb") as acknowledged:
        heard = [acknowledged.readline() for _ in range(rng.randrange(2, 9))]
        time.sleep(rng.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for line in (*heard, *acknowledged):
            print(line.decode().strip(), flush=True)
"""


def test_acknowledged_posts_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), "5"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    batches = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
    assert sum(n for _, n in batches) > 5
    acknowledged = {first + i for first, n in batches for i in range(n)}
    with Ledger.open(path) as ledger:
        stored = ledger.post_ids(1)
        assert acknowledged <= set(stored)
        assert len(stored) == len(set(stored)) == ledger.post_counts()[1]


def test_a_second_opener_is_told_the_cure_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    with Ledger.open(path) as ledger:
        ledger.save_posts([make_post(1)])
        for _ in range(2):
            with pytest.raises(StartupError, match=f"process {os.getpid()}.*running appliance"):
                Ledger.open(path)
        code = (
            "import sys; from pathlib import Path; from appliance.ledger import Ledger; Ledger.open(Path(sys.argv[1]))"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[1],
        )
        assert "stop it first" in other.stderr
        ledger.save_posts([make_post(2)])
    with Ledger.open(path) as ledger:
        assert set(posts_in(ledger)) == {1, 2}
        assert ledger.notes == ()
