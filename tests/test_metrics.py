"""Figures of retrieval and of probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metrics import MEASURES, auroc, interval, ndcg, paired_p, reciprocal_rank, reliability

DOCUMENTS = st.permutations(list("abcdefghijklmno"))
RELEVANT = st.sets(st.sampled_from("abcdefghijklmnoxyz"), min_size=1)


@given(DOCUMENTS, RELEVANT)
def test_measures_lie_between_nothing_and_the_best_order(ranked: list[str], relevant: set[str]) -> None:
    best = sorted(ranked, key=lambda document: document not in relevant)
    for measure in MEASURES.values():
        assert 0 <= measure(ranked, relevant) <= measure(best, relevant) <= 1 + 1e-12


def test_known_values() -> None:
    assert reciprocal_rank(10, ["a", "b", "c"], {"c", "z"}) == pytest.approx(1 / 3)
    assert ndcg(10, ["a", "b"], {"b"}) == pytest.approx(1 / np.log2(3))
    assert ndcg(10, ["a", "b"], {"a", "b"}) == pytest.approx(1)
    assert MEASURES["hit@1"](["a"], {"b"}) == 0


def test_intervals_hold_the_mean_and_are_seeded() -> None:
    values = np.random.default_rng(1).random(50).tolist()
    low, high = interval(values)
    assert low < np.mean(values) < high
    assert interval(values) == (low, high)
    assert interval(values, seed=1) != (low, high)


def test_paired_test_tells_a_gain_from_noise() -> None:
    noise = np.random.default_rng(2).normal(0, 1, 60)
    base = np.random.default_rng(3).normal(0, 1, 60)
    assert paired_p(base + 1 + 0.1 * noise, base) < 0.001
    assert paired_p(base + noise - noise.mean(), base) > 0.5
    assert paired_p(base, base) == 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_auroc_is_the_chance_to_order_a_pair(positives: list[int], negatives: list[int]) -> None:
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    assert auroc(positives, negatives) == pytest.approx(np.mean(pairs))


def test_reliability() -> None:
    honest = reliability([0.25] * 4 + [0.75] * 4, [True, False, False, False, True, True, True, False])
    assert honest["ece"] == pytest.approx(0)
    boastful = reliability([1.0] * 4, [True, False, False, False])
    assert boastful["ece"] == pytest.approx(0.75)
    assert boastful["bins"] == [(1.0, 0.25, 4)]


def test_reliability_weighs_what_it_is_told_to() -> None:
    rare = reliability([0.75] * 2 + [0.25] * 2, [True, False, False, True], [3.0, 1.0, 3.0, 1.0])
    assert rare["ece"] == pytest.approx(0)
    assert reliability([0.75] * 2, [True, False])["ece"] == pytest.approx(0.25)
