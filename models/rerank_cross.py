"""Cross-encoder reranker (bge-reranker-v2-m3) through ONNX Runtime on the CPU. Off unless a suite shows a gain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.cards import RerankerCard
from models.embed_bge_m3 import TOKENS_A_STEP_CPU, batches
from models.export_onnx import GRAPH_VERSION, Precision, export_reranker
from models.onnx_run import graph_beside, open_session, read_tokenizer

if TYPE_CHECKING:
    import onnxruntime as ort

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
    form: Precision = "int8" if precision == "int8" else "fp32"
    graph = graph_beside(
        folder,
        f"{card.name}-{form}-g{GRAPH_VERSION}.onnx",
        lambda target: export_reranker(folder, target, precision=form),
    )
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    tokenizer.enable_truncation(min(card.context, MAX_TOKENS), strategy="only_second")
    return CrossEncoder(open_session(graph, threads=threads), tokenizer)
