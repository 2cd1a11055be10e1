"""LanceDB and the hot tier above it."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import StartupError, StoreError
from appliance.index import Index, Scope, _is_refused_by_the_system
from appliance.schema import Chunk
from appliance.text import lemmas
from appliance.vault import Vault
from models.ports import EmbedderInfo

DIM = 16
INFO = EmbedderInfo(card="test-card", dim=DIM, max_tokens=64, engine="none")
START = datetime(2024, 1, 1, tzinfo=UTC)
WORDS = "кот собака лес дом река море гора снег дождь ветер".split()


def chunk(message: int, ordinal: int = 0, *, channel: int = 1, text: str = "") -> Chunk:
    return Chunk(
        channel_id=channel,
        message_id=message,
        ordinal=ordinal,
        text=text or f"{WORDS[message % 10]} и {WORDS[message // 10 % 10]} номер {message}",
        date=START + timedelta(hours=message),
        author="О'Генри" if message % 2 else None,
        media="photo" if message % 3 == 0 else None,
        fingerprint=-message,
    )


def vectors(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def fill(index: Index, count: int, *, batch: int = 100) -> np.ndarray:
    rows = vectors(count)
    for start in range(0, count, batch):
        chunks = [
            chunk(message, channel=1 + message % 2) for message in range(start + 1, min(start + batch, count) + 1)
        ]
        index.replace([(c.channel_id, c.message_id) for c in chunks], chunks, rows[start : start + batch])
    return rows


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index.open(tmp_path, embedder=INFO)
    yield index
    index.close()


def texts(index: Index, **scope: object) -> set[str]:
    return set(index.candidates(vectors(1)[0], ["кот"], scope=Scope(**scope), n=1000).texts)  # type: ignore[arg-type]


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    index = Index.open(tmp_path, embedder=INFO)
    rows = fill(index, 250)
    before = index.candidates(rows[6], lemmas("кот и лес"), scope=Scope(), n=40)
    index.close()
    index = Index.open(tmp_path, embedder=INFO)
    after = index.candidates(rows[6], lemmas("кот и лес"), scope=Scope(), n=40)
    assert len(index) == 250
    assert index.post_counts() == {1: 125, 2: 125}
    assert index.posts() == {(1 + m % 2, m) for m in range(1, 251)}
    found = {
        key: (text, date, mark, pytest.approx((dense, lexical), abs=1e-4))
        for key, text, date, mark, dense, lexical in zip(
            before.posts, before.texts, before.dates, before.fingerprints, before.dense, before.lexical, strict=True
        )
    }
    again = {
        key: (text, date, mark, (dense, lexical))
        for key, text, date, mark, dense, lexical in zip(
            after.posts, after.texts, after.dates, after.fingerprints, after.dense, after.lexical, strict=True
        )
    }
    assert again == found
    index.close()


def test_replacing_is_idempotent_and_takes_old_chunks_away(index: Index) -> None:
    long = [chunk(1, ordinal, text=f"кот часть {ordinal}") for ordinal in range(3)]
    index.replace([(1, 1)], long, vectors(3))
    for _ in range(2):
        index.replace([(1, 1)], [chunk(1, text="собака вместо кота")], vectors(1))
        assert texts(index) == {"собака вместо кота"}
    assert len(index) == 1
    index.replace([(1, 1)], [], vectors(0))
    assert len(index) == 0
    assert index.posts() == set()


def test_edits_are_there_after_reopening(tmp_path: Path) -> None:
    index = Index.open(tmp_path, embedder=INFO)
    fill(index, 30)
    index.replace([(1, 2), (2, 1), (9, 9)], [chunk(2, text="новый кот")], vectors(1))
    index.remove([(1, 4), (1, 4), (5, 5)])
    index.remove([(1, 4)])
    index.close()
    index = Index.open(tmp_path, embedder=INFO)
    assert len(index) == 28
    assert "новый кот" in texts(index)
    assert {(1, 4), (2, 1)}.isdisjoint(index.posts())
    index.close()


def test_shapes_and_posts_are_checked(index: Index) -> None:
    with pytest.raises(ValueError, match="shape"):
        index.replace([(1, 1)], [chunk(1)], vectors(2))
    with pytest.raises(ValueError, match="replaced"):
        index.replace([(1, 2)], [chunk(1)], vectors(1))
    assert len(index) == 0


def test_one_process_owns_the_folder(tmp_path: Path) -> None:
    index = Index.open(tmp_path, embedder=INFO)
    with pytest.raises(StartupError, match="another process"):
        Index.open(tmp_path, embedder=INFO)
    index.close()
    index.close()
    Index.open(tmp_path, embedder=INFO).close()


def test_embedders_do_not_share_a_table(tmp_path: Path) -> None:
    index = Index.open(tmp_path, embedder=INFO)
    fill(index, 10)
    index.close()
    other = Index.open(tmp_path, embedder=EmbedderInfo("Other/card", DIM, 64, "none"))
    assert len(other) == 0
    other.close()


SCOPES = [
    Scope(),
    Scope(channels=frozenset({2})),
    Scope(channels=frozenset()),
    Scope(since=START + timedelta(hours=100), until=START + timedelta(hours=300)),
    Scope(author="о'ген", media="photo"),
    Scope(media="any", channels=frozenset({1, 7})),
]


def test_lancedb_itself_finds_what_the_hot_tier_finds(tmp_path: Path) -> None:
    hot, cold = (
        Index.open(tmp_path / name, embedder=INFO, hot_limit=limit) for name, limit in (("a", 1000), ("b", 300))
    )
    rows = fill(hot, 400)
    fill(cold, 400)
    for index in (hot, cold):
        index.replace([(1, 8)], [chunk(8, text="снег уже другой")], rows[:1])
        index.remove([(2, 9)])
        index.compact()
    assert len(hot) == len(cold) == 399
    assert hot.post_counts() == cold.post_counts()
    assert hot.posts() == cold.posts()
    for scope in SCOPES:
        for query in ("снег и кот", "номер 17", "неведомое"):
            one, other = (i.candidates(rows[20], lemmas(query), scope=scope, n=1000) for i in (hot, cold))
            assert set(one.posts) == set(other.posts)
            assert one.n_posts == other.n_posts
            order = [other.posts.index(post) for post in one.posts]
            np.testing.assert_allclose(one.dense, other.dense[order], atol=1e-5)
            np.testing.assert_allclose(one.lexical, other.lexical[order], rtol=0.1, atol=0.05)
            np.testing.assert_allclose(one.coverage, other.coverage[order], atol=0.15)
    hot.close()
    cold.close()
    reopened = Index.open(tmp_path / "b", embedder=INFO, hot_limit=300)
    assert len(reopened) == 399
    reopened.close()


def test_many_small_writes_stay_few_files(index: Index) -> None:
    for message in range(1, 150):
        index.replace([(1, message)], [chunk(message)], vectors(1, message))
    files = sum(len(names) for _, _, names in os.walk(index.folder))
    assert len(index) == 149
    assert files < 300


def test_removed_text_leaves_the_disk(index: Index) -> None:
    fill(index, 20)
    secret = "тайнопись"
    index.replace([(1, 100)], [chunk(100, text=secret)], vectors(1))

    def on_disk() -> bool:
        return any(secret.encode() in file.read_bytes() for file in index.folder.rglob("*") if file.is_file())

    assert on_disk()
    index.remove([(1, 100)])
    assert secret not in texts(index)
    index.compact()
    assert not on_disk()


def test_a_blank_manifest_is_set_aside(tmp_path: Path) -> None:
    index = Index.open(tmp_path, embedder=INFO)
    fill(index, 20)
    index.close()
    newest = min((tmp_path).glob("*.lance/_versions/*.manifest"))  # names count down
    newest.write_bytes(bytes(newest.stat().st_size))
    index = Index.open(tmp_path, embedder=INFO)
    assert len(index) == 0
    assert list(tmp_path.glob("*.torn-*"))
    fill(index, 20)
    assert len(index) == 20
    index.close()


def test_a_damaged_value_is_set_aside_with_its_table(tmp_path: Path) -> None:
    with closing(Vault.open(tmp_path / "keys" / "master.key", tmp_path)) as vault:
        with closing(Index.open(tmp_path / "index", embedder=INFO, vault=vault)) as index:
            fill(index, 20)
            row = index._table.search().limit(1).to_arrow()
            sealed = row["sealed"][0].as_py()
        (file,) = (tmp_path / "index").glob("*.lance/data/*.lance")
        content = file.read_bytes()
        assert content.count(sealed) == 1
        file.write_bytes(content.replace(sealed, sealed[:-1] + bytes([sealed[-1] ^ 1])))
        with closing(Index.open(tmp_path / "index", embedder=INFO, vault=vault)) as index:
            assert len(index) == 0  # a start fills it from the ledger
            fill(index, 20)
        assert list((tmp_path / "index").glob("*.damaged-*"))
        with closing(Index.open(tmp_path / "index", embedder=INFO, vault=vault)) as index:
            assert len(index) == 20
        assert not list((tmp_path / "index").glob("*.damaged-*"))  # what is erased later does not lie on there


@pytest.mark.parametrize("left", [b"", b"\0" * 700, None])
def test_a_data_file_that_a_power_cut_took_is_set_aside_with_its_table(tmp_path: Path, left: bytes | None) -> None:
    with closing(Index.open(tmp_path, embedder=INFO)) as index:
        fill(index, 20)
    (file,) = tmp_path.glob("*.lance/data/*.lance")
    if left is None:
        file.unlink()
    else:
        file.write_bytes(left)
    with closing(Index.open(tmp_path, embedder=INFO)) as index:
        assert len(index) == 0
        fill(index, 20)
        assert len(index) == 20
    assert list(tmp_path.glob("*.damaged-*"))


def test_what_the_system_refuses_is_no_damage() -> None:
    refused = ("LanceError(IO): Generic LocalFileSystem error: Unable to open file: Too many open files (os error 24)",)
    assert _is_refused_by_the_system(RuntimeError(*refused))
    assert _is_refused_by_the_system(PermissionError(13, "Permission denied"))
    assert not _is_refused_by_the_system(RuntimeError("LanceError(IO): file size is too small"))
    assert not _is_refused_by_the_system(OSError("Not found: chunks.lance/data/1.lance (os error 2)"))


def test_a_flipped_bit_is_healed_or_refused_with_the_cure(tmp_path: Path) -> None:
    with closing(Index.open(tmp_path / "whole", embedder=INFO)) as index:
        fill(index, 20)
    chance, found = random.Random(1), Counter[str]()
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*") if path.is_file()]
    for number in range(40):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", folder)
        damaged = folder / chance.choice(files)
        content = bytearray(damaged.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        damaged.write_bytes(content)
        try:
            with closing(Index.open(folder, embedder=INFO)) as index:
                found[f"{len(index)} chunks"] += 1
        except StoreError as error:
            found["refused" if "rebuilt from the ledger" in error.cure else "no cure"] += 1
    assert set(found) <= {"0 chunks", "20 chunks", "refused"}
    assert found["0 chunks"] + found["refused"]


WRITER = """
import sys
from pathlib import Path
from tests.test_index import INFO, chunk, vectors
from appliance.index import Index
index = Index.open(Path(sys.argv[1]), embedder=INFO)
for message in range(1, 10_000):
    chunks = [chunk(message)] + [chunk(1, text=f"кот {message}")] * (message > 1)
    index.replace([(1, message), (1, 1)], chunks, vectors(len(chunks)))
    print(message, flush=True)
"""


def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert writer.stdout is not None
    acknowledged = 0
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged == 12:
            writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    index = Index.open(tmp_path, embedder=INFO)
    assert acknowledged >= 12
    assert {(1, message) for message in range(1, acknowledged + 1)} <= index.posts()
    assert len(index) == len(index.posts())
    index.close()
