"""Suite `hot`: the hot tier against LanceDB's own indexes, by the time of one search, its recall and its memory.

Vectors are real as far as the shared data goes: chunks and sentences of the posts and paragraphs. A larger corpus is
filled with mixes of neighbouring vectors, jittered; queries are real questions that no set answers, which is hard:
nothing stands out.
"""

from __future__ import annotations

import ctypes
import gc
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfFlat, IvfHnswSq, IvfRq
from numpy.typing import NDArray

from appliance.chunking import chunks_of
from appliance.dense import Matrix, best_rows
from appliance.lexical import Lexicon
from appliance.text import clean, lemmas, sentences
from benchmarks.ask import rss_mb
from benchmarks.results import SHARED
from benchmarks.sets import SETS, default_embedder, open_questions, read_set
from models.ports import Vectors

SIZES = (10_000, 100_000, 1_000_000)
REAL = 16_000  # texts embedded at most
QUESTIONS = 200
DEPTH = 10
ENOUGH = 0.99  # recall that a way of searching must reach to be compared by its time
NEIGHBOURS = 8


def run(sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Measure every size.

    Parameters
    ----------
    sizes : sequence of int, optional
        Chunks; the largest is measured without LanceDB's slowest index.

    Returns
    -------
    dict
        ``rows``: size, method, recall@10, p50 in ms, memory in MB; ``times_faster`` by size: LanceDB's fastest index
        with enough recall (the one with most, where none has enough) against the hot tier; ``words``: the lexical half.
    """
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    embedder = default_embedder()
    texts = real_texts()[:REAL]
    real = embedder.embed_passages(texts)
    questions = open_questions(QUESTIONS // 2)
    queries = embedder.embed_queries(questions)
    rows: list[dict[str, Any]] = []
    for size in sizes:
        rows += measure(grown(real, size), queries)
    result: dict[str, Any] = {
        "real_texts": len(texts),
        "questions": len(questions),
        "rows": rows,
        "times_faster": {str(size): faster(rows, size) for size in sizes},
        "recall": {str(r["chunks"]): r["recall"] for r in rows if r["method"] == "hot tier"},
        "words": [words(texts, questions, size) for size in sizes if size <= 100_000],
    }
    return result


def real_texts() -> list[str]:
    """Return chunks and sentences of the shared posts and paragraphs: chunks first, each once, in a fixed order."""
    found: dict[str, None] = {}
    spare: dict[str, None] = {}
    for name in SETS:
        for post in read_set(name).posts:
            for chunk in chunks_of(post):
                found[chunk.text] = None
            text = clean(post.text)
            spare.update(dict.fromkeys(text[a:b] for a, b in sentences(text) if b - a >= 25))
    order = np.random.default_rng(0).permutation(len(spare))
    pieces = list(spare)
    return [*found, *(pieces[place] for place in order.tolist() if pieces[place] not in found)]


def grown(real: Vectors, size: int) -> Vectors:
    """Cut or fill up to a size with mixes of neighbouring vectors, jittered by half of their distance."""
    if size <= len(real):
        return real[:size]
    rng = np.random.default_rng(1)
    near = np.empty((len(real), NEIGHBOURS), np.int64)
    for start in range(0, len(real), 2000):
        likeness = real[start : start + 2000] @ real.T
        near[start : start + 2000] = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, 1 : NEIGHBOURS + 1]
    whole = np.empty((size, real.shape[1]), np.float32)
    whole[: len(real)] = real
    for start in range(len(real), size, 50_000):
        count = min(50_000, size - start)
        first = rng.integers(0, len(real), count)
        other = near[first, rng.integers(0, NEIGHBOURS, count)]
        share = rng.uniform(0.3, 0.9, (count, 1)).astype(np.float32)
        mixed = share * real[first] + (1 - share) * real[other]
        spread = (real[first] - real[other]).std(axis=1, keepdims=True)
        mixed += 0.5 * spread * rng.standard_normal(mixed.shape, np.float32)
        whole[start : start + count] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return whole


def measure(vectors: Vectors, queries: Vectors) -> list[dict[str, Any]]:
    """Search one corpus in every way."""
    everything = np.ones(len(vectors), bool)
    truth = [best_rows(np.einsum("ij,j->i", vectors, query), DEPTH) for query in queries]
    rows = []
    before = settled_mb()
    matrix = Matrix(vectors.shape[1])
    matrix.add(vectors)
    held = settled_mb() - before
    rows.append(timed("hot tier", partial(matrix.nearest, n=DEPTH, allowed=everything), queries, truth, held))
    everywhere = partial(exactly, matrix)
    rows.append(timed("exact, NumPy", everywhere, queries[:50], truth[:50], vectors.nbytes / 1e6))
    del matrix, everywhere
    with tempfile.TemporaryDirectory() as folder:
        rows += lance(Path(folder), vectors, queries, truth)
    return [{"chunks": len(vectors), **row} for row in rows]


def lance(folder: Path, vectors: Vectors, queries: Vectors, truth: list[NDArray[np.int64]]) -> list[dict[str, Any]]:
    """Search by each of LanceDB's indexes, with more and more of it looked at until the recall is enough."""
    rows = []
    kinds = {"IVF_FLAT": IvfFlat(distance_type="cosine"), "IVF_RQ": IvfRq(distance_type="cosine")}
    if len(vectors) <= 100_000:  # longer to build than all else together
        kinds["HNSW_SQ"] = IvfHnswSq(distance_type="cosine")
    for name, config in kinds.items():
        before = settled_mb()
        table = lancedb.connect(folder).create_table(name, as_arrow(vectors))
        table.create_index("vector", config=config)
        table.wait_for_index([table.list_indices()[0].name])
        for probes, ef, refine in ((20, 100, 1), (20, 100, 10), (80, 400, 10), (400, 1500, 20)):
            search = partial(ask_lance, table, name, probes, ef, refine)
            held = settled_mb() - before
            row = timed(f"LanceDB {name}, {probes} probes, refine {refine}", search, queries[:50], truth[:50], held)
            rows.append(row)
            if row["recall"] >= ENOUGH:
                break
    return rows


def ask_lance(table: Any, name: str, probes: int, ef: int, refine: int, query: Vectors) -> NDArray[np.int64]:
    """Ask a table for the numbers of the nearest rows."""
    asked = table.search(query).distance_type("cosine").nprobes(probes).limit(DEPTH).select(["row", "_distance"])
    asked = asked.refine_factor(refine) if refine > 1 and name != "IVF_FLAT" else asked
    asked = asked.ef(ef) if name == "HNSW_SQ" else asked
    return np.array(asked.to_arrow()["row"].to_numpy())


def exactly(matrix: Matrix, query: Vectors) -> NDArray[np.int64]:
    """Compare a query with every vector."""
    return best_rows(matrix.score(query), DEPTH)


def as_arrow(vectors: Vectors) -> pa.Table:
    """Return vectors as a table with their numbers."""
    flat = pa.array(vectors.reshape(-1))
    return pa.table(
        {"row": np.arange(len(vectors)), "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    )


def timed(
    method: str,
    search: Callable[..., NDArray[np.int64]],
    queries: Vectors,
    truth: list[NDArray[np.int64]],
    held_mb: float,
) -> dict[str, Any]:
    """Ask every query, after a warm-up; returns recall, times and memory."""
    for query in queries[:5]:
        search(query=query)
    took, found = [], []
    for query in queries:
        started = perf_counter()
        found.append(search(query=query))
        took.append((perf_counter() - started) * 1000)
    recall = float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(truth, found, strict=True)]))
    p50, p95 = np.percentile(took, [50, 95])
    return {
        "method": method,
        "recall": recall,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "memory_mb": max(held_mb, 0.0),
    }


