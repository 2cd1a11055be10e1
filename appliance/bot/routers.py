"""The dispatcher: every subject's handlers in their order. They hold verbs; what they return is sent once recorded."""

from __future__ import annotations

from collections import deque

from aiogram import Dispatcher, F, Router
from aiogram.enums import ContentType
from aiogram.filters import Command
from aiogram.types import Message
from aiogram.utils.formatting import Text

from appliance.bot.alerts import alerts_router
from appliance.bot.asking import digest, find, missed, new, plain_question, stopped
from appliance.bot.channels import channels_router
from appliance.bot.community import community_router
from appliance.bot.courtesies import Courtesies
from appliance.bot.exploring import exploring_router
from appliance.bot.figures import figures_router
from appliance.bot.finding import finding_router
from appliance.bot.greeting import greeting_router
from appliance.bot.held import found_in_group, held_router, is_polite, polite, spoken_to, unasked
from appliance.bot.inline import inline_router
from appliance.bot.modes import asks_everybody, modes_router
from appliance.bot.opinions import opinions_router
from appliance.bot.order import order_router
from appliance.bot.outgoing import messages_for
from appliance.bot.paying import paying_router
from appliance.bot.plain_words import commands_of, words_router
from appliance.bot.pressing import button_router
from appliance.bot.quick import quicken
from appliance.bot.repeats import repeats_router
from appliance.bot.rights import rights_router
from appliance.bot.watching import Watching
from appliance.bot.who import GROUPS, Calls, DialogueOf, command_of, is_addressed, is_own_command, language_of
from appliance.texts import say
from appliance.verbs import Verbs

ALBUMS_KEPT = 1000  # ids of albums that had their word
SPOKEN = {  # what a person may send instead of words
    ContentType.ANIMATION, ContentType.AUDIO, ContentType.DOCUMENT, ContentType.PAID_MEDIA, ContentType.PHOTO,
    ContentType.STICKER, ContentType.STORY, ContentType.VIDEO, ContentType.VIDEO_NOTE, ContentType.VOICE,
    ContentType.CHECKLIST, ContentType.CONTACT, ContentType.DICE, ContentType.GAME, ContentType.POLL,
    ContentType.VENUE, ContentType.LOCATION,
}  # fmt: skip


def create_dispatcher(verbs: Verbs, courtesies: Courtesies, dialogue_of: DialogueOf) -> Dispatcher:
    """Build the dispatcher: subjects with words of their own first, then whatever is said, then buttons.

    Parameters
    ----------
    verbs : Verbs
    courtesies : Courtesies
    dialogue_of : callable
        Given a chat and a message of the bot, the dialogue it belongs to.

    Returns
    -------
    Dispatcher
        Feeding it an update returns a list of `Outgoing`, or aiogram's ``UNHANDLED``.
    """
    dispatcher = Dispatcher(
        disable_fsm=True,
        verbs=verbs,
        courtesies=courtesies,
        dialogue_of=dialogue_of,
        albums=deque(maxlen=ALBUMS_KEPT),
    )
    dispatcher.stopped_message_generation.register(stopped)
    dispatcher.update.outer_middleware(Watching(verbs, courtesies))
    dispatcher.include_routers(
        channels_router(),
        modes_router(),  # where the bot is off, nobody below hears
        community_router(),
        repeats_router(),
        rights_router(),
        order_router(),
        figures_router(),
        greeting_router(),
        exploring_router(),
        paying_router(),
        finding_router(),
        alerts_router(),
        held_router(),
        opinions_router(),
        inline_router(),
        words_router(),
        private_router(),
        group_router(),
        button_router(),
    )
    dispatcher["commands"] = commands_of(dispatcher.sub_routers)
    quicken(dispatcher)
    return dispatcher


def private_router() -> Router:
    """Build the handlers of private chats."""
    router = Router(name="private")
    router.message.filter(F.chat.type == "private")
    router.edited_message.filter(F.chat.type == "private")
    router.message.register(find, Command("find", ignore_case=True))
    router.message.register(digest, Command("digest", ignore_case=True))
    router.message.register(missed, Command("missed", ignore_case=True))
    router.message.register(new, Command("new", ignore_case=True))
    router.message.register(unknown_command, F.text.regexp(r"^/\w"))
    router.message.register(plain_question, F.text | F.caption)
    router.message.register(text_only, F.content_type.in_(SPOKEN))
    router.edited_message.register(edited, F.text | F.caption)
    return router


def group_router() -> Router:
    """Build the handlers of groups, where the bot speaks when spoken to, or as the topic's mode says."""
    router = Router(name="group")
    router.message.filter(F.chat.type.in_(GROUPS), ~F.is_automatic_forward)
    router.message.register(found_in_group, Command("find", ignore_case=True))
    router.message.register(digest, Command("digest", ignore_case=True))
    router.message.register(unknown_command, is_own_command)
    router.message.register(polite, is_polite)
    router.message.register(spoken_to, is_addressed)
    router.message.register(unasked, asks_everybody)
    return router


async def unknown_command(message: Message, commands: frozenset[str]) -> Calls:
    """Say that there is no such command, or not in a group."""
    is_elsewhere = message.chat.type != "private" and command_of(message.text)[0] in commands
    key = "private_only" if is_elsewhere else "unknown_command"
    return messages_for(message, [Text(say(key, language_of(message.from_user)))])


async def text_only(message: Message, albums: deque[str]) -> Calls:
    """Ask for words, once for an album."""
    if message.media_group_id is not None:
        if message.media_group_id in albums:
            return []
        albums.append(message.media_group_id)
    return messages_for(message, [Text(say("text_only", language_of(message.from_user)))])


async def edited(message: Message) -> Calls:
    """Ask for a new message instead of an edited one."""
    return messages_for(message, [Text(say("edited", language_of(message.from_user)))])
