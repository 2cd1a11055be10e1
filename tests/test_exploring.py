"""Related posts and stories of subjects, over the sample channel: verbs, HTTP, and the bot's commands and buttons."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import sample
from appliance.app import App, open_doors
from appliance.bot.exploring import story_messages
from appliance.schema import Asker, Channel, Chapter, Citation, Filters, Post, Searched, Sentence, Story
from appliance.story import MOST_CHAPTERS, periods_of
from tests.servers.botapi import BotApi, Limits
from tests.test_bot import ANNA, BORIS, Town, buttons, clickable

CLUB = 2400170314  # the sample's channel
MEMBER = Asker()


async def test_related_posts_are_of_one_subject_without_copies_or_itself(app: App) -> None:
    found = await app.verbs.related((CLUB, 162), asker=MEMBER)  # prices of firing
    assert found
    ids = [hit.post.message_id for hit in found]
    assert 162 not in ids
    assert {25, 219} & set(ids)  # other posts of firing
    assert all(hit.link == f"https://t.me/{sample.USERNAME}/{hit.post.message_id}" for hit in found)
    assert await app.verbs.related((CLUB, 999_999), asker=MEMBER) is None


async def test_related_posts_keep_to_the_askers_rights_and_begin_with_the_post_replied_to(app: App) -> None:
    closed = Channel(77, "Закрытый клуб", kind="private_channel", is_open=False)
    app.ledger.save_channel(closed)
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    text = "Политой обжиг керамики подорожал: полка в печи теперь 900 рублей, платить казначею."
    await app.verbs.ingest(
        [Post(77, 1, moment, text), Post(77, 2, moment, "Почему так дорого за обжиг керамики в печи?", reply_to_id=1)]
    )
    stranger = await app.verbs.related((CLUB, 162), asker=MEMBER, limit=20)
    assert stranger is not None
    assert {hit.post.channel_id for hit in stranger} == {CLUB}
    assert await app.verbs.related((77, 1), asker=MEMBER) is None
    insider = Asker(user_id=5, private_channels=frozenset({77}))
    found = await app.verbs.related((77, 2), asker=insider)
    assert found is not None
    assert found[0].post.key == (77, 1)


async def test_a_story_goes_from_the_oldest_on_and_speaks_in_links(app: App) -> None:
    told = await app.verbs.story("обжиг керамики", asker=MEMBER, filters=Filters())
    assert 2 <= len(told.chapters) <= MOST_CHAPTERS
    assert [chapter.first for chapter in told.chapters] == sorted(chapter.first for chapter in told.chapters)
    numbers = {citation.number: citation for citation in told.citations}
    for chapter in told.chapters:
        assert chapter.posts == len(chapter.numbers) >= len(chapter.sentences) >= 1
        for sentence in chapter.sentences:
            at = numbers[sentence.citations[0]].date.astimezone(app.config.zone()).date()
            assert chapter.first <= at < chapter.after
    year = await app.verbs.story("что писали про обжиг в 2025 году", asker=MEMBER, filters=Filters())
    assert {citation.date.year for citation in year.citations} == {2025}
    nothing = await app.verbs.story("масса протона в мегаэлектронвольтах", asker=MEMBER, filters=Filters())
    assert nothing.chapters == ()


@given(st.lists(st.integers(1_357_000_000, 1_900_000_000), min_size=1, max_size=40))
def test_periods_hold_every_date_once_and_are_at_most_twelve_or_years(moments: list[int]) -> None:
    dates = [datetime.fromtimestamp(moment, UTC) for moment in sorted(moments)]
    groups = periods_of(dates, UTC)
    assert [place for _, _, places in groups for place in places] == list(range(len(dates)))
    for first, after, places in groups:
        assert all(first <= dates[place].date() < after for place in places)
    assert len(groups) <= MOST_CHAPTERS or all((first.month, first.day) == (1, 1) for first, _, _ in groups)


def test_a_story_for_telegram_fits_its_messages() -> None:
    link = "https://t.me/x/1"
    citation = Citation(1, link, "x", datetime(2026, 1, 1, tzinfo=UTC), "t", (1, 1))
    start = date(2025, 1, 6)
    chapters = tuple(
        Chapter(start + timedelta(7 * n), start + timedelta(7 * n + 7), 3, (Sentence("слово " * 60, (1,)),) * 2, (1,))
        for n in range(12)
    )
    told = Story("тема", chapters, (citation,), Searched((), 1, None))
    messages = story_messages(told, "ru")
    assert len(messages) >= 2
    assert all(len(message.render()[0]) <= 4096 for message in messages)
    assert "6–12 января 2025 · 3 поста" in messages[0].render()[0]


async def test_over_http(app: App) -> None:
    async with open_doors(app, port=0, with_bot=False) as url, httpx.AsyncClient(base_url=url) as client:
        found = (await client.get(f"/posts/{CLUB}/162/related", params={"limit": 3})).json()
        assert 1 <= len(found) <= 3
        assert all(hit["post"]["author_id"] is None for hit in found)
        assert (await client.get(f"/posts/{CLUB}/999999/related")).status_code == 404
        told = (await client.post("/story", json={"subject": "обжиг", "language": "en"})).json()
        assert told["chapters"][0]["words"]
        limited = {"question": "что писали про обжиг в октябре 2026?", "language": "ru"}
        answer = (await client.post("/ask", json=limited)).json()
        assert [(one["kind"], one["words"]) for one in answer["limits"]] == [("period", "октябрь 2026")]
        free = (await client.post("/ask", json={**limited, "unread": ["period"]})).json()
        assert free["limits"] == []
        assert (await client.post("/ask", json={**limited, "unread": ["moon"]})).status_code == 422
        hits = (await client.post("/search", json={"query": "посты с картинкой про кошку"})).json()
        assert {hit["post"]["media"] for hit in hits["found"]} == {"photo"}


@pytest.fixture
async def talking(app: App, tmp_path: Path) -> AsyncIterator[Town]:
    async with BotApi(limits=Limits(speed=1000)) as server:
        server.add_user(ANNA, "Анна", username="anna")
        server.add_user(BORIS, "Борис", None)
        yield Town(server, tmp_path / "journal.sqlite", app.verbs)


def data_of(message: dict[str, Any], text: str) -> str:
    rows = message["reply_markup"]["inline_keyboard"]
    return next(key["callback_data"] for row in rows for key in row if key["text"] == text)


async def test_the_bot_goes_on_from_an_answer(talking: Town) -> None:
    server = talking.server
    async with talking.bot() as journal:
        answer = await talking.ask(ANNA, "Что писали про обжиг в октябре 2026?")
        assert answer["text"].startswith("Искал: октябрь 2026")
        assert buttons(answer)[2:] == ["Искать без фильтра", "🔗 Похожие посты", "📅 История темы"]
        before = len(server.from_bot(ANNA))
        for text in ("Искать без фильтра", "🔗 Похожие посты", "📅 История темы"):
            server.press(ANNA, answer["message_id"], text)
            await talking.quiet(journal)
        free, related, story = server.from_bot(ANNA)[before:]
        assert not free["text"].startswith("Искал: октябрь")
        assert related["text"].startswith("Похожие посты")
        assert story["text"].startswith("История темы")
        assert all(link.startswith("https://t.me/") for link in [*clickable(related), *clickable(story)])
        data = data_of(answer, "Искать без фильтра")
        greeting = await talking.ask(BORIS, "/help")
        before = len(server.from_bot(BORIS))
        server.press_data(BORIS, greeting["message_id"], data)  # of somebody else's answer
        server.press_data(ANNA, answer["message_id"], "e:w:" + "0" * 32)
        server.press_data(ANNA, answer["message_id"], "e:n:забытое")
        await talking.quiet(journal)
        assert len(server.from_bot(BORIS)) == before
        assert (await talking.ask(ANNA, f"/related https://t.me/{sample.USERNAME}/162"))["text"].startswith("Похожие")
        assert (await talking.ask(ANNA, "/related"))["text"].startswith("Пришлите ссылку")
        assert (await talking.ask(ANNA, "/story"))["text"].startswith("О чём рассказать")
        assert (await talking.ask(ANNA, "/story обжиг керамики"))["text"].startswith("История темы: обжиг керамики")
