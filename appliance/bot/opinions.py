"""Handlers of what people say of answers: 👍 👎, a reason in one tap, and the monthly question."""

from __future__ import annotations

import re

from aiogram import F, Router
from aiogram.methods import EditMessageReplyMarkup, EditMessageText, SendMessage
from aiogram.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message
from aiogram.utils.formatting import Text

from appliance.bot.courtesies import Courtesies, topic_of
from appliance.bot.more import rated_buttons, wider_button
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.render import read_button
from appliance.bot.who import Calls, said, toast, who_asks
from appliance.errors import PostFinderError
from appliance.journal import Outgoing
from appliance.schema import Language
from appliance.texts import say
from appliance.verbs import Verbs

REASONS = {"n": "not_asked", "w": "wrong", "o": "outdated", "s": "incomplete"}
_REASON = re.compile(r"f:(?P<code>[nwos]):(?P<question>[0-9a-f]{32})\Z", re.ASCII)
_SCORE = re.compile(r"q:(?P<score>[1-5]):(?P<name>\d{1,11})\Z", re.ASCII)
FACES = ("😞", "🙁", "😐", "🙂", "😀")


def opinions_router() -> Router:
    """Build the handlers of these buttons; what they cannot read falls through to the last handler."""
    router = Router(name="opinions")
    router.callback_query.register(rated, F.data.regexp(r"^r:"), F.message.as_("message"))
    router.callback_query.register(reasoned, F.data.regexp(_REASON.pattern), F.message.as_("message"))
    router.callback_query.register(scored, F.data.regexp(_SCORE.pattern), F.message.as_("message"))
    return router


async def rated(query: CallbackQuery, message: Message, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Take 👍 or 👎; in private 👎 brings up the reasons."""
    asker = await who_asks(query.from_user, verbs, message.chat.type)
    read = read_button(query.data)
    if read is None or isinstance(read[0], int):
        toast(query, courtesies, say("bad_button", asker.language))
        return []
    vote, question_id = read[0], str(read[1])
    try:
        is_stored = await verbs.rate(question_id, asker=asker, vote=vote)
    except PostFinderError as error:
        toast(query, courtesies, said(error, asker.language))
        return []
    toast(query, courtesies, say(f"rated_{vote}" if is_stored else "rating_lost", asker.language))
    if not is_stored or message.chat.type != "private":
        return []  # in a group the buttons are everybody's
    more = reason_rows(question_id, asker.language) if vote == "down" else []
    markup = rated_buttons(question_id, vote, message.reply_markup, more)
    return [_marked(message, markup)]


async def reasoned(query: CallbackQuery, message: Message, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Take the reason of a 👎; "not what I asked" offers to search wider."""
    asker = await who_asks(query.from_user, verbs, message.chat.type)
    code, question_id = (query.data or "").split(":")[1:]
    asked = await verbs.question(question_id, asker)
    if asked is None or message.chat.type != "private":
        toast(query, courtesies, say("rating_lost", asker.language))
        return []
    try:
        await verbs.rate(question_id, asker=asker, vote="down", reason=REASONS[code])
    except PostFinderError as error:
        toast(query, courtesies, said(error, asker.language))
        return []
    toast(query, courtesies, say("reason_noted", asker.language))
    calls = [_marked(message, rated_buttons(question_id, "down", message.reply_markup))]
    if REASONS[code] == "not_asked" and not asked.text.startswith("/"):  # a digest was asked for in no words
        markup = InlineKeyboardMarkup(inline_keyboard=[[wider_button(question_id, asker.language)]])
        calls += messages_for(message, [Text(say("rephrase", asker.language))], markup=markup)
    return calls


async def scored(query: CallbackQuery, message: Message, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Take a score of the monthly question."""
    asker = await who_asks(query.from_user, verbs, message.chat.type)
    score, name = (query.data or "").split(":")[1:]
    is_stored = await verbs.talks.answer_survey(asker, name, int(score))
    toast(query, courtesies, None if is_stored else say("bad_button", asker.language))
    if not is_stored:
        return []
    words = f"{say('survey', asker.language)}\n{FACES[int(score) - 1]} {say('survey_thanks', asker.language)}"
    edit = EditMessageText(chat_id=message.chat.id, message_id=message.message_id, text=words)
    return [outgoing(edit, priority="draft")]


def reason_rows(question_id: str, language: Language) -> list[list[InlineKeyboardButton]]:
    """Return the reasons of a 👎 as buttons, two a row."""
    keys = [
        InlineKeyboardButton(text=say(f"reason_{name}", language), callback_data=f"f:{code}:{question_id}")
        for code, name in REASONS.items()
    ]
    return [keys[:2], keys[2:]]


def survey_call(message: Message, name: str, language: Language) -> Outgoing:
    """Return the monthly question, with its five faces."""
    row = [
        InlineKeyboardButton(text=face, callback_data=f"q:{score}:{name}") for score, face in enumerate(FACES, start=1)
    ]
    call = SendMessage(
        chat_id=message.chat.id,
        message_thread_id=topic_of(message),
        text=say("survey", language),
        reply_markup=InlineKeyboardMarkup(inline_keyboard=[row]),
    )
    return outgoing(call)


def _marked(message: Message, markup: InlineKeyboardMarkup) -> Outgoing:
    edit = EditMessageReplyMarkup(chat_id=message.chat.id, message_id=message.message_id, reply_markup=markup)
    return outgoing(edit, priority="draft")
