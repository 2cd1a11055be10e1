"""The menus of commands: what Telegram offers behind the slash, by kind of chat and language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiogram.methods import DeleteMyCommands, SendMessage, SetMyCommands
from aiogram.types import (
    BotCommand,
    BotCommandScopeAllChatAdministrators,
    BotCommandScopeAllGroupChats,
    BotCommandScopeAllPrivateChats,
    BotCommandScopeChat,
)

from appliance.ledger.order import Member
from appliance.notices import Notice
from appliance.schema import Language
from appliance.texts import say
from appliance.verbs import Verbs

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
TRUSTED = ("unanswered",)  # members who answer what the posts do not
GROUP = ("find", "whisper", "search", "digest", "help")
ADMINISTRATORS = (*GROUP, "mode", "repeats")
LANGUAGES: tuple[tuple[Language, str | None], ...] = (("en", None), ("ru", "ru"))
ROLES_TOLD = {"owner", "admin", "moderator", "trusted"}
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


def menus_of(staff: Iterable[Member], *, with_plans: bool = False) -> Iterator[SetMyCommands | DeleteMyCommands]:
    """Yield the calls that set the menus of those with a role, each in their own chat: theirs before everyone's."""
    for one in staff:
        yield from menus_for(one.telegram_id, one.role, with_plans=with_plans)


def menus_for(telegram_id: int, role: str, *, with_plans: bool = False) -> Iterator[SetMyCommands | DeleteMyCommands]:
    """Yield the calls that set the menu of a person's chat by their role; without one it is everyone's again."""
    scope = BotCommandScopeChat(chat_id=telegram_id)
    is_admin = role in {"owner", "admin"}
    own = ADMINS if is_admin else {"moderator": MODERATORS, "trusted": TRUSTED}.get(role, ())
    names = (*own, *(("refund",) if is_admin and with_plans else ()), *_private(with_plans))
    for language, code in LANGUAGES:
        if own:
            yield SetMyCommands(commands=_commands(names, language), scope=scope, language_code=code)
        else:
            yield DeleteMyCommands(scope=scope, language_code=code)


async def role_told(notice: Notice, verbs: Verbs) -> list[SendMessage | SetMyCommands | DeleteMyCommands]:
    """Tell a person of their role and set their menu by it; nothing when they have another role by now."""
    role = await verbs.access.role(notice.asker.user_id)
    if role != notice.body["role"]:
        return []
    key = f"role_{role}" if role in ROLES_TOLD else "role_none"
    words = SendMessage(chat_id=notice.telegram_id, text=say(key, notice.asker.language))
    return [words, *menus_for(notice.telegram_id, role, with_plans=verbs.plans.is_on)]


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
