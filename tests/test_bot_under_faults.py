"""Groups, drafts, inline, guests, frequent questions, surveys, alerts, stops and appeals at once, under 429 and 5xx.

The loopback server keeps Telegram's limits, twice as fast. What the journal's outbox was given is compared with what
the server took: each call once. The controls lose, send twice and break limits, and the same judge sees it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from appliance import talks
from appliance.app import App
from appliance.bot import courtesies, modes, outbox, run_bot
from appliance.bot.outbox import Outbox
from appliance.bot.outgoing import NO_CHAT
from appliance.bot.pacing import Pace
from appliance.journal import Queued
from appliance.schema import Channel, Post
from appliance.texts import say
from tests.neighbours import KNOWN, TEN, buttons, open_town
from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.botapi_limits import Fault, Flood, Limits

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLGA, MIKHAIL = 801, 802  # the owner, a moderator
NEWS = Channel(id=1777000004, title="Новости двора", username="novosti_dvora")
LIMITS = Limits(chat_per_s=2, group_per_min=40, overall_per_s=60)
STRUCK = (  # every method of these conversations meets faults for certain
    "sendMessage", "editMessageText", "editMessageReplyMarkup", "answerCallbackQuery", "answerInlineQuery",
    "answerGuestQuery", "getChatMember", "getChatAdministrators",
)  # fmt: skip
MESSAGES = {"sendMessage", "answerGuestQuery"}  # judged: each once
ALERTS = (
    ("ремонт домофона", "В субботу начнут ремонт домофона в подъезде."),
    ("отключение горячей воды", "Внимание: в четверг отключат горячую воду во всём доме."),
)
_people, _groups, _posts = count(811), count(1), count(50)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    settings: dict[str, Any] = {"TELEGRAM_BOT_TOKEN": DEFAULT_TOKEN, "guests": True, "quiet_hours": ""}
    async with open_town(tmp_path_factory.mktemp("faults"), **settings) as opened:
        opened.ledger.save_channel(NEWS)
        for who, name, role in ((OLGA, "Ольга", "owner"), (MIKHAIL, "Михаил", "moderator")):
            opened.ledger.save_user(telegram_id=who, username=None, first_name=name, language="ru")
            await opened.verbs.access.set_role(f"telegram:{who}", role)
        await opened.verbs.antifraud.set_mode("on", actor=None)
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[BotApi]:
    async with BotApi(seed=5) as opened:
        for who, name in ((OLGA, "Ольга"), (MIKHAIL, "Михаил")):
            opened.add_user(who, name)
            opened._new_message(who, opened.users[who], None)  # they wrote to the bot before
        yield opened


@dataclass
class Talk:
    """The running bot, its people, and the judge.

    Attributes
    ----------
    patience_s : float
        How long a person waits for what the bot owes them.
    since : int
        Rows of the outbox up to this one are of an earlier test.
    """

    server: BotApi
    app: App
    patience_s: float = 40.0
    since: int = 0

    def people(self, number: int) -> list[int]:
        """Let somebody come whom nobody knows yet."""
        found = [next(_people) for _ in range(number)]
        for who in found:
            self.server.add_user(who, f"Сосед {who}", username=f"sosed_{who}")
        return found

    def group(self, *admins: int) -> int:
        """Make a group in which the bot is."""
        chat = -1001500000900 - next(_groups)
        self.server.add_group(chat, f"Подъезд {-chat % 100}")
        self.server.admins[chat] = {*admins, self.server.me["id"]}
        return chat

    async def until(self, ready: Callable[[], Any]) -> Any:
        return await self.server.until(ready, self.patience_s)

    async def find(self, chat: int, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for the bot's message that fits; return the newest."""
        found = await self.until(lambda: [one for one in self.server.from_bot(chat) if fits(one)])
        return dict(found[-1])

    async def ask(self, who: int, text: str, chat: int = 0, times: int = 1) -> dict[str, Any]:
        """Write where nobody else does now, and wait for the answer."""
        chat = chat or who
        before = len(self.server.from_bot(chat))
        self.server.say(who, text, chat_id=chat)
        await self.until(lambda: len(self.server.from_bot(chat)) >= before + times)
        return self.server.from_bot(chat)[before]

    async def press(self, who: int, message: dict[str, Any], button: str, chat: int = 0) -> str:
        """Press a button and return the passing word, which must come."""
        query = self.server.press(who, message["message_id"], button, chat_id=chat or who)
        return await self.word(query)

    async def word(self, query: str) -> str:
        await self.until(lambda: query in self.server.callback_answers)
        return str(self.server.callback_answers[query].get("text", ""))

    def said(self, chat: int, words: str) -> int:
        """Count the bot's messages with these words."""
        return sum(words in message["text"] for message in self.server.from_bot(chat))

    async def quiet(self) -> None:
        """Wait until every update is worked on and everything is told and sent."""

        def is_quiet() -> bool:
            counts = self.app.journal.counts()
            waits = any(counts[name] for name in ("inbox_pending", "outbox_queued", "outbox_sending"))
            return not (waits or self.server.pending() or self.app.ledger.notices.due(datetime.now(UTC)))

        await self.until(is_quiet)

    # The judge

    def queued(self) -> Counter[tuple[str, int]]:
        """Count what the outbox was given to send, by method and chat."""
        query = "SELECT method, chat_id FROM outbox WHERE id > ?"
        rows = self.app.journal._durably(lambda: self.app.journal._rows(query, self.since))
        return Counter((method, chat) for method, chat in rows if method in MESSAGES)

    def taken(self) -> Counter[tuple[str, int]]:
        """Count what the server took."""
        return Counter(
            (method, int(chat or NO_CHAT))
            for _, method, chat, status in self.server.calls
            if status == 200 and method in MESSAGES
        )

    def lost(self) -> int:
        return (self.queued() - self.taken()).total()

    def twice(self) -> int:
        return (self.taken() - self.queued()).total()


