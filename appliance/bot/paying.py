"""Handlers of plans: what is left, what is offered, invoices, payments told by Telegram, renewal, refunds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from aiogram import Bot, F, Router
from aiogram.filters import Command, CommandObject
from aiogram.methods import (
    AnswerPreCheckoutQuery,
    CreateInvoiceLink,
    EditMessageReplyMarkup,
    EditUserStarSubscription,
    SendMessage,
)
from aiogram.types import (
    CallbackQuery,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LabeledPrice,
    Message,
    PreCheckoutQuery,
)
from aiogram.utils.formatting import Code, Text

from appliance.bot.courtesies import Courtesies
from appliance.bot.outgoing import messages_for, outgoing
from appliance.bot.patience import patiently
from appliance.bot.render import inert
from appliance.bot.who import Calls, language_of, said, toast, who_asks
from appliance.errors import PostFinderError
from appliance.ledger.plans import Plan, Subscription
from appliance.notices import Notice
from appliance.plans import PERIOD_S, STARS
from appliance.schema import Asker, Language
from appliance.texts import count, date, say
from appliance.verbs import Verbs

log = structlog.get_logger()

BUTTON = "$:"
CHECKOUT_S = 8.0  # Telegram waits 10
INVOICE_S = 6.0
STAFF = frozenset({"owner", "admin"})


def paying_router() -> Router:
    """Build the handlers; people speak of their plans in private chats alone."""
    router = Router(name="paying")
    router.message.filter(F.chat.type == "private")
    router.message.register(plan, Command("plan", ignore_case=True))
    router.message.register(terms, Command("terms", ignore_case=True))
    router.message.register(paysupport, Command("paysupport", ignore_case=True))
    router.message.register(refund, Command("refund", ignore_case=True))
    router.message.register(paid, F.successful_payment)
    router.message.register(refunded, F.refunded_payment)
    router.pre_checkout_query.register(checkout)
    router.callback_query.register(pressed, F.data.startswith(BUTTON))
    return router


def limits_words(one: Plan, language: Language) -> str:
    """Say how much a plan lets ask."""
    said = [
        say(key, language, questions=count("questions", limit, language))
        for key, limit in (("plan_per_day", one.per_day), ("plan_per_month", one.per_month))
        if limit is not None
    ]
    return ", ".join(said) or say("plan_unlimited", language)


async def plan(message: Message, command: CommandObject, verbs: Verbs) -> Calls:
    """Say which plan a person has and what is left of it, and offer others; ``/plan cancel`` asks about renewal."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if (command.args or "").strip().lower() in {"cancel", "stop", "отмена", "отменить"}:
        return ask_to_stop(message, asker, verbs)
    text, markup = told(asker, verbs)
    return messages_for(message, [text], markup=markup)


def told(asker: Asker, verbs: Verbs) -> tuple[Text, InlineKeyboardMarkup | None]:
    """Write the page of a person's plan with its buttons."""
    language = asker.language
    if not verbs.plans.is_on:
        return Text(say("plan_off", language)), None
    allowance = verbs.plans.allowance(asker.user_id)
    lines = [having(allowance.plan, allowance.held, language)]
    if allowance.day is not None:
        lines.append(say("plan_today", language, left=allowance.day.left, of=allowance.day.of))
    if allowance.month is not None:
        lines.append(say("plan_month", language, left=allowance.month.left, of=allowance.month.of))
    if allowance.shortest is None:
        lines.append(say("plan_no_limit", language))
    held = verbs.plans.paid_for(asker.user_id) if asker.user_id is not None else []
    renewing = {one.type_id for one in held if one.renews}
    offers = [one for one in verbs.plans.offers() if one.type_id not in renewing]
    rows = []
    if offers:
        lines += ["", say("plan_offers", language)]
    for one in offers:
        words = {"name": one.name, "stars": one.stars}
        lines.append(say("plan_offer", language, limits=limits_words(one, language), **words))
        rows.append(
            [InlineKeyboardButton(text=say("plan_buy", language, **words), callback_data=f"$:buy:{one.type_id}")]
        )
    if renewing:
        rows.append([InlineKeyboardButton(text=say("plan_stop", language), callback_data="$:stop")])
    elif held:
        rows.append([InlineKeyboardButton(text=say("plan_resume", language), callback_data="$:resume")])
    if offers or held:
        lines += ["", say("plan_small_print", language)]
    return Text("\n".join(lines)), InlineKeyboardMarkup(inline_keyboard=rows) if rows else None


def having(one: Plan, held: Subscription | None, language: Language) -> str:
    """Say which plan a person has, and until when."""
    if held is None:
        return say("plan_free", language)
    if held.valid_to is None:
        return say("plan_given", language, name=one.name)
    key = "plan_given_until" if held.charge_id is None else "plan_paid" if held.renews else "plan_paid_ends"
    return say(key, language, name=one.name, until=date(held.valid_to, language))


