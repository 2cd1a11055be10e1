"""The question's walk over the sample channel, on real stores and the real embedder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance import sample
from appliance.app import App
from appliance.errors import BadInput, UnknownChannel
from appliance.schema import Answer, Asker, Filters, Final, Links, Part, Piece, Question

MEMBER = Asker()


async def parts_of(app: App, text: str, **fields: object) -> list[Part]:
    question = Question(text=text, asker=MEMBER, door="api", **fields)  # type: ignore[arg-type]
    return [part async for part in app.verbs.ask(question)]


async def answer_of(app: App, text: str, **fields: object) -> Answer:
    final = (await parts_of(app, text, **fields))[-1]
    assert isinstance(final, Final)
    return final.answer


async def test_links_then_sentences_then_the_whole(app: App) -> None:
    known = next(item for item in sample.catalogue()["question"] if item["kind"] == "fact")
    parts = await parts_of(app, known["text"])
    assert isinstance(parts[0], Links)
    assert isinstance(parts[-1], Final)
    pieces = [part.sentence for part in parts[1:-1] if isinstance(part, Piece)]
    answer = parts[-1].answer
    assert answer.outcome == "answered"
    assert tuple(pieces) == answer.sentences
    shown = {citation.number: citation for citation in parts[0].citations}
    for sentence in answer.sentences:
        assert all(number in shown for number in sentence.citations)
    assert {citation.number for citation in answer.citations} == {n for s in answer.sentences for n in s.citations}
    assert all(citation.link.startswith(f"https://t.me/{sample.USERNAME}/") for citation in answer.citations)


async def test_every_answer_has_one_row_with_its_stages(app: App) -> None:
    answer = await answer_of(app, "Сколько стоит занятие керамикой?")
    row = app.ledger.questions.get(answer.id)
    assert row is not None
    assert row.outcome == answer.outcome
    assert row.posts == tuple(citation.post for citation in answer.citations)
    assert {"embed", "retrieve", "fetch", "links", "complete"} <= row.times_ms.keys()
    assert 0 < row.times_ms["links"] <= row.times_ms["complete"]


async def test_what_the_posts_do_not_hold_is_refused_with_what_was_searched(app: App) -> None:
    answer = await answer_of(app, "Какова масса протона в мегаэлектронвольтах?")
    assert answer.outcome == "not_found"
    assert answer.sentences == ()
    assert answer.searched.posts > 100
    assert answer.searched.until is not None
    assert 1 <= len(answer.citations) <= 3  # the nearest posts


@pytest.mark.parametrize(
    ("words", "held"),
    [
        ("аптечки", "аптеч"),
        ("дрель", "дрел"),
        ("собаки", "собак"),
        ("гончарный круг", "гончар"),
        ("парковка", "парков"),
    ],
)
async def test_key_words_are_answered_by_a_post_that_holds_them(app: App, words: str, held: str) -> None:
    answer = await answer_of(app, words)
    assert answer.outcome == "answered"
    post = app.ledger.posts([answer.citations[0].post])[answer.citations[0].post]
    assert held in post.text.lower()


@pytest.mark.parametrize("words", ["шахматы", "рецепт борща", "дрель шахматы", "где лежит паспорт протона"])
async def test_key_words_that_no_post_holds_are_refused(app: App, words: str) -> None:
    assert (await answer_of(app, words)).outcome == "not_found"


async def test_a_reply_is_understood_with_the_turn_before(app: App) -> None:
    pair = next(item for item in sample.catalogue()["question"] if item["kind"] == "followup")
    first = await answer_of(app, pair["before"])
    second = await answer_of(app, pair["text"], dialogue_id=first.dialogue_id)
    assert second.dialogue_id == first.dialogue_id
    assert second.query != pair["text"]
    alone = await answer_of(app, pair["text"])
    assert alone.query == pair["text"]


async def test_another_persons_dialogue_is_not_read(app: App) -> None:
    first = await answer_of(app, "Когда керамика?")
    stranger = Question(text="а сколько стоит?", asker=Asker(user_id=77), door="api", dialogue_id=first.dialogue_id)
    final = [part async for part in app.verbs.ask(stranger)][-1]
    assert isinstance(final, Final)
    assert final.answer.query == "а сколько стоит?"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_question"),
        ("🎉🎉", "empty_question"),
        ("\u200b\x00", "empty_question"),
        ("а" * 100_000, "question_too_long"),
    ],
)
async def test_an_unusable_question_is_said_and_not_stored(app: App, text: str, code: str) -> None:
    before = app.ledger.stats()["questions"]["total"]
    with pytest.raises(BadInput) as error:
        await parts_of(app, text)
    assert error.value.code == code
    assert app.ledger.stats()["questions"]["total"] == before


async def test_unknown_channel_names_the_known(app: App) -> None:
    with pytest.raises(UnknownChannel, match=sample.USERNAME):
        await parts_of(app, "Когда керамика?", filters=Filters(channels=("@nobody",)))


async def test_leaving_early_stops_the_walk(app: App) -> None:
    stream: AsyncIterator[Part] = app.verbs.ask(Question(text="Когда керамика?", asker=MEMBER))
    assert isinstance(await anext(stream), Links)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_question_in_the_wrong_layout_is_quoted_by_what_was_meant(app: App) -> None:
    meant = await answer_of(app, "По каким дням поливают чётные грядки?")
    typed = await answer_of(app, "gj rfrbv lyzv gjkbdf.n xtnyst uhzlrb")
    assert typed.outcome == "answered"
    assert {one.post for one in typed.citations} & {one.post for one in meant.citations}
    assert "грядки" in typed.query