@asynccontextmanager
async def talking(server: BotApi, app: App, pace: Pace, patience_s: float = 40.0) -> AsyncIterator[Talk]:
    """Run the bot, with nothing remembered of the test before."""
    server.flood = Flood(LIMITS, time.monotonic)
    server.calls.clear()
    modes._admins.clear()
    since = app.journal._durably(lambda: app.journal._rows("SELECT max(id) FROM outbox"))[0][0] or 0
    bot = asyncio.create_task(
        run_bot(app.verbs, token=DEFAULT_TOKEN, api_base=server.url, journal=app.journal, pace=pace, grace_s=1.0)
    )
    try:
        yield Talk(server, app, patience_s, since)
    finally:
        server.faults.clear()
        bot.cancel()
        with suppress(asyncio.CancelledError):
            await bot


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr("appliance.bot.intake.backoff_s", lambda failures: 0.05)
    monkeypatch.setattr(courtesies, "STAND_AFTER_S", 600.0)  # no message that stands for an answer: calls are counted
    monkeypatch.setattr(talks, "SURVEY_AFTER", 3)


def storm(server: BotApi) -> None:
    """Let Telegram refuse and break, each method for certain and all by chance."""
    for method in STRUCK:
        server.faults += [Fault("429", (method,), times=1), Fault("500", (method,), times=2)]
    server.faults += [Fault("429", STRUCK, probability=0.04)]
    server.faults += [Fault("500", probability=0.1), Fault("502", probability=0.08)]
    server.faults += [Fault("500", ("getUpdates",), probability=0.1)]


# Conversations; each returns how many messages the bot owed to each chat of its own


async def through_admins(talk: Talk) -> dict[int, int]:
    """An answer goes through a group's administrators: the first to press publishes it."""
    admin, other, member = talk.people(3)
    group = talk.group(admin, other)
    await asyncio.gather(*(talk.ask(who, "/help") for who in (admin, other, member)))
    refused = await talk.ask(member, "/mode", group)
    assert refused["text"] == say("mode_admins_only", "ru")
    shown = await talk.ask(admin, "/mode", group)
    assert await talk.press(member, shown, say("mode_off", "ru"), group) == say("mode_admins_only", "ru")
    assert await talk.press(admin, shown, say("mode_admins", "ru"), group) == say("mode_set", "ru")
    known = say("mode_admins_known", "ru", count=2)
    await talk.until(lambda: known in talk.server.messages[group][shown["message_id"]]["text"])
    waits = await talk.ask(member, f"@postfinder_bot {KNOWN}", group)
    assert waits["text"] == say("drafted", "ru")
    publish = say("publish", "ru")
    mine, theirs = [await talk.find(who, lambda one: publish in buttons(one)) for who in (admin, other)]
    words = await asyncio.gather(talk.press(admin, mine, publish), talk.press(other, theirs, publish))
    assert sorted(words) == sorted([say("published", "ru"), say("held_gone", "ru")])
    await talk.find(group, lambda one: "масло" in one["text"])
    assert await talk.press(admin, shown, say("mode_mention", "ru"), group) == say("mode_set", "ru")
    assert "масло" in (await talk.ask(other, f"@postfinder_bot {KNOWN}", group))["text"]
    return {group: 5, member: 1, admin: 3, other: 3}


