"""The last handler of inline buttons: examples, and whatever no other handler knows, ours or forged."""

from __future__ import annotations

from aiogram import Router
from aiogram.types import CallbackQuery, Message, Update
from aiogram.utils.formatting import Bold, Text

from appliance.bot.asking import answered
from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for
from appliance.bot.render import inert, read_button
from appliance.bot.who import Calls, language_of, said, toast, who_asks
from appliance.errors import PostFinderError
from appliance.schema import Asker, PostKey, Question
from appliance.text import first_line
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
    if read is None or isinstance(read[0], str) or query.message is None:
        toast(query, courtesies, say("bad_button", language))
        return []
    asker = await who_asks(query.from_user, verbs, query.message.chat.type)
    try:
        return await _example(query, (int(read[0]), int(read[1])), asker, verbs, courtesies, event_update.update_id)
    except PostFinderError as error:
        toast(query, courtesies, said(error, language))
        return []


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
