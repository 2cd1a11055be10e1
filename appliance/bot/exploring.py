"""Handlers that go on from an answer: without its limits, to related posts, to its subject's story, to all posts."""

from __future__ import annotations

import re
from typing import get_args

from aiogram import F, Router
from aiogram.filters import Command, CommandObject
from aiogram.types import CallbackQuery, Message, Update
from aiogram.utils.formatting import Bold, ExpandableBlockQuote, Italic, Text, TextLink

from appliance.answer import cite
from appliance.bot.asking import answered
from appliance.bot.courtesies import Courtesies
from appliance.bot.finding import View, found_page
from appliance.bot.more import WAYS
from appliance.bot.outgoing import messages_for
from appliance.bot.render import inert, joined, packed, short, source_quotes
from appliance.bot.who import GROUPS, Calls, language_of, said, toast, who_asks
from appliance.errors import PostFinderError
from appliance.links import parse_link
from appliance.schema import (
    Asker,
    Filters,
    Language,
    LimitKind,
    PostKey,
    Question,
    Story,
)
from appliance.texts import count, say
from appliance.verbs import Verbs
from appliance.wording import limits_words, period_words

ALL_KINDS: frozenset[LimitKind] = frozenset(get_args(LimitKind))
RELATED = 5
_BUTTON = re.compile(r"e:(?P<what>[wnhs]):(?P<question>[0-9a-f]{32})\Z", re.ASCII)


def exploring_router() -> Router:
    """Build the handlers, in private chats and in groups."""
    router = Router(name="exploring")
    router.message.filter(F.chat.type.in_({"private", *GROUPS}), ~F.is_automatic_forward)
    router.message.register(related, Command("related", ignore_case=True))
    router.message.register(story, Command("story", ignore_case=True))
    router.callback_query.register(pressed, F.data.startswith(WAYS))
    return router


async def related(message: Message, command: CommandObject, verbs: Verbs) -> Calls:
    """Answer ``/related LINK``, or ``/related`` in reply to a post or to an answer."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    key = await _named_post(message, command.args or "", asker, verbs)
    if key is None:
        return messages_for(message, [Text(say("related_usage", asker.language))])
    return await _related(message, key, asker, verbs)


async def story(message: Message, command: CommandObject, verbs: Verbs) -> Calls:
    """Answer ``/story subject``."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    subject = (command.args or "").strip()
    if not subject:
        return messages_for(message, [Text(say("story_usage", asker.language))])
    return await _story(message, subject, asker, verbs)


async def pressed(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies, event_update: Update) -> Calls:
    """Take a press of one of our buttons, or of a forged one."""
    language = language_of(query.from_user)
    read = _BUTTON.match(query.data or "")
    if read is None or not isinstance(query.message, Message):
        toast(query, courtesies, say("bad_button", language))
        return []
    asker = await who_asks(query.from_user, verbs, query.message.chat.type)
    row = await verbs.question(read["question"], asker)
    if row is None or (read["what"] == "n" and not row.posts):
        toast(query, courtesies, say("bad_button", language))
        return []
    toast(query, courtesies, None)
    if read["what"] == "n":
        return await _related(query.message, row.posts[0], asker, verbs)
    if read["what"] == "h":
        return await _story(query.message, row.query, asker, verbs)
    if read["what"] == "s":
        return await _posts(query.message, row.query, asker, verbs)
    question = Question(text=row.query, asker=asker, door="telegram", unread=ALL_KINDS)
    return await answered(query.message, question, verbs, courtesies, event_update.update_id)


async def _named_post(message: Message, args: str, asker: Asker, verbs: Verbs) -> PostKey | None:
    """Post whose link was sent, or stands in the message replied to."""
    replied = message.reply_to_message
    links = [args.strip()]
    if replied is not None:
        entities = replied.entities or replied.caption_entities or []
        links += [entity.url for entity in entities if entity.url]
    for link in links:
        read = parse_link(link) if link else None
        if read is None:
            continue
        for status in await verbs.channels(asker):
            channel = status.channel
            if read[0] == channel.id or str(read[0]).lower() == (channel.username or "").lower():
                return (channel.id, read[1])
    return None


async def _related(message: Message, key: PostKey, asker: Asker, verbs: Verbs) -> Calls:
    language = asker.language
    try:
        found = await verbs.related(key, asker=asker, limit=RELATED)
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, language))])
    if not found:
        return messages_for(message, [Text(say("related_none", language))])
    return messages_for(message, packed(source_quotes(cite(found), say("related", language), language)))


async def _posts(message: Message, text: str, asker: Asker, verbs: Verbs) -> Calls:
    try:
        page = await found_page(text, View(), asker, verbs)
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, asker.language))])
    return messages_for(message, [page.text], markup=page.markup)


async def _story(message: Message, subject: str, asker: Asker, verbs: Verbs) -> Calls:
    try:
        told = await verbs.story(subject, asker=asker, filters=Filters())
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, asker.language))])
    return messages_for(message, story_messages(told, asker.language))


def story_messages(told: Story, language: Language) -> list[Text]:
    """Render a story: a quote a period, its sentences being links.

    Parameters
    ----------
    told : Story
    language : {'ru', 'en'}

    Returns
    -------
    list of Text
        One message or more.
    """
    if not told.chapters:
        return [Text(say("story_none", language))]
    links = {citation.number: citation.link for citation in told.citations}
    blocks = [Text(Bold(inert(short(say("story", language, subject=told.query), 200))))]
    if told.limits:
        key = "limits_held" if told.are_limits_held else "limits_dropped"
        blocks.append(Text(Italic(inert(short(say(key, language, limits=limits_words(told.limits, language)), 300)))))
    for chapter in told.chapters:
        posts = count("posts", chapter.posts, language)
        lines: list[str | Text] = [Bold(f"{period_words(chapter.first, chapter.after, language)} · {posts}")]
        for sentence in chapter.sentences:
            link = links.get(sentence.citations[0], "")
            said_there = short(sentence.text, 280)
            lines.append(TextLink(said_there, url=link) if link else inert(said_there))
        blocks.append(Text(ExpandableBlockQuote(joined(lines, "\n"))))
    return packed(blocks)
