"""Suite `alerts`: "tell me when somebody writes about …": whether the wanted post rings, and how often another does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from appliance.alerts import LEVELS
from appliance.index import Scope
from appliance.ranking import calibration_of, relevance
from appliance.search import query_lemmas
from benchmarks.results import SHARED
from benchmarks.sets import SearchSet, default_embedder, indexed, read_set, title_set
from models.ports import Embedder

NAMES = ("strict", "usual", "wide")


def run() -> dict[str, Any]:
    """Take every question of two sets as an alert, and every post as one that comes in.

    Returns
    -------
    dict
        By set: ``alerts``, ``posts``, and by level ``told`` (share of alerts whose post rings) and ``others`` (rings by
        posts that answer something else, an alert and a thousand posts).
    """
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    embedder = default_embedder()
    return {"sets": {one.name: measure(one, embedder) for one in (read_set("telegram-search"), title_set())}}


def measure(search_set: SearchSet, embedder: Embedder) -> dict[str, Any]:
    """Compare each alert with each post, as `appliance.alerts` does with new ones."""
    keys = {name: key for key, name in search_set.names.items()}
    own: list[float] = []
    others: list[float] = []
    with indexed(search_set.posts, embedder) as index:
        calibration = calibration_of(index.embedder.card)
        vectors = embedder.embed_queries(list(search_set.queries.values()))
        for (query, text), vector in zip(search_set.queries.items(), vectors, strict=True):
            wanted = {keys[name] for name in search_set.relevant[query]}
            found = index.candidates(vector, query_lemmas(text), scope=Scope(), n=10 * len(search_set.posts))
            best: dict[tuple[int, int], float] = {}
            for key, chance in zip(found.posts, relevance(replace(found), calibration).tolist(), strict=True):
                best[key] = max(best.get(key, 0.0), chance)
            own.append(max(best.get(key, 0.0) for key in wanted))
            others += [chance for key, chance in best.items() if key not in wanted and chance >= min(LEVELS)]
    count = len(search_set.queries)
    thousands = count * len(search_set.posts) / 1000
    return {
        "alerts": count,
        "posts": len(search_set.posts),
        "levels": {
            name: {
                "above": above,
                "told": float(np.mean([chance >= above for chance in own])),
                "others": sum(chance >= above for chance in others) / thousands,
            }
            for name, above in zip(NAMES, LEVELS, strict=True)
        },
    }
