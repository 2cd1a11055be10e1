"""Vectors in RAM."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.dense import SAMPLED, Matrix, best_rows


def unit(rows: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.lists(st.integers(0, 90), min_size=1, max_size=8))
def test_rows_arrive_in_order_whatever_the_batches(sizes: list[int]) -> None:
    everything = unit(sum(sizes) or 1)[: sum(sizes)]
    matrix = Matrix(8)
    start = 0
    for size in sizes:
        matrix.add(everything[start : start + size])
        start += size
    assert len(matrix) == len(everything)
    np.testing.assert_array_equal(matrix.vectors, everything)
    query = unit(1, seed=1)[0]
    np.testing.assert_allclose(matrix.score(query), everything @ query, atol=1e-6)


def test_blank_rows_and_kept_rows() -> None:
    vectors = unit(5)
    matrix = Matrix(8)
    matrix.add(vectors)
    matrix.blank(np.array([1]))
    assert not matrix.vectors[1].any()
    matrix.keep(np.array([0, 2, 4]))
    np.testing.assert_array_equal(matrix.vectors, vectors[[0, 2, 4]])
    matrix.add(vectors[:1])
    np.testing.assert_array_equal(matrix.vectors, vectors[[0, 2, 4, 0]])


SCORES = hnp.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


@given(SCORES, st.integers(0, 45), st.data())
def test_best_rows_are_those_of_a_full_sort(scores: np.ndarray, n: int, data: st.DataObject) -> None:
    mask = data.draw(hnp.arrays(bool, len(scores)))
    expected = [row for row in np.argsort(-scores, kind="stable") if mask[row] and scores[row] > 0.25][:n]
    assert best_rows(scores, n, mask, above=0.25).tolist() == expected


def neighbours(rows: int, dim: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around a few topics, all leaning one way as an embedder's do, and queries between them."""
    rng = np.random.default_rng(3)
    lean, topics = rng.standard_normal(dim), rng.standard_normal((40, dim))

    def some(count: int) -> np.ndarray:
        raw = 3 * lean + topics[rng.integers(0, 40, count)] + 0.7 * rng.standard_normal((count, dim))
        return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)

    return some(rows), some(50)


@pytest.mark.parametrize("share", [0.7, 0.02])
def test_none_of_the_nearest_is_missed_inside_the_mask_and_after_changes(share: float) -> None:
    vectors, queries = neighbours(3 * SAMPLED)
    matrix = Matrix(128)
    for start in range(0, len(vectors), 7000):
        matrix.add(vectors[start : start + 7000])
    kept = np.arange(len(vectors))[np.arange(len(vectors)) % 5 != 0]
    matrix.keep(kept)
    vectors = vectors[kept]
    allowed = np.random.default_rng(4).random(len(vectors)) < share
    matrix.blank(np.flatnonzero(~allowed)[:50])
    missed = 0
    for query in queries:
        found = matrix.nearest(query, 10, allowed)
        assert allowed[found].all()
        assert len(found) == 10
        missed += len(np.setdiff1d(best_rows(vectors @ query, 10, allowed), found))
    assert missed <= 1


def test_the_nearest_are_found_wherever_they_stand() -> None:
    """The sample that tells what is high looks at every third row; here the near ones are not among them."""
    vectors, queries = neighbours(3 * SAMPLED)
    places = np.flatnonzero(np.arange(len(vectors)) % 3)[:500]
    vectors[places] = queries[0] + 0.05 * vectors[places]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = Matrix(128)
    matrix.add(vectors)
    everything = np.ones(len(vectors), bool)
    assert np.isin(matrix.nearest(queries[0], 100, everything), places).all()
    vectors[:] = vectors[1]  # every row equal: none is better than another
    same = Matrix(128)
    same.add(vectors)
    assert len(same.nearest(queries[0], 10, everything)) == 10


def test_of_few_rows_the_nearest_are_exact() -> None:
    vectors, queries = neighbours(12_288)
    matrix = Matrix(128)
    matrix.add(vectors)
    allowed = np.arange(len(vectors)) % 7 == 0
    for query in queries:
        assert matrix.nearest(query, 20, allowed).tolist() == best_rows(vectors @ query, 20, allowed).tolist()
