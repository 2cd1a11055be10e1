"""Plans: what a member may still ask, subscriptions paid in Telegram Stars, payments and refunds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

import structlog

from appliance.config import Config
from appliance.errors import BadInput, QuotaSpent
from appliance.journal import Journal, Outgoing
from appliance.ledger import Ledger
from appliance.ledger.plans import Payment, Plan, Subscription
from appliance.notices import Notice, Notices
from appliance.numbers import FEWEST, few, share
from appliance.schema import Asker, Final, Part, Quota

log = structlog.get_logger()

PERIOD = timedelta(days=30)  # of a subscription in Telegram Stars; Telegram allows no other
PERIOD_S = 2_592_000
GRACE = timedelta(hours=6)  # in which a renewal may be late
MOST_STARS = 10_000  # Telegram's limit of a subscription's price
STARS = "XTR"
FREE = 0  # the plan of who has none
SHOWN_BELOW = 0.2  # share of a quota left from which it is shown
SHOWN_AT = 3  # … and questions left
REMEMBERED = 10_000  # newest questions, of which it is known that they are counted: more than can be in work at a crash
PAYLOAD = "plan"
Refusal = Literal["no_such_plan", "price_changed", "already_paid", "plans_off"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a person may still ask.

    Attributes
    ----------
    plan : Plan
    held : Subscription or None
        None for the free plan.
    day, month : Quota or None
        None where there is no limit.
    """

    plan: Plan
    held: Subscription | None
    day: Quota | None
    month: Quota | None

    @property
    def shortest(self) -> Quota | None:
        """The quota that ends first."""
        return min(filter(None, (self.day, self.month)), key=lambda quota: quota.left, default=None)


@dataclass(slots=True)
class _Asked:
    """Questions of a person: on a day and in a month, by their numbers, and those in work."""

    day: int = 0
    on_day: int = 0
    month: int = 0
    in_month: int = 0
    in_work: int = 0


