"""Plans, payments in Stars and commands in plain words over the loopback Bot API, as people have them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from appliance.app import App, open_app
from appliance.bot import outbox, paying
from appliance.config import Config
from appliance.ledger.plans import Plan
from appliance.plans import Plans
from appliance.schema import Channel, Part, Post, Question
from appliance.texts import count, date, say
from tests.servers.botapi import BotApi
from tests.servers.botapi_limits import Fault, Limits
from tests.test_bot import ANNA, BORIS, CHLOE, Town, buttons

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = datetime(2026, 5, 10, 12, tzinfo=UTC)
NEWS = Channel(id=1777000009, title="Двор", username="dvor")
POSTS = [
    "Сварка: мастер-класс в субботу в десять утра, приходите в плотной одежде и в очках.",
    "Компост: кидать можно очистки и листья, нельзя мясо и кости.",
    "Ключи от подвала лежат у вахтёра в красном ящике, брать под расписку.",
]
ASKED = "Где лежат ключи от подвала?"
PAYMENT_CALLS = ("createInvoiceLink", "answerPreCheckoutQuery", "refundStarPayment", "editUserStarSubscription")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    config = Config(
        _env_file=None,
        data_dir=tmp_path_factory.mktemp("plans") / "data",
        weights_dir=Path(__file__).parents[1] / "weights",
        threads=2,
    )
    async with open_app(config) as opened:
        opened.ledger.save_channel(NEWS)
        await opened.verbs.ingest([Post(NEWS.id, number, START, text) for number, text in enumerate(POSTS, 1)])
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture(loop_scope="module")
async def town(app: App, tmp_path: Path, clock: Clock) -> AsyncIterator[Town]:
    """A bot with three free questions a day, a clock of its own and people the ledger has not met in this test."""
    settings = Config(_env_file=None, plans=True, free_per_day=3, payment_support="@owner", timezone="UTC")
    plans = await Plans.open(settings, app.ledger, clock=clock, notices=app.verbs.notices)
    await plans.save_plan("Про", stars=250, per_day=200, per_month=None)

    def ask(question: Question) -> AsyncIterator[Part]:
        return plans.metered(app.verbs.ask(question), question.asker, question.id)

    async with BotApi(limits=Limits(speed=1000)) as server:
        server.add_user(ANNA, "Анна", username="anna")
        server.add_user(BORIS, "Борис")
        server.add_user(CHLOE, "Chloe", "en")
        yield Town(server, tmp_path / "journal.sqlite", replace(app.verbs, plans=plans, ask=ask))
    for who in (ANNA, BORIS, CHLOE):
        if await app.verbs.privacy.user_id(who) is not None:
            await app.verbs.privacy.erase(f"telegram:{who}")


@pytest.fixture(params=[False, True], ids=["calm", "faulty"])
def weather(request: pytest.FixtureRequest, town: Town, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Telegram as it is on a good day, or refusing and failing."""
    monkeypatch.setattr(outbox, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr("appliance.bot.intake.backoff_s", lambda failures: 0.05)
    if request.param:
        town.server.faults += [
            Fault("429", ("sendMessage",), probability=0.03),
            Fault("500", probability=0.15),
            Fault("502", probability=0.1),
            *(Fault(kind, (method,), times=1) for method in PAYMENT_CALLS for kind in ("500", "429")),
        ]
    return bool(request.param)


async def bought(town: Town, who: int, clock: Clock) -> tuple[Any, dict[str, Any]]:
    """Buy the plan as a person does: /plan, its button, the link, the confirmation."""
    page = await town.ask(who, "/plan")
    offer = next(label for label in buttons(page) if "250" in label)
    before = len(town.server.from_bot(who))
    town.server.press(who, page["message_id"], offer)
    await town.server.until(lambda: len(town.server.from_bot(who)) > before, 20)
    (key,) = town.server.from_bot(who)[before]["reply_markup"]["inline_keyboard"][0]
    query = town.server.stars.begin(who, key["url"])
    await town.server.until(lambda: query in town.server.stars.verdicts, 20)
    passed, took_s = town.server.stars.verdicts[query]
    assert passed
    assert took_s < 10
    before = len(town.server.from_bot(who))
    charge = town.server.stars.pay(who, key["url"], until=int((clock.now + timedelta(days=30)).timestamp()))
    await town.server.until(lambda: len(town.server.from_bot(who)) > before, 20)
    return charge, town.server.from_bot(who)[before]


async def test_questions_run_out_with_a_word_before(town: Town) -> None:
    async with town.bot():
        lasts = [(await town.ask(ANNA, ASKED))["text"].splitlines()[-1] for _ in range(3)]
        assert lasts == [
            "Осталось 2 вопроса из 3 на сегодня. /plan",
            "Остался 1 вопрос из 3 на сегодня. /plan",
            "Это был последний вопрос на сегодня: всего 3 в день. /plan",
        ]
        spent = (await town.ask(ANNA, ASKED))["text"]
        assert spent == say("quota_day", "ru")
        assert "/search" in spent
        assert "Компост" in (await town.ask(ANNA, "/search компост"))["text"]  # which is not counted
        assert "красном ящике" in (await town.ask(BORIS, ASKED))["text"]
        assert say("help_plan", "ru") in (await town.ask(BORIS, "/help"))["text"]
        assert "0 из 3" in (await town.ask(ANNA, "сколько осталось вопросов?"))["text"]
        assert "2 questions of 3 left for today" in (await town.ask(CHLOE, ASKED))["text"]


async def test_a_subscription_of_three_people_at_once(town: Town, clock: Clock, weather: bool) -> None:
    async with town.bot() as journal:
        results = await asyncio.gather(*(bought(town, who, clock) for who in (ANNA, BORIS, CHLOE)))
        assert results[0][1]["text"] == say("plan_bought", "ru", name="Про", until="09.06.2026")
        charge = results[0][0]
        said = len(town.server.from_bot(ANNA))
        for _ in range(3):  # told again by Telegram
            town.server.stars.tell(charge, is_first_recurring=True)
        await town.quiet(journal)
        assert len(town.server.from_bot(ANNA)) == said
        assert len(await town.verbs.plans.payments()) == 3

        clock.now += timedelta(days=29)
        town.server.stars.renew(charge, until=int((clock.now + timedelta(days=31)).timestamp()))
        await town.server.until(lambda: len(town.server.from_bot(ANNA)) > said, 20)
        assert town.server.from_bot(ANNA)[-1]["text"] == say("plan_renewed", "ru", name="Про", until="09.07.2026")

        asked = await town.ask(ANNA, "отмени платный тариф")
        if buttons(asked) and asked["text"] == say("which_is_meant", "ru"):
            before = len(town.server.from_bot(ANNA))
            town.server.press(ANNA, asked["message_id"], say("want_plan_cancel", "ru"))
            await town.server.until(lambda: len(town.server.from_bot(ANNA)) > before, 20)
            asked = town.server.from_bot(ANNA)[before]
        assert "Выключить продление" in asked["text"]
        assert town.server.stars.renews[charge.charge_id]  # nothing is done yet
        town.server.press(ANNA, asked["message_id"], say("plan_stop_yes", "ru"))
        await town.server.until(lambda: not town.server.stars.renews[charge.charge_id], 20)
        await town.quiet(journal)
        assert town.server.stars.renew(charge) is None
        assert "Продление выключено" in (await town.ask(ANNA, "/plan"))["text"]
        page = town.server.from_bot(ANNA)[-1]
        town.server.press(ANNA, page["message_id"], say("plan_resume", "ru"))
        await town.server.until(lambda: town.server.stars.renews[charge.charge_id], 20)
        await town.quiet(journal)
        clock.now += timedelta(days=40)
        assert say("plan_free", "ru") in (await town.ask(ANNA, "/plan"))["text"]
        await town.quiet(journal)
        assert journal.counts()["inbox_quarantined"] == journal.counts()["outbox_failed"] == 0
    assert town.server.flood.violations == 0


async def test_a_payment_goes_back_by_an_admin_alone(town: Town, app: App, clock: Clock, weather: bool) -> None:
    async with town.bot() as journal:
        town.verbs.plans._journal = journal
        charge, _ = await bought(town, ANNA, clock)
        support = await town.ask(ANNA, "/paysupport")
        assert "@owner" in support["text"]
        assert charge.charge_id in support["text"]
        assert (await town.ask(BORIS, f"/refund {charge.charge_id}"))["text"] == say("unknown_command", "ru")
        app.ledger.access.set_role(await town.verbs.privacy.user_id(BORIS) or 0, "admin")
        assert (await town.ask(BORIS, "/refund"))["text"] == say("refund_usage", "ru")
        assert (await town.ask(BORIS, "/refund nothing"))["text"] == say("refund_unknown", "ru")
        assert (await town.ask(BORIS, f"/refund {charge.charge_id}"))["text"] == say("refund_asked", "ru", stars=250)
        await town.server.until(lambda: charge.is_refunded, 20)
        assert (await town.ask(BORIS, f"/refund {charge.charge_id}"))["text"] == say("refund_unknown", "ru")
        await town.quiet(journal)
        assert town.server.from_bot(ANNA)[-1]["text"] == say("plan_refunded", "ru", stars=250)
        assert say("plan_free", "ru") in (await town.ask(ANNA, "мой тариф"))["text"]
        assert journal.counts()["outbox_failed"] == 0


async def test_the_end_of_a_plan_is_told_once_and_not_while_another_goes_on(town: Town, app: App, clock: Clock) -> None:
    plans, clock.now = town.verbs.plans, datetime.now(UTC) - timedelta(days=31)
    async with town.bot():
        for who in (BORIS, CHLOE):
            await town.ask(who, "/plan")
    for who, days in ((BORIS, 30), (CHLOE, 30), (CHLOE, 60)):
        held = await plans.grant(f"telegram:{who}", "Про", days=days)
        if who == BORIS:
            ends = held.valid_to
    assert ends is not None
    clock.now = datetime.now(UTC)
    for _ in range(2):  # the second start tells nothing anew
        async with town.bot() as journal:
            await town.server.until(lambda: not app.ledger.notices.due(datetime.now(UTC), kinds=["plan_ended"]), 20)
            await town.quiet(journal)
    limits = say("plan_per_day", "ru", questions=count("questions", 3, "ru"))
    told = say("plan_ended", "ru", name="Про", until=date(ends, "ru"), limits=limits)
    assert [message["text"] for message in town.server.from_bot(BORIS)[1:]] == [told]
    assert len(town.server.from_bot(CHLOE)) == 1


async def test_checkouts_that_must_not_pass_are_stopped_with_a_reason(town: Town, clock: Clock) -> None:
    async with town.bot() as journal:
        await bought(town, ANNA, clock)
        (link,) = town.server.stars.invoices
        for who, changed, why in (
            (ANNA, {}, "already_paid"),
            (BORIS, {"payload": "plan:1:1"}, "price_changed"),
            (BORIS, {"payload": "другое"}, "no_such_plan"),
            (BORIS, {"currency": "USD"}, "no_such_plan"),
        ):
            query = town.server.stars.begin(who, link, **changed)
            await town.server.until(lambda query=query: query in town.server.stars.verdicts, 20)
            assert town.server.stars.verdicts[query][0] is False
            assert town.server.stars.reasons[query] in {say(why, "ru"), say("no_such_plan", "ru")}
        town.server.stars.pay(BORIS, link, payload="другое")
        await town.quiet(journal)
        assert town.server.from_bot(BORIS)[-1]["text"] == say("plan_unknown_payment", "ru")


async def test_the_banned_buy_nothing_and_what_they_paid_before_is_kept(town: Town, app: App, clock: Clock) -> None:
    async with town.bot() as journal:
        await bought(town, ANNA, clock)
        (link,) = town.server.stars.invoices
        await town.ask(BORIS, "/start")
        boris = await town.verbs.privacy.user_id(BORIS)
        assert boris is not None
        await town.verbs.admission.ban(boris, actor=None, days=1)
        query = town.server.stars.begin(BORIS, link)
        await town.server.until(lambda: query in town.server.stars.verdicts, 20)
        assert town.server.stars.verdicts[query][0] is False
        assert town.server.stars.reasons[query] == say("banned", "ru")
        charge = town.server.stars.pay(BORIS, link)  # the checkout had passed just before the ban
        await town.quiet(journal)
        assert [one for one in await town.verbs.plans.payments(boris) if one.charge_id == charge.charge_id]
        assert say("plan_bought", "ru", name="Про", until="?").split("?")[0] in town.server.from_bot(BORIS)[-1]["text"]
        stop = await town.ask(BORIS, "/plan cancel")
        town.server.press(BORIS, stop["message_id"], say("plan_stop_yes", "ru"))
        await town.quiet(journal)
        assert not town.server.stars.renews[charge.charge_id]
        await town.verbs.admission.lift(boris, actor=None)


async def test_an_invoice_that_telegram_does_not_make_is_said(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paying, "INVOICE_S", 0.5)
    town.server.faults.append(Fault("500", ("createInvoiceLink",)))
    async with town.bot() as journal:
        page = await town.ask(ANNA, "/plan")
        town.server.press(ANNA, page["message_id"], buttons(page)[0])
        await town.quiet(journal)
    assert town.server.from_bot(ANNA)[-1]["text"] == say("plan_no_invoice", "ru")


async def test_who_erases_themselves_is_charged_no_more(town: Town, clock: Clock) -> None:
    async with town.bot() as journal:
        charge, _ = await bought(town, ANNA, clock)
        asked = await town.ask(ANNA, "удали мои данные")
        assert asked["text"] == say("forget_ask", "ru")  # a destructive one always confirms
        assert await town.verbs.privacy.user_id(ANNA) is not None
        town.server.press(ANNA, asked["message_id"], say("forget_yes", "ru"))
        await town.quiet(journal)
        assert not town.server.stars.renews[charge.charge_id]
        assert await town.verbs.privacy.user_id(ANNA) is None
        assert not [one for one in await town.verbs.plans.payments() if one.charge_id == charge.charge_id]


async def test_plain_words_do_what_commands_do(town: Town) -> None:
    async with town.bot() as journal:
        assert (await town.ask(ANNA, "Помощь"))["text"].startswith(say("help", "ru")[:20])
        assert (await town.ask(ANNA, "спасибо!"))["text"] == say("told_thanks", "ru")
        assert (await town.ask(ANNA, "Привет!"))["text"] == say("told_hello", "ru")
        assert (await town.ask(ANNA, "👍"))["text"] == say("told_noted", "ru")
        assert "Сварка" in (await town.ask(ANNA, "что нового за неделю?"))["text"]
        assert say("plan_free", "en") in (await town.ask(CHLOE, "what's my plan?"))["text"]
        assert "красном ящике" in (await town.ask(BORIS, ASKED))["text"]  # a question stays a question
        await town.ask(BORIS, "пришли мои данные")
        assert town.server.documents
        reply = await town.ask(BORIS, "мой тариф", reply_to=town.server.from_bot(BORIS)[-1]["message_id"])
        assert say("plan_free", "ru") not in reply["text"]  # a reply carries the conversation on
        reply = await town.ask(BORIS, "Спасибо!", reply_to=reply["message_id"])
        assert reply["text"] == say("told_thanks", "ru")  # but a thank you asks nothing
        await town.quiet(journal)


async def test_what_could_be_either_is_asked(town: Town) -> None:
    async with town.bot() as journal:
        asked = await town.ask(ANNA, "отмени подписку")
        assert asked["text"] == say("which_is_meant", "ru")
        assert say("want_plan_cancel", "ru") in buttons(asked)
        assert say("want_question", "ru") in buttons(asked)
        assert "reply_to_message" in asked
        await town.quiet(journal)
        before = len(town.server.from_bot(ANNA))
        stranger = town.server.press_data(BORIS, asked["message_id"], "w:forget", chat_id=ANNA)
        forged = town.server.press_data(ANNA, asked["message_id"], "w:nothing")
        await town.quiet(journal)
        assert len(town.server.from_bot(ANNA)) == before
        answers = town.server.callback_answers
        await town.server.until(lambda: {stranger, forged} <= set(answers), 20)
        assert {answers[one]["text"] for one in (stranger, forged)} == {say("bad_button", "ru")}
        town.server.press(ANNA, asked["message_id"], say("want_question", "ru"))
        await town.quiet(journal)
        assert buttons(town.server.from_bot(ANNA)[0]) == []  # asked once
        assert buttons(town.server.from_bot(ANNA)[-1])[:2] == ["👍", "👎"]  # it was searched
        assert await town.verbs.privacy.user_id(ANNA) is not None


async def test_forged_buttons_of_plans_change_nothing(town: Town) -> None:
    async with town.bot() as journal:
        page = await town.ask(ANNA, "/plan")
        for data in ("$:", "$:buy", "$:buy:x", "$:buy:999", "$:buy:" + "9" * 40, "$:stopped", "$:resume", "$:stop:1"):
            town.server.press_data(ANNA, page["message_id"], data)
        await town.quiet(journal)
        assert journal.counts()["inbox_quarantined"] == 0
        assert not town.server.stars.invoices
    off = Plans(Config(_env_file=None), town.verbs.plans._ledger, town.verbs.plans._zone, time.time)  # type: ignore[arg-type]
    async with town.bot(plans=off):
        assert (await town.ask(BORIS, "/plan"))["text"] == say("plan_off", "ru")
    assert Plan(0, "free", 0).per_day is None
