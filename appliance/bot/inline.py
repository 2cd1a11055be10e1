"""Handlers of other people's chats: inline mode, and guest messages where the bot is no member."""

from __future__ import annotations

from aiogram import Bot, Router
from aiogram.methods import AnswerGuestQuery, AnswerInlineQuery
from aiogram.types import (
    InlineQuery,
    InlineQueryResultArticle,
    InlineQueryResultsButton,
    InputTextMessageContent,
    LinkPreviewOptions,
    Message,
)
from aiogram.utils.formatting import Text, TextLink

from appliance.bot.courtesies import Courtesies
from appliance.bot.held import answer_to
from appliance.bot.outgoing import outgoing
from appliance.bot.render import answer_messages, inert, short
from appliance.bot.who import Calls, language_of, mention_of, who_asks
from appliance.errors import PostFinderError
from appliance.journal import Outgoing
from appliance.schema import Asker, Filters, FoundPost, Language, Question
from appliance.text import clean
from appliance.texts import date, say
from appliance.verbs import Verbs

PER_PAGE, MOST = 10, 50
CACHE_S = 5  # a person's own results, on Telegram's side, whatever chat they type in
EXCERPT_CHARS = 600
ANSWER_S = 8.0  # while Telegram fails, results are offered again for so long: the person still looks
PLAIN = LinkPreviewOptions(is_disabled=True)


def inline_router() -> Router:
    """Build the handlers."""
    router = Router(name="inline")
    router.inline_query.register(inline)
    router.guest_message.register(guest)
    return router


async def inline(query: InlineQuery, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Offer posts to a person who types in any chat.

    Closed channels are searched only in the person's own chat with the bot: what is chosen elsewhere, others read.
    Results are marked as personal, so that Telegram shows nobody else's.
    """
    language = language_of(query.from_user)
    asker = await _known(query, verbs)
    results: list[InlineQueryResultArticle] = []
    hint, offset = "", int(query.offset) if query.offset.isdecimal() and len(query.offset) < 4 else 0
    if asker is None:
        hint = "inline_start"
    elif not any(map(str.isalnum, query.query)):
        hint = "inline_ask"
    else:
        try:
            wanted = min(MOST, offset + PER_PAGE)
            found = await verbs.search(query.query, asker=asker, filters=Filters(), limit=wanted)
            results = [_article(hit, language) for hit in found.found[offset:wanted]]
            hint = "" if found.found else "inline_nothing"
        except PostFinderError:
            hint = "inline_nothing"
    more = offset + PER_PAGE
    answer = AnswerInlineQuery(
        inline_query_id=query.id,
        results=list(results),
        is_personal=True,
        cache_time=0 if asker is not None and asker.private_channels else CACHE_S,
        next_offset=str(more) if len(results) == PER_PAGE and more < MOST else "",
        button=InlineQueryResultsButton(text=say(hint, language), start_parameter="inline") if hint else None,
    )
    courtesies.offer(answer, within_s=ANSWER_S)  # worth nothing later: it never lies in the outbox
    return []


async def _known(query: InlineQuery, verbs: Verbs) -> Asker | None:
    """Return who types as an asker; None for a stranger, where strangers may not ask."""
    if await verbs.privacy.user_id(query.from_user.id) is None:
        return Asker(language=language_of(query.from_user)) if verbs.guests else None
    return await who_asks(query.from_user, verbs, "private" if query.chat_type == "sender" else "group")


def _article(hit: FoundPost, language: Language) -> InlineQueryResultArticle:
    heading = f"{short(hit.channel.title, 60)}, {date(hit.post.date, language)}"
    words = short(clean(hit.chunk_text or hit.post.text), EXCERPT_CHARS)
    text, entities = Text(inert(words), "\n\n", TextLink(heading, url=hit.link)).render()
    content = InputTextMessageContent(message_text=text, entities=entities, link_preview_options=PLAIN)
    return InlineQueryResultArticle(
        id=f"{hit.post.channel_id}:{hit.post.message_id}",
        title=heading,
        description=short(words, 120),
        input_message_content=content,
    )


async def guest(message: Message, bot: Bot, verbs: Verbs) -> Calls:
    """Answer somebody who called the bot into a chat where it is not: from open channels, if guests may ask."""
    if message.guest_query_id is None:
        return []
    language = language_of(message.from_user)
    if not verbs.guests:
        return [_to_guest(message, Text(say("guests_closed", language)), language)]
    text = mention_of(await bot.me()).sub(" ", message.text or message.caption or "").strip()
    answer = await answer_to(Question(text=text, asker=Asker(language=language), door="telegram"), verbs)
    texts = [Text(answer)] if isinstance(answer, str) else answer_messages(answer, language)
    return [_to_guest(message, texts[0], language)]


def _to_guest(message: Message, words: Text, language: Language) -> Outgoing:
    text, entities = words.render()
    content = InputTextMessageContent(message_text=text, entities=entities or None, link_preview_options=PLAIN)
    result = InlineQueryResultArticle(id="answer", title=say("guest_title", language), input_message_content=content)
    return outgoing(AnswerGuestQuery(guest_query_id=message.guest_query_id or "", result=result))
