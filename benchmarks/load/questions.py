"""What the load asks: real questions, the popular ones again and again by Zipf's law."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import orjson

SHARED = Path(__file__).parents[3] / "shared" / "data"
SETS = ("questions-open/miracl_ru_train.jsonl", "questions-open/rubq_dev.jsonl", "telegram-search/queries.jsonl")
POPULAR = 100


def chooser(seed: int | None = None) -> Callable[[], str]:
    """Return a function that draws questions; ``LOAD_REPEATS`` of them (half) from the popular ones.

    Parameters
    ----------
    seed : int, optional

    Returns
    -------
    callable
    """
    lines = [line for name in SETS for line in (SHARED / name).read_bytes().splitlines() if line]
    texts = sorted({str(orjson.loads(line)["text"]) for line in lines})
    random.Random(7).shuffle(texts)
    head, tail = texts[:POPULAR], texts[POPULAR:]
    zipf = [1 / rank for rank in range(1, len(head) + 1)]
    repeats = float(os.environ.get("LOAD_REPEATS", "0.5"))
    chance = random.Random(seed)
    return lambda: chance.choices(head, zipf)[0] if chance.random() < repeats else chance.choice(tail)
