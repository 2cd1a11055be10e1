"""The admin pages' door: login, session, forgery, roles at every request; each check with a control that must fail."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
from aiogram.utils.auth_widget import check_signature
from aiogram.utils.web_app import check_webapp_signature
from pydantic import SecretStr

from appliance import texts
from appliance.app import App, open_app
from appliance.bot.figures import words_of
from appliance.chats import Mode
from appliance.errors import BadInput
from appliance.phrasing import Phrasing, fits
from appliance.schema import Asker, Channel, Filters, Final, Question, QuestionRow
from appliance.sessions import IDLE_S, LINK_S, LONGEST_S, Sessions
from appliance.telegram_login import FRESH_S, by_login_page, by_mini_app
from appliance.texts import say
from appliance.web import admin
from appliance.web.limits import network_of
from tests.conftest import config_for
from tests.posts import a_post
from tests.web_door import OPERATOR, at, door

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(admin.__file__).parent / "page" / "desk"
BOT_TOKEN = "1000001:loopback-token-for-tests"
OLGA, MIKHAIL, ANNA, BORIS = 901, 902, 903, 904
HOME = {"Sec-Fetch-Site": "same-origin", "Origin": "http://postfinder"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    config = config_for(tmp_path_factory.mktemp("desk") / "data")
    async with open_app(config.model_copy(update={"telegram_token": SecretStr(BOT_TOKEN)})) as opened:
        opened.ledger.save_channel(Channel(id=1500000001, title="Мастерская", username="masterskaya_rechnaya"))
        await opened.verbs.ingest(
            [
                a_post(1, "Разделочную доску покрываем минеральным маслом: нанести, подождать час, стереть."),
                a_post(2, "Старые батарейки сдают в оранжевый ящик у входа."),
                a_post(3, "Забытые вещи лежат в синем сундуке у стойки тридцать дней."),
            ]
        )
        for who, name, role in ((OLGA, "Ольга", "owner"), (MIKHAIL, "Михаил", "moderator"), (ANNA, "Анна", "member")):
            asker = await opened.verbs.register(
                telegram_id=who, username=None, first_name=name, last_name=None, language="ru"
            )
            assert asker.user_id is not None
            opened.ledger.access.set_role(asker.user_id, role)
        yield opened


async def user_id(app: App, telegram_id: int) -> int:
    found = await app.verbs.privacy.user_id(telegram_id)
    assert found is not None
    return found


@asynccontextmanager
async def logged_in(app: App, api: Any, who: int) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, str]]]:
    """A browser after the link of `/admin`, and the headers of its page."""
    async with at(api) as client:
        url, _ = app.verbs.sessions.link(await user_id(app, who))
        answer = await client.post("/admin/desk/login", json={"once": url.partition("#once=")[2]}, headers=HOME)
        assert answer.status_code == 200, answer.text
        yield client, {**HOME, "X-CSRF": answer.json()["csrf"]}


def signed(fields: dict[str, Any]) -> dict[str, Any]:
    """What Telegram's login page would hand over."""
    lines = "\n".join(f"{name}={fields[name]}" for name in sorted(fields))
    key = hashlib.sha256(BOT_TOKEN.encode()).digest()
    return {**fields, "hash": hmac.new(key, lines.encode(), hashlib.sha256).hexdigest()}


def init_data(fields: dict[str, str]) -> str:
    """What Telegram would hand to a mini app."""
    lines = "\n".join(f"{name}={fields[name]}" for name in sorted(fields))
    key = hmac.new(b"WebAppData", BOT_TOKEN.encode(), hashlib.sha256).digest()
    return urlencode({**fields, "hash": hmac.new(key, lines.encode(), hashlib.sha256).hexdigest()})


