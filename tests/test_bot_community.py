"""A community over the loopback Bot API: members' answers, corrections, frequent questions, repeats; under faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from appliance import community
from appliance.app import App, open_app
from appliance.bot import notices, outbox
from appliance.changes import is_trivial, still_says
from appliance.errors import StoreError
from appliance.journal import Outgoing
from appliance.ledger import tables
from appliance.schema import MEMBERS_ANSWERS, Asker, Channel, Filters, Final, Post, Question
from appliance.texts import say
from tests.conftest import config_for
from tests.neighbours import buttons
from tests.servers.botapi import BotApi
from tests.servers.botapi_limits import Fault, Limits
from tests.servers.botapi_text import clickable
from tests.town import Town

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLGA, ANNA, BORIS, MARIA = 701, 702, 703, 704  # the owner, members, a trusted member
GROUP = -1001500000888
YARD = Channel(1777000077, "Наш двор", "nash_dvor")
BOARD = Channel(1777000078, "Совет дома", kind="private_channel", is_open=False)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
POSTS = [
    Post(YARD.id, 1, NOON, "Горячую воду отключат 14 июля с 9 до 18 часов, проверяют котёл."),
    Post(YARD.id, 2, NOON, "Вывоз мусора по средам и субботам, контейнеры ставим до восьми утра."),
    Post(YARD.id, 3, NOON, "Парковка во дворе только по пропускам. Пропуск выдаёт консьерж в первом подъезде."),
    Post(YARD.id, 4, NOON, "Каток зальют в декабре, прокат коньков стоит 200 рублей в час."),
    Post(YARD.id, 5, NOON, "Лифт во втором подъезде починят к пятнице, пока пользуйтесь лестницей."),
    Post(YARD.id, 6, NOON, "Цветы на клумбах поливаем вечером, шланг лежит у третьего подъезда."),
    Post(BOARD.id, 1, NOON, "Код от щитовой — 4815, никому не говорите."),
]  # fmt: skip
WATER = "Когда отключат горячую воду?"
KEYS = "У кого ключи от велосипедной комнаты?"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with open_app(config_for(tmp_path_factory.mktemp("community") / "data")) as opened:
        for channel in (YARD, BOARD):
            opened.ledger.save_channel(channel)
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def town(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    monkeypatch.setattr(community, "SETTLE_S", 0.0)
    monkeypatch.setattr(outbox, "FIRST_RETRY_S", 0.05)
    await app.verbs.ingest(POSTS)
    async with BotApi(limits=Limits(speed=1000)) as server:
        for who, name in ((OLGA, "Ольга"), (ANNA, "Анна"), (BORIS, "Борис"), (MARIA, "Мария Ковалёва")):
            server.add_user(who, name)
            server._new_message(who, server.users[who], None)
            app.ledger.save_user(telegram_id=who, username=None, first_name=name)
        server.add_group(GROUP, "Соседи")
        app.ledger.access.set_role(user_id(app, OLGA), "owner")
        app.ledger.access.set_role(user_id(app, MARIA), "trusted")
        yield Town(server, app, tmp_path / "journal.sqlite")
    keep = {"channel", "post", "unindexed", "setting", "user", "alembic_version"}
    for table in reversed(tables.metadata.sorted_tables):
        if table.name not in keep:
            app.ledger._write(lambda connection, table=table: connection.execute(sa.delete(table)))
    gone = [status.channel.id for status in app.ledger.channels() if status.channel.kind == "answers"]
    keys = [(channel, one) for channel in gone for one in app.ledger.post_ids(channel)]
    app.ledger.remove_posts(keys)
    app.shelf.remove(keys)
    app.ledger.chats._values.clear()
    app.verbs.repeats.forget()
    app.ledger._forget_channels()


def user_id(app: App, who: int) -> int:
    found = app.ledger.people.find(f"telegram:{who}")
    assert found is not None
    return found.user_id


def since(text: str) -> Post:
    return Post(YARD.id, 1, NOON, text, edited_at=datetime.now(UTC))


async def test_a_refusal_is_answered_by_a_member_and_the_next_one_gets_it(town: Town, app: App) -> None:
    town.server.faults += [Fault("429", ("sendMessage",), times=2), Fault("500", ("sendMessage",), times=2)]
    town.server.faults += [Fault("502", ("sendMessage", "getUpdates"), probability=0.1)]
    async with town.bot() as journal:
        refused, again, answered = await asyncio.gather(
            town.ask(ANNA, KEYS), town.ask(BORIS, KEYS.lower()), town.ask(OLGA, WATER)
        )
        assert refused["text"].startswith(say("not_found", "ru"))
        assert refused["text"].endswith(say("passed_on", "ru"))
        assert again["text"].startswith(say("not_found", "ru"))
        assert "14 июля" in answered["text"]
        assert (await town.ask(BORIS, "/unanswered"))["text"] == say("not_allowed", "ru")
        heading = await town.ask(MARIA, "/unanswered")
        assert heading["text"] == say("queue_heading", "ru")
        await town.quiet(journal)
        shown = town.server.from_bot(MARIA)[-1]
        assert KEYS.rstrip("?").lower() in shown["text"].lower()
        assert "2 раза" in shown["text"]
        empty = await town.ask(MARIA, "?!", reply_to=shown["message_id"])
        assert empty["text"] == say("answer_no_words", "ru")
        thanks = await town.ask(
            MARIA, "Ключи у Ильи из 12-й квартиры, звоните после шести. https://evil.com", reply_to=shown["message_id"]
        )
        assert thanks["text"] == say("answer_kept", "ru")
        await town.quiet(journal)
        for who, question in ((ANNA, refused), (BORIS, again)):
            told = town.server.from_bot(who)[-1]
            assert "Мария Ковалёва" in told["text"]
            assert "Ключи у Ильи" in told["text"]
            assert told["reply_to_message"]["message_id"] == question["message_id"]
            assert all(link.startswith("https://t.me/postfinder_bot?start=a") for link in clickable(told))
        link = clickable(town.server.from_bot(ANNA)[-1])[0]
        next_one = await town.ask(OLGA, KEYS)
        assert "Ключи у Ильи" in next_one["text"]
        assert "Ответы участников: Мария Ковалёва" in next_one["text"]
        assert link in clickable(next_one)
        opened = await town.ask(BORIS, f"/start {link.split('=')[1]}")
        assert "Отвечает Мария Ковалёва" in opened["text"]
        assert buttons(opened) == []
        mine = await town.ask(MARIA, f"/start {link.split('=')[1]}")
        assert (await town.ask(MARIA, "/unanswered"))["text"] == say("queue_empty", "ru")
        late = await town.ask(MARIA, "и ещё слово", reply_to=shown["message_id"])
        assert late["text"] == say("question_gone", "ru")
        forged = town.server.press_data(BORIS, opened["message_id"], f"c:rm:{link.split('=')[1]}")
        await town.server.until(lambda: forged in town.server.callback_answers)
        assert town.server.callback_answers[forged]["text"] == say("not_allowed", "ru")
        town.server.press(MARIA, mine["message_id"], say("answer_remove", "ru"))
        await town.quiet(journal)
        assert (await town.ask(BORIS, f"/start {link.split('=')[1]}"))["text"] == say("answer_gone", "ru")
    for who in (ANNA, BORIS):
        assert sum(message["text"].startswith("Вы спрашивали") for message in town.server.from_bot(who)) == 1


async def test_who_is_given_a_role_is_told_and_has_its_commands_at_once(town: Town, app: App) -> None:

    def menu(who: int) -> set[str]:
        return {one["command"] for one in town.server.scoped_commands.get(("chat", who, "ru"), [])}

    try:
        async with town.bot() as journal:
            assert {"unanswered", "find"} <= menu(MARIA)  # from the start
            assert "admin" not in menu(MARIA)
            assert menu(ANNA) == set()
            for _ in range(2):  # the same again is no news
                await app.verbs.access.set_role(f"telegram:{ANNA}", "trusted")
                await town.quiet(journal)
            assert [message["text"] for message in town.server.from_bot(ANNA)] == [say("role_trusted", "ru")]
            assert menu(ANNA) == menu(MARIA)
            assert say("help_unanswered", "ru") in (await town.ask(ANNA, "/help"))["text"]
            assert "/unanswered" not in (await town.ask(BORIS, "/help"))["text"]
            await app.verbs.admission.set_role(user_id(app, BORIS), "moderator", actor=user_id(app, OLGA))
            await town.quiet(journal)
            assert town.server.from_bot(BORIS)[-1]["text"] == say("role_moderator", "ru")
            assert {"admin", "ban", "unanswered"} <= menu(BORIS)
            await app.verbs.access.set_role(f"telegram:{BORIS}", "member")
            await town.quiet(journal)
            assert town.server.from_bot(BORIS)[-1]["text"] == say("role_none", "ru")
            assert menu(BORIS) == set()
    finally:
        for who in (ANNA, BORIS):
            app.ledger.access.set_role(user_id(app, who), "member")


async def test_an_answer_that_points_into_a_closed_channel_is_for_its_members(town: Town, app: App) -> None:
    app.ledger.grant(user_id(app, ANNA), BOARD.id)
    try:
        async with town.bot() as journal:
            await asyncio.gather(town.ask(ANNA, KEYS), town.ask(BORIS, KEYS))
            await town.ask(MARIA, "/unanswered")
            await town.quiet(journal)
            shown = town.server.from_bot(MARIA)[-1]["message_id"]
            said = f"Ключи в щитовой, смотрите https://t.me/c/{BOARD.id}/1"
            assert (await town.ask(MARIA, said, reply_to=shown))["text"] == say("answer_kept_closed", "ru")
            await town.quiet(journal)
            assert "Ключи в щитовой" in town.server.from_bot(ANNA)[-1]["text"]
            assert all("щитовой" not in message["text"] for message in town.server.from_bot(BORIS))
            assert "щитовой" in (await town.ask(ANNA, KEYS))["text"]
            assert "щитовой" not in (await town.ask(BORIS, KEYS))["text"]
            assert "щитовой" not in (await town.ask(ANNA, f"@postfinder_bot {KEYS}", chat=GROUP))["text"]
            link = clickable(town.server.from_bot(ANNA)[-1])[0]
            assert (await town.ask(BORIS, f"/start {link.split('=')[1]}"))["text"] == say("answer_gone", "ru")
    finally:
        app.ledger.revoke(user_id(app, ANNA), BOARD.id)


async def test_erasing_the_author_or_the_asker_takes_their_words(town: Town, app: App) -> None:
    async with town.bot() as journal:
        await town.ask(ANNA, KEYS)
        await town.ask(MARIA, "/unanswered")
        await town.quiet(journal)
        await town.ask(MARIA, "Ключи у Ильи из 12-й квартиры.", reply_to=town.server.from_bot(MARIA)[-1]["message_id"])
        await town.quiet(journal)
        await app.verbs.privacy.erase(f"telegram:{ANNA}")
        await app.verbs.catch_up()
        held = list(app.ledger.posts([(MEMBERS_ANSWERS, one) for one in app.ledger.post_ids(MEMBERS_ANSWERS)]).values())
        assert [post.text for post in held] == ["Ключи у Ильи из 12-й квартиры."]  # the question's words are gone
        assert [one.asker_id for one in app.ledger.community.answers()] == [None]
        assert "Ильи" in str(app.ledger.people.archive(user_id(app, MARIA))["member_answer"])
        await app.verbs.privacy.erase(f"telegram:{MARIA}")
        assert app.ledger.post_ids(MEMBERS_ANSWERS) == []
        assert app.ledger.community.answers() == []
        found = await app.verbs.search(KEYS, asker=Asker(), filters=Filters())
        assert all(hit.channel.kind != "answers" for hit in found.found)


async def test_an_edit_that_matters_is_told_once_and_asked_again(town: Town, app: App) -> None:
    async with town.bot() as journal:
        first, second = await asyncio.gather(town.ask(ANNA, WATER), town.ask(BORIS, WATER))
        group = await town.ask(BORIS, f"@postfinder_bot {WATER}", chat=GROUP)
        assert all("14 июля" in message["text"] for message in (first, second, group))
        await app.verbs.ingest([since("Горячую воду отключат 14 июля с 9 до 18 часов, проверяют котёл!")])
        await town.quiet(journal)
        assert len(town.server.from_bot(ANNA)) == 1  # a full stop moved
        town.server.faults += [Fault("429", ("sendMessage",), times=2), Fault("500", ("sendMessage",), times=2)]
        await app.verbs.ingest([since("Горячую воду отключат 21 июля с 9 до 18 часов, проверяют котёл.")])
        await town.server.until(lambda: len(town.server.from_bot(ANNA)) > 1 or town.server.faults[0].times == 0, 20)
    async with town.bot() as journal:  # stopped in the middle: the rest is told by the next one
        await town.quiet(journal)
        for who, answer in ((ANNA, first), (BORIS, second)):
            told = town.server.from_bot(who)[-1]
            assert told["text"] == say("post_edited", "ru", question=WATER)
            assert told["reply_to_message"]["message_id"] == answer["message_id"]
        assert town.server.from_bot(GROUP)[-1]["text"].startswith("Пост, на котором стоял этот ответ, изменили")
        rows = [row for row, _ in app.ledger.community.answered(days=1, limit=9)]
        hers = next(row.id for row in rows if row.user_id == user_id(app, ANNA))
        stolen = town.server.press_data(BORIS, second["message_id"], f"c:again:{hers}")
        await town.server.until(lambda: stolen in town.server.callback_answers)
        assert town.server.callback_answers[stolen]["text"] == say("bad_button", "ru")
        before = len(town.server.from_bot(ANNA))
        town.server.press(ANNA, town.server.from_bot(ANNA)[-1]["message_id"], say("ask_again", "ru"))
        await town.server.until(lambda: len(town.server.from_bot(ANNA)) >= before + 2, 20)
        assert "21 июля" in town.server.from_bot(ANNA)[-1]["text"]
        await app.verbs.ingest([since("Горячую воду отключат 28 июля с 9 до 18 часов, проверяют котёл.")])
        await town.quiet(journal)
    said = [message["text"] for message in town.server.from_bot(BORIS)]
    assert said.count(say("post_edited", "ru", question=WATER)) == 1  # told once, whatever comes after
    assert app.ledger.community.corrections()["edited"] >= 3


@pytest.mark.parametrize("named", [True, False])
async def test_a_stop_before_the_mark_tells_once_because_the_message_has_a_name(
    town: Town, app: App, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken control sends without the name: the same stop then tells twice."""
    calls = notices.told

    async def nameless(*given: Any) -> list[Outgoing]:
        return [replace(call, once=None) for call in await calls(*given)]

    if not named:
        monkeypatch.setattr(notices, "told", nameless)
    mark = type(app.ledger.notices).queued

    def cut_off(self: Any, ids: Any) -> None:
        raise StoreError("a stop before the mark")

    async with town.bot() as journal:
        await town.ask(ANNA, WATER)
        await town.quiet(journal)
        monkeypatch.setattr(type(app.ledger.notices), "queued", cut_off)  # before the ledger's mark
        day = 22 + named  # posts outlive a test
        await app.verbs.ingest([since(f"Горячую воду отключат {day} июля с 9 до 18 часов, проверяют котёл.")])
        await town.server.until(lambda: len(town.server.from_bot(ANNA)) > 1, 20)
    monkeypatch.setattr(type(app.ledger.notices), "queued", mark)
    async with town.bot() as journal:
        await town.quiet(journal)
    told = sum(message["text"].startswith("Пост, на котором") for message in town.server.from_bot(ANNA))
    assert (told == 1) if named else (told > 1)