async def terms(message: Message) -> Calls:
    """Say the terms of paid plans, as Telegram asks."""
    return messages_for(message, [Text(say("terms", language_of(message.from_user)))])


async def paysupport(message: Message, verbs: Verbs) -> Calls:
    """Say whom to ask about payments, and list the person's own with their ids."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    language, contact = asker.language, verbs.plans.support
    blocks: list[str | Text] = [
        say("paysupport", language, contact=contact) if contact else say("paysupport_nobody", language)
    ]
    payments = await verbs.plans.payments(asker.user_id) if asker.user_id is not None else []
    if payments:
        blocks += ["\n\n", say("paysupport_payments", language)]
    for one in payments:
        note = f" ({say('paysupport_refunded', language)})" if one.refunded_at else ""
        blocks += [f"\n{date(one.paid_at, language)}, {one.stars} ⭐{note}: ", Code(one.charge_id)]
    return messages_for(message, [Text(*blocks)])


# Buying


async def pressed(query: CallbackQuery, bot: Bot, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Take a press of a button of plans, ours or forged."""
    language = language_of(query.from_user)
    message = query.message if isinstance(query.message, Message) else None
    if message is None or message.chat.type != "private" or not verbs.plans.is_on:
        toast(query, courtesies, say("bad_button", language))
        return []
    asker = await who_asks(query.from_user, verbs, message.chat.type)
    what, _, number = (query.data or "").removeprefix(BUTTON).partition(":")
    if what == "buy" and number.isascii() and number.isdigit() and len(number) < 18:
        toast(query, courtesies, None)
        return await invoice(message, int(number), bot, verbs, language)
    bare = outgoing(EditMessageReplyMarkup(chat_id=message.chat.id, message_id=message.message_id), priority="draft")
    if what == "stop" and not number:
        toast(query, courtesies, None)
        return ask_to_stop(message, asker, verbs)
    if what == "keep":
        toast(query, courtesies, say("kept", language))
        return [bare]
    if what in {"stopped", "resume"} and asker.user_id is not None:
        toast(query, courtesies, None)
        return [bare, *await renewal(message, query.from_user.id, asker.user_id, verbs, language, on=what == "resume")]
    toast(query, courtesies, say("bad_button", language))
    return []


async def invoice(message: Message, type_id: int, bot: Bot, verbs: Verbs, language: Language) -> Calls:
    """Make an invoice of a plan and send its link."""
    found = verbs.plans.invoice(type_id)
    if found is None:
        return messages_for(message, [Text(say("no_such_plan", language))])
    one, payload = found
    limits = limits_words(one, language)
    call = CreateInvoiceLink(
        title=one.name,
        description=say("plan_invoice_about", language, limits=limits[:1].upper() + limits[1:])[:255],
        payload=payload,
        currency=STARS,
        prices=[LabeledPrice(label=one.name, amount=one.stars)],
        provider_token="",
        subscription_period=PERIOD_S,
    )
    link = await patiently(bot, call, INVOICE_S)
    if link is None:
        return messages_for(message, [Text(say("plan_no_invoice", language))])
    button = InlineKeyboardButton(text=say("plan_pay", language, stars=one.stars), url=link)
    words = say("plan_invoice", language, name=one.name, stars=one.stars)
    return messages_for(message, [Text(words)], markup=InlineKeyboardMarkup(inline_keyboard=[[button]]))


async def checkout(query: PreCheckoutQuery, bot: Bot, verbs: Verbs) -> Calls:
    """Let a payment pass or stop it with a reason; straight away, since Telegram waits 10 seconds."""
    language = language_of(query.from_user)
    user_id = await verbs.privacy.user_id(query.from_user.id)
    if verbs.admission.is_barred(query.from_user.id):
        why: str | None = "banned"
    elif not await verbs.admission.may_read(Asker(user_id)):
        why = "members_only"
    else:
        why = verbs.plans.refusal(query.invoice_payload, query.currency, query.total_amount, user_id)
    answer = AnswerPreCheckoutQuery(
        pre_checkout_query_id=query.id, ok=why is None, error_message=say(why, language) if why else None
    )
    if await patiently(bot, answer, CHECKOUT_S) is None:
        log.warning("a payment was not answered in time")  # Telegram takes no money then
    return []


async def paid(message: Message, verbs: Verbs) -> Calls:
    """Take a payment: stored before it is confirmed, and once however often it comes."""
    payment = message.successful_payment
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if payment is None or asker.user_id is None:
        return []
    until = payment.subscription_expiration_date
    is_first = bool(payment.is_first_recurring) or not payment.is_recurring
    known = await verbs.plans.payment(payment.telegram_payment_charge_id)
    held = await verbs.plans.paid(
        asker.user_id,
        charge_id=payment.telegram_payment_charge_id,
        payload=payment.invoice_payload,
        stars=payment.total_amount,
        until=None if until is None else _moment(until),
        is_renewal=not is_first,
        renews=bool(payment.is_recurring),
    )
    if held is None:
        unknown = Text(say("plan_unknown_payment", asker.language))
        return [] if known is not None else messages_for(message, [unknown])
    bought = verbs.plans.plan(held.type_id)
    words = say(
        "plan_bought" if is_first else "plan_renewed",
        asker.language,
        name=bought.name if bought else "",
        until=date(held.valid_to or datetime.now(UTC), asker.language),
    )
    return messages_for(message, [Text(words)])  # the name is an administrator's; /plan is to be pressed


