"""FlagEmbedding itself against our engines, on a tiny random checkpoint in its layout. Needs torch: `make live`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import rerank_cross
from models.cards import load_card
from models.embed_bge_m3 import BgeM3, open_onnx, open_torch
from models.errors import WeightsError
from models.export_onnx import export
from models.fetch import pull
from models.tensors import read_safetensors, read_torch
from tests import tiny_m3

torch = pytest.importorskip("torch", reason="the live environment is not installed")
FLAG = pytest.importorskip("FlagEmbedding.inference.embedder.encoder_only.m3", reason="FlagEmbedding is not installed")

TEXTS = [*tiny_m3.TEXTS, *tiny_m3.corpus(24), "слово " * 900]  # the last is cut at 512 tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_m3.make(tmp_path_factory.mktemp("m3"))
    for name in ("sparse_linear", "colbert_linear"):
        state = {k: torch.from_numpy(np.array(v)) for k, v in read_safetensors(made / f"{name}.safetensors").items()}
        torch.save(state, made / f"{name}.pt")
        (made / f"{name}.safetensors").unlink()  # as published
    return made


@pytest.fixture(scope="module")
def reference(folder: Path) -> dict[str, Any]:
    flag = FLAG.M3Embedder(str(folder), use_fp16=False, devices="cpu")
    out: dict[str, Any] = flag.encode(
        TEXTS, batch_size=8, max_length=512, return_dense=True, return_sparse=True, return_colbert_vecs=True
    )
    return out


def onnx(folder: Path, precision: str) -> BgeM3:
    graph = folder / f"tiny-{precision}.onnx"
    export(folder, graph, precision=precision)  # type: ignore[arg-type]
    return open_onnx(tiny_m3.card(), graph, folder / "tokenizer.json", threads=1)


@pytest.mark.parametrize(("engine", "tolerance"), [("torch", 1e-5), ("fp32", 1e-3), ("int8", 2e-2)])
def test_all_three_outputs_agree_with_flagembedding(
    engine: str, tolerance: float, folder: Path, reference: dict[str, Any]
) -> None:
    model = open_torch(tiny_m3.card(), folder, device="cpu") if engine == "torch" else onnx(folder, engine)
    got = model.encode(TEXTS, sparse=True, multi_vector=True)
    assert got.sparse is not None
    assert got.multi_vector is not None
    dense = 1 - np.sum(got.dense * reference["dense_vecs"], axis=1)
    assert dense.max() < tolerance
    for mine, theirs in zip(got.multi_vector, reference["colbert_vecs"], strict=True):
        assert mine.shape == theirs.shape
        assert (1 - np.sum(mine * theirs, axis=1)).max(initial=0) < tolerance
    for mine, theirs in zip(got.sparse, reference["lexical_weights"], strict=True):
        assert sparse_distance(mine, {int(k): float(v) for k, v in theirs.items()}) < tolerance
    print(f"{engine}: dense ≤ {dense.max():.1e}")  # noqa: T201


def test_a_broken_engine_would_be_caught(folder: Path, reference: dict[str, Any]) -> None:
    (folder / "broken").mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / "broken" / name).write_bytes((folder / name).read_bytes())
    for name in ("sparse_linear", "colbert_linear"):
        (folder / "broken" / f"{name}.pt").write_bytes((folder / f"{name}.pt").read_bytes())
    text = (folder / "config.json").read_text().replace('"pad_token_id": 1', '"pad_token_id": 0')  # places off by one
    (folder / "broken" / "config.json").write_text(text)
    got = onnx(folder / "broken", "fp32").encode(TEXTS)
    assert (1 - np.sum(got.dense * reference["dense_vecs"], axis=1)).max() > 1e-3


def test_torch_files_are_read_the_same_without_torch(folder: Path, tmp_path: Path) -> None:
    state = {
        "a": torch.randn(5, 3),
        "b": torch.randn(4, 6).to(torch.bfloat16),
        "c": torch.randn(7).half(),
        "d": torch.arange(12).reshape(3, 4).t(),  # strided
        "e": torch.tensor(3.5),
    }
    torch.save(state, tmp_path / "x.bin")
    got = read_torch(tmp_path / "x.bin")
    for name, tensor in state.items():
        wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert np.array_equal(got[name], wide.numpy()), name


def test_weights_that_are_a_bin_file_are_read(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "sparse_linear.pt", "colbert_linear.pt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in read_safetensors(folder / "model.safetensors").items()}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    a, b = onnx(tmp_path, "fp32"), onnx(folder, "fp32")
    assert np.array_equal(a.encode(TEXTS).dense, b.encode(TEXTS).dense)


def test_a_published_bin_file_becomes_safetensors_when_pulled(folder: Path, tmp_path: Path) -> None:
    bge = load_card("bge-m3")
    mirror = tmp_path / "mirror" / bge.repo
    mirror.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "sparse_linear.pt", "colbert_linear.pt"):
        (mirror / name).write_bytes((folder / name).read_bytes())
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in read_safetensors(folder / "model.safetensors").items()}
    torch.save(tensors | {"embeddings.position_ids": torch.arange(514)[None]}, mirror / "pytorch_model.bin")
    pulled = pull(bge, tmp_path / "weights", source=str(tmp_path / "mirror"))
    assert not (pulled / "pytorch_model.bin").exists()
    assert (pulled / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_reranker_agrees_with_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    made = tiny_m3.make(tmp_path / "tiny-reranker", reranker=True)
    query, passages = "когда митап?", [*tiny_m3.TEXTS, *tiny_m3.corpus(10), "слово " * 900]
    tokenizer = AutoTokenizer.from_pretrained(made)
    model = AutoModelForSequenceClassification.from_pretrained(made).eval()
    inputs = tokenizer(
        [(query, p) for p in passages], padding=True, truncation="only_second", max_length=512, return_tensors="pt"
    )
    with torch.inference_mode():
        want = model(**inputs).logits[:, 0].numpy()
    got = rerank_cross.load(tiny_m3.reranker_card(), weights_dir=tmp_path, threads=1, precision="fp32")
    assert np.allclose(got.score(query, passages), want, atol=1e-4)


def test_missing_heads_are_refused_not_made_up(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors", "sparse_linear.pt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(WeightsError, match="colbert_linear"):
        open_torch(tiny_m3.card(), tmp_path, device="cpu")


def sparse_distance(a: dict[int, float], b: dict[int, float]) -> float:
    """Cosine distance of two sparse vectors; 0 for two empty ones."""
    if not a and not b:
        return 0.0
    dot = sum(weight * b.get(token, 0.0) for token, weight in a.items())
    norms = np.sqrt(sum(w * w for w in a.values()) * sum(w * w for w in b.values()))
    return 1 - float(dot / norms) if norms else 1.0
