"""The embedding server's throughput against one-by-one FlagEmbedding calls, in one run on the same threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.embed_bge_m3 import BgeM3, load, open_torch
from models.embed_http import open_http
from models.serve import create_app
from models.tensors import read_safetensors
from tests import tiny_m3
from tests.servers.uvicorn import serving

torch = pytest.importorskip("torch", reason="the live environment is not installed")
FLAG = pytest.importorskip("FlagEmbedding.inference.embedder.encoder_only.m3", reason="FlagEmbedding is not installed")

TEXTS = tiny_m3.corpus(96, seed=3)  # 1 to 120 words
THREADS = 1  # two would spin against each other on a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(THREADS)
    made = tiny_m3.make(tmp_path_factory.mktemp("w") / "tiny-m3", layers=4, hidden=256, heads=8, intermediate=1024)
    for name in ("sparse_linear", "colbert_linear"):
        state = {k: torch.from_numpy(np.array(v)) for k, v in read_safetensors(made / f"{name}.safetensors").items()}
        torch.save(state, made / f"{name}.pt")
    return made


def texts_per_s(run: Callable[[], object]) -> tuple[float, float]:
    """Texts per second of processor time (all of it is in this process, and the machine is shared) and of the clock."""
    started, clock = time.process_time(), time.perf_counter()
    run()
    return len(TEXTS) / (time.process_time() - started), len(TEXTS) / (time.perf_counter() - clock)


def served(model: BgeM3) -> tuple[float, float]:
    """Texts/s of three callers, each sending its share in requests of 8."""
    with serving(create_app(model)) as url:
        client = open_http(f"{url}/v1", tiny_m3.card(dim=256))
        parts = [TEXTS[i : i + 8] for i in range(0, len(TEXTS), 8)]
        with ThreadPoolExecutor(3) as pool:
            rate = texts_per_s(lambda: list(pool.map(client.embed_passages, parts)))
        client.close()
    return rate


def test_server_is_at_least_half_again_as_fast_as_one_by_one_calls(folder: Path) -> None:
    flag = FLAG.M3Embedder(str(folder), use_fp16=False, devices="cpu")
    engines = {
        "flagembedding-fp32": open_torch(tiny_m3.card(dim=256), folder, device="cpu"),
        "onnxruntime-fp32": load(tiny_m3.card(dim=256), weights_dir=folder.parent, threads=THREADS, precision="fp32"),
        "onnxruntime-int8": load(tiny_m3.card(dim=256), weights_dir=folder.parent, threads=THREADS),
    }
    flag.encode(TEXTS[:1])
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in ("one by one", "batch", *engines)}
    for _ in range(2):  # taken in turn, as the machine is shared
        rounds["one by one"].append(texts_per_s(lambda: [flag.encode([text], max_length=512) for text in TEXTS]))
        rounds["batch"].append(texts_per_s(lambda: flag.encode(TEXTS, batch_size=32, max_length=512)))
        for name, model in engines.items():
            rounds[name].append(served(model))
    best = {name: max(rates) for name, rates in rounds.items()}
    print({name: f"{cpu:.0f} texts/s ({wall:.0f} by the clock)" for name, (cpu, wall) in best.items()})  # noqa: T201
    for name in engines:
        assert best[name][0] >= 1.5 * best["one by one"][0], name
