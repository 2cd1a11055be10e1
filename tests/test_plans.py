"""Plans on the real ledger: quotas counted from questions' rows, payments once each, renewals, refunds; own clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.errors import BadInput, QuotaSpent
from appliance.ledger import Ledger
from appliance.plans import GRACE, PERIOD, Plans, is_worth_showing, type_of
from appliance.schema import Answer, Asker, Final, Outcome, Part, QuestionRow, Quota, Searched
from appliance.texts import left_words

START = datetime(2026, 5, 10, 12, tzinfo=UTC)
ANSWER = Answer("a", "d", "answered", (), (), Searched((), 0, None), "ru", "quotes", "q")


class Clock:
    """The time that a test says it is."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.duckdb") as opened:
        yield opened


def config(**settings: Any) -> Config:
    return Config(_env_file=None, plans=True, **{"timezone": "UTC", **settings})


def person(ledger: Ledger, telegram_id: int = 501) -> int:
    asker = ledger.save_user(telegram_id=telegram_id, username=None, first_name="Анна")
    assert asker.user_id is not None
    return asker.user_id


def asked(ledger: Ledger, user_id: int | None, at: datetime, number: int) -> None:
    ledger.questions.save(
        QuestionRow(f"q{number}", "d", user_id, "telegram", at, "?", "?", "ru", "answered", "quotes", (), "", 0, 0, {})
    )


async def parts(outcome: Outcome = "answered") -> AsyncIterator[Part]:
    yield Final(replace(ANSWER, outcome=outcome))


async def ask(plans: Plans, user_id: int | None, outcome: Outcome = "answered", **more: Any) -> Quota | None:
    last = None
    async for part in plans.metered(parts(outcome), Asker(user_id=user_id, **more)):
        assert isinstance(part, Final)
        last = part.answer.quota
    return last


async def test_without_plans_nobody_is_counted(ledger: Ledger, clock: Clock) -> None:
    plans = await Plans.open(Config(_env_file=None, free_per_day=1), ledger, clock=clock)
    for _ in range(5):
        assert await ask(plans, 1) is None
    assert plans.allowance(1).shortest is None
    assert plans.offers() == []


async def test_a_day_s_questions_are_told_of_before_they_end(ledger: Ledger, clock: Clock) -> None:
    plans = await Plans.open(config(free_per_day=20), ledger, clock=clock)
    shown = [await ask(plans, 1) for _ in range(20)]
    assert [quota.left for quota in shown if quota is not None] == [4, 3, 2, 1, 0]
    assert left_words(Quota("day", 3, 20), "ru").startswith("Осталось 3 вопроса из 20 на сегодня")
    with pytest.raises(QuotaSpent) as refused:
        await ask(plans, 1)
    assert refused.value.code == "quota_day"
    assert refused.value.retry_after_s == 12 * 3600
    assert await ask(plans, 2) is None  # others have their own
    assert await ask(plans, None) is None
    assert await ask(plans, 1, sees_everything=True) is None
    clock.now += timedelta(hours=12)
    assert await ask(plans, 1) is None
    assert plans.allowance(1).day == Quota("day", 19, 20)