async def test_a_removed_post_is_told_and_its_answers_are_emptied(town: Town, app: App) -> None:
    question = "Где выдают пропуск на парковку?"
    async with town.bot() as journal:
        answer = await town.ask(ANNA, question)
        assert "консьерж" in answer["text"]
        await app.verbs.privacy.forget_link("https://t.me/nash_dvor/3", is_operator=True)
        await town.quiet(journal)
        told = town.server.from_bot(ANNA)[-1]
        assert told["text"] == say("post_deleted", "ru", question=question)
        assert buttons(told) == [say("ask_again", "ru")]
        assert "консьерж" not in (await town.ask(ANNA, question))["text"]


async def test_a_person_is_not_told_of_every_edit_at_once(town: Town, app: App) -> None:
    me = Asker(user_id(app, ANNA))
    rows: list[str] = []
    for number in range(5):
        asking = app.verbs.ask(Question(f"{WATER[:-1]}, {number}?", me, door="telegram"))
        rows += [part.answer.id async for part in asking if isinstance(part, Final)]
    await app.verbs.ingest([since("Горячую воду отключат 30 июля с 7 до 8 часов, проверяют трубы.")])
    now = datetime.now(UTC) + timedelta(seconds=1)
    assert len([one for one in app.ledger.notices.due(now) if one.kind == "edited"]) == community.MOST_TOLD_A_DAY
    later = app.ledger.notices.due(now + timedelta(days=1, hours=1))
    assert len([one for one in later if one.kind == "edited"]) == len(rows)


