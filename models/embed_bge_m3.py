"""BGE-M3: dense, sparse and multi-vector embeddings, through ONNX Runtime on the CPU or FlagEmbedding on a GPU.

Both engines share the tokenizer, the batching by length and the last step, so they differ only in arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.cards import EmbedderCard
from models.errors import WeightsError
from models.onnx_run import graph_beside, open_session, read_tokenizer
from models.ports import EmbedderInfo, Vectors

TOKENS_A_STEP_CPU = 512  # more leaves the caches: 2,048 took half again as long a text
TOKENS_A_STEP_GPU = 16384
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # never in the sparse output, as FlagEmbedding has it

Step = Callable[[NDArray[np.int64], NDArray[np.int32], bool, bool], tuple[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What texts became.

    Attributes
    ----------
    dense : ndarray
        ``(texts, dim)`` float32, rows of unit length.
    sparse : list of dict or None
        For each text token id → weight > 0, the largest where a token comes twice.
    multi_vector : list of ndarray or None
        For each text ``(tokens − 1, dim)`` float32, rows of unit length; the first token has none.
    tokens : list of int
        Tokens read of each text.
    """

    dense: Vectors
    sparse: list[dict[int, float]] | None
    multi_vector: list[Vectors] | None
    tokens: list[int]


class BgeM3:
    """BGE-M3 on some engine. Thread-safe; blocking.

    Parameters
    ----------
    info : EmbedderInfo
        What it says of itself.
    tokenizer : Tokenizer
        The checkpoint's own.
    step : callable
        Runs one padded batch: (ids, mask, sparse, multi_vector) → dense rows, token weights, token vectors.
    tokens_a_step : int
        Most tokens of one batch, padding included.
    """

    def __init__(self, info: EmbedderInfo, tokenizer: Tokenizer, step: Step, *, tokens_a_step: int) -> None:
        self.info = info
        self.tokens_a_step = tokens_a_step
        self._tokenizer = tokenizer
        self._step = step
        found = {token: tokenizer.token_to_id(token) for token in SPECIAL}
        self._pad = found["<pad>"] or 0
        self._special = set(found.values())

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self.encode(texts).dense

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed chunks of posts; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self.encode(texts).dense

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut at the model's limit, first and last token included."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def encode(self, texts: Sequence[str], *, sparse: bool = False, multi_vector: bool = False) -> Embeddings:
        """Embed texts of any lengths.

        Parameters
        ----------
        texts : sequence of str
            Texts; the tokens beyond the model's limit are cut.
        sparse, multi_vector : bool, optional
            Whether to give these too.

        Returns
        -------
        Embeddings
            In the order of `texts`.
        """
        return self.encode_tokens(self.tokenize(texts), sparse=sparse, multi_vector=multi_vector)

    def encode_tokens(
        self, tokens: Sequence[Sequence[int]], *, sparse: bool = False, multi_vector: bool = False
    ) -> Embeddings:
        """Embed texts that `tokenize` has cut; see `encode`."""
        dense = np.empty((len(tokens), self.info.dim), np.float32)
        weights: list[dict[int, float]] = [{} for _ in tokens]
        vectors: list[Vectors] = [np.empty((0, self.info.dim), np.float32) for _ in tokens]
        for batch in batches([len(t) for t in tokens], self.tokens_a_step):
            ids = np.full((len(batch), len(tokens[batch[0]])), self._pad, np.int64)
            for row, i in enumerate(batch):
                ids[row, : len(tokens[i])] = tokens[i]
            mask = (np.arange(ids.shape[1]) < np.array([[len(tokens[i])] for i in batch])).astype(np.int32)
            dense[batch], token_weights, token_vectors = self._step(ids, mask, sparse, multi_vector)
            for row, i in enumerate(batch):
                if sparse:
                    weights[i] = self._heaviest(tokens[i], token_weights[row])
                if multi_vector:
                    vectors[i] = np.array(token_vectors[row][: len(tokens[i]) - 1], np.float32)
        return Embeddings(
            dense=dense,
            sparse=weights if sparse else None,
            multi_vector=vectors if multi_vector else None,
            tokens=[len(t) for t in tokens],
        )

    def _heaviest(self, tokens: Sequence[int], weights: NDArray[np.float32]) -> dict[int, float]:
        out: dict[int, float] = {}
        for token, weight in zip(tokens, weights.tolist(), strict=False):
            if weight > out.get(token, 0.0) and token not in self._special:
                out[token] = weight
        return out


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut texts into batches of like length.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each text.
    budget : int
        Most tokens of one batch, padding included (a longer text gets a batch of its own); an eighth of it may be
        padding.

    Returns
    -------
    list of list of int
        Positions in `lengths`, longest first, each exactly once.
    """
    out: list[list[int]] = []
    longest = padding = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        padding += longest - lengths[i]
        if not out or (len(out[-1]) + 1) * longest > budget or padding > budget // 8:
            out.append([])
            longest, padding = lengths[i], 0
        out[-1].append(i)
    return out


def open_onnx(card: EmbedderCard, graph: Path, tokenizer: Path, *, threads: int = 0) -> BgeM3:
    """Run an exported graph with ONNX Runtime.

    Parameters
    ----------
    card : EmbedderCard
        Name, dimension and context.
    graph : Path
        File of `models.export_onnx.export`; ``int8`` in its name says which it is.
    tokenizer : Path
        ``tokenizer.json`` of the checkpoint.
    threads : int, optional
        Threads of one call; 0 takes all cores, 4 at most.

    Returns
    -------
    BgeM3
        Ready.

    Raises
    ------
    WeightsError
        If the files are missing or damaged.
    """
    session = open_session(graph, threads=threads)
    shape = session.get_outputs()[0].shape

    def step(ids: NDArray[np.int64], mask: NDArray[np.int32], sparse: bool, multi: bool) -> tuple[Any, Any, Any]:
        names = ["dense", *(["sparse"] if sparse else []), *(["multi_vector"] if multi else [])]
        found = dict(zip(names, session.run(names, {"ids": ids, "mask": mask}), strict=True))
        return found["dense"], found.get("sparse"), found.get("multi_vector")

    info = EmbedderInfo(
        card=card.name,
        dim=int(shape[1]),
        max_tokens=card.context,
        engine=f"onnxruntime-{'int8' if 'int8' in graph.name else 'fp32'}",
    )
    return BgeM3(info, _tokenizer(tokenizer, card.context), step, tokens_a_step=TOKENS_A_STEP_CPU)


def open_torch(card: EmbedderCard, folder: Path, *, device: str = "") -> BgeM3:
    """Run a checkpoint with FlagEmbedding's own model; importing it takes 20 seconds and loads torch.

    Parameters
    ----------
    card : EmbedderCard
        Name and context.
    folder : Path
        Checkpoint in FlagEmbedding's layout.
    device : str, optional
        ``"cuda:0"``, ``"cpu"``; empty takes a GPU where there is one. On a GPU it computes in 16 bits.

    Returns
    -------
    BgeM3
        Ready.

    Raises
    ------
    WeightsError
        If FlagEmbedding is not installed or the checkpoint cannot be loaded.
    """
    try:
        import torch
        from FlagEmbedding.inference.embedder.encoder_only.m3 import M3Embedder
    except ImportError as error:
        raise WeightsError(
            "FlagEmbedding is not installed.", cure="Install the gpu extra, or run the ONNX export on the CPU."
        ) from error
    if missing := [name for name in ("sparse_linear.pt", "colbert_linear.pt") if not (folder / name).is_file()]:
        raise WeightsError(  # FlagEmbedding would go on with random heads
            f"{folder} holds no {' and no '.join(missing)}.", cure="Fetch the model again."
        )
    device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    on_gpu = not device.startswith("cpu")
    try:
        flag = M3Embedder(str(folder), use_fp16=on_gpu, devices=device)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{folder} cannot be loaded: {error}.", cure="Fetch the model again.") from error
    model = flag.model.to(device).eval()

    def step(ids: NDArray[np.int64], mask: NDArray[np.int32], sparse: bool, multi: bool) -> tuple[Any, Any, Any]:
        inputs = {
            "input_ids": torch.from_numpy(ids).to(device),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)).to(device),
        }
        with torch.inference_mode():
            found = model(inputs, return_dense=True, return_sparse=sparse, return_colbert_vecs=multi)
            return (
                found["dense_vecs"].float().cpu().numpy(),
                found["sparse_vecs"].squeeze(-1).float().cpu().numpy() if sparse else None,
                found["colbert_vecs"].float().cpu().numpy() if multi else None,
            )

    info = EmbedderInfo(
        card=card.name,
        dim=int(model.config.hidden_size),
        max_tokens=card.context,
        engine=f"flagembedding-{'fp16' if on_gpu else 'fp32'}",
    )
    return BgeM3(
        info,
        _tokenizer(folder / "tokenizer.json", card.context),
        step,
        tokens_a_step=TOKENS_A_STEP_GPU if on_gpu else TOKENS_A_STEP_CPU,
    )


def load(card: EmbedderCard, *, weights_dir: Path, threads: int = 0, precision: str = "int8") -> BgeM3:
    """Open BGE-M3 on the CPU, exporting its graph on first use.

    Parameters
    ----------
    card : EmbedderCard
        Its card.
    weights_dir : Path
        Holds the checkpoint in a folder of the card's name; the graph is written beside it.
    threads : int, optional
        Threads of one call; 0 takes all cores, 4 at most.
    precision : {'int8', 'fp32'}, optional
        Of the graph.

    Returns
    -------
    BgeM3
        Ready and warm.

    Raises
    ------
    WeightsError
        If the checkpoint is missing or damaged.
    """
    from models.export_onnx import GRAPH_VERSION, Precision, export

    folder = weights_dir / card.name
    form: Precision = "int8" if precision == "int8" else "fp32"
    graph = graph_beside(
        folder, f"{card.name}-{form}-g{GRAPH_VERSION}.onnx", lambda target: export(folder, target, precision=form)
    )
    embedder = open_onnx(card, graph, folder / "tokenizer.json", threads=threads)
    embedder.embed_queries([""])
    return embedder


def _tokenizer(path: Path, context: int) -> Tokenizer:
    tokenizer = read_tokenizer(path)
    tokenizer.enable_truncation(context)
    return tokenizer
