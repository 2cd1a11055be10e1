"""Handlers of those who keep order: requests, bans, appeals, the switch, the way to the admin pages."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from aiogram import F, Router
from aiogram.filters import BaseFilter, Command, CommandObject
from aiogram.methods import EditMessageReplyMarkup
from aiogram.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message, User
from aiogram.utils.formatting import Text

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.render import inert
from appliance.bot.who import language_of, toast
from appliance.errors import PostFinderError
from appliance.journal import Outgoing
from appliance.ledger.order import Member
from appliance.schema import Language
from appliance.texts import say
from appliance.verbs import Verbs

log = structlog.get_logger()

LISTED = 8  # people in one message
ADMINS = frozenset({"owner", "admin"})
KEEPERS = ADMINS | {"moderator"}
_PRESS = re.compile(r"o:(?P<act>in|no|ban|lift|keep):(?P<user>\d{1,15})\Z", re.ASCII)
_TERM = re.compile(
    r"(?P<lead>(?:на|for)\s+(?:an?\s+)?)?(?P<number>\d{1,6})?\s*(?P<unit>[^\W\d_]*)", re.IGNORECASE
)  # "3 дня", "на неделю", "for a week"
_UNIT_DAYS = (
    (r"м|мин|минут\w*|m|mins?|minutes?", 1 / 1440),
    (r"ч|час(?:а|ов)?|h|hrs?|hours?", 1 / 24),
    (r"д|дн|дня|дней|день|сут\w*|d|days?", 1.0),
    (r"нед|недел\w*|w|wks?|weeks?", 7.0),
    (r"мес|месяц\w*|mo|mos|months?", 30.0),
    (r"г|год(?:а|ов)?|лет|y|yrs?|years?", 365.0),
)


class Keeps(BaseFilter):
    """Passes what those write who keep order; to all others their commands do not exist."""

    def __init__(self, roles: frozenset[str] = KEEPERS) -> None:
        self._roles = roles

    async def __call__(self, event: Message | CallbackQuery, verbs: Verbs) -> bool | dict[str, int]:
        """Return the ledger's id of who acts, for the handler."""
        if event.from_user is None:
            return False
        user_id = await verbs.privacy.user_id(event.from_user.id)
        if user_id is None or await verbs.access.role(user_id) not in self._roles:
            return False
        return {"actor": user_id}


def order_router() -> Router:
    """Build the handlers."""
    router = Router(name="order")

    def on(name: str, handler: Callable[..., Awaitable[list[Outgoing]]], roles: frozenset[str] = KEEPERS) -> None:
        router.message.register(handler, Command(name, ignore_case=True), F.chat.type == "private", Keeps(roles))

    on("requests", requests)
    on("bans", bans)
    on("approve", approve)
    on("refuse", refuse)
    on("unban", unban)
    on("pause", pause, ADMINS)
    on("resume", resume, ADMINS)
    on("invite", invite, ADMINS)
    on("uninvite", uninvite, ADMINS)
    on("admission", admission, ADMINS)
    on("antifraud", antifraud, ADMINS)
    on("attacks", attacks)
    on("admin", desk)
    router.message.register(ban, Command("ban", ignore_case=True), Keeps())
    router.callback_query.register(appealed, F.data == "o:appeal")
    router.callback_query.register(pressed, F.data.startswith("o:"), Keeps())
    router.callback_query.register(forged, F.data.startswith("o:"))
    return router


# People


async def requests(message: Message, verbs: Verbs, actor: int) -> list[Outgoing]:
    """List who waits to be let in, a message each, with the buttons to decide."""
    language = language_of(message.from_user)
    found, total = await verbs.admission.members(only="waiting", limit=LISTED)
    if not found:
        return messages_for(message, [Text(say("desk_no_requests", language))])
    calls = []
    for one in found:
        row = [_button("admission_yes", f"o:in:{one.user_id}", language)]
        row.append(_button("admission_no", f"o:no:{one.user_id}", language))
        markup = InlineKeyboardMarkup(inline_keyboard=[row])
        calls += messages_for(message, [Text(inert(say("admission_asked", language, name=one.name)))], markup=markup)
    return [*calls, *_more(message, total - len(found), language)]


