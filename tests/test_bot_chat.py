"""The terminal chat draws what Telegram would show and does what is typed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import StringIO

import pytest
from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup
from rich.console import Console

from appliance.bot.pacing import Pace, Pacer
from appliance.bot.run import open_bot
from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.botapi_limits import Limits
from tests.servers.chat import GROUP, YOU, act, shown


@pytest.fixture
async def server() -> AsyncIterator[BotApi]:
    async with BotApi(limits=Limits(speed=1000)) as server:
        server.add_user(YOU, "Вы")
        server.add_group(GROUP, "Соседи")
        yield server


async def test_lines_become_messages_presses_and_edits(server: BotApi) -> None:
    bot = open_bot(DEFAULT_TOKEN, server.url, Pacer(Pace()))
    assert act(server, "привет", YOU) == YOU
    keys = [InlineKeyboardButton(text=name, callback_data=name) for name in ("да", "нет")]
    await bot.send_message(YOU, "🙂 ну?", reply_markup=InlineKeyboardMarkup(inline_keyboard=[keys]))
    for line in ("!2", ">2 почему", "=1 здравствуйте", "", "!en"):
        assert act(server, line, YOU) == YOU
    updates = await bot.get_updates()
    assert [update.event_type for update in updates] == ["message", "callback_query", "message", "edited_message"]
    assert updates[1].callback_query is not None
    assert updates[1].callback_query.data == "нет"
    assert server.seen(YOU)[0]["text"] == "здравствуйте"
    assert server.users[YOU]["language_code"] == "en"
    assert act(server, "!group", YOU) == GROUP
    assert act(server, "!me", GROUP) == YOU
    assert act(server, "!quit", YOU) is None
    for wrong in ("!9", "!x", ">99 нет такого"):
        with pytest.raises((LookupError, ValueError)):
            act(server, wrong, YOU)
    page = Console(file=StringIO(), width=80, record=True)
    page.print(shown(server.from_bot(YOU)[0], server.me["id"]))
    drawn = page.export_text()
    assert "🙂 ну?" in drawn
    assert "[1] да   [2] нет" in drawn
    client = await bot.session.create_session()  # type: ignore[attr-defined]
    await client.close()


def test_entities_are_drawn_where_telegram_puts_them() -> None:
    message = {
        "message_id": 1, "from": {"id": 1, "first_name": "Бот"}, "text": "🙂 тут ссылка",
        "entities": [{"type": "text_link", "offset": 3, "length": 3, "url": "https://t.me/a/1"}],
    }  # fmt: skip
    text = shown(message, 1).renderable
    assert [(span.start, span.end, "https://t.me/a/1" in str(span.style)) for span in text.spans] == [(2, 5, True)]  # type: ignore[union-attr]
