"""All stores of a data folder, opened and healed as a start does, with an embedder that costs nothing.

Run as ``python -m benchmarks.faults.stores DATA KIND SEED`` it writes for ever and prints what it was acknowledged.
``careful`` is the product's own stores; ``forgetful`` never waits for the disk.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import count
from pathlib import Path

import numpy as np

from appliance import index as index_room
from appliance.index import Index
from appliance.ingest import ingest, reconcile
from appliance.journal import Journal, Outgoing
from appliance.ledger import Ledger
from appliance.schema import Channel, Post, QuestionRow
from appliance.vault import Vault
from models.ports import EmbedderInfo, Vectors

BOT = 1_000_001
CHANNEL = Channel(1_500_000_001, "Мастерская")
START = datetime(2026, 1, 1, tzinfo=UTC)
INFO = EmbedderInfo(card="hashes", dim=16, max_tokens=512, engine="none")


class Hashes:
    """An embedder without weights: a text's vector is its hash."""

    info = INFO

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return a unit vector a text."""
        digests = b"".join(blake2b(text.encode(), digest_size=INFO.dim).digest() for text in texts)
        rows = np.frombuffer(digests, np.uint8).reshape(-1, INFO.dim).astype(np.float32) - 127.5
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    embed_queries = embed_passages


@dataclass(frozen=True, slots=True)
class Stores:
    """The open stores, and what opening said."""

    vault: Vault
    ledger: Ledger
    journal: Journal
    index: Index
    notes: tuple[str, ...]


@contextmanager
def opened(data: Path) -> Iterator[Stores]:
    """Open and heal the stores of a folder, in the appliance's order."""
    with ExitStack() as stack:  # one left open would answer for the next image: DuckDB knows open files by their paths
        vault = stack.enter_context(closing(Vault.open(data / "keys" / "master.key", data)))
        ledger = stack.enter_context(closing(Ledger.open(data / "ledger.duckdb", vault)))
        journal = stack.enter_context(closing(Journal.open(data / "journal.sqlite", vault)))
        index = stack.enter_context(closing(Index.open(data / "index", embedder=INFO, vault=vault)))
        mended = asyncio.run(reconcile(index=index, ledger=ledger, embedder=Hashes()))
        yield Stores(vault, ledger, journal, index, (*ledger.notes, *mended))


def post_of(number: int, version: int) -> Post:
    """Write a version of a post."""
    text = f"Пост {number}, версия {version}: " + "слово " * (number % 60)
    return Post(CHANNEL.id, number, START + timedelta(minutes=number), text, edited_at=START + timedelta(days=version))


def update_of(number: int) -> bytes:
    """Write an update of any size."""
    return json.dumps({"update_id": number, "text": "я" * (number * 37 % 900)}).encode()


def question_of(number: int, user_id: int) -> QuestionRow:
    """Write a question's row."""
    text = f"Вопрос {number}?"
    return QuestionRow(
        f"q{number}", "d", user_id, "telegram", START, text, text, "ru", "answered", "quotes", (), text * 3, 0.9, 0, {}
    )


def write(data: Path, kind: str, seed: int) -> None:
    """Write for ever, all kinds of things; a printed line is an acknowledgement."""
    chance, number, newest = random.Random(seed), count(1), 0

    def say(what: str, *numbers: int) -> None:
        sys.stdout.write(f"{what} {' '.join(map(str, numbers))}\n")
        sys.stdout.flush()

    if kind == "forgetful":
        index_room._fsync = lambda path: None
    with opened(data) as stores:
        ledger, journal = stores.ledger, stores.journal
        if kind == "forgetful":
            for store in (journal._file, stores.vault):
                store._connection.execute("PRAGMA synchronous = OFF")
        ledger.save_channel(CHANNEL)
        say("open", 0)
        for step in count():
            match chance.randrange(5):
                case 0:
                    fresh = list(range(newest + 1, newest + 1 + chance.choice((1, 3, 30))))
                    edited = chance.sample(range(1, newest + 1), min(2, newest))
                    asyncio.run(
                        ingest(
                            [*(post_of(one, 0) for one in fresh), *(post_of(one, step) for one in edited)],
                            index=stores.index, ledger=ledger, embedder=Hashes(),
                        )
                    )  # fmt: skip
                    newest = fresh[-1]
                    for one in fresh:
                        say("post", one, 0)
                    for one in edited:
                        say("post", one, step)
                case 1:
                    taken = [next(number) for _ in range(chance.choice((1, 20)))]
                    journal.take_in(BOT, [(one, update_of(one)) for one in taken])
                    say("update", *taken)
                case 2:
                    for update in journal.next_pending(limit=2):
                        done = Outgoing(update.update_id, "sendMessage", {"text": str(update.update_id)})
                        journal.done([update.key], [done])
                        say("reply", update.update_id)
                case 3:
                    one = next(number)
                    asker = ledger.save_user(telegram_id=one, username=f"name{one}", first_name=f"Имя {one}")
                    ledger.questions.save(question_of(one, asker.user_id or 0))
                    say("question", one, asker.user_id or 0)
                    ledger.questions.rate(f"q{one}", asker.user_id, "up")
                    say("rating", one, asker.user_id or 0)
                case 4 if step % 40 == 0:
                    stores.index.compact()


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
