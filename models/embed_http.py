"""Embedder over HTTP: our embedding server, or any other with OpenAI's ``/v1/embeddings`` (vLLM's pooling runner)."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from models.cards import EmbedderCard
from models.errors import EmbedderDown, ModelError
from models.ports import EmbedderInfo, Vectors

TEXTS_A_REQUEST = 128


class HttpEmbedder:
    """A `models.ports.Embedder` on another host or in another process. Thread-safe; blocking.

    Parameters
    ----------
    client : httpx.Client
        With the server's base URL.
    card : EmbedderCard
        Prefixes of questions and chunks.
    model : str
        Name the server knows it by.
    info : EmbedderInfo
        What the server said of it.
    patience_s : float
        How long to come back to a server that is overloaded.
    """

    def __init__(
        self, client: httpx.Client, card: EmbedderCard, *, model: str, info: EmbedderInfo, patience_s: float
    ) -> None:
        self.info = info
        self._client = client
        self._card = card
        self._model = model
        self._patience_s = patience_s

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self._embed([self._card.query_prefix + text for text in texts])

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed chunks of posts; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self._embed([self._card.passage_prefix + text for text in texts])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _embed(self, texts: list[str]) -> Vectors:
        out = np.empty((len(texts), self.info.dim), np.float32)
        for first in range(0, len(texts), TEXTS_A_REQUEST):
            part = texts[first : first + TEXTS_A_REQUEST]
            out[first : first + len(part)] = _ask(self._client, self._model, part, self.info.dim, self._patience_s)
        return out


def open_http(
    url: str, card: EmbedderCard, *, model: str = "", patience_s: float = 30.0, timeout_s: float = 60.0
) -> HttpEmbedder:
    """Reach an embedding server and let it embed a word.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://embedder:8001/v1``.
    card : EmbedderCard
        What it should run; its dimension must agree.
    model : str, optional
        Name the server knows it by; empty takes the first one served.
    patience_s : float, optional
        How long to come back to a server that is overloaded.
    timeout_s : float, optional
        For one request.

    Returns
    -------
    HttpEmbedder
        Ready; close it with `close`.

    Raises
    ------
    EmbedderDown
        If it cannot be reached or fails.
    ModelError
        If it serves vectors of another length than the card says.
    """
    client = httpx.Client(
        base_url=url.rstrip("/") + "/", timeout=httpx.Timeout(timeout_s, connect=3.0), trust_env=False
    )
    try:
        entry = _served(client, model)
        name = str(entry["id"])
        dim = _ask(client, name, ["1"], 0, patience_s).shape[1]
        if dim != card.dim:
            raise ModelError(
                f"The embedding server gives vectors of {dim} numbers, {card.name} of {card.dim}.",
                cure="Set the embedder to the card of the model it serves.",
            )
    except Exception:
        client.close()
        raise
    info = EmbedderInfo(
        card=card.name,
        dim=dim,
        max_tokens=int(entry.get("max_model_len") or card.context),
        engine=f"http-{entry.get('engine') or 'openai'}",
    )
    return HttpEmbedder(client, card, model=name, info=info, patience_s=patience_s)


def _served(client: httpx.Client, model: str) -> dict[str, Any]:
    try:
        response = client.get("models")
        response.raise_for_status()
        found = [entry for entry in response.json()["data"] if not model or entry["id"] == model]
        return dict(found[0])
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
        raise EmbedderDown(
            f"The embedding server does not say that it serves {model or 'a model'} ({type(error).__name__}).",
            cure="Check its URL and that it runs.",
        ) from error


def _ask(client: httpx.Client, model: str, texts: list[str], dim: int, patience_s: float) -> Vectors:
    """One request, repeated while the server is overloaded; `dim` 0 takes any."""
    body = {"model": model, "input": texts, "encoding_format": "base64"}
    deadline = time.monotonic() + patience_s
    while True:
        try:
            response = client.post("embeddings", json=body)
            if response.status_code in (429, 503):
                after = response.headers.get("retry-after", "")
                wait_s = float(after) if after.isdigit() else 1.0
                if time.monotonic() + wait_s > deadline:
                    raise EmbedderDown("The embedding server stays overloaded.")
                time.sleep(wait_s)
                continue
            if response.status_code != 200:
                raise EmbedderDown(f"The embedding server failed (HTTP {response.status_code}).")
            data = sorted(response.json()["data"], key=lambda entry: int(entry["index"]))
            rows = np.stack([np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in data])
        except httpx.HTTPError as error:
            raise EmbedderDown(f"The embedding server cannot be reached ({type(error).__name__}).") from error
        except (ValueError, KeyError, TypeError) as error:
            raise EmbedderDown("The embedding server's answer cannot be read.") from error
        if rows.shape != (len(texts), dim or rows.shape[1]) or not np.isfinite(rows).all():
            raise EmbedderDown("The embedding server gave vectors of another shape than asked.")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)
