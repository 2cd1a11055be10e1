"""Suite `bad-models`: 1,000 answers of models as bad as they come, over the sample channel; no link may be invented.

A loopback server writes seeded answers: links, mentions, commands, citations of posts nobody showed, no citations, half
of the protocol, another script, bytes that are no text, a cut connection. What comes out through the HTTP API and
through Telegram's rendering is searched for links that retrieval did not return. The control shows the models' own
words through the same eyes, and must fail.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from rich.progress import track

from appliance import sample
from appliance.app import App, open_app
from appliance.bot.render import answer_messages, draft_text
from appliance.config import Config
from appliance.schema import Answer, Asker, Citation, Filters, Searched, Sentence
from appliance.web.api import create_api
from benchmarks.results import ROOT
from tests.servers.botapi_text import checked_text, find_entities
from tests.servers.openai import ABORT, DIE, OpenAIServer, Raw, Status, Step

ANSWERS = 1000
CLICKABLE = {"url", "email", "mention", "bot_command", "text_mention", "text_link"}
LINKS = (
    "https://evil.example/{n}",
    "http://t.me/evil_channel/{n}",
    "https://t.me/c/{n}/7",
    "tg://user?id={n}",
    "tg://resolve?domain=evil{n}",
    "@evil_bot_{n}",
    "/start_{n}",
    "evil-{n}.com/pay",
    "https://xn--e1awd7f.com/{n}",
    "кошелёк.рф/{n}",
    "javascript://alert({n})",
    "mail{n}@evil.example",
    "https://t.me/masterskaya_rechnaya/{n}99999",
    "[сюда](https://evil.example/{n})",
    '<a href="https://evil.example/{n}">сюда</a>',
    "ev\u200bil.com/{n}",
    "https:\u2060//evil.example/{n}",
    "evil.example。com/{n}",
    "hxxp://evil[.]example/{n}",
    "ｈｔｔｐｓ://evil.example/{n}",
)
_MARKS = (
    "[1]",
    "[2]",
    "[1, 2]",
    "[9]",
    "[0]",
    "[-1]",
    "[999999]",
    "",
    "【1】",
    "[1][2][3]",
    "(1)",
    "[[1]]",
    "[1](http://evil.example)",
)


class Liar:
    """Writes one seeded bad answer a request, of words that stand in the posts it was shown."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.told: list[str] = []  # each answer's text, as written

    def __call__(self, body: dict[str, Any]) -> Iterator[Step]:
        """Give the steps of one answer."""
        chance, n = self._chance, len(self.told)
        prompt = body["messages"][-1]["content"]
        lines = [line for line in prompt.splitlines() if len(line) > 30 and not line.startswith("ПОСТ")] or ["да"]
        sources = chance.choice(
            ("ИСТОЧНИКИ: 1, 2\n", "ИСТОЧНИКИ: 1\n", "SOURCES: 1\n", "источники 77\n", "", "", "1, 2\n")
        )
        pieces = [sources]
        for _ in range(chance.randint(1, 6)):
            words = chance.choice(lines)[: chance.randint(30, 200)].rsplit(" ", 1)[0]
            link = chance.choice(LINKS).format(n=n) if chance.random() < 0.6 else ""
            mark = chance.choice(_MARKS)
            order = [words, link, mark]
            if chance.random() < 0.3:
                chance.shuffle(order)
            pieces.append(" ".join(filter(None, order)) + chance.choice((". ", "\n", "! ", "… ", " ", "")))
        if chance.random() < 0.1:
            pieces.append("".join(chr(chance.choice((0x4E00, 0x202E, 0x200B, 0x0590, 0xE0041)) + i) for i in range(20)))
        text = "".join(pieces)
        self.told.append(text)
        kind = chance.random()
        if kind < 0.02:
            yield chance.choice((Status(500), Status(429), Status(503), Raw(b"data: {no json\n\n")))
            return
        cut = chance.choice((1, 3, 17, 1000))
        end = int(len(text) * chance.random()) if kind < 0.1 else len(text)
        for at in range(0, end, cut):
            yield text[at : min(at + cut, end)]
        if kind < 0.1:
            yield chance.choice((DIE, ABORT))


def run() -> dict[str, Any]:
    """Ask the sample's questions until a thousand answers were written."""
    return asyncio.run(measure(ANSWERS))


