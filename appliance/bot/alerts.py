"""Handlers of alerts: ``/alert words``, the list with its buttons, quiet hours; and how a post is told."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from aiogram import F, Router
from aiogram.filters import Command, CommandObject
from aiogram.methods import EditMessageReplyMarkup, EditMessageText, SendMessage
from aiogram.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message
from aiogram.utils.formatting import Bold, Text, TextLink

from appliance.alerts import LEVELS, not_before
from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.render import inert, short
from appliance.bot.who import Calls, said, toast, who_asks
from appliance.errors import PostFinderError
from appliance.journal import Outgoing
from appliance.ledger.alerts import Alert
from appliance.notices import Later, Notice
from appliance.schema import Asker, Language
from appliance.text import clean
from appliance.texts import say
from appliance.verbs import Verbs

EXCERPT_CHARS = 500
OFF = {"off", "нет", "выкл", "выключить", "no"}
_DATA = re.compile(r"a:(?P<act>[xlso]):(?P<alert>\d{1,15})(?::(?P<level>[0-2]))?\Z", re.ASCII)
_HOURS = re.compile(
    r"(?:с |from )?(?P<first>\d{1,2})(?::00)?\s*(?:[-–—]|до |to |until )\s*(?P<last>\d{1,2})(?::00)?"
    r"(?:\s+(?:UTC)?(?P<utc>[+-]\d{1,2}))?\Z",
    re.IGNORECASE,
)


def alerts_router() -> Router:
    """Build the handlers, in private chats."""
    router = Router(name="alerts")
    router.message.filter(F.chat.type == "private")
    router.message.register(alert, Command("alert", ignore_case=True))
    router.message.register(listed, Command("alerts", ignore_case=True))
    router.message.register(quiet, Command("quiet", ignore_case=True))
    router.callback_query.register(pressed, F.data.regexp(_DATA.pattern), F.message.as_("message"))
    return router


async def alert(message: Message, command: CommandObject, verbs: Verbs) -> Calls:
    """Make an alert of what follows the command; without words, list those there are."""
    if not (command.args or "").strip():
        return await listed(message, verbs)
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    return await make_alert(message, command.args or "", asker, verbs)


async def make_alert(message: Message, words: str, asker: Asker, verbs: Verbs) -> Calls:
    """Make an alert and say so, with buttons that make it stricter or wider, or stop it."""
    try:
        made = await verbs.alerts.add(asker, words)
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, asker.language))])
    text, markup = _made(made, asker.language)
    return messages_for(message, [text], markup=markup)


async def listed(message: Message, verbs: Verbs) -> Calls:
    """List a person's alerts, a button to stop each."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    text, markup = await _list(asker, verbs)
    return messages_for(message, [text], markup=markup)


async def quiet(message: Message, command: CommandObject, verbs: Verbs) -> Calls:
    """Set the hours in which alerts wait: ``/quiet 23-8``, ``/quiet 23-8 +5``, ``/quiet off``."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    words = (command.args or "").strip()
    read = _HOURS.match(words)
    if words.lower() in OFF:
        await verbs.talks.set_quiet_hours(asker, {"off": True})
        return messages_for(message, [Text(say("quiet_off", asker.language))])
    if read is None or int(read["first"]) > 24 or int(read["last"]) > 24 or abs(int(read["utc"] or 0)) > 14:
        return messages_for(message, [Text(say("quiet_usage", asker.language))])
    value: dict[str, Any] = {"from": int(read["first"]) % 24, "to": int(read["last"]) % 24}
    if read["utc"]:
        value["utc"] = int(read["utc"])
    await verbs.talks.set_quiet_hours(asker, value)
    hours = {"first": f"{value['from']:02}:00", "last": f"{value['to']:02}:00"}
    return messages_for(message, [Text(say("quiet_set", asker.language, **hours))])


async def pressed(query: CallbackQuery, message: Message, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Stop an alert, or make it stricter or wider: a person's own alone."""
    asker = await who_asks(query.from_user, verbs, message.chat.type)
    read = _DATA.match(query.data or "")
    if read is None or (read["act"] == "l") != (read["level"] is not None):
        toast(query, courtesies, say("bad_button", asker.language))
        return []
    alert_id = int(read["alert"])
    if read["act"] == "l":
        is_done = await verbs.alerts.change(asker, alert_id, LEVELS[int(read["level"])])
        toast(query, courtesies, say("alert_changed" if is_done else "alert_gone", asker.language))
        own = [one for one in await verbs.alerts.listed(asker) if one.alert_id == alert_id]
        return [_edit(message, *_made(own[0], asker.language))] if own else []
    is_done = await verbs.alerts.remove(asker, alert_id)
    toast(query, courtesies, say("alert_stopped" if is_done else "alert_gone", asker.language))
    if read["act"] == "x":
        return [_edit(message, *await _list(asker, verbs))]
    if read["act"] == "o":  # the post that was told stays
        plain = EditMessageReplyMarkup(chat_id=message.chat.id, message_id=message.message_id)
        return [outgoing(plain, priority="draft")]
    return [_edit(message, Text(say("alert_stopped", asker.language)), None)] if is_done else []


