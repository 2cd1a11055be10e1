"""Suite `ask`: how long each part of an answer takes, one question at a time, against one query embedding."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import orjson

from appliance.app import App, open_app
from appliance.config import Config
from appliance.schema import Asker, Final, Links, Question
from benchmarks.results import ROOT, SHARED
from models.load import load_embedder

EXPORTS = ("proglibrary", "pyproglib", "goproglib", "nsmag")
OPEN_QUESTIONS = 200


def run() -> dict[str, Any]:
    """Import the exports into an empty folder and ask the set's and the open questions."""
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(Config(data_dir=Path(folder), weights_dir=ROOT / "weights", _env_file=None)))


async def measure(config: Config) -> dict[str, Any]:
    """Measure every part of the answers."""
    texts = [line["text"] for line in read_lines(SHARED / "telegram-search" / "queries.jsonl")]
    texts += [line["text"] for line in read_lines(SHARED / "questions-open" / "miracl_ru_train.jsonl")][:OPEN_QUESTIONS]
    embedder = load_embedder(config.embedder, weights_dir=config.weights_dir, threads=config.threads)
    embedder.embed_queries(texts[:3])
    async with open_app(config) as app:
        posts = await import_exports(app)
        waits: dict[str, list[float]] = {"embed": [], "links": [], "complete": []}
        for text in texts:
            # In turn, so that both see the same machine.
            started = perf_counter()
            await asyncio.to_thread(embedder.embed_queries, [text])
            waits["embed"].append((perf_counter() - started) * 1000)
            links, complete = await time_answer(app, text)
            waits["links"].append(links)
            waits["complete"].append(complete)
        del embedder
    spread = {name: (float(np.percentile(ms, 50)), float(np.percentile(ms, 95))) for name, ms in waits.items()}
    names = {
        "embed": "(one query embedding, for comparison)",
        "links": "links to the posts",
        "complete": "complete answer in quotes",
    }
    return {
        "posts": posts,
        "questions": len(texts),
        "waits": [{"what": names[key], "p50_ms": p50, "p95_ms": p95} for key, (p50, p95) in spread.items()],
        "ask_p50_ms": spread["complete"][0],
        "embed_p50_ms": spread["embed"][0],
        "links_over_embedding_ms": spread["links"][0] - spread["embed"][0],
        "over_budget_ms": spread["complete"][0] - (1.5 * spread["embed"][0] + 15),
        "rss_mb": rss_mb(),
    }


async def import_exports(app: App) -> int:
    """Import the four channels; returns the number of posts."""
    for name in EXPORTS:
        async for _ in app.verbs.import_export(SHARED / "telegram-export" / name, username=name):
            pass
    return sum(status.posts for status in await app.verbs.channels(Asker(sees_everything=True)))


async def time_answer(app: App, text: str) -> tuple[float, float]:
    """Return milliseconds to the links and to the complete answer."""
    started = perf_counter()
    links = complete = 0.0
    async for part in app.verbs.ask(Question(text=text, asker=Asker(sees_everything=True), door="cli")):
        if isinstance(part, Links):
            links = (perf_counter() - started) * 1000
        elif isinstance(part, Final):
            complete = (perf_counter() - started) * 1000
    return links, complete


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def rss_mb() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
