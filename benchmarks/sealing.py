"""Suite `sealing`: what encryption at rest costs, beside the same run without: storing, asking, starting, disk."""

from __future__ import annotations

import tempfile
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from appliance.chunking import chunks_of
from appliance.index import Index
from appliance.journal import Journal, Outgoing
from appliance.ledger import Ledger
from appliance.schema import Channel, Post, QuestionRow
from appliance.telegram_export import read_export
from appliance.vault import Vault
from benchmarks.ask import EXPORTS
from benchmarks.results import SHARED
from models.ports import EmbedderInfo

INFO = EmbedderInfo(card="random", dim=384, max_tokens=512, engine="none")
BATCH = 512
QUESTIONS = 200
EMBEDDER_POSTS_PER_S = 60.0  # of the import suite, on two cores: what an import waits for


def run() -> dict[str, Any]:
    """Store the posts of the exports, ask and restart, with the vault and without, in turn."""
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    channels: list[Channel] = []
    posts: dict[tuple[int, int], Post] = {}
    for name in EXPORTS:
        for item in read_export(SHARED / "telegram-export" / name, username=name):
            if isinstance(item, Channel):
                channels.append(item)
            elif isinstance(item, Post) and chunks_of(item):
                posts[item.key] = item
    figures: dict[str, dict[str, float]] = {}
    for kind in ("plain", "sealed", "plain", "sealed"):  # in turn; the better of two rounds
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), channels, list(posts.values()), is_sealed=kind == "sealed")
        best = figures.setdefault(kind, found)
        figures[kind] = {name: min(value, best[name]) for name, value in found.items()}
    sealed, plain = figures["sealed"], figures["plain"]
    per_post_s = (sealed["store_s"] - plain["store_s"]) / len(posts)
    return {
        "posts": len(posts),
        **figures,
        "sealing_ms_per_post": per_post_s * 1000,
        "share_of_import": per_post_s * EMBEDDER_POSTS_PER_S,
        "question_added_ms": sealed["question_ms"] - plain["question_ms"],
        "update_added_ms": sealed["update_ms"] - plain["update_ms"],
        "start_added_s": sealed["start_s"] - plain["start_s"],
        "disk_ratio": sealed["disk_mb"] / plain["disk_mb"],
    }


def measure(folder: Path, channels: list[Channel], posts: list[Post], *, is_sealed: bool) -> dict[str, float]:
    """Time one run in an empty folder."""
    data = folder / "data"
    data.mkdir()
    rng = np.random.default_rng(7)
    vault = Vault.open(folder / "keys" / "master.key", data) if is_sealed else None
    found: dict[str, float] = {}
    with ExitStack() as stack:
        if vault is not None:
            stack.callback(vault.close)
        ledger = stack.enter_context(Ledger.open(data / "ledger.duckdb", vault))
        index = Index.open(data / "index", embedder=INFO, vault=vault)
        stack.callback(index.close)
        for channel in channels:
            ledger.save_channel(channel)
        batches = []
        for start in range(0, len(posts), BATCH):
            batch = posts[start : start + BATCH]
            chunks = [chunk for post in batch for chunk in chunks_of(post)]
            vectors = rng.normal(size=(len(chunks), INFO.dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            batches.append((batch, chunks, vectors))
        began = perf_counter()
        for batch, chunks, vectors in batches:
            ledger.save_posts(batch)
            index.replace([post.key for post in batch], chunks, vectors)
            ledger.mark_indexed([post.key for post in batch])
        found["store_s"] = perf_counter() - began
        asker = ledger.save_user(telegram_id=1, username="anna", first_name="Анна")
        found["question_ms"] = _median_ms(lambda: ledger.questions.save(_question(asker.user_id)))
        journal = stack.enter_context(Journal.open(data / "journal.sqlite", vault))
        number = iter(range(10**6))

        def update() -> None:
            place = next(number)
            journal.take_in(1, [(place, b'{"message": {"text": "' + b"x" * 600 + b'"}}')])
            key = journal.next_pending(after=place, limit=1)[0].key
            journal.done([key], [Outgoing(1, "sendMessage", {"text": "ответ " * 100})])

        found["update_ms"] = _median_ms(update)
    began = perf_counter()
    with ExitStack() as stack:
        if is_sealed:
            vault = Vault.open(folder / "keys" / "master.key", data)
            stack.callback(vault.close)
        stack.enter_context(Ledger.open(data / "ledger.duckdb", vault))
        stack.callback(Index.open(data / "index", embedder=INFO, vault=vault).close)
        found["start_s"] = perf_counter() - began
    found["disk_mb"] = sum(file.stat().st_size for file in data.rglob("*") if file.is_file()) / 1e6
    return found


def _question(user_id: int | None) -> QuestionRow:
    text = "Сколько сохнет клей и где лежит наждачная бумага?"
    return QuestionRow(
        id=uuid.uuid4().hex, dialogue_id="d", user_id=user_id, door="telegram", asked_at=datetime.now(UTC), text=text,
        query=text, language="ru", outcome="answered", model="quotes", posts=((1, 2),), answer_text=text * 5,
        relevance=0.9, tokens=0, times_ms={"complete": 1.0},
    )  # fmt: skip


def _median_ms(act: Any) -> float:
    times = []
    for _ in range(QUESTIONS):
        began = perf_counter()
        act()
        times.append(perf_counter() - began)
    return float(np.median(times)) * 1000