async def test_what_failed_or_was_cut_off_is_not_counted_and_what_is_in_work_is(ledger: Ledger, clock: Clock) -> None:
    plans = await Plans.open(config(free_per_day=1), ledger, clock=clock)
    await ask(plans, 1, "failed")

    async def broken() -> AsyncIterator[Part]:
        raise OSError
        yield

    with pytest.raises(OSError):  # noqa: PT011
        async for _ in plans.metered(broken(), Asker(user_id=1)):
            pass
    going = asyncio.Event()

    async def slow() -> AsyncIterator[Part]:
        await going.wait()
        yield Final(ANSWER)

    async def run() -> None:
        async for _ in plans.metered(slow(), Asker(user_id=1)):
            pass

    first = asyncio.create_task(run())
    await asyncio.sleep(0)
    with pytest.raises(QuotaSpent):  # a second at the same time does not slip through
        await ask(plans, 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await ask(plans, 1) == Quota("day", 0, 1)


async def test_counts_come_back_from_the_rows_in_the_community_s_days(ledger: Ledger, clock: Clock) -> None:
    user_id = person(ledger)
    clock.now = datetime(2026, 5, 10, 22, tzinfo=UTC)  # the 11th in Moscow
    asked(ledger, user_id, datetime(2026, 5, 10, 20, 59, tzinfo=UTC), 1)
    asked(ledger, user_id, datetime(2026, 5, 10, 21, 1, tzinfo=UTC), 2)
    asked(ledger, user_id, datetime(2026, 4, 30, 20, 0, tzinfo=UTC), 3)
    asked(ledger, None, clock.now, 4)
    settings = config(free_per_day=5, free_per_month=10, timezone="Europe/Moscow")
    plans = await Plans.open(settings, ledger, clock=clock)
    allowance = plans.allowance(user_id)
    assert allowance.day == Quota("day", 4, 5)
    assert allowance.month == Quota("month", 8, 10)
    assert allowance.shortest == allowance.day


@pytest.mark.parametrize("named", [True, False])
async def test_a_question_worked_on_again_is_counted_once(ledger: Ledger, clock: Clock, named: bool) -> None:
    user_id = person(ledger)
    asked(ledger, user_id, clock.now, 1)
    asked(ledger, user_id, clock.now, 2)  # its row was stored, and the process died before the update was done
    plans = await Plans.open(config(free_per_day=2), ledger, clock=clock)
    asker = Asker(user_id=user_id)
    if not named:  # the broken control: nobody says which question it is
        with pytest.raises(QuotaSpent):
            _ = [part async for part in plans.metered(parts(), asker)]
        return
    for _ in range(2):
        (part,) = [part async for part in plans.metered(parts(), asker, "q2")]
        assert isinstance(part, Final)
        assert part.answer.quota == Quota("day", 0, 2)
    with pytest.raises(QuotaSpent):  # the next one is new
        _ = [part async for part in plans.metered(parts(), asker, "q3")]
    clock.now += timedelta(days=1)
    for _ in range(3):  # a handler that fails after the answer is called again in the same process
        _ = [part async for part in plans.metered(parts(), asker, "q4")]
    assert plans.allowance(user_id).day == Quota("day", 1, 2)


async def test_a_month_ends_too(ledger: Ledger, clock: Clock) -> None:
    plans = await Plans.open(config(free_per_day=3, free_per_month=4), ledger, clock=clock)
    for _ in range(3):
        await ask(plans, 1)
    clock.now += timedelta(days=1)
    assert await ask(plans, 1) == Quota("month", 0, 4)
    with pytest.raises(QuotaSpent) as refused:
        await ask(plans, 1)
    assert refused.value.code == "quota_month"
    assert clock.now + timedelta(seconds=refused.value.retry_after_s) == datetime(2026, 6, 1, tzinfo=UTC)
    clock.now = datetime(2026, 6, 1, tzinfo=UTC)
    assert await ask(plans, 1) == Quota("day", 2, 3)


async def pay(plans: Plans, user_id: int, charge_id: str, type_id: int, **more: Any) -> Any:
    told = {"payload": f"plan:{type_id}:100", "stars": 100, "until": None, "is_renewal": False, "renews": True}
    return await plans.paid(user_id, charge_id=charge_id, **{**told, **more})


async def test_a_plan_is_paid_renewed_left_and_refunded(ledger: Ledger, clock: Clock, tmp_path: Path) -> None:
    user_id = person(ledger)
    plans = await Plans.open(config(free_per_day=1), ledger, clock=clock)
    pro = await plans.save_plan("Про", stars=100, per_day=50, per_month=None)
    assert plans.invoice(pro.type_id) == (pro, f"plan:{pro.type_id}:100")
    payload = f"plan:{pro.type_id}:100"
    assert plans.refusal(payload, "XTR", 100, user_id) is None
    assert plans.refusal(payload, "XTR", 1, user_id) == "price_changed"
    assert plans.refusal(payload, "USD", 100, user_id) == "no_such_plan"
    assert plans.refusal("plan:99:100", "XTR", 100, user_id) == "no_such_plan"

    assert await pay(plans, user_id, "c1", pro.type_id) is not None
    for _ in range(3):  # told again, it is the same payment
        assert await pay(plans, user_id, "c1", pro.type_id) is None
    assert len(await plans.payments(user_id)) == 1
    held = plans.allowance(user_id).held
    assert held is not None
    assert held.valid_to == START + PERIOD
    assert plans.allowance(user_id).plan.per_day == 50
    assert plans.refusal(payload, "XTR", 100, user_id) == "already_paid"

    clock.now = START + PERIOD + GRACE / 2  # a renewal may be late
    assert plans.allowance(user_id).plan == pro
    await pay(plans, user_id, "c2", pro.type_id, is_renewal=True, until=START + 2 * PERIOD)
    clock.now = START + 2 * PERIOD - timedelta(minutes=1)
    assert plans.allowance(user_id).plan == pro
    again = await Plans.open(config(free_per_day=1), ledger, clock=clock)  # and after a restart
    assert again.allowance(user_id).held == plans.allowance(user_id).held

    assert [one.charge_id for one in await plans.set_renews(user_id, False)] == ["c1"]
    assert await plans.set_renews(user_id, False) == []
    clock.now = START + 2 * PERIOD  # it ends to the minute, with no grace
    assert plans.allowance(user_id).plan.name == "free"

    await pay(plans, user_id, "c3", pro.type_id)
    assert plans.allowance(user_id).plan == pro
    refunded = await plans.refunded("c3")
    assert refunded is not None
    assert refunded.refunded_at == clock.now
    assert plans.allowance(user_id).plan.name == "free"
    assert (await plans.refunded("c3")) == refunded
    assert await plans.refunded("nothing") is None
    assert (await Plans.open(config(), ledger, clock=clock)).allowance(user_id).plan.name == "free"


async def test_a_payment_for_nothing_is_kept_and_buys_nothing(ledger: Ledger, clock: Clock) -> None:
    user_id = person(ledger)
    plans = await Plans.open(config(), ledger, clock=clock)
    assert await pay(plans, user_id, "c1", 7) is None
    assert await pay(plans, user_id, "c2", 7, payload="someone else's") is None
    assert {one.charge_id for one in await plans.payments()} == {"c1", "c2"}
    assert plans.allowance(user_id).held is None


async def test_the_operator_gives_changes_and_retires_plans(ledger: Ledger, clock: Clock) -> None:
    user_id = person(ledger)
    plans = await Plans.open(config(free_per_day=1), ledger, clock=clock)
    await plans.save_plan("team", stars=0, per_day=None, per_month=None)
    await plans.grant("telegram:501", "Team", days=10)
    assert plans.allowance(user_id).shortest is None
    clock.now += timedelta(days=10)
    assert plans.allowance(user_id).plan.name == "free"
    first = await plans.save_plan("Про", stars=100, per_day=50, per_month=None)
    second = await plans.save_plan("Про", stars=150, per_day=60, per_month=None)
    assert second.type_id == first.type_id
    assert [one.stars for one in plans.offers()] == [150]
    assert plans.refusal(f"plan:{first.type_id}:100", "XTR", 100, user_id) == "price_changed"
    await plans.save_plan("Про", stars=150, per_day=60, per_month=None, is_retired=True)
    assert plans.offers() == []
    assert [one.name for one in plans.all_plans()] == ["free", "team", "Про"]
    for name, stars in (("", 1), ("free", 1), ("x" * 33, 1), ("much", 10_001)):
        with pytest.raises(BadInput):
            await plans.save_plan(name, stars=stars, per_day=None, per_month=None)
    with pytest.raises(BadInput):
        await plans.grant("telegram:501", "nothing", days=None)
    with pytest.raises(BadInput):
        await plans.grant("telegram:777", "team", days=None)


def test_payloads_of_others_are_no_plans() -> None:
    assert type_of("plan:12:250") == 12
    for payload in ("", "plan", "plan:", "plan:x", "plan:-1", "plan:" + "9" * 40, "plan:²", "other:1"):
        assert type_of(payload) is None
    assert [is_worth_showing(Quota("day", left, 50)) for left in (11, 10, 9, 3)] == [False, True, False, True]


async def test_use_of_plans_is_told_but_not_of_so_few_people(ledger: Ledger, clock: Clock) -> None:
    plans = await Plans.open(config(free_per_day=2, free_per_month=4), ledger, clock=clock)
    pro = await plans.save_plan("Про", stars=250, per_day=10, per_month=None)
    small = await plans.save_plan("Малый", stars=50, per_day=1, per_month=None)
    await plans.save_plan("Старый", stars=90, per_day=5, per_month=None, is_retired=True)
    people = [person(ledger, 600 + number) for number in range(8)]
    for one in people[5:]:  # a month of the smaller plan too: the better one counts
        for plan in (pro, small):
            ledger.plans.give(one, plan.type_id, valid_from=START, valid_to=START + timedelta(days=30))
    ended = START - timedelta(days=1)
    ledger.plans.give(people[0], small.type_id, valid_from=ended - timedelta(days=30), valid_to=ended)
    number = 0

    async def use(*counts: int, at: datetime = START) -> list[dict[str, Any]]:
        nonlocal number
        for who, count in zip(people, counts, strict=False):
            for _ in range(count):
                number += 1
                asked(ledger, who, at, number)
        return await plans.use()

    asked(ledger, None, START, 9999)  # nobody's
    free, tiny, best = await use(2, 1)
    assert [one["plan"] for one in (free, tiny, best)] == ["free", "Малый", "Про"]
    assert (free["people"], free["day"], free["month"]) == (None, None, None)  # two people
    assert (tiny["people"], tiny["day"]) == (0, None)
    assert (best["people"], best["month"]) == (3, None)
    assert best["day"] == {"asked": 0, "allowed": 30, "at_limit": 0.0}
    free, _, best = await use(0, 1, 1, 1, 1, 12, 4)
    assert free["people"] == 5
    assert free["day"] == {"asked": 7, "allowed": 10, "at_limit": None}  # two are at theirs
    assert best["day"] == {"asked": 14, "allowed": 30, "at_limit": None}
    free, *_ = await use(0, 0, 1)
    assert free["day"] == {"asked": 8, "allowed": 10, "at_limit": 0.6}
    assert free["month"] == {"asked": 8, "allowed": 20, "at_limit": 0.0}
    clock.now += timedelta(days=1)
    free, *_ = await use()
    assert free["day"] == {"asked": 0, "allowed": 10, "at_limit": 0.0}
    assert free["month"]["asked"] == 8
    off = await Plans.open(Config(_env_file=None), ledger, clock=clock)
    assert await off.use() == []
