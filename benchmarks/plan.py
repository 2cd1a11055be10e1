"""Suite `plan`: the memory plan against counts by hand and published sizes, and what it gives each common card."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

from benchmarks.results import SUITES
from models.cards import AnswererCard, EmbedderCard, RerankerCard, all_cards
from models.plan import GIB, Plan, plan, plans

MEMORIES_GB = (8, 12, 16, 24, 48, 80)
ANSWERS, CONTEXT = 4, 8192  # asked where they fit; else two answers of half the length


@cache
def suite() -> dict[str, Any]:
    """Return the cases: counted by hand, and published."""
    return tomllib.loads((SUITES / "plan.toml").read_text(encoding="utf-8"))


def run() -> dict[str, Any]:
    """Count the errors of the plan, and plan every common amount of memory."""
    rows = []
    for case in suite()["cases"]:
        made, by_hand_gib = planned(case)
        kv_gib = made.kv_bytes / GIB
        rows.append(
            {
                **{key: case[key] for key in ("card", "vram", "beside", "context", "asked")},
                "kv_gib": kv_gib,
                "by_hand_gib": by_hand_gib,
                "error": abs(kv_gib / by_hand_gib - 1),
                "at_once": made.answers_at_once,
                "is_wrong": (made.answers_at_once, made.embedder) != (case["at_once"], case["embedder"]),
            }
        )
    memories = {str(memory): best(memory) for memory in MEMORIES_GB}
    sizes = published()
    return {
        "cases": len(rows),
        "largest_error": max(row["error"] for row in rows),
        "answers_at_once_wrong": sum(row["is_wrong"] for row in rows),
        "published_largest_error": max(row["error"] for row in sizes),
        "memories_without_an_answerer": sum(not found for found in memories.values()),
        "by_hand": rows,
        "published": sizes,
        "memories": memories,
    }


def planned(case: dict[str, Any]) -> tuple[Plan, float]:
    """Plan a case counted by hand; returns the plan and the GiB that the hand leaves for the cache."""
    cards = all_cards()
    answerer, embedder, reranker = cards[case["card"]], cards["bge-m3"], cards["bge-reranker-v2-m3"]
    assert isinstance(answerer, AnswererCard)
    assert isinstance(embedder, EmbedderCard)
    assert isinstance(reranker, RerankerCard)
    made = plan(
        answerer,
        vram_gib=case["vram"],
        embedder=None if case["beside"] == "none" else embedder,
        reranker=reranker if case["beside"] == "both" else None,
        answers_at_once=case["asked"],
        context=case["context"],
    )
    return made, case["usable"] - sum(case["taken"])


def published() -> list[dict[str, Any]]:
    """Compare the cards' parameters with the sizes of published files."""
    cards = all_cards()
    rows = []
    for case in suite()["published"]:
        ours = cards[case["card"]].parameters * case["bits"] / 8 / 1e9
        rows.append({**case, "counted": ours, "error": abs(ours / case["gigabytes"] - 1)})
    return rows


def best(memory_gb: float) -> list[dict[str, Any]]:
    """Plan all answerers with BGE-M3 for a card's memory; what fits, largest first."""
    cards = all_cards()
    answerers = [card for card in cards.values() if isinstance(card, AnswererCard) and card.engine == "vllm"]
    found: list[dict[str, Any]] = []
    for answers, context in ((ANSWERS, CONTEXT), (2, CONTEXT // 2)):
        fits, _ = plans(
            answerers, vram_gib=memory_gb, embedder=cards["bge-m3"], answers_at_once=answers, context=context
        )
        taken = {row["card"] for row in found}
        found += [
            {
                "card": made.answerer.name,
                "at_once": made.answers_at_once,
                "context": made.context,
                "weights_gib": made.shares[0].bytes / GIB,
                "kv_gib": made.kv_bytes / GIB,
                "embedder": made.embedder,
            }
            for made in fits
            if made.answerer.name not in taken
        ]
    return sorted(found, key=lambda row: -row["weights_gib"])