async def inline(talk: Talk) -> dict[int, int]:
    """Two people type the bot's name elsewhere; every query is answered while they look."""
    members = talk.people(2)
    await asyncio.gather(*(talk.ask(who, "/help") for who in members))
    answers = talk.server.modes.inline_answers
    for text in ("полив грядок", "разделочная доска"):
        queries = [talk.server.modes.ask_inline(who, text) for who in members]
        await talk.until(lambda queries=queries: all(query in answers for query in queries))  # type: ignore[misc]
        assert all(answers[query]["results"] for query in queries)
    return dict.fromkeys(members, 1)


async def guests(talk: Talk) -> dict[int, int]:
    """Strangers call the bot into chats where it is not."""
    strangers = talk.people(2)
    queries = [talk.server.modes.ask_guest(who, f"@postfinder_bot {KNOWN}") for who in strangers]
    answers = talk.server.modes.guest_answers
    await talk.until(lambda: all(query in answers for query in queries))
    assert all("масло" in answers[query]["input_message_content"]["message_text"] for query in queries)
    return dict.fromkeys(strangers, 0)


async def frequent(talk: Talk, question: str) -> dict[int, int]:
    """Three ask the same; the owner approves it; each opens it among the frequent questions."""
    members = talk.people(3)
    for who, answer in zip(members, await asyncio.gather(*(talk.ask(who, question) for who in members)), strict=True):
        assert await talk.press(who, answer, "👍") == say("rated_up", "ru")
    await talk.app.verbs.community.mine()
    await talk.find(OLGA, lambda one: one["text"] == say("faq_waits", "ru"))
    talk.server.say(OLGA, "/faq")
    yes = say("faq_yes", "ru")
    proposed = await talk.find(OLGA, lambda one: question in one["text"] and yes in buttons(one))
    assert await talk.press(OLGA, proposed, yes) == say("faq_approved", "ru")
    await talk.until(lambda: not buttons(talk.server.messages[OLGA][proposed["message_id"]]))

    async def opened(who: int) -> None:
        listed = await talk.ask(who, "/faq")
        await talk.press(who, listed, question)
        await talk.until(lambda: len(talk.server.from_bot(who)) == 4)

    await asyncio.gather(*map(opened, members))
    return dict.fromkeys(members, 4)


async def surveys(talk: Talk) -> dict[int, int]:
    """Two people are asked how content they are, once, and say it."""

    async def asked(who: int) -> None:
        for place, question in enumerate(TEN[:3]):
            looked = await talk.app.verbs.privacy.user_id(who)
            talk.app.verbs.talks._looked.pop(looked or 0, None)
            await talk.ask(who, question, times=2 if place == 2 else 1)
        survey = await talk.find(who, lambda one: one["text"] == say("survey", "ru"))
        assert await talk.press(who, survey, "🙂") == ""
        thanks = say("survey_thanks", "ru")
        await talk.until(lambda: thanks in talk.server.messages[who][survey["message_id"]]["text"])
        face = survey["reply_markup"]["inline_keyboard"][0][3]["callback_data"]
        await talk.word(talk.server.press_data(who, survey["message_id"], face))

    members = talk.people(2)
    await asyncio.gather(*map(asked, members))
    return dict.fromkeys(members, 4)


async def alerts(talk: Talk, about: str, post: str) -> dict[int, int]:
    """A post comes in the quiet hours of three people; each is told once, when these end."""
    members, hour = talk.people(3), datetime.now(UTC).hour

    async def wait_for(who: int) -> None:
        await talk.ask(who, f"/alert {about}")
        await talk.ask(who, f"/quiet {hour}-{(hour + 3) % 24} +0")

    await asyncio.gather(*map(wait_for, members))
    await talk.app.verbs.ingest([Post(NEWS.id, next(_posts), datetime.now(UTC), post)])
    await talk.app.verbs.alerts.ring()
    mine = {await talk.app.verbs.privacy.user_id(who) for who in members}
    later = datetime.now(UTC) + timedelta(days=2)
    waiting = [one for one in talk.app.ledger.notices.due(later, kinds=["alert"]) if one.user_id in mine]
    assert len(waiting) == 3

    async def hear(who: int) -> None:
        assert len(talk.server.from_bot(who)) == 2  # quiet
        await talk.ask(who, "/quiet off")
        user_id = await talk.app.verbs.privacy.user_id(who)
        (one,) = [notice for notice in waiting if notice.user_id == user_id]
        await talk.app.verbs.notices.postpone(one.id, datetime.now(UTC))  # the hours have passed
        talk.app.verbs.notices.bell()
        told = await talk.find(who, lambda message: post in message["text"])
        assert await talk.press(who, told, say("alert_stop", "ru")) == say("alert_stopped", "ru")
        await talk.until(lambda: not buttons(talk.server.messages[who][told["message_id"]]))

    await asyncio.gather(*map(hear, members))
    return dict.fromkeys(members, 4)


