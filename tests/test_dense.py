"""Vectors in RAM."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.dense import Matrix, best_rows


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
