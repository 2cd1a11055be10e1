"""BGE-M3 through ONNX Runtime on a tiny random checkpoint, and reading weights without torch."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models import quality, rerank_cross
from models.embed_bge_m3 import BgeM3, batches, load, open_onnx
from models.errors import ModelError, WeightsError
from models.export_onnx import export, export_reranker
from models.ports import Embedder, Reranker
from models.tensors import read_safetensors, read_torch, write_safetensors
from tests import tiny_m3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_m3.make(tmp_path_factory.mktemp("weights") / "tiny-m3")


@pytest.fixture(scope="module")
def fp32(folder: Path) -> BgeM3:
    return load(tiny_m3.card(), weights_dir=folder.parent, threads=1, precision="fp32")


@pytest.fixture(scope="module")
def int8(folder: Path) -> BgeM3:
    return load(tiny_m3.card(), weights_dir=folder.parent, threads=1)


def test_vectors_are_unit_rows_and_tell_texts_apart(fp32: BgeM3) -> None:
    part: Embedder = fp32
    rows = part.embed_passages(tiny_m3.TEXTS)
    assert rows.shape == (len(tiny_m3.TEXTS), 64)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.max(rows @ rows.T - np.eye(len(rows))) < 0.95
    assert (part.info.card, part.info.dim, part.info.engine) == ("tiny-m3", 64, "onnxruntime-fp32")


def test_int8_stays_near_fp32(fp32: BgeM3, int8: BgeM3) -> None:
    texts = [*tiny_m3.TEXTS, *tiny_m3.corpus(20)]
    a, b = (m.encode(texts, sparse=True, multi_vector=True) for m in (fp32, int8))
    assert int8.info.engine == "onnxruntime-int8"
    assert (1 - np.sum(a.dense * b.dense, axis=1)).max() < 2e-2
    assert np.abs(a.dense - b.dense).max() > 0
    for x, y in zip(a.multi_vector or (), b.multi_vector or (), strict=True):
        assert (1 - np.sum(x * y, axis=1)).max(initial=0) < 2e-2


def test_a_text_gets_the_same_vectors_alone_and_in_company(fp32: BgeM3) -> None:
    texts = [*tiny_m3.TEXTS, *tiny_m3.corpus(12)]
    together = fp32.encode(texts, sparse=True, multi_vector=True)
    assert together.sparse is not None
    assert together.multi_vector is not None
    for i, text in enumerate(texts):
        alone = fp32.encode([text], sparse=True, multi_vector=True)
        assert np.allclose(alone.dense[0], together.dense[i], atol=1e-4)
        assert alone.sparse is not None
        assert alone.sparse[0].keys() == together.sparse[i].keys()
        assert alone.multi_vector is not None
        assert np.allclose(alone.multi_vector[0], together.multi_vector[i], atol=1e-3)
        assert together.multi_vector[i].shape == (together.tokens[i] - 1, 64)


def test_sparse_leaves_special_tokens_out_and_weights_are_positive(fp32: BgeM3) -> None:
    got = fp32.encode(tiny_m3.TEXTS, sparse=True).sparse
    assert got is not None
    assert any(got)
    for weights in got:
        assert not weights.keys() & {0, 1, 2, 3}
        assert all(w > 0 for w in weights.values())


@given(lengths=st.lists(st.integers(1, 600), max_size=80), budget=st.integers(8, 4096))
def test_batches_hold_every_text_once_and_little_padding(lengths: list[int], budget: int) -> None:
    made = batches(lengths, budget)
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        padded = len(batch) * lengths[batch[0]]
        assert len(batch) == 1 or padded <= budget
        assert padded - sum(lengths[i] for i in batch) <= budget // 8


def test_no_texts_is_no_rows_and_only_what_was_asked_is_given(fp32: BgeM3) -> None:
    assert fp32.embed_queries([]).shape == (0, 64)
    got = fp32.encode(["да"])
    assert got.sparse is None
    assert got.multi_vector is None


def test_long_texts_are_cut_at_the_context(folder: Path, fp32: BgeM3) -> None:
    short = open_onnx(tiny_m3.card(context=16), folder / "tiny-m3-fp32-g1.onnx", folder / "tokenizer.json", threads=1)
    assert short.encode(["слово " * 500]).tokens == [16]
    assert fp32.encode(["слово " * 500]).tokens == [512]


def test_graph_is_written_once_and_used_again(folder: Path, fp32: BgeM3) -> None:
    graph = folder / "tiny-m3-fp32-g1.onnx"
    before = graph.stat().st_mtime_ns
    again = load(tiny_m3.card(), weights_dir=folder.parent, threads=1, precision="fp32")
    assert graph.stat().st_mtime_ns == before
    assert np.array_equal(again.embed_queries(["да"]), fp32.embed_queries(["да"]))
    later = graph.stat().st_mtime + 5
    os.utime(folder / "model.safetensors", (later, later))  # another checkpoint came
    load(tiny_m3.card(), weights_dir=folder.parent, threads=1, precision="fp32")
    assert graph.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("config.json", r"config\.json"),
        ("model.safetensors", "neither model"),
        ("colbert_linear.safetensors", "neither"),
    ],
)
def test_a_missing_file_is_named(file: str, says: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "x", ignore=shutil.ignore_patterns(file, "*.onnx*"))
    with pytest.raises(WeightsError, match=says):
        export(tmp_path / "x", tmp_path / "x.onnx", precision="fp32")
    assert not (tmp_path / "x.onnx").exists()


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(WeightsError, match="bert"):
        export(tmp_path, tmp_path / "x.onnx", precision="fp32")


def test_weights_of_another_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "x", ignore=shutil.ignore_patterns("*.onnx*"))
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "x" / "config.json").write_text(json.dumps(config | {"vocab_size": 9}))
    with pytest.raises(WeightsError, match="word_embeddings"):
        export(tmp_path / "x", tmp_path / "x.onnx", precision="int8")


def test_reranker_scores_pairs_the_same_alone_and_in_company(tmp_path: Path) -> None:
    tiny_m3.make(tmp_path / "tiny-reranker", reranker=True)
    exact = rerank_cross.load(tiny_m3.reranker_card(), weights_dir=tmp_path, threads=1, precision="fp32")
    part: Reranker = exact
    query, passages = "когда митап?", [*tiny_m3.TEXTS, *tiny_m3.corpus(10)]
    scores = part.score(query, passages)
    assert scores.shape == (len(passages),)
    assert np.std(scores) > 0.01
    assert np.allclose([part.score(query, [p])[0] for p in passages], scores, atol=1e-4)
    assert part.score(query, []).shape == (0,)
    quick = rerank_cross.load(tiny_m3.reranker_card(), weights_dir=tmp_path, threads=1)
    assert np.corrcoef(quick.score(query, passages), scores)[0, 1] > 0.99


def test_an_embedder_is_no_reranker(folder: Path) -> None:
    with pytest.raises(WeightsError, match="cross-encoder"):
        export_reranker(folder, folder / "x.onnx", precision="fp32")


@settings(max_examples=40, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text("abc.", min_size=1, max_size=8),
        hnp.arrays(st.sampled_from([np.float32, np.float16, np.int64]), hnp.array_shapes(min_dims=0, max_dims=3)),
        min_size=1,
        max_size=4,
    )
)
def test_safetensors_come_back_as_written(
    arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> None:  # type: ignore[type-arg]
    path = tmp_path_factory.mktemp("s") / "x.safetensors"
    write_safetensors(path, arrays)
    got = read_safetensors(path)
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(got[name], array, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), cut=st.integers(0, 300))
def test_damaged_files_are_refused_never_crash(data: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("d") / "x.safetensors"
    write_safetensors(path, {"a": np.zeros((3, 4), np.float32)})
    path.write_bytes(path.read_bytes()[:cut] + data)
    for read in (read_safetensors, read_torch):
        with contextlib.suppress(WeightsError):
            assert isinstance(read(path), dict)


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("ran",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    pickle.dump({"weight": _Evil()}, buffer)
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", buffer.getvalue())
    with pytest.raises(WeightsError, match=r"builtins\.print"):
        read_torch(tmp_path / "evil.pt")
    pickle.loads(buffer.getvalue())  # the control: the same bytes do run under plain pickle
    assert capsys.readouterr().out == "ran\n"


def test_quality_check_refuses_what_moved(fp32: BgeM3, int8: BgeM3, folder: Path, tmp_path: Path) -> None:
    texts = tiny_m3.corpus(80)
    itself = quality.compare(fp32, fp32, texts)
    assert (itself.distance_max < 1e-5, itself.overlap) == (True, 1.0)
    found = quality.compare(fp32, int8, texts)
    assert 0 < found.distance_p50 <= found.distance_max < quality.MOST_DISTANCE
    quality.check(found)
    with pytest.raises(ModelError, match="too far from fp32"):
        quality.check(found, most_distance=found.distance_max / 2)
    other = load(tiny_m3.card(), weights_dir=broken(folder, tmp_path).parent, threads=1)
    with pytest.raises(ModelError, match="too far from fp32"):
        quality.check(quality.compare(fp32, other, texts))
    with pytest.raises(ModelError, match="too few"):
        quality.compare(fp32, int8, ["одно и то же"] * 50)


def broken(folder: Path, into: Path) -> Path:
    """The checkpoint with its last block's output turned round."""
    made = into / "tiny-m3"
    made.mkdir()
    for name in ("config.json", "tokenizer.json", "sparse_linear.safetensors", "colbert_linear.safetensors"):
        (made / name).write_bytes((folder / name).read_bytes())
    tensors = {name: np.array(tensor) for name, tensor in read_safetensors(folder / "model.safetensors").items()}
    last = next(name for name in tensors if name.endswith("layer.1.output.LayerNorm.weight"))
    tensors[last] = tensors[last][::-1].copy() * -1
    write_safetensors(made / "model.safetensors", tensors)
    return made
