"""The bot on the real appliance, over real HTTP to the loopback Bot API server: conversations as people have them."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from appliance import sample
from appliance.app import App
from appliance.bot import courtesies, outbox
from appliance.bot.render import rating_buttons
from appliance.bot.who import read_find
from appliance.errors import SlowDown, StoreError
from appliance.journal import Journal
from appliance.privacy import NOTICE_VERSION
from appliance.schema import Asker, Part, Question, QuestionRow
from appliance.texts import say
from tests.neighbours import (
    ANNA,
    BORIS,
    CHLOE,
    GROUP,
    KNOWN,
    SECRET,
    TEN,
    UNKNOWN,
    Town,
    buttons,
    open_town,
    people,
    recorded,
    slowly,
)
from tests.servers.botapi import DEFAULT_TOKEN, SCHEMA_FILE, BotApi
from tests.servers.botapi_limits import Fault, Limits
from tests.servers.botapi_text import clickable, utf16

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with open_town(tmp_path_factory.mktemp("bot")) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def town(app: App, tmp_path: Path) -> AsyncIterator[Town]:
    async with BotApi(limits=Limits(speed=1000)) as server:
        people(server)
        yield Town(server, tmp_path / "journal.sqlite", app.verbs)


async def test_start_registers_and_its_example_is_answered(town: Town, app: App) -> None:
    users = app.ledger.stats()["users"]
    async with town.bot() as journal:
        hello = await town.ask(ANNA, "/start")
        assert hello["text"] == say("start", "ru")
        (label,) = buttons(hello)
        query = town.server.press(ANNA, hello["message_id"], label)
        await town.quiet(journal)
        consent, asked, answer = town.server.from_bot(ANNA)[1:]
        assert buttons(consent) == [say("agree", "ru")]
        assert asked["text"].startswith(label.rstrip("…"))
        assert "https://t.me/" in str(clickable(answer))
        assert query in town.server.callback_answers
    assert app.ledger.stats()["users"] == users + 1


async def test_a_question_is_answered_with_links_quotes_and_buttons(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courtesies, "TYPING_AFTER_S", 30.0)
    async with town.bot():
        answer = await town.ask(ANNA, KNOWN)
    assert "масло" in answer["text"]
    assert f"https://t.me/{sample.USERNAME}/73" in clickable(answer)
    kinds = {entity["type"] for entity in answer["entities"]}
    assert {"text_link", "expandable_blockquote"} <= kinds
    assert buttons(answer)[:2] == ["👍", "👎"]
    assert answer["link_preview_options"] == {"is_disabled": True}
    assert (ANNA, "typing") not in town.server.actions  # a quick answer needs none
    assert "reply_to_message" not in answer


async def test_a_refusal_says_what_was_searched(town: Town) -> None:
    async with town.bot():
        answer = await town.ask(CHLOE, UNKNOWN)
        wider = say("search_wider", "en")
        town.server.press(CHLOE, answer["message_id"], wider)
        page = await town.server.until(lambda: town.server.messages[CHLOE].get(answer["message_id"] + 1))
    assert page["text"].startswith(f"🔎 {UNKNOWN}\n\n1. ")
    assert answer["text"].startswith(say("not_found", "en"))
    assert "posts, up to" in answer["text"]
    assert say("passed_on", "en") not in answer["text"]  # nobody is trusted with the queue here
    assert all(link.startswith("https://t.me/") for link in clickable(answer))
    assert buttons(answer) == ["👍", "👎", wider]


@pytest.mark.parametrize("faulty", [False, True])
async def test_ten_turns_by_three_people_at_once(
    town: Town, app: App, faulty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr("appliance.bot.intake.backoff_s", lambda failures: 0.05)
    if faulty:
        town.server.faults += [Fault(kind, ("sendMessage",), times=1) for kind in ("429", "500", "502")]  # surely
        town.server.faults += [Fault("429", ("sendMessage",), probability=0.04), Fault("500", probability=0.15)]
        town.server.faults += [Fault("502", probability=0.1), Fault("500", ("getUpdates",), probability=0.1)]
    rows: list[QuestionRow] = []
    votes = app.ledger.questions.votes()

    async def converse(who: int) -> None:
        last: int | None = None
        for question in TEN:
            answer = await town.ask(who, question, reply_to=last)
            last = answer["message_id"]
            town.server.press(who, last, "👍" if who != BORIS else "👎")

    async with town.bot(ask=recorded(town.verbs, app, rows)) as journal:
        await asyncio.gather(*(converse(who) for who in (ANNA, BORIS, CHLOE)))
        await town.quiet(journal)
        assert journal.counts()["inbox_quarantined"] == journal.counts()["outbox_failed"] == 0
    dialogues: dict[int | None, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.asked_at):
        dialogues.setdefault(row.user_id, []).append(row.text)
        assert row.door == "telegram"
    assert list(dialogues.values()) == [TEN, TEN, TEN]
    assert len({row.dialogue_id for row in rows}) == 3
    now = app.ledger.questions.votes()
    assert (now["up"] - votes["up"], now["down"] - votes["down"]) == (20, 10)
    for who, face in ((ANNA, "👍 ✓"), (BORIS, "👎 ✓"), (CHLOE, "👍 ✓")):
        answers = town.server.from_bot(who)
        assert len(answers) == 10
        assert all(face in buttons(answer) for answer in answers)
        seen = [message["from"]["id"] for message in town.server.seen(who)]
        assert seen == [who, town.server.me["id"]] * 10
    assert town.server.flood.violations == 0
    if faulty:
        assert {429, 500, 502} <= {status for *_, status in town.server.calls}


async def test_questions_sent_at_once_are_answered_in_order(town: Town, app: App) -> None:
    async with town.bot() as journal:
        alone = [(await town.ask(BORIS, question))["text"] for question in TEN[:5]]
        for question in TEN[:5]:
            town.server.say(ANNA, question)
        await town.quiet(journal)
    assert [message["text"] for message in town.server.from_bot(ANNA)] == alone


async def test_find_looks_in_one_channel(town: Town) -> None:
    async with town.bot():
        found = await town.ask(ANNA, f"/find @{sample.USERNAME} {KNOWN}")
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(found)
        elsewhere = await town.ask(ANNA, f"/find https://t.me/baraholka {KNOWN}")
        assert f"https://t.me/{sample.USERNAME}/73" not in clickable(elsewhere)
        everywhere = await town.ask(ANNA, f"/FIND@postfinder_bot {KNOWN}")
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(everywhere)
        assert (await town.ask(ANNA, f"/find @no_such_channel {KNOWN}"))["text"] == say("unknown_channel", "ru")
        for command in ("/find", "/find @baraholka"):
            assert (await town.ask(ANNA, command))["text"] == say("find_usage", "ru")


async def test_posts_of_strangers_add_no_link_mention_or_command(town: Town) -> None:
    async with town.bot():
        answer = await town.ask(ANNA, "Кто дёшево продаёт самокат Ксиоми?")
    assert "@scammer_shop" in answer["text"]
    assert clickable(answer)
    assert set(clickable(answer)) == {"https://t.me/baraholka/1"}


async def test_a_group_hears_only_when_spoken_to(town: Town, app: App) -> None:
    rows: list[QuestionRow] = []
    async with town.bot(ask=recorded(town.verbs, app, rows)) as journal:
        town.server.say(ANNA, KNOWN, chat_id=GROUP)
        town.server.say(ANNA, "/unknown", chat_id=GROUP)
        town.server.say(ANNA, "/find@other_bot вопрос", chat_id=GROUP)
        town.server.say(ANNA, "@postfinder_bots, привет", chat_id=GROUP)
        town.server.say(
            ANNA, "", chat_id=GROUP, photo=[{"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1}]
        )
        await town.quiet(journal)
        assert town.server.from_bot(GROUP) == []
        answer = await town.ask(ANNA, f"Скажи, @PostFinder_Bot: {KNOWN}", chat=GROUP)
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(answer)
        assert answer["reply_to_message"]["text"].startswith("Скажи")
        more = await town.ask(BORIS, "А чем ещё?", chat=GROUP, reply_to=answer["message_id"])
        assert more["reply_to_message"]["text"] == "А чем ещё?"
        thanked = await town.ask(BORIS, "Спасибо!", chat=GROUP, reply_to=more["message_id"])
        assert thanked["text"] == say("told_thanks", "ru")
        town.server.say(BORIS, "понятно", chat_id=GROUP, reply_to=more["message_id"])
        greeted = await town.ask(CHLOE, "@postfinder_bot hi!", chat=GROUP)
        assert greeted["text"] == say("told_hello", "en")
        question = town.server.say(BORIS, KNOWN, chat_id=GROUP)
        pointed = await town.ask(CHLOE, "@postfinder_bot", chat=GROUP, reply_to=question)
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(pointed)
        assert (await town.ask(ANNA, "/what@postfinder_bot", chat=GROUP))["text"] == say("unknown_command", "ru")
        elsewhere = await town.ask(ANNA, "/alert@postfinder_bot керамика", chat=GROUP)
        assert elsewhere["text"] == say("private_only", "ru")
        town.server.press(ANNA, answer["message_id"], "👍", chat_id=GROUP)
        await town.quiet(journal)
        assert buttons(town.server.from_bot(GROUP)[0])[:2] == ["👍", "👎"]  # everybody's buttons stay as they are
    assert [row.text for row in rows] == [f"Скажи, : {KNOWN}", "А чем ещё?", KNOWN]
    assert rows[0].dialogue_id == rows[1].dialogue_id != rows[2].dialogue_id


async def test_closed_channels_are_for_their_members_and_never_for_groups(town: Town, app: App) -> None:
    asked = "Какой код сейфа кооператива?"
    async with town.bot():
        assert "4815" not in (await town.ask(ANNA, asked))["text"]
        user = app.ledger.save_user(telegram_id=ANNA, username="anna", first_name="Анна", last_name=None, language="ru")
        assert user.user_id is not None
        app.ledger.grant(user.user_id, SECRET.id)
        try:
            assert "4815" in (await town.ask(ANNA, asked))["text"]
            assert "Совет кооператива" in (await town.ask(ANNA, "/help"))["text"]
            assert "4815" not in (await town.ask(ANNA, f"@postfinder_bot {asked}", chat=GROUP))["text"]
            assert "Совет кооператива" not in (await town.ask(ANNA, "/help", chat=GROUP))["text"]
        finally:
            app.ledger.revoke(user.user_id, SECRET.id)


PICTURE = {"photo": [{"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1}]}
STICKER = {"sticker": {"file_id": "f", "file_unique_id": "u", "type": "regular", "width": 1, "height": 1, "is_animated": False, "is_video": False}}  # fmt: skip  # noqa: E501
VOICE = {"voice": {"file_id": "f", "file_unique_id": "u", "duration": 1}}


@pytest.mark.parametrize(
    ("text", "more", "key"),
    [
        ("🙂🙂", {}, "told_noted"),
        ("👎👎", {}, "empty_question"),
        ("???", {}, "empty_question"),
        ("\u200b\u202e", {}, "empty_question"),
        ("слово " * 600, {}, "question_too_long"),
        ("/settings", {}, "unknown_command"),
        ("/find@other_bot вопрос", {}, "unknown_command"),
        ("", PICTURE, "text_only"),
        ("", STICKER, "text_only"),
        ("", VOICE, "text_only"),
        ("/help", {}, "help"),
    ],
)
async def test_what_cannot_be_answered_gets_a_friendly_word(
    town: Town, text: str, more: dict[str, Any], key: str
) -> None:
    async with town.bot():
        assert (await town.ask(ANNA, text, **more))["text"].startswith(say(key, "ru"))
        assert (await town.ask(CHLOE, text, **more))["text"].startswith(say(key, "en"))


async def test_a_caption_is_a_question_and_an_edit_is_not(town: Town) -> None:
    async with town.bot():
        answer = await town.ask(ANNA, "", caption=KNOWN, **PICTURE)
        assert f"https://t.me/{sample.USERNAME}/73" in clickable(answer)
        before = len(town.server.from_bot(ANNA))
        town.server.edit(ANNA, 1, "исправлено")
        await town.server.until(lambda: len(town.server.from_bot(ANNA)) > before)
        assert town.server.from_bot(ANNA)[before]["text"] == say("edited", "ru")


async def test_an_album_gets_one_word(town: Town) -> None:
    async with town.bot() as journal:
        for _ in range(3):
            town.server.say(ANNA, "", media_group_id="1", **PICTURE)
        town.server.say(ANNA, "", media_group_id="2", caption="🙂", **PICTURE)
        town.server.say(ANNA, "", media_group_id="2", **PICTURE)
        await town.quiet(journal)
    texts = [message["text"] for message in town.server.from_bot(ANNA)]
    assert texts == [say("text_only", "ru"), say("empty_question", "ru")]


@pytest.mark.parametrize("data", ["", "r:u:" + "0" * 31, "r:x:" + "0" * 32, "x:1:1:1", "x:0", "что-то", "/start", "{}"])
async def test_forged_buttons_are_answered_politely(town: Town, data: str) -> None:
    async with town.bot() as journal:
        answer = await town.ask(ANNA, KNOWN)
        query = town.server.press_data(ANNA, answer["message_id"], data)
        await town.server.until(lambda: query in town.server.callback_answers)
        assert town.server.callback_answers[query]["text"] == say("bad_button", "ru")
        await town.quiet(journal)
        assert journal.counts()["inbox_quarantined"] == 0


async def test_buttons_of_answers_and_posts_that_are_not_there(town: Town) -> None:
    async with town.bot():
        answer = await town.ask(ANNA, KNOWN)
        gone = rating_buttons("0" * 32).inline_keyboard[0][0].callback_data or ""
        closed = f"x:{SECRET.id}:1"
        for data, key in (
            (gone, "rating_lost"),
            (closed, "bad_button"),
            ("x:999999999999999:999999999999999", "bad_button"),
        ):
            query = town.server.press_data(ANNA, answer["message_id"], data)
            await town.server.until(lambda query=query: query in town.server.callback_answers)  # type: ignore[misc]
            assert town.server.callback_answers[query]["text"] == say(key, "ru")
        assert len(town.server.from_bot(ANNA)) == 1


async def test_errors_are_said_in_words(town: Town) -> None:
    def failing(error: Exception) -> Callable[[Question], AsyncIterator[Part]]:
        async def ask(question: Question) -> AsyncIterator[Part]:
            raise error
            yield

        return ask

    for error, words in (
        (SlowDown("too fast", retry_after_s=2.2), "Слишком часто. Повторите через 3 секунды."),
        (StoreError("the ledger is gone"), say("store", "ru")),
    ):
        async with town.bot(ask=failing(error)):
            assert (await town.ask(ANNA, KNOWN))["text"] == words
    with capture_logs() as logs:
        async with town.bot(ask=failing(RuntimeError("секретный текст"))) as journal:
            assert (await town.ask(ANNA, KNOWN))["text"] == say("error", "ru")
            (aside,) = journal.quarantined()
    assert aside.reason.startswith("RuntimeError at test_bot.py:")
    assert "секретный" not in repr(logs)
    assert KNOWN not in repr(logs)
    assert DEFAULT_TOKEN not in repr(logs)


@pytest.mark.skipif(not SCHEMA_FILE.exists(), reason="the Bot API's example updates are not here")
async def test_updates_of_every_kind_leave_the_bot_well(town: Town) -> None:
    lines = (SCHEMA_FILE.parent / "updates.jsonl").read_text("utf-8").splitlines()
    updates = [json.loads(line)["update"] for line in lines]
    with capture_logs() as logs:
        async with town.bot() as journal:
            for number, update in enumerate(updates):
                town.server.push_raw(json.dumps({**update, "update_id": 800_000_000 + number}), 800_000_000 + number)
            answer = await town.ask(ANNA, KNOWN)
            await town.quiet(journal)
            reasons = [update.reason for update in journal.quarantined()]
    assert f"https://t.me/{sample.USERNAME}/73" in clickable(answer)
    assert all(reason.startswith("unreadable: ") for reason in reasons)
    assert len(reasons) < 15
    assert not [line for line in logs if line["event"] in {"sender failed", "job failed"}]


async def test_a_slow_answer_shows_a_draft_and_ends_in_a_message(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesies, "DRAFT_AFTER_S", 0.05)
    monkeypatch.setattr(courtesies, "DRAFT_EVERY_S", 0.05)
    monkeypatch.setattr(courtesies, "TYPING_AFTER_S", 0.02)
    monkeypatch.setattr(courtesies, "TYPING_EVERY_S", 0.1)
    async with town.bot(ask=slowly(town.verbs, 0.2)) as journal:
        answer = await town.ask(ANNA, KNOWN)
        drafts = [draft for draft in town.server.drafts if draft["chat_id"] == ANNA]
        assert drafts
        assert len({draft["draft_id"] for draft in drafts}) == 1
        shown = (drafts[-1].get("text") or "").removesuffix(" …")
        assert shown
        assert shown in answer["text"].replace(" [1]\n\n", " ")
        assert len([action for action in town.server.actions if action[0] == ANNA]) > 1
        await town.ask(ANNA, f"@postfinder_bot {KNOWN}", chat=GROUP)
        await town.quiet(journal)
        assert all(draft["chat_id"] == ANNA for draft in town.server.drafts)


async def test_an_older_server_without_drafts_still_gets_the_answer(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courtesies, "DRAFT_AFTER_S", 0.02)
    monkeypatch.setattr(courtesies, "DRAFT_EVERY_S", 0.02)
    del town.server.schema._names["sendmessagedraft"]
    async with town.bot(ask=slowly(town.verbs, 0.15)):
        assert "масло" in (await town.ask(ANNA, KNOWN))["text"]
    assert town.server.drafts == []


async def test_consent_archive_and_erasure_by_buttons(town: Town, app: App) -> None:
    async with town.bot() as journal:
        await town.ask(BORIS, "/start")
        await town.quiet(journal)
        consent = town.server.from_bot(BORIS)[-1]
        town.server.press(BORIS, consent["message_id"], say("agree", "ru"))
        await town.quiet(journal)
        person = app.ledger.people.find(f"telegram:{BORIS}")
        assert person is not None
        given = app.ledger.people.consent(person.user_id)
        assert given is not None
        assert given[0] == NOTICE_VERSION
        assert "/forget" in (await town.ask(BORIS, "/privacy"))["text"]
        await town.ask(BORIS, KNOWN)
        town.server.faults.append(Fault("502", ("sendDocument",), times=2))
        town.server.say(BORIS, "/mydata")
        await town.server.until(lambda: town.server.documents)
        ((chat, packed),) = town.server.documents
        assert chat == BORIS
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            assert KNOWN in archive.read("postfinder.md").decode()
        not_allowed = await town.ask(BORIS, f"/forget https://t.me/{sample.USERNAME}/1")
        assert not_allowed["text"] == say("not_allowed", "ru")
        asked = await town.ask(BORIS, "/forget")
        town.server.faults.append(Fault("500", ("sendMessage",), times=2))
        town.server.press(BORIS, asked["message_id"], say("forget_yes", "ru"))
        await town.server.until(lambda: "Квитанция" in town.server.from_bot(BORIS)[-1]["text"])
        await town.quiet(journal)
    assert app.ledger.people.find(f"telegram:{BORIS}") is None


async def test_a_stop_leaves_unfinished_questions_for_the_next_start(town: Town) -> None:
    async with town.bot(ask=slowly(town.verbs, 30), grace_s=0.2) as journal:
        town.server.say(ANNA, KNOWN)
        town.server.say(ANNA, "/help")
        await town.server.until(lambda: not town.server.pending() and journal.counts()["inbox_pending"] == 2)
    assert town.server.from_bot(ANNA) == []
    async with town.bot() as journal:
        await town.server.until(lambda: len(town.server.from_bot(ANNA)) == 2)
        await town.quiet(journal)
    answer, help_ = town.server.from_bot(ANNA)
    assert "масло" in answer["text"]
    assert help_["text"].startswith("Что я умею")


async def test_a_question_cut_off_before_its_mark_keeps_one_row(
    town: Town, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = app.ledger.stats()["questions"]["total"]
    cut: list[object] = []

    def power_goes(self: Journal, updates: object, outgoing: object = ()) -> None:
        cut.append(updates)
        raise OSError("the power goes")

    monkeypatch.setattr(Journal, "done", power_goes)
    async with town.bot():
        for text in (KNOWN, "/digest"):
            town.server.say(ANNA, text)
        await town.server.until(lambda: len(cut) == 2)
    monkeypatch.undo()
    async with town.bot() as journal:
        await town.quiet(journal)
    assert len(town.server.from_bot(ANNA)) == 2
    assert app.ledger.stats()["questions"]["total"] == before + 2


async def test_a_stop_lets_quick_work_end(town: Town) -> None:
    async with town.bot(ask=slowly(town.verbs, 0.1)) as journal:
        town.server.say(ANNA, KNOWN)
        await town.server.until(lambda: not town.server.pending() and town.server.actions)
        assert journal.counts()["inbox_pending"] == 1
    with Journal.open(town.path) as journal:
        assert journal.counts()["inbox_pending"] == 0


async def test_a_long_answer_comes_in_order_and_whole(town: Town) -> None:
    async def ask(question: Question) -> AsyncIterator[Part]:
        async for part in town.verbs.ask(question):
            if hasattr(part, "answer"):
                sentences = tuple(
                    replace(part.answer.sentences[0], text=f"Часть {n}: {'🙂 длинный ' * 60}") for n in range(20)
                )
                yield replace(part, answer=replace(part.answer, sentences=sentences))
            else:
                yield part

    async with town.bot(ask=ask) as journal:
        await town.ask(ANNA, KNOWN)
        await town.quiet(journal)
    parts = town.server.from_bot(ANNA)
    assert len(parts) > 2
    assert all(utf16(part["text"]) <= 4096 for part in parts)
    assert [bool(buttons(part)) for part in parts] == [False] * (len(parts) - 1) + [True]
    everything = " ".join(part["text"] for part in parts)
    assert [everything.find(f"Часть {n}:") for n in range(20)] == sorted(
        everything.find(f"Часть {n}:") for n in range(20)
    )


@pytest.mark.parametrize(
    ("args", "read"),
    [
        ("вопрос", ((), "вопрос")),
        ("@sosedi вопрос о @dom", (("@sosedi",), "вопрос о @dom")),
        ("@a_channel https://t.me/b_channel/ t.me/b_channel вопрос", (("@a_channel", "@b_channel"), "вопрос")),
        ("@postfinder_bot @sosedi  два   слова", (("@sosedi",), "два слова")),
        ("https://evil.com/x вопрос", ((), "https://evil.com/x вопрос")),
        ("@ab вопрос", ((), "@ab вопрос")),
        ("", ((), "")),
    ],
)
async def test_find_is_read(args: str, read: tuple[tuple[str, ...], str]) -> None:
    assert read_find(args, "PostFinder_bot") == read


async def test_an_anonymous_admin_is_answered_without_being_registered(town: Town, app: App) -> None:
    town.server.add_user(1087968824, "Group", None, is_bot=True, username="GroupAnonymousBot")
    users = app.ledger.stats()["users"]
    asked: list[Asker] = []

    async def ask(question: Question) -> AsyncIterator[Part]:
        asked.append(question.asker)
        async for part in town.verbs.ask(question):
            yield part

    async with town.bot(ask=ask):
        await town.ask(1087968824, f"@postfinder_bot {KNOWN}", chat=GROUP)
    assert [asker.user_id for asker in asked] == [None]
    assert app.ledger.stats()["users"] == users
