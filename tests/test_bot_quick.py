"""The shortened way through routers leads to the same handlers as aiogram's own."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from aiogram import Bot, Dispatcher, F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command, CommandObject
from aiogram.types import ErrorEvent, Message, Update, User

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

    async def group(message: Message, event_router: Router) -> list[str]:
        return ["group", event_router.name]

    async def private(message: Message) -> list[str]:
        return ["private"]

    async def failed(message: Message) -> list[str]:
        raise ValueError("on purpose")

    async def told(event: ErrorEvent) -> list[str]:
        return [f"error {event.exception}"]

    first, second, inside, third = Router(), Router(), Router(), Router(name="third")
    first.message.filter(F.chat.type.in_({"group", "supergroup"}))
    first.message.register(skipped, F.text)
    first.message.register(long, F.text, said)
    first.message.middleware(counted)
    first.message.register(nothing, F.chat.type == "supergroup", Command("Find", "look", ignore_case=True))
    first.message.register(nothing, Command(re.compile(r"wi\w+"), prefix="/!"), F.text.as_("whole"), said)
    first.message.register(failed, F.text == "/fail")
    inside.message.register(nothing, Command("nothing"))
    inside.edited_message.register(private, F.chat.type == "private")
    second.include_router(inside)
    second.message.outer_middleware(counted)
    third.message.filter(F.chat.type.in_({"group", "supergroup"}))
    third.message.register(group, lambda message: message.message_id % 2 == 0)
    third.message.register(private, F.chat.type == "private")
    dispatcher = Dispatcher(disable_fsm=True, name="town")
    dispatcher.include_routers(first, second, third)
    dispatcher.edited_message.register(group, F.chat.type == "private", F.message_id % 2 == 0)
    dispatcher.error.register(told)
    return dispatcher


def spoken(first: int) -> list[bytes]:
    """Updates in a group with commands of every shape."""
    words = [
        *("/find a", "/FIND@postfinder_bot a b", "/look@other_bot", " /look", "/wide open spaces", "!wide open spaces"),
        *("/wi", "!find", "/", "@", "", "/fail", "/unknown to all, long", "/find@", "/nothing@PostFinder_bot"),
    ]
    chat = {"id": -1_001_500_000_000, "type": "supergroup", "title": "Соседи"}
    person = {"id": 500_001, "is_bot": False, "first_name": "П"}
    messages = [
        {"message_id": first + number, "date": 1_790_000_000, "from": person, "chat": chat, field: text}
        for number, (text, field) in enumerate((text, field) for text in words for field in ("text", "caption"))
    ]
    return [json.dumps({"update_id": one["message_id"], "message": one}).encode() for one in messages]


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_handler_takes_the_same_update(seed: int) -> None:
    bot = Bot("1000001:quick", session=Silence())
    bot._me = User(id=1000001, is_bot=True, first_name="PostFinder", username="postfinder_bot")
    usual, short = town(), town()
    quicken(short)
    raws = [*updates(150, seed), *spoken(150)]
    random.Random(seed).shuffle(raws)
    results = []
    for raw in raws:
        one = [
            await dispatcher.feed_update(bot, Update.model_validate(json.loads(raw), context={"bot": bot}))
            for dispatcher in (usual, short)
        ]
        assert one[0] == one[1]
        results.append(repr(one[0]))
    assert len(set(results)) >= 9
    assert {"['error on purpose']", "['middleware', 'command FIND']"} <= set(results)
