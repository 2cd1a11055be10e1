"""Fusion, folding, relevance."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ranking import Calibration, Candidates, any_relevance, calibration_of, fuse, rank, relevance
from appliance.text import fingerprint

DAY_US = 86_400_000_000
TEXTS = [
    "Утечки памяти в Go: как их обнаружить и устранить, рассказываем про pprof и профили кучи в сервисах",
    "Самоучитель по Python для начинающих: словари, списки, множества и кортежи на простых примерах",
    "Европейцы начали употреблять кокаин намного раньше, чем предполагалось учёными до исследования",
]


def candidates(texts: list[str], dense: list[float], lexical: list[float] | None = None) -> Candidates:
    """Candidates that are posts 1, 2, … of channel 1, a day apart, the last the oldest."""
    count = len(texts)
    return Candidates(
        posts=[(1, n + 1) for n in range(count)],
        ordinals=np.zeros(count, np.int64),
        dates=np.arange(count, 0, -1, dtype=np.int64) * DAY_US,
        fingerprints=np.array([fingerprint(text) for text in texts], np.int64),
        texts=texts,
        dense=np.array(dense, np.float32),
        lexical=np.array(lexical or [0.0] * count, np.float32),
        coverage=np.zeros(count, np.float32),
        rarity=np.array(lexical or [0.0] * count, np.float32),
        idf=np.ones(3, np.float32),
        dense_mean=0.78,
        dense_std=0.02,
        asks=False,
        n_posts=count,
        newest=None,
    )


@pytest.fixture
def calibration() -> Calibration:
    return calibration_of("multilingual-e5-small")


def test_best_vector_first_when_words_agree_with_nothing(calibration: Calibration) -> None:
    ranked = rank(candidates(TEXTS, [0.8, 0.9, 0.7]), calibration, limit=3)
    assert [hit.post for hit in ranked] == [(1, 2), (1, 1), (1, 3)]


def test_words_break_a_near_tie_but_do_not_shout(calibration: Calibration) -> None:
    near_tie = rank(candidates(TEXTS, [0.880, 0.881, 0.7], [20.0, 0.0, 0.0]), calibration, limit=3)
    assert near_tie[0].post == (1, 1)
    clear = rank(candidates(TEXTS, [0.80, 0.92, 0.7], [20.0, 0.0, 0.0]), calibration, limit=3)
    assert clear[0].post == (1, 2)


def test_a_post_is_returned_once_by_its_best_chunk(calibration: Calibration) -> None:
    found = candidates(TEXTS, [0.8, 0.9, 0.7])
    found = replace(found, posts=[(1, 1), (1, 1), (1, 2)], fingerprints=np.array([5, 5, 9]))
    ranked = rank(found, calibration, limit=5)
    assert [hit.post for hit in ranked] == [(1, 1), (1, 2)]
    assert ranked[0].chunk_text == TEXTS[1]


def test_copies_fold_into_the_oldest(calibration: Calibration) -> None:
    copy = TEXTS[0] + "\n\nhttps://t.me/goproglib"
    ranked = rank(candidates([TEXTS[0], TEXTS[1], copy], [0.9, 0.8, 0.85]), calibration, limit=5)
    assert [(hit.post, hit.copies) for hit in ranked] == [((1, 3), ((1, 1),)), ((1, 2), ())]
    assert ranked[0].dense == pytest.approx(0.9)


def test_copies_beyond_the_limit_are_still_listed(calibration: Calibration) -> None:
    ranked = rank(candidates([TEXTS[0], TEXTS[1], TEXTS[0]], [0.9, 0.85, 0.8]), calibration, limit=1)
    assert [(hit.post, hit.copies) for hit in ranked] == [((1, 3), ((1, 1),))]


def test_near_copies_fold_only_with_the_same_numbers(calibration: Calibration) -> None:
    long = " ".join(TEXTS)
    signed = long + " Подписаться"
    ranked = rank(candidates([long, signed], [0.9, 0.89]), calibration, limit=5)
    assert len(ranked) == 1
    numbered = [f"{long} Выпуск {n} от {n} мая" for n in (11, 12)]
    assert len(rank(candidates(numbered, [0.9, 0.89]), calibration, limit=5)) == 2


@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.floats(0, 50, width=32)), max_size=12), st.integers(1, 12))
def test_ranking_is_in_order_without_repeats(scores: list[tuple[float, float]], limit: int) -> None:
    texts = [f"{TEXTS[n % 3]} {n}" for n in range(len(scores))]
    found = candidates(texts, [dense for dense, _ in scores], [lexical for _, lexical in scores])
    ranked = rank(found, calibration_of("multilingual-e5-small"), limit=limit)
    assert len(ranked) <= limit
    assert [hit.score for hit in ranked] == sorted((hit.score for hit in ranked), reverse=True)
    keys = [key for hit in ranked for key in (hit.post, *hit.copies)]
    assert len(keys) == len(set(keys))
    assert all(0 <= hit.relevance <= 1 for hit in ranked)


def test_nothing_found(calibration: Calibration) -> None:
    nothing = candidates([], [])
    assert rank(nothing, calibration, limit=5) == []
    assert len(fuse(nothing, calibration)) == len(relevance(nothing, calibration)) == 0
    assert any_relevance(nothing, calibration) == 0.0


def test_relevance_grows_with_the_evidence(calibration: Calibration) -> None:
    found = candidates(TEXTS, [0.93, 0.85, 0.78])
    low, high = relevance(found, calibration), relevance(replace(found, coverage=np.ones(3, np.float32)), calibration)
    assert low[0] > low[1] > low[2]
    assert (high > low).all()
    assert high[0] > 0.5 > low[2]


def test_unknown_embedders_take_the_default_coefficients() -> None:
    assert calibration_of("never-seen").anything == calibration_of("multilingual-e5-small").anything


def test_a_question_is_matched_by_meaning_and_near_ties_by_its_words(calibration: Calibration) -> None:
    covered = np.array([1.0, 0.0, 0.0], np.float32)
    shouting = [90.0, 0.0, 0.0]
    near_tie = replace(candidates(TEXTS, [0.86, 0.88, 0.7], shouting), asks=True, coverage=covered)
    assert rank(near_tie, calibration, limit=3)[0].post == (1, 1)
    clear = replace(candidates(TEXTS, [0.80, 0.88, 0.7], shouting), asks=True, coverage=covered)
    assert rank(clear, calibration, limit=3)[0].post == (1, 2)
    # Without coverage the words' scores say nothing of a question.
    loud = replace(candidates(TEXTS, [0.879, 0.88, 0.7], shouting), asks=True)
    assert rank(loud, calibration, limit=3)[0].post == (1, 2)
