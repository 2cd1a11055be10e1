"""Updates that Telegram posts: a secret, a limit, on disk before 200; the same journal as fetched ones."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from appliance.app import App, open_doors
from appliance.bot.pacing import Pace, Pacer
from appliance.bot.run import introduce, open_bot
from appliance.bot.webhook import Webhook
from appliance.errors import StartupError
from appliance.journal import Journal
from appliance.web.guard import guard
from appliance.web.receiving import MAX_BYTES, PATH, receiving
from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.botapi_limits import Limits

SECRET = "s3cret_" * 5
HEADERS = {"X-Telegram-Bot-Api-Secret-Token": SECRET}
URL = "https://bot.example.org/telegram/webhook"
ANNA = 501


@pytest.fixture
def hook(tmp_path: Path) -> Any:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield Webhook.of(URL, SECRET, token=DEFAULT_TOKEN, journal=journal)


@asynccontextmanager
async def client_of(hook: Webhook) -> AsyncIterator[httpx.AsyncClient]:
    api = FastAPI()
    api.include_router(receiving(hook))
    app = guard(api, max_body_bytes=1000, larger={PATH: MAX_BYTES})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://bot") as client:
        yield client


def update(update_id: int, text: str = "Чем покрыть доску?") -> bytes:
    return json.dumps({"update_id": update_id, "message": {"text": text}}).encode()


async def test_an_update_is_on_disk_once_before_it_is_acknowledged(hook: Webhook) -> None:
    async with client_of(hook) as client:
        for _ in range(3):
            assert (await client.post(PATH, content=update(7), headers=HEADERS)).status_code == 200
        assert (await client.post(PATH, content=update(8, "х" * 100_000), headers=HEADERS)).status_code == 200
    assert hook.arrived.is_set()
    assert [json.loads(item.raw)["update_id"] for item in hook.journal.next_pending()] == [7, 8]


@pytest.mark.parametrize("given", [None, "", "wrong", SECRET + "x", SECRET[:-1], "секрет", "\xff"])
async def test_without_the_secret_nothing_is_taken(hook: Webhook, given: str | None) -> None:
    headers = [] if given is None else [(b"X-Telegram-Bot-Api-Secret-Token", given.encode())]
    async with client_of(hook) as client:
        assert (await client.post(PATH, content=update(7), headers=headers)).status_code == 401
    assert hook.journal.next_pending() == []


async def test_a_body_beyond_the_limit_is_refused(hook: Webhook) -> None:
    async with client_of(hook) as client:
        for body in (b" " * (MAX_BYTES + 1), update(9, "x" * MAX_BYTES)):
            assert (await client.post(PATH, content=body, headers=HEADERS)).status_code == 413
    assert hook.journal.next_pending() == []


async def test_what_cannot_be_read_is_quarantined_so_that_the_rest_flow_on(hook: Webhook) -> None:
    async with client_of(hook) as client:
        assert (await client.post(PATH, content=b'{"update_id": 9, "message": ', headers=HEADERS)).status_code == 200
        assert (await client.post(PATH, content=b"[]", headers=HEADERS)).status_code == 400
        assert (await client.post(PATH, content=update(10), headers=HEADERS)).status_code == 200
    assert [item.update_id for item in hook.journal.quarantined()] == [9]
    assert [item.update_id for item in hook.journal.next_pending()] == [10]


JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
ALMOST = st.binary(max_size=40).map(lambda tail: b'{"update_id": 5' + tail)
NUMBERED = st.integers().map(lambda number: b'{"update_id": %d}' % number)


@given(body=st.binary(max_size=300) | JSON | NUMBERED | ALMOST)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_body_is_a_server_error(hook: Webhook, body: bytes) -> None:
    async with client_of(hook) as client:
        assert (await client.post(PATH, content=body, headers=HEADERS)).status_code in {200, 400}


async def test_true_is_no_update_id(hook: Webhook) -> None:
    assert await hook.take(b'{"update_id": true, "message": {}}') == "unreadable"
    assert await hook.take(b'{"update_id": 1, "message": {}}') == "taken"
    assert [update.update_id for update in hook.journal.next_pending()] == [1]


async def test_a_journal_that_refuses_makes_telegram_repeat(hook: Webhook) -> None:
    hook.journal.close()
    async with client_of(hook) as client:
        assert (await client.post(PATH, content=update(7), headers=HEADERS)).status_code == 503


@pytest.mark.parametrize(
    ("url", "secret", "word"),
    [(URL, "", "openssl"), (URL, "short", "openssl"), (URL, "a b" * 20, "openssl"), ("http://x.org/", SECRET, "https")],
)
def test_settings_that_would_leave_it_open_are_refused(hook: Webhook, url: str, secret: str, word: str) -> None:
    with pytest.raises(StartupError, match=word):
        Webhook.of(url, secret, token=DEFAULT_TOKEN, journal=hook.journal)


async def test_telegram_is_told_the_address_and_the_secret_and_polling_takes_them_back(hook: Webhook) -> None:
    async with BotApi() as server:
        bot = open_bot(DEFAULT_TOKEN, server.url, Pacer(Pace()))
        await introduce(bot, hook)
        assert server.webhook == {"url": URL, "secret_token": SECRET, "max_connections": None}
        await introduce(bot)
        assert server.webhook is None
        await bot.session.close()


async def test_a_question_posted_by_telegram_is_answered(app: App) -> None:
    async with BotApi(limits=Limits(speed=1000)) as server:
        server.add_user(ANNA, "Анна")
        with_hook = {
            "telegram_token": SecretStr(DEFAULT_TOKEN),
            "telegram_api": server.url,
            "telegram_webhook_secret": SecretStr(SECRET),
        }
        # The port is known only once the door is open: Telegram posts through a name that leads there, as a proxy does.
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with_hook["telegram_webhook_url"] = f"http://127.0.0.1:{port}{PATH}"
        served = replace(app, config=app.config.model_copy(update=with_hook))
        async with open_doors(served, port=port):
            await server.until(lambda: server.webhook is not None, 30)
            server.say(ANNA, "/help")
            await server.until(lambda: bool(server.from_bot(ANNA)), 30)
        assert "Что я умею" in server.from_bot(ANNA)[-1]["text"]
        assert not server.pending()
