"""From a card or an address to a part that works."""

from __future__ import annotations

from models.generate_openai import OpenAIGenerator


def load_generator(url: str, model: str = "", *, api_key: str = "") -> OpenAIGenerator:
    """Make a generator that asks an OpenAI-compatible server; nothing is sent yet.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://vllm:8000/v1``.
    model : str, optional
        Model name to ask for; empty takes the first one served.
    api_key : str, optional
        Sent as a bearer token.

    Returns
    -------
    OpenAIGenerator
        Close it with ``aclose``; `ready` tells whether it answers.

    Raises
    ------
    ModelError
        If `url` is not an HTTP address.
    """
    return OpenAIGenerator(url, model, api_key=api_key)
