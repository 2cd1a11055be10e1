"""Live channels over the loopback Bot API: the bot comes and goes, posts, edits, albums, reactions, the pool."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from appliance.app import App, open_app
from appliance.bot import outbox
from appliance.bot.reading import bare_id
from appliance.ledger import tables
from appliance.schema import Asker, Filters, Language, Post
from appliance.texts import say
from models.errors import ModelError
from tests.conftest import config_for
from tests.neighbours import buttons
from tests.servers.botapi import BotApi
from tests.servers.botapi_limits import Fault, Limits
from tests.town import CHANNEL, Town

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLGA, ANNA, PETER = 601, 602, 603  # the owner, a member, the admin of somebody's channel
BARE = 1777000055
PICTURE = {"photo": [{"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1}]}
BOILER = "Горячую воду отключат 14 июля с 9 до 18, проверяют котёл."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with open_app(config_for(tmp_path_factory.mktemp("channels") / "data")) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def town(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    monkeypatch.setattr(outbox, "FIRST_RETRY_S", 0.05)
    async with BotApi(limits=Limits(speed=1000)) as server:
        server.add_user(OLGA, "Ольга", username="olga")
        server.add_user(ANNA, "Анна")
        server.add_user(PETER, "Peter", "en")
        for who in (OLGA, ANNA, PETER):
            server._new_message(who, server.users[who], None)  # they wrote to the bot before
            language: Language = "en" if who == PETER else "ru"
            app.ledger.save_user(telegram_id=who, username=None, first_name=str(who), language=language)
        person = app.ledger.people.find(f"telegram:{OLGA}")
        assert person is not None
        app.ledger.access.set_role(person.user_id, "owner")
        found = Town(server, app, tmp_path / "journal.sqlite")
        found.channel()
        yield found
    for status in app.ledger.channels():  # each test begins with an empty pool
        keys = [(status.channel.id, one) for one in app.ledger.post_ids(status.channel.id)]
        app.ledger.remove_posts(keys)
        app.shelf.remove(keys)
        app.ledger.people.erase_channel(status.channel.id)
    app.ledger._forget_channels()
    app.ledger._write(lambda connection: connection.execute(sa.delete(tables.notice)))


def stored(app: App, *ids: int, channel: int = BARE) -> list[Post]:
    return list(app.ledger.posts([(channel, one) for one in ids]).values())


async def found(app: App, text: str, *channels: str) -> list[str]:
    result = await app.verbs.search(text, asker=Asker(), filters=Filters(channels=channels or None))
    return [hit.link for hit in result.found]


async def test_an_owners_channel_is_live_at_once_and_its_posts_are_found(town: Town, app: App) -> None:
    async with town.bot() as journal:
        town.member(OLGA, "administrator")
        town.post(10, BOILER)
        town.post(11, "Собрание жильцов 20 июля в 19:00 у второго подъезда.", author_signature="Совет дома")
        await town.quiet(journal)
        assert await found(app, "Когда отключат горячую воду?") == [
            "https://t.me/dvor_news/10",
            "https://t.me/dvor_news/11",
        ]
        answer = await town.ask(ANNA, "Когда отключат горячую воду?")
        assert "14 июля" in answer["text"]
        (status,) = app.ledger.channels(Asker())
        assert (status.state, status.is_live, status.channel.is_cross) == ("approved", True, True)
        assert stored(app, 11)[0].author == "Совет дома"
        town.member(OLGA, "left")
        await town.quiet(journal)
        (status,) = app.ledger.channels(Asker())
        assert not status.is_live
        assert "14 июля" in (await town.ask(ANNA, "Когда отключат горячую воду?"))["text"]  # kept, but marked


async def test_posts_edits_and_reactions_come_once_whatever_is_repeated(town: Town, app: App) -> None:
    async with town.bot() as journal:
        town.member(OLGA, "administrator")
        reply = {"message_id": 19, "date": 1, "chat": town.server.chats[CHANNEL], "text": "…"}
        for _ in range(2):
            town.post(20, "Вывоз мусора по средам.", reply_to_message=reply)
            town.react(20, 3, 2)
            town.post(20, "Вывоз мусора по четвергам.", edit=50, reply_to_message=reply)
        town.post(20, "Вывоз мусора по средам.", edit=40)  # an older edit comes late
        town.react(20, 5, 2)
        town.react(999, 5)  # of a post nobody keeps
        await town.quiet(journal)
        (post,) = stored(app, 20)
        assert (post.text, post.reactions, post.reply_to_id) == ("Вывоз мусора по четвергам.", 7, 19)
        town.post(20, "Вывоз мусора по пятницам.", edit=60)
        town.post(21, new_chat_title="Новости двора")  # a service message is no post
        await town.quiet(journal)
        (post,) = stored(app, 20)
        assert (post.text, post.reactions) == ("Вывоз мусора по пятницам.", 7)
        assert app.ledger.post_ids(BARE) == [20]
        assert journal.counts()["inbox_quarantined"] == 0


async def test_an_album_is_one_post_with_all_its_reactions(town: Town, app: App) -> None:
    async with town.bot() as journal:
        town.member(OLGA, "administrator")
        for number in (30, 31, 32):
            caption = {"caption": "Фото с субботника: сажали сирень."} if number == 30 else {}
            town.post(number, media_group_id="a1", date=1_790_000_030, **PICTURE, **caption)
        town.react(30, 2)
        town.react(32, 4)
        await town.quiet(journal)
        (post,) = stored(app, 30, 31, 32)
        assert (post.message_id, post.album_ids, post.reactions, post.media) == (30, (31, 32), 6, "photo")
        town.post(
            30, media_group_id="a1", edit=70, date=1_790_000_030, caption="Фото с субботника: сажали яблони.", **PICTURE
        )
        town.react(31, 1)
        await town.quiet(journal)
        (post,) = stored(app, 30, 31, 32)
        assert (post.text, post.reactions) == ("Фото с субботника: сажали яблони.", 7)
        # Telegram may hand the parts over in any order: the lowest id leads in the end.
        for number in (42, 40, 41):
            caption = {"caption": "Детская площадка открыта."} if number == 41 else {}
            town.post(number, media_group_id="a2", date=1_790_000_040, **PICTURE, **caption)
        await town.quiet(journal)
        (post,) = stored(app, 40, 41, 42)
        assert (post.message_id, post.album_ids) == (40, (41, 42))
        await app.verbs.privacy.forget_posts([(BARE, 40)])
        town.post(41, media_group_id="a2", edit=90, date=1_790_000_040, caption="Площадка снова открыта.", **PICTURE)
        await town.quiet(journal)
        assert stored(app, 40, 41, 42) == []  # deleted for good: no edit of any part brings it back


async def test_live_posts_and_an_import_of_the_same_are_one(town: Town, app: App, tmp_path: Path) -> None:
    async with town.bot() as journal:
        town.member(OLGA, "administrator")
        text = "Ключи от чердака у Ильи, звонить +7 900 000-00-00. Подробности на https://example.org/roof и в чате."
        entities = [
            {"type": "phone_number", "offset": text.index("+7"), "length": 16},
            {"type": "url", "offset": text.index("https"), "length": len("https://example.org/roof")},
            {"type": "bold", "offset": 0, "length": 5},
            {"type": "text_link", "offset": text.index("в чате"), "length": 6, "url": "https://t.me/dvor_chat"},
        ]
        origin = {"type": "hidden_user", "sender_user_name": "Илья", "date": 1}
        town.post(50, text, entities=entities, forward_origin=origin)
        town.post(51, media_group_id="b", date=1_790_000_051, caption="Чердак", **PICTURE)
        town.post(52, media_group_id="b", date=1_790_000_051, **PICTURE)
        town.react(50, 2)
        await town.quiet(journal)
    common = {"type": "message", "from": "Новости двора", "from_id": f"channel{BARE}"}
    parts: list[Any] = [
        {"type": "bold", "text": "Ключи"}, " от чердака у Ильи, звонить ",
        {"type": "phone", "text": "+7 900 000-00-00"},
        ". Подробности на ", {"type": "link", "text": "https://example.org/roof"}, " и ",
        {"type": "text_link", "text": "в чате", "href": "https://t.me/dvor_chat"}, ".",
    ]  # fmt: skip
    messages = [
        {"id": 50, "date_unixtime": "1790000050", "forwarded_from": "Илья", "text": parts,
         "reactions": [{"type": "emoji", "count": 2}], **common},
        {"id": 51, "date_unixtime": "1790000051", "photo": "a.jpg", "text": "Чердак", **common},
        {"id": 52, "date_unixtime": "1790000051", "photo": "b.jpg", "text": "", **common},
    ]  # fmt: skip
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"name": "Новости двора", "type": "public_channel", "id": BARE, "messages": messages}))
    last = [progress async for progress in app.verbs.import_export(file)][-1]
    assert (last.new, last.edited, last.same) == (0, 0, 2)
    assert [post.message_id for post in stored(app, 50, 51, 52)] == [50, 51]
    assert stored(app, 50)[0].forwarded_from == "Илья"


async def test_a_strangers_channel_waits_asks_consent_and_is_found_when_named(town: Town, app: App) -> None:
    async with town.bot() as journal:
        town.member(PETER, "administrator")
        town.post(60, "Каток открыт с 1 декабря, прокат коньков 200 рублей.")
        await town.quiet(journal)
        assert await found(app, "Когда откроют каток?") == []
        asked = town.server.from_bot(PETER)[-1]
        assert asked["text"].startswith("Thank you for connecting")
        waits = town.server.from_bot(OLGA)[-1]
        assert "Новости двора" in waits["text"]
        assert town.server.from_bot(ANNA) == []
        forged = town.server.press_data(ANNA, 1, f"ch:ok:{BARE}")
        await town.server.until(lambda: forged in town.server.callback_answers)
        assert town.server.callback_answers[forged]["text"] == say("not_allowed", "ru")
        town.server.press(OLGA, waits["message_id"], buttons(waits)[0])
        await town.quiet(journal)
        assert await found(app, "Когда откроют каток?") == []  # no consent yet: only when named
        assert await found(app, "Когда откроют каток?", "@dvor_news") == ["https://t.me/dvor_news/60"]
        town.server.admins[CHANNEL] = {PETER}
        stolen = town.server.press_data(ANNA, 1, f"ch:all:{BARE}")
        await town.server.until(lambda: stolen in town.server.callback_answers)
        assert town.server.callback_answers[stolen]["text"] == say("not_allowed", "ru")
        town.server.press(PETER, asked["message_id"], say("consent_all", "en"))
        await town.quiet(journal)
        assert await found(app, "Когда откроют каток?") == ["https://t.me/dvor_news/60"]
        assert [act["kind"] for act in await app.verbs.access.acts(3)] == [
            "channel.consent", "channel.approved", "channel.added"]  # fmt: skip
        town.server.press(PETER, asked["message_id"], say("consent_named", "en"))  # thought better of it
        await town.quiet(journal)
        assert await found(app, "Когда откроют каток?") == []


async def test_one_decision_leaves_other_channels_their_buttons_and_a_refusal_is_confirmed(
    town: Town, app: App
) -> None:
    async with town.bot() as journal:
        town.member(PETER, "administrator")
        town.post(90, "Продам гараж")
        for name in ("kot_i_dom", "pes_i_dom"):
            await town.ask(ANNA, f"/channel @{name}")
        await town.quiet(journal)
        pool = await town.ask(OLGA, "/channels")

        def keys() -> list[str]:
            shown = town.server.messages[OLGA][pool["message_id"]].get("reply_markup", {"inline_keyboard": []})
            return [key["callback_data"] for row in shown["inline_keyboard"] for key in row]

        async def press(data: str) -> None:
            town.server.press(OLGA, pool["message_id"], data)
            await town.quiet(journal)

        mine, cats, dogs = ([f"ch:ok:{name}", f"ch:no:{name}"] for name in (BARE, "kot_i_dom", "pes_i_dom"))
        assert sorted(keys()) == sorted([*mine, *cats, *dogs])
        await press("ch:ok:kot_i_dom")
        assert sorted(keys()) == sorted([*mine, *dogs])
        await press("ch:no:pes_i_dom")  # it has no posts to remove
        assert keys() == mine
        await press(f"ch:no:{BARE}")
        assert keys() == [f"ch:del:{BARE}", f"ch:keep:{BARE}"]
        assert app.ledger.post_ids(BARE) == [90]
        await press(f"ch:keep:{BARE}")
        assert keys() == mine
        await press(f"ch:no:{BARE}")
        await press(f"ch:del:{BARE}")
        assert app.ledger.post_ids(BARE) == []
        assert keys() == mine[:1]  # it can still be approved
        assert buttons(await town.ask(OLGA, "/channels")) == [say("channel_approve", "ru", title="Новости двора")]
        await press(f"ch:ok:{BARE}")
        assert keys() == []
        assert [entry.state for entry in await app.verbs.pool.entries()] == ["approved"]


async def test_a_refused_channel_leaves_nothing_and_an_erased_one_never_returns(town: Town, app: App) -> None:
    async with town.bot() as journal:
        town.member(PETER, "administrator")
        town.post(70, "Продам гараж")
        await town.quiet(journal)
        await app.verbs.pool.decide("@dvor_news", "refused")
        town.post(71, "Продам гараж дёшево")
        await town.quiet(journal)
        assert app.ledger.post_ids(BARE) == []
        await app.verbs.pool.decide(str(BARE), "approved")
        town.post(72, "Продам гараж, кирпич")
        await town.quiet(journal)
        assert app.ledger.post_ids(BARE) == [72]
        other = -1001777000066
        town.channel(other, "Уйдёт", "goes_away")
        town.member(OLGA, "administrator", other)
        town.post(1, "Что-то важное", chat_id=other)
        await town.quiet(journal)
        await app.verbs.pool.remove("@goes_away")
        town.post(2, "Что-то ещё", chat_id=other)
        town.member(OLGA, "administrator", other)
        await town.quiet(journal)
        assert app.ledger.post_ids(bare_id(other)) == []
        assert "goes_away" not in {status.channel.username for status in app.ledger.channels()}
        assert journal.counts()["inbox_quarantined"] == 0


async def test_a_rename_is_followed_and_a_channel_that_hides_is_closed(town: Town, app: App) -> None:
    async with town.bot() as journal:
        town.member(OLGA, "administrator")
        town.post(80, BOILER)
        town.channel(title="Двор сегодня", username="dvor_today")
        town.post(81, "Лифт починили.")
        await town.quiet(journal)
        assert (await found(app, "горячая вода котёл"))[0] == "https://t.me/dvor_today/80"
        town.channel(title="Двор для своих", username=None)
        town.post(82, "Домофон меняют в среду.")
        await town.quiet(journal)
        assert app.ledger.channels(Asker()) == []
        (inside,) = app.ledger.channels(Asker(private_channels=frozenset({BARE})))
        assert (inside.channel.title, inside.channel.username) == ("Двор для своих", None)


async def test_members_propose_and_are_told(town: Town, app: App) -> None:
    async with town.bot() as journal:
        assert (await town.ask(ANNA, "/channel"))["text"] == say("channel_usage", "ru")
        assert (await town.ask(ANNA, "/channel https://t.me/sad_i_ogorod"))["text"] == say("channel_proposed", "ru")
        assert (await town.ask(ANNA, "/channel @sad_i_ogorod"))["text"] == say("channel_again", "ru")
        assert (await town.ask(PETER, "/channel @Sad_i_Ogorod"))["text"] == say("channel_proposed", "en")
        await town.quiet(journal)
        assert (await town.ask(ANNA, "/channels"))["text"] == say("not_allowed", "ru")
        pool = await town.ask(OLGA, "/channels")
        assert "@sad_i_ogorod" in pool["text"]
        town.server.press(OLGA, pool["message_id"], say("channel_approve", "ru", title="@sad_i_ogorod"))
        await town.quiet(journal)
        assert "@sad_i_ogorod" in town.server.from_bot(ANNA)[-1]["text"]
        assert town.server.from_bot(PETER)[-1]["text"] == say("channel_approved_soon", "en", title="@sad_i_ogorod")
        asked = [message["text"] for message in town.server.from_bot(OLGA) if "Участники предлагают" in message["text"]]
        assert len(asked) == 1


async def test_under_429_5xx_and_a_kill_nothing_is_lost_or_told_twice(town: Town, app: App) -> None:
    town.server.faults += [Fault("429", ("sendMessage",), times=2), Fault("500", ("sendMessage",), times=2)]
    town.server.faults += [Fault("500", ("getUpdates",), probability=0.2), Fault("502", ("sendMessage",), times=1)]
    async with town.bot() as journal:
        town.member(PETER, "administrator")
        for number in range(100, 140):
            town.post(number, f"Объявление номер {number}: в подъезде {number} собрание.")
        await town.server.until(lambda: len(app.ledger.post_ids(BARE)) > 5, 30)
    async with town.bot() as journal:  # cut off in the middle, started again
        for number in range(100, 140, 5):
            town.post(number, f"Объявление номер {number}: собрание отменено.", edit=number + 100)
        await town.quiet(journal)
        assert journal.counts()["inbox_quarantined"] == 0
    assert app.ledger.post_ids(BARE) == list(range(100, 140))
    assert sum("отменено" in post.text for post in stored(app, *range(100, 140))) == 8
    assert app.ledger.unindexed() == []
    assert len([m for m in town.server.from_bot(OLGA) if "Новости двора" in m["text"]]) == 1
    assert len([m for m in town.server.from_bot(PETER) if "Новости двора" in m["text"]]) == 1
    assert {429, 500} <= {status for *_, status in town.server.calls}


async def test_posts_outlive_an_embedder_that_is_away(town: Town, app: App) -> None:
    embedder = app.shelf.now.embedder
    embed = type(embedder).embed_passages
    away = True

    def passages(self: Any, texts: Any) -> Any:
        if away:
            raise ModelError("The embedder is away.")
        return embed(self, texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(embedder), "embed_passages", passages)
        async with town.bot() as journal:
            town.member(OLGA, "administrator")
            town.post(150, BOILER)
            await town.quiet(journal)
            assert len(app.ledger.unindexed()) == 1
            away = False
            assert await app.verbs.catch_up() == 1
    assert await found(app, "Когда отключат горячую воду?") == ["https://t.me/dvor_news/150"]