async def refused_appeal(talk: Talk, who: int, ban: dict[str, Any]) -> None:
    """A ban is appealed, once; the moderator keeps it, the owner comes too late."""
    appeal, keep = say("appeal", "ru"), say("appeal_keep", "ru")
    assert await talk.press(who, ban, appeal) == say("appeal_sent", "ru")
    assert await talk.word(talk.server.press_data(who, ban["message_id"], "o:appeal")) == say("appeal_not", "ru")
    asked = [
        await talk.find(keeper, lambda one: f"Сосед {who}" in one["text"] and keep in buttons(one))
        for keeper in (MIKHAIL, OLGA)
    ]
    await talk.press(MIKHAIL, asked[0], keep)
    await talk.find(who, lambda one: one["text"] == say("appeal_kept", "ru"))
    assert await talk.press(OLGA, asked[1], keep) == say("already_so", "ru")


async def banned(talk: Talk) -> dict[int, int]:
    """The moderator bans two people, who appeal."""

    async def ban(who: int) -> None:
        await talk.ask(who, "/help")
        talk.server.say(MIKHAIL, f"/ban @sosed_{who} 3 дня реклама в чате")
        await refused_appeal(talk, who, await talk.find(who, lambda one: "реклама в чате" in one["text"]))

    members = talk.people(2)
    await asyncio.gather(*map(ban, members))
    return dict.fromkeys(members, 3)


async def flood(talk: Talk) -> dict[int, int]:
    """Somebody floods, is stopped, reads why once, and appeals."""
    (who,) = talk.people(1)
    await talk.ask(who, "/help")
    for number in range(60):
        talk.server.say(who, f"Где лежит вещь номер {number}?")
    stopped = await talk.find(who, lambda one: say("because_flood", "ru") in one["text"])
    await refused_appeal(talk, who, stopped)
    assert talk.said(who, say("because_flood", "ru")) == talk.said(who, say("appeal_kept", "ru")) == 1
    return {}


def everything(talk: Talk, run: int) -> list[Any]:
    """All of it at once, with people and subjects of a run's own."""
    return [
        through_admins(talk), through_admins(talk), inline(talk), guests(talk), frequent(talk, TEN[3 + run]),
        surveys(talk), alerts(talk, *ALERTS[run]), banned(talk), flood(talk),
    ]  # fmt: skip


async def test_everything_at_once_loses_nothing_and_says_nothing_twice(server: BotApi, app: App) -> None:
    async with talking(server, app, Pace(speed=2)) as talk:
        storm(server)
        owed = await asyncio.gather(*everything(talk, 0))
        await talk.quiet()
        counts = app.journal.counts()
        assert counts["inbox_quarantined"] == counts["outbox_failed"] == counts["maybe_twice"] == 0
        assert talk.lost() == talk.twice() == 0
    for chat, number in {chat: number for one in owed for chat, number in one.items()}.items():
        assert len(server.from_bot(chat)) == number, [message["text"] for message in server.from_bot(chat)]
    for keeper in (OLGA, MIKHAIL):
        asked = Counter(message["text"] for message in server.from_bot(keeper) if "Сосед" in message["text"])
        assert set(asked.values()) == {1}
    assert talk.said(OLGA, say("faq_waits", "ru")) == 1
    assert server.flood.violations == server.stats()["over_limit"] == 0
    struck = {method for _, method, _, status in server.calls if status in {429, 500, 502}}
    assert set(STRUCK) <= struck


async def test_a_sender_that_does_not_try_again_loses_messages_and_the_judge_sees_it(
    server: BotApi, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def give_up(self: Outbox, item: Queued, seconds: float, reason: str, *, maybe_sent: bool = False) -> None:
        await self._give_up(item, reason)

    monkeypatch.setattr(Outbox, "_postpone", give_up)
    async with talking(server, app, Pace(speed=2), patience_s=4.0) as talk:
        storm(server)
        owed = await asyncio.gather(*everything(talk, 1), return_exceptions=True)
        await talk.quiet()
        assert [one for one in owed if isinstance(one, TimeoutError)]
        assert 0 < talk.lost() <= app.journal.counts()["outbox_failed"]


async def test_lost_replies_are_the_only_way_to_be_told_twice_and_a_hasty_sender_breaks_limits(
    server: BotApi, app: App
) -> None:
    failed = app.journal.counts()["outbox_failed"]
    async with talking(server, app, Pace(speed=1000)) as talk:
        members = talk.people(3)
        server.faults += [Fault("lost", ("sendMessage",), times=4)]
        for who in members:
            for _ in range(6):
                server.say(who, "/quiet off")
        await talk.quiet()
        counts = app.journal.counts()
        assert talk.twice() == counts["maybe_twice"] == 4
        assert talk.lost() == 0
        assert counts["outbox_failed"] == failed
        assert server.stats()["over_limit"] > 0
