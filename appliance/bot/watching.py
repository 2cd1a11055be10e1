"""What every update passes before its handler: bans, the antifraud, admission. An outer middleware; microseconds."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from aiogram import BaseMiddleware, Bot
from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup, Message, TelegramObject, Update, User
from aiogram.utils.formatting import Text

from appliance.abuse import Act, Buckets
from appliance.antifraud import Verdict
from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for
from appliance.bot.who import ANONYMOUS, command_of, is_addressed, language_of, toast
from appliance.journal import Outgoing
from appliance.ledger.order import STAFF
from appliance.schema import Language
from appliance.texts import count, say
from appliance.verbs import Verbs

RIGHTS = {"privacy", "mydata", "forget", "plan", "paysupport", "terms"}  # everyone's in private, whatever they did
RIGHTS_PRESSED = ("p:", "$:")  # data of their buttons
RIGHTS_RATE, RIGHTS_BURST = 0.1, 8.0  # of those who are held up: a second, and at once
ACTS: dict[str, Act] = {  # of commands that are answered from the posts
    "find": "question", "whisper": "question", "story": "question", "digest": "digest", "missed": "digest",
    "search": "search", "related": "search", "alert": "search",
}  # fmt: skip
TOLD_EVERY_S = 600.0  # how often a banned person reads why
KEPT = 10_000

Handler = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]


class Watching(BaseMiddleware):
    """Lets an update through to its handlers, or answers it itself.

    Parameters
    ----------
    verbs : Verbs
    courtesies : Courtesies
    """

    def __init__(self, verbs: Verbs, courtesies: Courtesies) -> None:
        self._verbs = verbs
        self._courtesies = courtesies
        self._told: dict[int, float] = {}
        self._ordinary: set[int] = set()  # keep no order, by Telegram's number: a flood is not looked up one by one
        self._roles_set = 0  # when that was so
        self._rights = Buckets(RIGHTS_RATE, RIGHTS_BURST, limit=KEPT)

    async def __call__(self, handler: Handler, event: TelegramObject, data: dict[str, Any]) -> Any:
        """Pass, or return the calls that say why not."""
        assert isinstance(event, Update)
        who, message, act, text = await read(event, data["bot"])
        if who is None or who.id in ANONYMOUS or who.is_bot or is_payment(message):
            return await handler(event, data)
        verbs = self._verbs
        is_appeal = event.callback_query is not None and event.callback_query.data == "o:appeal"
        if verbs.admission.is_barred(who.id):
            if is_appeal or self._is_right(event, who, text):
                return await handler(event, data)
            return await self._banned(event, who, message)
        if self._told:
            self._told.pop(who.id, None)
        group = message.chat.id if message is not None and message.chat.type != "private" else None
        verdict = verbs.antifraud.look(who.id, act, text=text, chat=group)
        if verdict.step != "pass" and not self._is_right(event, who, text) and not await self._keeps_order(who):
            return await self._held(event, who, message, verdict)
        if (
            verbs.admission.mode != "open"
            and not await self._is_in(event, who)
            and not self._is_right(event, who, text)
        ):
            return await self._knocked(event, who, message)
        return await handler(event, data)

    def _is_right(self, event: Update, who: User, text: str | None) -> bool:
        """Whether this is something that nobody is kept from, such as erasing oneself; a flood of it is."""
        if event.callback_query is not None:
            is_right = (event.callback_query.data or "").startswith(RIGHTS_PRESSED)
        else:
            is_private = event.message is not None and event.message.chat.type == "private"
            is_right = is_private and command_of(text)[0] in RIGHTS
        return is_right and self._rights.take(who.id, 1.0, self._verbs.antifraud.clock()) == 0.0

    async def _banned(self, event: Update, who: User, message: Message | None) -> list[Outgoing]:
        """Say why, now and then, in private."""
        language = language_of(who)
        now = self._verbs.antifraud.clock()
        is_private = event.message is not None and event.message.chat.type == "private"
        if event.callback_query is not None:
            self._toast(event, say("banned", language))
            return []
        if not is_private or message is None or now - self._told.get(who.id, 0.0) < TOLD_EVERY_S:
            return []
        if len(self._told) >= KEPT:
            self._told.clear()
        self._told[who.id] = now
        user_id = await self._verbs.privacy.user_id(who.id)
        made = None if user_id is None else self._verbs.admission.ban_of(user_id)
        if made is None:  # erased since
            return messages_for(message, [Text(say("banned", language))])
        markup = None if made.appealed_at else appeal_button(language)
        return messages_for(message, [Text(self._verbs.admission.ban_words(made, language))], markup=markup)

    async def _held(self, event: Update, who: User, message: Message | None, verdict: Verdict) -> list[Outgoing]:
        """Slow or stop a person, telling them once."""
        language = language_of(who)
        if verdict.step == "stop":
            if verdict.is_first:
                user_id = await self._verbs.privacy.user_id(who.id)
                if user_id is not None:
                    await self._verbs.antifraud.punish(user_id, verdict)
                    return await self._banned(event, who, message)
            if event.callback_query is not None:
                self._toast(event, say("banned", language))
            return []
        wait = count("seconds", max(1, math.ceil(verdict.wait_s)), language)
        if event.callback_query is not None:
            self._toast(event, say("slow_down_wait", language, wait=wait))
        elif verdict.is_first and event.message is not None and event.message.chat.type == "private":
            return messages_for(event.message, [Text(say("slowed", language, wait=wait))])
        return []

    async def _keeps_order(self, who: User) -> bool:
        """Whether somebody keeps order here: they are never held up by the protection they steer."""
        if self._verbs.access.roles_set != self._roles_set or len(self._ordinary) >= KEPT:
            self._ordinary.clear()
            self._roles_set = self._verbs.access.roles_set
        if who.id in self._ordinary:
            return False
        user_id = await self._verbs.privacy.user_id(who.id)
        if user_id is None or await self._verbs.access.role(user_id) not in STAFF:
            self._ordinary.add(who.id)
            return False
        self._verbs.antifraud.pardon(who.id)
        return True

    async def _is_in(self, event: Update, who: User) -> bool:
        if event.guest_message is not None:  # asked as a guest, and refused as one
            return True
        user_id = await self._verbs.privacy.user_id(who.id)
        return user_id is not None and await self._verbs.admission.standing(user_id) == "member"

    async def _knocked(self, event: Update, who: User, message: Message | None) -> Any:
        """Register who is not let in yet, ask for them, and say so; in groups only silence."""
        language = language_of(who)
        if event.callback_query is not None:
            self._toast(event, say("admission_waiting", language))
            return []
        if message is None or message.chat.type != "private" or event.message is None:
            return []
        asker = await self._verbs.register(
            telegram_id=who.id,
            username=who.username,
            first_name=who.first_name,
            last_name=who.last_name,
            language=language,
        )
        if asker.user_id is None:
            return []
        state = await self._verbs.admission.knock(asker.user_id, who.id, who.full_name, who.username)
        return messages_for(
            message, [Text(say("admission_in" if state == "member" else f"admission_{state}", language))]
        )

    def _toast(self, event: Update, text: str) -> None:
        if event.callback_query is not None:
            toast(event.callback_query, self._courtesies, text)


def appeal_button(language: Language) -> InlineKeyboardMarkup:
    """Return the button under a ban's words."""
    return InlineKeyboardMarkup(
        inline_keyboard=[[InlineKeyboardButton(text=say("appeal", language), callback_data="o:appeal")]]
    )


