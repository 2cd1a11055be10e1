"""Suite `embed-server`: texts/s of the embedding server against one-by-one FlagEmbedding calls, in one run.

On a tiny random BGE-M3 of the real layout, by one thread, taken in turn; it runs in the live environment (`make live`),
which has FlagEmbedding and torch. Distances between FlagEmbedding's vectors and each engine's are told beside.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from models.embed_bge_m3 import BgeM3, load, open_torch
from models.embed_http import open_http
from models.serve import create_app
from models.tensors import read_safetensors

ROOT = Path(__file__).parents[1]
LIVE = ROOT / ".venv-live" / "bin" / "python"
TEXTS = 96
ROUNDS = 2
CALLERS = 3  # each with requests of `A_REQUEST` texts
A_REQUEST = 8


def missing() -> str:
    """Say why it cannot run here; empty when it can."""
    return "" if LIVE.exists() else "the live environment is not installed (`make live`)"


def run() -> dict[str, Any]:
    """Measure in the live environment."""
    if why := missing():
        raise SystemExit(why)
    command = [str(LIVE), "-m", "benchmarks.embed_server"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path) -> dict[str, Any]:
    """Measure every way in turn, the best of `ROUNDS` kept.

    Parameters
    ----------
    folder : Path
        Of a checkpoint made for this.

    Returns
    -------
    dict
        ``ways``: texts/s of processor time (the machine may be shared) and of the clock, the ratio to one-by-one calls;
        ``least_ratio`` of the server's engines; ``distance_fp32`` and ``distance_int8``, cosine, the largest.
    """
    import torch
    from FlagEmbedding.inference.embedder.encoder_only.m3 import M3Embedder

    from tests import tiny_m3

    torch.set_num_threads(1)
    made = tiny_m3.make(folder / "tiny-m3", layers=4, hidden=256, heads=8, intermediate=1024)
    for name in ("sparse_linear", "colbert_linear"):
        state = {k: torch.from_numpy(np.array(v)) for k, v in read_safetensors(made / f"{name}.safetensors").items()}
        torch.save(state, made / f"{name}.pt")
    texts = tiny_m3.corpus(TEXTS, seed=3)  # 1 to 120 words
    flag = M3Embedder(str(made), use_fp16=False, devices="cpu")
    card = tiny_m3.card(dim=256)
    engines = {
        "server, FlagEmbedding": open_torch(card, made, device="cpu"),
        "server, ONNX fp32": load(card, weights_dir=folder, threads=1, precision="fp32"),
        "server, ONNX int8": load(card, weights_dir=folder, threads=1),
    }
    reference = flag.encode(texts, max_length=512)["dense_vecs"]
    rounds: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "FlagEmbedding, one by one": lambda: timed(
                lambda: [flag.encode([t], max_length=512) for t in texts], texts
            ),
            "FlagEmbedding, batches of 32": lambda: timed(
                lambda: flag.encode(texts, batch_size=32, max_length=512), texts
            ),
            **{name: lambda model=model: served(model, texts) for name, model in engines.items()},  # type: ignore[misc]
        }
        for name, way in ways.items():
            rounds.setdefault(name, []).append(way())
    best = {name: max(rates) for name, rates in rounds.items()}
    base = best["FlagEmbedding, one by one"][0]

    def distance(name: str) -> float:
        return float((1 - np.sum(engines[name].encode(texts).dense * reference, axis=1)).max())

    return {
        "texts": len(texts),
        "ways": [
            {"way": name, "texts_per_cpu_s": cpu, "texts_per_s": wall, "ratio": cpu / base}
            for name, (cpu, wall) in best.items()
        ],
        "least_ratio": min(best[name][0] for name in engines) / base,
        "distance_fp32": distance("server, ONNX fp32"),
        "distance_int8": distance("server, ONNX int8"),
    }


def timed(work: Callable[[], object], texts: list[str]) -> tuple[float, float]:
    """Texts per second of processor time (all of it is in this process) and of the clock."""
    started, clock = time.process_time(), time.perf_counter()
    work()
    return len(texts) / (time.process_time() - started), len(texts) / (time.perf_counter() - clock)


def served(model: BgeM3, texts: list[str]) -> tuple[float, float]:
    """Rates of several callers at the server, each sending small requests."""
    from tests import tiny_m3
    from tests.servers.uvicorn import serving

    with serving(create_app(model)) as url:
        client = open_http(f"{url}/v1", tiny_m3.card(dim=256))
        parts = [texts[at : at + A_REQUEST] for at in range(0, len(texts), A_REQUEST)]
        with ThreadPoolExecutor(CALLERS) as pool:
            rates = timed(lambda: list(pool.map(client.embed_passages, parts)), texts)
        client.close()
    return rates


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Path(scratch))
    sys.stdout.write(json.dumps(figures) + "\n")
