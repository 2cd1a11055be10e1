"""Handlers of the first words: what the bot is, what it can do, where it searches."""

from __future__ import annotations

import structlog
from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import InlineKeyboardMarkup, Message
from aiogram.utils.formatting import Text, as_list

from appliance.bot.outgoing import messages_for
from appliance.bot.render import example_button, inert
from appliance.bot.rights import agree_row
from appliance.bot.who import GROUPS, Calls, said, who_asks
from appliance.community import TRUSTED
from appliance.errors import PostFinderError
from appliance.schema import Asker, Filters
from appliance.texts import say
from appliance.verbs import Verbs

log = structlog.get_logger()

CHANNELS_LISTED = 20


def greeting_router() -> Router:
    """Build the handlers, in private chats and in groups."""
    router = Router(name="greeting")
    router.message.filter(F.chat.type.in_({"private", *GROUPS}), ~F.is_automatic_forward)
    router.message.register(start, Command("start", ignore_case=True))
    router.message.register(help_, Command("help", ignore_case=True))
    return router


async def start(message: Message, verbs: Verbs) -> Calls:
    """Register and explain in a few lines, with an example to press; ask for consent until it is given."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    is_asked = message.chat.type == "private" and asker.user_id is not None
    if is_asked and asker.user_id is not None and not await verbs.privacy.has_agreed(asker.user_id):
        consent = InlineKeyboardMarkup(inline_keyboard=[agree_row(asker.language)])
        asking = messages_for(message, [Text(say("consent", asker.language))], markup=consent)
    else:
        asking = []
    return [*await introduction(message, asker, verbs), *asking]


async def introduction(message: Message, asker: Asker, verbs: Verbs) -> Calls:
    """Explain in a few lines, with an example to press."""
    try:
        statuses = [status for status in await verbs.channels(asker) if status.posts]
        if not statuses:
            words = f"{say('start', asker.language)}\n\n{say('start_nothing', asker.language)}"
            return messages_for(message, [Text(words)])
        title = max(statuses, key=lambda status: status.posts).channel.title
        result = await verbs.search(title, asker=asker, filters=Filters(), limit=5)
    except PostFinderError as error:
        log.info("no example", code=error.code)
        return messages_for(message, [Text(say("start", asker.language))])
    buttons = [button for found in result.found if (button := example_button(found)) is not None]
    return messages_for(message, [Text(say("start", asker.language))], markup=buttons[0] if buttons else None)


async def help_(message: Message, verbs: Verbs) -> Calls:
    """Say what the bot can do and where it searches."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    try:
        channels = [status.channel for status in await verbs.channels(asker)][:CHANNELS_LISTED]
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, asker.language))])
    names = [f"{channel.title} (@{channel.username})" if channel.username else channel.title for channel in channels]
    plan = f"\n{say('help_plan', asker.language)}" if verbs.plans.is_on else ""
    words = [Text(say("help", asker.language), plan)]
    if message.chat.type == "private" and await verbs.access.role(asker.user_id) in TRUSTED:
        words.append(Text(say("help_unanswered", asker.language)))
    if names:
        words.append(inert(say("help_channels", asker.language, channels=", ".join(names))))
    return messages_for(message, [as_list(*words, sep="\n\n")])
