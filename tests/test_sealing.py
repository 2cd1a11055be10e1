"""Nothing sealed stands in plain on the disk; what was written before the vault is sealed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest

from appliance.chunking import chunks_of
from appliance.errors import StartupError, StoreError
from appliance.hot import Scope
from appliance.index import Index
from appliance.journal import Journal, Outgoing
from appliance.ledger import Ledger
from appliance.schema import Channel, Chunk, Post, QuestionRow
from appliance.text import lemmas
from appliance.vault import Vault, channel
from models.ports import EmbedderInfo

INFO = EmbedderInfo(card="tiny", dim=8, max_tokens=64, engine="none")
RIVER = Channel(1500000001, "Мастерская")
WORDS = ("канареечность", "щеглиность", "Кукушкина", "снегиревич", "зяблицкая", "дроздовость", "свиристелка", "иволгин")
POST = Post(
    RIVER.id,
    7,
    datetime(2026, 5, 1, tzinfo=UTC),
    f"{WORDS[0]} {WORDS[1]}: клей сохнет сутки",
    author=WORDS[2],
    author_id="user555000555",
    forwarded_from=WORDS[3],
    links=("https://nightingale.example/canary",),
)
CANARIES = [*WORDS, "user555000555", "nightingale.example"]
RAW = f'{{"update_id": 1, "message": {{"from": {{"id": 42}}, "text": "{WORDS[7]}"}}}}'.encode()


def question(user_id: int | None) -> QuestionRow:
    return QuestionRow(
        "q1", "d1", user_id, "telegram", datetime(2026, 5, 2, tzinfo=UTC), WORDS[4], WORDS[4], "ru", "answered",
        "quotes", (POST.key,), WORDS[5], 0.9, 0, {"complete": 1.0},
    )  # fmt: skip


def vectors_of(chunks: list[Chunk]) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[: len(chunks)]


def fill(data: Path, vault: Vault | None, *, close: bool = True) -> list[Ledger | Index | Journal]:
    """One of everything that is sealed; returns the open stores."""
    ledger = Ledger.open(data / "ledger.duckdb", vault)
    ledger.save_channel(RIVER)
    ledger.save_posts([POST])
    asker = ledger.save_user(telegram_id=42, username=WORDS[6], first_name=WORDS[6], last_name=WORDS[6])
    ledger.questions.save(question(asker.user_id))
    ledger.questions.rate("q1", asker.user_id, "down", WORDS[7])
    index = Index.open(data / "index", embedder=INFO, vault=vault)
    chunks = chunks_of(POST)
    index.replace([POST.key], chunks, vectors_of(chunks))
    ledger.mark_indexed([POST.key])
    journal = Journal.open(data / "journal.sqlite", vault)
    journal.take_in(1, [(1, RAW)])
    journal.enqueue([Outgoing(42, "sendMessage", {"chat_id": 42, "text": WORDS[6]})])
    stores: list[Ledger | Index | Journal] = [ledger, index, journal]
    if close:
        for store in stores:
            store.close()
    return stores


def plain_words(data: Path) -> set[str]:
    found = set()
    for file in data.rglob("*"):
        if file.is_file():
            held = file.read_bytes().lower()
            for word in CANARIES:
                lemma = lemmas(word)[0] if lemmas(word) else word
                shapes = {word, word.lower(), lemma}
                if any(shape.encode(code) in held for shape in shapes for code in ("utf-8", "utf-16-le")):
                    found.add(word)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def vault(tmp_path: Path, data: Path) -> Iterator[Vault]:
    opened = Vault.open(tmp_path / "keys" / "master.key", data)
    yield opened
    opened.close()


def check_readable(data: Path, vault: Vault) -> None:
    with Ledger.open(data / "ledger.duckdb", vault) as ledger:
        assert ledger.posts([POST.key]) == {POST.key: POST}
        assert ledger.save_posts([POST]).same == [POST.key]
        stored = ledger.questions.get("q1")
        assert stored is not None
        assert (stored.text, stored.query, stored.answer_text) == (WORDS[4], WORDS[4], WORDS[5])
    index = Index.open(data / "index", embedder=INFO, vault=vault)
    found = index.candidates(np.eye(8, dtype=np.float32)[0], lemmas(WORDS[0]), scope=Scope(), n=5)
    assert found.posts == [POST.key]
    assert WORDS[0] in found.texts[0]
    assert found.lexical[0] > 0
    index.close()
    with Journal.open(data / "journal.sqlite", vault) as journal:
        assert journal.next_pending()[0].raw == RAW
        assert journal.due(2e9)[0].payload["text"] == WORDS[6]


def test_no_sealed_field_stands_in_plain_while_running_or_after_a_stop(data: Path, vault: Vault) -> None:
    stores = fill(data, vault, close=False)
    assert plain_words(data) == set()
    for store in stores:
        store.close()
    assert plain_words(data) == set()
    check_readable(data, vault)


def test_without_the_vault_every_canary_is_found(data: Path) -> None:
    fill(data, None)
    assert plain_words(data) >= {*WORDS[:7], "nightingale.example"}


def test_stores_written_before_the_vault_are_sealed_at_opening(data: Path, vault: Vault) -> None:
    fill(data, None)
    assert plain_words(data)
    with Ledger.open(data / "ledger.duckdb", vault) as ledger:
        assert any("sealed now" in note for note in ledger.notes)
    check_readable(data, vault)
    assert plain_words(data) == set()


def test_a_sealed_store_does_not_open_without_its_vault(data: Path, vault: Vault, tmp_path: Path) -> None:
    fill(data, vault)
    with pytest.raises(StartupError, match="sealed"):
        Ledger.open(data / "ledger.duckdb")
    with pytest.raises(StartupError, match="sealed"):
        Journal.open(data / "journal.sqlite")
    other = Vault.open(tmp_path / "other" / "master.key", tmp_path / "elsewhere")
    with pytest.raises(StartupError, match="another vault"):
        Ledger.open(data / "ledger.duckdb", other)
    other.close()


def test_a_damaged_or_swapped_value_in_the_ledger_is_refused(data: Path, vault: Vault) -> None:
    fill(data, vault)
    with duckdb.connect(str(data / "ledger.duckdb")) as connection:
        connection.execute("UPDATE question SET answer_text = text")  # sealed by the same key, in another place
    with Ledger.open(data / "ledger.duckdb", vault) as ledger, pytest.raises(StoreError, match="belongs elsewhere"):
        ledger.questions.get("q1")
    with sqlite3.connect(data / "journal.sqlite") as connection:
        connection.execute("UPDATE inbox SET raw = CAST(substr(raw, 1, length(raw) - 1) || x'00' AS BLOB)")
        connection.execute("UPDATE outbox SET payload = CAST(substr(payload, 2) AS BLOB)")
    connection.close()
    with Journal.open(data / "journal.sqlite", vault) as journal:
        journal.take_in(1, [(2, RAW)])
        assert [update.update_id for update in journal.next_pending()] == [2]  # the damaged one holds up nothing
        assert journal.due(2e9) == []
        assert (journal.counts()["inbox_quarantined"], journal.counts()["outbox_failed"]) == (1, 1)


def test_a_destroyed_channel_is_gone_from_an_old_copy_too(data: Path, vault: Vault) -> None:
    fill(data, vault)
    vault.destroy(channel(RIVER.id))
    with Ledger.open(data / "ledger.duckdb", vault) as ledger:
        assert ledger.posts([POST.key]) == {}
        assert ledger.channels() == []
    index = Index.open(data / "index", embedder=INFO, vault=vault)
    assert index.posts() == set()
    index.close()


def test_beyond_the_hot_tier_words_are_found_without_being_readable(data: Path, vault: Vault) -> None:
    index = Index.open(data / "index", embedder=INFO, hot_limit=300, vault=vault)
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    posts = [
        Post(RIVER.id, number, moment, f"объявление номер {number} про доски", author="Пётр Лесной")
        for number in range(400)
    ]
    posts.append(POST)
    chunks = [chunk for post in posts for chunk in chunks_of(post)]
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(len(chunks), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index.replace([post.key for post in posts], chunks, vectors)
    assert not index._is_hot
    found = index.candidates(vectors[0], lemmas(WORDS[0]), scope=Scope(), n=5)
    assert POST.key in found.posts
    place = found.posts.index(POST.key)
    assert WORDS[0] in found.texts[place]
    assert found.lexical[place] > 0
    mine = index.candidates(vectors[0], lemmas("доски"), scope=Scope(author=WORDS[2]), n=5)
    assert set(mine.posts) == {POST.key}
    index.close()
    assert plain_words(data) == set()
