"""BM25 in RAM."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.dense import best_rows
from appliance.lexical import K1, B, Lexicon

WORDS = st.sampled_from("кот пес лес дом река море гора снег дождь ветер".split())
ROWS = st.lists(st.lists(WORDS, max_size=8), min_size=1, max_size=30)


def bm25(rows: list[list[str]], query: list[str]) -> list[float]:
    """The formula, row by row."""
    mean = max(sum(map(len, rows)) / len(rows), 1.0)
    scores = []
    for row in rows:
        score = 0.0
        for word in dict.fromkeys(query):
            found_in = sum(word in other for other in rows)
            count = row.count(word)
            if count:
                idf = math.log(1 + (len(rows) - found_in + 0.5) / (found_in + 0.5))
                score += idf * count * (K1 + 1) / (count + K1 * (1 - B + B * len(row) / mean))
        scores.append(score)
    return scores


def big(rows: list[list[str]]) -> Lexicon:
    """A lexicon whose rows all went to the main postings at once."""
    lexicon = Lexicon()
    lexicon.add([*rows, *[[]] * 1001])
    lexicon.keep(np.arange(len(rows)))
    return lexicon


@given(ROWS, st.lists(WORDS, min_size=1, max_size=4), st.booleans())
def test_scores_follow_the_formula(rows: list[list[str]], query: list[str], in_main: bool) -> None:
    lexicon = big(rows) if in_main else Lexicon()
    for row in [] if in_main else rows:
        lexicon.add([row])
    known = [word for word in query if any(word in row for row in rows)]
    np.testing.assert_allclose(lexicon.score(lexicon.prepare(known)), bm25(rows, known), rtol=1e-4, atol=1e-5)


@given(ROWS, ROWS, st.data())
@settings(max_examples=50)
def test_keeping_rows_equals_building_anew(rows: list[list[str]], more: list[list[str]], data: st.DataObject) -> None:
    lexicon = big(rows)
    for row in more:  # one by one: the delta
        lexicon.add([row])
    everything = rows + more
    kept = data.draw(st.lists(st.integers(0, len(everything) - 1), min_size=1, unique=True).map(sorted))
    lexicon.keep(np.array(kept))
    fresh = big([everything[row] for row in kept])
    query = ["кот", "лес", "снег"]
    known = [word for word in query if any(word in everything[row] for row in kept)]
    np.testing.assert_allclose(
        lexicon.score(lexicon.prepare(known)), fresh.score(fresh.prepare(known)), rtol=1e-5, atol=1e-6
    )
    assert lexicon.vocabulary == fresh.vocabulary


def test_added_rows_are_found_at_once() -> None:
    lexicon = big([["кот", "дом"]] * 5)
    lexicon.add([["кот", "море"]])
    scores = lexicon.score(lexicon.prepare(["море"]))
    assert scores.argmax() == 5
    assert (scores[:5] == 0).all()
    lexicon.add([["кот"]] * 1200)  # folds the delta into the main postings
    scores = lexicon.score(lexicon.prepare(["море"]))
    assert scores.argmax() == 5
    assert len(lexicon) == 1206


@pytest.mark.parametrize("typed", ["горутинна", "горутин", "гарутина"])
def test_unknown_words_find_near_ones(typed: str) -> None:
    lexicon = Lexicon()
    lexicon.add([["горутина", "канал"], ["город", "река"], ["рубин"]])
    assert lexicon.near(typed)[0][0] == "горутина"
    assert lexicon.score(lexicon.prepare([typed])).argmax() == 0


def test_short_and_strange_words_have_no_near_ones() -> None:
    lexicon = Lexicon()
    lexicon.add([["горутина", "go"]])
    assert lexicon.near("гор") == []
    assert lexicon.near("xyzzy") == []


def test_near_words_count_less_than_the_word_itself() -> None:
    lexicon = Lexicon()
    lexicon.add([["горутина"], ["кот"]])
    exact = lexicon.score(lexicon.prepare(["горутина"]))[0]
    near = lexicon.score(lexicon.prepare(["горутинна"]))[0]
    assert 0 < near < exact


def test_coverage_is_the_share_of_the_query() -> None:
    lexicon = Lexicon()
    lexicon.add([["кот", "пес"], ["кот"], ["дом"]])
    _, (both, one, none), rarity = lexicon.detail(lexicon.prepare(["кот", "пес"]), np.array([0, 1, 2]))
    assert both == pytest.approx(1.0)
    assert 0 < one < 0.5  # the rarer word weighs more
    assert none == rarity[2] == 0
    assert rarity[0] > rarity[1] > 0
    _, unknown, _ = lexicon.detail(lexicon.prepare(["кот", "xyzzy"]), np.array([0]))
    assert unknown[0] < 0.5


@given(ROWS, st.lists(WORDS, min_size=1, max_size=4))
def test_texts_elsewhere_are_judged_as_rows_are(rows: list[list[str]], query: list[str]) -> None:
    lexicon = big(rows)
    known = [word for word in query if any(word in row for row in rows)]
    here = lexicon.detail(lexicon.prepare(known), np.arange(len(rows)))[1:]
    there = lexicon.judge(known, rows)
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)


def test_an_empty_lexicon_answers() -> None:
    lexicon = Lexicon()
    assert len(lexicon.score(lexicon.prepare(["кот"]))) == 0
    lexicon.keep(np.zeros(0, np.int64))
    assert len(lexicon) == 0


@given(st.lists(st.lists(WORDS, max_size=6), min_size=1, max_size=60), st.lists(WORDS, max_size=5), st.integers(0, 20))
def test_the_best_rows_are_those_of_all_scores(rows: list[list[str]], query: list[str], n: int) -> None:
    lexicon = big(rows)
    prepared = lexicon.prepare(query)
    allowed = np.arange(len(lexicon)) % 3 != 1
    scores = lexicon.score(prepared)
    found = lexicon.best(prepared, n, allowed)
    expected = best_rows(scores, n, allowed, above=0.0)
    assert allowed[found].all()
    np.testing.assert_allclose(scores[found], scores[expected], rtol=1e-5, atol=1e-6)


def test_common_words_alone_find_rows_too() -> None:
    lexicon = Lexicon()
    lexicon.add([["и", "кот"] if row == 7 else ["и", "на"] if row % 2 else ["и"] for row in range(400)])
    everything = np.ones(400, bool)
    for query in (["и"], ["и", "на"], ["кот", "и", "на"]):
        prepared = lexicon.prepare(query)
        expected = best_rows(lexicon.score(prepared), 5, everything, above=0.0)
        assert set(lexicon.best(prepared, 5, everything).tolist()) == set(expected.tolist())