async def test_a_link_logs_in_once_and_its_cookie_is_out_of_reach(app: App) -> None:
    api = door(app)
    async with at(api) as client:
        secret = app.verbs.sessions.link(await user_id(app, OLGA))[0].partition("#once=")[2]
        answer = await client.post("/admin/desk/login", json={"once": secret}, headers=HOME)
        cookie = answer.headers["set-cookie"].lower()
        assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
        assert secret not in cookie
        me = (await client.get("/admin/desk/me")).json()
        assert (me["name"], me["role"]) == ("Ольга", "owner")
        again = await client.post("/admin/desk/login", json={"once": secret}, headers=HOME)
        assert (again.status_code, again.json()["code"]) == (403, "login_old")


async def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(app: App) -> None:
    secret = app.verbs.sessions.link(await user_id(app, OLGA))[0].partition("#once=")[2]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door(app)), base_url="https://postfinder") as client:
        answer = await client.post("/admin/desk/login", json={"once": secret})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-desk=")
    assert "Secure" in cookie
    assert "Domain" not in cookie


async def test_a_change_needs_the_pages_mark_and_the_pages_origin(app: App) -> None:
    """The control is the same call with both: it is done."""
    async with logged_in(app, door(app), OLGA) as (client, ours):
        forged = [
            {},
            {"X-CSRF": "guess"},
            {**ours, "X-CSRF": ours["X-CSRF"][:-1]},
            {**ours, "Origin": "https://evil.example"},
            {**ours, "Sec-Fetch-Site": "cross-site"},
            {**ours, "Sec-Fetch-Site": "same-site"},
        ]
        for headers in forged:
            answer = await client.post("/admin/desk/pause", json={"word": ""}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "stale_page"), headers
        assert app.verbs.admission.paused is None
        done = await client.post("/admin/desk/pause", json={"word": "Скоро вернёмся"}, headers=ours)
        assert done.status_code == 200
        refused = await client.post("/ask", json={"question": "Чем покрыть доску?"})
        assert (refused.status_code, refused.json()["code"]) == (503, "paused")
        assert refused.json()["message"] == "Скоро вернёмся"
        assert (await client.post("/admin/desk/resume", json={}, headers=ours)).json() == {"resumed": True}


async def test_without_a_session_nothing_is_shown(app: App) -> None:
    async with at(door(app)) as client:
        for path in (
            "me",
            "overview",
            "numbers",
            "people",
            "questions",
            "channels",
            "chats",
            "plans",
            "words",
            "attacks",
            "audit",
        ):
            answer = await client.get(f"/admin/desk/{path}")
            assert (answer.status_code, answer.json()["code"]) == (403, "login_needed"), path
        client.cookies.set("desk", "made-up")
        assert (await client.get("/admin/desk/me")).status_code == 403
        page = await client.get("/admin")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        shown = await client.get("/admin/desk/overview", headers=OPERATOR)  # the operator's own shell
        assert shown.status_code == 200


async def test_roles_are_looked_up_at_every_request(app: App) -> None:
    async with logged_in(app, door(app), MIKHAIL) as (client, ours):
        assert (await client.get("/admin/desk/people")).status_code == 200
        assert (await client.get("/admin/desk/questions")).status_code == 200
        for path in ("audit", "words", "plans", "chats"):
            answer = await client.get(f"/admin/desk/{path}")
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
        changes = {
            "pause": {"word": ""},
            "admission": {"mode": "approval"},
            "attacks/mode": {"mode": "off"},
            "people/role": {"user_id": await user_id(app, MIKHAIL), "role": "owner"},
            "channels/remove": {"channel_id": 1500000001, "title": "Мастерская"},
            "channels/consent": {"channel_id": 1500000001, "given": False},
            "chats/mode": {"chat_id": -100, "way": "off"},
            "plans/save": {"name": "Даром", "stars": 0},
            "plans/grant": {"who": f"telegram:{MIKHAIL}", "plan": "Даром"},
            "plans/refund": {"charge_id": "any"},
            "words": {"key": "paused", "language": "ru", "words": "…"},
        }
        for path, body in changes.items():
            answer = await client.post(f"/admin/desk/{path}", json=body, headers=ours)
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), path
        banned = {"user_id": await user_id(app, OLGA), "days": 1, "reason": ""}
        answer = await client.post("/admin/desk/people/ban", json=banned, headers=ours)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_on_staff")
        mikhail = await user_id(app, MIKHAIL)
        app.ledger.access.set_role(mikhail, "member")
        try:
            assert (await client.get("/admin/desk/people")).json()["code"] == "login_needed"
        finally:
            app.ledger.access.set_role(mikhail, "moderator")
        assert (await client.get("/admin/desk/people")).json()["code"] == "login_needed"  # ended, not asleep


