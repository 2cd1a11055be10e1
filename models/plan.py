"""What fits on one GPU together: weights, KV cache, working memory, embedder and reranker — before anything starts.

The count, in bytes (1 GiB = 2³⁰):

- *weights* = parameters × bytes of one; the token tables of a quantised model stay in 16 bits, as vLLM keeps them;
- *KV cache* of a token = 2 × layers × key-value heads × head width × bytes (Kwon et al., arXiv 2309.06180), or
  layers × latent × bytes under multi-head latent attention (DeepSeek-V2, arXiv 2405.04434);
- *working memory* = tokens of one step × (3 × feed-forward + 6 × width) × 2, and for a language model the scores of the
  whole vocabulary, twice in 32 bits, for each answer in the step;
- *runtime*, per process: the CUDA context and libraries, and CUDA graphs for vLLM.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.cards import AnswererCard, EmbedderCard, RerankerCard, Shape
from models.errors import DoesNotFit, ModelError

GIB = 1 << 30
USABLE = 0.975  # of a card's nominal memory; the driver keeps the rest
VLLM_RUNTIME_BYTES = int(0.8 * GIB)  # context 0.4, CUDA graphs 0.4
RUNTIME_BYTES = int(0.5 * GIB)  # context and libraries of the embedding server or the reranker
ENCODER_STEP_TOKENS = 16384  # most tokens the embedding server puts into one step
CPU_STEP_TOKENS = 512  # llama.cpp's n_ubatch
MOST_VRAM_GIB = 4096
MOST_ANSWERS = 64  # more answers in one step than this gain nothing on one card

_BYTES_OF_WEIGHT = {
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "awq": 0.5 + 2.5 / 128,  # groups of 128 with a 16-bit scale and a 4-bit zero
    "bnb-4bit": 0.5 + 1 / 64 + 4 / (64 * 256),  # NF4: blocks of 64 with 8-bit scales, themselves quantised
    "4bit": 0.5 + 2 / 32,  # blocks of 32 with a 16-bit scale
    "q4_k_m": 4.85 / 8,  # llama.cpp's mixture; a card names its file's bytes
}
_TABLES_STAY = {"fp8", "awq", "bnb-4bit"}

Place = Literal["gpu", "cpu", "none"]


@dataclass(frozen=True, slots=True)
class Share:
    """One use of the card's memory."""

    what: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits.

    Attributes
    ----------
    answerer : AnswererCard
        The language model.
    vram_gib : float
        The card's nominal memory.
    shares : tuple of Share
        Every use of it but the KV cache, in bytes.
    kv_bytes, kv_bytes_per_token : int
        What is left for the KV cache, and what one token of it takes.
    context : int
        Tokens of a prompt and its answer.
    answers_at_once : int
        Answers of that length written at the same time; more wait their turn.
    embedder, reranker : {'gpu', 'cpu', 'none'}
        Where they run.
    vllm_args : tuple of str
        Flags that hold vLLM to this plan.
    """

    answerer: AnswererCard
    vram_gib: float
    shares: tuple[Share, ...]
    kv_bytes: int
    kv_bytes_per_token: int
    context: int
    answers_at_once: int
    embedder: Place
    reranker: Place
    vllm_args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as the driver reports it; memory in GiB."""

    name: str
    total_gib: float
    free_gib: float


def weight_bytes(card: AnswererCard | EmbedderCard | RerankerCard) -> int:
    """Memory of a model's weights.

    Parameters
    ----------
    card : card
        Its parameters, quantisation and shape are read.

    Returns
    -------
    int
        Bytes.
    """
    if isinstance(card, AnswererCard) and card.file_bytes:
        return card.file_bytes
    tables = 0
    if card.quantisation in _TABLES_STAY:
        tables = card.shape.vocab * card.shape.hidden * (1 if card.shape.tied else 2)
    return int((card.parameters - tables) * _BYTES_OF_WEIGHT[card.quantisation] + tables * 2)


def kv_bytes_per_token(card: AnswererCard) -> int:
    """Memory that one token takes in the KV cache, in bytes."""
    shape = card.shape
    numbers = shape.kv_latent or 2 * shape.kv_heads * shape.head_dim
    return shape.layers * numbers * card.kv_bits // 8


