"""Handlers of what members do for each other: questions that wait, trusted answers, frequent ones, asking again."""

from __future__ import annotations

from typing import Any

from aiogram import Bot, F, Router
from aiogram.filters import Command, CommandObject
from aiogram.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message, Update
from aiogram.utils.formatting import Bold, Text

from appliance.bot.asking import answered
from appliance.bot.courtesies import Courtesies
from appliance.bot.news import ASK_AGAIN, member_answer
from appliance.bot.outgoing import messages_for
from appliance.bot.render import inert
from appliance.bot.who import GROUPS, Calls, DialogueOf, language_of, said, toast, who_asks, without_buttons
from appliance.community import DECIDE, TRUSTED
from appliance.errors import PostFinderError
from appliance.links import answer_key
from appliance.schema import MEMBERS_ANSWERS, Asker, Question
from appliance.texts import count, date, say
from appliance.verbs import Verbs

SHOWN = 5  # questions of the queue in one go
FAQ_SHOWN = 20
LABEL_CHARS = 60
QUEUE = "queue:"  # the dialogue of a message that shows a question that waits

_ID = "[0-9a-f]{32}"


def community_router() -> Router:
    """Build the handlers."""
    router = Router(name="community")
    private = F.chat.type == "private"
    router.message.register(opened, Command("start", magic=F.args.regexp(r"^a\d{1,15}(?:-\d{1,13})?\Z")), private)
    router.message.register(unanswered, Command("unanswered", ignore_case=True), private)
    router.message.register(faq, Command("faq", ignore_case=True), F.chat.type.in_({"private", *GROUPS}))
    router.message.register(replied, private, F.reply_to_message, F.text, ~F.text.startswith("/"), waiting_question)
    router.callback_query.register(dropped, F.data.regexp(rf"^c:drop:{_ID}\Z"))
    router.callback_query.register(again, F.data.regexp(rf"^{ASK_AGAIN}{_ID}\Z"))
    router.callback_query.register(frequent, F.data.regexp(rf"^c:faq:{_ID}\Z"))
    router.callback_query.register(faq_decided, F.data.regexp(rf"^c:(?:fok|fno):{_ID}\Z"))
    router.callback_query.register(removed, F.data.regexp(r"^c:rm:a\d{1,15}(?:-\d{1,13})?\Z"))
    return router


async def waiting_question(message: Message, bot: Bot, dialogue_of: DialogueOf) -> bool | dict[str, Any]:
    """Tell which question that waits a message replies to; False for none."""
    to = message.reply_to_message
    if to is None or to.from_user is None or to.from_user.id != bot.id:
        return False
    dialogue = await dialogue_of(message.chat.id, to.message_id)
    return {"question_id": dialogue[len(QUEUE) :]} if dialogue and dialogue.startswith(QUEUE) else False


async def unanswered(message: Message, verbs: Verbs) -> Calls:
    """Show a trusted member the questions that wait, one a message: a reply answers it."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if await verbs.access.role(asker.user_id) not in TRUSTED:
        return messages_for(message, [Text(say("not_allowed", asker.language))])
    waiting = await verbs.community.queue(SHOWN)
    if not waiting:
        return messages_for(message, [Text(say("queue_empty", asker.language))])
    calls = messages_for(message, [Text(say("queue_heading", asker.language))])
    for one in waiting:
        times = count("times", one.asked, asker.language)
        words = Text(Bold(inert(one.text)), f"\n{times}, {date(one.asked_at, asker.language)}")
        drop = InlineKeyboardButton(text=say("queue_drop", asker.language), callback_data=f"c:drop:{one.question_id}")
        markup = InlineKeyboardMarkup(inline_keyboard=[[drop]])
        calls += messages_for(message, [words], markup=markup, dialogue_id=f"{QUEUE}{one.question_id}")
    return calls


async def replied(message: Message, question_id: str, verbs: Verbs) -> Calls:
    """Take a trusted member's answer to a question that waits."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if message.from_user is None:
        return []
    try:
        kept = await verbs.community.reply(
            question_id,
            message.text or "",
            author=message.from_user.full_name,
            user_id=asker.user_id,
            source=f"{message.chat.id}/{message.message_id}",
        )
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, asker.language))])
    key = "answer_kept" if kept.corpus_id == MEMBERS_ANSWERS else "answer_kept_closed"
    return messages_for(message, [Text(say(key, asker.language))])


