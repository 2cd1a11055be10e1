"""Suite `russian`: Russian as people type it, over the sample channel, kind by kind.

Each query is asked as typed and as written carefully; a hit is a post that answers among the first five.
"""

from __future__ import annotations

import asyncio
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from appliance import sample
from appliance.app import open_app
from appliance.config import Config
from appliance.schema import Asker, Filters
from benchmarks.results import ROOT

TOP = 5


def run() -> dict[str, Any]:
    """Ask every query of the suite."""
    suite = tomllib.loads((ROOT / "benchmarks/suites/russian.toml").read_text())
    return asyncio.run(measure(suite["query"]))


async def measure(queries: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask queries as typed and as written carefully.

    Parameters
    ----------
    queries : list of dict
        ``kind``, ``text``, ``clean``, ``posts``.

    Returns
    -------
    dict
        Of each kind ``<kind>_hits`` (as typed), ``<kind>_clean`` (written carefully) and ``<kind>_of``;
        ``changed_clean`` (careful queries that were respelled), ``spelling_clean_p50_ms`` and ``spelling_p95_ms`` (of
        all); the queries that missed.
    """
    hits: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    missed, changed = [], []
    careful, every = [], []
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data_dir=Path(folder) / "data", weights_dir=ROOT / "weights", _env_file=None)
        async with open_app(config) as app:
            with sample.export() as path:
                async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                    pass
            for query in queries:
                found = []
                for text in (query["text"], query["clean"]):
                    result = await app.verbs.search(text, asker=Asker(), filters=Filters(), limit=TOP)
                    found.append(any(hit.post.message_id in query["posts"] for hit in result.found))
                    every.append(result.times_ms["spelling"])
                    if text == query["clean"]:
                        careful.append(result.times_ms["spelling"])
                        changed += [f"{text} → {result.searched_as}"] if result.searched_as else []
                    elif not found[0]:
                        missed.append(f"{query['kind']}: {text} → {result.searched_as or text}")
                hits[query["kind"]].append((found[0], found[1]))
    figures: dict[str, Any] = {}
    for kind, rows in hits.items():
        typed, clean = (sum(column) for column in zip(*rows, strict=True))
        figures |= {f"{kind}_hits": typed, f"{kind}_clean": clean, f"{kind}_of": len(rows)}
    return figures | {
        "changed_clean": len(changed),
        "spelling_clean_p50_ms": float(np.median(careful)),
        "spelling_p95_ms": float(np.percentile(every, 95)),
        "changed": changed,
        "missed": missed,
    }
