"""Writes multilingual-e5-small as an int8 ONNX graph for ONNX Runtime: no torch, no calibration, well under a second.

Run as a program (``python -m models.e5_graph TARGET``) so that the serving process never imports `onnx`.

The graph is a post-norm BERT encoder (Devlin et al. 2019, https://arxiv.org/abs/1810.04805) with mean pooling over the
mask and L2 normalisation, as multilingual-e5 asks (Wang et al. 2024, https://arxiv.org/abs/2402.05672). It takes word
embeddings, not token ids: their table stays four-bit in the package's file. Weights are one signed byte each with a
scale a column; activations are quantised as they come (ONNX Runtime's ``DynamicQuantizeMatMul``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.e5_file import E5File, dequantise, open_file, weight_file

CONTRIB = "com.microsoft"


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
        Inputs ``words`` (batch, tokens, hidden) float32 and ``mask`` (batch, tokens) int32, 1 for a token and 0 for
        padding; output ``vectors`` (batch, hidden) float32 of unit length.
    """
    graph = Graph()
    positions = file.floats("emb.pos").reshape(-1, file.hidden) + file.floats("emb.type")[: file.hidden]
    graph.weight("positions", positions)
    graph.weight("zero", np.array([0], np.int64))
    graph.weight("one", np.array([1], np.int64))
    (tokens,) = graph.op("Shape", ["mask"], start=1, end=2)
    (places,) = graph.op("Slice", ["positions", "zero", tokens, "zero"])
    (x,) = graph.op("Add", ["words", places])
    (x,) = graph.op("LayerNormalization", [x, *_norm(graph, file, "emb.ln")], epsilon=file.epsilon, axis=-1)
    for i in range(file.layers):
        x = _layer(graph, file, x, f"l{i}.")
    (mask,) = graph.op("Cast", ["mask"], to=TensorProto.FLOAT)
    (mask,) = graph.op("Unsqueeze", [mask, "one"])
    (pooled,) = graph.op("MatMul", [mask, x])
    (pooled,) = graph.op("Squeeze", [pooled, "one"])
    (length,) = graph.op("ReduceL2", [pooled, "one"], keepdims=1)
    graph.nodes.append(helper.make_node("Div", [pooled, length], ["vectors"]))
    made = helper.make_graph(
        graph.nodes,
        "multilingual-e5-small",
        [
            helper.make_tensor_value_info("words", TensorProto.FLOAT, ["batch", "tokens", file.hidden]),
            helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "tokens"]),
        ],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", file.hidden])],
        graph.weights,
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def _norm(graph: Graph, file: E5File, name: str) -> list[str]:
    return [graph.weight(f"{name}.{part}", file.floats(f"{name}.{part}")) for part in "wb"]


def _linear(graph: Graph, file: E5File, x: str, names: list[str], columns: int) -> str:
    rows = np.concatenate([dequantise(file.blocks(f"{name}.w", columns)) for name in names])
    bias = np.concatenate([file.floats(f"{name}.b") for name in names])
    scale = np.abs(rows).max(axis=1) / np.float32(127)
    quantised = np.rint(rows / scale[:, None]).astype(np.int8)
    weights = [graph.weight(f"{names[0]}.w", quantised.T), graph.weight(f"{names[0]}.s", scale)]
    (y,) = graph.op("DynamicQuantizeMatMul", [x, *weights, "", graph.weight(f"{names[0]}.b", bias)], domain=CONTRIB)
    return y


def _layer(graph: Graph, file: E5File, x: str, name: str) -> str:
    joined = _linear(graph, file, x, [name + part for part in "qkv"], file.hidden)
    heads = graph.op("Split", [joined], outputs=3, axis=-1, num_outputs=3)
    (seen,) = graph.op(
        "MultiHeadAttention",
        [*heads, "", "mask"],
        domain=CONTRIB,
        num_heads=file.heads,
        mask_filter_value=-10000.0,
    )
    seen = _linear(graph, file, seen, [name + "ao"], file.hidden)
    (x,) = graph.op(
        "SkipLayerNormalization", [seen, x, *_norm(graph, file, name + "aln")], domain=CONTRIB, epsilon=file.epsilon
    )
    inner = _linear(graph, file, x, [name + "fi"], file.hidden)
    (inner,) = graph.op("Gelu", [inner], domain=CONTRIB)
    outer = _linear(graph, file, inner, [name + "fo"], file.feed_forward)
    (x,) = graph.op(
        "SkipLayerNormalization", [outer, x, *_norm(graph, file, name + "oln")], domain=CONTRIB, epsilon=file.epsilon
    )
    return x


def write(target: Path) -> None:
    """Write the graph to `target`, whole or not at all."""
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
