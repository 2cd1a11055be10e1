"""Suite `answers` with a model (`POSTFINDER_GENERATOR_URL`): what it wrote, how fast, and whether a judge prefers it.

Judge-free first: cited posts were shown, the answer's words, refusals, language, invented links, time to first token
and tokens a second as the model server counts them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.progress import track

from appliance import sample
from appliance.citations import links_in
from appliance.config import Config
from appliance.schema import Answer, Post
from appliance.telegram_export import read_export
from appliance.text import clean, language_of
from benchmarks.answers import Ask, asking, holds, share
from benchmarks.judge import Pair, compare
from benchmarks.sets import default_embedder
from models.generate_openai import OpenAIGenerator, Usage
from models.load import load_generator
from models.ports import ChatMessage, Embedder


@dataclass(slots=True)
class Counting:
    """A generator that notes what each whole answer took."""

    generator: OpenAIGenerator
    usages: list[Usage] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As of the generator."""
        return self.generator.name

    @property
    def context_tokens(self) -> int | None:
        """As of the generator."""
        return self.generator.context_tokens

    def stream(
        self, messages: Sequence[ChatMessage], *, max_tokens: int, temperature: float = 0.0
    ) -> AsyncIterator[str]:
        """Stream as the generator does."""
        return self.generator.stream(
            messages, max_tokens=max_tokens, temperature=temperature, on_end=self.usages.append
        )


def run(questions: int = 0, judge: str = "") -> dict[str, Any]:
    """Ask the sample's questions of the model at `POSTFINDER_GENERATOR_URL`."""
    url = os.environ["POSTFINDER_GENERATOR_URL"]
    return asyncio.run(measure(default_embedder(), url, questions=questions, judge_url=judge))


async def measure(embedder: Embedder, url: str, *, questions: int = 0, judge_url: str = "") -> dict[str, Any]:
    """Measure answers that a model writes over the sample channel.

    Parameters
    ----------
    embedder : Embedder
    url : str
        Base URL of the model server.
    questions : int, optional
        How many of the sample's, spread evenly; 0 for all.
    judge_url : str, optional
        Base URL of a model that compares each written answer with the quoting one.

    Returns
    -------
    dict
        Shares in [0, 1] and times; see the suite's file.
    """
    deadline_s = Config(_env_file=None).answer_deadline_s
    generator = Counting(load_generator(url, deadline_s=deadline_s))
    catalogue = sample.catalogue()
    items = [item for item in (*catalogue["demo"], *catalogue["question"]) if "before" not in item]
    if questions:
        items = items[:: max(1, len(items) // questions)][:questions]
    with sample.export() as path:
        posts = [item for item in read_export(path) if isinstance(item, Post)]
    try:
        await generator.generator.served()
        async with asking(posts, embedder, generator) as ask:
            rows = [await _row(item, ask) for item in track(items, description=generator.name)]
    finally:
        await generator.generator.aclose()
    result = _figures(rows, generator)
    if judge_url:
        result["judge"] = await _judged(rows, {post.message_id: post.text for post in posts}, judge_url, deadline_s)
    return result


async def _row(item: dict[str, Any], ask: Ask) -> dict[str, Any]:
    answer: Answer = await ask(item["text"], None, frozenset())
    quoted: Answer = await ask(item["text"], None, frozenset(), quoted=True)
    said = " ".join(sentence.text for sentence in answer.sentences)
    numbers = {citation.number for citation in answer.citations}
    cited = [citation.post[1] for citation in answer.citations] if answer.sentences else []
    return {
        "item": item,
        "is_known": quoted.outcome == "answered",  # else no model was asked
        "answered": answer.outcome == "answered",
        "written": answer.outcome == "answered" and answer.model != "quotes",
        "note": answer.note,
        "cited_were_shown": all(set(sentence.citations) <= numbers for sentence in answer.sentences),
        "cites": any(post in cited for post in item["posts"]),
        "says": any(holds(said, words) for words in item["answer"]),
        "language": not said or language_of(said) == language_of(item["text"]),
        "links": links_in(said),
        "cited": cited,
        "said": said,
        "quoted": " ".join(sentence.text for sentence in quoted.sentences),
        "first_token_ms": answer.times_ms.get("first_token", 0.0),
    }


def _figures(rows: list[dict[str, Any]], generator: Counting) -> dict[str, Any]:
    with sample.export() as path:
        texts = {post.message_id: post for post in read_export(path) if isinstance(post, Post)}
    invented = 0
    for row in rows:
        held = " ".join(f"{clean(texts[post].text)} {' '.join(texts[post].links)}" for post in row["cited"]).lower()
        invented += sum(link not in held for link in row["links"])
    asked = [row for row in rows if row["is_known"]]
    written = [row for row in rows if row["written"]]
    answerable = [row for row in rows if row["item"]["kind"] != "none"]
    first = [row["first_token_ms"] for row in asked if row["first_token_ms"]] or [0.0]
    speeds = [
        (one.completion_tokens - 1) / (one.total_ms - one.first_token_ms) * 1000
        for one in generator.usages
        if one.completion_tokens > 1 and one.total_ms > one.first_token_ms
    ] or [0.0]
    return {
        "model": generator.name,
        "questions": len(rows),
        "asked_of_the_model": len(asked),
        "written": share(asked, "written"),
        "fell_back_unsupported": share([{"x": row["note"] == "model_unsupported"} for row in asked], "x"),
        "fell_back_down": share([{"x": row["note"] == "model_down"} for row in asked], "x"),
        "answered": share(answerable, "answered"),
        "cites_an_answering_post": share(answerable, "cites"),
        "says_the_answer": share(answerable, "says"),
        "written_cites_an_answering_post": share(written, "cites"),
        "written_says_the_answer": share(written, "says"),
        "refused_unanswerable": 1 - share([row for row in rows if row["item"]["kind"] == "none"], "answered"),
        "cited_were_shown": share(rows, "cited_were_shown"),
        "in_the_questions_language": share(rows, "language"),
        "invented_links": invented,
        "first_token_p50_ms": float(np.median(first)),
        "first_token_p95_ms": float(np.percentile(first, 95)),
        "tokens_per_s_p50": float(np.median(speeds)),
        "prompt_tokens_p50": float(np.median([one.prompt_tokens for one in generator.usages] or [0])),
    }


async def _judged(
    rows: list[dict[str, Any]], texts: dict[int, str], judge_url: str, deadline_s: float
) -> dict[str, Any]:
    """Compare what was written with the quoting answers, over questions that a post answers."""
    pairs = [
        Pair(row["item"]["text"], texts[row["item"]["posts"][0]], row["said"], row["quoted"])
        for row in rows
        if row["written"] and row["item"]["posts"] and row["said"] != row["quoted"]
    ]
    judge = load_generator(judge_url, deadline_s=deadline_s)
    try:
        await judge.served()
        return await compare(pairs, judge)
    finally:
        await judge.aclose()
