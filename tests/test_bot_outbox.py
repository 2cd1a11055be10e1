"""The sender over real HTTP: in order, through faults and limits, nothing dropped, nothing inside a retry_after."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiogram import Bot
from aiogram.exceptions import TelegramRetryAfter
from aiogram.methods import (
    AnswerCallbackQuery,
    EditMessageReplyMarkup,
    GetChatMember,
    Response,
    SendMessage,
    SetMyCommands,
    TelegramMethod,
)
from aiogram.types import BotCommand, InlineKeyboardMarkup, Message, ReplyParameters, User
from aiogram.utils.formatting import Code, Text
from aiohttp import ClientSession

from appliance.bot import outbox as outbox_room
from appliance.bot.courtesies import Courtesies
from appliance.bot.outbox import Outbox
from appliance.bot.outgoing import call_of, messages_for, outgoing
from appliance.bot.pacing import Pace, Pacer
from appliance.bot.patience import patiently
from appliance.bot.render import rating_buttons
from appliance.bot.run import open_bot
from appliance.journal import Journal, Outgoing
from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.botapi_limits import CROSSING_S, Fault, Limits

PEOPLE = (501, 502, 503)
FAST = Pace(speed=1000)


@pytest.fixture
async def server() -> AsyncIterator[BotApi]:
    async with BotApi(limits=Limits(speed=1000)) as server:
        for person in PEOPLE:
            server.add_user(person, f"Сосед {person}")
            server.say(person, "привет")
        yield server


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield journal


@asynccontextmanager
async def sending(server: BotApi, journal: Journal, pace: Pace = FAST) -> AsyncIterator[Outbox]:
    pacer = Pacer(pace)
    bot = open_bot(DEFAULT_TOKEN, server.url, pacer)
    sender = Outbox(bot, journal, pacer)
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        await sender.close(1)
        await task
        await close(bot)


async def close(bot: Bot) -> None:
    client: ClientSession = await bot.session.create_session()  # type: ignore[attr-defined]
    await client.close()


def texts(server: BotApi, chat_id: int) -> list[str]:
    return [message["text"] for message in server.from_bot(chat_id)]


def note(chat_id: int, text: str, **more: Any) -> Outgoing:
    return outgoing(SendMessage(chat_id=chat_id, text=text), **more)


def quiet(journal: Journal) -> Callable[[], bool]:
    def is_quiet() -> bool:
        counts = journal.counts()  # one look: between two a message may be postponed
        return not counts["outbox_queued"] and not counts["outbox_sending"]

    return is_quiet


async def test_each_chat_reads_its_messages_in_order(server: BotApi, journal: Journal) -> None:
    async with sending(server, journal) as sender:
        for number in range(10):
            journal.enqueue([note(person, f"{number}") for person in PEOPLE])
            sender.wake()
        await server.until(quiet(journal))
    assert all(texts(server, person) == [str(n) for n in range(10)] for person in PEOPLE)


async def test_faults_delay_messages_but_lose_none(
    server: BotApi, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_room, "FIRST_RETRY_S", 0.02)
    server.faults += [Fault("429", probability=0.05), Fault("500", probability=0.15), Fault("502", probability=0.15)]
    server.faults += [Fault("reset", probability=0.05), Fault("timeout", probability=0.05, hang_s=0.02)]
    journal.enqueue([note(person, f"{number}") for number in range(12) for person in PEOPLE])
    async with sending(server, journal):
        await server.until(quiet(journal), timeout_s=20)
    for person in PEOPLE:
        assert texts(server, person) == [str(n) for n in range(12)]
    assert server.flood.violations == 0
    assert {status for *_, status in server.calls} > {200, 429, 500, 502}


async def test_a_lost_reply_is_sent_again_and_counted(
    server: BotApi, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_room, "FIRST_RETRY_S", 0.02)
    server.faults.append(Fault("lost", times=1))
    journal.enqueue([note(501, "раз"), note(501, "два")])
    async with sending(server, journal):
        await server.until(quiet(journal))
    assert journal.counts()["maybe_twice"] == 1
    assert texts(server, 501) == ["раз", "раз", "два"]


async def test_a_refused_connection_is_no_maybe_twice(
    server: BotApi, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_room, "FIRST_RETRY_S", 0.02)
    port = int(server.url.rsplit(":", 1)[1])
    await server.stop()
    journal.enqueue([note(501, "раз")])
    async with sending(server, journal):
        await asyncio.sleep(0.2)
        await server.start(port)
        await server.until(quiet(journal))
    assert journal.counts()["maybe_twice"] == 0
    assert texts(server, 501) == ["раз"]


async def test_retry_after_holds_one_chat_and_is_obeyed(server: BotApi, journal: Journal) -> None:
    server.faults.append(Fault("429", times=1))
    journal.enqueue([note(501, "раз"), note(501, "два"), note(502, "сразу")])
    began = time.monotonic()
    async with sending(server, journal):
        await server.until(quiet(journal))
    assert time.monotonic() - began >= 1
    assert [chat for _, _, chat, status in server.calls if status == 200 and chat] == ["502", "501", "501"]
    assert texts(server, 501) == ["раз", "два"]
    assert server.flood.violations == 0


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_wait_asked_of_any_call_about_a_chat_holds_its_messages(
    server: BotApi, journal: Journal, is_told: bool
) -> None:
    """The control's pacer hears of the outbox's own refusals alone."""
    server.faults.append(Fault("429", ("getChatMember",), times=1))
    async with sending(server, journal) as sender:
        bot = sender._bot if is_told else open_bot(DEFAULT_TOKEN, server.url, Pacer(FAST))
        asked = asyncio.create_task(patiently(bot, GetChatMember(chat_id=501, user_id=501), 5.0))
        await server.until(lambda: server.calls)
        await asyncio.sleep(CROSSING_S + 0.05)
        journal.enqueue([note(501, "раз")])
        sender.wake()
        await server.until(quiet(journal))
        await asked
        if not is_told:
            await close(bot)
    assert texts(server, 501) == ["раз"]
    assert (server.flood.violations == 0) == is_told


async def test_whom_a_wait_holds(server: BotApi) -> None:
    pacer = Pacer(FAST)
    bot = open_bot(DEFAULT_TOKEN, server.url, pacer)
    calls: list[tuple[TelegramMethod[Any], list[bool]]] = [
        (SetMyCommands(commands=[]), [False, False]),
        (SendMessage(chat_id=501, text="раз"), [True, False]),
        (AnswerCallbackQuery(callback_query_id="1"), [True, True]),
    ]
    for call, held in calls:
        server.faults.append(Fault("429", times=1))
        with pytest.raises(TelegramRetryAfter):
            await bot(call)
        assert [pacer.is_blocked(person) for person in (501, 502)] == held
    await close(bot)


@pytest.mark.parametrize("is_paced", [True, False])
async def test_what_may_lie_in_no_outbox_is_paced_too(is_paced: bool) -> None:
    """The control sends it as soon as it is asked to."""
    async with BotApi() as server:
        server.add_user(501, "Анна")
        server.say(501, "привет")
        pacer = Pacer(Pace())
        bot = open_bot(DEFAULT_TOKEN, server.url, pacer)
        courtesies = Courtesies(bot, pacer)
        for number in range(5):
            call = SendMessage(chat_id=501, text=f"{number}")
            assert await (courtesies.insist(call, 9.0) if is_paced else patiently(bot, call, 9.0)) is not None
        pacer.block(501, 9.0)
        assert await courtesies.insist(call, 0.1) is None
        await close(bot)
        assert texts(server, 501) == [str(n) for n in range(5)]
        assert (server.flood.refused == 0) == is_paced


async def test_the_real_pace_keeps_the_real_limits(journal: Journal) -> None:
    async with BotApi() as server:
        for chat in range(-25, 0):
            server.add_group(chat, "Соседи")
        journal.enqueue([note(chat, f"{n}") for n in range(3) for chat in range(-25, 0)])
        async with sending(server, journal, Pace()):
            await server.until(quiet(journal))
        assert server.flood.refused == 0
        sent_at = [at for at, *_ in server.calls]
        assert len(sent_at) == 75
        assert 75 / (sent_at[-1] - sent_at[0]) > 28  # three windows of 28 take two seconds


async def test_an_unpaced_sender_breaks_the_limits(journal: Journal) -> None:
    async with BotApi() as server:
        server.add_group(-1, "Соседи")
        journal.enqueue([note(-1, f"{n}") for n in range(5)])
        async with sending(server, journal, FAST):
            await server.until(lambda: server.flood.refused)
        assert server.flood.refused


async def test_what_telegram_refuses_for_good_does_not_hold_up_the_rest(server: BotApi, journal: Journal) -> None:
    server.blocked_by.add(501)
    journal.enqueue([note(501, "раз"), note(404, "два"), note(502, "три"), Outgoing(503, "noSuchMethod", {})])
    journal.enqueue([note(503, "четыре")])
    async with sending(server, journal):
        await server.until(quiet(journal))
    assert (texts(server, 502), texts(server, 503)) == (["три"], ["четыре"])
    assert journal.counts()["outbox_failed"] == 3


async def test_answers_go_before_edits(server: BotApi, journal: Journal) -> None:
    journal.enqueue([note(501, "раньше")])
    async with sending(server, journal):
        await server.until(quiet(journal))
    message_id = server.from_bot(501)[0]["message_id"]
    edit = EditMessageReplyMarkup(chat_id=501, message_id=message_id, reply_markup=rating_buttons("0" * 32, "up"))
    journal.enqueue([outgoing(edit, priority="draft"), note(501, "ответ")])
    async with sending(server, journal):
        await server.until(quiet(journal))
    assert [method for _, method, _, _ in server.calls][-2:] == ["sendMessage", "editMessageReplyMarkup"]
    journal.enqueue([outgoing(edit, priority="draft")])
    async with sending(server, journal):
        await server.until(quiet(journal))
    assert journal.counts()["outbox_failed"] == 0  # "message is not modified" is what was wanted


async def test_a_group_is_followed_to_its_new_id(server: BotApi, journal: Journal) -> None:
    server.add_group(-77, "Соседи", kind="group")
    server.migrate(-77, -10077)
    reply = ReplyParameters(message_id=1, allow_sending_without_reply=True)
    journal.enqueue([outgoing(SendMessage(chat_id=-77, text="ответ", reply_parameters=reply))])
    async with sending(server, journal):
        await server.until(lambda: texts(server, -10077))
    assert texts(server, -10077) == ["ответ"]


async def test_a_restart_goes_on_and_counts_what_was_half_sent(server: BotApi, tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j.sqlite") as journal:
        first, _ = journal.enqueue([note(501, "раз"), note(501, "два")])
        journal.mark_sending(first)
    with Journal.open(tmp_path / "j.sqlite") as journal:
        assert journal.maybe_twice == (first,)
        async with sending(server, journal):
            await server.until(quiet(journal))
        assert journal.counts()["maybe_twice"] == 1
    assert texts(server, 501) == ["раз", "два"]


async def test_sent_answers_remember_their_dialogue(server: BotApi, journal: Journal) -> None:
    journal.enqueue([note(501, "ответ", dialogue_id="d1"), note(501, "просто так")])
    async with sending(server, journal):
        await server.until(quiet(journal))
    answer, other = server.from_bot(501)
    assert journal.dialogue_of(501, answer["message_id"]) == "d1"
    assert journal.dialogue_of(501, other["message_id"]) is None
    assert journal.dialogue_of(502, answer["message_id"]) is None
    journal.prune(keep_s=-1, remember_s=60)
    assert journal.dialogue_of(501, answer["message_id"]) == "d1"
    journal.prune(keep_s=-1, remember_s=-1)
    assert journal.dialogue_of(501, answer["message_id"]) is None


def test_calls_are_written_without_the_bot_defaults_and_read_back() -> None:
    chat = {"id": -5, "type": "supergroup", "title": "Соседи"}
    message = Message.model_validate(
        {"message_id": 9, "date": 0, "chat": chat, "message_thread_id": 3, "is_topic_message": True, "text": "?"}
    )
    first, last = messages_for(
        message, [Text("а ", Code("б")), Text("в")], markup=rating_buttons("0" * 32), dialogue_id="d"
    )
    assert first.payload == {
        "chat_id": -5, "message_thread_id": 3, "text": "а б",
        "entities": [{"type": "code", "offset": 2, "length": 1}],
        "reply_parameters": {"message_id": 9, "allow_sending_without_reply": True},
    }  # fmt: skip
    assert set(last.payload) == {"chat_id", "message_thread_id", "text", "reply_markup"}
    assert call_of(first.method, first.payload) == SendMessage.model_validate(first.payload)
    assert (first.chat_id, first.dialogue_id, first.priority) == (-5, "d", "final")
    commands = outgoing(SetMyCommands(commands=[BotCommand(command="find", description="x")]))
    assert commands.chat_id == 0
    markup = InlineKeyboardMarkup.model_validate(last.payload["reply_markup"])
    assert len(markup.inline_keyboard[0]) == 2
    for method, payload in (("nothing", {}), ("telegramMethod", {}), ("sendMessage", {"chat_id": []})):
        with pytest.raises(ValueError, match=r"."):
            call_of(method, payload)


async def test_models_of_replies_are_built_once() -> None:
    async with BotApi() as server:
        bot = open_bot(DEFAULT_TOKEN, server.url, Pacer(Pace()))
        await bot.get_me()
        built = weakref.ref(Response[User])
        gc.collect()
        assert built() is not None
        await close(bot)
