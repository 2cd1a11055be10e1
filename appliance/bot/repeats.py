"""Handlers of questions asked again in a group: overheard where it is turned on, pointed at a post, else silent."""

from __future__ import annotations

from dataclasses import replace

import structlog
from aiogram import Bot, F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command, CommandObject
from aiogram.types import Message
from aiogram.utils.formatting import Text, TextLink

from appliance.bot.modes import is_administrator
from appliance.bot.outgoing import messages_for
from appliance.bot.reading import bare_id
from appliance.bot.render import packed, source_quotes
from appliance.bot.who import ANONYMOUS, GROUPS, Calls, is_addressed, who_asks
from appliance.community import DECIDE
from appliance.errors import PostFinderError
from appliance.repeats import MODES, is_question
from appliance.texts import say
from appliance.verbs import Verbs

log = structlog.get_logger()


def repeats_router() -> Router:
    """Build the handlers; in groups alone."""
    router = Router(name="repeats")
    router.message.filter(F.chat.type.in_(GROUPS), ~F.is_automatic_forward)
    router.message.register(switch, Command("repeats", ignore_case=True))
    router.message.register(moved, F.migrate_to_chat_id)
    router.message.register(overheard, F.text, ~F.text.startswith("/"), is_listening)
    return router


async def is_listening(message: Message, bot: Bot, verbs: Verbs) -> bool:
    """Tell whether a message is a member's question to the others, in a group where repeats are looked for."""
    sender = message.from_user
    if sender is None or sender.is_bot or sender.id in ANONYMOUS:
        return False
    if verbs.repeats.mode(message.chat.id, topic_of(message)) == "off" or not is_question(message.text or ""):
        return False
    return not await is_addressed(message, bot)


async def overheard(message: Message, verbs: Verbs) -> Calls:
    """Point at the post that answers a question asked before; silent, and left to other handlers, in any doubt."""
    try:
        asker = await who_asks(message.from_user, verbs, message.chat.type)
        pointer = await verbs.repeats.look(
            message.text or "",
            asker=asker,
            chat_id=message.chat.id,
            message_id=message.message_id,
            asked_at=message.date,
            topic_id=topic_of(message),
        )
    except PostFinderError as error:
        log.info("a group's question was not looked at", code=error.code)
        raise SkipHandler from error
    if pointer is None or not pointer.is_told:
        raise SkipHandler
    blocks = source_quotes(
        [replace(one, number=1) for one in pointer.citations], say("repeat_heading", asker.language), asker.language
    )
    if pointer.repeat_of:
        where = f"https://t.me/c/{bare_id(message.chat.id)}/{pointer.repeat_of}"
        if message.chat.type == "supergroup":
            blocks.append(Text(TextLink(say("repeat_earlier", asker.language), url=where)))
    return messages_for(message, packed(blocks))


async def switch(message: Message, command: CommandObject, bot: Bot, verbs: Verbs) -> Calls:
    """Turn it on, to counting, or off in a group or a topic; without a word, say how it stands."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    language, topic = asker.language, topic_of(message)
    wanted = (command.args or "").strip().lower()
    if wanted in MODES:
        if not await may_switch(message, bot, verbs, asker.user_id):
            return messages_for(message, [Text(say("not_allowed", language))])
        await verbs.repeats.set_mode(message.chat.id, topic, wanted, user_id=asker.user_id)
    lines = [say(f"repeats_{verbs.repeats.mode(message.chat.id, topic)}", language)]
    stats = await verbs.stats()
    mine = next((one for one in stats["repeats"] if one["chat_id"] == message.chat.id), None)
    if mine is not None:
        before, after = mine["before"], mine["after"]
        figures = say(
            "repeats_figures",
            language,
            before=before["questions"],
            before_repeats=before["repeats"],
            after=after["questions"],
            after_repeats=after["repeats"],
            told=after["told"],
        )
        lines.append(figures)
    if wanted not in MODES:
        lines.append(say("repeats_usage", language))
    return messages_for(message, [Text("\n".join(lines))])


async def may_switch(message: Message, bot: Bot, verbs: Verbs, user_id: int | None) -> bool:
    """Whether they run the community, or this group: an anonymous admin, or one whom Telegram names."""
    if message.sender_chat is not None and message.sender_chat.id == message.chat.id:
        return True
    if await verbs.access.role(user_id) in DECIDE:
        return True
    if message.from_user is None:
        return False
    return await is_administrator(bot, message.chat.id, message.from_user.id)


async def moved(message: Message, verbs: Verbs) -> Calls:
    """Follow a group that became a supergroup: its settings go with it."""
    if message.migrate_to_chat_id is not None:
        await verbs.repeats.move(message.chat.id, message.migrate_to_chat_id)
    raise SkipHandler


def topic_of(message: Message) -> int | None:
    """Return the topic a message stands in."""
    return message.message_thread_id if message.is_topic_message else None
