"""What members do with the bot, over real HTTP to the loopback Bot API: streams, modes, finding, alerts, feedback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from appliance import sample, talks
from appliance.app import App
from appliance.bot import courtesies, finding, modes
from appliance.bot.finding import query_in
from appliance.bot.modes import looks_asked
from appliance.chats import Mode
from appliance.journal import Journal
from appliance.notices import Notice
from appliance.schema import Channel, Final, Part, Piece, Post, Question, Sentence
from appliance.texts import date, say
from appliance.verbs import Verbs
from tests.neighbours import (
    ANNA,
    BORIS,
    CHLOE,
    GROUP,
    KNOWN,
    SECRET,
    UNKNOWN,
    Town,
    buttons,
    open_town,
    people,
    slowly,
)  # fmt: skip
from tests.servers.botapi import BotApi
from tests.servers.botapi_limits import Limits
from tests.servers.botapi_text import clickable

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGER, DORA, EVA, TOPIC = 509, 510, 511, 42
NEWS = Channel(id=1777000003, title="Новости двора", username="novosti_dvora")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with open_town(tmp_path_factory.mktemp("members"), alerts_per_person=2, quiet_hours="") as opened:
        opened.ledger.save_channel(NEWS)
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def town(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    modes._admins.clear()
    monkeypatch.setattr(talks, "SURVEY_AFTER", 1000)
    async with BotApi(limits=Limits(speed=1000)) as server:
        people(server)
        for who, name in ((STRANGER, "Гость"), (DORA, "Дора"), (EVA, "Ева")):
            server.add_user(who, name)
        server.admins[GROUP] = {ANNA, server.me["id"]}
        yield Town(server, tmp_path / "journal.sqlite", app.verbs)
        for chat, topic in list(app.ledger.chats.of("mode")):
            app.ledger.chats.set(chat, topic or None, "mode", None)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (
        ("TYPING_AFTER_S", 0.01), ("DRAFT_AFTER_S", 0.03), ("DRAFT_EVERY_S", 0.03), ("DRAFT_LIVES_S", 0.2),
        ("STAND_AFTER_S", 0.05), ("STAND_EVERY_S", 0.05), ("TYPING_EVERY_S", 0.1),
    ):  # fmt: skip
        monkeypatch.setattr(courtesies, name, seconds)


def until_stopped(verbs: Verbs) -> Callable[[Question], AsyncIterator[Part]]:
    """`ask` that goes on writing until its asker has had enough."""

    async def ask(question: Question) -> AsyncIterator[Part]:
        assert question.stop is not None
        async for part in verbs.ask(question):
            if isinstance(part, Final):
                yield Piece(Sentence("Ещё одно предложение.", ()))
                await question.stop.wait()
                yield Final(replace(part.answer, note="stopped"))
            else:
                yield part

    return ask


async def pressed(town: Town, journal: Journal, who: int, message: dict[str, Any], button: str, chat: int = 0) -> str:
    """Press a button and wait until all is done; return the passing word."""
    query = town.server.press(who, message["message_id"], button, chat_id=chat or who)
    await town.server.until(lambda: query in town.server.callback_answers)
    await town.quiet(journal)
    return str(town.server.callback_answers[query].get("text", ""))


def held_under(message: dict[str, Any]) -> str:
    """The data of the last button."""
    return str(message["reply_markup"]["inline_keyboard"][-1][0]["callback_data"])


async def forged(town: Town, who: int, message: dict[str, Any], data: str) -> str:
    """Press a button that stands on another message, or on none; return the passing word."""
    query = town.server.press_data(who, message["message_id"], data, chat_id=message["chat"]["id"])
    await town.server.until(lambda: query in town.server.callback_answers)
    return str(town.server.callback_answers[query].get("text", ""))


# -- answering ---------------------------------------------------------------------------------------------------------


async def test_a_draft_thinks_grows_stays_alive_stops_and_ends_in_a_message(town: Town, brisk: None) -> None:
    async with town.bot(ask=until_stopped(town.verbs)) as journal:
        town.server.say(ANNA, KNOWN)
        more = "Ещё одно предложение. …"
        await town.server.until(lambda: [one for one in town.server.drafts if str(one.get("text")).endswith(more)], 20)
        shown = len(town.server.drafts)
        await town.server.until(lambda: len(town.server.drafts) > shown + 1)
        drafts = list(town.server.drafts)
        assert all(draft["can_stop"] for draft in drafts)
        gaps = [late["at"] - early["at"] for early, late in pairwise(drafts)]
        assert max(gaps) < 5  # it is shown for 30 s and refreshed well before, though nothing new is written
        assert drafts[-1]["text"].endswith(more)
        assert town.server.from_bot(ANNA) == []
        town.server.modes.stop(ANNA, drafts[-1]["draft_id"])
        await town.server.until(lambda: town.server.from_bot(ANNA))
        await town.quiet(journal)
        (answer,) = town.server.from_bot(ANNA)
        assert say("stopped", "ru") in answer["text"]
        written = len(town.server.drafts)
        await asyncio.sleep(0.3)
        assert len(town.server.drafts) == written
        town.server.push({"stopped_message_generation": {"chat": town.server.chats[ANNA], "draft_id": 12345}})
        await town.quiet(journal)
        assert journal.counts()["inbox_quarantined"] == 0


async def test_a_draft_that_thinks_says_so(town: Town, brisk: None) -> None:
    async with town.bot(ask=slowly(town.verbs, 0.2)):
        await town.ask(ANNA, KNOWN)
    assert "text" not in town.server.drafts[0]  # "Thinking…"


async def test_in_a_group_one_message_stands_grows_and_becomes_the_answer(town: Town, brisk: None) -> None:
    async with town.bot(ask=slowly(town.verbs, 0.2)) as journal:
        question = town.server.say(ANNA, f"@postfinder_bot {KNOWN}", chat_id=GROUP)
        await town.server.until(lambda: town.server.from_bot(GROUP))
        standing = dict(town.server.from_bot(GROUP)[0])
        assert standing["text"] == say("working", "ru")
        assert standing["reply_to_message"]["message_id"] == question
        await town.quiet(journal)
        (answer,) = town.server.from_bot(GROUP)
        assert answer["message_id"] == standing["message_id"]
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(answer)
        assert buttons(answer)[:2] == ["👍", "👎"]
        more = await town.ask(BORIS, "А чем ещё?", chat=GROUP, reply_to=answer["message_id"])
        assert more["reply_to_message"]["text"] == "А чем ещё?"
        assert town.server.drafts == []


async def test_the_answer_comes_though_the_message_that_stood_for_it_is_gone(town: Town, brisk: None) -> None:
    async with town.bot(ask=slowly(town.verbs, 0.3)) as journal:
        town.server.say(ANNA, f"@postfinder_bot {KNOWN}", chat_id=GROUP)
        await town.server.until(lambda: town.server.from_bot(GROUP))
        del town.server.messages[GROUP][town.server.from_bot(GROUP)[0]["message_id"]]
        await town.server.until(lambda: town.server.from_bot(GROUP), 20)
        await town.quiet(journal)
        (answer,) = town.server.from_bot(GROUP)
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(answer)


async def test_a_stop_in_the_middle_leaves_one_message_in_the_group(town: Town, brisk: None) -> None:
    async with town.bot(ask=slowly(town.verbs, 30), grace_s=0.1) as journal:
        town.server.say(ANNA, f"@postfinder_bot {KNOWN}", chat_id=GROUP)
        await town.server.until(lambda: town.server.from_bot(GROUP) and not town.server.pending())
        await asyncio.sleep(0.2)
    async with town.bot() as journal:
        await town.server.until(lambda: "масло" in town.server.from_bot(GROUP)[0]["text"], 20)
        await town.quiet(journal)
    assert len(town.server.from_bot(GROUP)) == 1


async def test_private_dialogues_go_on_by_topic_until_a_new_one(town: Town) -> None:
    asked: list[str | None] = []

    async def ask(question: Question) -> AsyncIterator[Part]:
        asked.append(question.dialogue_id)
        async for part in town.verbs.ask(question):
            yield part

    async with town.bot(ask=ask):
        first = await town.ask(ANNA, KNOWN)
        await town.ask(ANNA, "А чем ещё?")
        in_topic = await town.ask(ANNA, KNOWN, topic=TOPIC)
        await town.ask(ANNA, "А чем ещё?", topic=TOPIC)
        assert (await town.ask(ANNA, "/new"))["text"] == say("new_dialogue", "ru")
        await town.ask(ANNA, "А чем ещё?")
        await town.ask(ANNA, "А чем ещё?", topic=TOPIC)
        await town.ask(ANNA, "А чем ещё?", reply_to=first["message_id"])
    assert in_topic["message_thread_id"] == TOPIC
    assert asked[0] == asked[1] == asked[6]  # the last by reply
    assert asked[2] == asked[3] == asked[5]
    assert len({asked[0], asked[2], asked[4]}) == 3


# -- groups ------------------------------------------------------------------------------------------------------------


async def test_a_group_can_be_set_from_elsewhere_once_the_bot_is_in_it(town: Town, app: App) -> None:
    def moved(status: str) -> None:
        chat, bot = {"id": -1077, "type": "supergroup", "title": "Дача"}, town.server.me
        until = {"until_date": 0} if status == "kicked" else {}
        change = {"chat": chat, "from": town.server.users[ANNA], "date": 1_790_000_000}
        change["old_chat_member"] = {"user": bot, "status": "left"}
        town.server.push({"my_chat_member": {**change, "new_chat_member": {"user": bot, "status": status, **until}}})

    async with town.bot() as journal:
        moved("member")
        await town.quiet(journal)
        assert app.verbs.chats.modes()[-1077, 0] == Mode()
        assert app.verbs.chats.get(-1077, None, "title") == "Дача"
        await app.verbs.chats.set_mode(-1077, 5, Mode("off"))
        moved("kicked")
        await town.quiet(journal)
        assert not [chat for chat, _ in app.verbs.chats.modes() if chat == -1077]
        moved("member")
        await town.quiet(journal)
        assert app.verbs.chats.modes()[-1077, 5] == Mode("off")


async def test_only_administrators_choose_the_mode_and_a_topic_has_its_own(town: Town, app: App) -> None:
    async with town.bot() as journal:
        refused = await town.ask(BORIS, "/mode", chat=GROUP, topic=TOPIC)
        assert refused["text"] == say("mode_admins_only", "ru")
        shown = await town.ask(ANNA, "/mode", chat=GROUP, topic=TOPIC)
        word = await pressed(town, journal, BORIS, shown, say("mode_off", "ru"), GROUP)
        assert word == say("mode_admins_only", "ru")
        assert await pressed(town, journal, ANNA, shown, say("mode_off", "ru"), GROUP) == say("mode_set", "ru")
        assert f"✓ {say('mode_off', 'ru')}" in buttons(town.server.messages[GROUP][shown["message_id"]])
        before = len(town.server.from_bot(GROUP))
        for words in (f"@postfinder_bot {KNOWN}", "/help", f"/find {KNOWN}", "/search масло"):
            town.server.say(BORIS, words, chat_id=GROUP, topic=TOPIC)
        await town.quiet(journal)
        assert len(town.server.from_bot(GROUP)) == before
        assert "масло" in (await town.ask(BORIS, f"@postfinder_bot {KNOWN}", chat=GROUP))["text"]
        town.server.say(BORIS, "", chat_id=GROUP, migrate_to_chat_id=-1009)
        await town.quiet(journal)
        assert app.verbs.chats.mode(-1009, TOPIC).way == "off"
    assert app.ledger.access.acts(1)[0]["kind"] == "chat.mode"
    person = app.ledger.people.find(f"telegram:{ANNA}")
    assert person is not None
    assert app.ledger.access.acts(1)[0]["actor_id"] == person.user_id


async def test_unasked_it_answers_only_what_it_is_sure_of(town: Town, app: App) -> None:
    users = app.ledger.stats()["users"]
    async with town.bot() as journal:
        shown = await town.ask(ANNA, "/mode", chat=GROUP)
        await pressed(town, journal, ANNA, shown, f"{say('mode_auto', 'ru')} ≥ 75%", GROUP)
        before = len(town.server.from_bot(GROUP))
        for words in (UNKNOWN, "масло закончилось вчера", "?", "кто куда"):
            town.server.say(STRANGER, words, chat_id=GROUP)
        town.server.say(STRANGER, KNOWN, chat_id=GROUP, reply_to=shown["message_id"] - 1)
        await town.quiet(journal)
        assert len(town.server.from_bot(GROUP)) == before
        answer = await town.ask(STRANGER, KNOWN, chat=GROUP)
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(answer)
    assert app.ledger.stats()["users"] == users  # who did not speak to the bot is not registered


async def test_what_looks_asked() -> None:
    assert looks_asked("Где взять ключ от зала")
    assert looks_asked("подскажите, есть ли тут кто с дрелью?")
    assert not looks_asked("пойду полью грядки")
    assert not looks_asked("да?")
    assert not looks_asked("/find что такое это?")


async def test_a_whisper_is_seen_by_its_asker_who_may_publish_it(town: Town) -> None:
    async with town.bot() as journal:
        town.server.modes.whisper(BORIS, f"/whisper {KNOWN}", GROUP)
        await town.quiet(journal)
        (seen,) = town.server.modes.whispered(BORIS, GROUP)
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(seen)
        assert town.server.from_bot(GROUP) == []
        held = held_under(seen)
        other = await town.ask(CHLOE, "/help", chat=GROUP)
        assert await forged(town, CHLOE, other, held) == say("not_allowed", "en")
        town.server.press_whispered(BORIS, GROUP, say("publish", "ru"))
        await town.server.until(lambda: len(town.server.from_bot(GROUP)) == 2)
        await town.quiet(journal)
        assert "масло" in town.server.from_bot(GROUP)[1]["text"]
        assert town.server.modes.whispered(BORIS, GROUP) == []
        assert await forged(town, BORIS, other, held) == say("held_gone", "ru")
        assert len(town.server.from_bot(GROUP)) == 2


async def test_what_was_closed_meanwhile_is_not_published(town: Town, app: App) -> None:
    town.server.admins[GROUP] = {ANNA, CHLOE}
    river = next(one.channel.id for one in app.ledger.channels() if one.channel.username == sample.USERNAME)
    try:
        async with town.bot() as journal:
            town.server.modes.whisper(BORIS, f"/whisper {KNOWN}", GROUP)
            await town.quiet(journal)
            await town.ask(CHLOE, "/help")
            shown = await town.ask(ANNA, "/mode", chat=GROUP)
            await pressed(town, journal, ANNA, shown, say("mode_admins", "ru"), GROUP)
            await town.ask(BORIS, f"@postfinder_bot {KNOWN}", chat=GROUP)
            await town.server.until(lambda: len(town.server.from_bot(CHLOE)) == 3)
            before = len(town.server.from_bot(GROUP))
            app.ledger.set_open(river, False)
            town.server.press_whispered(BORIS, GROUP, say("publish", "ru"))
            await town.quiet(journal)
            assert len(town.server.from_bot(GROUP)) == before
            draft = town.server.from_bot(CHLOE)[-1]
            assert await pressed(town, journal, CHLOE, draft, say("publish", "en")) == say("held_closed", "en")
            said = [message["text"] for message in town.server.from_bot(GROUP)[before:]]
            assert said == [say("draft_dropped", "ru")]
    finally:
        app.ledger.set_open(river, True)


async def test_where_a_whisper_is_refused_it_goes_to_the_private_chat(town: Town) -> None:
    town.server.admins[GROUP] = {ANNA}  # the bot is no administrator, and nobody pressed anything lately
    async with town.bot() as journal:
        await town.ask(BORIS, "/help")
        shown = await town.ask(ANNA, "/mode", chat=GROUP)
        await pressed(town, journal, ANNA, shown, say("mode_whisper", "ru"), GROUP)
        town.server.say(BORIS, f"@postfinder_bot {KNOWN}", chat_id=GROUP)
        await town.quiet(journal)
        await town.server.until(lambda: len(town.server.from_bot(BORIS)) == 2)
        private = town.server.from_bot(BORIS)[1]
        assert "масло" in private["text"]
        assert len(town.server.from_bot(GROUP)) == 1
        rated = buttons(private)[:-1]
        other = await town.ask(CHLOE, "/help")
        assert await forged(town, CHLOE, other, held_under(private)) == say("not_allowed", "en")
        assert await pressed(town, journal, BORIS, private, say("publish", "ru")) == say("published", "ru")
        assert "масло" in town.server.from_bot(GROUP)[1]["text"]
        assert buttons(town.server.messages[BORIS][private["message_id"]]) == rated


async def test_drafts_go_to_administrators_and_one_of_them_publishes(town: Town) -> None:
    town.server.admins[GROUP] = {ANNA, CHLOE, STRANGER}
    async with town.bot() as journal:
        for who in (ANNA, CHLOE):
            await town.ask(who, "/help")
        shown = await town.ask(ANNA, "/mode", chat=GROUP)
        await pressed(town, journal, ANNA, shown, say("mode_admins", "ru"), GROUP)
        assert (await town.ask(BORIS, f"@postfinder_bot {KNOWN}", chat=GROUP))["text"] == say("drafted", "ru")
        await town.server.until(lambda: all(len(town.server.from_bot(who)) == 3 for who in (ANNA, CHLOE)))
        mine, hers = (town.server.from_bot(who)[-1] for who in (ANNA, CHLOE))
        assert "масло" in mine["text"]
        assert await pressed(town, journal, ANNA, mine, say("publish", "ru")) == say("published", "ru")
        assert await pressed(town, journal, CHLOE, hers, say("publish", "en")) == say("held_gone", "en")
        published = town.server.from_bot(GROUP)[2:]
        assert len(published) == 1
        assert published[0]["reply_to_message"]["text"].endswith(KNOWN)
        assert buttons(town.server.from_bot(ANNA)[-1]) == []
        town.server.add_user(DORA, "Dora", "en")
        waits = await town.ask(DORA, f"@postfinder_bot {KNOWN}", chat=GROUP)
        assert waits["text"] == say("drafted", "en")
        await town.server.until(lambda: buttons(town.server.from_bot(ANNA)[-1]))
        mine = town.server.from_bot(ANNA)[-1]
        assert await pressed(town, journal, ANNA, mine, say("drop", "ru")) == say("dropped", "ru")
        told = town.server.from_bot(GROUP)[-1]
        assert told["text"] == say("draft_dropped", "en")  # in the asker's language, under their question
        assert told["reply_to_message"]["from"]["id"] == DORA
        assert (await town.ask(BORIS, f"@postfinder_bot {UNKNOWN}", chat=GROUP))["text"] == say("not_found", "ru")


# -- finding -----------------------------------------------------------------------------------------------------------


async def test_search_turns_pages_and_filters_and_keeps_its_state(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "RELEVANT", 0.0)
    async with town.bot() as journal:
        shown = await town.ask(ANNA, "/search грядки и полив")
        assert query_in(shown["text"]) == "грядки и полив"
        assert len([link for link in clickable(shown) if "t.me" in link]) == 5
        assert await pressed(town, journal, ANNA, shown, "▶") == ""
        second = town.server.messages[ANNA][shown["message_id"]]
        assert "6. " in second["text"]
        await pressed(town, journal, ANNA, second, "📁 Все каналы")
        chosen = town.server.messages[ANNA][shown["message_id"]]
        await pressed(town, journal, ANNA, chosen, next(name for name in buttons(chosen) if "Барахолка" in name))
        only = town.server.messages[ANNA][shown["message_id"]]
        assert {link.rsplit("/", 1)[0] for link in clickable(only)} == {"https://t.me/baraholka"}
        await pressed(town, journal, ANNA, only, next(b for b in buttons(only) if b.startswith("📅")))
        await pressed(town, journal, ANNA, only, say("period_d", "ru"))
        assert say("search_nothing", "ru") in town.server.messages[ANNA][shown["message_id"]]["text"]
        assert (await town.ask(ANNA, "/search"))["text"] == say("search_usage", "ru")
        assert (await town.ask(ANNA, "/search @no_such_channel слово"))["text"] == say("unknown_channel", "ru")
        one = await town.ask(ANNA, "/search @baraholka самокат")
        assert {link.rsplit("/", 1)[0] for link in clickable(one)} == {"https://t.me/baraholka"}
        assert await forged(town, ANNA, one, f"s:r:0:{SECRET.id}:-:-") == say("unknown_channel", "ru")
        assert "4815" not in json.dumps(town.server.from_bot(ANNA), ensure_ascii=False)


async def inline(town: Town, who: int, text: str, **more: Any) -> dict[str, Any]:
    query = town.server.modes.ask_inline(who, text, **more)
    return await town.server.until(lambda: town.server.modes.inline_answers.get(query))


async def test_inline_results_are_personal_and_inside_rights(town: Town, app: App) -> None:
    asked = "Какой код сейфа кооператива?"
    async with town.bot():
        await town.ask(ANNA, "/help")
        await town.ask(BORIS, "/help")
        boris = app.ledger.people.find(f"telegram:{BORIS}")
        assert boris is not None
        app.ledger.grant(boris.user_id, SECRET.id)
        try:
            own = await inline(town, BORIS, asked, chat_type="sender")
            assert "4815" in json.dumps(own, ensure_ascii=False)
            assert own["is_personal"] is True
            assert own["cache_time"] <= 10
            assert "4815" not in json.dumps(await inline(town, BORIS, asked, chat_type="group"), ensure_ascii=False)
        finally:
            app.ledger.revoke(boris.user_id, SECRET.id)
        assert "4815" not in json.dumps(await inline(town, ANNA, asked, chat_type="sender"), ensure_ascii=False)
        assert town.server.modes.inline_cached == [(BORIS, asked)] or town.server.modes.inline_cached == []
        first = await inline(town, ANNA, "полив грядок")
        assert len(first["results"]) == 10
        second = await inline(town, ANNA, "полив грядок", offset=first["next_offset"])
        assert {r["id"] for r in first["results"]}.isdisjoint({r["id"] for r in second["results"]})
        for text, offset in (("", ""), ("???", ""), ("полив", "x" * 60), ("полив", "-5"), ("п" * 3000, "")):
            assert "results" in await inline(town, ANNA, text, offset=offset)
        stranger = await inline(town, STRANGER, KNOWN)
        assert stranger["results"] == []
        assert stranger["button"]["start_parameter"] == "inline"
        assert app.ledger.people.find(f"telegram:{STRANGER}") is None
    async with town.bot(guests=True):
        open_only = await inline(town, STRANGER, KNOWN + " ")
        assert any("73" in result["id"] for result in open_only["results"])
        assert app.ledger.people.find(f"telegram:{STRANGER}") is None


async def test_guests_are_answered_from_open_channels_where_they_may_ask(town: Town, app: App) -> None:
    async with town.bot() as journal:
        query = town.server.modes.ask_guest(STRANGER, f"@postfinder_bot {KNOWN}")
        closed = await town.server.until(lambda: town.server.modes.guest_answers.get(query))
        assert closed["input_message_content"]["message_text"] == say("guests_closed", "ru")
        await town.quiet(journal)
    async with town.bot(guests=True) as journal:
        query = town.server.modes.ask_guest(STRANGER, f"@postfinder_bot {KNOWN}")
        answer = await town.server.until(lambda: town.server.modes.guest_answers.get(query))
        assert "масло" in answer["input_message_content"]["message_text"]
        query = town.server.modes.ask_guest(STRANGER, "@postfinder_bot Какой код сейфа кооператива?")
        answer = await town.server.until(lambda: town.server.modes.guest_answers.get(query))
        assert "4815" not in json.dumps(answer, ensure_ascii=False)
        await town.quiet(journal)
        assert journal.counts()["outbox_failed"] == 0
    assert app.ledger.people.find(f"telegram:{STRANGER}") is None


async def test_what_was_missed_is_told_since_the_last_visit(town: Town, app: App) -> None:
    async with town.bot() as journal:
        nothing = await town.ask(CHLOE, "/missed")
        week_ago = date(datetime.now(UTC) - timedelta(days=7), "en")
        assert nothing["text"] == say("missed_nothing", "en", since=week_ago)
        assert not buttons(nothing)  # there is nothing to rate
        old = await town.ask(CHLOE, "/digest")
        assert old["text"].startswith("The main posts of the week, up to ")
        await app.verbs.ingest(
            [Post(NEWS.id, 500, datetime.now(UTC), "Во вторник двор закрыт: меняют трубы до вечера.")]
        )
        told = await town.ask(CHLOE, "/missed")
        assert told["text"].startswith("What happened since")
        assert "меняют трубы" in told["text"]
        day = await town.ask(CHLOE, "/digest day")
        assert day["text"].startswith(say("digest_day", "en"))
        assert buttons(day) == ["👍", "👎"]  # a digest has no one subject to follow
        for asked, heading in (
            ("/digest 3", "The main posts of 3 days"),
            ("/digest month", "The main posts of the month"),
            ("/digest", "The main posts of the week"),
        ):
            assert (await town.ask(CHLOE, asked))["text"].startswith(f"{heading}\n")
        for wrong in ("абвгд", "99999", "0", "-3"):
            assert (await town.ask(ANNA, f"/digest {wrong}"))["text"] == say("digest_usage", "ru")
        assert (await town.ask(ANNA, "/digest 22"))["text"].startswith("Главное за 22 дня\n")
        assert (await town.ask(ANNA, "что было за месяц"))["text"].startswith("Главное за месяц\n")
        await town.quiet(journal)


# -- alerts ------------------------------------------------------------------------------------------------------------


async def test_an_alert_is_made_told_once_inside_rights_and_stopped(town: Town, app: App) -> None:
    async with town.bot() as journal:
        assert (await town.ask(ANNA, "/alerts"))["text"] == say("alerts_none", "ru")
        assert (await town.ask(ANNA, "/alert ???"))["text"] == say("alert_usage", "ru")
        made = await town.ask(ANNA, "/alert отключение горячей воды")
        assert made["text"] == say("alert_made", "ru", about="отключение горячей воды")
        await town.ask(BORIS, "/alert отключение горячей воды")
        old = datetime.now(UTC) - timedelta(days=9)
        water = "Внимание: в четверг отключат горячую воду во всём доме."
        posts = [
            Post(NEWS.id, 1, old, "В прошлом месяце отключали горячую воду, теперь всё работает."),
            Post(NEWS.id, 2, datetime.now(UTC), water),
            Post(NEWS.id, 3, datetime.now(UTC), "Завтра в клубе мастер-класс по керамике для детей."),
            Post(SECRET.id, 9, datetime.now(UTC), "Совету: отключение горячей воды согласовано."),
        ]
        await app.verbs.ingest(posts)
        await town.server.until(lambda: len(town.server.from_bot(ANNA)) == 4, 20)
        await town.quiet(journal)
        told = town.server.from_bot(ANNA)[-1]
        assert "отключат горячую воду" in told["text"]
        assert clickable(told) == [f"https://t.me/{NEWS.username}/2"]
        await app.verbs.ingest([replace(posts[1], text=water + " Исправлено.", edited_at=datetime.now(UTC))])
        await app.verbs.alerts.ring()
        await town.quiet(journal)
        assert len(town.server.from_bot(ANNA)) == 4
        assert await pressed(town, journal, ANNA, told, say("alert_stop", "ru")) == say("alert_stopped", "ru")
        assert "отключат" in town.server.from_bot(ANNA)[-1]["text"]  # the post stays
        await app.verbs.ingest([Post(NEWS.id, 4, datetime.now(UTC), "Ещё раз: отключат горячую воду и в пятницу.")])
        await town.server.until(lambda: len(town.server.from_bot(BORIS)) == 3, 20)
        await town.quiet(journal)
        assert len(town.server.from_bot(ANNA)) == 4
        for words in ("/alert субботник", "/alert концерты", "/alert лишнее"):
            last = await town.ask(ANNA, words)
        assert last["text"] == say("too_many_alerts", "ru")
        listed = await town.ask(ANNA, "/alerts")
        assert "1. субботник\n2. концерты" in listed["text"]
        data = next(k["callback_data"] for row in listed["reply_markup"]["inline_keyboard"] for k in row)
        assert await forged(town, CHLOE, await town.ask(CHLOE, "/help"), data) == say("alert_gone", "en")
        assert await pressed(town, journal, ANNA, listed, "✕ 1") == say("alert_stopped", "ru")
        wider = await town.ask(ANNA, "/alert ремонт лифта")
        assert await pressed(town, journal, ANNA, wider, say("alert_level_2", "ru")) == say("alert_changed", "ru")
        assert f"✓ {say('alert_level_2', 'ru')}" in buttons(town.server.messages[ANNA][wider["message_id"]])


def waiting(app: App) -> list[Notice]:
    return app.ledger.notices.due(datetime.now(UTC) + timedelta(days=2), kinds=["alert"])


async def test_an_alert_waits_for_the_end_of_quiet_hours_whatever_else_it_waited_for(town: Town, app: App) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = f"{hour.hour}-{(hour.hour + 2) % 24} +0"
    async with town.bot() as journal:
        await town.ask(DORA, "/alert ремонт домофона")
        await town.ask(DORA, f"/quiet {hours}")
        await app.verbs.ingest([Post(NEWS.id, 20, datetime.now(UTC), "В субботу начнут ремонт домофона в подъезде.")])
        await app.verbs.alerts.ring()
        (one,) = waiting(app)
        assert one.not_before == hour + timedelta(hours=2)
        await app.verbs.notices.postpone(one.id, datetime.now(UTC))  # due in the middle of the quiet, after a stop
        app.verbs.notices.bell()
        await town.server.until(lambda: waiting(app)[0].not_before == hour + timedelta(hours=2), 20)
        await town.quiet(journal)
        assert len(town.server.from_bot(DORA)) == 2
        await town.ask(DORA, "/quiet off")
        await app.verbs.notices.postpone(one.id, datetime.now(UTC))  # the hours have passed
        app.verbs.notices.bell()
        await town.server.until(lambda: len(town.server.from_bot(DORA)) == 4, 20)
        await town.quiet(journal)
        assert "ремонт домофона" in town.server.from_bot(DORA)[-1]["text"]
        assert not waiting(app)


async def test_while_answering_is_paused_alerts_wait_and_stale_ones_are_dropped(town: Town, app: App) -> None:
    async with town.bot() as journal:
        await town.ask(EVA, "/alert потерялась кошка")
        await app.verbs.admission.pause(actor=None, name="Старшая")
        cats = [f"Потерялась {colour} кошка, видели у пруда." for colour in ("рыжая", "серая")]
        await app.verbs.ingest([Post(NEWS.id, 30 + n, datetime.now(UTC), cat) for n, cat in enumerate(cats)])
        await app.verbs.alerts.ring()
        one, old = sorted(waiting(app), key=lambda notice: notice.body["post"][1])
        await app.verbs.notices.postpone(old.id, datetime.now(UTC) - timedelta(days=4))
        app.verbs.notices.bell()
        await asyncio.sleep(0.5)
        await town.quiet(journal)
        assert len(town.server.from_bot(EVA)) == 1
        assert {notice.id for notice in waiting(app)} == {one.id, old.id}
        await app.verbs.admission.resume(actor=None)
        await town.server.until(lambda: not waiting(app), 20)
        await town.quiet(journal)
        told = town.server.from_bot(EVA)[1:]
        assert ["рыжая" in message["text"] for message in told] == [True]


async def test_quiet_hours_are_read_and_kept(town: Town, app: App) -> None:
    async with town.bot():
        for words, key in (
            ("/quiet", "quiet_usage"), ("/quiet 99-1", "quiet_usage"), ("/quiet off", "quiet_off"),
            ("/quiet завтра", "quiet_usage"),
        ):  # fmt: skip
            assert (await town.ask(BORIS, words))["text"] == say(key, "ru")
        night = say("quiet_set", "ru", first="23:00", last="08:00")
        for words in (
            "/quiet с 23 до 8",
            "/quiet 23:00 – 8:00",
            "не пиши с 23 до 8 утра",
            "не пиши ночью",
            "/quiet 23-8 +5",
        ):
            assert (await town.ask(BORIS, words))["text"] == night
    person = app.ledger.people.find(f"telegram:{BORIS}")
    assert person is not None
    assert app.ledger.talks.setting(person.user_id, "quiet") == {"from": 23, "to": 8, "utc": 5}


# -- feedback ----------------------------------------------------------------------------------------------------------


async def test_a_thumb_down_asks_why_and_searches_wider(town: Town, app: App) -> None:
    async with town.bot() as journal:
        answer = await town.ask(ANNA, KNOWN)
        assert await pressed(town, journal, ANNA, answer, "👎") == say("rated_down", "ru")
        asked = town.server.messages[ANNA][answer["message_id"]]
        assert buttons(asked)[2:6] == [
            say(f"reason_{r}", "ru") for r in ("not_asked", "wrong", "outdated", "incomplete")
        ]
        assert await pressed(town, journal, ANNA, asked, say("reason_not_asked", "ru")) == say("reason_noted", "ru")
        assert buttons(town.server.messages[ANNA][answer["message_id"]])[:2] == ["👍", "👎 ✓"]
        offer = town.server.from_bot(ANNA)[-1]
        assert offer["text"] == say("rephrase", "ru")
        await pressed(town, journal, ANNA, offer, say("search_wider", "ru"))
        wide = town.server.from_bot(ANNA)[-1]
        assert query_in(wide["text"]) == KNOWN
        data = next(k["callback_data"] for row in offer["reply_markup"]["inline_keyboard"] for k in row)
        assert await forged(town, CHLOE, await town.ask(CHLOE, "/help"), data) == say("bad_button", "en")
        await town.quiet(journal)
        assert not any(query_in(message["text"]) for message in town.server.from_bot(CHLOE))
    person = app.ledger.people.find(f"telegram:{ANNA}")
    assert person is not None
    assert "not_asked" in {row["reason"] for row in app.ledger.people.archive(person.user_id)["feedback"]}


async def test_once_a_month_a_person_is_asked_how_content_they_are(
    town: Town, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talks, "SURVEY_AFTER", 2)
    app.verbs.talks._looked.clear()
    async with town.bot() as journal:
        town.server.add_user(777, "Пётр")
        await town.ask(777, KNOWN)
        app.verbs.talks._looked.clear()
        await town.ask(777, KNOWN)
        await town.quiet(journal)
        survey = town.server.from_bot(777)[-1]
        assert survey["text"] == say("survey", "ru")
        replayed = survey["reply_markup"]["inline_keyboard"][0][0]["callback_data"]
        await pressed(town, journal, 777, survey, "🙂")
        assert say("survey_thanks", "ru") in town.server.from_bot(777)[-1]["text"]
        app.verbs.talks._looked.clear()
        await town.ask(777, KNOWN)
        await town.quiet(journal)
        assert say("survey", "ru") not in town.server.from_bot(777)[-1]["text"]
        assert await forged(town, CHLOE, await town.ask(CHLOE, "/help"), replayed) == say("bad_button", "en")
    assert 4 in app.ledger.talks.scores(datetime.now(UTC) - timedelta(days=1))


async def test_menus_by_kind_of_chat_and_language(town: Town) -> None:
    async with town.bot():
        await town.ask(ANNA, "/help")
    named = {key: [one["command"] for one in menu] for key, menu in town.server.scoped_commands.items()}
    assert "mode" in named["all_chat_administrators", 0, "ru"]
    assert "mode" not in named["all_group_chats", 0, "ru"]
    assert {"alert", "missed", "new", "faq", "channel"} <= set(named["all_private_chats", 0, ""])
    assert not {"pause", "unanswered", "stats"} & set(named["all_private_chats", 0, ""])
    whisper = next(one for one in town.server.scoped_commands["all_group_chats", 0, ""] if one["command"] == "whisper")
    assert whisper["is_ephemeral"] is True
