"""Vectors in RAM."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.dense import EXACT, Matrix, best_rows


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


def test_codes_miss_few_of_the_nearest_inside_the_mask_and_after_changes() -> None:
    vectors, queries = neighbours(3 * EXACT)
    matrix = Matrix(128)
    for start in range(0, len(vectors), 700):
        matrix.add(vectors[start : start + 700])
    kept = np.arange(0, len(vectors), 1)[np.arange(len(vectors)) % 5 != 0]
    matrix.keep(kept)
    vectors = vectors[kept]
    allowed = np.random.default_rng(4).random(len(vectors)) < 0.7
    matrix.blank(np.flatnonzero(~allowed)[:50])
    shares = []
    for query in queries:
        exact = best_rows(vectors @ query, 10, allowed)
        found = matrix.nearest(query, 10, allowed)
        assert allowed[found].all()
        assert len(found) == 10
        shares.append(len(np.intersect1d(exact, found)) / 10)
    assert np.mean(shares) >= 0.99


def test_of_few_rows_the_nearest_are_exact() -> None:
    vectors, queries = neighbours(3 * EXACT)
    matrix = Matrix(128)
    matrix.add(vectors)
    allowed = np.arange(len(vectors)) % 7 == 0
    for query in queries:
        assert matrix.nearest(query, 20, allowed).tolist() == best_rows(vectors @ query, 20, allowed).tolist()
