"""The loopback Bot API server behaves as Telegram does, seen through aiogram and through bare HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiogram import Bot
from aiogram import methods as aiogram_methods
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramBadRequest,
    TelegramConflictError,
    TelegramForbiddenError,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.methods import Response, TelegramMethod
from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup, MessageEntity, ReplyParameters, Update
from aiohttp import web

from tests.servers.botapi import DEFAULT_TOKEN, SCHEMA_FILE, BotApi
from tests.servers.botapi_limits import CROSSING_S, Fault, Limits
from tests.servers.botapi_schema import BadCallError, Schema
from tests.servers.botapi_text import checked_text, clickable, find_entities

ANNA = 501
needs_schema = pytest.mark.skipif(not SCHEMA_FILE.exists(), reason="the Bot API schema is not here")


@pytest.fixture
async def server() -> AsyncIterator[BotApi]:
    async with BotApi(limits=Limits(speed=1000)) as server:
        server.add_user(ANNA, "Анна")
        yield server


@pytest.fixture
async def bot(server: BotApi) -> AsyncIterator[Bot]:
    bot = bot_for(server)
    yield bot
    await close(bot)


def bot_for(server: BotApi, token: str = DEFAULT_TOKEN) -> Bot:
    return Bot(token, session=AiohttpSession(api=TelegramAPIServer.from_base(server.url), timeout=5))


async def close(bot: Bot) -> None:
    """Close without the quarter of a second that aiogram waits for TLS."""
    assert isinstance(bot.session, AiohttpSession)
    await (await bot.session.create_session()).close()


def keyboard(*data: str) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text=d[:5], callback_data=d) for d in data]])


async def test_updates_stay_until_a_higher_offset_confirms_them(server: BotApi, bot: Bot) -> None:
    for number in range(3):
        server.say(ANNA, f"вопрос {number}")
    first = await bot.get_updates(limit=2)
    again = await bot.get_updates(limit=2)
    assert [u.update_id for u in first] == [u.update_id for u in again]
    rest = await bot.get_updates(offset=first[-1].update_id + 1)
    assert [u.message.text for u in rest if u.message] == ["вопрос 2"]
    assert server.pending() == [rest[0].update_id]


async def test_long_polling_wakes_up_on_a_message(server: BotApi, bot: Bot) -> None:
    waiting = asyncio.create_task(bot.get_updates(timeout=5))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    server.say(ANNA, "привет 🙂 @postfinder_bot /help")
    (update,) = await asyncio.wait_for(waiting, 4)
    assert update.message is not None
    assert [entity.extract_from(update.message.text or "") for entity in update.message.entities or []] == [
        "@postfinder_bot",
        "/help",
    ]


async def test_a_second_poller_ends_the_first(server: BotApi, bot: Bot) -> None:
    first = asyncio.create_task(bot.get_updates(timeout=5))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(bot.get_updates())
    with pytest.raises(TelegramConflictError):
        await first
    assert await second == []


async def test_refusals(server: BotApi, bot: Bot) -> None:
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await bot.send_message(42, "x")
    with pytest.raises(TelegramForbiddenError, match="can't initiate"):
        await bot.send_message(ANNA, "x")
    server.say(ANNA, "привет")
    for text, why in (("  ", "text is empty"), ("я" * 4097, "too long")):
        with pytest.raises(TelegramBadRequest, match=why):
            await bot.send_message(ANNA, text)
    with pytest.raises(TelegramBadRequest, match="middle of a UTF-16"):
        await bot.send_message(ANNA, "🙂🙂", entities=[MessageEntity(type="bold", offset=1, length=1)])
    with pytest.raises(TelegramBadRequest, match="ends after the end"):
        await bot.send_message(ANNA, "ab", entities=[MessageEntity(type="bold", offset=0, length=3)])
    with pytest.raises(TelegramBadRequest, match="BUTTON_DATA_INVALID"):
        await bot.send_message(ANNA, "ab", reply_markup=keyboard("я" * 33))
    with pytest.raises(TelegramBadRequest, match="replied not found"):
        await bot.send_message(ANNA, "ab", reply_parameters=ReplyParameters(message_id=99))
    stranger = bot_for(server, "1:wrong")
    with pytest.raises(TelegramUnauthorizedError):
        await stranger.get_me()
    await close(stranger)
    server.blocked_by.add(ANNA)
    with pytest.raises(TelegramForbiddenError, match="blocked"):
        await bot.send_message(ANNA, "x")


async def test_buttons_and_edits(server: BotApi, bot: Bot) -> None:
    server.say(ANNA, "привет")
    sent = await bot.send_message(ANNA, "ответ", reply_markup=keyboard("r:u:1", "r:d:1"))
    query_id = server.press(ANNA, sent.message_id, "r:u:1")
    (_, update) = await bot.get_updates()
    assert update.callback_query is not None
    assert update.callback_query.data == "r:u:1"
    assert await bot.answer_callback_query(query_id, text="спасибо")
    with pytest.raises(TelegramBadRequest, match="query is too old"):
        await bot.answer_callback_query(query_id)
    await bot.edit_message_reply_markup(chat_id=ANNA, message_id=sent.message_id, reply_markup=keyboard("r:u:1"))
    with pytest.raises(TelegramBadRequest, match="not modified"):
        await bot.edit_message_reply_markup(chat_id=ANNA, message_id=sent.message_id, reply_markup=keyboard("r:u:1"))
    assert len(server.from_bot(ANNA)[0]["reply_markup"]["inline_keyboard"][0]) == 1
    await bot.delete_message(ANNA, sent.message_id)
    assert server.from_bot(ANNA) == []


async def test_limits_refuse_and_count_calls_inside_the_wait() -> None:
    async with BotApi(limits=Limits(chat_burst=2)) as server:
        server.add_user(ANNA, "Анна")
        server.say(ANNA, "привет")
        bot = bot_for(server)
        for _ in range(2):
            await bot.send_message(ANNA, "x")
        with pytest.raises(TelegramRetryAfter) as refusal:
            await bot.send_message(ANNA, "x")
        assert refusal.value.retry_after == 1
        assert (server.flood.refused, server.flood.violations) == (1, 0)
        with pytest.raises(TelegramRetryAfter):
            await bot.send_message(ANNA, "x")
        assert server.flood.violations == 0  # as if it had been sent before the refusal was heard
        await asyncio.sleep(CROSSING_S + 0.05)
        with pytest.raises(TelegramRetryAfter):
            await bot.send_message(ANNA, "x")
        assert server.flood.violations == 1
        await close(bot)


async def test_a_group_takes_twenty_a_minute() -> None:
    async with BotApi(limits=Limits(chat_per_s=1000, chat_burst=1000)) as server:
        server.add_group(-100500, "Соседи")
        bot = bot_for(server)
        for _ in range(20):
            await bot.send_message(-100500, "x")
        with pytest.raises(TelegramRetryAfter):
            await bot.send_message(-100500, "x")
        await close(bot)


@pytest.mark.parametrize(
    ("kind", "error", "sent"),
    [
        ("429", TelegramRetryAfter, 0),
        ("500", TelegramServerError, 0),
        ("502", ClientDecodeError, 0),
        ("reset", TelegramNetworkError, 0),
        ("timeout", TelegramNetworkError, 0),
        ("lost", TelegramNetworkError, 1),
    ],
)
async def test_faults_strike_as_often_as_told(
    server: BotApi, bot: Bot, kind: str, error: type[Exception], sent: int
) -> None:
    server.say(ANNA, "привет")
    server.faults.append(Fault(kind, methods=("sendMessage",), times=1, hang_s=0.05))  # type: ignore[arg-type]
    with pytest.raises(error):
        await bot.send_message(ANNA, "x")
    assert len(server.from_bot(ANNA)) == sent
    assert (await bot.get_me()).username == "postfinder_bot"
    await asyncio.sleep(1 if kind == "429" else 0)
    await bot.send_message(ANNA, "x")
    assert len(server.from_bot(ANNA)) == sent + 1


async def test_webhook_is_posted_with_its_secret_and_repeated_until_taken(server: BotApi, bot: Bot) -> None:
    got: list[tuple[str | None, dict]] = []  # type: ignore[type-arg]

    async def take(request: web.Request) -> web.Response:
        got.append((request.headers.get("X-Telegram-Bot-Api-Secret-Token"), await request.json()))
        if len(got) == 1:
            return web.Response(status=503)
        return web.json_response({"method": "sendMessage", "chat_id": ANNA, "text": "из ответа"})

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    await bot.set_webhook(f"http://127.0.0.1:{port}/hook", secret_token="s3cret")
    with pytest.raises(TelegramConflictError, match="webhook is active"):
        await bot.get_updates()
    server.say(ANNA, "вопрос")
    await server.until(lambda: server.from_bot(ANNA))
    assert [secret for secret, _ in got] == ["s3cret", "s3cret"]
    assert got[0][1] == got[1][1]
    assert server.pending() == []
    await bot.delete_webhook()
    await runner.cleanup()


async def test_a_group_that_became_a_supergroup_says_where_it_went(server: BotApi) -> None:
    server.add_group(-77, "Соседи", kind="group")
    server.migrate(-77, -10077)
    async with aiohttp.ClientSession() as client:
        answer = await client.post(f"{server.url}/bot{server.token}/sendMessage", json={"chat_id": -77, "text": "x"})
        body = await answer.json()
    assert (answer.status, body["parameters"]) == (400, {"migrate_to_chat_id": -10077})


async def test_another_process_can_act_for_people(server: BotApi) -> None:
    async with aiohttp.ClientSession() as client:
        said = await client.post(f"{server.url}/_control/say", json={"user_id": ANNA, "text": "вопрос"})
        assert (await said.json())["result"] == 1
        shown = await client.get(f"{server.url}/_control/transcript", params={"chat_id": ANNA})
        assert [message["text"] for message in (await shown.json())["result"]] == ["вопрос"]
        assert (await client.post(f"{server.url}/_control/say", json={"nobody": 1})).status == 400
        assert (await client.post(f"{server.url}/_control/explode", json={})).status == 400


@needs_schema
async def test_every_method_answers_with_a_result_that_aiogram_can_read(server: BotApi) -> None:
    server.say(ANNA, "привет")
    methods = {
        kind.__api_method__: kind
        for name in aiogram_methods.__all__
        if isinstance(kind := getattr(aiogram_methods, name), type)
        and issubclass(kind, TelegramMethod)
        and kind is not TelegramMethod
    }
    checked = 0
    for name, described in server.schema.methods.items():
        if name in server._methods:
            continue
        given = {
            field["name"]: server.schema.sample(field["types"])
            for field in described.get("fields", [])
            if field["required"]
        }
        given.update({"chat_id": ANNA} if "chat_id" in given else {})
        result = await server._do(name, server.schema.check(name, given))
        response = Response[methods[name].__returning__]  # type: ignore[name-defined]
        response.model_validate({"ok": True, "result": result})
        checked += 1
    assert checked > 150


@needs_schema
@pytest.mark.parametrize(
    ("method", "given", "why"),
    [
        ("sendMessage", {"chat_id": 1}, "text is empty"),
        ("sendMessage", {"text": "x"}, "chat_id is empty"),
        ("sendMessage", {"chat_id": True, "text": "x"}, "chat_id"),
        ("sendMessage", {"chat_id": 1, "text": "x", "reply_to_message_id": 5}, "no parameter"),
        ("sendMessage", {"chat_id": 1, "text": "x", "entities": '[{"type":"bold","offset":0}]'}, "length is missing"),
        ("sendMessage", {"chat_id": 1, "text": "x", "entities": "nonsense"}, "Array of MessageEntity"),
        ("answerCallbackQuery", {"text": "x"}, "callback_query_id is required"),
    ],
)
def test_calls_against_the_schema_are_refused(method: str, given: dict[str, object], why: str) -> None:
    with pytest.raises(BadCallError, match=why):
        Schema(SCHEMA_FILE).check(method, given)


def test_without_the_schema_the_usual_methods_are_still_checked() -> None:
    schema = Schema(None)
    assert schema.check(schema.method("sendmessage"), {"chat_id": "5", "text": "7"}) == {"chat_id": 5, "text": "7"}
    with pytest.raises(BadCallError, match="empty"):
        schema.check("sendMessage", {"chat_id": "5"})
    with pytest.raises(BadCallError, match="Not Found"):
        schema.method("sendNothing")


def test_links_that_telegram_finds_by_itself() -> None:
    text = "🙂 http://a.b/c, evil.com и @friend /start #тег почта me@site.org, 1.5 и v2.0"
    message = {"text": text, "entities": find_entities(text)}
    assert clickable(message) == ["http://a.b/c,", "evil.com", "@friend", "/start", "me@site.org"]
    shown, entities = checked_text("код evil.com", [{"type": "code", "offset": 4, "length": 8}])
    assert clickable({"text": shown, "entities": entities}) == []
    with pytest.raises(BadCallError, match="cross"):
        checked_text("abcd", [{"type": "bold", "offset": 0, "length": 3}, {"type": "code", "offset": 2, "length": 2}])


@needs_schema
async def test_own_updates_keep_to_the_schema(server: BotApi, bot: Bot) -> None:
    server.add_group(-100500, "Соседи")
    server.say(ANNA, "/find @канал вопрос", chat_id=-100500)
    server.say(ANNA, "привет")
    sent = await bot.send_message(ANNA, "ответ", reply_markup=keyboard("a"))
    server.press(ANNA, sent.message_id, "a")
    server.edit(ANNA, 1, "исправлено")
    updates = [update.model_dump(exclude_none=True, by_alias=True, mode="json") for update in await bot.get_updates()]
    assert len(updates) == 4
    for raw in server._updates.values():
        assert server.schema.check_object("Update", json.loads(raw)) == []
    assert all(isinstance(Update.model_validate(update), Update) for update in updates)