async def measure(answers: int, seed: int = 4) -> dict[str, Any]:
    """Count links that were not retrieved.

    Parameters
    ----------
    answers : int
        Written by the bad model.
    seed : int, optional

    Returns
    -------
    dict
        ``answers`` written, ``kept_sentences`` that got through, ``invented_api``, ``invented_telegram``,
        ``control_invented`` (the model's words as they are), ``by_model``.
    """
    liar = Liar(seed)
    questions = [item["text"] for item in sample.catalogue()["question"] if item["kind"] != "none"]
    counts: Counter[str] = Counter(invented_api=0, invented_telegram=0, control_invented=0, kept_sentences=0)
    models: Counter[str] = Counter()
    async with OpenAIServer(liar) as server:
        with tempfile.TemporaryDirectory() as folder:
            config = Config(
                data_dir=Path(folder) / "data",
                weights_dir=ROOT / "weights",
                threads=2,
                generator_url=server.url,
                answer_above=0.0,  # the model is asked whatever the posts hold
                remembered_answers=0,  # each time anew
                _env_file=None,
            )
            async with open_app(config) as app:
                with sample.export() as path:
                    async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                        pass
                await _ask_all(app, liar, questions, answers, counts, models)
    return {"answers": len(liar.told), **counts, "by_model": dict(models)}


async def _ask_all(
    app: App, liar: Liar, questions: list[str], answers: int, counts: Counter[str], models: Counter[str]
) -> None:
    api = create_api(app.verbs, config=app.config, metrics=app.metrics, admin_token="operator")
    asked: dict[str, tuple[set[str], str]] = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://page") as client:
        for number in track(range(answers * 2), description="bad-models"):
            if len(liar.told) >= answers:
                break
            text = questions[number % len(questions)]
            if text not in asked:
                result = await app.verbs.search(text, asker=Asker(), filters=Filters(), limit=50)
                held = " ".join(f"{hit.post.text} {' '.join(hit.post.links)}" for hit in result.found[:5]).casefold()
                asked[text] = {hit.link for hit in result.found}, held
            links, held = asked[text]
            before = len(liar.told)
            reply = (await client.post("/ask", json={"question": text})).json()
            answer = answer_of(reply)
            models[answer.model] += 1
            counts["kept_sentences"] += len(answer.sentences) if answer.model != "quotes" else 0
            counts["invented_api"] += in_sentences(answer, held) + sum(
                one.link not in links for one in answer.citations
            )
            counts["invented_telegram"] += in_telegram(answer, links)
            if len(liar.told) > before:
                words = replace(answer, sentences=(Sentence(liar.told[-1], (1,)),))
                counts["control_invented"] += bool(in_sentences(words, held))


def answer_of(reply: dict[str, Any]) -> Answer:
    """Read the API's answer back, as far as links go."""
    citations = tuple(
        Citation(
            **{
                **row,
                "post": tuple(row["post"]),
                "date": datetime.fromisoformat(row["date"]),
            }
        )
        for row in reply["citations"]
    )
    sentences = tuple(Sentence(row["text"], tuple(row["citations"])) for row in reply["sentences"])
    fields: dict[str, Any] = {
        name: reply[name] for name in ("id", "dialogue_id", "outcome", "language", "model", "query")
    }
    return Answer(**fields, sentences=sentences, citations=citations, searched=Searched((), 0, None))


def in_sentences(answer: Answer, held: str) -> int:
    """Count what a client would make clickable in the API's sentences, unless the retrieved posts hold it."""
    found = 0
    for sentence in answer.sentences:
        for entity in find_entities(sentence.text):
            if entity["type"] in CLICKABLE:
                shown = sentence.text.encode("utf-16-le")[
                    entity["offset"] * 2 : (entity["offset"] + entity["length"]) * 2
                ]
                found += shown.decode("utf-16-le").casefold().rstrip(".,;:!?)»") not in held
    return found


def in_telegram(answer: Answer, links: set[str]) -> int:
    """Count clickable things in Telegram's messages that are no link of a retrieved post."""
    found = 0
    for content in (*answer_messages(answer, "ru"), draft_text(answer.sentences)):
        text, entities = content.render()
        if not text:
            continue
        _, seen = checked_text(text, [entity.model_dump(exclude_none=True) for entity in entities])
        for entity in seen:
            is_ours = entity["type"] == "text_link" and entity["url"] in links
            found += entity["type"] in CLICKABLE and not is_ours
    return found