async def refunded(message: Message, verbs: Verbs) -> Calls:
    """Note that Telegram gave a payment back."""
    payment = message.refunded_payment
    if payment is None:
        return []
    language = language_of(message.from_user)
    await verbs.plans.refunded(payment.telegram_payment_charge_id)
    return messages_for(message, [Text(say("plan_refunded", language, stars=payment.total_amount))])


# Renewal


def ask_to_stop(message: Message, asker: Asker, verbs: Verbs) -> Calls:
    """Ask before renewal is switched off."""
    language = asker.language
    held = [one for one in verbs.plans.paid_for(asker.user_id or 0) if one.renews]
    if not held or held[-1].valid_to is None:
        return messages_for(message, [Text(say("plan_nothing_to_stop", language))])
    bought = verbs.plans.plan(held[-1].type_id)
    row = [
        InlineKeyboardButton(text=say("plan_stop_yes", language), callback_data="$:stopped"),
        InlineKeyboardButton(text=say("plan_stop_no", language), callback_data="$:keep"),
    ]
    name, until = bought.name if bought else "", date(held[-1].valid_to, language)
    words = say("plan_stop_ask", language, name=name, until=until)
    return messages_for(message, [inert(words)], markup=InlineKeyboardMarkup(inline_keyboard=[row]))


async def renewal(
    message: Message, telegram_id: int, user_id: int, verbs: Verbs, language: Language, *, on: bool
) -> Calls:
    """Switch renewal on or off; Telegram is told through the durable outbox."""
    changed = await verbs.plans.set_renews(user_id, on)
    if not changed:
        return messages_for(message, [Text(say("plan_nothing_to_stop", language))])
    ends = max((one.valid_to for one in changed if one.valid_to is not None), default=datetime.now(UTC))
    words = say("plan_resumed", language) if on else say("plan_stopped", language, until=date(ends, language))
    return [*(edit_renewal(telegram_id, one, on=on) for one in changed), *messages_for(message, [Text(words)])]


def edit_renewal(telegram_id: int, held: Subscription, *, on: bool) -> Any:
    """Return the call that tells Telegram whether a subscription is charged again."""
    return outgoing(
        EditUserStarSubscription(
            user_id=telegram_id, telegram_payment_charge_id=held.charge_id or "", is_canceled=not on
        )
    )


async def end_renewal(bot: Bot, telegram_id: int, held: Sequence[Subscription]) -> None:
    """Tell Telegram, straight and as well as it goes, that an erased person is not charged again."""
    for one in held:
        call = EditUserStarSubscription(
            user_id=telegram_id, telegram_payment_charge_id=one.charge_id or "", is_canceled=True
        )
        if await patiently(bot, call, INVOICE_S) is None:
            log.error("the renewal of an erased person's plan may go on")


# Refunds


async def refund(message: Message, command: CommandObject, verbs: Verbs) -> Calls | None:
    """Give a payment back; for owners and admins."""
    asker = await who_asks(message.from_user, verbs, message.chat.type)
    if await verbs.access.role(asker.user_id) not in STAFF:
        return messages_for(message, [Text(say("unknown_command", asker.language))])
    charge_id = (command.args or "").strip()
    if not charge_id:
        return messages_for(message, [Text(say("refund_usage", asker.language))])
    try:
        payment = await verbs.plans.give_back(charge_id, actor_id=asker.user_id)
    except PostFinderError as error:
        return messages_for(message, [Text(said(error, asker.language))])
    return messages_for(message, [Text(say("refund_asked", asker.language, stars=payment.stars))])


async def ended_told(notice: Notice, verbs: Verbs) -> list[SendMessage]:
    """Tell a person that their plan has ended, and what they have now; nothing when it went on, or was refunded."""
    body, language = notice.body, notice.asker.language
    until = datetime.fromisoformat(body["until"])
    user_id = notice.asker.user_id or 0
    bought = verbs.plans.plan(body["plan"])
    if bought is None or not verbs.plans.has_ended(user_id, body["subscription"], until):
        return []
    free = limits_words(verbs.plans.allowance(user_id).plan, language)
    words = say("plan_ended", language, name=bought.name, until=date(until, language), limits=free)
    return [SendMessage(chat_id=notice.telegram_id, text=words)]


def _moment(value: Any) -> datetime:
    return value.astimezone(UTC) if isinstance(value, datetime) else datetime.fromtimestamp(int(value), UTC)
