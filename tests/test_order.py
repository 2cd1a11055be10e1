"""Order in the bot: admission, bans, appeals, the switch; several people at once, under 429 and 5xx."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from aiogram import Bot
from aiogram.types import Update, User
from pydantic import SecretStr
from structlog.testing import capture_logs

from appliance.access import Access
from appliance.admission import Admission
from appliance.app import App, open_app
from appliance.bot import figures, run_bot
from appliance.bot.pacing import Pace
from appliance.bot.watching import read
from appliance.errors import BadInput, NotAllowed, Paused
from appliance.schema import Asker, Channel, Filters, Question
from appliance.telling import teller
from appliance.texts import say
from tests.conftest import config_for
from tests.posts import a_post
from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.botapi_limits import Fault, Limits

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLGA, MIKHAIL, ANNA, BORIS = 901, 902, 903, 904  # owner, moderator, members
GROUP = -1001500000901
KNOWN = "Чем покрыть разделочную доску?"
RIVER = Channel(id=1500000001, title="Мастерская на Речной", username="masterskaya_rechnaya")
POSTS = [
    a_post(1, "Разделочную доску покрываем минеральным маслом: нанести, подождать час, стереть."),
    a_post(2, "Старые батарейки сдают в оранжевый ящик у входа."),
    a_post(3, "Забытые вещи лежат в синем сундуке у стойки тридцать дней."),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    config = config_for(tmp_path_factory.mktemp("order") / "data")
    async with open_app(config.model_copy(update={"telegram_token": SecretStr(DEFAULT_TOKEN)})) as opened:
        opened.ledger.save_channel(RIVER)
        await opened.verbs.ingest(POSTS)
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[BotApi]:
    async with BotApi(limits=Limits(speed=1000)) as opened:
        opened.add_user(OLGA, "Ольга", username="olga_owner")
        opened.add_user(MIKHAIL, "Михаил", username="misha_mod")
        opened.add_user(ANNA, "Анна", username="anna_new")
        opened.add_user(BORIS, "Boris", "en-GB", username="boris_new")
        opened.add_group(GROUP, "Соседи")
        yield opened


class Talk:
    """People who talk to the running bot."""

    def __init__(self, server: BotApi, app: App) -> None:
        self.server, self.app = server, app
        self.earlier: dict[int, int] = {}  # messages of the bot before the test

    async def ask(self, who: int, text: str) -> dict[str, Any]:
        """Say something and wait for the next message of the bot."""
        before = len(self.got(who))
        self.server.say(who, text)
        return await self.next(who, before)

    async def next(self, who: int, before: int) -> dict[str, Any]:
        await self.server.until(lambda: len(self.got(who)) > before, 20)
        return self.got(who)[before]

    def got(self, who: int) -> list[dict[str, Any]]:
        """What the bot wrote to somebody during the test."""
        return self.server.from_bot(who)[self.earlier.get(who, 0) :]

    async def press(self, who: int, message: dict[str, Any], data: str) -> str:
        """Press a button and wait for the word on it."""
        query = self.server.press(who, message["message_id"], data)
        await self.quiet()
        return query

    async def quiet(self) -> None:
        """Wait until every update is worked on and everything is sent."""

        def is_quiet() -> bool:
            counts = self.app.journal.counts()
            busy = counts["inbox_pending"] or counts["outbox_queued"] or counts["outbox_sending"]
            return not (self.server.pending() or busy)

        await self.server.until(is_quiet, 30)

    def texts(self, who: int) -> list[str]:
        return [message["text"] for message in self.got(who)]

    def toast(self, query: str) -> str:
        return self.server.callback_answers.get(query, {}).get("text", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(app: App, server: BotApi) -> AsyncIterator[Talk]:
    """The running bot; Olga owns, Mikhail moderates."""
    for who, role in ((OLGA, "owner"), (MIKHAIL, "moderator")):
        told = server.users[who]
        asker = await app.verbs.register(
            telegram_id=who, username=told["username"], first_name=told["first_name"], last_name=None, language="ru"
        )
        assert asker.user_id is not None
        app.ledger.access.set_role(asker.user_id, role)
    bot = asyncio.create_task(
        run_bot(
            app.verbs, token=DEFAULT_TOKEN, api_base=server.url, journal=app.journal, pace=Pace(speed=1000), grace_s=3.0
        )
    )
    talk = Talk(server, app)
    for who in (OLGA, MIKHAIL):
        await talk.ask(who, "/privacy")  # a bot writes to nobody who has not written to it
    yield talk
    bot.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bot


@pytest_asyncio.fixture(loop_scope="module")
async def talk(app: App, town: Talk) -> AsyncIterator[Talk]:
    """Afterwards everything is as before."""
    for who in (OLGA, MIKHAIL, ANNA, BORIS, GROUP):
        town.earlier[who] = len(town.server.from_bot(who))
    yield town
    await town.quiet()
    await app.verbs.admission.resume(actor=None)
    await app.verbs.admission.set_mode("open", actor=None)
    await app.verbs.antifraud.set_mode("shadow", actor=None)
    for who in (ANNA, BORIS):
        app.verbs.antifraud.pardon(who)
        app.ledger.order.lift(0, who)
        if (found := await app.verbs.admission.find(f"telegram:{who}")) is not None:
            app.ledger.order.lift(found.user_id, who)
            await app.verbs.privacy.erase(f"telegram:{who}")
    app.verbs.admission._bans.clear()
    app.verbs.admission._barred.clear()


@pytest.fixture
def storm(server: BotApi) -> Iterator[None]:
    """A Telegram that refuses, breaks and loses replies now and then."""
    server.faults += [
        Fault("429", ("sendMessage", "editMessageReplyMarkup"), probability=0.25, retry_after_s=1),
        Fault("500", probability=0.1),
        Fault("502", probability=0.1),
    ]
    yield
    server.faults.clear()


def buttons(message: dict[str, Any]) -> list[str]:
    return [key["callback_data"] for row in message["reply_markup"]["inline_keyboard"] for key in row]


async def test_two_ask_to_be_let_in_and_hear_of_it_whatever_telegram_does(talk: Talk, storm: None) -> None:
    await talk.app.verbs.admission.set_mode("approval", actor=None)
    talk.server.say(ANNA, KNOWN)
    talk.server.say(BORIS, "Hello")
    await talk.quiet()
    assert talk.texts(ANNA) == [say("admission_waiting", "ru")]
    assert talk.texts(BORIS) == [say("admission_waiting", "en")]
    asked = {message["text"]: message for message in talk.got(MIKHAIL)}
    assert len(asked) == 2  # and Olga reads the same
    assert sorted(talk.texts(OLGA)) == sorted(talk.texts(MIKHAIL))
    anna = next(message for text, message in asked.items() if "Анна" in text)
    boris = next(message for text, message in asked.items() if "Boris" in text)
    await talk.press(MIKHAIL, anna, buttons(anna)[0])
    await talk.press(MIKHAIL, boris, buttons(boris)[1])
    assert talk.texts(ANNA)[-1] == say("admission_in", "ru")
    assert talk.texts(BORIS)[-1] == say("admission_refused", "en")
    data = f"o:in:{(await talk.app.verbs.admission.find(f'telegram:{ANNA}')).user_id}"
    hers = next(one for one in talk.got(OLGA) if "Анна" in one["text"])
    again = await talk.press(OLGA, hers, data)  # decided by another
    assert talk.texts(ANNA).count(say("admission_in", "ru")) == 1
    assert talk.toast(again) in {say("already_so", "ru"), ""}  # a toast may be lost in the storm
    answer = await talk.ask(ANNA, KNOWN)
    assert "масл" in answer["text"]
    assert (await talk.ask(BORIS, "May I?"))["text"] == say("admission_refused", "en")
    kinds = [act["kind"] for act in await talk.app.verbs.access.acts(20)]
    assert {"member.approve", "member.refuse", "admission.mode"} <= set(kinds)


async def test_the_invited_come_in_by_name_others_do_not(talk: Talk) -> None:
    await talk.app.verbs.admission.set_mode("whitelist", actor=None)
    for names in ("Анна", "@anna_new мусор!!", "https://t.me/anna_new", "@ab"):  # said at once, or nobody would notice
        assert (await talk.ask(OLGA, f"/invite {names}"))["text"] == say("bad_names", "ru")
    assert (await talk.app.verbs.admission.counts())["invited"] == 0
    assert (await talk.ask(OLGA, "/invite @Anna_New, @somebody"))["text"] == say("invited_now", "ru", count=2)
    assert (await talk.ask(ANNA, KNOWN))["text"] == say("admission_in", "ru")
    assert "масл" in (await talk.ask(ANNA, KNOWN))["text"]
    assert (await talk.ask(BORIS, "Hello there"))["text"] == say("admission_unknown", "en")
    assert talk.got(MIKHAIL) == []  # nobody is bothered
    with pytest.raises(NotAllowed) as refused:
        async for _ in talk.app.verbs.ask(Question(KNOWN, Asker())):
            pass
    assert refused.value.code == "members_only"
    assert await talk.app.verbs.channels(Asker()) == []
    assert (await talk.ask(OLGA, "/uninvite @somebody"))["text"] == say("uninvited_now", "ru", count=1)
    assert (await talk.ask(OLGA, "/uninvite"))["text"] == say("invite_usage", "ru")


async def test_a_ban_is_told_appealed_and_lifted(talk: Talk, storm: None) -> None:
    await talk.ask(ANNA, "/start")
    await talk.quiet()
    done = await talk.ask(MIKHAIL, "/ban @anna_new 3 дня реклама в чате")
    await talk.quiet()
    assert "реклама в чате" in done["text"]
    told = talk.got(ANNA)[-1]
    assert "реклама в чате" in told["text"]
    ends = datetime.now(ZoneInfo("Europe/Moscow")) + timedelta(days=3)  # the community's clock, not the server's
    assert any(f"{end:%d.%m.%Y %H:%M} MSK" in told["text"] for end in (ends, ends - timedelta(minutes=1)))
    before = len(talk.got(ANNA))
    for _ in range(4):
        talk.server.say(ANNA, KNOWN)
    await talk.quiet()
    assert len(talk.got(ANNA)) == before + 1  # why, once; no answers
    await talk.ask(ANNA, "/privacy")  # a person's rights outlive a ban
    for message in talk.got(ANNA):
        if "o:appeal" in str(message.get("reply_markup")):
            await talk.press(ANNA, message, "o:appeal")
    appeals = [message for message in talk.got(OLGA) if "o:lift" in str(message.get("reply_markup"))]
    assert len(appeals) == 1  # however often it was pressed
    await talk.press(OLGA, appeals[0], buttons(appeals[0])[0])
    assert talk.texts(ANNA)[-1] == say("unbanned", "ru")
    assert "масл" in (await talk.ask(ANNA, KNOWN))["text"]
    kinds = [act["kind"] for act in await talk.app.verbs.access.acts(20)]
    assert {"ban", "ban.appeal", "unban"} <= set(kinds)


async def test_an_appeal_may_be_refused_once(talk: Talk) -> None:
    await talk.ask(BORIS, "/start")
    await talk.ask(MIKHAIL, "/ban @boris_new")
    await talk.quiet()
    await talk.press(BORIS, talk.got(BORIS)[-1], "o:appeal")
    appeal = talk.got(MIKHAIL)[-1]
    keep = buttons(appeal)[1]
    listed = await talk.ask(MIKHAIL, "/bans")
    assert (listed["text"], buttons(listed)) == (appeal["text"], buttons(appeal))
    await talk.press(MIKHAIL, appeal, keep)
    assert talk.texts(BORIS)[-1] == say("appeal_kept", "en")
    listed = await talk.ask(MIKHAIL, "/bans")
    assert "Человек видит: Вы заблокированы" in listed["text"]  # the moderator is not
    assert len(buttons(listed)) == 1
    query = talk.server.press_data(MIKHAIL, appeal["message_id"], keep)
    await talk.quiet()
    await talk.server.until(lambda: talk.toast(query) == say("already_so", "ru"))


async def test_erasing_oneself_does_not_end_a_ban_and_the_name_is_gone(talk: Talk) -> None:
    await talk.ask(ANNA, "/start")
    await talk.ask(MIKHAIL, "/ban @anna_new 1d")
    await talk.app.verbs.privacy.erase(f"telegram:{ANNA}")
    await talk.quiet()
    anew = Admission(talk.app.ledger, "open", teller(talk.app.journal, has_bot=False))  # as after a restart
    assert anew.is_barred(ANNA)
    assert not anew.is_barred(BORIS)
    assert anew.bans() == []
    before = len(talk.got(ANNA))
    talk.server.say(ANNA, KNOWN)
    await talk.quiet()
    assert len(talk.got(ANNA)) == before + 1
    assert talk.texts(ANNA)[-1] == say("banned", "ru")


async def test_whoever_is_kept_out_may_still_erase_themselves(talk: Talk) -> None:
    await talk.ask(BORIS, "/start")
    await talk.ask(MIKHAIL, "/ban @boris_new 1d")
    await talk.quiet()
    asked = await talk.ask(BORIS, "/forget")
    kept = await talk.press(BORIS, asked, "p:keep")
    await talk.server.until(lambda: talk.toast(kept) == say("kept", "en"))
    other = talk.server.press_data(BORIS, asked["message_id"], "s:2")  # any other button
    await talk.server.until(lambda: talk.toast(other) == say("banned", "en"))
    await talk.press(BORIS, await talk.ask(BORIS, "/forget"), "p:erase")
    assert await talk.app.verbs.privacy.user_id(BORIS) is None
    assert talk.app.verbs.admission.is_barred(BORIS)
    await talk.app.verbs.admission.set_mode("approval", actor=None)
    await talk.ask(ANNA, KNOWN)  # waits to be let in
    await talk.press(ANNA, await talk.ask(ANNA, "/forget"), "p:erase")
    assert await talk.app.verbs.privacy.user_id(ANNA) is None


async def test_rights_are_no_way_around_the_protection(talk: Talk) -> None:
    await talk.ask(BORIS, "/start")
    await talk.ask(MIKHAIL, "/ban @boris_new 1d")
    await talk.quiet()
    before = len(talk.got(BORIS))
    for _ in range(30):
        talk.server.say(BORIS, "/privacy")
    await talk.quiet()
    assert 5 <= len(talk.got(BORIS)) - before <= 12


async def test_a_trusted_member_can_be_banned_and_bans_nobody(talk: Talk) -> None:
    await talk.ask(BORIS, "/start")
    boris = await talk.app.verbs.admission.find(f"telegram:{BORIS}")
    boss = await talk.app.verbs.admission.find(f"telegram:{OLGA}")
    assert boris is not None
    assert boss is not None
    await talk.app.verbs.admission.set_role(boris.user_id, "trusted", actor=boss.user_id)
    with pytest.raises(NotAllowed):
        await talk.app.verbs.admission.ban(boss.user_id, actor=boris.user_id)
    done = await talk.ask(MIKHAIL, "/ban @boris_new 1d")
    assert done["text"] != say("error", "ru")
    assert talk.app.verbs.admission.is_barred(BORIS)


async def test_a_banned_guest_hears_nothing(talk: Talk) -> None:
    def asked() -> str:
        return talk.server.modes.ask_guest(BORIS, f"@postfinder_bot {KNOWN}")

    await talk.ask(BORIS, "/start")
    await talk.ask(MIKHAIL, "/ban @boris_new 1d")
    await talk.quiet()
    silent = asked()
    await talk.quiet()
    assert silent not in talk.server.modes.guest_answers
    await talk.ask(MIKHAIL, "/unban @boris_new")
    heard = asked()
    await talk.quiet()
    assert heard in talk.server.modes.guest_answers


async def test_the_switch_pauses_every_door_survives_a_restart_and_says_who(talk: Talk) -> None:
    asked = await talk.ask(OLGA, "/pause")
    await talk.press(OLGA, asked, "o:pause:now")
    assert talk.texts(OLGA)[-1] == say("paused_now", "ru")
    assert (await talk.ask(ANNA, KNOWN))["text"] == say("paused", "ru")
    for door in ("web", "api", "cli"):
        with pytest.raises(Paused):
            async for _ in talk.app.verbs.ask(Question(KNOWN, Asker(sees_everything=door == "cli"), door=door)):
                pass
    with pytest.raises(Paused):
        await talk.app.verbs.search("доска", asker=Asker(), filters=Filters())
    anew = Admission(talk.app.ledger, "open", teller(talk.app.journal, has_bot=False))
    assert anew.paused is not None
    assert anew.paused["name"] == "Ольга"
    desk = await talk.ask(OLGA, "/admin")
    assert "на паузе — Ольга" in desk["text"]
    await talk.quiet()
    await talk.press(OLGA, desk, "o:pause:end")
    assert "масл" in (await talk.ask(ANNA, KNOWN))["text"]
    await talk.ask(OLGA, "/pause Переезжаем, вернёмся к вечеру")
    assert (await talk.ask(BORIS, "Hello, anyone?"))["text"] == "Переезжаем, вернёмся к вечеру"
    assert (await talk.ask(OLGA, "/resume"))["text"] == say("resumed_now", "ru")


async def test_those_who_keep_order_find_their_commands_in_the_menu(talk: Talk) -> None:
    menu = {who: {one["command"] for one in talk.server.scoped_commands["chat", who, "ru"]} for who in (OLGA, MIKHAIL)}
    for_admins = {"pause", "resume", "channels", "admission", "invite", "uninvite", "antifraud"}
    table = (Path(__file__).parent.parent / "docs" / "admin.md").read_text("utf-8").partition("## Who may ask")[0]
    told = set(re.findall(r"`/(\w+)", table)) - {"refund"}  # it is there with plans alone
    assert told <= menu[OLGA]
    assert told - for_admins | {"unanswered", "find"} <= menu[MIKHAIL]
    assert menu[OLGA] - menu[MIKHAIL] == for_admins
    administrators = {one["command"] for one in talk.server.scoped_commands["all_chat_administrators", 0, "ru"]}
    assert {"mode", "repeats"} <= administrators
    assert ("chat", ANNA, "ru") not in talk.server.scoped_commands


async def test_numbers_come_as_a_picture_and_words_and_as_words_alone_when_pictures_fail(talk: Talk) -> None:
    documents = talk.server.documents
    assert (await talk.ask(ANNA, "/stats"))["text"] == say("unknown_command", "ru")
    await talk.ask(ANNA, KNOWN)
    await talk.quiet()
    before, shown = len(documents), await talk.app.verbs.numbers()
    assert shown["questions"] > 0
    await talk.ask(OLGA, "/stats")
    await talk.quiet()
    picture, words = talk.texts(OLGA)
    assert picture == "…"  # a message without words of its own
    ((chat, content),) = documents[before:]
    assert chat == OLGA
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(content[16:20]) >= 800  # pixels across
    assert words.startswith(say("stats_title", "ru", days=shown["days"]))
    assert figures.number(shown["questions"]) in words
    talk.server.faults.append(Fault("500", ("sendPhoto",)))
    try:
        assert (await talk.ask(OLGA, "/stats"))["text"] == words
    finally:
        talk.server.faults.clear()
    assert len(documents) == before + 1


async def test_strangers_and_forgers_are_refused_without_a_trace(talk: Talk) -> None:
    await talk.ask(ANNA, "/start")
    await talk.quiet()
    anna = await talk.app.verbs.admission.find(f"telegram:{ANNA}")
    boss = await talk.app.verbs.admission.find(f"telegram:{OLGA}")
    assert anna is not None
    assert boss is not None
    with capture_logs() as logs:
        for command in ("/ban @olga_owner", "/approve @anna_new", "/pause", "/resume", "/admin", "/requests", "/bans"):
            assert (await talk.ask(ANNA, command))["text"] == say("unknown_command", "ru")
        message = talk.got(ANNA)[0]["message_id"]
        forged = [
            f"o:in:{anna.user_id}", f"o:ban:{boss.user_id}", "o:pause:now", "o:pause:end", "o:lift:0", "o:keep:1",
            "o:", "o:show:bans", "o:appeal", "o:in:99999999999999999999", "o:in:-1", "o:\u0661",
        ]  # fmt: skip
        for data in forged:
            talk.server.press_data(ANNA, message, data)
        await talk.quiet()
        for data in ("o:in:424242", "o:lift:424242", "o:keep:424242", "o:in:x", "o:what:1", "o:pause:later"):
            talk.server.press_data(OLGA, (await talk.ask(OLGA, "/start"))["message_id"], data)
        await talk.quiet()
    assert talk.app.verbs.admission.paused is None
    assert talk.app.verbs.admission.bans() == []
    assert talk.app.ledger.access.role(anna.user_id) == "member"
    assert not [line for line in logs if line["log_level"] == "error"]
    talk.server.say(ANNA, "/ban @olga_owner", chat_id=GROUP)
    await talk.quiet()
    assert talk.got(GROUP) == []  # in a group the command does not exist either


async def test_nobody_bans_an_equal_or_a_mightier_one(talk: Talk) -> None:
    assert (await talk.ask(MIKHAIL, "/ban @olga_owner 1d"))["text"] in {say("nobody", "ru"), say("not_on_staff", "ru")}
    boss = await talk.app.verbs.admission.find(f"telegram:{OLGA}")
    moderator = await talk.app.verbs.admission.find(f"telegram:{MIKHAIL}")
    assert boss is not None
    assert moderator is not None
    with pytest.raises(NotAllowed):
        await talk.app.verbs.admission.ban(boss.user_id, actor=moderator.user_id)
    with pytest.raises(NotAllowed):
        await talk.app.verbs.admission.set_role(moderator.user_id, "owner", actor=moderator.user_id)
    with pytest.raises(NotAllowed):
        await talk.app.verbs.admission.ban(boss.user_id, actor=None)
    with pytest.raises(BadInput):
        await talk.app.verbs.admission.ban(10**9, actor=boss.user_id)


async def test_a_flood_is_stopped_told_and_leaves_others_answered(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    role, looked_up = Access.role, []

    async def counted(self: Access, user_id: int) -> str:
        looked_up.append(user_id)
        return await role(self, user_id)

    monkeypatch.setattr(Access, "role", counted)
    await talk.ask(BORIS, "/start")
    await talk.app.verbs.antifraud.set_mode("on", actor=None)
    looked_up.clear()
    for number in range(60):
        talk.server.say(BORIS, f"Where is the workshop number {number}?")
    answer = await talk.ask(ANNA, KNOWN)
    assert "масл" in answer["text"]
    await talk.quiet()
    texts = talk.texts(BORIS)
    assert len(texts) < 20
    flooding = await talk.app.verbs.privacy.user_id(BORIS)
    assert looked_up.count(flooding or 0) <= 5  # of those answered, and once more
    assert any(say("because_flood", "en") in text for text in texts)
    ban = next(message for message in talk.got(BORIS) if say("because_flood", "en") in message["text"])
    assert buttons(ban) == ["o:appeal"]
    assert say("sign_flood", "ru") in (await talk.ask(OLGA, "/attacks"))["text"]
    boris = await talk.app.verbs.admission.find(f"telegram:{BORIS}")
    assert boris is not None
    assert boris.ban is not None
    assert boris.ban.until is not None  # it ends by itself
    assert (await talk.ask(MIKHAIL, "/unban @boris_new"))["text"] == say("done_lift", "ru", name=boris.name)
    await talk.quiet()
    assert (await talk.ask(BORIS, "Where is the workshop?"))["text"] != say("banned", "en")


async def test_questions_to_the_bot_in_a_group_are_weighed_and_chatter_is_not(talk: Talk) -> None:
    await talk.app.verbs.antifraud.set_mode("on", actor=None)
    for number in range(40):
        talk.server.say(ANNA, f"Куда я положила вещь номер {number}?", chat_id=GROUP)
    await talk.quiet()
    assert not talk.app.verbs.admission.is_barred(ANNA)
    assert "масл" in (await talk.ask(ANNA, KNOWN))["text"]
    for number in range(40):
        talk.server.say(BORIS, f"@postfinder_bot куда я положил вещь номер {number}?", chat_id=GROUP)
    await talk.quiet()
    assert len(talk.got(GROUP)) <= 15
    assert talk.app.verbs.admission.is_barred(BORIS)


@pytest.mark.parametrize(
    ("said", "chat", "act"),
    [
        ("Где ключи?", "private", "question"),
        ("/find ключи", "private", "question"),
        ("/Find@PostFinder_bot ключи", "private", "question"),
        ("/whisper ключи", "supergroup", "question"),
        ("/story ключи", "private", "question"),
        ("/digest", "private", "digest"),
        ("/missed", "private", "digest"),
        ("/search ключи", "private", "search"),
        ("/related https://t.me/masterskaya_rechnaya/1", "private", "search"),
        ("/alert ключи", "private", "search"),
        ("/help", "private", "message"),
        ("/digest@other_bot", "supergroup", "chatter"),
        ("Где ключи?", "supergroup", "chatter"),
        ("@postfinder_bot где ключи?", "supergroup", "question"),
        ("@other_bot где ключи?", "supergroup", "chatter"),
    ],
)
async def test_what_is_said_weighs_what_it_costs(said: str, chat: str, act: str) -> None:
    bot = Bot("1000001:weights")
    bot._me = User(id=1000001, is_bot=True, first_name="PostFinder", username="postfinder_bot")
    message = {"message_id": 1, "date": 1, "chat": {"id": 5, "type": chat}, "text": said}
    message["from"] = {"id": 5, "is_bot": False, "first_name": "Анна"}
    found = await read(Update.model_validate({"update_id": 1, "message": message}), bot)
    assert found[2] == act
    await bot.session.close()


async def test_in_shadow_mode_the_same_flood_is_only_written_down(talk: Talk) -> None:
    """The control: without the protection every message is answered."""
    await talk.ask(BORIS, "/start")
    await talk.quiet()
    before = len(talk.texts(BORIS))
    for number in range(40):
        talk.server.say(BORIS, f"Where is the workshop number {number}?")
    await talk.quiet()
    assert len(talk.texts(BORIS)) == before + 40
    view = talk.app.verbs.antifraud.view()
    assert view["hour"]["stopped"] >= 1
    assert not next(line["real"] for line in view["incidents"] if line["who"] == BORIS and line["step"] == "stop")


async def test_a_ban_of_a_month_ends_and_one_of_an_unknown_term_is_not_made(talk: Talk) -> None:
    await talk.ask(ANNA, "/start")
    await talk.quiet()
    usage = say("ban_usage", "ru")
    for term in ("1 фигня", "3", "1.5 дня"):
        assert (await talk.ask(MIKHAIL, f"/ban @anna_new {term}"))["text"] == usage
    assert (await talk.ask(MIKHAIL, "/ban 2 года"))["text"] == usage  # nobody is meant
    assert talk.app.verbs.admission.bans() == []
    assert (await talk.ask(MIKHAIL, "/ban @anna_new 11 лет"))["text"] == say("bad_term", "ru")
    await talk.ask(MIKHAIL, "/ban @anna_new 1 месяц реклама")
    (ban,) = talk.app.verbs.admission.bans()
    assert ban.until is not None
    assert ban.until - ban.since == timedelta(days=30)
    assert ban.reason == "реклама"
    await talk.ask(BORIS, "/start")
    await talk.quiet()
    spam = talk.server.say(BORIS, "Buy my course!", chat_id=GROUP)
    for term in ("2 фигни", "2 года реклама"):
        talk.server.say(MIKHAIL, f"/ban {term}", chat_id=GROUP, reply_to=spam)
        await talk.quiet()
    assert talk.texts(GROUP)[0] == usage  # the number is no person's either
    newest = talk.app.verbs.admission.bans()[0]
    assert newest.until is not None
    assert (newest.until - newest.since, newest.reason) == (timedelta(days=730), "реклама")
    assert len(talk.app.verbs.admission.bans()) == 2