async def alert_told(notice: Notice, verbs: Verbs) -> list[SendMessage]:
    """Tell a person of a post, if they may still see it and still want to hear of it; not in their quiet hours."""
    now = datetime.now(UTC)
    if (until := not_before(now, await verbs.talks.quiet_hours(notice.asker), verbs.alerts.config)) > now:
        raise Later(until)  # it had waited for something else until then
    language, body = notice.asker.language, notice.body
    if not body:
        return []
    found = await verbs.post((body["post"][0], body["post"][1]), notice.asker)
    wanted = {one.alert_id for one in await verbs.alerts.listed(notice.asker)}
    if found is None or body["alert"] not in wanted:
        return []
    post, link = found
    text, entities = Text(
        "🔔 ",
        Bold(inert(say("alert_told", language, about=short(body["about"], 200)))),
        "\n\n",
        inert(short(clean(post.text), EXCERPT_CHARS)),
        "\n\n",
        TextLink(say("open_post", language), url=link),
    ).render()
    stop = InlineKeyboardButton(text=say("alert_stop", language), callback_data=f"a:o:{body['alert']}")
    return [
        SendMessage(
            chat_id=notice.telegram_id,
            text=text,
            entities=entities,
            reply_markup=InlineKeyboardMarkup(inline_keyboard=[[stop]]),
        )
    ]


def _made(made: Alert, language: Language) -> tuple[Text, InlineKeyboardMarkup]:
    levels, chosen = [], min(LEVELS, key=lambda above: abs(above - made.above))
    for number, above in enumerate(LEVELS):
        name = say(f"alert_level_{number}", language)
        is_it = above == chosen
        data = f"a:l:{made.alert_id}:{number}"
        levels.append(InlineKeyboardButton(text=f"✓ {name}" if is_it else name, callback_data=data))
    stop = InlineKeyboardButton(text=say("alert_stop", language), callback_data=f"a:s:{made.alert_id}")
    text = Text(inert(say("alert_made", language, about=made.text)))
    return text, InlineKeyboardMarkup(inline_keyboard=[levels, [stop]])


async def _list(asker: Asker, verbs: Verbs) -> tuple[Text, InlineKeyboardMarkup | None]:
    alerts = await verbs.alerts.listed(asker)
    if not alerts:
        return Text(say("alerts_none", asker.language)), None
    lines = [f"{number}. {one.text}" for number, one in enumerate(alerts, start=1)]
    keys = [
        InlineKeyboardButton(text=f"✕ {number}", callback_data=f"a:x:{one.alert_id}")
        for number, one in enumerate(alerts, start=1)
    ]
    rows = [keys[start : start + 5] for start in range(0, len(keys), 5)]
    text = Text(
        say("alerts_list", asker.language), "\n\n", inert("\n".join(lines)), "\n\n", say("alerts_hint", asker.language)
    )
    return text, InlineKeyboardMarkup(inline_keyboard=rows)


def _edit(message: Message, content: Text, markup: InlineKeyboardMarkup | None) -> Outgoing:
    text, entities = content.render()
    edit = EditMessageText(
        chat_id=message.chat.id,
        message_id=message.message_id,
        text=text,
        entities=entities or None,
        reply_markup=markup,
    )
    return outgoing(edit, priority="draft")