async def test_frequent_questions_are_found_approved_and_asked_anew(town: Town, app: App) -> None:
    question = "По каким дням вывозят мусор?"
    async with town.bot() as journal:
        for who in (ANNA, BORIS, MARIA):
            answer = await town.ask(who, question)
            town.server.press(who, answer["message_id"], "👍")
            await town.ask(who, KEYS)
        await town.quiet(journal)
        assert await app.verbs.community.mine() == 1
        assert await app.verbs.community.mine() == 0
        await town.quiet(journal)
        assert town.server.from_bot(OLGA)[-1]["text"] == say("faq_waits", "ru")
        assert (await town.ask(ANNA, "/faq"))["text"] == say("faq_empty", "ru")
        await town.ask(OLGA, "/faq")
        await town.quiet(journal)
        proposed = town.server.from_bot(OLGA)[-1]
        assert question in proposed["text"]
        forged = town.server.press_data(ANNA, 1, f"c:fok:{app.ledger.community.faq('proposed')[0].question_id}")
        await town.server.until(lambda: forged in town.server.callback_answers)
        assert town.server.callback_answers[forged]["text"] == say("not_allowed", "ru")
        town.server.press(OLGA, proposed["message_id"], say("faq_yes", "ru"))
        await town.quiet(journal)
        shown = await town.ask(BORIS, "/faq")
        assert buttons(shown) == [question]
        before = len(town.server.from_bot(BORIS))
        town.server.press(BORIS, shown["message_id"], question)
        await town.server.until(lambda: len(town.server.from_bot(BORIS)) >= before + 2, 20)
        assert "по средам" in town.server.from_bot(BORIS)[-1]["text"].lower()