def plan(
    answerer: AnswererCard,
    *,
    vram_gib: float,
    embedder: EmbedderCard | None = None,
    reranker: RerankerCard | None = None,
    answers_at_once: int = 4,
    context: int = 8192,
    embedder_on: Literal["auto", "gpu", "cpu"] = "auto",
) -> Plan:
    """Check that models fit one card together, and say how many answers it can write at once.

    Parameters
    ----------
    answerer : AnswererCard
        The language model vLLM serves.
    vram_gib : float
        The card's nominal memory, in GiB.
    embedder, reranker : card, optional
        What runs beside it.
    answers_at_once : int, optional
        Fewest answers to be written at the same time.
    context : int, optional
        Tokens of a prompt and its answer.
    embedder_on : {'auto', 'gpu', 'cpu'}, optional
        ``'auto'`` moves the embedder to the CPU when the card is too small for both.

    Returns
    -------
    Plan
        The shares, the answers at once and vLLM's flags.

    Raises
    ------
    DoesNotFit
        If it does not; every share is named, and what would help.
    ModelError
        If the request makes no sense.
    """
    if answers_at_once < 1 or context < 256 or not 0 < vram_gib <= MOST_VRAM_GIB:
        raise ModelError(
            f"A plan needs memory of 1 to {MOST_VRAM_GIB} GiB, at least one answer at once and a context of at least "
            "256 tokens.",
            cure="Give --vram GIB, --answers and --context.",
        )
    if answerer.engine != "vllm":
        raise DoesNotFit(f"{answerer.name} runs on the CPU.", cure="Plan it without --vram.")
    _check_context(answerer, context)
    usable = int(vram_gib * GIB * USABLE)
    step_tokens = 2048 if vram_gib < 40 else 8192
    per_token = kv_bytes_per_token(answerer)
    needed = per_token * context * answers_at_once
    own = [
        Share(f"weights of {answerer.name}", weight_bytes(answerer)),
        Share("working memory", _step_bytes(answerer.shape, step_tokens, answers=min(answers_at_once, MOST_ANSWERS))),
        Share("runtime of vLLM", VLLM_RUNTIME_BYTES),
    ]
    rerank = _encoder_shares(reranker) if reranker else []
    embed = _encoder_shares(embedder) if embedder and embedder_on != "cpu" else []
    place: Place = "gpu" if embed else ("cpu" if embedder else "none")
    if embed and embedder_on == "auto" and usable - _total(own + rerank + embed) < needed:
        embed, place = [], "cpu"
    shares = own + embed + rerank
    left = usable - _total(shares)
    if left < needed:
        raise _does_not_fit(answerer, vram_gib, shares, left, needed, per_token, context)
    fits = left // (per_token * context)
    at_once = min(fits, MOST_ANSWERS)
    kv_bytes = left if fits <= MOST_ANSWERS else per_token * context * MOST_ANSWERS
    return Plan(
        answerer=answerer,
        vram_gib=vram_gib,
        shares=tuple(shares),
        kv_bytes=kv_bytes,
        kv_bytes_per_token=per_token,
        context=context,
        answers_at_once=at_once,
        embedder=place,
        reranker="gpu" if reranker else "none",
        vllm_args=(
            *("--max-model-len", str(context)),
            *("--max-num-seqs", str(at_once)),
            *("--max-num-batched-tokens", str(step_tokens)),
            *("--kv-cache-memory-bytes", str(kv_bytes)),
            *("--gpu-memory-utilization", f"{int(100 * (_total(own) + kv_bytes) / (vram_gib * GIB)) / 100:.2f}"),
            *answerer.vllm_args,
        ),
    )


def plan_cpu(
    answerer: AnswererCard, *, memory_gib: float, answers_at_once: int = 1, context: int = 8192
) -> tuple[Share, ...]:
    """Check that a GGUF fits the host's memory under llama.cpp.

    Parameters
    ----------
    answerer : AnswererCard
        A card of llama.cpp.
    memory_gib : float
        Memory that is free, in GiB.
    answers_at_once, context : int, optional
        Answers written at the same time, and tokens of a prompt and its answer.

    Returns
    -------
    tuple of Share
        Every use of the memory.

    Raises
    ------
    DoesNotFit
        If it does not.
    """
    _check_context(answerer, context)
    cache = kv_bytes_per_token(answerer) * context * answers_at_once
    shares = (
        Share("weights", weight_bytes(answerer)),
        Share("KV cache", cache),
        Share("working memory", _step_bytes(answerer.shape, CPU_STEP_TOKENS, answers=answers_at_once)),
    )
    if _total(shares) > memory_gib * GIB:
        parts = ", ".join(f"{share.what} {share.bytes / GIB:.1f}" for share in shares)
        raise DoesNotFit(
            f"{answerer.name} takes {_total(shares) / GIB:.1f} GiB ({parts}), {memory_gib:.1f} are free.",
            cure="Ask for fewer --answers or a shorter --context, or take a smaller model.",
        )
    return shares