class Plans:
    """The plans in force; of one event loop. Make one with `Plans.open`.

    Parameters
    ----------
    config : Config
    ledger : Ledger
    zone : ZoneInfo
        Of the community's days.
    clock : callable
        Returns the time now, UTC-aware.
    journal : Journal or None
        Takes what Telegram is to be told; None where there is no bot.
    notices : Notices or None
        Takes what people are to be told when a plan has ended.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        zone: ZoneInfo,
        clock: Callable[[], datetime],
        journal: Journal | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._ledger = ledger
        self._zone = zone
        self._clock = clock
        self._journal = journal if config.bot_token() else None
        self._notices = notices
        self.is_on = config.plans
        self.support = config.payment_support
        self._free = Plan(FREE, "free", 0, config.free_per_day or None, config.free_per_month or None)
        self._plans: dict[int, Plan] = {}
        self._held: dict[int, dict[int, Subscription]] = {}  # by person, then by subscription
        self._asked: dict[int, _Asked] = {}
        self._counted: dict[str, None] = {}  # questions' ids, oldest first

    @classmethod
    async def open(
        cls,
        config: Config,
        ledger: Ledger,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        journal: Journal | None = None,
        notices: Notices | None = None,
    ) -> Plans:
        """Read the plans, who has which, and the questions of this month.

        Parameters
        ----------
        config : Config
        ledger : Ledger
        clock : callable, optional
        journal : Journal, optional
        notices : Notices, optional

        Returns
        -------
        Plans
        """
        plans = cls(config, ledger, config.zone(), clock, journal, notices)
        await asyncio.to_thread(plans._load)
        return plans

    def _load(self) -> None:
        self._plans = {plan.type_id: plan for plan in self._ledger.plans.plans()}
        now = self._clock()
        for held in self._ledger.plans.subscriptions(now - PERIOD):
            self._keep(held)
        if self.is_on:
            first = now.astimezone(self._zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            for question_id, user_id, asked_at in self._ledger.plans.asked(first):
                self._count(user_id, asked_at, question_id)

    # What may be asked

    def allowance(self, user_id: int | None) -> Allowance:
        """Say what a person may still ask.

        Parameters
        ----------
        user_id : int or None
            None is not registered: counted by nobody.

        Returns
        -------
        Allowance
        """
        plan, held = self._free, None
        if user_id is not None:
            for one in self._active(user_id):
                candidate = self._plans.get(one.type_id)
                if candidate is not None and (held is None or candidate.stars >= plan.stars):
                    plan, held = candidate, one
        if not self.is_on or user_id is None:
            return Allowance(plan, held, None, None)
        used = self._used(user_id, self._clock())
        return Allowance(
            plan,
            held,
            None if plan.per_day is None else Quota("day", max(0, plan.per_day - used.on_day), plan.per_day),
            None if plan.per_month is None else Quota("month", max(0, plan.per_month - used.in_month), plan.per_month),
        )

    async def metered(
        self, parts: AsyncIterator[Part], asker: Asker, question_id: str | None = None
    ) -> AsyncIterator[Part]:
        """Let a question through within its asker's quota and count it when it is answered.

        What failed or was cut off is not counted. The count is the question's own durable row; in memory it is kept
        at hand, so that asking costs no query. A question worked on again, after a crash say, is counted once: its
        row is there, and it needs no other quota.

        Parameters
        ----------
        parts : async iterator of Part
            Not begun.
        asker : Asker
        question_id : str, optional
            Of its row, where the asker's door names it.

        Yields
        ------
        Part
            `Final` with what is left, where little is.

        Raises
        ------
        QuotaSpent
            Nothing is left; nothing was asked.
        """
        user_id = asker.user_id
        if not self.is_on or user_id is None or asker.sees_everything:
            async with aclosing(cast("AsyncGenerator[Part]", parts)) as free:
                async for part in free:
                    yield part
            return
        quota = self.allowance(user_id).shortest
        used = self._used(user_id, self._clock())
        if quota is not None and quota.left - used.in_work <= 0 and question_id not in self._counted:
            raise self._spent(quota)
        used.in_work += 1
        try:
            async with aclosing(cast("AsyncGenerator[Part]", parts)) as paid:
                async for part in paid:
                    if isinstance(part, Final) and part.answer.outcome in {"answered", "not_found"}:
                        self._count(user_id, self._clock(), question_id)
                        left = self.allowance(user_id).shortest
                        shown = left if left is not None and is_worth_showing(left) else None
                        yield Final(replace(part.answer, quota=shown))
                    else:
                        yield part
        finally:
            used.in_work -= 1

    def _spent(self, quota: Quota) -> QuotaSpent:
        now = self._clock().astimezone(self._zone)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        resets = midnight + timedelta(days=1)
        if quota.period == "month":
            resets = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        return QuotaSpent(
            f"All {quota.of} questions of this {quota.period} are asked.",
            retry_after_s=max(1.0, (resets - now).total_seconds()),
            cure=f"New ones come with the next {quota.period}.",
            code=f"quota_{quota.period}",
        )

    def _used(self, user_id: int, at: datetime) -> _Asked:
        used = self._asked.setdefault(user_id, _Asked())
        local = at.astimezone(self._zone)
        day, month = local.toordinal(), local.year * 12 + local.month
        if day > used.day:
            used.day, used.on_day = day, 0
        if month > used.month:
            used.month, used.in_month = month, 0
        return used

    def _count(self, user_id: int, at: datetime, question_id: str | None) -> None:
        if question_id in self._counted:
            return
        if question_id is not None:
            self._counted[question_id] = None
            if len(self._counted) > REMEMBERED:
                del self._counted[next(iter(self._counted))]
        used = self._used(user_id, at)
        local = at.astimezone(self._zone)
        used.on_day += local.toordinal() == used.day
        used.in_month += local.year * 12 + local.month == used.month

    # Who has what

    def _keep(self, held: Subscription) -> None:
        self._held.setdefault(held.user_id, {})[held.subscription_id] = held

    def _active(self, user_id: int) -> list[Subscription]:
        now = self._clock()
        return [
            held
            for held in self._held.get(user_id, {}).values()
            if held.valid_to is None or held.valid_to + (GRACE if held.renews else timedelta()) > now
        ]

    def paid_for(self, user_id: int) -> list[Subscription]:
        """List a person's subscriptions in force that were paid for."""
        return [held for held in self._active(user_id) if held.charge_id is not None]

    def holders(self) -> list[Subscription]:
        """List the subscriptions in force, those that end first before others."""
        found = [held for user_id in self._held for held in self._active(user_id)]
        return sorted(found, key=lambda held: held.valid_to or datetime.max.replace(tzinfo=UTC))

    def has_ended(self, user_id: int, subscription_id: int, valid_to: datetime) -> bool:
        """Whether a subscription ended when it was to end, and nothing took its place."""
        held = self._held.get(user_id, {}).get(subscription_id)
        return self.is_on and held is not None and held.valid_to == valid_to and not self._active(user_id)

    def plan(self, type_id: int) -> Plan | None:
        """Return a plan by its number."""
        return self._plans.get(type_id)

    def offers(self) -> list[Plan]:
        """List the plans that are sold, the cheapest first."""
        sold = [plan for plan in self._plans.values() if plan.stars and not plan.is_retired]
        return sorted(sold, key=lambda plan: plan.stars) if self.is_on else []

    def all_plans(self) -> list[Plan]:
        """List the free plan and all others, retired ones too."""
        return [self._free, *sorted(self._plans.values(), key=lambda plan: (plan.stars, plan.type_id))]

    async def use(self) -> list[dict[str, Any]]:
        """Say how the plans are used now: how many have each, how much they ask, how many are at their limit.

        Returns
        -------
        list of dict
            JSON-ready, a plan each, the free one first and of who asked this month; empty where plans are off. What
            fewer than three people did is None.
        """
        if not self.is_on:
            return []
        now = self._clock()
        day = now.astimezone(self._zone).replace(hour=0, minute=0, second=0, microsecond=0)
        found = await asyncio.to_thread(
            self._ledger.plans.use, day=day, month=day.replace(day=1), now=now, late=now - GRACE
        )
        used: dict[int, list[tuple[int, int]]] = {}
        for type_id, on_day, in_month in found:
            used.setdefault(type_id, []).append((on_day, in_month))
        return [
            {
                "type_id": plan.type_id,
                "plan": plan.name,
                "people": few(len(mine)),
                "day": _within([one[0] for one in mine], plan.per_day),
                "month": _within([one[1] for one in mine], plan.per_month),
            }
            for plan in self.all_plans()
            if (mine := used.get(plan.type_id, [])) or not plan.is_retired
        ]

    # Selling

    def invoice(self, type_id: int) -> tuple[Plan, str] | None:
        """Return a plan that is sold with its invoice's payload; None when it is not."""
        plan = next((one for one in self.offers() if one.type_id == type_id), None)
        return None if plan is None else (plan, f"{PAYLOAD}:{plan.type_id}:{plan.stars}")

    def refusal(self, payload: str, currency: str, stars: int, user_id: int | None) -> Refusal | None:
        """Say why a payment that is about to be made must not be; None lets it pass.

        Parameters
        ----------
        payload : str
            Of the invoice.
        currency : str
        stars : int
        user_id : int or None
            Who pays.

        Returns
        -------
        str or None
        """
        if not self.is_on:
            return "plans_off"
        type_id = type_of(payload)
        plan = None if type_id is None else next((one for one in self.offers() if one.type_id == type_id), None)
        if plan is None or currency != STARS:
            return "no_such_plan"
        if payload != f"{PAYLOAD}:{plan.type_id}:{plan.stars}" or stars != plan.stars:
            return "price_changed"
        if user_id is not None and any(held.type_id == type_id and held.renews for held in self.paid_for(user_id)):
            return "already_paid"
        return None

    async def paid(
        self,
        user_id: int,
        *,
        charge_id: str,
        payload: str,
        stars: int,
        until: datetime | None,
        is_renewal: bool,
        renews: bool,
    ) -> Subscription | None:
        """Take a payment that was made, once however often it is told.

        Parameters
        ----------
        user_id : int
            Who paid.
        charge_id : str
            Telegram's id of the payment.
        payload : str
            Of the invoice.
        stars : int
        until : datetime or None
            End of what was paid for, as Telegram says; None is 30 days.
        is_renewal, renews : bool
            Whether it goes on with a subscription; whether it will be charged again.

        Returns
        -------
        Subscription or None
            None for a payment that was known, or that buys no plan of ours (`unknown_payment` says which).
        """
        now = self._clock()
        type_id = type_of(payload)
        if type_id not in self._plans:
            log.error("a payment buys no plan", stars=stars)
            type_id = None
        payment = Payment(charge_id, user_id, type_id, stars, is_renewal, now)
        held = await asyncio.to_thread(self._ledger.plans.pay, payment, valid_to=until or now + PERIOD, renews=renews)
        if held is not None:
            self._keep(held)
            await self._will_end(held)
        return held

    async def set_renews(self, user_id: int, renews: bool) -> list[Subscription]:
        """Note that a person's paid subscriptions are charged again at their end, or not; returns those changed."""
        changed = [held for held in self.paid_for(user_id) if held.renews != renews]
        for held in changed:
            await asyncio.to_thread(self._ledger.plans.set_renews, held.subscription_id, renews)
            self._keep(replace(held, renews=renews))
        return changed

    async def payment(self, charge_id: str) -> tuple[Payment, int] | None:
        """Find a payment and the Telegram id of who paid."""
        return await asyncio.to_thread(self._ledger.plans.payment, charge_id)

    async def payments(self, user_id: int | None = None) -> list[Payment]:
        """List the newest payments, of one person or of all."""
        return await asyncio.to_thread(self._ledger.plans.payments, user_id)

    async def give_back(self, charge_id: str, *, actor_id: int | None) -> Payment:
        """Give a payment back: Telegram is told through the durable outbox, and what it bought ends now.

        Parameters
        ----------
        charge_id : str
        actor_id : int or None
            Who gives it back; None for the operator's shell.

        Returns
        -------
        Payment

        Raises
        ------
        BadInput
            No such payment, one that went back before, or no bot to give it back through.
        """
        found = await self.payment(charge_id)
        if found is None or found[0].refunded_at is not None:
            cure = "`postfinder plan payments` lists them."
            raise BadInput("There is no such payment, or it went back before.", cure=cure, code="refund_unknown")
        if self._journal is None:
            cure = "Set TELEGRAM_BOT_TOKEN."
            raise BadInput("A payment goes back through the bot, and there is none.", cure=cure, code="refund_no_bot")
        payload = {"user_id": found[1], "telegram_payment_charge_id": charge_id}
        call = Outgoing(found[1], "refundStarPayment", payload, once=f"refund:{charge_id}")
        await asyncio.to_thread(self._journal.enqueue, [call])
        await self.refunded(charge_id)
        detail = {"stars": found[0].stars}
        await asyncio.to_thread(self._ledger.access.record, "plan.refund", actor_id=actor_id, detail=detail)
        return found[0]

    async def refunded(self, charge_id: str) -> Payment | None:
        """Note that a payment went back: what it bought ends now. None when there is no such payment."""
        payment = await asyncio.to_thread(self._ledger.plans.refund, charge_id, self._clock())
        if payment is not None and payment.refunded_at is not None:
            for held in list(self._held.get(payment.user_id, {}).values()):
                if held.charge_id is not None and held.type_id == payment.type_id:
                    self._keep(replace(held, valid_to=payment.refunded_at, renews=False))
        return payment

    async def _will_end(self, held: Subscription) -> None:
        """Note that a person is to be told when what they have has ended; one that goes on by then is not told of."""
        if held.valid_to is None or self._notices is None:
            return
        name = f"plan-end:{held.subscription_id}:{held.valid_to:%Y%m%d%H%M}"
        body = {"subscription": held.subscription_id, "plan": held.type_id, "until": held.valid_to.isoformat()}
        when = held.valid_to + (GRACE if held.renews else timedelta())
        await self._notices.add([Notice(name, held.user_id, "plan_ended", body, when)])

    # The operator's

    async def save_plan(
        self,
        name: str,
        *,
        stars: int,
        per_day: int | None,
        per_month: int | None,
        is_retired: bool = False,
        actor_id: int | None = None,
    ) -> Plan:
        """Create a plan, or change the one of this name.

        Raises
        ------
        BadInput
            A name or price that Telegram would refuse.
        """
        name = name.strip()
        if not 1 <= len(name) <= 32 or name.casefold() == "free":
            cure = "Give another name."
            raise BadInput("A plan's name has 1 to 32 characters and is not “free”.", cure=cure, code="plan_name")
        if not 0 <= stars <= MOST_STARS:
            raise BadInput(f"A plan costs 0 to {MOST_STARS} stars.", cure="Give another price.")
        plan = await asyncio.to_thread(
            self._ledger.plans.save_plan,
            name,
            stars=stars,
            per_day=per_day or None,
            per_month=per_month or None,
            is_retired=is_retired,
        )
        self._plans[plan.type_id] = plan
        await asyncio.to_thread(
            self._ledger.access.record, "plan.save", actor_id=actor_id, subject=f"plan:{plan.type_id}"
        )
        return plan

    async def grant(self, who: str, name: str, *, days: int | None, actor_id: int | None = None) -> Subscription:
        """Give a person a plan without a payment.

        Parameters
        ----------
        who : str
            ``@username``, the ledger's user id, or ``telegram:`` and Telegram's id.
        name : str
            Of the plan.
        days : int or None
            None gives it for good.
        actor_id : int, optional
            Who gives it.

        Returns
        -------
        Subscription

        Raises
        ------
        BadInput
            No such person or plan.
        """
        found = await asyncio.to_thread(self._ledger.people.find, who)
        if found is None:
            cure = "They must have written to the bot first."
            raise BadInput("Nobody of that name is known.", cure=cure, code="nobody")
        wanted = [one for one in self._plans.values() if one.name.casefold() == name.strip().casefold()]
        if not wanted:
            cure = "`postfinder plan list` lists them."
            raise BadInput(f"There is no plan “{name}”.", cure=cure, code="unknown_plan")
        now = self._clock()
        until = None if days is None else now + timedelta(days=days)
        held = await asyncio.to_thread(
            self._ledger.plans.give, found.user_id, wanted[0].type_id, valid_from=now, valid_to=until
        )
        self._keep(held)
        await self._will_end(held)
        await asyncio.to_thread(
            self._ledger.access.record, "plan.grant", actor_id=actor_id, subject=f"user:{found.user_id}",
            detail={"plan": wanted[0].type_id, "days": days},
        )  # fmt: skip
        return held


def _within(used: list[int], limit: int | None) -> dict[str, Any] | None:
    """Say how much of a limit people used; None without a limit, or of so few people."""
    if limit is None or len(used) < FEWEST:
        return None
    spent = few(sum(count >= limit for count in used))
    asked = sum(min(count, limit) for count in used)
    return {
        "asked": None if spent is None and limit == 1 else asked,  # would be the count that stays unsaid
        "allowed": limit * len(used),
        "at_limit": None if spent is None else share(spent, len(used)),
    }


def is_worth_showing(quota: Quota) -> bool:
    """Tell whether so little is left that a person should know: the last fifth, at its beginning and at its end."""
    return quota.left <= SHOWN_AT or quota.left == int(quota.of * SHOWN_BELOW)


def type_of(payload: str) -> int | None:
    """Read which plan an invoice is of; None for another's invoice."""
    kind, _, rest = payload.partition(":")
    number = rest.partition(":")[0]
    return int(number) if kind == PAYLOAD and number.isascii() and number.isdigit() and len(number) < 18 else None
