"""Suite `remembered`: how long a remembered answer takes, and whether another question ever gets it."""

from __future__ import annotations

import asyncio
import tempfile
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from appliance import sample
from appliance.app import App, open_app
from appliance.config import Config
from appliance.schema import Asker, Filters, Final, Links, Piece, Question
from benchmarks.results import ROOT, SUITES

ROUNDS = 4
RATE_PER_S = 50.0
FAR = datetime(2200, 1, 1, tzinfo=UTC)


def run() -> dict[str, Any]:
    """Ask the sample's near misses in pairs, then the same questions again at a fixed rate."""
    pairs = tomllib.loads((SUITES / "near_miss.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data_dir=Path(folder) / "data", weights_dir=ROOT / "weights", _env_file=None)
        return asyncio.run(measure(config, pairs))


async def measure(config: Config, pairs: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one appliance over the sample channel."""
    async with open_app(config) as app:
        with sample.export() as path:
            async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                pass
        shares = {}
        for kind in ("different", "same"):
            hits = 0
            for number, pair in enumerate(pairs[kind]):
                # Filters of its own keep a pair from meeting the questions of another.
                await ask(app, pair["a"], number)
                hits += (await ask(app, pair["b"], number))[2]
            shares[kind] = hits / len(pairs[kind])
        texts = [pair["a"] for pair in pairs["different"]]
        first = [await ask(app, text, -1) for text in texts]
        words, ends = [], []
        began = perf_counter()
        for number, text in enumerate(texts * ROUNDS):
            await asyncio.sleep(max(0.0, began + number / RATE_PER_S - perf_counter()))
            took, end, hit = await ask(app, text, -1)
            if not hit:
                raise SystemExit(f"“{text}” was not remembered.")
            words.append(took)
            ends.append(end)
    p50, p99 = np.percentile(words, [50, 99])
    end50, end99 = np.percentile(ends, [50, 99])
    first50 = float(np.percentile([end for _, end, _ in first], 50))
    return {
        "asked": len(words),
        "per_second": RATE_PER_S,
        "words_p50_ms": float(p50),
        "words_p99_ms": float(p99),
        "end_p50_ms": float(end50),
        "end_p99_ms": float(end99),
        "first_time_p50_ms": first50,
        "times_faster": first50 / float(p50),
        "wrong_share": shares["different"],
        "paraphrases_served": shares["same"],
        "pairs": {kind: len(pairs[kind]) for kind in ("different", "same")},
    }


async def ask(app: App, text: str, own: int) -> tuple[float, float, bool]:
    """Return milliseconds to the last words and to the end, and whether the answer was remembered."""
    filters = Filters(until=FAR + timedelta(days=own))
    started = perf_counter()
    words, end, hit = 0.0, 0.0, False
    async for part in app.verbs.ask(Question(text, Asker(), filters, "api")):
        now = (perf_counter() - started) * 1000
        if isinstance(part, (Links, Piece)):
            words = now
        elif isinstance(part, Final):
            end, hit = now, "remembered" in part.answer.times_ms
    return words, end, hit
