"""The web door and what cannot be used: bad questions, bodies, bytes and sizes get a clear word each, never a 500."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.app import App
from appliance.errors import BadInput
from appliance.web.guard import LINGER_BYTES
from appliance.web.problems import STATUS, WORDS, language_of_headers, status_of
from appliance.web.wire import moment
from tests.web_door import at, door, is_problem, opened, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALM = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with opened(tmp_path_factory.mktemp("web"), {73, 106, 190}) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def api(app: App) -> Any:
    return door(app)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(api: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with at(api) as opened_client:
        yield opened_client


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


# Sizes and sockets


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
