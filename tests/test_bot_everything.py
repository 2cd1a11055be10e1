"""Whatever Telegram may deliver, and whatever people forge, gets a clear answer or silence: never a traceback."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from appliance.app import App
from appliance.bot import outbox
from appliance.bot.pacing import Pace
from appliance.texts import TEXTS, say
from tests.neighbours import ANNA, BORIS, CHLOE, GROUP, KNOWN, TEN, Town, buttons, open_town, people
from tests.servers.botapi import SCHEMA_FILE, BotApi
from tests.servers.botapi_limits import Fault, Limits
from tests.servers.botapi_schema import BadCallError, Schema

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not SCHEMA_FILE.exists(), reason="the Bot API's schema is not here"),
]

STRANGER = 509
COMMANDS = (
    "start", "help", "find", "search", "digest", "missed", "alert", "alerts", "quiet", "new", "privacy", "mydata",
    "mode", "whisper", "plan", "unanswered", "repeats", "faq", "нет", "x" * 200,
)  # fmt: skip
ARGUMENTS = ("", " ", " @", " " + "ы" * 3500, " \u202e\u0000", " ' OR 1=1 --", " -5", " 99999999999999999999", " {}%s")
FORGED = (
    "", "r:u:" + "0" * 32, "r:d:" + "f" * 31, "f:n:" + "0" * 32, "e:s:" + "0" * 32, "f:z:1", "q:5:1", "q:9:1",
    "q:5:99999999999", "s:r:0:0:-:-", "s:r:999:1:d:p", "s:c:0:0:-:-", "s:x:0:0:-:-", "m:0:off", "m:7:auto:99",
    "m:0:nonsense", "h:p:" + "0" * 16, "h:d:" + "f" * 16, "h:p:x", "a:x:1", "a:l:1:2", "a:l:1", "a:s:99999999", "a:o:1",
    "p:erase:", "x:1:1", "w:digest", "c:again:" + "0" * 32, "🙂" * 16, "{}", "../../etc/passwd",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with open_town(tmp_path_factory.mktemp("everything"), quiet_hours="") as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def town(app: App, tmp_path: Path) -> AsyncIterator[Town]:
    async with BotApi(limits=Limits(speed=1000)) as server:
        people(server)
        server.add_user(STRANGER, "Гость")
        server.admins[GROUP] = {ANNA, server.me["id"]}
        yield Town(server, tmp_path / "journal.sqlite", app.verbs)


def bodies(schema: Schema, chat: dict[str, Any], sender: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One message for each field that a message may have, and one for each pair of words and a field."""
    base = {"message_id": 1, "date": 1_790_000_000, "chat": chat, "from": sender}
    for field in schema.types["Message"]["fields"]:
        name = field["name"]
        if field["required"] or name in {"from", "chat"}:
            continue
        value = schema.sample(field["types"])
        yield {**base, name: value}
        if name not in {"text", "caption"}:
            yield {**base, name: value, "text": KNOWN}


def updates_of_all_kinds(schema: Schema, server: BotApi) -> Iterator[dict[str, Any]]:
    """Messages of every type in every kind of chat, and one update of every other kind."""
    channel = {"id": -1001888000111, "type": "channel", "title": "Канал"}
    for chat in (server.chats[ANNA], server.chats[GROUP]):
        for body in bodies(schema, chat, server.users[ANNA]):
            yield {"message": body}
    some = random.Random(1).sample(list(bodies(schema, channel, server.users[ANNA])), 60)
    for body in some:
        yield {"channel_post": {**body, "sender_chat": channel}}
        yield {"edited_channel_post": {**body, "edit_date": 1_790_000_001}}
        yield {"edited_message": {**body, "chat": server.chats[BORIS], "edit_date": 1_790_000_001}}
        yield {"guest_message": {**body, "guest_query_id": "77"}}
        yield {"business_message": body}
    for field in schema.types["Update"]["fields"]:
        if not field["required"]:
            yield {field["name"]: schema.sample(field["types"])}
    yield {"stopped_message_generation": {"chat": server.chats[ANNA], "draft_id": -1}}
    yield {"subscription": {"user": server.users[ANNA], "invoice_payload": "чужое", "state": "active"}}
    person = server.users[STRANGER]
    yield {"callback_query": {"id": "1", "from": person, "chat_instance": "1", "data": "m:0:off"}}
    yield {
        "callback_query": {"id": "2", "from": person, "chat_instance": "1", "inline_message_id": "3", "data": "x:1:1"}
    }
    gone = {"chat": server.chats[STRANGER], "message_id": 5, "date": 0}
    for number, data in enumerate(FORGED):
        query = {"id": f"9{number}", "from": person, "chat_instance": "1", "message": gone, "data": data}
        yield {"callback_query": query}


