"""The menus of commands: what Telegram offers behind the slash, by kind of chat and language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiogram.methods import SetMyCommands
from aiogram.types import (
    BotCommand,
    BotCommandScopeAllChatAdministrators,
    BotCommandScopeAllGroupChats,
    BotCommandScopeAllPrivateChats,
    BotCommandScopeChat,
)

from appliance.ledger.order import Member
from appliance.schema import Language
from appliance.texts import say

PRIVATE = (
    "find", "search", "digest", "missed", "alert", "alerts", "related", "story", "quiet", "new", "help", "start",
    "faq", "channel", "privacy", "mydata", "forget",
)  # fmt: skip
MODERATORS = (
    "admin", "stats", "unanswered", "requests", "approve", "refuse", "bans", "ban", "unban", "attacks",
)  # fmt: skip
ADMINS = (
    *MODERATORS, "channels", "admission", "invite", "uninvite", "antifraud", "pause", "resume",
)  # of the appliance, owners too  # fmt: skip
GROUP = ("find", "whisper", "search", "digest", "help")
ADMINISTRATORS = (*GROUP, "mode", "repeats")
LANGUAGES: tuple[tuple[Language, str | None], ...] = (("en", None), ("ru", "ru"))
SEEN_BY_ONE = {"whisper"}  # sent so that nobody else in the group sees them


def menus(*, with_plans: bool = False) -> Iterator[SetMyCommands]:
    """Yield the calls that set the menus: Russian, and English for all other languages."""
    private = _private(with_plans)
    for language, code in LANGUAGES:
        yield SetMyCommands(commands=_commands(private, language), language_code=code)
        for scope, names in (
            (BotCommandScopeAllPrivateChats(), private),
            (BotCommandScopeAllGroupChats(), GROUP),
            (BotCommandScopeAllChatAdministrators(), ADMINISTRATORS),
        ):
            yield SetMyCommands(commands=_commands(names, language), scope=scope, language_code=code)


def menus_of(staff: Iterable[Member], *, with_plans: bool = False) -> Iterator[SetMyCommands]:
    """Yield the calls that set the menus of those who keep order, each in their own chat: theirs before everyone's."""
    for one in staff:
        is_admin = one.role in {"owner", "admin"}
        own = (*(ADMINS if is_admin else MODERATORS), *(("refund",) if is_admin and with_plans else ()))
        names, scope = (*own, *_private(with_plans)), BotCommandScopeChat(chat_id=one.telegram_id)
        for language, code in LANGUAGES:
            yield SetMyCommands(commands=_commands(names, language), scope=scope, language_code=code)


def _private(with_plans: bool) -> tuple[str, ...]:
    return (*PRIVATE[:5], "plan", *PRIVATE[5:]) if with_plans else PRIVATE


def _commands(names: tuple[str, ...], language: Language) -> list[BotCommand]:
    return [
        BotCommand(
            command=name,
            description=say(f"command_{name}", language),
            is_ephemeral=True if name in SEEN_BY_ONE else None,
        )
        for name in names
    ]
