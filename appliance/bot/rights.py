"""Handlers of a person's rights: the notice, consent, the archive, erasure; and removal of posts by moderators."""

from __future__ import annotations

import structlog
from aiogram import Bot, F, Router
from aiogram.filters import Command, CommandObject
from aiogram.methods import EditMessageReplyMarkup, SendDocument, SendMessage
from aiogram.types import BufferedInputFile, CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message
from aiogram.utils.formatting import Text

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.paying import end_renewal
from appliance.bot.who import toast
from appliance.errors import PostFinderError
from appliance.journal import Outgoing
from appliance.privacy import NOTICE_VERSION
from appliance.schema import Language
from appliance.texts import language_of_code, say
from appliance.verbs import Verbs

log = structlog.get_logger()

SENT_S = 60.0  # how long an archive or a receipt is sent again: it lies in no outbox
AGREE, ERASE, KEEP = f"p:agree:{NOTICE_VERSION}", "p:erase", "p:keep"


def rights_router() -> Router:
    """Build the handlers; in private chats alone."""
    router = Router(name="rights")
    router.message.filter(F.chat.type == "private")
    router.message.register(privacy, Command("privacy", ignore_case=True))
    router.message.register(mydata, Command("mydata", ignore_case=True))
    router.message.register(forget, Command("forget", ignore_case=True))
    router.callback_query.register(pressed, F.data.startswith("p:"))
    return router


def agree_row(language: Language) -> list[InlineKeyboardButton]:
    """Return the button with which a person agrees to the notice in force."""
    return [InlineKeyboardButton(text=say("agree", language), callback_data=AGREE)]


async def privacy(message: Message, verbs: Verbs) -> list[Outgoing]:
    """Say what is kept, why, how long, and what a person may ask."""
    language = _language(message.from_user)
    days = {name: period or "∞" for name, period in verbs.privacy.periods().items()}
    words = say("privacy", language, version=NOTICE_VERSION, **days)
    return messages_for(message, [Text(words)], markup=InlineKeyboardMarkup(inline_keyboard=[agree_row(language)]))


async def mydata(message: Message, verbs: Verbs, courtesies: Courtesies) -> list[Outgoing]:
    """Send the archive of everything about the person, straight to them: it never lies in the outbox."""
    language = _language(message.from_user)
    if message.from_user is None:
        return []
    try:
        packed = await verbs.privacy.archive(f"telegram:{message.from_user.id}")
    except PostFinderError:
        return messages_for(message, [Text(say("nothing_kept", language))])
    document = BufferedInputFile(packed, "postfinder.zip")
    sending = SendDocument(chat_id=message.chat.id, document=document, caption=say("mydata", language))
    if await courtesies.insist(sending, SENT_S, try_s=SENT_S) is None:
        log.warning("archive not sent")
        return messages_for(message, [Text(say("error", language))])
    return []


async def forget(message: Message, command: CommandObject, verbs: Verbs) -> list[Outgoing]:
    """Ask whether to erase the person; with a link, remove a post."""
    language = _language(message.from_user)
    if message.from_user is None:
        return []
    link = (command.args or "").strip()
    if not link:
        row = [
            InlineKeyboardButton(text=say("forget_yes", language), callback_data=ERASE),
            InlineKeyboardButton(text=say("forget_no", language), callback_data=KEEP),
        ]
        return messages_for(
            message, [Text(say("forget_ask", language))], markup=InlineKeyboardMarkup(inline_keyboard=[row])
        )
    try:
        user_id = await verbs.privacy.user_id(message.from_user.id)
        receipt = await verbs.privacy.forget_link(link, user_id=user_id)
    except PostFinderError as error:
        code = error.code if error.code == "not_allowed" else "no_such_post"
        return messages_for(message, [Text(say(code, language))])
    return messages_for(message, [Text(say("post_forgotten", language, receipt=receipt.receipt_id))])


async def pressed(query: CallbackQuery, bot: Bot, verbs: Verbs, courtesies: Courtesies) -> list[Outgoing]:
    """Take consent, or erase the person and say so; the last word is sent straight and written nowhere."""
    language = _language(query.from_user)
    telegram_id = query.from_user.id
    if query.message is None or query.message.chat.type != "private":
        toast(query, courtesies, say("bad_button", language))
        return []
    if query.data == AGREE:
        user_id = await verbs.privacy.user_id(telegram_id)
        if user_id is not None:
            await verbs.privacy.agree(user_id)
        toast(query, courtesies, say("agreed" if user_id is not None else "bad_button", language))
        return []
    if query.data == KEEP:
        toast(query, courtesies, say("kept", language))
        edit = EditMessageReplyMarkup(chat_id=query.message.chat.id, message_id=query.message.message_id)
        return [outgoing(edit, priority="draft")]
    if query.data != ERASE:
        toast(query, courtesies, say("bad_button", language))
        return []
    user_id = await verbs.privacy.user_id(telegram_id)
    await end_renewal(bot, telegram_id, [one for one in verbs.plans.paid_for(user_id or 0) if one.renews])
    try:
        receipt = await verbs.privacy.erase(f"telegram:{telegram_id}")
        words = say("erased", language, receipt=receipt.receipt_id, when=f"{receipt.erased_at:%Y-%m-%d %H:%M} UTC")
    except PostFinderError:
        words = say("nothing_kept", language)
    toast(query, courtesies, None)
    await courtesies.insist(SendMessage(chat_id=query.message.chat.id, text=words), SENT_S)
    return []


def _language(user: object) -> Language:
    return language_of_code(getattr(user, "language_code", None))
