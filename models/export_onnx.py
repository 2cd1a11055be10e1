"""Writes BGE-M3 as one ONNX graph with three outputs, and its reranker as one with one, without torch.

The graph is the XLM-RoBERTa encoder (Conneau et al. 2019, https://arxiv.org/abs/1911.02116) with BGE-M3's three heads
(Chen et al. 2024, https://arxiv.org/abs/2402.03216): the first token, normalised; a weight of each token; a vector of
each token but the first, normalised. In int8 the matrices have a scale a column, the token table a scale a row, and
activations are quantised as they come (ONNX Runtime's ``DynamicQuantizeMatMul``); the heads stay in 32 bits. The
reranker has the same encoder and a classifier on the first token.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.e5_graph import CONTRIB, Graph
from models.errors import WeightsError
from models.tensors import Array, read_safetensors, read_torch

Precision = Literal["fp32", "int8"]
GRAPH_VERSION = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A BGE-M3 folder opened: configuration, encoder tensors, and the two heads' weights and biases."""

    config: dict[str, Any]
    tensors: dict[str, Array]
    sparse: dict[str, Array]
    multi_vector: dict[str, Array]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a BGE-M3 folder as published.

    Parameters
    ----------
    folder : Path
        Holds ``config.json``, ``model.safetensors`` (or ``pytorch_model.bin``), ``sparse_linear`` and
        ``colbert_linear`` (``.safetensors`` or ``.pt``). Torch files are read without running anything they name.

    Returns
    -------
    Checkpoint
        Tensors are mapped, not read.

    Raises
    ------
    WeightsError
        If something is missing, damaged or of another shape.
    """
    config, tensors = _open_encoder(folder)
    made = Checkpoint(
        config=config,
        tensors=tensors,
        sparse=_part(folder, "sparse_linear", "sparse_linear.pt"),
        multi_vector=_part(folder, "colbert_linear", "colbert_linear.pt"),
    )
    hidden = config["hidden_size"]
    if made.sparse["weight"].shape != (1, hidden) or made.multi_vector["weight"].shape[1] != hidden:
        raise WeightsError(f"The heads in {folder} do not fit its encoder.", cure="Fetch the model again.")
    return made


def export(folder: Path, target: Path, *, precision: Precision) -> None:
    """Write BGE-M3's graph, whole or not at all: ``target`` and ``target.data`` beside it.

    Parameters
    ----------
    folder : Path
        Checkpoint; see `open_checkpoint`.
    target : Path
        The ``.onnx`` file to write.
    precision : {'fp32', 'int8'}
        Size for BGE-M3: 2.3 GB or 0.6 GB.

    Raises
    ------
    WeightsError
        If the checkpoint cannot be used.
    """
    _write(graph(open_checkpoint(folder), precision=precision), target)


def export_reranker(folder: Path, target: Path, *, precision: Precision) -> None:
    """Write a cross-encoder's graph (XLM-RoBERTa with one class, as bge-reranker-v2-m3); see `export`.

    Inputs as in `graph`, ids of query and passage joined; output ``score`` (batch,), higher is better.
    """
    config, tensors = _open_encoder(folder)
    if "classifier.out_proj.weight" not in tensors or tensors["classifier.out_proj.weight"].shape[0] != 1:
        raise WeightsError(f"{folder} holds no cross-encoder with one score.", cure="Fetch the model again.")
    g = Graph()
    x = _first(g, _encode(g, config, tensors, precision))
    for name in ("dense", "out_proj"):
        matrix, bias = (_f32(tensors[f"classifier.{name}.{part}"]) for part in ("weight", "bias"))
        x = _linear(g, x, f"classifier.{name}", matrix, bias, "fp32")
        if name == "dense":
            (x,) = g.op("Tanh", [x])
    g.nodes.append(helper.make_node("Squeeze", [x, "one"], ["score"]))
    _write(_model(g, "reranker", [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])]), target)


def _write(model: onnx.ModelProto, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        partial = Path(scratch) / target.name
        onnx.save_model(
            model, str(partial), save_as_external_data=True, location=f"{target.name}.data", size_threshold=1024
        )
        for name in (f"{target.name}.data", target.name):  # the graph last: it is what is looked for
            with (Path(scratch) / name).open("rb") as file:
                os.fsync(file.fileno())
            (Path(scratch) / name).replace(target.parent / name)


def graph(checkpoint: Checkpoint, *, precision: Precision) -> onnx.ModelProto:
    """Build the graph.

    Parameters
    ----------
    checkpoint : Checkpoint
        Opened weights.
    precision : {'fp32', 'int8'}
        Of the encoder.

    Returns
    -------
    onnx.ModelProto
        Inputs ``ids`` (batch, tokens) int64, padded on the right, and ``mask`` (batch, tokens) int32, 1 for a token.
        Outputs ``dense`` (batch, hidden) and ``multi_vector`` (batch, tokens − 1, width), rows of unit length, and
        ``sparse`` (batch, tokens), weights ≥ 0.
    """
    g = Graph()
    x = _encode(g, checkpoint.config, checkpoint.tensors, precision)
    _heads(g, checkpoint, x)
    outputs = [
        helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["batch", int(checkpoint.config["hidden_size"])]),
        helper.make_tensor_value_info("sparse", TensorProto.FLOAT, ["batch", "tokens"]),
        helper.make_tensor_value_info("multi_vector", TensorProto.FLOAT, ["batch", "inner", None]),
    ]
    return _model(g, "bge-m3", outputs)


def _model(g: Graph, name: str, outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"]),
        helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "tokens"]),
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
    made = helper.make_graph(g.nodes, name, inputs, outputs, g.weights)
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def _encode(g: Graph, config: dict[str, Any], tensors: dict[str, Array], precision: Precision) -> str:
    """Add the encoder; returns its last hidden states (batch, tokens, hidden)."""
    eps = float(config["layer_norm_eps"])
    for name, value in (("zero", 0), ("one", 1)):
        g.weight(name, np.array([value], np.int64))
    first = int(config["pad_token_id"]) + 1
    positions = _f32(tensors["embeddings.position_embeddings.weight"])[first:]
    g.weight("positions", positions + _f32(tensors["embeddings.token_type_embeddings.weight"])[:1])
    words = _words(g, _f32(tensors["embeddings.word_embeddings.weight"]), precision)
    (tokens,) = g.op("Shape", ["ids"], start=1, end=2)
    (places,) = g.op("Slice", ["positions", "zero", tokens, "zero"])
    (x,) = g.op("Add", [words, places])
    (x,) = g.op("LayerNormalization", [x, *_norm(g, tensors, "embeddings.LayerNorm")], epsilon=eps, axis=-1)
    for i in range(int(config["num_hidden_layers"])):
        x = _layer(g, tensors, x, f"encoder.layer.{i}.", int(config["num_attention_heads"]), eps, precision)
    return x


def _first(g: Graph, x: str) -> str:
    (first,) = g.op("Slice", [x, "zero", "one", "one"])
    (first,) = g.op("Squeeze", [first, "one"])
    return first


def _words(g: Graph, table: NDArray[np.float32], precision: Precision) -> str:
    if precision == "fp32":
        (words,) = g.op("Gather", [g.weight("words", table), "ids"])
        return words
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), np.float32(1e-12)) / np.float32(127)
    (rows,) = g.op("Gather", [g.weight("words", np.rint(table / scale).astype(np.int8)), "ids"])
    (rows,) = g.op("Cast", [rows], to=TensorProto.FLOAT)
    (scales,) = g.op("Gather", [g.weight("words.scale", scale), "ids"])
    (words,) = g.op("Mul", [rows, scales])
    return words


def _layer(g: Graph, tensors: dict[str, Array], x: str, name: str, heads: int, eps: float, precision: Precision) -> str:
    def linear(value: str, *parts: str) -> str:
        matrix = np.concatenate([_f32(tensors[f"{name}{part}.weight"]) for part in parts])
        bias = np.concatenate([_f32(tensors[f"{name}{part}.bias"]) for part in parts])
        return _linear(g, value, f"{name}{parts[0]}", matrix, bias, precision)

    def add_norm(value: str, rest: str, part: str) -> str:
        inputs = [value, rest, *_norm(g, tensors, name + part)]
        (out,) = g.op("SkipLayerNormalization", inputs, domain=CONTRIB, epsilon=eps)
        return out

    joined = linear(x, "attention.self.query", "attention.self.key", "attention.self.value")
    queries = g.op("Split", [joined], outputs=3, axis=-1, num_outputs=3)
    (seen,) = g.op(
        "MultiHeadAttention", [*queries, "", "mask"], domain=CONTRIB, num_heads=heads, mask_filter_value=-1e9
    )
    x = add_norm(linear(seen, "attention.output.dense"), x, "attention.output.LayerNorm")
    (inner,) = g.op("Gelu", [linear(x, "intermediate.dense")], domain=CONTRIB)
    return add_norm(linear(inner, "output.dense"), x, "output.LayerNorm")


def _linear(
    g: Graph, x: str, name: str, matrix: NDArray[np.float32], bias: NDArray[np.float32], precision: Precision
) -> str:
    if precision == "fp32":
        (y,) = g.op("MatMul", [x, g.weight(f"{name}.w", matrix.T)])
        (y,) = g.op("Add", [y, g.weight(f"{name}.b", bias)])
        return y
    scale = np.maximum(np.abs(matrix).max(axis=1), np.float32(1e-12)) / np.float32(127)
    weights = [
        g.weight(f"{name}.w", np.rint(matrix / scale[:, None]).astype(np.int8).T),
        g.weight(f"{name}.s", scale),
    ]
    (y,) = g.op("DynamicQuantizeMatMul", [x, *weights, "", g.weight(f"{name}.b", bias)], domain=CONTRIB)
    return y


def _heads(g: Graph, checkpoint: Checkpoint, x: str) -> None:
    _unit(g, _first(g, x), "dense", axis=1)
    sparse, multi = checkpoint.sparse, checkpoint.multi_vector
    weight = _linear(g, x, "sparse", _f32(sparse["weight"]), _f32(sparse["bias"]), "fp32")
    (weight,) = g.op("Relu", [weight])
    (weight,) = g.op("Squeeze", [weight, g.weight("last", np.array([2], np.int64))])
    (kept,) = g.op("Cast", ["mask"], to=TensorProto.FLOAT)
    g.nodes.append(helper.make_node("Mul", [weight, kept], ["sparse"]))
    end = g.weight("end", np.array([np.iinfo(np.int64).max], np.int64))
    (rest,) = g.op("Slice", [x, "one", end, "one"])
    _unit(g, _linear(g, rest, "multi", _f32(multi["weight"]), _f32(multi["bias"]), "fp32"), "multi_vector", axis=2)


def _unit(g: Graph, x: str, output: str, *, axis: int) -> None:
    (length,) = g.op("ReduceL2", [x, g.weight(f"{output}.axis", np.array([axis], np.int64))], keepdims=1)
    (length,) = g.op("Max", [length, g.weight(f"{output}.least", np.array(1e-12, np.float32))])
    g.nodes.append(helper.make_node("Div", [x, length], [output]))


def _norm(g: Graph, tensors: dict[str, Array], name: str) -> list[str]:
    return [g.weight(f"{name}.{part}", _f32(tensors[f"{name}.{part}"])) for part in ("weight", "bias")]


def _f32(array: Array) -> NDArray[np.float32]:
    return np.asarray(array, np.float32)


def _open_encoder(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{folder} holds no readable config.json.", cure="Pull the model, or point to its folder."
        ) from error
    if config.get("model_type") != "xlm-roberta":
        raise WeightsError(f"{folder} holds a {config.get('model_type')!r} model, not an xlm-roberta.")
    tensors = {name.removeprefix("roberta."): t for name, t in _part(folder, "model", "pytorch_model.bin").items()}
    hidden = config["hidden_size"]
    wanted = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        f"encoder.layer.{config['num_hidden_layers'] - 1}.output.dense.weight": (hidden, config["intermediate_size"]),
    }
    for name, shape in wanted.items():
        if name not in tensors or tensors[name].shape != shape:
            raise WeightsError(f"{folder} has no tensor {name} of shape {shape}.", cure="Fetch the model again.")
    return config, tensors


def _part(folder: Path, stem: str, torch_name: str) -> dict[str, Array]:
    if (safe := folder / f"{stem}.safetensors").is_file():
        return read_safetensors(safe)
    if (folder / torch_name).is_file():
        return read_torch(folder / torch_name)
    raise WeightsError(
        f"{folder} holds neither {stem}.safetensors nor {torch_name}.", cure="Pull the model, or point to its folder."
    )