async def test_repeats_in_a_group_are_counted_then_pointed_at(town: Town, app: App) -> None:
    async with town.bot() as journal:
        town.server.say(ANNA, WATER, chat_id=GROUP)
        await town.quiet(journal)
        assert app.ledger.community.group_questions(GROUP, 10) == []  # off by default
        assert (await town.ask(BORIS, "/repeats@postfinder_bot on", chat=GROUP))["text"] == say("not_allowed", "ru")
        counting = await town.ask(OLGA, "/repeats@postfinder_bot count", chat=GROUP)
        assert counting["text"].startswith(say("repeats_count", "ru"))
        first = town.server.say(ANNA, WATER, chat_id=GROUP)
        town.server.say(BORIS, "А горячую воду когда отключат?", chat_id=GROUP)
        await town.quiet(journal)
        kept = app.ledger.community.group_questions(GROUP, 10)
        assert [(one.repeat_of, one.is_told) for one in kept] == [(None, False), (first, False)]
        silent = len(town.server.from_bot(GROUP))
        await asyncio.sleep(1.1)  # Telegram's times are seconds
        await town.ask(OLGA, "/repeats@postfinder_bot on", chat=GROUP)
        for words in ("Кто сегодня идёт гулять?", "Ну и погода", KEYS, "Всем привет, как дела?"):
            town.server.say(BORIS, words, chat_id=GROUP)
        await town.quiet(journal)
        assert len(town.server.from_bot(GROUP)) == silent + 1
        town.server.faults += [Fault("429", ("sendMessage",), times=1), Fault("500", ("sendMessage",), times=1)]
        pointed = await town.ask(MARIA, "Подскажите, когда горячую воду отключают?", chat=GROUP)
        assert "https://t.me/nash_dvor/1" in clickable(pointed)
        assert any(link.startswith("https://t.me/c/1500000888/") for link in clickable(pointed))
        assert pointed["reply_to_message"]["text"].startswith("Подскажите")
        await town.quiet(journal)
        (figures,) = [one for one in (await app.verbs.stats())["repeats"] if one["chat_id"] == GROUP]
        assert (figures["before"]["questions"], figures["before"]["repeats"]) == (2, 1)
        assert (figures["after"]["repeats"], figures["after"]["told"]) == (1, 1)
        assert journal.counts()["inbox_quarantined"] == 0


