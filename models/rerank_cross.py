"""Cross-encoder reranker (bge-reranker-v2-m3) through ONNX Runtime on the CPU. Off unless a suite shows a gain."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.cards import RerankerCard
from models.embed_bge_m3 import TOKENS_A_STEP_CPU, batches
from models.errors import WeightsError
from models.export_onnx import GRAPH_VERSION, export_reranker

MAX_TOKENS = 1024  # of a pair; passages are chunks, far shorter


class CrossEncoder:
    """A `models.ports.Reranker`. Thread-safe; blocking.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Graph of `models.export_onnx.export_reranker`.
    tokenizer : Tokenizer
        The checkpoint's own, set to cut pairs.
    """

    def __init__(self, session: ort.InferenceSession, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._pad = tokenizer.token_to_id("<pad>") or 0

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Return ``(len(passages),)`` logits, higher is better; a sigmoid makes them probabilities."""
        pairs = [e.ids for e in self._tokenizer.encode_batch([(query, passage) for passage in passages])]
        out = np.empty(len(pairs), np.float32)
        for batch in batches([len(ids) for ids in pairs], TOKENS_A_STEP_CPU):
            ids = np.full((len(batch), len(pairs[batch[0]])), self._pad, np.int64)
            for row, i in enumerate(batch):
                ids[row, : len(pairs[i])] = pairs[i]
            mask = (np.arange(ids.shape[1]) < np.array([[len(pairs[i])] for i in batch])).astype(np.int32)
            out[batch] = self._session.run(["score"], {"ids": ids, "mask": mask})[0]
        return out


def load(card: RerankerCard, *, weights_dir: Path, threads: int = 0, precision: str = "int8") -> CrossEncoder:
    """Open a reranker, exporting its graph on first use.

    Parameters
    ----------
    card : RerankerCard
        Its card.
    weights_dir : Path
        Holds the checkpoint in a folder of the card's name; the graph is written into it.
    threads : int, optional
        Threads of one call; 0 takes all cores, 4 at most.
    precision : {'int8', 'fp32'}, optional
        Of the graph.

    Returns
    -------
    CrossEncoder
        Ready.

    Raises
    ------
    WeightsError
        If the checkpoint is missing or damaged.
    """
    folder = weights_dir / card.name
    graph = folder / f"{card.name}-{precision}-g{GRAPH_VERSION}.onnx"
    if not graph.is_file():
        export_reranker(folder, graph, precision="int8" if precision == "int8" else "fp32")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or min(len(os.sched_getaffinity(0)), 4)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1")  # without VNNI, int8 sums overflow 16 bits
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # neither library's errors share a base of their own
        raise WeightsError(
            f"{card.name} cannot be opened: {type(error).__name__}.", cure="Remove it and pull it again."
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(card.context, MAX_TOKENS), strategy="only_second")
    return CrossEncoder(session, tokenizer)
