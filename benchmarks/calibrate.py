"""Fit and judge the probabilities of relevance: questions with their answers kept, withheld, or never there.

``python -m benchmarks.calibrate`` reports; ``--write`` also writes ``appliance/calibration.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from appliance.index import Index, Scope
from appliance.ranking import Candidates, calibration_of, evidence, fuse, query_evidence
from appliance.schema import PostKey
from appliance.search import CANDIDATES, query_lemmas
from benchmarks.metrics import auroc, reliability
from benchmarks.results import ROOT, SHARED
from benchmarks.sets import SETS, SearchSet, default_embedder, indexed, open_questions, read_set, title_set
from models.ports import Embedder

Floats = NDArray[np.float64]

# How much each kind of question counts within its set; a set counts as much as another.
SHARES = {"kept": 1.0, "gold withheld": 0.15, "page withheld": 0.6, "no answer": 0.6}
TOP = 10  # candidates a question that teach the probability of a single post
RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class Case:
    """A question with what was found for it.

    Attributes
    ----------
    kind : str
        One of `SHARES`.
    each : numpy.ndarray
        ``(k, features)`` evidence of the best candidates.
    answers : numpy.ndarray
        ``(k,)`` whether each answers.
    whole : numpy.ndarray
        ``(features,)`` evidence of the query.
    """

    set_name: str
    kind: str
    each: Floats
    answers: Floats
    whole: Floats


def run(*, write: bool = False) -> dict[str, Any]:
    """Fit on all sets; judge by leaving one set out.

    Parameters
    ----------
    write : bool, optional
        Also write the coefficients.

    Returns
    -------
    dict
        ``auroc``: by set, of kept against each other kind; ``reliability``: Brier score, calibration error and bins of
        the held-out sets together, weighed as they are taught; ``refused``: share of each kind below one half.
    """
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    embedder = default_embedder()
    cases = [case for one in (*map(read_set, SETS), title_set()) for case in cases_of(one, embedder)]
    names = list(dict.fromkeys(case.set_name for case in cases))
    held_out: dict[int, float] = {}
    for name in names:
        model = fit_whole([case for case in cases if case.set_name != name])
        held_out.update({n: chance(case.whole, model) for n, case in enumerate(cases) if case.set_name == name})
    report = judge(cases, np.array([held_out[n] for n in range(len(cases))]))
    report["anything"] = fit_whole(cases)
    report["each"] = fit_each(cases)
    if write:
        write_coefficients(embedder.info.card, report)
    return report


def cases_of(search_set: SearchSet, embedder: Embedder) -> list[Case]:
    """Ask every question with its answers kept and with them withheld; of wiki-qa also without the whole page."""
    keys = {name: key for key, name in search_set.names.items()}
    found: list[Case] = []
    with indexed(search_set.posts, embedder) as index:
        vectors = embedder.embed_queries(list(search_set.queries.values()))
        for (query, text), vector in zip(search_set.queries.items(), vectors, strict=True):
            gold = {keys[name] for name in search_set.relevant[query]}
            candidates = index.candidates(vector, query_lemmas(text), scope=Scope(), n=CANDIDATES)
            found.append(case_of(search_set.name, "kept", candidates, gold, index))
            found.append(case_of(search_set.name, "gold withheld", without(candidates, gold), set(), index))
            if search_set.name == "wiki-qa":
                pages = {name.split("-")[1] for name in search_set.relevant[query]}
                page = {key for name, key in keys.items() if name.split("-")[1] in pages}
                found.append(case_of(search_set.name, "page withheld", without(candidates, page), set(), index))
        if search_set.name == "telegram-search":
            texts = open_questions(300)
            for text, vector in zip(texts, embedder.embed_queries(texts), strict=True):
                candidates = index.candidates(vector, query_lemmas(text), scope=Scope(), n=CANDIDATES)
                found.append(case_of(search_set.name, "no answer", candidates, set(), index))
    return found


def case_of(set_name: str, kind: str, candidates: Candidates, gold: set[PostKey], index: Index) -> Case:
    """Take the evidence of one question."""
    scores = fuse(candidates, calibration_of(index.embedder.card))
    best = np.argsort(-scores, kind="stable")[:TOP]
    return Case(
        set_name=set_name,
        kind=kind,
        each=evidence(candidates)[best].astype(float),
        answers=np.array([candidates.posts[place] in gold for place in best.tolist()], float),
        whole=query_evidence(candidates, scores).astype(float),
    )


def without(candidates: Candidates, posts: set[PostKey]) -> Candidates:
    """Drop posts from candidates, as if they had never been written."""
    kept = np.array([place for place, post in enumerate(candidates.posts) if post not in posts], np.int64)
    return replace(
        candidates,
        posts=[candidates.posts[place] for place in kept.tolist()],
        texts=[candidates.texts[place] for place in kept.tolist()],
        ordinals=candidates.ordinals[kept],
        dates=candidates.dates[kept],
        fingerprints=candidates.fingerprints[kept],
        dense=candidates.dense[kept],
        lexical=candidates.lexical[kept],
        coverage=candidates.coverage[kept],
        rarity=candidates.rarity[kept],
    )


def weights_of(cases: Sequence[Case]) -> Floats:
    """Weigh cases so that every set counts the same and kinds count as `SHARES` says."""
    counts: dict[tuple[str, str], int] = {}
    for case in cases:
        counts[case.set_name, case.kind] = counts.get((case.set_name, case.kind), 0) + 1
    weights = np.array([SHARES[case.kind] / counts[case.set_name, case.kind] for case in cases])
    shares: Floats = weights / weights.sum()
    return shares


def fit_whole(cases: Sequence[Case]) -> list[float]:
    """Fit the probability that anything answers."""
    truths = np.array([case.kind == "kept" for case in cases], float)
    return fit(np.stack([case.whole for case in cases]), truths, weights_of(cases))


def fit_each(cases: Sequence[Case]) -> list[float]:
    """Fit the probability that a post answers."""
    weights = np.concatenate(
        [np.full(len(c.each), w / len(c.each)) for c, w in zip(cases, weights_of(cases), strict=True)]
    )
    return fit(np.concatenate([c.each for c in cases]), np.concatenate([c.answers for c in cases]), weights)


def fit(features: Floats, truths: Floats, weights: Floats) -> list[float]:
    """Fit a logistic regression by Newton's method, with a small ridge.

    Parameters
    ----------
    features : numpy.ndarray
        ``(n, f)``.
    truths : numpy.ndarray
        ``(n,)`` of 0 and 1.
    weights : numpy.ndarray
        ``(n,)``, sum 1.

    Returns
    -------
    list of float
        Intercept, then ``f`` coefficients.
    """
    middle, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    design = np.column_stack((np.ones(len(features)), (features - middle) / spread))
    ridge = RIDGE * np.diag([0.0, *np.ones(features.shape[1])])
    model = np.zeros(design.shape[1])
    for _ in range(50):
        chances = 1 / (1 + np.exp(-design @ model))
        slope = design.T @ (weights * (chances - truths)) + ridge @ model
        curve = (design.T * (weights * chances * (1 - chances))) @ design + ridge
        step = np.linalg.solve(curve, slope)
        model -= step
        if np.abs(step).max() < 1e-9:
            break
    coefficients = model[1:] / spread
    return [float(model[0] - coefficients @ middle), *map(float, coefficients)]


def chance(features: Floats, model: Sequence[float]) -> float:
    """Probability by a fitted model."""
    return float(1 / (1 + np.exp(-(features @ np.array(model[1:]) + model[0]))))


def judge(cases: Sequence[Case], chances: Floats) -> dict[str, Any]:
    """Report how well probabilities tell the kinds apart, and whether they mean what they say."""
    areas: dict[str, dict[str, float]] = {}
    refused: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(case.set_name for case in cases):
        here = {
            kind: [p for p, c in zip(chances, cases, strict=True) if (c.set_name, c.kind) == (name, kind)]
            for kind in SHARES
        }
        areas[name] = {kind: auroc(here["kept"], here[kind]) for kind in SHARES if kind != "kept" and here[kind]}
        refused[name] = {kind: float(np.mean(np.array(values) < 0.5)) for kind, values in here.items() if values}
    happened = [case.kind == "kept" for case in cases]
    return {
        "auroc": areas,
        "refused": refused,
        "reliability": reliability(chances.tolist(), happened, weights_of(cases).tolist()),
    }


def write_coefficients(card: str, report: dict[str, Any]) -> None:
    """Write fitted coefficients into ``appliance/calibration.json``; the fusion's own weights stay."""
    path = ROOT / "appliance" / "calibration.json"
    stored = orjson.loads(path.read_bytes())
    row = stored["cards"].setdefault(card, dict(stored["cards"][stored["default"]]))
    row.update({key: [round(value, 4) for value in report[key]] for key in ("each", "anything")})
    path.write_bytes(orjson.dumps(stored, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    print(orjson.dumps(run(write="--write" in sys.argv[1:]), option=orjson.OPT_INDENT_2).decode())