def is_payment(message: Message | None) -> bool:
    """Tell whether a message says that money went one way or the other: that is taken note of, whoever it is."""
    return message is not None and (message.successful_payment is not None or message.refunded_payment is not None)


async def read(update: Update, bot: Bot) -> tuple[User | None, Message | None, Act, str | None]:
    """Return who acts in an update, on which message, what it is, and what was typed.

    Parameters
    ----------
    update : Update
    bot : Bot

    Returns
    -------
    (User or None, Message or None, str, str or None)
        No user for what nobody in particular does, such as a channel's post.
    """
    if (message := update.message or update.edited_message or update.guest_message) is not None:
        text = message.text or message.caption
        is_private = message.chat.type == "private"
        is_new = update.edited_message is None and bool(text)
        command, other = command_of(text)
        act: Act
        if command and (is_private or not other or other == ((await bot.me()).username or "").lower()):
            act = ACTS.get(command, "message") if is_new else "message"
        elif is_private or update.guest_message is not None:
            act = "question" if is_new else "message"
        else:
            act = "question" if is_new and await is_addressed(message, bot) else "chatter"
        return message.from_user, message, act, text
    if (query := update.callback_query) is not None:
        return query.from_user, query.message if isinstance(query.message, Message) else None, "button", None
    if update.inline_query is not None:
        return update.inline_query.from_user, None, "search", None
    return None, None, "message", None
