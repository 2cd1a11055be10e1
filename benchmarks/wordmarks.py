"""Fit and judge the classifiers of words: spam on real Telegram messages, rudeness on comments and their rewrites.

``python -m benchmarks.wordmarks`` reports; ``--write`` also writes ``appliance/wordmarks.json``: coefficients alone.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from appliance.wordmarks import BUCKETS, FILE, Kind, marks
from benchmarks.results import SHARED

FOLDS = 10
RIDGE = 1e-4  # ten and a hundred times more lost recall at every threshold
STEPS = 25  # of Newton's method; it converges in about ten
ORIGIN = {
    "spam": "weights fitted to 612 messages of github.com/umputun/tg-spam (MIT); no message is kept here",
    "toxic": "weights fitted to 800 comments and rewrites of MERA's ruDetox (MIT); no comment is kept here",
}
Floats = NDArray[np.float64]


def texts_of(kind: Kind) -> tuple[list[str], Floats, NDArray[np.int64]]:
    """Return texts, labels and groups that stay in one fold."""
    if kind == "spam":
        rows = _rows("spam/messages.jsonl")
        return [r["text"] for r in rows], np.array([r["label"] == "spam" for r in rows], float), np.arange(len(rows))
    rows = _rows("toxicity/rudetox.jsonl")
    texts = [row["text"] for row in rows] + [row["rewrite"] for row in rows]
    labels = np.array([1.0] * len(rows) + [0.0] * len(rows))
    return texts, labels, np.tile(np.arange(len(rows)), 2)


def judge(kind: Kind, *, seed: int = 7) -> dict[str, Any]:
    """Return precision and recall by cross-validation, at one half and at a strict threshold."""
    texts, labels, groups = texts_of(kind)
    features = matrix(texts)
    place = np.random.default_rng(seed).permutation(int(groups.max()) + 1)[groups] % FOLDS
    chances = np.zeros(len(texts))
    for fold in range(FOLDS):
        train = place != fold
        intercept, weights = fit(features[train], labels[train])
        chances[~train] = 1 / (1 + np.exp(-(intercept + features[~train] @ weights)))
    return {"texts": len(texts), "positive": int(labels.sum()), "folds": FOLDS, "at": at(chances, labels)}


def at(chances: Floats, labels: Floats) -> dict[str, dict[str, float]]:
    """Return precision, recall and false alarms by threshold."""
    rows = {}
    for threshold in (0.5, 0.8, 0.9, 0.95):
        said = chances >= threshold
        hits = float((said * labels).sum())
        rows[f"p{round(threshold * 100)}"] = {
            "precision": hits / max(1.0, float(said.sum())),
            "recall": hits / float(labels.sum()),
            "false_alarms": float((said * (1 - labels)).sum() / (1 - labels).sum()),
        }
    return rows


def matrix(texts: list[str]) -> Floats:
    """Return features by text, each row divided by the root of its features' number."""
    rows = np.zeros((len(texts), BUCKETS))
    for number, text in enumerate(texts):
        if places := marks(text):
            rows[number, list(places)] = 1 / np.sqrt(len(places))
    return rows


def fit(features: Floats, labels: Floats) -> tuple[float, Floats]:
    """Fit a ridge logistic regression in its dual form: there are fewer texts than features."""
    kernel = features @ features.T + 1.0  # the constant is the intercept's feature
    count = len(labels)
    alpha: Floats = np.zeros(count)
    for _ in range(STEPS):
        total = kernel @ alpha
        chance = 1 / (1 + np.exp(-total))
        spread = np.maximum(chance * (1 - chance), 1e-5)
        target = total + (labels - chance) / spread
        fresh = np.linalg.solve(kernel + np.diag(count * RIDGE / spread), target)
        if np.abs(fresh - alpha).max() < 1e-6:
            break
        alpha = np.asarray(fresh, np.float64)
    return float(alpha.sum()), features.T @ alpha


def write() -> None:
    """Write the coefficients fitted to everything."""
    document: dict[str, Any] = {}
    kinds: tuple[Kind, ...] = ("spam", "toxic")
    for kind in kinds:
        texts, labels, _ = texts_of(kind)
        intercept, weights = fit(matrix(texts), labels)
        places = np.flatnonzero(np.abs(weights) >= 0.02)
        document[kind] = {
            "origin": ORIGIN[kind],
            "intercept": round(intercept, 3),
            "places": places.tolist(),
            "weights": [round(float(weight), 2) for weight in weights[places]],
        }
    FILE.write_bytes(orjson.dumps(document) + b"\n")


def _rows(name: str) -> list[dict[str, Any]]:
    path = SHARED / name
    if not path.exists():
        raise SystemExit(f"The suite reads {path}, which is absent: put the data folder beside the checkout.")
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


if __name__ == "__main__":
    for one in ("spam", "toxic"):
        sys.stdout.write(f"{one} {orjson.dumps(judge(one), option=orjson.OPT_INDENT_2).decode()}\n")
    if "--write" in sys.argv:
        write()
