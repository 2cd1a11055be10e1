"""The operator's routes over channels, questions that wait and frequent ones; the commands that use them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from appliance.app import App
from appliance.schema import MEMBERS_ANSWERS, Asker, Channel, Final, Question
from tests.web_door import KNOWN, OPERATOR, UNKNOWN, at, door, is_problem, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEWS = Channel(1777000123, "Новости реки", "reka_news")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with opened(tmp_path_factory.mktemp("web-community"), {73, 106, 190}) as appliance:
        appliance.ledger.save_user(telegram_id=5, username="anna", first_name="Анна")
        yield appliance


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    async with at(door(app)) as opened_client:
        yield opened_client


ROUTES = [
    ("GET", "/admin/pool"), ("POST", "/admin/pool/approve"), ("POST", "/admin/pool/refuse"),
    ("POST", "/admin/pool/consent"), ("POST", "/admin/pool/remove"), ("POST", "/admin/pool/read"),
    ("GET", "/admin/unanswered"), ("POST", f"/admin/unanswered/{'0' * 32}/reply"),
    ("POST", f"/admin/unanswered/{'0' * 32}/drop"), ("GET", "/admin/faq"), ("POST", "/admin/faq/mine"),
    ("POST", f"/admin/faq/{'0' * 32}/approved"),
]  # fmt: skip
BODY = {"channel": "@x_channel", "given": True, "text": "слово", "author": "я"}
FITTING = {"approve": ("channel",), "refuse": ("channel",), "remove": ("channel",), "read": ("channel",)}
FITTING |= {"consent": ("channel", "given"), "reply": ("text", "author")}


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_only_the_operator_comes_in(client: httpx.AsyncClient, method: str, path: str) -> None:
    body = {name: BODY[name] for name in FITTING.get(path.rsplit("/", 1)[-1], ())}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        refused = await client.request(method, path, json=body if method == "POST" else None, headers=headers)
        assert is_problem(refused)["status"] == 401


async def test_a_channel_is_listed_decided_agreed_and_removed(client: httpx.AsyncClient, app: App) -> None:
    await app.verbs.pool.added(NEWS, None)
    (first, *_) = (await client.get("/admin/pool", headers=OPERATOR)).json()
    assert (first["username"], first["state"], first["is_live"]) == ("reka_news", "waiting", True)
    body = {"channel": "@reka_news"}
    assert (await client.post("/admin/pool/approve", json=body, headers=OPERATOR)).json()["state"] == "approved"
    agreed = await client.post("/admin/pool/consent", json={**body, "given": True}, headers=OPERATOR)
    assert agreed.json()["is_cross"] is True
    listed = (await client.get("/channels")).json()
    assert "reka_news" in {status["channel"]["username"] for status in listed}
    assert (await client.post("/admin/pool/refuse", json=body, headers=OPERATOR)).json()["state"] == "refused"
    assert "reka_news" not in (await client.get("/channels")).text
    off = await client.post("/admin/pool/read", json=body, headers=OPERATOR)
    assert is_problem(off)["status"] == 403
    receipt = (await client.post("/admin/pool/remove", json=body, headers=OPERATOR)).json()
    assert receipt["kind"] == "channel"
    missing = await client.post("/admin/pool/approve", json=body, headers=OPERATOR)
    assert is_problem(missing)["status"] in {400, 404}


async def test_the_operator_answers_for_the_next_asker(client: httpx.AsyncClient, app: App) -> None:
    assert (await client.post("/ask", json={"question": UNKNOWN})).json()["outcome"] == "not_found"
    (waiting, *_) = (await client.get("/admin/unanswered", headers=OPERATOR)).json()
    assert waiting["text"] == UNKNOWN
    path = f"/admin/unanswered/{waiting['question_id']}"
    for bad in ({"text": "", "author": "я"}, {"text": "?!", "author": "я"}, {"text": "слово"}):
        assert is_problem(await client.post(f"{path}/reply", json=bad, headers=OPERATOR))["status"] in {400, 422}
    said = {"text": "Курс доллара в Уругвае смотрите на сайте тамошнего банка.", "author": "Владелец"}
    kept = (await client.post(f"{path}/reply", json=said, headers=OPERATOR)).json()
    assert kept["corpus_id"] == MEMBERS_ANSWERS
    again = (await client.post("/ask", json={"question": UNKNOWN})).json()
    assert again["outcome"] == "answered"
    assert "банка" in again["sentences"][0]["text"]
    assert again["citations"][0]["channel"] == "Ответы участников: Владелец"
    read = (await client.post("/ask", json={"question": UNKNOWN, "language": "en"})).json()
    assert read["citations"][0]["channel"] == "Members' answers: Владелец"
    for language, title in (("en", "Members' answers"), ("ru", "Ответы участников")):
        listed = (await client.get("/channels", headers={"Accept-Language": language})).json()
        assert title in [status["channel"]["title"] for status in listed]
    assert (await client.get("/admin/unanswered", headers=OPERATOR)).json() == []
    gone = await client.post(f"{path}/reply", json=said, headers=OPERATOR)
    assert is_problem(gone)["status"] == 400
    assert (await client.get("/stats", headers=OPERATOR)).json()["community"]["unanswered"] == 0


async def test_frequent_questions_are_mined_and_decided_on(client: httpx.AsyncClient, app: App) -> None:
    for number in range(3):
        asker = app.ledger.save_user(telegram_id=50 + number, username=None, first_name="Х")
        question = Question(KNOWN, Asker(asker.user_id), door="telegram")
        assert [part async for part in app.verbs.ask(question) if isinstance(part, Final)]
    assert (await client.post("/admin/faq/mine", headers=OPERATOR)).json() == {"proposed": 1}
    (entry,) = (await client.get("/admin/faq", headers=OPERATOR)).json()
    assert (entry["text"], entry["asked"], entry["state"]) == (KNOWN, 3, "proposed")
    path = f"/admin/faq/{entry['question_id']}"
    assert (await client.post(f"{path}/approved", headers=OPERATOR)).json() == {"stored": True}
    assert is_problem(await client.post(f"{path}/thrown", headers=OPERATOR))["status"] == 422
    assert [one.text for one in await app.verbs.community.faq()] == [KNOWN]
