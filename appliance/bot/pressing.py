"""Handlers of inline buttons under answers and examples, ours or forged."""

from __future__ import annotations

from aiogram import Router
from aiogram.methods import EditMessageReplyMarkup
from aiogram.types import CallbackQuery, Message, Update
from aiogram.utils.formatting import Bold, Text

from appliance.bot.asking import answered
from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.render import first_line, inert, rating_buttons, read_button
from appliance.bot.who import Calls, language_of, said, toast, who_asks
from appliance.errors import PostFinderError
from appliance.schema import Asker, PostKey, Question, Vote
from appliance.texts import say
from appliance.verbs import Verbs


def button_router() -> Router:
    """Build the handler; the last of all, it takes every press that no other knows."""
    router = Router(name="buttons")
    router.callback_query.register(pressed)
    return router


async def pressed(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies, event_update: Update) -> Calls:
    """Take a press of a button, ours or forged."""
    language = language_of(query.from_user)
    read = read_button(query.data)
    if read is None or query.message is None:
        toast(query, courtesies, say("bad_button", language))
        return []
    asker = await who_asks(query.from_user, verbs, query.message.chat.type)
    try:
        if isinstance(read[0], str):
            return await _rated(query, read[0], str(read[1]), asker, verbs, courtesies)
        return await _example(query, (read[0], int(read[1])), asker, verbs, courtesies, event_update.update_id)
    except PostFinderError as error:
        toast(query, courtesies, said(error, language))
        return []


async def _rated(
    query: CallbackQuery, vote: Vote, question_id: str, asker: Asker, verbs: Verbs, courtesies: Courtesies
) -> Calls:
    is_stored = await verbs.rate(question_id, asker=asker, vote=vote)
    toast(query, courtesies, say(f"rated_{vote}" if is_stored else "rating_lost", asker.language))
    if not is_stored or query.message is None or query.message.chat.type != "private":
        return []  # in a group the buttons are everybody's
    edit = EditMessageReplyMarkup(
        chat_id=query.message.chat.id,
        message_id=query.message.message_id,
        reply_markup=rating_buttons(question_id, vote),
    )
    return [outgoing(edit, priority="draft")]


async def _example(
    query: CallbackQuery, key: PostKey, asker: Asker, verbs: Verbs, courtesies: Courtesies, update_id: int
) -> Calls:
    found = await verbs.post(key, asker)
    if found is None or not isinstance(query.message, Message):
        toast(query, courtesies, say("bad_button", asker.language))
        return []
    toast(query, courtesies, None)
    text = first_line(found[0].text)
    asked = messages_for(query.message, [Text("🔎 ", Bold(inert(text)))])
    question = Question(text=text, asker=asker, door="telegram")
    return [*asked, *await answered(query.message, question, verbs, courtesies, update_id)]
