"""Suite `russian`: Russian as people type it, over the sample channel, kind by kind.

Each query is asked as typed, as typed but never respelled, and as written carefully; a hit is a post that answers among
the first five. The rules were made on the first list; the second was written later, before they had been run on it.
"""

from __future__ import annotations

import asyncio
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from appliance import sample
from appliance.app import App, open_app
from appliance.config import Config
from appliance.index import Index
from appliance.schema import Asker, Filters
from appliance.search import search
from benchmarks.results import ROOT

TOP = 5


def run() -> dict[str, Any]:
    """Ask every query of the suite."""
    suite = tomllib.loads((ROOT / "benchmarks/suites/russian.toml").read_text("utf-8"))
    return asyncio.run(both(suite["query"], suite["held_out"]))


async def both(queries: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask both lists over one appliance with the sample channel; the second's figures stand under ``held_out``."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data_dir=Path(folder) / "data", weights_dir=ROOT / "weights", _env_file=None)
        async with open_app(config) as app:
            with sample.export() as path:
                async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                    pass
            return {**await measure(app, queries), "held_out": await measure(app, held_out)}


@dataclass(frozen=True, slots=True)
class EveryWordKnown:
    """An index that knows every word, so that nothing is respelled."""

    index: Index

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the index."""
        return getattr(self.index, name)

    def count(self, lemma: str, channels: Set[int]) -> int:
        """Say that a lemma is there."""
        return 1


async def measure(app: App, queries: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask queries as typed and as written carefully.

    Parameters
    ----------
    app : App
    queries : list of dict
        ``kind``, ``text``, ``clean``, ``posts``.

    Returns
    -------
    dict
        Of each kind ``<kind>_before`` (as typed, never respelled), ``<kind>_hits`` (as typed), ``<kind>_clean``
        (written carefully) and ``<kind>_of``; ``before``, ``hits``, ``clean``, ``of``: over all kinds;
        ``changed_clean`` (careful queries that were respelled), ``spelling_clean_p50_ms`` and ``spelling_p95_ms`` (of
        all); the queries that missed.
    """
    now = app.shelf.now
    as_typed = cast(Index, EveryWordKnown(now.index))
    hits: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    missed, changed = [], []
    careful, every = [], []
    for query in queries:
        found = []
        asks: dict[str, Any] = {"asker": Asker(), "filters": Filters(), "limit": TOP}
        stores: dict[str, Any] = {"ledger": app.ledger, "embedder": now.embedder}
        for text, index in ((query["text"], as_typed), (query["text"], now.index), (query["clean"], now.index)):
            result = await search(text, **asks, **stores, index=index)
            found.append(any(hit.post.message_id in query["posts"] for hit in result.found))
            if index is as_typed:
                continue
            every.append(result.times_ms["spelling"])
            if text == query["clean"]:
                careful.append(result.times_ms["spelling"])
                changed += [f"{text} → {result.searched_as}"] if result.searched_as else []
            elif not found[1]:
                missed.append(f"{query['kind']}: {text} → {result.searched_as or text}")
        hits[query["kind"]].append((found[0], found[1], found[2]))
    figures: dict[str, Any] = {}
    for kind, rows in hits.items():
        before, typed, clean = (sum(column) for column in zip(*rows, strict=True))
        figures |= {f"{kind}_before": before, f"{kind}_hits": typed, f"{kind}_clean": clean, f"{kind}_of": len(rows)}
    totals = {name: sum(figures[f"{kind}_{name}"] for kind in hits) for name in ("before", "hits", "clean", "of")}
    return (
        figures
        | totals
        | {
            "changed_clean": len(changed),
            "spelling_clean_p50_ms": float(np.median(careful)),
            "spelling_p95_ms": float(np.percentile(every, 95)),
            "changed": changed,
            "missed": missed,
        }
    )
