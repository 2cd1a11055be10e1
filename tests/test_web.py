"""The web door on the real appliance with the sample channel."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from appliance import sample
from appliance.app import App, open_app
from appliance.config import Config
from appliance.errors import BadInput, SlowDown, StoreError
from appliance.schema import Asker, Channel, Final, Links, Part, Post, Question
from appliance.web import api as web_api
from appliance.web import stream
from appliance.web.api import create_api
from appliance.web.guard import LINGER_BYTES
from appliance.web.problems import STATUS, WORDS, language_of_headers, status_of
from appliance.web.wire import moment

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "operator's token"
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
KNOWN = "Чем покрыть разделочную доску?"
UNKNOWN = "Какой курс доллара в Уругвае?"
SECRET = Channel(id=1777000001, title="Совет кооператива", kind="private_channel", is_open=False)
PAGE = Path(web_api.__file__).parent / "page"
CALM = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def some_of_the_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty posts of the sample: the whole takes seconds to embed."""
    with sample.export() as path:
        export = json.loads(path.read_text())
    kept = [message for message in export["messages"] if message["id"] <= 40 or message["id"] in {73, 106, 190, 191}]
    file = tmp_path_factory.mktemp("sample") / "result.json"
    file.write_text(json.dumps({**export, "messages": kept}))
    return file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    config = Config(
        _env_file=None,
        data_dir=tmp_path_factory.mktemp("web") / "data",
        weights_dir=Path(__file__).parents[1] / "weights",
        threads=2,
    )
    async with open_app(config) as opened:
        async for _ in opened.verbs.import_export(some_of_the_sample(tmp_path_factory), username=sample.USERNAME):
            pass
        opened.ledger.save_channel(SECRET)
        await opened.verbs.ingest(
            [Post(SECRET.id, 1, datetime(2026, 5, 1, tzinfo=UTC), "Код сейфа кооператива — 4815.")]
        )
        yield opened


def door(app: App, **verbs: Any) -> Any:
    """The API of the opened appliance, some of its verbs exchanged."""
    return create_api(replace(app.verbs, **verbs), config=app.config, metrics=app.metrics, admin_token=TOKEN)


def at(api: Any, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(api, **options), base_url="http://postfinder")