async def opened(message: Message, command: CommandObject, verbs: Verbs) -> Calls:
    """Show a member's answer that a link leads to."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    name = command.args or ""
    key = answer_key(name)
    found = await verbs.post(key, asker) if key is not None else None
    if found is None:
        return messages_for(message, [Text(say("answer_gone", asker.language))])
    question = found[0].text.partition("\n")[0]
    words = Text(Bold(inert(question)), "\n\n", member_answer(found, asker, "answer_by"))
    remove = InlineKeyboardButton(text=say("answer_remove", asker.language), callback_data=f"c:rm:{name}")
    is_theirs = key is not None and await verbs.community.may_remove(key, asker.user_id)
    return messages_for(
        message, [words], markup=InlineKeyboardMarkup(inline_keyboard=[[remove]]) if is_theirs else None
    )


async def removed(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Remove a member's answer, for its author or an admin."""
    language = language_of(query.from_user)
    key = answer_key((query.data or "").split(":")[2])
    user_id = await verbs.privacy.user_id(query.from_user.id)
    try:
        if key is None or user_id is None:
            toast(query, courtesies, say("bad_button", language))
            return []
        await verbs.community.remove_answer(key, user_id=user_id)
    except PostFinderError as error:
        toast(query, courtesies, say("not_allowed" if error.code == "not_allowed" else "answer_gone", language))
        return []
    toast(query, courtesies, say("answer_removed", language))
    return without_buttons(query)


async def dropped(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Take a question out of the queue, for a trusted member."""
    language = language_of(query.from_user)
    user_id = await verbs.privacy.user_id(query.from_user.id)
    if not await verbs.community.may_reply(user_id):
        toast(query, courtesies, say("not_allowed", language))
        return []
    await verbs.community.drop((query.data or "").split(":")[2], user_id=user_id)
    toast(query, courtesies, say("queue_dropped", language))
    return without_buttons(query)


async def again(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies, event_update: Update) -> Calls:
    """Ask a question of before once more; in a private chat only one's own."""
    language = language_of(query.from_user)
    row = await verbs.community.question((query.data or "").removeprefix(ASK_AGAIN))
    if row is None or not row.text or not isinstance(query.message, Message):
        toast(query, courtesies, say("bad_button", language))
        return []
    asker = await who_asks(query.from_user, verbs, query.message.chat.type)
    if query.message.chat.type == "private" and row.user_id != asker.user_id:
        toast(query, courtesies, say("bad_button", language))
        return []
    toast(query, courtesies, None)
    return await _asked(query.message, row.query or row.text, asker, verbs, courtesies, event_update.update_id)


async def faq(message: Message, verbs: Verbs) -> Calls:
    """Show the frequent questions; an admin decides on proposed ones here."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    entries = (await verbs.community.faq("approved"))[:FAQ_SHOWN]
    rows = [
        [InlineKeyboardButton(text=_label(one.text), callback_data=f"c:faq:{one.question_id}")]
        for one in entries
        if one.text
    ]
    words = say("faq_heading" if rows else "faq_empty", asker.language)
    calls = messages_for(message, [Text(words)], markup=InlineKeyboardMarkup(inline_keyboard=rows) if rows else None)
    decides = message.chat.type == "private" and await verbs.access.role(asker.user_id) in DECIDE
    for one in (await verbs.community.faq("proposed"))[:SHOWN] if decides else []:
        row = [
            InlineKeyboardButton(text=say("faq_yes", asker.language), callback_data=f"c:fok:{one.question_id}"),
            InlineKeyboardButton(text=say("faq_no", asker.language), callback_data=f"c:fno:{one.question_id}"),
        ]
        proposed = Text(Bold(inert(one.text)), "\n", say("faq_by", asker.language, people=one.asked))
        calls += messages_for(message, [proposed], markup=InlineKeyboardMarkup(inline_keyboard=[row]))
    return calls


async def frequent(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies, event_update: Update) -> Calls:
    """Ask a frequent question for whoever pressed it: answered anew, inside their rights."""
    language = language_of(query.from_user)
    wanted = (query.data or "").split(":")[2]
    entry = next((one for one in await verbs.community.faq("approved") if one.question_id == wanted), None)
    if entry is None or not entry.text or not isinstance(query.message, Message):
        toast(query, courtesies, say("bad_button", language))
        return []
    asker = await who_asks(query.from_user, verbs, query.message.chat.type)
    toast(query, courtesies, None)
    return await _asked(query.message, entry.text, asker, verbs, courtesies, event_update.update_id)


async def faq_decided(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Take an admin's decision on a frequent question."""
    language = language_of(query.from_user)
    user_id = await verbs.privacy.user_id(query.from_user.id)
    if await verbs.access.role(user_id) not in DECIDE:
        toast(query, courtesies, say("not_allowed", language))
        return []
    _, what, question_id = (query.data or "").split(":")
    state = "approved" if what == "fok" else "refused"
    done = await verbs.community.decide_faq(question_id, state, user_id=user_id)
    toast(query, courtesies, say(f"faq_{state}" if done else "bad_button", language))
    return without_buttons(query)


async def _asked(
    message: Message, text: str, asker: Asker, verbs: Verbs, courtesies: Courtesies, update_id: int
) -> Calls:
    shown = messages_for(message, [Text("🔎 ", Bold(inert(text)))])
    question = Question(text=text, asker=asker, door="telegram")
    return [*shown, *await answered(message, question, verbs, courtesies, update_id)]


def _label(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LABEL_CHARS else f"{line[: LABEL_CHARS - 1]}…"
