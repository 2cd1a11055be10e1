"""Suite `faults-restore`: how long a backup of a large community takes to come back, and what journalling costs.

The vectors are random: an embedder is not what a restore waits for. What is restored is opened, counted and searched.
The control restores a backup with one bit flipped, and must be refused. What sealing costs is told by `sealing`.
"""

from __future__ import annotations

import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import orjson

from appliance.backup import make_stopped, restore
from appliance.chunking import chunks_of
from appliance.config import Config
from appliance.errors import BadInput, StoreError
from appliance.hot import Scope
from appliance.index import Index
from appliance.journal import Journal, Outgoing
from appliance.ledger import Ledger
from appliance.schema import Channel, Post
from appliance.text import lemmas
from appliance.vault import Vault
from benchmarks.faults.service import config_of
from models.ports import EmbedderInfo

ROUNDS = 100_000
BATCH = 5000
UPDATES = 2000
AT_ONCE = 16
INFO = EmbedderInfo(card="random", dim=384, max_tokens=512, engine="none")
CHANNEL = Channel(1_500_000_001, "Мастерская")
WORDS = "лак масло доска клей рубанок гончарный круг глина печь расписание ключ сундук батарейки абонемент".split()


def run(rounds: int = ROUNDS, seed: int = 1) -> dict[str, Any]:
    """Back up and restore so many posts; see the module."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="postfinder-restore-") as name:
        folder = Path(name)
        config = config_of(folder / "data")
        with closing(Vault.open(config.master_key(), config.data_dir)) as vault:
            fill(config.data_dir, vault, rounds, chance)
            made = make_stopped(config, vault)
            file = Path(made.file)
            began = perf_counter()
            restore(file, folder / "restored", vault)
            restored_s = perf_counter() - began
            posts, found = opened(folder / "restored", vault)
            opened_s = perf_counter() - began - restored_s
            return {
                "posts": posts,
                "seed": seed,
                "backup_mb": made.bytes / 1e6,
                "backup_s": made.took_s,
                "restore_s": restored_s,
                "open_s": opened_s,
                "restore_and_open_s": restored_s + opened_s,
                "found": found,
                "control_refused": int(is_refused(file, folder, vault, chance)),
                "update_ms": journalling(folder, config, vault),
            }


def fill(data: Path, vault: Vault, posts: int, chance: random.Random) -> None:
    """Store posts with random vectors."""
    rng = np.random.default_rng(chance.randrange(10**6))
    with (
        Ledger.open(data / "ledger.duckdb", vault) as ledger,
        Journal.open(data / "journal.sqlite", vault),
        closing(Index.open(data / "index", embedder=INFO, vault=vault)) as index,
    ):
        ledger.save_channel(CHANNEL)
        for first in range(1, posts + 1, BATCH):
            batch = [
                Post(
                    CHANNEL.id,
                    number,
                    datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
                    f"Пост {number}: {' '.join(chance.choices(WORDS, k=30))}",
                )
                for number in range(first, min(first + BATCH, posts + 1))
            ]
            chunks = [chunk for post in batch for chunk in chunks_of(post)]
            vectors = rng.normal(size=(len(chunks), INFO.dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            keys = [post.key for post in batch]
            ledger.save_posts(batch)
            index.replace(keys, chunks, vectors)
            ledger.mark_indexed(keys)
        index.compact()


def opened(data: Path, vault: Vault) -> tuple[int, int]:
    """Open what was restored; return the posts that ledger and index hold, and how many a search finds."""
    with (
        Ledger.open(data / "ledger.duckdb", vault) as ledger,
        closing(Index.open(data / "index", embedder=INFO, vault=vault)) as index,
    ):
        vector = np.eye(INFO.dim, dtype=np.float32)[0]
        found = index.candidates(vector, lemmas("рубанок"), scope=Scope(), n=10)
        counts = ledger.post_counts()
        return counts[CHANNEL.id] * (index.post_counts() == counts), len(ledger.posts(found.posts))


def is_refused(file: Path, folder: Path, vault: Vault, chance: random.Random) -> bool:
    """Flip a bit of a backup and restore it, as the control; return whether it was refused."""
    damaged = bytearray(file.read_bytes())
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    copy = folder / f"damaged-{file.name}"
    copy.write_bytes(damaged)
    with suppress(BadInput, StoreError):
        restore(copy, folder / "refused", vault)
        return False
    return True


def journalling(folder: Path, config: Config, vault: Vault) -> dict[str, float]:
    """Take updates in, many at once, and queue an answer to each: sealed, plain, and without a journal."""
    raw = orjson.dumps({"message": {"text": "вопрос " * 20}})
    answer = Outgoing(1, "sendMessage", {"text": "ответ " * 100})

    def without(number: int) -> None:
        orjson.loads(raw)
        orjson.dumps(answer.payload)

    found = {"without": each_ms(without)}
    for kind, key in (("plain", None), ("sealed", vault)):
        with Journal.open(folder / f"{kind}.sqlite", key) as journal:

            def with_journal(number: int, journal: Journal = journal) -> None:
                journal.take_in(1, [(number, raw)])
                orjson.loads(raw)
                journal.done([(1, number)], [answer])

            found[kind] = each_ms(with_journal)
    return found


def each_ms(work: Any) -> float:
    """Do work for many updates at once; return the milliseconds each took of the whole."""
    began = perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, range(UPDATES)))
    return (perf_counter() - began) / UPDATES * 1000
