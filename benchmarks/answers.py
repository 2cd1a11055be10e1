"""Suite `answers`: judge-free figures of whole answers, on the sample channel and on paragraphs kept or withheld."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.progress import track

from appliance import answer, ingest, sample
from appliance.config import Config
from appliance.index import Index
from appliance.ledger import Ledger
from appliance.limits import Limits
from appliance.ranking import Candidates
from appliance.schema import Answer, Asker, Channel, Final, Post, PostKey, Question
from appliance.search import search
from appliance.telegram_export import read_export
from benchmarks.calibrate import without
from benchmarks.metrics import auroc
from benchmarks.results import SHARED
from benchmarks.sets import SearchSet, default_embedder, read_lines, read_set
from models.ports import Embedder, Generator

OPERATOR = Asker(sees_everything=True)
Ask = Callable[..., Awaitable[Answer]]  # of a question, a dialogue, and the posts withheld


def run() -> dict[str, Any]:
    """Ask the sample's questions and the set's, with the answering post there and taken away."""
    return asyncio.run(measure(default_embedder()))


async def measure(embedder: Embedder, generator: Generator | None = None) -> dict[str, Any]:
    """Measure answers that quote, or that a generator writes.

    Parameters
    ----------
    embedder : Embedder
    generator : Generator, optional

    Returns
    -------
    dict
        ``sample`` and, where the data is present, ``wiki-qa``: shares in [0, 1].
    """
    result: dict[str, Any] = {"model": generator.name if generator else "quotes"}
    with sample.export() as path:
        posts = [item for item in read_export(path) if isinstance(item, Post)]
    async with asking(posts, embedder, generator) as ask:
        result["sample"] = await measure_sample(ask)
    if SHARED.exists():
        wiki = read_set("wiki-qa")
        async with asking(wiki.posts, embedder, generator) as ask:
            result["wiki-qa"] = await measure_kept_and_withheld(ask, wiki)
    return result


@asynccontextmanager
async def asking(posts: Sequence[Post], embedder: Embedder, generator: Generator | None) -> AsyncIterator[Ask]:
    """Give a function that asks (question, dialogue, posts withheld) over posts; `quoted` leaves the model out."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data_dir=Path(folder), _env_file=None)
        ledger = Ledger.open(Path(folder) / "ledger.duckdb")
        index = Index.open(Path(folder) / "index", embedder=embedder.info)
        for channel_id in sorted({post.channel_id for post in posts}):
            ledger.save_channel(Channel(id=channel_id, title=str(channel_id), username=f"channel_{channel_id}"))
        await ingest.ingest(list(posts), index=index, ledger=ledger, embedder=embedder)

        async def ask(
            text: str, dialogue_id: str | None, withheld: frozenset[PostKey], *, quoted: bool = False
        ) -> Answer:
            reach = Withholding(index, withheld) if withheld else index
            find = partial(search, index=cast(Index, reach), ledger=ledger, embedder=embedder)
            limits = Limits(find, ledger.channels, index.authors, UTC, config.answer_above)
            question = Question(text=text, asker=OPERATOR, door="cli", dialogue_id=dialogue_id)
            writer = None if quoted else generator
            walk = answer.ask(question, config=config, search=limits, index=index, ledger=ledger, generator=writer)
            final = [part async for part in walk][-1]
            assert isinstance(final, Final)
            return final.answer

        try:
            yield ask
        finally:
            index.close()
            ledger.close()


@dataclass(frozen=True, slots=True)
class Withholding:
    """An index that finds everything but the withheld posts."""

    index: Index
    withheld: frozenset[PostKey]

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the index."""
        return getattr(self.index, name)

    def candidates(self, *place: Any, **named: Any) -> Candidates:
        """Find candidates and leave out what is withheld."""
        return without(self.index.candidates(*place, **named), set(self.withheld))


async def measure_sample(ask: Ask) -> dict[str, Any]:
    """Ask the sample's evaluation questions."""
    rows = []
    catalogue = sample.catalogue()
    for item in track([*catalogue["demo"], *catalogue["question"]], description="sample"):
        dialogue = None
        if "before" in item:
            dialogue = (await ask(item["before"], None, frozenset())).dialogue_id
        got = await ask(item["text"], dialogue, frozenset())
        cited = [citation.post[1] for citation in got.citations] if got.outcome == "answered" else []
        said = " ".join(sentence.text for sentence in got.sentences)
        rows.append(
            {
                "kind": item["kind"],
                "answered": got.outcome == "answered",
                "cites": any(post in cited for post in item["posts"]),
                "first": cited[:1] != [] and cited[0] in item["posts"],
                "says": any(holds(said, words) for words in item["answer"]),
            }
        )
    answerable = [row for row in rows if row["kind"] != "none"]
    conflicts = [row for row in rows if row["kind"] == "conflict"]
    return {
        "questions": len(rows),
        "answered": share(answerable, "answered"),
        "cites_an_answering_post": share(answerable, "cites"),
        "says_the_answer": share(answerable, "says"),
        "newest_first_in_conflicts": share(conflicts, "first"),
        "refused_unanswerable": 1 - share([row for row in rows if row["kind"] == "none"], "answered"),
    }


async def measure_kept_and_withheld(ask: Ask, wiki: SearchSet) -> dict[str, Any]:
    """Ask every question twice: with its paragraph in reach, and with it withheld."""
    answers = {line["id"]: line["answers"] for line in read_lines(SHARED / "wiki-qa" / "answers.jsonl")}
    keys = {name: key for key, name in wiki.names.items()}
    scores: dict[str, list[float]] = {"kept": [], "paragraph": [], "page": []}
    rows = []
    for query, text in track(wiki.queries.items(), description="wiki-qa"):
        gold = frozenset(keys[name] for name in wiki.relevant[query])
        pages = {name.split("-")[1] for name in wiki.relevant[query]}
        page = frozenset(key for name, key in keys.items() if name.split("-")[1] in pages)
        kept = await ask(text, None, frozenset())
        without_paragraph = await ask(text, None, gold)
        without_page = await ask(text, None, page)
        scores["kept"].append(kept.relevance)
        scores["paragraph"].append(without_paragraph.relevance)
        scores["page"].append(without_page.relevance)
        said = " ".join(sentence.text for sentence in kept.sentences)
        rows.append(
            {
                "answered": kept.outcome == "answered",
                "cites": kept.outcome == "answered" and any(one.post in gold for one in kept.citations),
                "says": any(holds(said, words) for words in answers[query]),
                "refused_without_page": without_page.outcome == "not_found",
                "refused_without_paragraph": without_paragraph.outcome == "not_found",
            }
        )
    return {
        "questions": len(rows),
        "refusal_auroc": auroc(scores["kept"], scores["page"]),
        "refusal_auroc_same_page_left": auroc(scores["kept"], scores["paragraph"]),
        "answered_when_kept": share(rows, "answered"),
        "cites_the_paragraph": share(rows, "cites"),
        "says_the_answer": share(rows, "says"),
        "refused_without_the_page": share(rows, "refused_without_page"),
        "refused_without_the_paragraph": share(rows, "refused_without_paragraph"),
    }


def holds(said: str, words: str) -> bool:
    """Tell whether an answer says these words, whatever the spaces and the case."""
    return " ".join(words.casefold().split()) in " ".join(said.casefold().split())


def share(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Share of the rows where `key` holds."""
    return float(np.mean([row[key] for row in rows])) if rows else 0.0
