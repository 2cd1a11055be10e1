"""Remembered answers: the same question once, another question never, nothing older than the posts."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.answer import ask
from appliance.app import App
from appliance.cache import MAX_AGE_S, Kept, Memory, same_words
from appliance.crowd import Crowd
from appliance.errors import NotAllowed, SlowDown
from appliance.schema import (
    Answer,
    Asker,
    Channel,
    Filters,
    Final,
    Links,
    Part,
    Piece,
    Post,
    Question,
    Searched,
    SearchResult,
)

NEAR = tomllib.loads((Path(__file__).parents[1] / "benchmarks" / "suites" / "near_miss.toml").read_text("utf-8"))
ROOM = Channel(1, "Room")
ANSWER = Answer("id", "d", "answered", (), (), Searched(("Room",), 1, None), "ru", "quotes", "когда?")


async def parts_of(app: App, text: str, asker: Asker | None = None) -> list[Part]:
    return [part async for part in app.verbs.ask(Question(text, asker or Asker()))]


def answer_in(parts: list[Part]) -> Answer:
    assert isinstance(parts[-1], Final)
    return parts[-1].answer


@pytest.mark.parametrize("pair", NEAR["different"], ids=lambda pair: pair["b"])
def test_no_near_miss_is_the_same_question(pair: dict[str, str]) -> None:
    assert same_words(pair["a"]) != same_words(pair["b"])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Когда ремонтное кафе?", "  когда ремонтное   кафе"),
        ("Где ещё ёлка?", "где еще елка"),
        ("Подскажите, пожалуйста, где «Причал»?", "Где Причал?"),
    ],
)
def test_the_same_words_are_one_question(a: str, b: str) -> None:
    assert same_words(a) == same_words(b)


@pytest.mark.parametrize(
    ("a", "b"), [("обжиг при -5", "обжиг при 5"), ("C++?", "C?"), ("из Керчи в Тулу", "из Тулы в Керчь"), ("1.5", "15")]
)
def test_signs_and_forms_stay(a: str, b: str) -> None:
    assert same_words(a) != same_words(b)


@given(st.text(max_size=60))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert same_words(same_words(text)) == same_words(text)


def test_the_least_used_goes_and_age_and_version_end_it() -> None:
    now = [0.0]
    memory = Memory(2, clock=lambda: now[0])
    places = [memory.place(text, [ROOM], Filters()) for text in ("a", "b", "c")]
    for place in places[:2]:
        memory.put(place, 1, query="когда?", answer=ANSWER, links=())
    assert memory.get(places[0], 1) is not None
    memory.put(places[2], 1, query="когда?", answer=ANSWER, links=())
    assert memory.get(places[1], 1) is None
    assert memory.get(places[2], 2) is None
    now[0] = MAX_AGE_S + 1
    assert memory.get(places[0], 1) is None
    assert len(memory) == 0


def test_rights_and_filters_are_part_of_the_question() -> None:
    memory = Memory(9)
    mine = memory.place("a", [ROOM], Filters())
    assert mine != memory.place("a", [ROOM, Channel(2, "Closed")], Filters())
    assert mine != memory.place("a", [ROOM], Filters(media="photo"))


def test_a_rewritten_question_is_not_remembered() -> None:
    memory = Memory(9)
    memory.put("place", 1, query="а сколько?", answer=ANSWER, links=())
    assert len(memory) == 0


async def test_the_second_time_is_remembered_with_its_own_row(app: App) -> None:
    first = await parts_of(app, "Когда ремонтное кафе?")
    again = await parts_of(app, "когда  ремонтное кафе")
    assert [part for part in again if isinstance(part, (Links, Piece))] == first[:-1]
    one, two = answer_in(first), answer_in(again)
    assert "remembered" not in one.times_ms
    assert "remembered" in two.times_ms
    assert two.sentences == one.sentences
    assert (two.query, two.citations) == ("когда ремонтное кафе", one.citations)
    assert two.id != one.id
    row = app.ledger.questions.get(two.id)
    assert row is not None
    assert row.text == "когда ремонтное кафе"
    assert await app.verbs.rate(two.id, asker=Asker(), vote="up")


async def test_a_new_post_or_an_erased_one_ends_it(app: App) -> None:
    channel = app.ledger.channels()[0].channel
    await parts_of(app, "Когда ремонтное кафе?")
    post = Post(channel.id, 900_001, datetime(2030, 1, 1, tzinfo=UTC), "Ремонтное кафе теперь по вторникам в десять.")
    await app.verbs.ingest([post])
    answer = answer_in(await parts_of(app, "Когда ремонтное кафе?"))
    assert "remembered" not in answer.times_ms
    assert "remembered" in answer_in(await parts_of(app, "Когда ремонтное кафе?")).times_ms
    app.shelf.remove([post.key])
    after = answer_in(await parts_of(app, "Когда ремонтное кафе?"))
    assert "remembered" not in after.times_ms


async def test_a_closed_channel_is_not_told_from_memory(app: App) -> None:
    await parts_of(app, "Когда ремонтное кафе?")
    for status in app.ledger.channels():
        app.ledger.set_open(status.channel.id, False)
    answer = answer_in(await parts_of(app, "Когда ремонтное кафе?"))
    assert "remembered" not in answer.times_ms
    assert answer.outcome == "not_found"


@pytest.mark.parametrize("has_posts", [True, False])
async def test_what_was_open_during_the_search_alone_is_not_told_later(app: App, has_posts: bool) -> None:
    channel = app.ledger.channels()[0].channel
    app.ledger.save_channel(Channel(77, "Двор", "dvor", is_open=False))
    await app.verbs.ingest(
        [Post(77, 1, datetime(2026, 3, 1, tzinfo=UTC), "Мёд раздают у фонтана.")] if has_posts else []
    )
    inner = app.verbs.limits.search

    async def search(text: str, *, asker: Asker, filters: Filters, limit: int = 10) -> SearchResult:
        app.ledger.set_open(77, True)
        found = await inner(text, asker=asker, filters=filters, limit=limit)
        app.ledger.set_open(77, False)
        return found

    limits = replace(app.verbs.limits, search=search, kept=Kept(10))
    memory = Memory(10)

    async def asked() -> Answer:
        question = Question("Где раздают мёд?", Asker())
        parts = ask(question, search=limits, index=app.shelf, ledger=app.ledger, config=app.config, memory=memory)
        return answer_in([part async for part in parts])

    first = await asked()
    assert "Двор" in first.searched.channels  # it was open then
    limits = replace(limits, search=inner)
    later = await asked()
    assert later.searched.channels == (channel.title,)
    assert "фонтан" not in str(later)
    assert "Двор" not in str(await limits("Где раздают мёд?", asker=Asker(), filters=Filters()))
    assert "remembered" in (await asked()).times_ms  # what was open before and after is remembered


async def test_a_search_is_recalled_until_posts_or_rights_change(app: App) -> None:
    async def look(asker: Asker | None = None, **filters: object) -> SearchResult:
        return await app.verbs.limits("ремонтное кафе", asker=asker or Asker(), filters=Filters(**filters))  # type: ignore[arg-type]

    first = await look()
    again = await look()
    assert "recall" not in first.times_ms
    assert "recall" in again.times_ms
    assert (again.found, again.searched) == (first.found, first.searched)
    assert "recall" not in (await look(media="photo")).times_ms
    channel = app.ledger.channels()[0].channel
    post = Post(channel.id, 900_001, datetime(2030, 1, 1, tzinfo=UTC), "Ремонтное кафе: теперь по вторникам в десять.")
    await app.verbs.ingest([post])
    with_it = await look()
    assert "recall" not in with_it.times_ms
    assert post.key in [hit.post.key for hit in with_it.found]
    await look()
    app.shelf.remove([post.key])
    assert post.key not in [hit.post.key for hit in (await look()).found]
    await look()
    app.ledger.set_open(channel.id, False)
    assert not (await look()).found


async def test_one_question_too_many_is_asked_to_come_back(app: App) -> None:
    crowd = Crowd(app.verbs.ask, 1)
    inside = crowd.ask(Question("Когда ремонтное кафе?"))
    assert isinstance(await anext(inside), Links)
    with pytest.raises(SlowDown) as error:
        await anext(crowd.ask(Question("Где парковка?")))
    assert error.value.retry_after_s > 0
    await inside.aclose()  # type: ignore[attr-defined]
    assert isinstance(await anext(crowd.ask(Question("Где парковка?"))), Links)


async def test_one_search_too_many_is_asked_to_come_back_and_a_remembered_one_is_not(app: App) -> None:
    crowd = Crowd(app.verbs.ask, 1)
    inside = crowd.ask(Question("Когда ремонтное кафе?"))
    await anext(inside)
    bounded = replace(app.verbs.limits, search=crowd.search(app.verbs.search))
    with pytest.raises(SlowDown):
        await bounded("Где парковка?", asker=Asker(), filters=Filters())
    await app.verbs.limits("Где парковка?", asker=Asker(), filters=Filters())
    assert (await bounded("Где парковка?", asker=Asker(), filters=Filters())).found
    await inside.aclose()  # type: ignore[attr-defined]


async def test_who_may_not_ask_gets_nothing_remembered(app: App) -> None:
    words = "Чем покрыть разделочную доску?"
    found = await app.verbs.limits(words, asker=Asker(), filters=Filters())
    key = found.found[0].post.key
    assert await app.verbs.related(key, asker=Asker()) is not None
    await app.verbs.admission.set_mode("whitelist", actor=None)
    with pytest.raises(NotAllowed):
        await app.verbs.limits(words, asker=Asker(), filters=Filters())
    with pytest.raises(NotAllowed):
        await app.verbs.story("разделочная доска", asker=Asker(), filters=Filters())
    assert await app.verbs.related(key, asker=Asker()) is None