@pytest.fixture(scope="module")
def api(app: App) -> Any:
    return door(app)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(api: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with at(api) as opened:
        yield opened


@asynccontextmanager
async def served(api: Any) -> AsyncIterator[tuple[str, int]]:
    """Serve an application on a real port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api, log_config=None, access_log=False, lifespan="off"))
    running = asyncio.create_task(server.serve([listening]))
    try:
        yield listening.getsockname()  # connections wait in the backlog until the server takes them
    finally:
        server.should_exit = True
        await running


def events_of(text: str) -> list[tuple[str, Any]]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    parsed = []
    for block in blocks:
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        parsed.append((lines["event"], json.loads(lines["data"])))
    return parsed


def is_problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert said["status"] == response.status_code
    assert said["code"]
    assert said["message"]
    assert "Traceback" not in response.text
    return said


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
    row = app.ledger.question(answer["id"])
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
    assert [turn.id for turn in app.ledger.turns(first["dialogue_id"])] == [first["id"], second["id"]]


async def test_door_is_the_page_for_a_browser(client: httpx.AsyncClient, app: App) -> None:
    response = await client.post("/ask", json={"question": KNOWN}, headers={"Sec-Fetch-Site": "same-origin"})
    row = app.ledger.question(response.json()["id"])
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


# What cannot be used

BAD_QUESTIONS = {
    "empty": ("", 400, "empty_question"),
    "blank": (" \n\t ", 400, "empty_question"),
    "emoji": ("🤷‍♀️🤷🏽🔥", 400, "empty_question"),
    "controls": ("\x00\x01\x1b\x7f\u202e", 400, "empty_question"),
    "punctuation": ("?!…", 400, "empty_question"),
    "long": ("почему " * 1000, 400, "question_too_long"),
    "100 KB": ("я" * 51_200, 413, "body_too_large"),
}


@pytest.mark.parametrize("case", BAD_QUESTIONS)
@pytest.mark.parametrize(("path", "field"), [("/ask", "question"), ("/search", "query")])
async def test_bad_questions(client: httpx.AsyncClient, case: str, path: str, field: str) -> None:
    text, status, code = BAD_QUESTIONS[case]
    for language in ("ru", "en"):
        said = is_problem(await client.post(path, json={field: text}, headers={"Accept-Language": language}))
        assert (said["status"], said["code"]) == (status, code)
        assert bool(re.search("[а-я]", said["message"])) is (language == "ru")


async def test_question_with_controls_inside_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post("/ask", json={"question": "Чем \x00покрыть\u200b разделочную\x1b доску?"})
    assert answer.json()["outcome"] == "answered"


BAD_BODIES = {
    "no JSON": (b"question=hi", 422, "bad_request"),
    "half of JSON": (b'{"question": "', 422, "bad_request"),
    "not UTF-8": (b'{"question": "\xff\xfe"}', 400, "bad_request"),
    "lone surrogate": (b'{"question": "\\ud83d"}', 422, "bad_request"),
    "surrogate in a name": (b'{"\\ud83d": 1, "question": "a"}', 422, "bad_request"),
    "nothing": (b"", 422, "bad_request"),
    "a list": (b"[]", 422, "bad_request"),
    "a number": (b"1" * 5000, 400, "bad_request"),
    "deep": (b"[" * 30_000, 400, "bad_request"),
    "NaN": (b'{"question": NaN}', 422, "bad_request"),
    "null": (b'{"question": null}', 422, "bad_request"),
    "a slip in a name": ('{"question": "Где?", "chanels": []}'.encode(), 422, "bad_request"),
    "unknown channel": ('{"question": "Где?", "channels": ["@no_such"]}'.encode(), 404, "unknown_channel"),
    "channel of controls": (b'{"question": "a?", "channels": ["\\u0000"]}', 422, "bad_request"),
    "too many channels": (json.dumps({"question": "a?", "channels": ["x"] * 99}).encode(), 422, "bad_request"),
    "wrong date": ('{"question": "Где?", "since": "вчера"}'.encode(), 400, "bad_date"),
    "no such day": ('{"question": "Где?", "until": "2026-02-30"}'.encode(), 400, "bad_date"),
    "year 9999": ('{"question": "Где?", "until": "9999-12-31T23:59:59-12:00"}'.encode(), 400, "bad_date"),
    "year 1": ('{"question": "Где?", "since": "0001-01-01T00:00:00+12:00"}'.encode(), 400, "bad_date"),
    "dates swapped": ('{"question": "Где?", "since": "2026-05-02", "until": "2026-05-01"}'.encode(), 400, "bad_dates"),
    "dialogue": (b'{"question": "a?", "dialogue_id": "../../x"}', 422, "bad_request"),
    "language": (b'{"question": "a?", "language": "fr"}', 422, "bad_request"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_bad_bodies(client: httpx.AsyncClient, case: str, accept: str) -> None:
    body, status, code = BAD_BODIES[case]
    headers = {"Content-Type": "application/json", "Accept": accept, "Accept-Language": "en"}
    said = is_problem(await client.post("/ask", content=body, headers=headers))
    assert (said["status"], said["code"]) == (status, code)
    assert said["cure"]


async def test_other_content_types_are_named(client: httpx.AsyncClient) -> None:
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ";;"):
        said = is_problem(await client.post("/ask", content=b'{"question": "Q?"}', headers={"Content-Type": kind}))
        assert "application/json" in said["message"]


async def test_language_of_errors(client: httpx.AsyncClient) -> None:
    body = {"question": "", "language": "en"}
    said = is_problem(await client.post("/ask", json=body, headers={"Accept-Language": "ru"}))
    assert not re.search("[а-я]", said["message"])


@pytest.mark.parametrize(
    ("wish", "language"),
    [
        ("", "ru"),
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        ("en-GB,en;q=0.9,ru;q=0.8", "en"),
        ("ru;q=0.3, en;q=0.5", "en"),
        ("de,fr", "ru"),
        ("en;q=oops, ru;q=0.1", "ru"),
        ("en;q=nan", "ru"),
    ],
)
async def test_language_of_headers(wish: str, language: str) -> None:
    assert language_of_headers({"accept-language": wish}) == language


async def test_every_error_has_words() -> None:
    for words in WORDS.values():
        assert set(words) == {"ru", "en"}
    assert status_of(BadInput("?")) == 400
    assert len(dict(STATUS)) == len(STATUS)


@given(st.text(max_size=40) | st.datetimes().map(str) | st.datetimes(timezones=st.timezones()).map(datetime.isoformat))
async def test_moment_reads_or_refuses(text: str) -> None:
    try:
        read = moment(text, "since")
    except BadInput:
        return
    assert read is not None
    assert read.utcoffset() == timedelta(0)
    assert 2000 <= read.year <= 2100


# Anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
TEXTS = st.text(st.characters(codec=None), max_size=60)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "question": TEXTS | JSON,
        "query": TEXTS | JSON,
        "channels": st.lists(TEXTS, max_size=3) | JSON,
        "since": st.dates().map(str) | TEXTS | JSON,
        "until": st.datetimes().map(str) | TEXTS | JSON,
        "author": TEXTS | JSON,
        "dialogue_id": TEXTS | JSON,
        "language": st.sampled_from(["ru", "en", "de"]) | JSON,
        "limit": st.integers() | JSON,
        "vote": st.sampled_from(["up", "down"]) | JSON,
        "reason": TEXTS | JSON,
        "path": TEXTS | JSON,
        "username": TEXTS | JSON,
        "dry_run": JSON,
    },
)
PATHS = st.sampled_from(["/ask", "/search", "/answers/0123abc/rating"])


def understood(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    if response.is_error:
        is_problem(response)


@CALM
@given(path=PATHS, body=FIELDS | JSON)
async def test_any_json_is_understood_or_refused(client: httpx.AsyncClient, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    understood(await client.post(path, content=content, headers={"Content-Type": "application/json"}))


@CALM
@given(
    path=PATHS,
    content=st.binary(max_size=200),
    kind=st.sampled_from(["application/json", "application/json; charset=utf-16", "text/json", ""]),
    accept=st.sampled_from(["*/*", "text/event-stream", "\xff"]),
)
async def test_any_bytes_are_refused(
    client: httpx.AsyncClient, path: str, content: bytes, kind: str, accept: str
) -> None:
    headers = {"Content-Type": kind.encode(), "Accept": accept.encode("latin-1")}
    understood(await client.post(path, content=content, headers=headers))


@CALM
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW"]),
    path=st.lists(
        st.sampled_from(["ask", "posts", "assets", "answers", "rating", "..", "admin", "import"]) | TEXTS, max_size=4
    ),
    token=st.binary(max_size=20),
)
async def test_any_address_is_refused(api: Any, method: str, path: list[str], token: bytes) -> None:
    place = "/" + "/".join(path)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": place,
        "raw_path": place.encode("utf-8", "replace"),
        "query_string": b"a=%ff&",
        "root_path": "",
        "headers": [(b"authorization", token), (b"content-length", token)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    await api(scope, receive, send)
    assert sent[0]["status"] < 500


# Sizes, sockets, leaving


async def test_a_large_claim_is_refused_before_a_byte_is_read(api: Any) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"x"

    async with at(api) as client:
        headers = {"Content-Type": "application/json", "Content-Length": str(2 * 10**9)}
        for path in ("/ask", "/channels", "/nowhere"):
            said = is_problem(await client.post(path, content=body(), headers=headers))
            assert (said["status"], said["code"]) == (413, "body_too_large")
    assert read == 0


async def test_a_body_without_a_claim_is_counted(app: App) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b" " * 4096

    async with at(door(app)) as client:
        response = await client.post("/ask", content=body(), headers={"Content-Type": "application/json"})
    assert is_problem(response)["code"] == "body_too_large"
    assert read <= (app.config.max_body_bytes + LINGER_BYTES) // 4096 + 3


async def test_malformed_bytes_on_a_real_socket(api: Any) -> None:
    async with served(api) as (host, port):

        async def say(data: bytes, *, hang_up: bool = False) -> bytes:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(data)
            if hang_up:
                writer.write_eof()
            try:
                return await asyncio.wait_for(reader.read() if hang_up else reader.readline(), 5)
            finally:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)

        head = b"POST /ask HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        assert b" 413 " in await say(head + b"Content-Length: 2147483648\r\n\r\n")
        assert b" 413 " in await say(head + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n")
        chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        assert b" 413 " in await say(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 4)
        assert b" 413 " in await say(head + b"Content-Length: 102400\r\n\r\n" + b" " * 102400)
        for data in (
            b"\x00\xff\x16\x03\x01 hello\r\n\r\n",
            b"GET / SPDY/3\r\n\r\n",
            b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            head + b"Content-Length: -1\r\n\r\n",
            head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        ):
            assert b" 40" in await say(data)
        for data in (
            head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            head + b"Content-Length: 50\r\n\r\n{",
            head,
        ):
            assert b"Traceback" not in await say(data, hang_up=True)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
            assert (await client.get("/healthz")).json()["status"] == "alive"


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
    known = {"http://www.w3.org/2000/svg", "https://t.me/"}
    for file in PAGE.iterdir():
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
    assert set(described["paths"]) == {
        "/ask",
        "/search",
        "/answers/{answer_id}/rating",
        "/channels",
        "/examples",
        "/posts/{channel_id}/{message_id}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/stats",
        "/admin/import",
    }
    assert (await client.get("/docs")).status_code == 404
    assert "text/event-stream" in described["paths"]["/ask"]["post"]["responses"]["200"]["content"]


async def test_verbs_are_all_the_door_knows() -> None:
    for file in PAGE.parent.glob("*.py"):
        imported = set(re.findall(r"^from (appliance\.\w+)", file.read_text(), re.MULTILINE))
        assert not imported & {"appliance.ledger", "appliance.index", "appliance.journal", "appliance.search"}
