"""BGE-M3 in vLLM's pooling runner, by the card's own flags, against FlagEmbedding; asked through our HTTP embedder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.cards import EmbedderCard, load_card
from models.commands import vllm_embedder_command
from models.embed_http import open_http
from models.tensors import read_safetensors
from tests import tiny_m3
from tests.live.vllm_server import Vllm

pytest.importorskip("vllm", reason="the live environment is not installed")
torch = pytest.importorskip("torch", reason="the live environment is not installed")
FLAG = pytest.importorskip("FlagEmbedding.inference.embedder.encoder_only.m3", reason="FlagEmbedding is not installed")

TEXTS = [*tiny_m3.TEXTS, *tiny_m3.corpus(24)]
DIM = 128  # two heads as wide as BGE-M3's own: vLLM's attention has no kernel for narrower ones on the CPU


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_m3.make(tmp_path_factory.mktemp("pooling") / "tiny-m3", hidden=DIM, heads=2)
    for name in ("sparse_linear", "colbert_linear"):
        state = {k: torch.from_numpy(np.array(v)) for k, v in read_safetensors(made / f"{name}.safetensors").items()}
        torch.save(state, made / f"{name}.pt")
        (made / f"{name}.safetensors").unlink()  # as published
    return made


@pytest.fixture(scope="module")
def vllm(folder: Path) -> Iterator[Vllm]:
    bge = load_card("bge-m3")
    assert isinstance(bge, EmbedderCard)
    command = vllm_embedder_command(bge, folder, host="127.0.0.1", port=0)
    flags = command[command.index("--runner") :]
    print(shlex.join(flags))  # noqa: T201
    server = Vllm(folder, "--dtype", "float32", "--max-model-len", "512", *flags, log=folder.parent / "vllm.log")
    print(f"vLLM started in {server.start():.0f} s")  # noqa: T201
    yield server
    server.kill()


def test_vllms_vectors_are_flagembeddings(vllm: Vllm, folder: Path) -> None:
    reference = FLAG.M3Embedder(str(folder), use_fp16=False, devices="cpu").encode(TEXTS, max_length=512)["dense_vecs"]
    embedder = open_http(vllm.url, tiny_m3.card(dim=DIM))
    assert embedder.info.engine == "http-openai"
    got = embedder.embed_passages(TEXTS)
    distance = 1 - np.sum(got * reference, axis=1)
    assert distance.max() < 1e-3
    assert np.sum(got[1:] * reference[:-1], axis=1).max() < 1 - 1e-3  # the control: other texts' vectors are not these
    assert np.allclose(embedder.embed_queries(TEXTS[:1]), got[:1], atol=1e-4)
    print(f"dense ≤ {distance.max():.1e}")  # noqa: T201
    embedder.close()
    refused = httpx.post(f"{vllm.url}/embeddings", json={"model": "tiny-m3", "input": "слово " * 4000}, timeout=60)
    assert refused.status_code == 400  # vLLM refuses what is too long, where our server cuts it
