"""Questions in, posts out: rights, filters, folding, links, over the real stores and the real embedder."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.chunking import chunks_of
from appliance.errors import BadInput, UnknownChannel
from appliance.index import Index
from appliance.ledger import Ledger
from appliance.schema import Asker, Channel, ChannelStatus, Filters, Post, SearchResult
from appliance.search import query_lemmas, resolve, search, shorten
from models.ports import Embedder

OPEN = Channel(id=1001, title="Речная мастерская", username="river_works")
CLUB = Channel(id=1002, title="Закрытый клуб", kind="private_channel", is_open=False)
DAY = datetime(2024, 3, 1, tzinfo=UTC)
POSTS = [
    Post(
        1001, 1, DAY, "Как обжигать керамику\n\nПечь разогревают до 980 градусов, потом остывает сутки.", author="Анна"
    ),
    Post(1001, 2, DAY + timedelta(days=1), "Расписание на март: по вторникам лепка, по субботам гончарный круг."),
    Post(1001, 3, DAY + timedelta(days=2), "Купили новую муфельную печь, приходите на пробный обжиг", media="photo"),
    Post(
        1001, 4, DAY + timedelta(days=3), "Собираемся на субботник в сквере, перчатки и мешки выдадим.", author="Иван"
    ),
    Post(1002, 5, DAY + timedelta(days=4), "Секретный рецепт глазури: зола, полевой шпат и немного меди.", topic_id=77),
    Post(1001, 6, DAY + timedelta(days=5), "Расписание на март: по вторникам лепка, по субботам гончарный круг. 👉"),
]
MEMBER = Asker(user_id=1, private_channels=frozenset({1002}))
STRANGER = Asker()


@dataclass(frozen=True)
class Parts:
    index: Index
    ledger: Ledger
    embedder: Embedder

    async def ask(self, text: str, asker: Asker = STRANGER, limit: int = 10, **filters: object) -> SearchResult:
        chosen = Filters(**filters)  # type: ignore[arg-type]
        return await search(
            *(text,),
            asker=asker,
            filters=chosen,
            limit=limit,
            index=self.index,
            ledger=self.ledger,
            embedder=self.embedder,
        )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Parts]:
    folder: Path = tmp_path_factory.mktemp("search")
    ledger = Ledger.open(folder / "ledger.duckdb")
    index = Index.open(folder / "index", embedder=embedder.info)
    for channel in (OPEN, CLUB):
        ledger.save_channel(channel)
    ledger.save_posts(POSTS)
    chunks = [chunk for post in POSTS for chunk in chunks_of(post)]
    index.replace([post.key for post in POSTS], chunks, embedder.embed_passages([chunk.text for chunk in chunks]))
    yield Parts(index, ledger, embedder)
    index.close()
    ledger.close()


async def test_a_question_in_the_wrong_layout_is_read_and_said(parts: Parts) -> None:
    result = await parts.ask(",b,kbjntrf j,;buf")
    assert result.query == ",b,kbjntrf j,;buf"
    assert result.searched_as == "библиотека обжига"
    assert result.found[0].post.message_id in {1, 3}
    assert not (await parts.ask("обжиг керамики")).searched_as


async def test_words_of_a_closed_channel_mend_no_stranger_s_question(parts: Parts) -> None:
    assert (await parts.ask("глазуррь", MEMBER)).searched_as == "глазурь"
    assert not (await parts.ask("глазуррь")).searched_as


async def test_the_answering_post_comes_first_with_its_link(parts: Parts) -> None:
    result = await parts.ask("до какой температуры греть печь для обжига?")
    assert result.found[0].link == "https://t.me/river_works/1"
    assert result.found[0].post == POSTS[0]
    assert result.found[0].channel == OPEN
    assert result.searched.channels == ("Речная мастерская",)
    assert result.searched.posts == 5
    assert result.searched.until == DAY + timedelta(days=5)
    assert {"spelling", "embed", "retrieve", "fetch", "search"} == set(result.times_ms)
    assert result.times_ms["search"] >= result.times_ms["embed"] > 0


async def test_closed_channels_are_for_their_members(parts: Parts) -> None:
    question = "рецепт глазури из золы"
    assert all(hit.channel == OPEN for hit in (await parts.ask(question)).found)
    result = await parts.ask(question, MEMBER)
    assert result.found[0].link == "https://t.me/c/1002/77/5"
    assert set(result.searched.channels) == {OPEN.title, CLUB.title}
    with pytest.raises(UnknownChannel, match="Available: @river_works"):
        await parts.ask(question, channels=("Закрытый клуб",))
    with pytest.raises(UnknownChannel):
        await parts.ask(question, channels=("1002",))
    assert (await parts.ask(question, Asker(sees_everything=True))).found[0].channel == CLUB


async def test_filters_limit_what_is_searched(parts: Parts) -> None:
    question = "печь и обжиг"
    only_club = await parts.ask(question, MEMBER, channels=("закрытый клуб",))
    assert {hit.post.key for hit in only_club.found} == {(1002, 5)}
    assert only_club.searched.posts == 1
    by_anna = await parts.ask(question, author="анна")
    assert {hit.post.key for hit in by_anna.found} == {(1001, 1)}
    photos = await parts.ask(question, media="photo")
    assert {hit.post.key for hit in photos.found} == {(1001, 3)}
    early = await parts.ask(question, until=DAY + timedelta(days=2))
    assert {hit.post.message_id for hit in early.found} == {1, 2}
    assert early.searched.until == DAY + timedelta(days=1)
    nothing = await parts.ask(question, since=DAY + timedelta(days=900))
    assert nothing.found == ()
    assert nothing.relevance == 0
    assert nothing.searched.posts == 0
    assert nothing.searched.until is None


async def test_reposts_are_folded_into_the_original(parts: Parts) -> None:
    result = await parts.ask("когда лепка и гончарный круг?")
    assert result.found[0].post.message_id == 2
    assert result.found[0].reposts == ("https://t.me/river_works/6",)
    assert (1001, 6) not in [hit.post.key for hit in result.found]


async def test_limit(parts: Parts) -> None:
    assert len((await parts.ask("печь", limit=2)).found) == 2
    assert len((await parts.ask("печь", limit=0)).found) == 1


@pytest.mark.parametrize("text", ["", "   ", "🔥🔥", "?!…", "\u200b\u202e\x00"])
async def test_a_question_without_words_is_refused(parts: Parts, text: str) -> None:
    with pytest.raises(BadInput) as error:
        await parts.ask(text)
    assert error.value.code == "empty_question"


async def test_dates_the_wrong_way_round_are_refused(parts: Parts) -> None:
    with pytest.raises(BadInput, match="Swap"):
        await parts.ask("печь", since=DAY, until=DAY - timedelta(days=1))


@pytest.mark.parametrize(
    "text", ["печь " * 20_000, "a" * 100_000, "\ud800 печь", "'; DROP TABLE chunks; --", "100% _ печь"]
)
async def test_odd_questions_are_searched(parts: Parts, text: str) -> None:
    result = await parts.ask(text)
    assert len(result.query) <= 800


async def test_posts_gone_from_the_ledger_are_not_shown(parts: Parts) -> None:
    extra = Post(1001, 9, DAY, "Мастер-класс по витражам пройдёт в апреле, приносите стекло")
    (chunk,) = chunks_of(extra)
    parts.index.replace([extra.key], [chunk], parts.embedder.embed_passages([chunk.text]))
    result = await parts.ask("витражи и стекло в апреле")
    assert (1001, 9) not in [hit.post.key for hit in result.found]
    parts.index.remove([extra.key])


STATUSES = [
    ChannelStatus(Channel(1465826763, "Библиотека Go", "goproglib"), 10, None, None),
    ChannelStatus(Channel(2, "Библиотека питониста", "pyproglib"), 10, None, None),
    ChannelStatus(Channel(3, "Кухня", None, "private_channel"), 10, None, None),
]


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("@goproglib", 1465826763),
        ("GoProgLib", 1465826763),
        ("https://t.me/goproglib", 1465826763),
        ("-1001465826763", 1465826763),
        ("1465826763", 1465826763),
        ("библиотека питониста", 2),
        ("питониста", 2),
        ("Кухня", 3),
    ],
)
def test_channels_are_found_by_name(name: str, channel: int) -> None:
    assert [status.channel.id for status in resolve([name, name], STATUSES)] == [channel]


@pytest.mark.parametrize("name", ["@кухня", "библиотека", "", "@", "сад", "x" * 10_000])
def test_unknown_and_unclear_channels_are_named(name: str) -> None:
    with pytest.raises(UnknownChannel) as error:
        resolve([name], STATUSES)
    assert "@goproglib" in error.value.cure
    assert "Кухня" in error.value.cure
    assert len(str(error.value)) < 400


def test_nobody_sees_no_channels() -> None:
    with pytest.raises(UnknownChannel, match="none"):
        resolve(["сад"], [])


def test_long_questions_are_cut_to_what_they_ask() -> None:
    story = "Мы долго думали и спорили о печах. " * 60
    assert shorten(story + "До скольки градусов греть печь? Спасибо.") == "До скольки градусов греть печь?"
    assert len(shorten(story)) <= 800
    assert shorten("коротко") == "коротко"


@given(st.text(max_size=3000), st.integers(50, 900))
def test_shortened_questions_fit(text: str, max_chars: int) -> None:
    assert len(shorten(text, max_chars=max_chars)) <= max_chars
    assert len(query_lemmas(text)) <= 64
