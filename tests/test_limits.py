"""Search inside limits named in words, over the sample channel."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from appliance import sample
from appliance.app import App
from appliance.limits import Limits
from appliance.schema import Answer, Asker, Filters, Final, LimitKind, Question, SearchResult

AT = datetime(2026, 10, 30, 9, tzinfo=UTC)  # Friday, the day before the sample's last post


@pytest.fixture
def limits(app: App) -> Limits:
    return replace(app.verbs.limits, clock=lambda: AT)


async def find(limits: Limits, text: str, unread: tuple[LimitKind, ...] = ()) -> SearchResult:
    return await limits(text, asker=Asker(), filters=Filters(), unread=unread)


async def test_a_sure_period_holds_and_its_words_are_not_searched(limits: Limits) -> None:
    result = await find(limits, "что писали про обжиг за прошлую неделю")
    assert result.are_limits_held
    assert [limit.typed for limit in result.limits] == ["за прошлую неделю"]
    assert result.query == "обжиг"
    assert {hit.post.date.isocalendar().week for hit in result.found} == {43}
    assert any(hit.post.message_id == 219 for hit in result.found)
    free = await find(limits, "что писали про обжиг за прошлую неделю", unread=("period",))
    assert free.limits == ()
    assert free.query.endswith("за прошлую неделю")


async def test_limits_that_leave_nothing_are_dropped_and_said_so(limits: Limits) -> None:
    result = await find(limits, "посты про моющий пылесос за 1 мая 2025")
    assert result.limits
    assert not result.are_limits_held
    assert any(hit.post.message_id == 113 for hit in result.found)


async def test_a_date_that_is_asked_about_is_not_a_limit(limits: Limits) -> None:
    result = await find(limits, "какой отчёт за второй квартал 2025")
    assert any(hit.post.message_id == 51 for hit in result.found[:3])  # written in July
    meeting = await find(limits, "во сколько собрание в ноябре")
    assert meeting.found[0].post.message_id in {96, 218}  # written before
    assert meeting.limits == () or meeting.found[0].post.date.month == 11


async def test_author_media_and_channel(limits: Limits) -> None:
    by_vera = await find(limits, "посты от Веры про домофон")
    assert {hit.post.author for hit in by_vera.found} == {"Вера, администратор"}
    pictures = await find(limits, "посты с картинкой про кошку")
    assert {hit.post.media for hit in pictures.found} == {"photo"}
    here = await find(limits, f"домофон в канале @{sample.USERNAME}")
    assert here.query == "домофон"


async def test_what_the_asker_set_wins(limits: Limits) -> None:
    chosen = Filters(since=datetime(2026, 1, 1, tzinfo=UTC))
    result = await limits("что писали про обжиг за прошлую неделю", asker=Asker(), filters=chosen)
    assert result.limits == ()


async def answer(app: App, text: str, **fields: object) -> Answer:
    asked = Question(text, Asker(), **fields)  # type: ignore[arg-type]
    final = [part async for part in app.verbs.ask(asked)][-1]
    assert isinstance(final, Final)
    return final.answer


async def test_an_answer_says_its_limits_and_is_not_remembered_for_other_days(app: App) -> None:
    first = await answer(app, "что писали про обжиг в октябре 2026?")
    again = await answer(app, "что писали про обжиг в октябре 2026?")
    for one in (first, again):
        assert [limit.kind for limit in one.limits] == ["period"]
        assert "remembered" not in one.times_ms
        assert {citation.date.month for citation in one.citations} == {10}
    free = await answer(app, "что писали про обжиг в октябре 2026?", unread=frozenset({"period"}))
    assert free.limits == ()


async def test_an_open_question_of_a_period_is_told_as_a_digest(app: App) -> None:
    told = await answer(app, "Что было в июле 2026?")
    assert told.outcome == "answered"
    assert {citation.date.month for citation in told.citations} == {7}
    assert len(told.sentences) >= 4
    assert told.limits
    assert told.are_limits_held
    empty = await answer(app, "Что писали в мае 2024?")
    assert empty.outcome == "answered"  # of the last days there are posts
    assert not empty.are_limits_held


async def test_a_follow_up_keeps_or_changes_the_period(app: App) -> None:
    first = await answer(app, "что писали про обжиг в октябре 2026?")
    then = await answer(app, "а в апреле 2026?", dialogue_id=first.dialogue_id)
    assert [limit.first.month for limit in then.limits if limit.first] in ([4], [10, 4])
    assert {citation.date.month for citation in then.citations} <= {4} or not then.are_limits_held


async def test_only_the_asker_reads_what_was_asked(app: App) -> None:
    done = await answer(app, "когда обжиг?")
    row = await app.verbs.question(done.id, Asker())
    assert row is not None
    assert row.query == "когда обжиг?"
    assert await app.verbs.question(done.id, Asker(user_id=5)) is None
    assert await app.verbs.question("0" * 32, Asker()) is None
