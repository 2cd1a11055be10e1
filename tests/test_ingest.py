"""Posts in: imported once, updated by newer exports, whole after any stop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.errors import BadExport
from appliance.hot import Scope
from appliance.index import Index
from appliance.ingest import POSTS_A_BATCH, POSTS_FIRST, TEXTS_A_STEP, import_export, ingest, reconcile
from appliance.ledger import Ledger
from appliance.schema import Channel, ImportProgress, Post, PostKey
from appliance.text import lemmas
from models.ports import Embedder, EmbedderInfo, Vectors

CHANNEL = {"name": "Садоводы Подмосковья", "type": "public_channel", "id": 1234567890}
NOON = 1_700_000_000


class WordEmbedder:
    """An engine that needs no weights: a vector is the sum of its words' signs."""

    def __init__(self, before: Callable[[Sequence[str]], None] = lambda texts: None) -> None:
        self.info = EmbedderInfo(card="words", dim=32, max_tokens=512, engine="words")
        self.texts: list[str] = []
        self.before = before

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.before(texts)
        self.texts.extend(texts)
        rows = [np.sum([self._signs(word) for word in text.split()] or [self._signs("")], axis=0) for text in texts]
        vectors = np.array(rows, np.float32).reshape(-1, 32) + np.float32(0.01)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_passages(texts)

    def _signs(self, word: str) -> Any:
        bits = np.unpackbits(np.frombuffer(hashlib.blake2b(word.encode(), digest_size=4).digest(), np.uint8))
        return bits.astype(np.float32) * 2 - 1


@dataclass(slots=True)
class Stores:
    """An open ledger and index, and an embedder."""

    folder: Path
    ledger: Ledger
    index: Index
    embedder: Embedder

    @property
    def parts(self) -> dict[str, Any]:
        return {"index": self.index, "ledger": self.ledger, "embedder": self.embedder}

    def texts(self) -> dict[PostKey, str]:
        """What the ledger holds, with the check that the index holds the same."""
        ids = {status.channel.id: self.ledger.post_ids(status.channel.id) for status in self.ledger.channels()}
        posts = self.ledger.posts((channel, number) for channel, numbers in ids.items() for number in numbers)
        assert self.index.posts() == {key for key, post in posts.items() if post.text}
        assert not self.ledger.unindexed()
        return {key: post.text for key, post in posts.items()}

    def indexed_text(self, key: PostKey) -> str:
        """Text of a post's chunks in the index."""
        found = self.index.candidates(self.embedder.embed_queries(["x"])[0], lemmas("x"), scope=Scope(), n=10_000)
        rows = sorted(
            (ordinal, text)
            for post, ordinal, text in zip(found.posts, found.ordinals, found.texts, strict=True)
            if post == key
        )
        return "\n".join(text for _, text in rows)


@contextmanager
def opened(folder: Path, embedder: Embedder | None = None) -> Iterator[Stores]:
    part = embedder or WordEmbedder()
    ledger = Ledger.open(folder / "ledger.duckdb")
    index = Index.open(folder / "index", embedder=part.info)
    try:
        yield Stores(folder, ledger, index, part)
    finally:
        index.close()
        ledger.close()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with opened(tmp_path / "data") as found:
        yield found


def message(number: int, text: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": "message",
        "date": "2023-11-15T01:13:20",
        "date_unixtime": str(NOON + number),
        "from": "Садоводы",
        "from_id": "channel1234567890",
        **fields,
        "text": f"Пост номер {number} о рассаде" if text is None else text,
    }


def edited(number: int, text: str, at: int, **fields: Any) -> dict[str, Any]:
    return message(number, text, edited="2024-01-01T00:00:00", edited_unixtime=str(at), **fields)