async def bans(message: Message, verbs: Verbs, actor: int) -> list[Outgoing]:
    """List the bans in force, a message each, with the buttons to lift it or to keep it in spite of an appeal."""
    language = language_of(message.from_user)
    found, total = await verbs.admission.members(only="banned", limit=LISTED)
    if not found:
        return messages_for(message, [Text(say("desk_no_bans", language))])
    calls = []
    for one in found:
        if one.ban is None:
            continue
        appeals = one.ban.appealed_at is not None and one.ban.answered_at is None
        told = verbs.admission.ban_words(one.ban, language)
        words = say("appeal_asked" if appeals else "ban_listed", language, name=one.name, ban=told)
        row = [_button("appeal_lift", f"o:lift:{one.user_id}", language)]
        if appeals:
            row.append(_button("appeal_keep", f"o:keep:{one.user_id}", language))
        calls += messages_for(message, [Text(inert(words))], markup=InlineKeyboardMarkup(inline_keyboard=[row]))
    return [*calls, *_more(message, total - len(found), language)]


async def ban(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Ban whom the command names, or who wrote the message it replies to: ``/ban @name 3 days reason``."""
    language = language_of(message.from_user)
    rest = (command.args or "").strip()
    replied = message.reply_to_message
    if replied is not None and replied.forum_topic_created:
        replied = None  # whatever is said in a topic replies to its first message
    found: Member | None = None
    first, _, after = rest.partition(" ")
    term = read_term(rest)
    if first.startswith("@") or (first.isdigit() and replied is None and (term is None or term[0] is None)):
        found, term = await _known(first, verbs), read_term(after.strip())
    elif replied is not None and replied.from_user is not None and not replied.from_user.is_bot:
        found = await _known(f"telegram:{replied.from_user.id}", verbs)
    else:
        term = None
    if term is None:
        return messages_for(message, [Text(say("ban_usage", language))])
    days, reason = term
    if found is None:
        return messages_for(message, [Text(say("nobody", language))])
    try:
        made = await verbs.admission.ban(found.user_id, actor=actor, reason=reason, days=days)
    except PostFinderError as error:
        return messages_for(message, [Text(say(error.code, language))])
    told = verbs.admission.ban_words(made, "en" if found.language == "en" else "ru")
    return messages_for(message, [Text(inert(say("done_ban", language, name=found.name, words=told)))])


def read_term(text: str) -> tuple[float | None, str] | None:
    """Read the term and the reason of a ban.

    Parameters
    ----------
    text : str
        "3 дня спам", "2h", "на месяц реклама", "спам".

    Returns
    -------
    (float or None, str), or None
        Days, None for no end, and what is left as the reason; None for a number of nobody knows what.
    """
    term = _TERM.match(text)
    if term is None or not (term["number"] or term["lead"]):
        return None, text.strip()
    known = [days for unit, days in _UNIT_DAYS if re.fullmatch(unit, term["unit"], re.IGNORECASE)]
    if not known:
        return None if term["number"] else (None, text.strip())
    return int(term["number"] or 1) * known[0], text[term.end() :].strip(" ,.;:—-")


async def unban(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """End the ban of whom the command names."""
    return await _decided(message, command, verbs, actor, "lift", "unban_usage")


async def approve(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Let in whom the command names."""
    return await _decided(message, command, verbs, actor, "in", "approve_usage")


async def refuse(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Refuse whom the command names."""
    return await _decided(message, command, verbs, actor, "no", "approve_usage")


async def _decided(
    message: Message, command: CommandObject, verbs: Verbs, actor: int, act: str, usage: str
) -> list[Outgoing]:
    language = language_of(message.from_user)
    name = (command.args or "").split(" ")[0].strip()
    if not name:
        return messages_for(message, [Text(say(usage, language))])
    found = await _known(name, verbs)
    if found is None:
        return messages_for(message, [Text(say("nobody", language))])
    try:
        words = await _do(act, found.user_id, verbs, actor, language)
    except PostFinderError as error:
        words = say(error.code, language)
    return messages_for(message, [Text(inert(words))])


async def invite(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Let people in before they write."""
    language = language_of(message.from_user)
    names = (command.args or "").replace(",", " ").split()
    if not names:
        return messages_for(message, [Text(say("invite_usage", language))])
    try:
        words = say("invited_now", language, count=await verbs.admission.invite(names, actor=actor))
    except PostFinderError as error:
        words = say(error.code, language)
    return messages_for(message, [Text(words)])


async def uninvite(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Take invitations back."""
    language = language_of(message.from_user)
    names = (command.args or "").replace(",", " ").split()
    if not names:
        return messages_for(message, [Text(say("invite_usage", language))])
    count = await verbs.admission.invite(names, actor=actor, back=True)
    return messages_for(message, [Text(say("uninvited_now", language, count=count))])


# The switch and the modes


async def pause(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Ask whether to pause answering; with words after the command, pause with them at once."""
    language = language_of(message.from_user)
    word = (command.args or "").strip()
    if not word:
        row = [_button("desk_pause_yes", "o:pause:now", language)]
        markup = InlineKeyboardMarkup(inline_keyboard=[row])
        return messages_for(message, [Text(say("desk_pause_sure", language))], markup=markup)
    await verbs.admission.pause(actor=actor, name=_name(message.from_user), word=word)
    return messages_for(message, [Text(say("paused_now", language))])


async def resume(message: Message, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Answer again."""
    language = language_of(message.from_user)
    was = await verbs.admission.resume(actor=actor)
    return messages_for(message, [Text(say("resumed_now" if was else "not_paused", language))])


async def admission(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Say or change who may ask."""
    language = language_of(message.from_user)
    wanted = (command.args or "").strip().lower()
    try:
        if wanted:
            await verbs.admission.set_mode(wanted, actor=actor)
    except PostFinderError:
        wanted = ""
    key = "admission_now" if wanted else "admission_usage"
    return messages_for(message, [Text(say(key, language, mode=say(f"mode_{verbs.admission.mode}", language)))])


async def antifraud(message: Message, command: CommandObject, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Say or change how the protection works."""
    language = language_of(message.from_user)
    wanted = (command.args or "").strip().lower()
    try:
        if wanted:
            await verbs.antifraud.set_mode(wanted, actor=actor)
    except PostFinderError:
        wanted = ""
    key = "antifraud_now" if wanted else "antifraud_usage"
    return messages_for(message, [Text(say(key, language, mode=say(f"antifraud_{verbs.antifraud.mode}", language)))])


async def attacks(message: Message, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Show what the antifraud saw in the last hour."""
    return messages_for(message, [Text(attack_words(verbs, language_of(message.from_user)))])


def attack_words(verbs: Verbs, language: Language) -> str:
    """Say what the antifraud saw in the last hour."""
    view = verbs.antifraud.view()
    if not view["hour"]["signs"] and not view["hour"]["stopped"] and not view["hour"]["slowed"]:
        return say("attacks_none", language, seen=view["hour"]["seen"])
    lines = [say("attacks_some", language, **view["hour"])]
    lines += [f"• {say(f'sign_{sign}', language)}: {n}" for sign, n in view["signs"].items()]
    if view["mode"] == "shadow":
        lines.append(say("attacks_shadow", language))
    return "\n".join(lines)


async def desk(message: Message, verbs: Verbs, actor: int) -> list[Outgoing]:
    """Show the state of things, with buttons, and a link to the admin pages that works once."""
    language = language_of(message.from_user)
    counts = await verbs.admission.counts()
    answering = answering_words(verbs, language)
    words = say(
        "desk_state",
        language,
        mode=say(f"mode_{verbs.admission.mode}", language),
        antifraud=say(f"antifraud_{verbs.antifraud.mode}", language),
        answering=answering,
        waiting=counts["waiting"],
        banned=counts["banned"],
        appeals=counts["appeals"],
    )
    link = verbs.sessions.link(actor)
    rows = [
        [_button("desk_requests", "o:show:requests", language), _button("desk_bans", "o:show:bans", language)],
        [_button("desk_attacks", "o:show:attacks", language), _button("desk_numbers", "o:show:numbers", language)],
    ]
    if await verbs.access.role(actor) in ADMINS:
        is_paused = verbs.admission.paused is not None
        key, data = ("desk_resume", "o:pause:end") if is_paused else ("desk_pause", "o:pause:ask")
        rows.append([_button(key, data, language)])
    texts = [Text(inert(f"{say('desk', language)}\n\n{words}")), Text(link_words(link, language))]
    first = messages_for(message, texts[:1], markup=InlineKeyboardMarkup(inline_keyboard=rows))
    return [*first, *messages_for(message, texts[1:])]


def link_words(link: tuple[str, int], language: Language) -> str:
    """Say the link to the admin pages."""
    return say("desk_link", language, url=link[0], minutes=link[1])


def answering_words(verbs: Verbs, language: Language) -> str:
    """Say whether answering is on, or who paused it when."""
    paused = verbs.admission.paused
    if paused is None:
        return say("answering_on", language)
    at = verbs.admission.moment(datetime.fromisoformat(paused["at"]), language)
    return say("answering_off", language, name=paused["name"], at=at)


# Buttons


async def appealed(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies) -> list[Outgoing]:
    """Hand an appeal on."""
    language = language_of(query.from_user)
    user_id = await verbs.privacy.user_id(query.from_user.id)
    is_sent = user_id is not None and await verbs.admission.appeal(user_id)
    toast(query, courtesies, say("appeal_sent" if is_sent else "appeal_not", language))
    return _bare(query) if is_sent else []


async def forged(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies) -> list[Outgoing]:
    """Refuse a button that only those may press who keep order."""
    verbs.antifraud.look(query.from_user.id, "bad")
    toast(query, courtesies, say("bad_button", language_of(query.from_user)))
    return []


async def pressed(query: CallbackQuery, verbs: Verbs, courtesies: Courtesies, actor: int) -> list[Outgoing]:
    """Decide by a button; one pressed before, here or by somebody else, says that it was decided."""
    language = language_of(query.from_user)
    shown = {"o:show:requests": requests, "o:show:bans": bans, "o:show:attacks": attacks}
    message = query.message if isinstance(query.message, Message) else None
    if message is None or message.chat.type != "private":
        toast(query, courtesies, say("bad_button", language))
        return []
    asked = message.model_copy(update={"from_user": query.from_user})  # the words are for who pressed
    if (show := shown.get(query.data or "")) is not None:
        toast(query, courtesies, None)
        return await show(asked, verbs, actor)
    if query.data and query.data.startswith("o:pause:"):
        return await _switched(query, asked, verbs, courtesies, actor)
    known = _PRESS.match(query.data or "")
    if known is None:
        toast(query, courtesies, say("bad_button", language))
        return []
    try:
        words = await _do(known["act"], int(known["user"]), verbs, actor, language)
    except PostFinderError as error:
        toast(query, courtesies, say(error.code, language))
        return _bare(query) if error.code == "already_so" else []
    toast(query, courtesies, None)
    return [*_bare(query), *messages_for(message, [Text(inert(words))])]


async def _switched(
    query: CallbackQuery, message: Message, verbs: Verbs, courtesies: Courtesies, actor: int
) -> list[Outgoing]:
    language = language_of(query.from_user)
    if await verbs.access.role(actor) not in ADMINS:
        toast(query, courtesies, say("not_allowed", language))
        return []
    toast(query, courtesies, None)
    if query.data == "o:pause:ask":
        row = [_button("desk_pause_yes", "o:pause:now", language)]
        markup = InlineKeyboardMarkup(inline_keyboard=[row])
        return messages_for(message, [Text(say("desk_pause_sure", language))], markup=markup)
    if query.data == "o:pause:now":
        await verbs.admission.pause(actor=actor, name=_name(query.from_user))
        return [*_bare(query), *messages_for(message, [Text(say("paused_now", language))])]
    if query.data == "o:pause:end":
        return [*_bare(query), *await resume(message, verbs, actor)]
    return []


async def _do(act: str, user_id: int, verbs: Verbs, actor: int, language: Language) -> str:
    """Do what a button or a command says; returns what to say of it."""
    if act in {"in", "no"}:
        found = await verbs.admission.decide(user_id, let_in=act == "in", actor=actor)
    elif act == "lift":
        found = await verbs.admission.lift(user_id, actor=actor)
    else:
        await verbs.admission.keep(user_id, actor=actor)
        return say("done_keep", language)
    return say(f"done_{act}", language, name=found.name)


async def _known(name: str, verbs: Verbs) -> Member | None:
    """Find a person by what was typed."""
    return await verbs.admission.find(name)


def _more(message: Message, count: int, language: Language) -> list[Outgoing]:
    return messages_for(message, [Text(say("desk_more", language, count=count))]) if count > 0 else []


def _bare(query: CallbackQuery) -> list[Outgoing]:
    """Take the buttons away: they were used."""
    if query.message is None:
        return []
    edit = EditMessageReplyMarkup(chat_id=query.message.chat.id, message_id=query.message.message_id)
    return [outgoing(edit, priority="draft")]


def _button(key: str, data: str, language: Language) -> InlineKeyboardButton:
    return InlineKeyboardButton(text=say(key, language), callback_data=data)


def _name(user: User | None) -> str:
    return (user.full_name if user is not None else "?")[:64]
