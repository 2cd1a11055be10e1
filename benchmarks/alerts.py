"""Suite `alerts`: "tell me when somebody writes about …": whether the wanted post rings, and how often another does.

A level of an alert is the lowest probability at which other posts ring no oftener than the level allows. It is chosen
on half of the alerts of both sets and judged on the other half; `appliance.alerts.LEVELS` are what this suite chose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.alerts import LEVELS
from appliance.index import Scope
from appliance.ranking import calibration_of, relevance
from appliance.search import query_lemmas
from benchmarks.results import SHARED
from benchmarks.sets import SearchSet, default_embedder, indexed, read_set, title_set
from models.ports import Embedder

ALLOWED = {"strict": 0.3, "usual": 2.0, "wide": 8.0}  # posts of something else that ring, of a thousand new posts
NEVER = 0.001  # a probability below any level


@dataclass(frozen=True, slots=True)
class Heard:
    """One alert over all posts: the best probability of a wanted post, and those of other posts from `NEVER` on."""

    own: float
    others: tuple[float, ...]


def run() -> dict[str, Any]:
    """Take every question of two sets as an alert, and every post as one that comes in.

    Returns
    -------
    dict
        ``chosen`` (the probability of each level), ``in_force``, ``apart`` (how far these are from it),
        and by set and level: ``told`` (share of alerts whose post rings) and ``others`` (rings by posts that answer
        something else, an alert and a thousand posts), both on the alerts that chose nothing.
    """
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    embedder = default_embedder()
    sets = [(one, heard(one, embedder)) for one in (read_set("telegram-search"), title_set())]
    chosen = {
        name: max(level(alerts[::2], len(one.posts), most) for one, alerts in sets) for name, most in ALLOWED.items()
    }
    in_force = dict(zip(ALLOWED, LEVELS, strict=True))
    judged = {
        one.name: {name: judge(alerts[1::2], len(one.posts), above) for name, above in in_force.items()}
        for one, alerts in sets
    }
    return {
        "allowed": ALLOWED,
        "chosen": chosen,
        "in_force": in_force,
        "apart": max(abs(in_force[name] - chosen[name]) for name in ALLOWED),
        "sets": {one.name: {"alerts": len(alerts), "posts": len(one.posts)} for one, alerts in sets},
        "levels": judged,
        "worst": {
            name: {
                "told": min(levels[name]["told"] for levels in judged.values()),
                "others": max(levels[name]["others"] for levels in judged.values()),
            }
            for name in ALLOWED
        },
    }


def heard(search_set: SearchSet, embedder: Embedder) -> list[Heard]:
    """Compare each alert with each post, as `appliance.alerts` does with new ones."""
    keys = {name: key for key, name in search_set.names.items()}
    found = []
    with indexed(search_set.posts, embedder) as index:
        calibration = calibration_of(index.embedder.card)
        vectors = embedder.embed_queries(list(search_set.queries.values()))
        for (query, text), vector in zip(search_set.queries.items(), vectors, strict=True):
            wanted = {keys[name] for name in search_set.relevant[query]}
            near = index.candidates(vector, query_lemmas(text), scope=Scope(), n=10 * len(search_set.posts))
            best: dict[tuple[int, int], float] = {}
            for key, chance in zip(near.posts, relevance(near, calibration).tolist(), strict=True):
                best[key] = max(best.get(key, 0.0), chance)
            others = tuple(chance for key, chance in best.items() if key not in wanted and chance >= NEVER)
            found.append(Heard(max(best.get(key, 0.0) for key in wanted), others))
    return found


def level(alerts: list[Heard], posts: int, most: float) -> float:
    """Return the lowest probability, in thousandths rounded up, at which others ring no oftener than allowed."""
    allowed = math.floor(most * len(alerts) * posts / 1000)
    chances = np.sort(np.concatenate([alert.others for alert in alerts]))[::-1]
    lowest = float(chances[allowed]) if allowed < len(chances) else NEVER
    return math.floor(lowest * 1000 + 1) / 1000


def judge(alerts: list[Heard], posts: int, above: float) -> dict[str, float]:
    """Say how many alerts ring for what they want, and how often for something else."""
    rings = sum(chance >= above for alert in alerts for chance in alert.others)
    return {
        "above": above,
        "told": float(np.mean([alert.own >= above for alert in alerts])),
        "others": rings / (len(alerts) * posts / 1000),
    }
