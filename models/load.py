"""From a card or an address to a part that works."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from models.cards import EmbedderCard, RerankerCard, load_card
from models.errors import CardError
from models.generate_openai import OpenAIGenerator, Patience
from models.ports import Embedder, Reranker


def load_embedder(
    card: str, *, weights_dir: Path, threads: int = 0, urls: Mapping[str, str] = MappingProxyType({})
) -> Embedder:
    """Open an embedder, ready and warm. Takes a second or two; blocking.

    Parameters
    ----------
    card : str
        Name of its card in ``models/cards``.
    weights_dir : Path
        Folder for model weights; made if missing.
    threads : int, optional
        Threads it may use; 0 takes all cores, 4 at most.
    urls : mapping of str to str, optional
        Base URLs of embedding servers, by the card they run; other cards run here.

    Returns
    -------
    Embedder
        Thread-safe; blocking.

    Raises
    ------
    CannotRun
        If the CPU lacks what the engine needs.
    CardError
        If there is no such embedder, or no engine here runs it.
    WeightsError
        If its weights are missing or damaged.
    EmbedderDown
        If its server cannot be reached.
    """
    found = load_card(card)
    if not isinstance(found, EmbedderCard):
        raise CardError(f"The model card {card!r} is not of an embedder.", cure="Set POSTFINDER_EMBEDDER.")
    if url := urls.get(found.name):
        from models.embed_http import open_http

        return open_http(url, found)
    if found.name == "multilingual-e5-small":
        from models import embed_e5

        return embed_e5.load(found, weights_dir=weights_dir, threads=threads)
    if found.engine == "bge-m3":
        from models import embed_bge_m3, fetch

        fetch.verify(weights_dir / found.name)
        return embed_bge_m3.load(found, weights_dir=weights_dir, threads=threads)
    raise CardError(f"No engine here runs {card!r} yet.", cure="Set POSTFINDER_EMBEDDER=multilingual-e5-small.")


def load_reranker(card: str, *, weights_dir: Path, threads: int = 0) -> Reranker:
    """Open a reranker, ready and warm. Takes seconds, minutes where its graph is not exported yet; blocking.

    Parameters
    ----------
    card : str
        Name of its card in ``models/cards``.
    weights_dir : Path
        Folder of model weights.
    threads : int, optional
        Threads it may use; 0 takes all cores, 4 at most.

    Returns
    -------
    Reranker
        Thread-safe; blocking.

    Raises
    ------
    CardError
        If there is no such reranker.
    WeightsError
        If its weights are missing or damaged.
    """
    found = load_card(card)
    if not isinstance(found, RerankerCard):
        raise CardError(f"The model card {card!r} is not of a reranker.", cure="Set POSTFINDER_RERANKER, or empty it.")
    from models import fetch, rerank_cross

    fetch.verify(weights_dir / found.name)
    reranker = rerank_cross.load(found, weights_dir=weights_dir, threads=threads)
    reranker.score("", [""])
    return reranker


def load_generator(url: str, model: str = "", *, api_key: str = "", deadline_s: float | None = None) -> OpenAIGenerator:
    """Make a generator that asks an OpenAI-compatible server; nothing is sent yet.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://vllm:8000/v1``.
    model : str, optional
        Model name to ask for; empty takes the first one served.
    api_key : str, optional
        Sent as a bearer token.
    deadline_s : float, optional
        For a whole answer; half of it may pass before the first token (a prompt read on a CPU takes its time).

    Returns
    -------
    OpenAIGenerator
        Close it with ``aclose``; `ready` tells whether it answers.

    Raises
    ------
    ModelError
        If `url` is not an HTTP address.
    """
    patience = Patience(first_token_s=deadline_s / 2) if deadline_s else Patience()
    return OpenAIGenerator(url, model, api_key=api_key, patience=patience)