async def test_a_member_is_let_in_nowhere_however_they_prove_who_they_are(app: App) -> None:
    async with at(door(app)) as client:
        secret = app.verbs.sessions.link(await user_id(app, ANNA))[0].partition("#once=")[2]
        widget = signed({"id": ANNA, "first_name": "Анна", "auth_date": int(time.time())})
        for body in ({"once": secret}, {"widget": widget}, {}, {"once": "x"}, {"init_data": "hash=1"}):
            answer = await client.post("/admin/desk/login", json=body, headers=HOME)
            assert (answer.status_code, answer.json()["code"]) == (403, "login_old"), body
            assert "set-cookie" not in answer.headers
        stranger = signed({"id": 424242, "first_name": "Кто-то", "auth_date": int(time.time())})
        assert (await client.post("/admin/desk/login", json={"widget": stranger}, headers=HOME)).status_code == 403


async def test_telegrams_signature_lets_in_once_and_not_from_another_site(app: App) -> None:
    async with at(door(app)) as client:
        widget = signed({"id": OLGA, "first_name": "Ольга", "auth_date": int(time.time())})
        away = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert (await client.post("/admin/desk/login", json={"widget": widget}, headers=away)).status_code == 403
        assert (await client.post("/admin/desk/login", json={"widget": widget}, headers=HOME)).status_code == 200
        assert (await client.post("/admin/desk/login", json={"widget": widget}, headers=HOME)).status_code == 403
        data = init_data({"auth_date": str(int(time.time())), "query_id": "q", "user": json.dumps({"id": OLGA})})
        assert (await client.post("/admin/desk/login", json={"init_data": data}, headers=HOME)).status_code == 200


async def test_signatures_are_those_of_aiogram_and_altered_ones_are_refused() -> None:
    now = time.time()
    good = signed({"id": OLGA, "first_name": "Ольга", "username": "olga", "auth_date": int(now)})
    assert check_signature(BOT_TOKEN, good["hash"], **{k: v for k, v in good.items() if k != "hash"})
    assert by_login_page(good, BOT_TOKEN, now) == OLGA
    for altered in (
        {**good, "id": ANNA},
        {**good, "hash": "0" * 64},
        {**good, "hash": ""},
        {**good, "extra": "1"},
        {key: value for key, value in good.items() if key != "hash"},
        {},
    ):
        assert by_login_page(altered, BOT_TOKEN, now) is None
    assert by_login_page(good, BOT_TOKEN, now + FRESH_S + 1) is None
    assert by_login_page(good, BOT_TOKEN, now - 3600) is None
    assert by_login_page(good, "1000001:another", now) is None
    assert by_login_page(good, "", now) is None
    data = init_data({"auth_date": str(int(now)), "user": json.dumps({"id": OLGA, "first_name": "Ольга & К"})})
    assert check_webapp_signature(BOT_TOKEN, data)
    assert by_mini_app(data, BOT_TOKEN, now) == OLGA
    for broken in (data.replace("901", "903"), data + "&user=1", data[:-1], "", "hash=", "user=%7B%22id%22%3A901%7D"):
        assert by_mini_app(broken, BOT_TOKEN, now) is None
    assert by_mini_app(data, BOT_TOKEN, now + FRESH_S + 1) is None


