"""Suite `answerer`: the time to first token that the appliance adds over a bare call to the same model server.

A loopback server starts writing at once, so what is left is the appliance. Each question goes both ways in turn: bare,
the very prompt the appliance sent, through the same client; and through the appliance, its search taken off. A first
token that reaches a reader is the first piece of the model; the first sentence comes when it has ended.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from appliance import sample
from appliance.app import App, open_app
from appliance.config import Config
from appliance.schema import Asker, Final, Piece, Question
from benchmarks.results import ROOT
from models.generate_openai import OpenAIGenerator
from models.load import load_generator
from models.ports import ChatMessage
from tests.servers.openai import OpenAIServer

ROUNDS = 4  # over the sample's questions


def first_sentence(body: dict[str, Any]) -> Iterator[str]:
    """Name the first post and say its longest line, cited, in one piece: first token and first sentence coincide."""
    lines = body["messages"][-1]["content"].split("КОНЕЦ ПОСТА")[0].splitlines()[1:]
    yield f"ИСТОЧНИКИ: 1\n{max(lines, key=len)[:200]} [1].\n"


def run() -> dict[str, Any]:
    """Ask the sample's questions both ways."""
    return asyncio.run(measure(ROUNDS))


async def measure(rounds: int) -> dict[str, Any]:
    """Measure the two ways in turn.

    Parameters
    ----------
    rounds : int
        Over the sample's questions.

    Returns
    -------
    dict
        ``questions``, ``bare_p50_ms``, ``appliance_p50_ms`` (search taken off), ``search_p50_ms``, ``added_p50_ms`` and
        ``added_p95_ms`` (of the pairs' differences), milliseconds to the first piece.
    """
    texts = [item["text"] for item in sample.catalogue()["question"] if item["kind"] == "fact"]
    async with OpenAIServer(first_sentence) as server:
        with tempfile.TemporaryDirectory() as folder:
            config = Config(
                data_dir=Path(folder) / "data",
                weights_dir=ROOT / "weights",
                generator_url=server.url,
                remembered_answers=0,  # the model is asked each time
                remembered_searches=0,
                _env_file=None,
            )
            async with open_app(config) as app:
                with sample.export() as path:
                    async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                        pass
                generator = load_generator(server.url)
                try:
                    rows = await _pairs(app, generator, server, texts, rounds)
                finally:
                    await generator.aclose()
    bare, whole, searching = np.array(rows).T
    added = whole - searching - bare
    return {
        "questions": len(rows),
        "bare_p50_ms": float(np.median(bare)),
        "appliance_p50_ms": float(np.median(whole - searching)),
        "search_p50_ms": float(np.median(searching)),
        "added_p50_ms": float(np.median(added)),
        "added_p95_ms": float(np.percentile(added, 95)),
    }


async def _pairs(
    app: App, generator: OpenAIGenerator, server: OpenAIServer, texts: list[str], rounds: int
) -> list[tuple[float, float, float]]:
    rows = []
    for text in [texts[0], *texts * rounds]:
        before = len(server.requests)
        took = await _through_the_appliance(app, text)
        if len(server.requests) == before or took is None:
            continue  # the posts do not hold it: no model was asked
        prompt = [ChatMessage(one["role"], one["content"]) for one in server.requests[-1]["messages"]]
        rows.append((await _bare(generator, prompt), *took))
    return rows[1:]  # the first opened the connections


async def _bare(generator: OpenAIGenerator, prompt: list[ChatMessage]) -> float:
    started = perf_counter()
    async with aclosing(generator.stream(prompt, max_tokens=512)) as stream:  # type: ignore[type-var]
        await anext(stream)
        took = (perf_counter() - started) * 1000
        async for _ in stream:
            pass
    return took


async def _through_the_appliance(app: App, text: str) -> tuple[float, float] | None:
    """Time to the first sentence and the search's share of it, ms; None when none was written."""
    started, first, answer = perf_counter(), 0.0, None
    async for part in app.verbs.ask(Question(text, Asker())):
        if isinstance(part, Piece) and not first:
            first = (perf_counter() - started) * 1000
        elif isinstance(part, Final):
            answer = part.answer
    if answer is None or answer.model == "quotes" or not first:
        return None
    return first, answer.times_ms["search"]
