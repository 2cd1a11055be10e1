"""Suite `repeats`: whether repeated questions of a group are recognised and pointed at the right post, else silence."""

from __future__ import annotations

import asyncio
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from appliance import repeats, sample
from appliance.answer import LINKS, newest_first
from appliance.app import App, open_app
from appliance.config import Config
from appliance.repeats import AGREE_WITHIN, ALIKE_ABOVE, SURE_ABOVE, is_question, repeated
from appliance.schema import Asker, Filters, PostKey
from benchmarks.results import ROOT, SUITES
from models.ports import Vectors

CHAT = -1001500000001
ALIKE = tuple(round(0.80 + 0.01 * step, 2) for step in range(20))
SURE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LEAST_PRECISION = 0.85  # of the half that chooses: its two misses point at posts that a newer one has replaced


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of the group as the two judges see it."""

    kind: str  # repeat, near, chatter
    text: str
    answers: frozenset[int]  # message ids of posts that answer it
    is_asking: bool
    found: tuple[PostKey, ...]
    lead: PostKey | None  # the post that an answer begins with
    relevance: float
    vector: Vectors


def run() -> dict[str, Any]:
    """Choose the thresholds on half of the list, judge them on the other half, through the product's own path."""
    suite = tomllib.loads((SUITES / "repeats.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data_dir=Path(folder) / "data", weights_dir=ROOT / "weights", _env_file=None)
        return asyncio.run(measure(config, suite))


async def measure(config: Config, suite: dict[str, Any]) -> dict[str, Any]:
    """Return the figures over the sample channel."""
    async with open_app(config) as app:
        with sample.export() as path:
            async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                pass
        firsts = [await heard(app, "first", one["first"], ()) for kind in ("repeat", "near") for one in suite[kind]]
        later = [
            await heard(app, kind, one["later"], one["posts"]) for kind in ("repeat", "near") for one in suite[kind]
        ] + [await heard(app, "chatter", text, ()) for text in suite["chatter"]]
        tuned, judged = later[::2], later[1::2]
        grid = [(alike, sure, scored(tuned, pointing(firsts, alike, sure))) for alike in ALIKE for sure in SURE]
        good = [cell for cell in grid if cell[2]["precision"] >= LEAST_PRECISION]
        best = max(good, key=lambda cell: (cell[2]["recall"], cell[2]["precision"], cell[1], cell[0]))
        alone = [(alike, scored(judged, by_likeness(firsts, alike))) for alike in ALIKE]
        held = scored(judged, pointing(firsts, ALIKE_ABOVE, SURE_ABOVE))
        product = await through_the_product(app, firsts, judged)
        same_recall = [one for _, one in alone if one["recall"] >= held["recall"]]
        return {
            "chosen": {"alike": best[0], "sure": best[1], **best[2]},
            "in_force": {"alike": ALIKE_ABOVE, "sure": SURE_ABOVE},
            "held_out": held,
            "precision": product["precision"],
            "recall": product["recall"],
            "chatter_answered": product["chatter"],
            "near_wrong": product["near_wrong"],
            "likeness_alone_precision": max((one["precision"] for one in same_recall), default=0.0),
            "likeness_alone_near_wrong": min((one["near_wrong"] for one in same_recall), default=0),
            "tuned": scored(tuned, pointing(firsts, ALIKE_ABOVE, SURE_ABOVE)),
            "messages": {kind: sum(one.kind == kind for one in judged) for kind in ("repeat", "near", "chatter")},
        }


async def heard(app: App, kind: str, text: str, posts: Sequence[int]) -> Heard:
    """Search and embed a message."""
    result = await app.verbs.search(text, asker=Asker(), filters=Filters())
    vector = app.shelf.now.embedder.embed_queries([text])[0]
    keys = tuple(hit.post.key for hit in result.found[:AGREE_WITHIN])
    lead = newest_first(result.found[:LINKS])[0].post.key if result.found else None
    return Heard(kind, text, frozenset(posts), is_question(text), keys, lead, result.relevance, vector)


Point = Callable[[Heard], PostKey | None]


def pointing(firsts: Sequence[Heard], alike: float, sure: float) -> Point:
    """Return the rule: search is sure, and an earlier question that is alike was answered by the same post."""
    earlier = [
        repeats._Earlier(place, frozenset({one.lead}), one.vector)
        for place, one in enumerate(firsts, 1)
        if one.lead and one.relevance >= sure
    ]

    def point(message: Heard) -> PostKey | None:
        if not message.is_asking or message.relevance < sure:
            return None
        both = repeated(message.found, message.vector, earlier, above=alike)
        return both[1] if both else None

    return point


def by_likeness(firsts: Sequence[Heard], alike: float) -> Point:
    """Return the rule to compare with: likeness of embeddings alone."""
    vectors = np.stack([one.vector for one in firsts])

    def point(message: Heard) -> PostKey | None:
        likeness = vectors @ message.vector
        best = int(likeness.argmax())
        return firsts[best].lead if likeness[best] >= alike else None

    return point


def scored(messages: Sequence[Heard], point: Point) -> dict[str, float]:
    """Judge a rule: what it points at must answer the message."""
    pointed = [(one, key) for one in messages if (key := point(one)) is not None]
    return judged_of(messages, pointed)


def judged_of(messages: Sequence[Heard], pointed: Sequence[tuple[Heard, PostKey]]) -> dict[str, float]:
    """Count right and wrong pointings."""
    right = [one for one, key in pointed if key[1] in one.answers]
    repeats_ = sum(one.kind == "repeat" for one in messages)
    wrong = [one for one, key in pointed if key[1] not in one.answers]
    return {
        "precision": round(len(right) / len(pointed), 4) if pointed else 1.0,
        "recall": round(sum(one.kind == "repeat" for one in right) / repeats_, 4),
        "pointed": len(pointed),
        "chatter": sum(one.kind == "chatter" for one in wrong),
        "near_wrong": sum(one.kind == "near" for one in wrong),
    }


async def through_the_product(app: App, firsts: Sequence[Heard], messages: Sequence[Heard]) -> dict[str, float]:
    """Say everything in a group and judge what the appliance points at."""
    asker = app.ledger.save_user(telegram_id=1, username=None, first_name="Группа")
    await app.verbs.repeats.set_mode(CHAT, None, "on")
    now = datetime.now(UTC)
    for place, one in enumerate(firsts, 1):
        await app.verbs.repeats.look(one.text, asker=asker, chat_id=CHAT, message_id=place, asked_at=now)
    pointed = []
    for place, one in enumerate(messages, len(firsts) + 1):
        pointer = await app.verbs.repeats.look(one.text, asker=asker, chat_id=CHAT, message_id=place, asked_at=now)
        if pointer is not None:
            pointed.append((one, pointer.citations[0].post))
    return judged_of(messages, pointed)
