"""Payments in Telegram Stars on the loopback Bot API: invoices, the checkout, renewals, refunds, renewal edits."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.servers.botapi_schema import BadCallError

if TYPE_CHECKING:
    from tests.servers.botapi import BotApi

JsonObject = dict[str, Any]
PERIOD_S = 2_592_000
CHECKOUT_S = 10.0


@dataclass
class Charge:
    """A payment that was made."""

    charge_id: str
    user_id: int
    invoice: JsonObject
    is_refunded: bool = False


@dataclass
class Stars:
    """What Telegram knows of the bot's payments.

    Attributes
    ----------
    verdicts : dict of str to (bool, float)
        By pre-checkout query: whether the bot let it pass, and after how many seconds.
    renews : dict of str to bool
        By first charge of a subscription.
    """

    server: BotApi
    invoices: dict[str, JsonObject] = field(default_factory=dict)
    open: dict[str, float] = field(default_factory=dict)
    verdicts: dict[str, tuple[bool, float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    charges: dict[str, Charge] = field(default_factory=dict)
    renews: dict[str, bool] = field(default_factory=dict)

    def methods(self) -> dict[str, Any]:
        """Methods of the Bot API by name."""
        return {
            "createInvoiceLink": self.create_invoice_link,
            "answerPreCheckoutQuery": self.answer_pre_checkout,
            "refundStarPayment": self.refund,
            "editUserStarSubscription": self.edit_subscription,
        }

    # What people and Telegram do

    def begin(self, user_id: int, link: str, **changed: Any) -> str:
        """Let a person open an invoice and confirm it; returns the pre-checkout query's id."""
        invoice = {**self.invoices[link], **changed}
        query_id = str(5_000_000_000 + len(self.open) + len(self.verdicts))
        self.open[query_id] = time.monotonic()
        self.server.push(
            {
                "pre_checkout_query": {
                    "id": query_id,
                    "from": self.server.users[user_id],
                    "currency": invoice["currency"],
                    "total_amount": invoice["prices"][0]["amount"],
                    "invoice_payload": invoice["payload"],
                }
            }
        )
        return query_id

    def pay(self, user_id: int, link: str, *, until: int | None = None, **changed: Any) -> Charge:
        """Take the money of who passed the checkout, and tell the bot."""
        charge = Charge(f"stars-{len(self.charges) + 1}", user_id, {**self.invoices[link], **changed})
        self.charges[charge.charge_id] = charge
        self.renews[charge.charge_id] = True
        self.tell(charge, until=until, is_first_recurring=True)
        return charge

    def renew(self, first: Charge, *, until: int | None = None) -> Charge | None:
        """Charge a subscription again, where it renews."""
        if not self.renews[first.charge_id]:
            return None
        charge = Charge(f"stars-{len(self.charges) + 1}", first.user_id, first.invoice)
        self.charges[charge.charge_id] = charge
        self.tell(charge, until=until)
        return charge

    def tell(self, charge: Charge, *, until: int | None = None, **more: Any) -> None:
        """Tell the bot of a payment; again, as Telegram may."""
        payment = {
            "currency": charge.invoice["currency"],
            "total_amount": charge.invoice["prices"][0]["amount"],
            "invoice_payload": charge.invoice["payload"],
            "subscription_expiration_date": until or int(time.time()) + PERIOD_S,
            "is_recurring": True,
            "telegram_payment_charge_id": charge.charge_id,
            "provider_payment_charge_id": "0",
            **more,
        }
        self.server.say(charge.user_id, successful_payment=payment)

    # What the bot calls

    async def create_invoice_link(self, params: JsonObject) -> Any:
        """Check an invoice as Telegram does; Stars have one price, no provider, and subscriptions of 30 days."""
        if not 1 <= len(params["title"]) <= 32 or not 1 <= len(params["description"]) <= 255:
            raise BadCallError("Bad Request: INVOICE_TITLE_INVALID")
        if not 1 <= len(params["payload"].encode()) <= 128:
            raise BadCallError("Bad Request: INVOICE_PAYLOAD_INVALID")
        if params["currency"] != "XTR" or len(params["prices"]) != 1 or params.get("provider_token"):
            raise BadCallError("Bad Request: CURRENCY_TOTAL_AMOUNT_INVALID")
        if params.get("subscription_period") != PERIOD_S or not 1 <= params["prices"][0]["amount"] <= 10_000:
            raise BadCallError("Bad Request: SUBSCRIPTION_PERIOD_INVALID")
        link = f"https://t.me/$invoice{len(self.invoices) + 1}"
        self.invoices[link] = params
        return link

    async def answer_pre_checkout(self, params: JsonObject) -> Any:
        """Take the bot's word on a payment, within ten seconds and once."""
        began = self.open.pop(params["pre_checkout_query_id"], None)
        if began is None or time.monotonic() - began > CHECKOUT_S:
            raise BadCallError("Bad Request: query is too old and response timeout expired or query ID is invalid")
        if not params["ok"] and not params.get("error_message"):
            raise BadCallError("Bad Request: error_message is required")
        self.verdicts[params["pre_checkout_query_id"]] = (params["ok"], time.monotonic() - began)
        self.reasons[params["pre_checkout_query_id"]] = params.get("error_message", "")
        return True

    async def refund(self, params: JsonObject) -> Any:
        """Give a payment back and say so in the chat."""
        charge = self.charges.get(params["telegram_payment_charge_id"])
        if charge is None or charge.user_id != params["user_id"]:
            raise BadCallError("Bad Request: CHARGE_NOT_FOUND")
        if charge.is_refunded:
            raise BadCallError("Bad Request: CHARGE_ALREADY_REFUNDED")
        charge.is_refunded = True
        payment = {
            "currency": "XTR",
            "total_amount": charge.invoice["prices"][0]["amount"],
            "invoice_payload": charge.invoice["payload"],
            "telegram_payment_charge_id": charge.charge_id,
        }
        self.server.say(charge.user_id, refunded_payment=payment)
        return True

    async def edit_subscription(self, params: JsonObject) -> Any:
        """Switch the renewal of a subscription, named by its first charge."""
        charge = self.charges.get(params["telegram_payment_charge_id"])
        if charge is None or charge.user_id != params["user_id"] or charge.charge_id not in self.renews:
            raise BadCallError("Bad Request: CHARGE_NOT_FOUND")
        self.renews[charge.charge_id] = not params["is_canceled"]
        return True