@pytest.mark.parametrize(
    ("old", "new", "trivial"),
    [
        ("Собрание в среду в 19:00.", "Собрание в среду в 19:00!", True),
        ("Собрание в среду в 19:00.", "Собрание в среду в 20:00.", False),
        ("Вход с собаками разрешён всем жителям дома", "Вход с собаками не разрешён всем жителям дома", False),
        ("Каток открыт", "Каток закрыт", False),
        ("Мы ждём всех жителей дома на большой субботник в эту субботу утром", "Мы ждём всех жителей нашего дома на "
         "большой субботник в эту субботу утром", True),
        ("Цена 1 200 рублей", "Цена 1200 рублей", False),
        ("ёлка", "Елка", True),
    ],
)  # fmt: skip
async def test_what_counts_as_a_touching_up(old: str, new: str, trivial: bool) -> None:
    assert is_trivial(old, new) is trivial


async def test_a_quote_that_still_stands_needs_no_correction() -> None:
    old = "Воду отключат 14 июля. Сбор у подъезда. Вопросы к Илье."
    assert still_says("Воду отключат 14 июля.", old, "Воду отключат 14 июля. Сбор во дворе в 18:00.")
    assert not still_says("Воду отключат 14 июля.", old, "Воду отключат 15 июля. Сбор у подъезда. Вопросы к Илье.")
    assert not still_says("Отключение будет 14 июля.", old, "Воду отключат 15 июля. Сбор у подъезда.")
