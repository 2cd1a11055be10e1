"""The menus of commands: what Telegram offers behind the slash, by kind of chat and language."""

from __future__ import annotations

from collections.abc import Iterator

from aiogram.methods import SetMyCommands
from aiogram.types import (
    BotCommand,
    BotCommandScopeAllChatAdministrators,
    BotCommandScopeAllGroupChats,
    BotCommandScopeAllPrivateChats,
)

from appliance.schema import Language
from appliance.texts import say

PRIVATE = (
    "find", "search", "digest", "missed", "alert", "alerts", "related", "story", "quiet", "new", "help", "start",
    "privacy", "mydata", "forget",
)  # fmt: skip
GROUP = ("find", "whisper", "search", "digest", "help")
ADMINISTRATORS = (*GROUP, "mode")
SEEN_BY_ONE = {"whisper"}  # sent so that nobody else in the group sees them


def menus(*, with_plans: bool = False) -> Iterator[SetMyCommands]:
    """Yield the calls that set the menus: Russian, and English for all other languages."""
    private = (*PRIVATE[:5], "plan", *PRIVATE[5:]) if with_plans else PRIVATE
    languages: tuple[tuple[Language, str | None], ...] = (("en", None), ("ru", "ru"))
    for language, code in languages:
        yield SetMyCommands(commands=_commands(private, language), language_code=code)
        for scope, names in (
            (BotCommandScopeAllPrivateChats(), private),
            (BotCommandScopeAllGroupChats(), GROUP),
            (BotCommandScopeAllChatAdministrators(), ADMINISTRATORS),
        ):
            yield SetMyCommands(commands=_commands(names, language), scope=scope, language_code=code)


def _commands(names: tuple[str, ...], language: Language) -> list[BotCommand]:
    return [
        BotCommand(
            command=name,
            description=say(f"command_{name}", language),
            is_ephemeral=True if name in SEEN_BY_ONE else None,
        )
        for name in names
    ]