async def test_every_type_of_message_and_update_is_borne(town: Town) -> None:
    server = town.server
    known = [
        json.loads(line)["update"] for line in (SCHEMA_FILE.parent / "updates.jsonl").read_text("utf-8").splitlines()
    ]
    made = [*known, *updates_of_all_kinds(server.schema, server)]
    assert len({kind for update in made for kind in update if kind != "update_id"}) > 25
    with capture_logs() as logs:
        async with town.bot(guests=True) as journal:
            for number, update in enumerate(made):
                whole = {**update, "update_id": 800_000_000 + number}
                server.push_raw(json.dumps(whole), whole["update_id"])
            await server.until(lambda: not server.pending() and not journal.counts()["inbox_pending"], 120)
            reasons = Counter(update.reason for update in journal.quarantined())
            answer = await town.ask(CHLOE, KNOWN)
    assert "масло" in answer["text"]
    assert not [reason for reason in reasons if not reason.startswith("unreadable: ")], reasons
    assert reasons.total() < len(made) / 10
    assert not [line for line in logs if line["event"] in {"sender failed", "job failed", "background work failed"}]
    expected = {"update quarantined", "a payment buys no plan"}
    assert not [line for line in logs if line["log_level"] == "error" and line["event"] not in expected]
    wrong = {words for pair in (TEXTS["error"], TEXTS["failed"]) for words in pair}
    shown = [message["text"] for chat in server.messages for message in server.from_bot(chat) if "text" in message]
    assert not [text for text in shown if text in wrong]


async def test_commands_of_strangers_and_forged_presses_are_borne(town: Town) -> None:
    server = town.server
    rng = random.Random(2)
    async with town.bot() as journal:
        stands = await town.ask(STRANGER, "/help")
        there = await town.ask(STRANGER, "/help", chat=GROUP)
        for command in COMMANDS:
            for argument in rng.sample(ARGUMENTS, 3):
                server.say(STRANGER, f"/{command}{argument}")
                server.say(STRANGER, f"/{command}@postfinder_bot{argument}", chat_id=GROUP)
        for data in FORGED:
            server.press_data(STRANGER, stands["message_id"], data)
            server.press_data(STRANGER, there["message_id"], data, chat_id=GROUP)
        await server.until(lambda: not server.pending() and not journal.counts()["inbox_pending"], 120)
        await town.quiet(journal)
        assert not journal.quarantined()
        assert server.from_bot(GROUP)[0]["text"] == there["text"]
        for _ in range(3):  # a button pressed again and again
            server.press_data(STRANGER, stands["message_id"], "m:0:off")
        await town.quiet(journal)
    said = [message["text"] for chat in (STRANGER, GROUP) for message in server.from_bot(chat)]
    assert say("error", "ru") not in said
    assert not [text for text in said if "Traceback" in text or "Error" in text]


@pytest.mark.parametrize("paced", [True, False])
async def test_several_people_at_once_under_faults_lose_nothing_and_get_nothing_twice(
    town: Town, app: App, monkeypatch: pytest.MonkeyPatch, paced: bool
) -> None:
    """Telegram's limits, twice as fast, hold; a bot that does not pace itself breaks them, and loses nothing."""
    monkeypatch.setattr(outbox, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr("appliance.bot.intake.backoff_s", lambda failures: 0.05)
    server = town.server
    server.flood.limits = Limits(chat_per_s=2, group_per_min=40, overall_per_s=60)
    server.faults += [Fault("429", ("sendMessage", "editMessageText"), probability=0.05)]
    server.faults += [Fault("500", probability=0.12), Fault("502", probability=0.08)]
    server.faults += [Fault("500", ("getUpdates",), probability=0.1)]
    crowd = range(601, 607) if paced else range(611, 617)
    for who in crowd:
        server.add_user(who, f"Сосед {who}")

    async def converse(who: int) -> list[str]:
        for _ in range(8):
            server.say(who, "/quiet off")
        await server.until(lambda: len(server.from_bot(who)) == 8, 60)
        script = (TEN[who % 10], "/alert отключение воды", "/search грядки", "/new", "/quiet off", "/missed")
        said = [(await town.ask(who, words))["text"] for words in script]
        found = server.from_bot(who)[10]
        server.press(who, found["message_id"], next(b for b in buttons(found) if b.startswith("📅")))
        await server.until(lambda: say("period_d", "ru") in buttons(server.messages[who][found["message_id"]]), 60)
        answer = server.from_bot(who)[8]
        server.press(who, answer["message_id"], "👎")
        await server.until(lambda: say("reason_wrong", "ru") in buttons(server.messages[who][answer["message_id"]]), 60)
        server.modes.whisper(who, f"/whisper {KNOWN}", GROUP)
        await server.until(lambda: server.modes.whispered(who, GROUP), 60)
        return said

    async with town.bot(pace=Pace(speed=2 if paced else 1000)) as journal:
        said = await asyncio.gather(*(converse(who) for who in crowd))
        await town.quiet(journal)
        counts = journal.counts()
        assert counts["inbox_quarantined"] == counts["outbox_failed"] == counts["maybe_twice"] == 0
    for who, texts in zip(crowd, said, strict=True):
        mine = server.from_bot(who)
        assert len(texts) == 6
        assert len(mine) == 8 + 6  # each said once; what a press changes is edited
        assert len(server.modes.whispered(who, GROUP)) == 1
        assert [words for words in texts[1:] if words == say("error", "ru")] == []
    assert server.flood.violations == 0
    assert (server.stats()["over_limit"] == 0) is paced
    assert {429, 500, 502} <= {status for *_, status in server.calls}


async def test_the_schema_of_the_server_refuses_what_telegram_would(town: Town) -> None:
    with pytest.raises(BadCallError):
        town.server.schema.check("answerInlineQuery", {"inline_query_id": "1"})
    with pytest.raises(BadCallError):
        town.server.schema.check("deleteEphemeralMessage", {"chat_id": 1})
