"""A digest of a period: every sentence linked, posts of the period alone, written only as far as posts carry it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from appliance.app import App
from appliance.digest import by_topic, digest, first_saying, most_telling
from appliance.errors import UnknownChannel
from appliance.schema import MEMBERS_ANSWERS, Answer, Asker, Channel, Filters, Final, Part, Post
from models.load import load_generator
from tests.servers.openai import DIE, OpenAIServer, Step
from tests.web_door import OPERATOR, door

EVERYTHING = Filters(since=datetime(2000, 1, 1, tzinfo=UTC))


async def told(app: App, filters: Filters = EVERYTHING, *, days: int = 7) -> Answer:
    parts: list[Part] = [part async for part in app.verbs.digest(Asker(), filters, days=days)]
    assert isinstance(parts[-1], Final)
    return parts[-1].answer


async def test_every_sentence_stands_in_its_post_of_the_period(app: App) -> None:
    answer = await told(app, Filters(), days=30)
    newest = max(status.last for status in app.ledger.channels(None) if status.last)
    assert answer.outcome == "answered"
    assert len(answer.sentences) == len(answer.citations) >= 2
    posts = app.ledger.posts([citation.post for citation in answer.citations])
    by_number = {citation.number: citation for citation in answer.citations}
    for sentence in answer.sentences:
        citation = by_number[sentence.citations[0]]
        assert (newest - citation.date).days <= 30
        words = sentence.text.rstrip("…").split()
        assert " ".join(words) in " ".join(posts[citation.post].text.split())
    assert app.ledger.questions.get(answer.id) is not None


async def test_a_members_answer_does_not_end_the_period_of_the_posts(app: App) -> None:
    """The sample ends long before now; the answer of a member is of today."""
    before = await told(app, Filters())
    corpus = Channel(MEMBERS_ANSWERS, "Ответы участников", None, "answers")
    app.ledger.save_channel(corpus)
    said = Post(corpus.id, 1, datetime.now(UTC), "Ключ от велоугла висит у Веры на синем гвозде, берите до 20:00.")
    await app.verbs.ingest([said])
    after = await told(app, Filters())
    assert len(after.citations) >= len(before.citations) > 1


async def test_an_empty_period_is_said(app: App) -> None:
    empty = Filters(since=datetime(2001, 1, 1, tzinfo=UTC), until=datetime(2001, 2, 1, tzinfo=UTC))
    answer = await told(app, empty)
    assert (answer.outcome, answer.sentences, answer.citations) == ("not_found", (), ())
    with pytest.raises(UnknownChannel):
        await told(app, replace(empty, channels=("@nobody",)))


@pytest.mark.parametrize("broken", [False, True])
async def test_a_model_writes_it_through_the_same_reader(app: App, broken: bool) -> None:
    def script(body: dict) -> list[Step]:  # type: ignore[type-arg]
        lines = [line for line in body["messages"][-1]["content"].split("КОНЕЦ")[0].splitlines()[1:] if len(line) > 40]
        said = f"ИСТОЧНИКИ: 1\n{lines[0][:80]} [1].\nВыдумка про evil.example [1].\n"
        return [said, DIE] if broken else [said]

    async with OpenAIServer(script) as server:
        generator = load_generator(server.url)
        work = digest(
            Asker(),
            EVERYTHING,
            config=app.config,
            pair=lambda: app.shelf.now,
            ledger=app.ledger,
            generator=generator,
        )
        final = [part async for part in work][-1]
        await generator.aclose()
    assert isinstance(final, Final)
    assert final.answer.outcome == "answered"
    assert not any("evil" in sentence.text for sentence in final.answer.sentences)
    assert (final.answer.model, final.answer.note) == (("quotes", "model_down") if broken else ("loopback", ""))


async def test_it_is_asked_over_http(app: App) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door(app)), base_url="http://page") as client:
        answer = (await client.post("/digest", json={"days": 30})).json()
        assert answer["outcome"] == "answered"
        assert all(sentence["citations"] for sentence in answer["sentences"])
        stream = await client.post("/digest", json={"days": 30}, headers={"Accept": "text/event-stream", **OPERATOR})
        assert stream.text.index("event: links") < stream.text.index("event: piece") < stream.text.index("event: final")
        assert (await client.post("/digest", json={"days": 0})).status_code == 422


def test_repeats_are_told_once_and_like_by_like() -> None:
    eye = np.eye(4, dtype=np.float32)
    vectors = np.stack([eye[0], eye[0], eye[1], eye[2]])
    picked = most_telling(vectors, [3.0, 3.0, 2.0, 1.0], 3)
    assert not {0, 1} <= set(picked)
    assert by_topic(vectors, [0, 2, 1])[:2] == [0, 1]
    assert first_saying("Важное:\nЗавтра субботник в 10:00. Приходите.") == "Завтра субботник в 10:00."
