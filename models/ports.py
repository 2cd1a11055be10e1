"""Ports of the machine room: what the appliance may ask of a model, whatever engine runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """What an embedder says of itself.

    Attributes
    ----------
    card : str
        Name of the model card, e.g. ``"multilingual-e5-small"``; part of the index's identity.
    dim : int
        Length of a dense vector.
    max_tokens : int
        Tokens read of one text; the rest is cut.
    engine : str
        Engine that runs the weights, e.g. ``"onnxruntime-int8"``.
    """

    card: str
    dim: int
    max_tokens: int
    engine: str


class Embedder(Protocol):
    """Turns texts into dense unit vectors. Thread-safe; blocking (call it from a worker thread)."""

    @property
    def info(self) -> EmbedderInfo:
        """Card, dimension and limits."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; returns ``(len(texts), dim)`` float32 rows of unit length."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed chunks of posts; returns ``(len(texts), dim)`` float32 rows of unit length."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a chat prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


class Generator(Protocol):
    """Streams text from a language model."""

    @property
    def name(self) -> str:
        """Served model name, recorded with each answer."""

    @property
    def context_tokens(self) -> int | None:
        """Context of the served model in tokens; None where it is not known."""

    def stream(
        self, messages: Sequence[ChatMessage], *, max_tokens: int, temperature: float = 0.0
    ) -> AsyncIterator[str]:
        """Yield text pieces as the model writes them; raises ``GeneratorDown`` when it cannot."""


class Reranker(Protocol):
    """Scores how well passages answer a query. Thread-safe; blocking."""

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Return ``(len(passages),)`` scores, higher is better."""