def export(folder: Path, messages: list[dict[str, Any]], name: str = "result.json") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({**CHANNEL, "messages": messages}, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


async def imported(stores: Stores, path: Path, **options: Any) -> ImportProgress:
    seen = [progress async for progress in import_export(path, **options, **stores.parts)]
    assert [progress.done for progress in seen] == [False] * (len(seen) - 1) + [True]
    return seen[-1]


def counts(progress: ImportProgress) -> tuple[int, int, int, int]:
    return progress.new, progress.edited, progress.same, progress.skipped


async def test_an_import_and_the_same_again(stores: Stores, tmp_path: Path) -> None:
    service = {"id": 3, "type": "service", "date": "2023-11-15T01:13:20", "action": "pin_message"}
    broken = {"id": 4, "type": "message", "text": "без даты"}
    picture = message(5, "", photo="p.jpg")
    path = export(tmp_path / "export", [message(1), message(2, "Второй " * 400), service, broken, picture])
    report = await imported(stores, path.parent, username="sadovody")
    assert counts(report) == (2, 0, 0, 2)
    assert report.chunks > 2
    assert report.bytes_read == report.bytes_total == path.stat().st_size
    assert report.channels == (Channel(1234567890, "Садоводы Подмосковья", "sadovody"),)
    assert [(item.message_id, item.file) for item in report.broken] == [(4, str(path))]
    assert stores.texts().keys() == {(1234567890, 1), (1234567890, 2)}
    assert stores.indexed_text((1234567890, 1)) == "Пост номер 1 о рассаде"

    stores.embedder.texts.clear()
    again = await imported(stores, path)
    assert counts(again) == (0, 0, 2, 2)
    assert (again.chunks, stores.embedder.texts) == (0, [])
    assert stores.ledger.channels()[0].channel.username == "sadovody"  # an export without it does not forget it


async def test_a_newer_export_updates_edits_and_an_older_one_does_not(stores: Stores, tmp_path: Path) -> None:
    first = export(tmp_path, [message(1), message(2), edited(3, "Правка раз", NOON + 50)], "1.json")
    second = export(
        tmp_path,
        [message(1), edited(2, "Исправлено", NOON + 90), edited(3, "Правка два", NOON + 99), message(4)],
        "2.json",
    )
    assert counts(await imported(stores, first)) == (3, 0, 0, 0)
    assert counts(await imported(stores, second)) == (1, 2, 1, 0)
    after = stores.texts()
    assert after[1234567890, 2] == "Исправлено"
    assert stores.indexed_text((1234567890, 3)) == "Правка два"
    assert counts(await imported(stores, first)) == (0, 0, 3, 0)
    assert stores.texts() == after
    assert stores.indexed_text((1234567890, 2)) == "Исправлено"


async def test_moved_reactions_are_stored_without_embedding(stores: Stores, tmp_path: Path) -> None:
    def liked(count: int) -> Path:
        return export(tmp_path, [message(1, reactions=[{"type": "emoji", "count": count, "emoji": "👍"}])])

    await imported(stores, liked(1))
    stores.embedder.texts.clear()
    assert counts(await imported(stores, liked(5))) == (0, 0, 1, 0)
    assert stores.ledger.posts([(1234567890, 1)])[1234567890, 1].reactions == 5
    assert stores.embedder.texts == []


async def test_a_dry_run_writes_nothing(stores: Stores, tmp_path: Path) -> None:
    path = export(tmp_path, [message(1), message(2), message(3, "", photo="p.jpg")], "whole.json")
    report = await imported(stores, path, dry_run=True)
    assert counts(report) == (2, 0, 0, 1)
    assert (report.chunks, report.channels[0].id) == (2, 1234567890)
    assert stores.ledger.channels() == []
    assert len(stores.index) == 0
    assert stores.embedder.texts == []
    await imported(stores, export(tmp_path, [message(1)]))
    assert counts(await imported(stores, path, dry_run=True)) == (1, 0, 1, 1)


async def test_a_post_that_loses_its_text_leaves_the_index(stores: Stores, tmp_path: Path) -> None:
    await imported(stores, export(tmp_path, [message(1), message(2)]))
    report = await imported(stores, export(tmp_path, [edited(1, "", NOON + 9, photo="p.jpg"), message(2)]))
    assert counts(report) == (0, 1, 1, 0)
    assert stores.texts() == {(1234567890, 1): "", (1234567890, 2): "Пост номер 2 о рассаде"}
    assert await reconcile(**stores.parts) == []


async def test_one_post_twice_in_a_file_is_stored_once_the_newer_one(stores: Stores, tmp_path: Path) -> None:
    copies = [edited(1, "Новее", NOON + 90), edited(1, "Старее", NOON + 10), message(1, "Первый")]
    for order in (copies, copies[::-1]):
        await imported(stores, export(tmp_path, order))
        assert stores.texts() == {(1234567890, 1): "Новее"}
        assert stores.indexed_text((1234567890, 1)) == "Новее"
        stores.index.remove([(1234567890, 1)])
        stores.ledger.remove_posts([(1234567890, 1)])


async def test_one_post_twice_in_different_batches(stores: Stores, tmp_path: Path) -> None:
    between = [message(number) for number in range(2, POSTS_A_BATCH + 2)]
    path = export(tmp_path, [edited(1, "Новее", NOON + 90), *between, message(1, "Старее")])
    await imported(stores, path)
    assert stores.indexed_text((1234567890, 1)) == "Новее"
    assert stores.texts()[1234567890, 1] == "Новее"


async def test_equal_texts_are_embedded_once(stores: Stores, tmp_path: Path) -> None:
    morning = [message(number, "Доброе утро!") for number in range(POSTS_FIRST + 1, 400)]
    report = await imported(
        stores, export(tmp_path, [message(number) for number in range(1, POSTS_FIRST + 1)] + morning)
    )
    assert (report.new, report.chunks) == (399, 399)
    assert stores.embedder.texts.count("Доброе утро!") == 1
    assert len(stores.texts()) == 399


async def test_what_is_no_export_raises_and_leaves_nothing(stores: Stores, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(BadExport, match="archive"):
        await imported(stores, path)
    path.write_bytes(b'{"about": "x", "contacts": {"list": []}}')
    with pytest.raises(BadExport, match="no chat"):
        await imported(stores, path)
    assert stores.ledger.channels() == []
    assert threading.active_count() < 20


async def test_many_broken_messages_are_counted(stores: Stores, tmp_path: Path) -> None:
    wrong = [{"id": number, "type": "message", "text": "без даты"} for number in range(2, 1500)]
    report = await imported(stores, export(tmp_path, [message(1), *wrong]))
    assert (report.new, len(report.broken)) == (1, 1001)
    assert "498 more" in report.broken[-1].reason


async def test_progress_comes_every_second_and_grows(tmp_path: Path) -> None:
    slow = WordEmbedder(lambda texts: time.sleep(0.3))
    with opened(tmp_path / "data", slow) as stores:
        path = export(tmp_path, [message(number) for number in range(1, POSTS_A_BATCH * 2)])
        seen = [progress async for progress in import_export(path, **stores.parts)]
    assert len(seen) >= 3
    assert [p.bytes_read for p in seen] == sorted(p.bytes_read for p in seen)
    assert [p.chunks for p in seen] == sorted(p.chunks for p in seen)
    assert 0 < seen[0].chunks < seen[-1].chunks == POSTS_A_BATCH * 2 - 1
    assert 0 < seen[0].bytes_read < seen[0].bytes_total
    assert 0.5 < seen[1].elapsed_s - seen[0].elapsed_s < 3


async def test_the_embedder_does_not_wait_for_the_stores(tmp_path: Path) -> None:
    """While the second batch is embedded, the first is stored and the third is read; else this would time out."""
    waits: list[bool] = []

    def before(texts: Sequence[str]) -> None:
        if any(f" {POSTS_FIRST + 1} " in text for text in texts):  # of the second batch
            wait_for_posts(stores, POSTS_FIRST)
            waits.append(len(stores.ledger.post_ids(1234567890)) == POSTS_FIRST)

    with opened(tmp_path / "data", WordEmbedder(before)) as stores:
        await imported(stores, export(tmp_path, [message(number) for number in range(1, POSTS_A_BATCH * 2)]))
    assert waits == [True]


def wait_for_posts(stores: Stores, count: int) -> None:
    until = time.monotonic() + 30
    while len(stores.ledger.post_ids(1234567890)) < count and time.monotonic() < until:
        time.sleep(0.01)


async def test_leaving_an_import_keeps_what_was_stored_and_a_new_one_finishes_it(tmp_path: Path) -> None:
    with opened(tmp_path / "data", WordEmbedder(lambda texts: time.sleep(0.03))) as stores:
        path = export(tmp_path, [message(number) for number in range(1, POSTS_A_BATCH * 4)])
        work = asyncio.create_task(imported(stores, path))
        await asyncio.to_thread(wait_for_posts, stores, POSTS_A_BATCH)
        begun = time.monotonic()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert time.monotonic() - begun < 3
        kept = stores.texts()  # whole: the ledger and the index agree
        assert POSTS_A_BATCH <= len(kept) < POSTS_A_BATCH * 4 - 1
        report = await imported(stores, path)
        assert report.same == len(kept)
        assert len(stores.texts()) == POSTS_A_BATCH * 4 - 1

        progress: AsyncIterator[ImportProgress] = import_export(path, **stores.parts)
        await anext(progress)
        await progress.aclose()  # type: ignore[attr-defined]


async def test_an_embedder_that_fails_costs_only_what_was_not_stored(tmp_path: Path) -> None:
    calls = 0

    def before(texts: Sequence[str]) -> None:
        nonlocal calls
        calls += 1
        if calls == POSTS_FIRST // TEXTS_A_STEP + POSTS_A_BATCH // TEXTS_A_STEP + 1:  # the first of the third batch
            raise RuntimeError("out of memory")

    with opened(tmp_path / "data", WordEmbedder(before)) as stores:
        path = export(tmp_path, [message(number) for number in range(1, POSTS_A_BATCH * 2)])
        with pytest.raises(RuntimeError, match="out of memory"):
            await imported(stores, path)
        kept = POSTS_FIRST + POSTS_A_BATCH
        assert len(stores.texts()) == kept
        assert counts(await imported(stores, path)) == (POSTS_A_BATCH * 2 - 1 - kept, 0, kept, 0)


def live(number: int, text: str, edited_at: int | None = None, **fields: Any) -> Post:
    return Post(
        channel_id=1234567890,
        message_id=number,
        date=datetime.fromtimestamp(NOON + number, UTC),
        text=text,
        edited_at=None if edited_at is None else datetime.fromtimestamp(edited_at, UTC),
        **fields,
    )


async def test_live_posts(stores: Stores) -> None:
    stores.ledger.save_channel(Channel(1234567890, "Садоводы"))
    assert await ingest([live(1, "Первый"), live(2, "Второй")], **stores.parts) == 2
    assert await ingest([live(1, "Первый")], **stores.parts) == 0
    assert await ingest([live(1, "Правка", NOON + 9)], **stores.parts) == 1
    assert await ingest([live(1, "Первый"), live(1, "Давно", NOON + 3)], **stores.parts) == 0
    assert await ingest([live(3, "", media="photo"), live(4, "👍🏻")], **stores.parts) == 0
    assert await ingest([], **stores.parts) == 0
    assert stores.texts() == {(1234567890, 1): "Правка", (1234567890, 2): "Второй"}
    assert stores.indexed_text((1234567890, 1)) == "Правка"


async def test_versions_of_one_post_at_once_leave_the_newest_everywhere(tmp_path: Path) -> None:
    with opened(tmp_path / "data", WordEmbedder(lambda texts: time.sleep(random.random() / 20))) as stores:
        stores.ledger.save_channel(Channel(1234567890, "Садоводы"))
        versions = [live(1, f"Версия {n}", NOON + n) for n in range(20)]
        random.Random(5).shuffle(versions)
        await asyncio.gather(*(ingest([version], **stores.parts) for version in versions))
        assert stores.texts() == {(1234567890, 1): "Версия 19"}
        assert stores.indexed_text((1234567890, 1)) == "Версия 19"


async def test_random_exports_in_any_order_end_in_the_newest_versions(stores: Stores, tmp_path: Path) -> None:
    rng = random.Random(11)
    newest: dict[int, tuple[int, str]] = {}
    for round_number in range(12):
        messages = []
        for number in sorted(rng.sample(range(1, 40), 25)):
            at = rng.randrange(0, 6)
            text = f"Пост {number} версия {at}"
            messages.append(edited(number, text, NOON + at) if at else message(number, text))
            newest[number] = max(newest.get(number, (-1, "")), (at, text))
        if round_number % 3 == 2:
            posts = [live(m["id"], m["text"], int(m.get("edited_unixtime", 0)) or None) for m in messages]
            await ingest(
                [replace(post, author="Садоводы", author_id="channel1234567890") for post in posts], **stores.parts
            )
        else:
            await imported(stores, export(tmp_path, messages))
    assert stores.texts() == {(1234567890, number): text for number, (_, text) in newest.items()}
    for number, (_, text) in list(newest.items())[:5]:
        assert stores.indexed_text((1234567890, number)) == text


# --- healing --------------------------------------------------------------------------------------------------------


async def test_reconcile_says_nothing_when_all_is_well(stores: Stores, tmp_path: Path) -> None:
    assert await reconcile(**stores.parts) == []
    await imported(stores, export(tmp_path, [message(1), message(2)]))
    stores.embedder.texts.clear()
    assert await reconcile(**stores.parts) == []
    assert stores.embedder.texts == []


async def test_reconcile_indexes_what_a_stop_left_saved_only(stores: Stores, tmp_path: Path) -> None:
    await imported(stores, export(tmp_path, [message(1), message(2)]))
    stores.ledger.save_posts([live(2, "Правка", NOON + 9), live(3, "Третий")])
    (note,) = await reconcile(**stores.parts)
    assert "2 posts" in note
    assert stores.indexed_text((1234567890, 2)) == "Правка"
    assert len(stores.texts()) == 3


async def test_an_import_also_finishes_what_a_stop_left(stores: Stores, tmp_path: Path) -> None:
    stores.ledger.save_channel(Channel(1234567890, "Садоводы"))
    stores.ledger.save_posts([live(3, "Третий")])
    await imported(stores, export(tmp_path, [message(1)]))
    assert len(stores.texts()) == 2


async def test_reconcile_rebuilds_a_lost_index(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as stores:
        await imported(stores, export(tmp_path, [message(number) for number in range(1, POSTS_A_BATCH + 50)]))
        before = stores.texts()
    shutil.rmtree(tmp_path / "data" / "index")
    with opened(tmp_path / "data") as stores:
        assert len(stores.index) == 0
        (note,) = await reconcile(**stores.parts)
        assert str(POSTS_A_BATCH + 49) in note
        assert stores.texts() == before
        assert await reconcile(**stores.parts) == []


async def test_reconcile_removes_what_the_ledger_does_not_know(stores: Stores, tmp_path: Path) -> None:
    await imported(stores, export(tmp_path, [message(1), message(2), message(3)]))
    stores.ledger.remove_posts([(1234567890, 2)])
    (note,) = await reconcile(**stores.parts)
    assert "1 posts" in note
    assert stores.texts().keys() == {(1234567890, 1), (1234567890, 3)}


# --- with the real embedder; killed ---------------------------------------------------------------------------------


async def test_posts_are_found_with_the_real_embedder(tmp_path: Path, embedder: Embedder) -> None:
    texts = ["Как подкормить помидоры в июне", "Собрание товарищества перенесено", "Продам мотоблок, недорого"]
    with opened(tmp_path / "data", embedder) as stores:
        await imported(stores, export(tmp_path, [message(n, text) for n, text in enumerate(texts, 1)]))
        question = "чем удобрять томаты летом"
        found = stores.index.candidates(embedder.embed_queries([question])[0], lemmas(question), scope=Scope(), n=3)
        assert found.posts[int(np.argmax(found.dense))] == (1234567890, 1)


PROGRAM = """
import asyncio, sys, time
from pathlib import Path
from appliance.ingest import import_export, reconcile
from tests.test_ingest import WordEmbedder, opened

async def main():
    with opened(Path(sys.argv[1]), WordEmbedder(lambda texts: time.sleep(0.05))) as stores:
        await reconcile(**stores.parts)
        print("started", flush=True)
        async for progress in import_export(Path(sys.argv[2]), **stores.parts):
            pass
        print("done", flush=True)

asyncio.run(main())
"""


def start_and_kill(data: Path, path: Path, after_s: float) -> bool:
    """Import in a process of its own and kill it; returns whether it was not yet done."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(data), str(path)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return "done" not in rest


COUNT = 1600  # posts: some four batches


async def killed_imports(tmp_path: Path, rounds: int) -> None:
    rng = random.Random(3)
    messages = [message(number, f"Пост {number} " + "слово " * rng.randrange(40)) for number in range(1, COUNT + 1)]
    path = export(tmp_path, messages)
    data = tmp_path / "data"
    interrupted = 0
    for number in range(rounds):
        interrupted += await asyncio.to_thread(start_and_kill, data, path, rng.random())
        if number == rounds // 2:  # half-way a newer export arrives
            messages = [m if m["id"] % 7 else edited(m["id"], f"Правка {m['id']}", NOON + 9**6) for m in messages]
            path = export(tmp_path, messages)
    assert interrupted
    with opened(data) as stores:
        await reconcile(**stores.parts)
        stores.texts()
        await imported(stores, path)
        assert stores.texts() == {(1234567890, m["id"]): m["text"] for m in messages}
        assert counts(await imported(stores, path)) == (0, 0, COUNT, 0)
        for m in messages[::200]:
            assert stores.indexed_text((1234567890, m["id"])).startswith(m["text"][:40].strip())
        assert await reconcile(**stores.parts) == []


async def test_killed_imports_end_in_the_same_state(tmp_path: Path) -> None:
    await killed_imports(tmp_path, 1)


@pytest.mark.slow
async def test_imports_killed_many_times_end_in_the_same_state(tmp_path: Path) -> None:
    await killed_imports(tmp_path, 40)