def faster(rows: list[dict[str, Any]], size: int) -> float:
    """Divide the time of LanceDB's best index by the hot tier's."""
    mine = next(row for row in rows if row["chunks"] == size and row["method"] == "hot tier")
    theirs = [row for row in rows if row["chunks"] == size and row["method"].startswith("LanceDB")]
    enough = [row["p50_ms"] for row in theirs if row["recall"] >= ENOUGH]
    best = min(enough) if enough else max(theirs, key=lambda row: (row["recall"], -row["p50_ms"]))["p50_ms"]
    return float(best / mine["p50_ms"])


def words(texts: Sequence[str], questions: Sequence[str], size: int) -> dict[str, Any]:
    """Search the lexical half over `size` rows: the real texts again and again, each time with another number."""
    own = [lemmas(text) for text in texts]
    before = settled_mb()
    lexicon = Lexicon()
    for start in range(0, size, 20_000):
        lexicon.add([[*own[row % len(own)], f"n{row // len(own)}"] for row in range(start, min(start + 20_000, size))])
    held = settled_mb() - before
    everything = np.ones(size, bool)
    asked = [lemmas(question) for question in questions]
    times: dict[str, list[float]] = {"rare words first": [], "every row": []}
    for own_lemmas in asked:
        for name, taken in times.items():
            started = perf_counter()
            prepared = lexicon.prepare(own_lemmas)
            if name == "every row":
                best_rows(lexicon.score(prepared), 100, everything, above=0.0)
            else:
                lexicon.best(prepared, 100, everything)
            taken.append((perf_counter() - started) * 1000)
    return {
        "chunks": size,
        **{name: float(np.percentile(taken, 50)) for name, taken in times.items()},
        "memory_mb": held,
    }


def settled_mb() -> float:
    """Resident memory after what is free was given back, MB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return rss_mb()
