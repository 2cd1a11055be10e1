"""The web door on the real appliance with the sample channel."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from appliance import sample
from appliance.app import App
from appliance.errors import SlowDown, StoreError
from appliance.schema import Asker, Channel, Final, Links, Part, Post, Question
from appliance.web import api as web_api
from appliance.web import stream
from appliance.web.problems import WORDS
from tests.web_door import KNOWN, OPERATOR, TOKEN, UNKNOWN, at, door, events_of, is_problem, opened, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = Channel(id=1777000001, title="Совет кооператива", kind="private_channel", is_open=False)
PAGE = Path(web_api.__file__).parent / "page"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with opened(tmp_path_factory.mktemp("web"), {*range(40), 73, 106, 190, 191}) as appliance:
        appliance.ledger.save_channel(SECRET)
        secret = Post(SECRET.id, 1, datetime(2026, 5, 1, tzinfo=UTC), "Код сейфа кооператива — 4815.")
        await appliance.verbs.ingest([secret])
        yield appliance


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    async with at(door(app)) as opened_client:
        yield opened_client


# Asking


async def test_answer_with_links(client: httpx.AsyncClient, app: App) -> None:
    answer = (await client.post("/ask", json={"question": KNOWN})).json()
    assert answer["outcome"] == "answered"
    assert (
        any("масло" in sentence["text"] for sentence in answer["sentences"]) or answer["citations"][0]["post"][1] == 73
    )
    links = {citation["number"]: citation["link"] for citation in answer["citations"]}
    cited = {number for sentence in answer["sentences"] for number in sentence["citations"]}
    assert cited == set(links)
    assert all(re.fullmatch(rf"https://t\.me/{sample.USERNAME}/\d+", link) for link in links.values())
    assert answer["times_ms"]["links"] <= answer["times_ms"]["complete"]
    row = app.ledger.questions.get(answer["id"])
    assert row is not None
    assert (row.door, row.text, row.outcome) == ("api", KNOWN, "answered")


async def test_answer_streams(client: httpx.AsyncClient) -> None:
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    response = await client.post("/ask", json={"question": KNOWN}, headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in response.headers
    events = events_of(response.text)
    names = [name for name, _ in events]
    assert names == ["links", *["piece"] * (len(names) - 2), "final"]
    assert "piece" in names
    final = events[-1][1]
    assert [data for name, data in events if name == "piece"] == final["sentences"]
    shown = {citation["number"] for citation in events[0][1]["citations"]}
    assert {citation["number"] for citation in final["citations"]} <= shown


async def test_a_question_in_the_wrong_layout_is_said_as_read(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/ask", json={"question": "j,;bu rthfvbrb", "language": "ru"})).json()
    assert answer["searched_as"] == "обжиг керамики"
    assert "Искал: обжиг керамики" in answer["remark"]


async def test_not_found_says_what_was_searched(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/ask", json={"question": UNKNOWN})).json()
    assert answer["outcome"] == "not_found"
    assert answer["sentences"] == []
    assert answer["searched"]["channels"] == ["Мастерская на Речной"]
    assert answer["searched"]["posts"] > 30
    assert answer["searched"]["until"].startswith("2026-")
    assert answer["citations"]


async def test_dialogue_goes_on(client: httpx.AsyncClient, app: App) -> None:
    first = (await client.post("/ask", json={"question": KNOWN})).json()
    body = {"question": "А чем ещё?", "dialogue_id": first["dialogue_id"]}
    second = (await client.post("/ask", json=body)).json()
    assert second["dialogue_id"] == first["dialogue_id"]
    assert "доску" in second["query"]
    assert [turn.id for turn in app.ledger.questions.turns(first["dialogue_id"])] == [first["id"], second["id"]]


async def test_door_is_the_page_for_a_browser(client: httpx.AsyncClient, app: App) -> None:
    response = await client.post("/ask", json={"question": KNOWN}, headers={"X-PostFinder-Door": "web"})
    row = app.ledger.questions.get(response.json()["id"])
    assert row is not None
    assert row.door == "web"


async def test_search_within_limits(client: httpx.AsyncClient) -> None:
    body = {
        "query": "абонемент",
        "limit": 3,
        "since": "2026-01-01",
        "until": "2026-09-01",
        "channels": [f"@{sample.USERNAME}"],
    }
    result = (await client.post("/search", json=body)).json()
    assert 1 <= len(result["found"]) <= 3
    for hit in result["found"]:
        assert "2026-01-01" <= hit["post"]["date"][:10] < "2026-09-01"
        assert hit["link"].startswith(f"https://t.me/{sample.USERNAME}/")
        assert hit["post"]["author_id"] is None


async def test_rating_is_stored(client: httpx.AsyncClient, app: App) -> None:
    answer = (await client.post("/ask", json={"question": KNOWN})).json()
    before = app.ledger.stats()
    path = f"/answers/{answer['id']}/rating"
    assert (await client.post(path, json={"vote": "down", "reason": "Не о том"})).json() == {"stored": True}
    assert app.ledger.stats() != before
    said = is_problem(await client.post("/answers/no-such-answer/rating", json={"vote": "up"}))
    assert (said["status"], said["code"]) == (404, "no_answer")


async def test_question_with_controls_inside_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post("/ask", json={"question": "Чем \x00покрыть\u200b разделочную\x1b доску?"})
    assert answer.json()["outcome"] == "answered"


# Reading


async def test_channels_examples_and_posts(client: httpx.AsyncClient) -> None:
    channels = (await client.get("/channels")).json()
    assert [status["channel"]["username"] for status in channels] == [sample.USERNAME]
    assert (await client.get("/examples")).json() == sample.questions()
    shown = (await client.get(f"/posts/{channels[0]['channel']['id']}/73")).json()
    assert shown["post"]["text"].startswith("Чем покрыть разделочную доску")
    assert shown["post"]["author_id"] is None
    assert shown["link"] == f"https://t.me/{sample.USERNAME}/73"


@pytest.mark.parametrize("key", ["1/1", "2400170314/999999", "4503599627370496/4503599627370496"])
async def test_no_such_post(client: httpx.AsyncClient, key: str) -> None:
    assert is_problem(await client.get(f"/posts/{key}"))["code"] == "no_post"


@pytest.mark.parametrize("key", ["0/1", "-1/1", "a/1", "1/99999999999999999999999", "1/1e3", "%00/1"])
async def test_ids_that_cannot_be(client: httpx.AsyncClient, key: str) -> None:
    assert is_problem(await client.get(f"/posts/{key}"))["status"] in {404, 422}


async def test_closed_channels_are_the_operators(client: httpx.AsyncClient) -> None:
    for who, sees in (({}, False), (OPERATOR, True)):
        titles = [status["channel"]["title"] for status in (await client.get("/channels", headers=who)).json()]
        assert (SECRET.title in titles) is sees
        post = await client.get(f"/posts/{SECRET.id}/1", headers=who)
        assert (post.status_code == 200) is sees
        found = (await client.post("/search", json={"query": "код сейфа кооператива"}, headers=who)).json()["found"]
        assert any("4815" in hit["post"]["text"] for hit in found) is sees
        narrowed = await client.post("/ask", json={"question": "код сейфа", "channels": [SECRET.title]}, headers=who)
        assert narrowed.status_code == (200 if sees else 404)
        assert "4815" not in narrowed.text or sees


# Leaving


def slow(started: asyncio.Event, ended: asyncio.Event) -> Any:
    """A verb that shows its links and then takes for ever, as a model may."""

    async def ask(question: Question) -> AsyncIterator[Part]:
        try:
            yield Links(())
            started.set()
            await asyncio.sleep(3600)
        finally:
            ended.set()

    return ask


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_leaving_stops_the_answer(app: App, accept: str) -> None:
    started, ended = asyncio.Event(), asyncio.Event()
    async with served(door(app, ask=slow(started, ended))) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        body = json.dumps({"question": "Q?"}).encode()
        writer.write(
            f"POST /ask HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await asyncio.wait_for(started.wait(), 5)
        assert not ended.is_set()
        if accept == "text/event-stream":
            assert b"event: links" in await asyncio.wait_for(reader.readuntil(b"event: links"), 5)
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 5)


async def test_leaving_a_flood_nobody_reads_stops_the_answer(app: App) -> None:
    ended = asyncio.Event()

    async def ask(question: Question) -> AsyncIterator[Part]:
        try:
            while True:
                yield Links(())
        finally:
            ended.set()

    async with served(door(app, ask=ask)) as (host, port):
        peer = socket.create_connection((host, port))
        body = b'{"question": "Q?"}'
        peer.sendall(
            b"POST /ask HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await asyncio.sleep(0.3)
        assert not ended.is_set()
        peer.close()
        await asyncio.wait_for(ended.wait(), 5)


async def test_silence_is_filled(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_S", 0.02)
    last = [part async for part in app.verbs.ask(Question(KNOWN, Asker())) if isinstance(part, Final)]

    async def ask(question: Question) -> AsyncIterator[Part]:
        yield Links(())
        await asyncio.sleep(0.1)
        yield last[0]

    async with at(door(app, ask=ask)) as client:
        text = (await client.post("/ask", json={"question": "Q?"}, headers={"Accept": "text/event-stream"})).text
    assert ": \n\n" in text
    assert [name for name, _ in events_of(text)] == ["links", "final"]


# Errors from below


def failing(error: Exception, *, after: int) -> Any:
    async def ask(question: Question) -> AsyncIterator[Part]:
        for _ in range(after):
            yield Links(())
        raise error

    return ask


async def test_an_error_before_the_first_part_has_its_status(app: App) -> None:
    for error, status in ((SlowDown("Slow.", retry_after_s=2.2), 429), (StoreError("Full.", cure="Free it."), 503)):
        async with at(door(app, ask=failing(error, after=0))) as client:
            for accept in ("text/event-stream", "application/json"):
                response = await client.post("/ask", json={"question": "Q?"}, headers={"Accept": accept})
                assert is_problem(response)["status"] == status
                assert response.headers.get("retry-after") == ("3" if status == 429 else None)


async def test_an_error_on_the_way_is_an_event(app: App) -> None:
    async with at(door(app, ask=failing(StoreError("Full.", cure="Free it."), after=1))) as client:
        response = await client.post("/ask", json={"question": "Q?"}, headers={"Accept": "text/event-stream"})
        assert response.status_code == 200
        names = events_of(response.text)
        assert [name for name, _ in names] == ["links", "error"]
        assert names[1][1] == {"code": "store", "message": "Full.", "cure": "Free it."}
        assert is_problem(await client.post("/ask", json={"question": "Q?"}))["status"] == 503


async def test_a_fault_shows_no_traceback_and_logs_no_words(app: App) -> None:
    fault = ValueError("the text of a message")

    async def stats() -> dict[str, Any]:
        raise fault

    async with at(door(app, stats=stats, ask=failing(fault, after=1))) as client:
        with capture_logs() as logs:
            said = is_problem(await client.get("/stats", headers=OPERATOR))
            streamed = await client.post("/ask", json={"question": "Q?"}, headers={"Accept": "text/event-stream"})
    assert (said["status"], said["code"]) == (500, "internal")
    assert events_of(streamed.text)[-1][1]["code"] == "internal"
    assert "the text" not in said["message"] + streamed.text + repr(logs)
    assert [entry["kind"] for entry in logs if entry["log_level"] == "error"] == ["ValueError", "ValueError"]


# The operator


async def test_import_over_http(app: App, tmp_path: Path) -> None:
    export = tmp_path / "result.json"
    message = {
        "id": 1,
        "type": "message",
        "date": "2026-05-01T12:00:00",
        "date_unixtime": "1777626000",
        "text": "Привет, пост.",
    }
    export.write_text(json.dumps({"name": "Новый", "type": "public_channel", "id": 1888, "messages": [message]}))
    body = {"path": str(export), "username": "novyi", "dry_run": True}
    async with at(door(app)) as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": TOKEN},
            {"Authorization": "Basic eA=="},
        ):
            assert is_problem(await client.post("/admin/import", json=body, headers=headers))["status"] == 401
        response = await client.post("/admin/import", json=body, headers=OPERATOR)
        name, last = events_of(response.text)[-1]
        assert name == "done"
        assert (last["new"], last["done"]) == (1, True)
        missing = await client.post("/admin/import", json={"path": str(tmp_path / "none.json")}, headers=OPERATOR)
        said = is_problem(missing)
        assert said["status"] == 400
        assert said["cure"]
    assert app.ledger.posts([(1888, 1)]) == {}


async def test_a_wrong_token_is_never_taken_for_none(client: httpx.AsyncClient) -> None:
    for headers in ({"Authorization": "Bearer x"}, {"Authorization": "\xff".encode("latin-1")}):
        for response in (
            await client.get("/channels", headers=headers),
            await client.post("/ask", json={"question": KNOWN}, headers=headers),
            await client.get("/stats", headers=headers),
        ):
            assert is_problem(response)["code"] == "bad_token"
    assert (await client.get("/stats")).status_code == 401
    assert (await client.get("/stats", headers=OPERATOR)).json()["channels"]


@pytest.mark.parametrize("mode", ["whitelist", "approval"])
async def test_a_key_is_answered_where_only_members_ask(client: httpx.AsyncClient, app: App, mode: str) -> None:
    body = {"name": "widget", "scopes": ["ask", "search", "read"], "per_minute": 100}
    made = (await client.post("/admin/keys", json=body, headers=OPERATOR)).json()
    keyed = {"Authorization": f"Bearer {made['key']}"}
    post = f"/posts/{app.ledger.channels(Asker())[0].channel.id}/73"
    asked = {
        "/ask": {"question": KNOWN},
        "/digest": {"days": 3000},
        "/search": {"query": KNOWN},
        "/story": {"subject": "разделочная доска"},
    }
    await app.verbs.admission.set_mode(mode, actor=None)
    try:
        for path, question in [*asked.items(), *asked.items()]:  # the second time from memory
            refused = await client.post(path, json=question)
            assert (refused.status_code, is_problem(refused)["code"]) == (403, "members_only"), path
            assert (await client.post(path, json=question, headers=keyed)).status_code == 200, path
        for path in (post, f"{post}/related"):
            assert (await client.get(path)).status_code == 404
            assert (await client.get(path, headers=keyed)).status_code == 200
        assert (await client.get("/channels")).json() == []
        seen = (await client.get("/channels", headers=keyed)).json()
        assert [row["channel"]["username"] for row in seen] == [sample.USERNAME]  # the closed one stays closed
        await app.verbs.admission.pause(actor=None, name="operator")
        assert is_problem(await client.post("/ask", json=asked["/ask"], headers=keyed))["code"] == "paused"
        await app.verbs.admission.resume(actor=None)
        await client.post(f"/admin/keys/{made['record']['key_id']}/revoke", headers=OPERATOR)
        assert (await client.post("/ask", json=asked["/ask"], headers=keyed)).status_code == 401
        assert (await client.get("/channels", headers=keyed)).status_code == 401
    finally:
        await app.verbs.admission.resume(actor=None)
        await app.verbs.admission.set_mode("open", actor=None)


async def test_health(app: App, client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json()["status"] == "alive"
    assert (await client.head("/healthz")).status_code == 200
    assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}

    async def ready() -> list[str]:
        return ["no posts"]

    async with at(door(app, ready=ready)) as other:
        response = await other.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"ready": False, "reasons": ["no posts"]})
    metrics = await client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "# TYPE" in metrics.text
    assert SECRET.title not in metrics.text


# Manners


async def test_headers_of_every_answer(client: httpx.AsyncClient) -> None:
    for response in (
        await client.get("/"),
        await client.get("/assets/app.js"),
        await client.get("/channels"),
        await client.get("/nowhere"),
        await client.post("/ask", json={"question": ""}),
        await client.post("/ask", json={"question": KNOWN}, headers={"Accept": "text/event-stream"}),
        await client.post("/ask", content=b"x" * 100_000),
    ):
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in response.headers
        assert "access-control-allow-origin" not in response.headers


async def test_logs_hold_no_words(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.post("/ask?q=секрет", json={"question": KNOWN})
        await client.get("/секретная/страница?question=секрет")
        await client.get("/posts/2400170314/73")
    assert [(entry["route"], entry["status"]) for entry in logs if entry["event"] == "request"] == [
        ("/ask", 200),
        ("unknown", 404),
        ("/posts/{channel_id}/{message_id}", 200),
    ]
    assert not re.search("секрет|доску|%D1", repr(logs), re.IGNORECASE)


async def test_page_asks_nothing_of_the_outside(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert (await client.head("/")).status_code == 200
    assets = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text)
    assert {"/assets/app.js", "/assets/style.css", "/assets/icon.svg"} <= set(assets)
    for asset in assets:
        assert (await client.get(asset)).status_code == 200
    known = {
        "http://www.w3.org/2000/svg",
        "https://t.me/",
        "https://oauth.telegram.org/auth?${asked}",
    }  # links to press
    for file in filter(Path.is_file, PAGE.rglob("*")):
        addresses = set(re.findall(r"(?:https?:)?//[a-z][^\s\"'`]*", file.read_text())) - known
        assert not {one for one in addresses if "." in one.split("/")[2]}, file
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", (PAGE / "app.js").read_text()
    )
    assert not re.search(r"\sstyle=|\son[a-z]+=", page.text)


async def test_page_speaks_both_languages() -> None:
    text = (PAGE / "words.js").read_text()
    russian, english = re.split(r"\n  en: \{\n", text.split("  ru: {\n")[1])
    keys = [set(re.findall(r"^    (\w+):", part, re.MULTILINE)) for part in (russian, english)]
    assert keys[0] == keys[1]
    page = (PAGE / "index.html").read_text()
    script = "".join(file.read_text() for file in PAGE.glob("*.js"))
    used = set(re.findall(r'data-(?:word|label)="(\w+)"', page)) | set(re.findall(r"words\(\)\.(\w+)", script))
    assert used == keys[0]


async def test_assets_are_packed_and_kept(client: httpx.AsyncClient) -> None:
    first = await client.get("/assets/app.js", headers={"Accept-Encoding": "gzip"})
    assert first.headers["content-encoding"] == "gzip"
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/assets/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert (await client.get("/channels")).headers["cache-control"] == "no-store"
    assert is_problem(await client.get("/assets/../api.py"))["status"] == 404


async def test_openapi_describes_every_route(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert {"/ask", "/search", "/digest", "/story", "/answers/{answer_id}/rating", "/admin/import"} <= set(
        described["paths"]
    )
    assert (await client.get("/docs")).status_code == 404
    text = (PAGE.parents[2] / "docs" / "api.md").read_text()
    assert [path for path in described["paths"] if path not in text] == []
    assert [code for code in WORDS if f"`{code}`" not in text] == []
    assert "text/event-stream" in described["paths"]["/ask"]["post"]["responses"]["200"]["content"]


async def test_verbs_are_all_the_door_knows() -> None:
    for file in PAGE.parent.glob("*.py"):
        imported = set(re.findall(r"^from (appliance\.\w+)", file.read_text(), re.MULTILINE))
        assert not imported & {"appliance.ledger", "appliance.index", "appliance.journal", "appliance.search"}
