"""The shortened way through routers leads to the same handlers as aiogram's own."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from aiogram import Bot, Dispatcher, F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command, CommandObject
from aiogram.types import Message, Update, User

from appliance.bot.quick import quicken
from benchmarks.updates import Silence, updates


def town() -> Dispatcher:
    """A dispatcher with every kind of filter, middlewares, a skip and a router inside a router."""

    async def counted(handler: Any, event: Any, data: dict[str, Any]) -> Any:
        result = await handler(event, {**data, "seen": "yes"})
        return ["middleware", *result] if isinstance(result, list) else result

    async def said(message: Message, bot: Bot) -> dict[str, Any] | bool:
        return {"letters": len(message.text or "")} if len(message.text or "") > 12 else False

    async def skipped(message: Message) -> list[str]:
        raise SkipHandler

    async def nothing(message: Message, command: CommandObject) -> list[str]:
        return [f"command {command.command}"]

    async def long(message: Message, letters: int, seen: str = "no") -> list[str]:
        return [f"long {letters} {seen}"]

    async def group(message: Message) -> list[str]:
        return ["group"]

    async def private(message: Message) -> list[str]:
        return ["private"]

    first, second, inside, third = Router(), Router(), Router(), Router()
    first.message.filter(F.chat.type.in_({"group", "supergroup"}))
    first.message.register(skipped, F.text)
    first.message.register(long, F.text, said)
    first.message.middleware(counted)
    inside.message.register(nothing, Command("nothing"))
    inside.edited_message.register(private, F.chat.type == "private")
    second.include_router(inside)
    second.message.outer_middleware(counted)
    third.message.filter(F.chat.type.in_({"group", "supergroup"}))
    third.message.register(group, lambda message: message.message_id % 2 == 0)
    third.message.register(private, F.chat.type == "private")
    dispatcher = Dispatcher(disable_fsm=True)
    dispatcher.include_routers(first, second, third)
    return dispatcher


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_handler_takes_the_same_update(seed: int) -> None:
    bot = Bot("1000001:quick", session=Silence())
    bot._me = User(id=1000001, is_bot=True, first_name="PostFinder", username="postfinder_bot")
    usual, short = town(), town()
    quicken(short)
    raws = updates(150, seed)
    random.Random(seed).shuffle(raws)
    results = []
    for raw in raws:
        one = [
            await dispatcher.feed_update(bot, Update.model_validate(json.loads(raw), context={"bot": bot}))
            for dispatcher in (usual, short)
        ]
        assert one[0] == one[1]
        results.append(repr(one[0]))
    assert len({result.split()[0] for result in results}) >= 3