def free_memory_gib() -> float:
    """Memory of this host that can be had without swapping, in GiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / (1 << 20)
    return 0.0


def _check_context(answerer: AnswererCard, context: int) -> None:
    if context > answerer.context:
        raise DoesNotFit(
            f"{answerer.name} reads {answerer.context} tokens, not {context}.",
            cure=f"Ask for --context {answerer.context}.",
        )


def plans(answerers: Iterable[AnswererCard], **wanted: object) -> tuple[list[Plan], list[DoesNotFit]]:
    """Plan every answerer.

    Parameters
    ----------
    answerers : iterable of AnswererCard
        What to try.
    **wanted
        As for `plan`.

    Returns
    -------
    tuple of list
        What fits, the one with the largest weights first, and why the rest does not.
    """
    fits: list[Plan] = []
    refused: list[DoesNotFit] = []
    for card in answerers:
        try:
            fits.append(plan(card, **wanted))  # type: ignore[arg-type]
        except DoesNotFit as error:
            refused.append(error)
    fits.sort(key=lambda p: (p.answerer.parameters, weight_bytes(p.answerer)), reverse=True)
    return fits, refused


def find_gpus() -> tuple[Gpu, ...]:
    """Ask the NVIDIA driver for the GPUs of this host.

    Returns
    -------
    tuple of Gpu
        Empty where there is no driver or no GPU.
    """
    query = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return read_gpus(listing)


def read_gpus(listing: str) -> tuple[Gpu, ...]:
    """Read ``nvidia-smi``'s lines of name, total and free memory (MiB); lines that say neither are left out."""
    gpus = []
    for line in listing.splitlines():
        name, _, figures = line.partition(",")
        total, _, free = figures.partition(",")
        if total.strip().isdigit() and free.strip().isdigit():
            gpus.append(Gpu(name.strip(), int(total) / 1024, int(free) / 1024))
    return tuple(gpus)


def _step_bytes(shape: Shape, tokens: int, *, answers: int = 0) -> int:
    return tokens * (3 * shape.intermediate + 6 * shape.hidden) * 2 + answers * shape.vocab * 4 * 2


def encoder_bytes(card: EmbedderCard | RerankerCard) -> int:
    """Memory of a GPU that an embedder or a reranker takes beside others, in bytes."""
    return _total(_encoder_shares(card))


def _encoder_shares(card: EmbedderCard | RerankerCard) -> list[Share]:
    return [
        Share(f"weights of {card.name}", weight_bytes(card)),
        Share(f"working memory of {card.name}", _step_bytes(card.shape, ENCODER_STEP_TOKENS)),
        Share(f"runtime of {card.name}", RUNTIME_BYTES),
    ]


def _total(shares: Iterable[Share]) -> int:
    return sum(share.bytes for share in shares)


def _does_not_fit(
    card: AnswererCard, vram_gib: float, shares: list[Share], left: int, needed: int, per_token: int, context: int
) -> DoesNotFit:
    parts = ", ".join(f"{s.what} {s.bytes / GIB:.1f}" for s in shares)
    fits = max(left, 0) // (per_token * context)
    tokens = max(left, 0) // per_token // 256 * 256
    if fits:
        cure = f"Ask for --answers {fits}, or a shorter --context."
    elif tokens >= 2048:
        cure = f"Ask for --answers 1 --context {tokens}, or take a smaller model."
    else:
        cure = "Take a smaller model, or a 4-bit card of this one."
    return DoesNotFit(
        f"{card.name} does not fit {vram_gib:g} GiB: {parts}, KV cache {needed / GIB:.1f} GiB asked, "
        f"{left / GIB:.1f} left.",
        cure=cure,
    )
