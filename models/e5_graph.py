"""Writes multilingual-e5-small as an int8 ONNX graph for ONNX Runtime: no torch, no calibration, in half a second.

Run as a program (``python -m models.e5_graph TARGET``) so that the serving process never imports `onnx`.

The graph is a post-norm BERT encoder (Devlin et al. 2019, https://arxiv.org/abs/1810.04805) with mean pooling and L2
normalisation, as multilingual-e5 asks (Wang et al. 2024, https://arxiv.org/abs/2402.05672). It reads one text at a
time: on one thread a text alone costs no more a token than in a batch, nothing is spent on padding, and its vector does
not depend on its neighbours. It takes word embeddings, not token ids: their table stays four-bit in the package's file.

Weights are signed bytes of seven bits with one scale a column, so that sums of pairs cannot overflow on CPUs without
VNNI. Activations are quantised as they come, one scale a tensor (ONNX Runtime's ``DynamicQuantizeMatMul``); the few
that are ten times louder than the rest would spoil that scale (Sun et al. 2024, https://arxiv.org/abs/2402.17762), so

- `LONE`, feed-forward channels that answer to the first and last token only, are computed apart in floats;
- `LOUD`, dimensions of the feed-forward's input, are turned down by 8 and their weights up (SmoothQuant, Xiao et al.
  2022, https://arxiv.org/abs/2211.10438).

Layer norms are written as "minus mean, then RMS norm", which ONNX Runtime computes five times faster than its own, and
their bias is moved into the next layers'.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.e5_file import E5File, dequantise, open_file, weight_file
from models.ports import Vectors

CONTRIB = "com.microsoft"
LONE = {0: 318, 1: 1462, 2: 354, 4: 778, 5: 658, 6: 1152, 7: 413}
LOUD = (15, 35)
TURNED_DOWN = 1 / 8
LARGEST = 63


class Graph:
    """A graph being written: nodes in order, weights by name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant; returns its name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(
        self, kind: str, inputs: list[str], *, outputs: int = 1, domain: str = "", **attributes: object
    ) -> list[str]:
        """Add a node; returns the names of its outputs."""
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], domain=domain, **attributes))
        return names


def encoder(file: E5File) -> ModelProto:
    """Build the graph.

    Parameters
    ----------
    file : E5File
        Weights.

    Returns
    -------
    onnx.ModelProto
        Input ``words`` (1, tokens, hidden) float32, the embeddings of one text's tokens; output ``vector`` (1, hidden)
        float32 of unit length.
    """
    graph = Graph()
    graph.weight("positions", file.floats("emb.pos").reshape(-1, file.hidden) + file.floats("emb.type")[: file.hidden])
    graph.weight("first", np.array([0], np.int64))
    graph.weight("over_tokens", np.array([1], np.int64))
    graph.weight("over_hidden", np.array([-1], np.int64))
    (tokens,) = graph.op("Shape", ["words"], start=1, end=2)
    (places,) = graph.op("Slice", ["positions", "first", tokens, "first"])
    x, shift = _normed(graph, file, "words", places, "emb.ln")
    for i in range(file.layers):
        x, shift = _layer(graph, file, x, shift, i)
    (mean,) = graph.op("ReduceMean", [x, "over_tokens"], keepdims=0)
    (mean,) = graph.op("Add", [mean, graph.weight("shift", shift)])
    (length,) = graph.op("ReduceL2", [mean, "over_tokens"], keepdims=1)
    graph.nodes.append(helper.make_node("Div", [mean, length], ["vector"]))
    made = helper.make_graph(
        graph.nodes,
        "multilingual-e5-small",
        [helper.make_tensor_value_info("words", TensorProto.FLOAT, [1, "tokens", file.hidden])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, file.hidden])],
        graph.weights,
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def _layer(graph: Graph, file: E5File, x: str, shift: Vectors, number: int) -> tuple[str, Vectors]:
    """Write one layer. The stream is ``x + shift``: a norm's bias is never added, the next layers carry it."""
    name = f"l{number}."
    rows, bias = _dense(file, [name + part for part in "qkv"], file.hidden)
    joined = _quantised(graph, name + "qkv", x, rows, bias + rows @ shift)
    heads = graph.op("Split", [joined], outputs=3, axis=-1, num_outputs=3)
    (seen,) = graph.op("MultiHeadAttention", heads, domain=CONTRIB, num_heads=file.heads)
    rows, bias = _dense(file, [name + "ao"], file.hidden)
    x, shift = _normed(graph, file, _quantised(graph, name + "ao", seen, rows, bias + shift), x, name + "aln")

    rows, bias = _dense(file, [name + "fi"], file.hidden)
    bias = bias + rows @ shift
    back, back_bias = _dense(file, [name + "fo"], file.feed_forward)
    lone = [LONE[number]] if number in LONE else []
    rest = np.delete(np.arange(file.feed_forward), lone)
    turn = np.ones(file.hidden, np.float32)
    turn[list(LOUD)] = TURNED_DOWN
    (quiet,) = graph.op("Mul", [x, graph.weight(name + "turn", turn)])
    inner = _quantised(graph, name + "fi", quiet, rows[rest] / turn, bias[rest])
    (inner,) = graph.op("Gelu", [inner], domain=CONTRIB)
    outer = _quantised(graph, name + "fo", inner, back[:, rest], back_bias + shift)
    if lone:
        (inner,) = graph.op("MatMul", [x, graph.weight(name + "lone.in", rows[lone].T)])
        (inner,) = graph.op("Add", [inner, graph.weight(name + "lone.bias", bias[lone])])
        (inner,) = graph.op("Gelu", [inner], domain=CONTRIB)
        (inner,) = graph.op("MatMul", [inner, graph.weight(name + "lone.out", back[:, lone].T)])
        (outer,) = graph.op("Add", [outer, inner])
    return _normed(graph, file, outer, x, name + "oln")


def _dense(file: E5File, names: list[str], columns: int) -> tuple[Vectors, Vectors]:
    rows = np.concatenate([dequantise(file.blocks(f"{name}.w", columns)) for name in names])
    return rows, np.concatenate([file.floats(f"{name}.b") for name in names])


def _quantised(graph: Graph, name: str, x: str, rows: Vectors, bias: Vectors) -> str:
    scale = np.abs(rows).max(axis=1) / np.float32(LARGEST)
    weights = {".w": np.rint(rows / scale[:, None]).astype(np.int8).T, ".s": scale, ".b": bias}
    w, s, b = (graph.weight(name + part, value) for part, value in weights.items())
    return graph.op("DynamicQuantizeMatMul", [x, w, s, "", b], domain=CONTRIB)[0]


def _normed(graph: Graph, file: E5File, x: str, y: str, name: str) -> tuple[str, Vectors]:
    (x,) = graph.op("Add", [x, y])
    (mean,) = graph.op("ReduceMean", [x, "over_hidden"], keepdims=1)
    (x,) = graph.op("Sub", [x, mean])
    weight = graph.weight(name + ".w", file.floats(name + ".w"))
    (x,) = graph.op("SimplifiedLayerNormalization", [x, weight], epsilon=file.epsilon, axis=-1)
    return x, file.floats(name + ".b")


def write(target: Path) -> None:
    """Write the graph to `target`, whole or not at all, a power cut included."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(encoder(open_file(weight_file())).SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