async def test_sessions_end_by_idleness_by_age_and_by_logout(app: App) -> None:
    clock = [1000.0]
    sessions = Sessions(BOT_TOKEN, "https://ask.example.org/", clock=lambda: clock[0])
    url, minutes = sessions.link(1)
    assert url.startswith("https://ask.example.org/admin#once=")
    assert minutes == LINK_S // 60
    clock[0] += LINK_S + 1
    assert sessions.by_link(url.partition("#once=")[2]) is None
    secret, _ = sessions.begin(1)
    for _ in range(int(LONGEST_S // (IDLE_S - 1))):
        clock[0] += IDLE_S - 1
        assert sessions.get(secret) is not None
    clock[0] += IDLE_S - 1
    assert sessions.get(secret) is None  # however busy
    secret, _ = sessions.begin(1)
    clock[0] += IDLE_S + 1
    assert sessions.get(secret) is None
    async with logged_in(app, door(app), OLGA) as (client, ours):
        kept = client.cookies.get("desk")
        assert (await client.post("/admin/desk/logout", json={}, headers=ours)).status_code == 200
        client.cookies.set("desk", kept or "")  # a copied cookie is worth nothing either
        assert (await client.get("/admin/desk/me")).status_code == 403


async def test_people_are_listed_decided_banned_and_told_by_number_alone(app: App) -> None:
    anna = await user_id(app, ANNA)
    async with logged_in(app, door(app), OLGA) as (client, ours):
        found = (await client.get("/admin/desk/people", params={"wanted": "анн"})).json()
        assert [one["name"] for one in found["people"]] == ["Анна"]
        body = {"user_id": anna, "days": 2, "reason": "реклама"}
        assert (await client.post("/admin/desk/people/ban", json=body, headers=ours)).status_code == 200
        found = (await client.get("/admin/desk/people", params={"only": "banned"})).json()
        assert found["people"][0]["ban"]["reason"] == "реклама"
        waiting = app.journal.due(time.time() + 5)
        assert any("реклама" in str(item.payload) for item in waiting if item.chat_id == ANNA)
        done = await client.post("/admin/desk/people/lift", json={"user_id": anna}, headers=ours)
        assert done.status_code == 200
        again = await client.post("/admin/desk/people/lift", json={"user_id": anna}, headers=ours)
        assert (again.status_code, again.json()["code"]) == (400, "already_so")
        for bad in ({"user_id": -1}, {"user_id": anna, "days": -1}, {"user_id": "x"}, {"user_id": anna, "more": 1}):
            assert (await client.post("/admin/desk/people/ban", json=bad, headers=ours)).status_code == 422
        acts = (await client.get("/admin/desk/audit")).json()
        assert {"ban", "unban", "desk.login"} <= {act["kind"] for act in acts}
        made = next(act for act in acts if act["kind"] == "ban")
        assert (made["actor"], made["about"]) == ("Ольга", "Анна")


async def test_a_member_is_trusted_at_the_desk(app: App) -> None:
    anna = await user_id(app, ANNA)
    async with logged_in(app, door(app), OLGA) as (client, ours):
        for role in ("trusted", "member"):
            body = {"user_id": anna, "role": role}
            assert (await client.post("/admin/desk/people/role", json=body, headers=ours)).json() == {"role": role}
            assert app.ledger.access.role(anna) == role


async def test_words_are_changed_at_once_checked_and_taken_back(app: App) -> None:

    async def change(key: str, words: str) -> httpx.Response:
        body = {"key": key, "language": "ru", "words": words}
        return await client.post("/admin/desk/words", json=body, headers=ours)

    async with logged_in(app, door(app), OLGA) as (client, ours):
        shipped = texts.say("slow_down_wait", "ru", wait="5 секунд")
        assert (await change("slow_down_wait", "Не спешите: {wait}.")).status_code == 200
        assert texts.say("slow_down_wait", "ru", wait="5 секунд") == "Не спешите: 5 секунд."
        texts.change({})
        Phrasing(app.ledger)  # as after a restart
        assert texts.say("slow_down_wait", "ru", wait="5 секунд") == "Не спешите: 5 секунд."
        for bad in (
            "{who}",
            "{wait.__class__}",
            "{wait[0]}",
            "{wait!r}",
            "{wait:>99}",
            "{",
            "}",
            "{0}",
            "{}",
            "ы" * 1600,
        ):
            answer = await change("slow_down_wait", bad)
            assert answer.status_code == 400, bad
            assert answer.json()["code"] in {"text_names", "text_too_long"}
        assert (await change("no such text", "…")).json()["code"] == "no_text"
        assert (await change("slow_down_wait", "")).status_code == 200
        assert texts.say("slow_down_wait", "ru", wait="5 секунд") == shipped
    assert fits("{{wait}}", "{wait}")
    with pytest.raises(BadInput):
        await app.verbs.phrasing.change("paused", "ru", "{x}", actor=None)


async def test_channels_are_looked_at_closed_and_removed_with_their_posts(app: App) -> None:
    app.ledger.save_channel(Channel(id=1500000077, title="Барахолка"))
    spam = "Заработок от 5000 рублей в день, пишите в личку @money_fast, ссылка https://t.me/+abcdefg123 💰"
    posts = [replace(a_post(number, f"{spam} {number % 2}"), channel_id=1500000077) for number in range(1, 13)]
    await app.verbs.ingest(posts)
    async with logged_in(app, door(app), OLGA) as (client, ours):
        signs = (await client.get("/admin/desk/channels/1500000077/signs")).json()
        assert signs["suspicious"]
        assert not (await client.get("/admin/desk/channels/1500000001/signs")).json()["suspicious"]
        body = {"channel_id": 1500000077, "is_open": False}
        assert (await client.post("/admin/desk/channels/open", json=body, headers=ours)).status_code == 200
        assert 1500000077 not in {one["channel"]["id"] for one in (await client.get("/channels")).json()}
        for given in (False, True):
            body = {"channel_id": 1500000077, "given": given}
            done = await client.post("/admin/desk/channels/consent", json=body, headers=ours)
            assert done.json() == {"is_cross": given}
            (entry,) = [one for one in await app.verbs.pool.entries() if one.id == 1500000077]
            assert entry.is_cross is given
        body = {"channel_id": 1500000077, "title": "Мастерская"}
        refused = await client.post("/admin/desk/channels/remove", json=body, headers=ours)
        assert (refused.status_code, refused.json()["code"]) == (400, "wrong_title")
        assert app.ledger.posts([posts[0].key])
        body = {"channel_id": 1500000077, "title": "Барахолка"}
        receipt = (await client.post("/admin/desk/channels/remove", json=body, headers=ours)).json()
        assert receipt["receipt_id"]
        assert app.ledger.posts([posts[0].key]) == {}


async def test_plans_are_saved_given_and_payments_go_back_once_through_telegram(app: App) -> None:
    plans, told = app.verbs.plans, {"username": None, "first_name": "Борис", "last_name": None, "language": "ru"}
    boris = (await app.verbs.register(telegram_id=BORIS, **told)).user_id or 0
    async with logged_in(app, door(app), OLGA) as (client, ours):

        async def post(path: str, **body: Any) -> httpx.Response:
            return await client.post(f"/admin/desk/plans/{path}", json=body, headers=ours)

        saved = (await post("save", name="Про", stars=250, per_day=200)).json()
        assert (await post("save", name="Про", stars=20_000)).status_code == 422
        assert (await post("grant", who=f"telegram:{BORIS}", plan="Про", days=30)).status_code == 200
        for path, code, body in (
            ("grant", "nobody", {"who": "@nobody_here", "plan": "Про"}),
            ("grant", "unknown_plan", {"who": f"telegram:{BORIS}", "plan": "Профи"}),
            ("save", "plan_name", {"name": "Free", "stars": 100}),
        ):
            refused = await post(path, **body)
            assert (refused.status_code, refused.json()["code"]) == (400, code)
            assert refused.json()["message"] == texts.say(code, "ru")
        paid = {"charge_id": "tg-1", "payload": f"plan:{saved['type_id']}:250", "stars": 250, "until": None}
        assert await plans.paid(boris, is_renewal=False, renews=True, **paid) is not None
        shown = (await client.get("/admin/desk/plans")).json()
        assert [one["name"] for one in shown["plans"]] == ["free", "Про"]
        assert [(one["name"], one["plan"], one["is_given"]) for one in shown["holders"]] == [
            ("Борис", "Про", True),
            ("Борис", "Про", False),
        ]
        assert [(one["name"], one["stars"], one["refunded_at"]) for one in shown["payments"]] == [("Борис", 250, None)]
        assert (await post("refund", charge_id="tg-1")).status_code == 200
        again = await post("refund", charge_id="tg-1")
        assert (again.status_code, again.json()["code"]) == (400, "refund_unknown")
        operator = await client.post("/admin/payments/refund", json={"charge_id": "tg-1"}, headers=OPERATOR)
        assert operator.json()["code"] == "refund_unknown"
        sent = [one for one in app.journal.due(time.time() + 5) if one.method == "refundStarPayment"]
        assert [one.payload for one in sent] == [{"user_id": BORIS, "telegram_payment_charge_id": "tg-1"}]
        assert plans.paid_for(boris) == []
        acts = {act["kind"]: act for act in (await client.get("/admin/desk/audit")).json()}
        assert [acts[kind]["actor"] for kind in ("plan.save", "plan.grant", "plan.refund")] == ["Ольга"] * 3
        assert (acts["plan.save"]["about"], acts["plan.grant"]["about"]) == ("Про", "Борис")
        assert acts["plan.grant"]["detail"]["plan"] == "Про"


async def test_how_the_bot_answers_in_a_group_it_is_in_is_chosen_at_the_desk_too(app: App) -> None:
    await app.verbs.chats.name(-1001, "Соседи")
    await app.verbs.chats.set_mode(-1001, 42, Mode("auto", 0.75))
    async with logged_in(app, door(app), OLGA) as (client, ours):
        whole, shown = (await client.get("/admin/desk/chats")).json()["chats"]
        assert whole == {"chat_id": -1001, "topic_id": 0, "title": "Соседи", "mode": {"way": "mention", "above": 0.75}}
        assert shown == {"chat_id": -1001, "topic_id": 42, "title": "Соседи", "mode": {"way": "auto", "above": 0.75}}
        body = {"chat_id": -1001, "topic_id": 42, "way": "whisper"}
        assert (await client.post("/admin/desk/chats/mode", json=body, headers=ours)).status_code == 200
        assert app.verbs.chats.mode(-1001, 42).way == "whisper"
        assert app.verbs.chats.mode(-1001, None).way == "mention"
        for bad, status in (({"topic_id": 7}, 400), ({"way": "loud"}, 422), ({"above": 0.1}, 422)):
            answer = await client.post("/admin/desk/chats/mode", json={**body, **bad}, headers=ours)
            assert answer.status_code == status, bad


async def test_the_operator_bans_and_lifts_as_an_admin_does(app: App) -> None:
    anna = await user_id(app, ANNA)
    async with at(door(app)) as client:

        async def post(path: str, **body: Any) -> httpx.Response:
            return await client.post(f"/admin/people/{path}", json=body, headers=OPERATOR)

        assert (await client.post("/admin/people/ban", json={"who": f"telegram:{ANNA}"})).status_code in {401, 403}
        assert (await post("ban", who="@nobody_here")).json()["code"] == "nobody"
        assert (await post("ban", who=f"telegram:{OLGA}")).json()["code"] == "not_on_staff"
        assert (await post("ban", who=f"telegram:{ANNA}", days=2, reason="реклама")).status_code == 200
        made = app.verbs.admission.ban_of(anna)
        assert made is not None
        assert made.reason == "реклама"
        assert (await post("unban", who=f"telegram:{ANNA}")).json() == {"lifted": True}
        assert app.verbs.admission.ban_of(anna) is None
        assert (await post("unban", who=f"telegram:{ANNA}")).json()["code"] == "already_so"


async def test_an_address_that_floods_is_refused_and_others_are_not(app: App) -> None:
    await app.verbs.antifraud.set_mode("on", actor=None)
    api = door(app)
    try:
        transport = httpx.ASGITransport(api, client=("203.0.113.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://postfinder") as flood, at(api) as honest:
            codes = [(await flood.post("/ask", json={"question": "Где доска?"})).status_code for _ in range(70)]
            assert 429 in codes
            last = await flood.post("/ask", json={"question": "Где доска?"})
            assert last.status_code == 429
            assert int(last.headers["retry-after"]) > 60
            assert (await honest.post("/ask", json={"question": "Чем покрыть доску?"})).status_code == 200
    finally:
        app.verbs.antifraud.pardon("203.0.113.9")
        await app.verbs.antifraud.set_mode("shadow", actor=None)
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network_of("198.51.100.7") == "198.51.100.7"


async def test_numbers_leave_out_what_so_few_people_did(app: App) -> None:
    asked = [
        ("Чем покрыть разделочную доску?", "answered", range(3)),
        ("Сколько стоит проезд до Марса?", "not_found", range(3)),
        ("Где взять велосипед напрокат?", "not_found", range(1)),  # one person's question
        ("Куда сдать батарейки?", "answered", range(2)),
    ]
    for place, (text, outcome, people) in enumerate(asked):
        for number in people:
            asker = await app.verbs.register(
                telegram_id=7000 + number, username=None, first_name="Кто-то", last_name=None, language="ru"
            )
            row = QuestionRow(
                id=f"{place}{number}",
                dialogue_id=f"d{number}",
                user_id=asker.user_id,
                door="telegram",
                asked_at=datetime.now(UTC),
                text=text,
                query=text,
                language="ru",
                outcome=outcome,
                model="quotes",
                posts=((1500000001, place + 1),),
                answer_text="",
                relevance=0.9,
                tokens=0,
                times_ms={"search": 5.0, "links": 8.0, "complete": 20.0},
            )
            app.ledger.questions.save(row)
    asked_at = {
        who: app.ledger.talks.ask_survey(await user_id(app, who), timedelta(days=1), 0) for who in (7000, 7001, 7002)
    }
    for place, (who, score) in enumerate(((7000, 1), (7000, 3), (7001, 4), (7002, 5))):  # who thinks again counts once
        few = await app.verbs.numbers()
        assert (few["score"], few["scored"]) == (None, None if place else 0)
        assert app.ledger.talks.answer_survey(await user_id(app, who), asked_at[who], score)
    said = await app.verbs.numbers()
    assert (said["score"], said["scored"]) == (4.0, 3)
    assert said["plans"] == []  # they are off
    assert say("stats_score", "ru", score="4,0", people="3") in str(words_of(said, "ru").as_kwargs()["text"])
    assert say("stats_score", "en", score="—", people="< 3") in str(words_of(few, "en").as_kwargs()["text"])
    assert said["questions"] >= 9
    assert said["people"] >= 3
    for visitor in range(20):  # of the page: in the days they are counted, so they are in the period
        anonymous = replace(row, id=f"visit{visitor}", dialogue_id=f"visit{visitor}", user_id=None, outcome="answered")
        app.ledger.questions.save(replace(anonymous, door="web", posts=()))
    visited = await app.verbs.numbers()
    assert visited["people"] == said["people"] + 20
    assert visited["people"] >= visited["dau"]
    assert [gap["words"] for gap in said["gaps"] if "марс" in gap["words"]] == ["стоить проезд марс"]
    assert not any("велосипед" in gap["words"] for gap in said["gaps"])
    assert [topic["people"] for topic in said["topics"]] == [3]
    assert "Кто-то" not in json.dumps(said, ensure_ascii=False)
    assert {"found", "links", "answer"} <= set(said["waits_ms"])
    assert said["satisfaction"] is None
    for question_id, who in (("00", 7000), ("10", 7000), ("30", 7000), ("01", 7001)):  # four ratings of two people
        app.ledger.questions.rate(question_id, await user_id(app, who), "up")
    assert (await app.verbs.numbers())["satisfaction"] is None
    app.ledger.questions.rate("02", await user_id(app, 7002), "down")
    assert (await app.verbs.numbers())["satisfaction"] == 0.8
    assert len(said["by_day"]) == said["days"]


async def test_a_question_that_waits_is_answered_from_the_pages(app: App) -> None:
    words = "Где сушат водолазные костюмы?"
    asker = await app.verbs.register(telegram_id=7100, username=None, first_name="Нина", last_name=None, language="ru")
    final = [part async for part in app.verbs.ask(Question(words, asker))][-1]
    assert isinstance(final, Final)
    assert final.answer.outcome == "not_found"
    async with logged_in(app, door(app), MIKHAIL) as (client, page):
        (waits,) = [row for row in (await client.get("/admin/desk/questions")).json()["queue"] if row["text"] == words]
        body = {"question_id": waits["question_id"], "text": "Водолазные костюмы сушат в котельной, на верхних трубах."}
        gone = await client.post("/admin/desk/questions/answer", json={**body, "question_id": "f" * 32}, headers=page)
        assert (gone.status_code, gone.json()["code"]) == (400, "question_gone")
        kept = await client.post("/admin/desk/questions/answer", json=body, headers=page)
        assert kept.json() == {"is_open": True}
        assert words not in (await client.get("/admin/desk/questions")).text
    found = await app.verbs.search(words, asker=Asker(), filters=Filters())
    assert "в котельной" in found.found[0].post.text


async def test_the_use_of_plans_is_shown_to_those_who_keep_order(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = app.verbs.plans
    await plans.save_plan("Про", stars=250, per_day=200, per_month=None)
    for who in (7000, 7001, 7002):
        await plans.grant(f"telegram:{who}", "Про", days=30)
    async with logged_in(app, door(app), OLGA) as (client, _):
        assert (await client.get("/admin/desk/plans")).json()["use"] == []
        monkeypatch.setattr(plans, "is_on", True)
        use = (await client.get("/admin/desk/plans")).json()["use"]
        numbers = (await client.get("/admin/desk/numbers")).json()
    assert numbers["plans"] == use
    (best,) = (one for one in use if one["plan"] == "Про")
    assert best["people"] >= 3
    assert best["day"]["allowed"] == 200 * best["people"]
    best |= {"people": 3, "day": {"asked": 1500, "allowed": 2000, "at_limit": None}, "month": best["day"]}
    best["month"] |= {"asked": 9, "allowed": 10, "at_limit": 0.25}
    said = str(words_of({**numbers, "plans": [best]}, "ru").as_kwargs()["text"])
    today, month = "вопросы сегодня: 1\u00a0500 из 2\u00a0000", "вопросы в этом месяце: 9 из 10"
    assert f"Про — 3 чел.; {today}, исчерпали лимит: < 3; {month}, исчерпали лимит: 25\u00a0%" in said


async def test_the_pages_speak_both_languages_in_captions_that_are_used() -> None:
    text = (PAGE / "words.js").read_text("utf-8")
    keys = [set(re.findall(r"^    (\w+):", part, re.MULTILINE)) for part in text.split("\n  en: {\n")]
    assert keys[0] == keys[1]
    script = "".join(file.read_text("utf-8") for file in PAGE.glob("*.js"))
    assert set(re.findall(r"words\(\)\.(\w+)", script)) <= keys[0]
