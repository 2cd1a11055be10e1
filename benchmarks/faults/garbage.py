"""Suite `faults-garbage`: bad inputs at every door, and a good answer after them.

The HTTP API by its own schema (half of the calls with the operator's token), the webhook with broken and odd updates
that the bot then works on, export files, and commands. A server error, a traceback or an update that ended a handler is
a failure. The control is a webhook that believes what it is sent, and must fail.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter
from types import NoneType
from typing import Any, Literal

import structlog
from starlette.types import ASGIApp
from typer.testing import CliRunner

from appliance import cli, sample
from appliance.app import App, open_app
from appliance.bot.pacing import Pace
from appliance.bot.run import run_bot
from appliance.bot.webhook import Webhook
from appliance.config import SERVING_FILE
from appliance.errors import PostFinderError
from appliance.telegram_export import read_export
from appliance.web.api import create_api
from benchmarks.faults.forks import Forks, kill
from benchmarks.faults.service import config_of
from tests.servers.botapi import DEFAULT_TOKEN, SCHEMA_FILE, BotApi
from tests.servers.botapi_limits import Limits

ROUNDS = 200_000
SHARES = {"http": 0.6, "webhook": 0.22, "files": 0.16, "commands": 0.02}
LOOK_EVERY = 250
TELL_EVERY = 5000
CONTROL = 400
TOKEN, SECRET, PERSON = "operator", "secret-of-the-loopback-webhook", 501
GOOD = "Чем покрыть разделочную доску?"
NOT_REALLY = {  # what would work for minutes, or write where it is told: refused at the door here
    "/admin/backup", "/admin/restore", "/admin/reindex", "/admin/master-key/rotate", "/admin/check",
}  # fmt: skip
TEXTS = (
    "", " ", "\x00", "\ud83d", "\u202e\u200b", "🙂" * 50, "a" * 20_000, "'; DROP TABLE post; --", "../../../etc/passwd",
    "%s%n%x", "{{7*7}}", "<script>", "NaN", "-1", "null", "Где?", "@", "/find", "/find @@@ ?", "/forget https://t.me/x",
    "/start\n\n", "\\", '"', "0", "１２３", "2026-02-30", "9999-12-31T23:59:59-12:00", "https://t.me/c/1/1", "user1",
    "💥/",
)  # fmt: skip
NUMBERS = (0, -1, 1, 2**31, 2**53, 2**63, -(2**63), 10**40, 0.5, 1e308, -0.0, float("nan"), float("inf"))


def run(rounds: int = ROUNDS, seed: int = 1) -> dict[str, Any]:
    """Give so many bad inputs; see the module."""
    with tempfile.TemporaryDirectory(prefix="postfinder-garbage-") as folder:
        here = Path.cwd()
        os.chdir(folder)  # where a path that is told leads nowhere
        try:
            return asyncio.run(_run(rounds, seed, Path(folder)))
        finally:
            os.chdir(here)


async def _run(rounds: int, seed: int, folder: Path) -> dict[str, Any]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    chance, found = random.Random(seed), Found()
    counts = {kind: round(rounds * share) for kind, share in SHARES.items()}
    began = monotonic()
    async with BotApi(limits=Limits(speed=1000), seed=seed) as server:
        server.add_user(PERSON, "Анна")
        async with open_app(config_of(folder / "data", server.url)) as app:
            with sample.export() as path:
                async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                    pass
            await over_http(app, counts["http"], chance, found)
            await posted(app, server, counts["webhook"], chance, found)
            await asyncio.to_thread(in_files, folder, counts["files"], chance, found)
            control = Found()
            api = create_api(app.verbs, config=app.config, metrics=app.metrics, admin_token=TOKEN, hook=Believing())
            for body in updates(chance, CONTROL):
                control.see("control", await called(api, "POST", "/telegram/webhook", body))
        with Forks("benchmarks.faults.service") as forks:
            pid = await forks.start(str(folder / "data"), server.url, "careful")
            await server.until((folder / "data" / SERVING_FILE).exists, 120)
            await asyncio.to_thread(as_commands, folder, counts["commands"], chance, found)
            await kill(pid)
    took_s = monotonic() - began
    structlog.reset_defaults()
    return {
        "inputs": sum(found.given.values()),
        "seed": seed,
        "took_s": took_s,
        "given": dict(found.given),
        "answers": {kind: dict(statuses) for kind, statuses in found.statuses.items()},
        "server_errors": found.errors,
        "good_after_max_s": found.slowest_s,
        "good_answers": found.good,
        "control_errors": control.errors,
    }


@dataclass
class Found:
    """What came of it."""

    given: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    errors: int = 0
    slowest_s: float = 0.0
    good: int = 0

    def see(self, kind: str, status: int | str, what: object = "") -> None:
        """Count an input and what was answered."""
        self.given[kind] += 1
        if (given := self.given.total()) % TELL_EVERY == 0:
            print(f"{given} inputs, {self.errors} server errors, {self.good} good answers", file=sys.stderr, flush=True)
        self.statuses.setdefault(kind, Counter())[str(status)] += 1
        if (isinstance(status, int) and status >= 500) or status == "traceback":
            self.errors += 1
            if kind != "control":
                print(f"{kind}: {status}: {str(what)[:500]!r}", file=sys.stderr, flush=True)


class Believing:
    """The control: a webhook that believes what it is sent."""

    def is_from_telegram(self, given: bytes) -> bool:
        """Take it from anyone."""
        return True

    async def take(self, body: bytes) -> Literal["taken", "unreadable", "later"]:
        """Read it without a doubt."""
        return "taken" if json.loads(body)["update_id"] else "unreadable"


# --- bad values ------------------------------------------------------------------------------------------------------


def anything(chance: random.Random, depth: int = 0) -> Any:
    """Make any JSON value."""
    kind = chance.randrange(7 if depth < 3 else 5)
    match kind:
        case 0:
            return chance.choice(TEXTS)
        case 1:
            return chance.choice(NUMBERS)
        case 2:
            return chance.choice((None, True, False))
        case 3 | 4:
            return "".join(
                map(chr, (chance.choice((chance.randrange(128), chance.randrange(0xD7FF))) for _ in range(9)))
            )
        case 5:
            return [anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {str(anything(chance, 9)): anything(chance, depth + 1) for _ in range(chance.randrange(4))}


def by_schema(schema: dict[str, Any], parts: dict[str, Any], chance: random.Random) -> Any:
    """Make a value that nearly fits a schema."""
    if chance.random() < 0.15:
        return anything(chance)
    if "$ref" in schema:
        return by_schema(parts[schema["$ref"].rsplit("/", 1)[1]], parts, chance)
    if "anyOf" in schema:
        return by_schema(chance.choice(schema["anyOf"]), parts, chance)
    if "enum" in schema:
        return chance.choice(schema["enum"])
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            kept = {name: by_schema(one, parts, chance) for name, one in fields.items() if chance.random() < 0.7}
            return kept | ({chance.choice(TEXTS): anything(chance)} if chance.random() < 0.1 else {})
        case "array":
            return [by_schema(schema.get("items", {}), parts, chance) for _ in range(chance.choice((0, 1, 3, 70)))]
        case "integer" | "number":
            return chance.choice((*NUMBERS, 1, 7, 10))
        case "boolean":
            return chance.choice((True, False))
        case "null":
            return None
    return chance.choice((*TEXTS, "a1b2", "@masterskaya_rechnaya", "up", "ask"))


def spoiled(value: Any, chance: random.Random) -> bytes:
    """Write a value down, sometimes badly."""
    try:
        raw = json.dumps(value).encode()
    except (ValueError, RecursionError):
        raw = b"{}"
    match chance.randrange(12):
        case 0:
            return raw[: chance.randrange(len(raw) + 1)]
        case 1:
            at = chance.randrange(len(raw) + 1)
            return raw[:at] + chance.randbytes(3) + raw[at:]
        case 2:
            return chance.choice((b"", b"[" * 5000, b"\xff\xfe", b"{" * 3, b"1" * 5000, b"\x00", raw + raw))
    return raw


# --- doors -----------------------------------------------------------------------------------------------------------


async def called(
    api: ASGIApp, method: str, path: str, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> int:
    """Call an ASGI application as a server does; return the status."""
    place, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": place, "raw_path": place.encode("utf-8", "replace"), "query_string": query.encode("utf-8", "replace"),
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "headers": [(b"content-length", str(len(body)).encode()), (b"x-telegram-bot-api-secret-token", SECRET.encode()),
                    *headers],
    }  # fmt: skip
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> Any:
        return waiting.pop() if waiting else await asyncio.Future()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    try:
        async with asyncio.timeout(60):
            await api(scope, receive, send)
    except Exception:
        return 599
    return statuses[0] if statuses else 598


async def good(found: Found, api: ASGIApp) -> None:
    """Ask a good question; note how long the answer takes."""
    began = perf_counter()
    body = json.dumps({"question": GOOD}).encode()
    status = await called(api, "POST", "/ask", body, ((b"content-type", b"application/json"),))
    found.good += status == 200
    found.slowest_s = max(found.slowest_s, perf_counter() - began)


async def over_http(app: App, count: int, chance: random.Random, found: Found) -> None:
    """Call every route of the schema with values that nearly fit, or not at all."""
    api = create_api(app.verbs, config=app.config, metrics=app.metrics, admin_token=TOKEN)
    schema = api.openapi()
    parts = schema["components"]["schemas"]
    routes = [(path, method, one) for path, methods in schema["paths"].items() for method, one in methods.items()]
    kinds = (b"application/json",) * 9 + (b"text/plain", b"\xff", b"multipart/form-data; boundary=x")
    for number in range(count):
        path, method, route = chance.choice(routes)
        told = path
        for one in route.get("parameters", []):
            value = str(by_schema(one.get("schema", {}), parts, chance)).replace("?", "")
            if one["in"] == "path":
                told = told.replace("{" + one["name"] + "}", value)
            elif one["in"] == "query":
                told += f"?{one['name']}={value}"
        body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        content = spoiled(by_schema(body, parts, chance), chance) if body else b""
        token = TOKEN if chance.random() < 0.5 and path not in NOT_REALLY else chance.choice(("", "x", "pf_1.2"))
        headers = [
            (b"content-type", chance.choice(kinds)),
            (b"accept-language", chance.choice((b"ru", b"en", b"\xff;q=x"))),
        ]
        if token:
            headers.append((b"authorization", f"Bearer {token}".encode()))
        found.see("http", await called(api, method.upper(), told, content, tuple(headers)), (told, content))
        if app.verbs.admission.paused:  # as it was told to: nothing would be answered from here on
            await app.verbs.admission.resume(actor=None)
        if number % LOOK_EVERY == 0:
            await good(found, api)


def updates(chance: random.Random, count: int) -> Iterator[bytes]:
    """Write updates that are odd, broken, or none."""
    known = [{"message": {"message_id": 1, "date": 1, "chat": {"id": PERSON, "type": "private"}, "text": "?"}}]
    examples = SCHEMA_FILE.with_name("updates.jsonl")
    if examples.exists():
        known += [json.loads(line)["update"] for line in examples.read_text("utf-8").splitlines()]
    person = {"id": PERSON, "is_bot": False, "first_name": "Анна", "language_code": "ru"}
    for number in range(count):
        update = json.loads(json.dumps(chance.choice(known)))
        if chance.random() < 0.4:
            text = chance.choice((*TEXTS, str(anything(chance, 9))))
            update = {"message": {"message_id": number, "date": 1_700_000_000, "from": person, "text": text}
                      | {"chat": {"id": PERSON, "type": "private", "first_name": "Анна"}}}  # fmt: skip
        if chance.random() < 0.1:
            data = chance.choice((*TEXTS, "r:u:0", "r:x:" + "0" * 32, "e:1:1"))
            update = {"callback_query": {"id": str(number), "from": person, "chat_instance": "1", "data": data}}
        update["update_id"] = 10_000 + number
        for _ in range(chance.choice((0, 0, 1, 3))):
            spoil(update, chance)
        yield spoiled(update, chance)


def spoil(value: Any, chance: random.Random) -> None:
    """Put anything in some place of a JSON value."""
    while isinstance(value, dict | list) and value:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if not isinstance(value[key], dict | list) or chance.random() < 0.3:
            value[key] = anything(chance)
            return
        value = value[key]


async def posted(app: App, server: BotApi, count: int, chance: random.Random, found: Found) -> None:
    """Post updates to the webhook while the bot works on what was taken in."""
    url = "http://127.0.0.1:9/telegram/webhook"  # told to the Bot API, which posts nothing by itself here
    hook = Webhook.of(url, SECRET, token=DEFAULT_TOKEN, journal=app.journal)
    api = create_api(app.verbs, config=app.config, metrics=app.metrics, admin_token=TOKEN, hook=hook)
    bot = asyncio.create_task(
        run_bot(
            app.verbs, token=DEFAULT_TOKEN, api_base=server.url, journal=app.journal, hook=hook, pace=Pace(speed=1000)
        )
    )
    for number, body in enumerate(updates(chance, count)):
        found.see("webhook", await called(api, "POST", "/telegram/webhook", body), body)
        if number % LOOK_EVERY == 0:
            await answered(server, api, number, found)
    await server.until(lambda: not app.journal.counts()["inbox_pending"], 600)
    for update in app.journal.quarantined(count):
        if not update.reason.startswith(("unreadable", "not JSON", "for another bot")):
            found.errors += 1
            print(f"quarantined: {update.reason}: {update.raw[:500]!r}", file=sys.stderr, flush=True)
    bot.cancel()
    with suppress(asyncio.CancelledError):
        await bot


async def answered(server: BotApi, api: ASGIApp, number: int, found: Found) -> None:
    """Post a good question of somebody else; wait for the bot's answer."""
    person = 100_000 + number
    server.add_user(person, "Борис")
    server.say(person, GOOD)
    raw = server._updates.pop(next(reversed(server._updates)))
    began = perf_counter()
    await called(api, "POST", "/telegram/webhook", raw.encode())
    await server.until(lambda: server.from_bot(person), 120)
    found.slowest_s = max(found.slowest_s, perf_counter() - began)
    found.good += 1


def in_files(folder: Path, count: int, chance: random.Random, found: Found) -> None:
    """Read export files that are odd, broken, or none."""
    path = folder / "export.json"
    fine = {"name": "Канал", "type": "public_channel", "id": 77, "messages": [
        {"id": n, "type": "message", "date": "2023-11-15T01:13:20", "date_unixtime": "1700000000", "text": f"Пост {n}"}
        | chance.choice(({}, {"reactions": [{"type": "emoji", "count": 2, "emoji": "👍"}]}, {"photo": "(File)"},
                         {"text": ["a", {"type": "link", "text": "b"}]}, {"forwarded_from": "x", "edited": "?"}))
        for n in range(1, 9)]}  # fmt: skip
    for number in range(count):
        export = json.loads(json.dumps(fine))
        for _ in range(chance.randrange(5)):
            spoil(export, chance)
        path.write_bytes(spoiled(export, chance))
        found.see("files", _read(path), path.read_bytes())
        if number % LOOK_EVERY == 0:
            path.write_text(json.dumps(fine), encoding="utf-8")
            began = perf_counter()
            found.good += _read(path) == "read"
            found.slowest_s = max(found.slowest_s, perf_counter() - began)


def _read(path: Path) -> str:
    try:
        for _ in read_export(path):
            pass
    except PostFinderError:
        return "refused"
    except Exception:
        return "traceback"
    return "read"


def as_commands(folder: Path, count: int, chance: random.Random, found: Found) -> None:
    """Give commands odd words, against the running appliance."""
    runner = CliRunner()
    told: dict[str, Callable[[], list[str]]] = {
        "ask": lambda: [word()], "search": lambda: [word(), "--since", word()], "import": lambda: [word(), "--dry-run"],
        "forget": lambda: [word()], "sync": lambda: [word()], "opt-out": lambda: [word()], "erase": lambda: [word()],
        "export-person": lambda: [word()], "role": lambda: [word(), word()], "audit": lambda: ["--limit", word()],
        "channels": lambda: [word()], "digest": lambda: ["--days", word()], "nonsense": lambda: [word()],
    }  # fmt: skip

    def word() -> str:
        text = chance.choice((*TEXTS, str(anything(chance, 9)), f"--{chance.choice('abcxyz')}"))
        return text.encode("utf-8", "ignore").decode().replace("\x00", "")[:2000]

    environment = {"POSTFINDER_DATA_DIR": str(folder / "data")}
    for number in range(count):
        name, words = chance.choice(list(told.items()))
        given = [name, *words(), *([word()] if chance.random() < 0.2 else [])]
        result = runner.invoke(cli.app, given, env=environment)
        is_bad = not isinstance(result.exception, NoneType | SystemExit | PostFinderError)
        status = "traceback" if is_bad or "Traceback" in result.output else f"exit {result.exit_code}"
        found.see("commands", status, (given, result.exception))
        if number % (LOOK_EVERY // 10) == 0:
            began = perf_counter()
            found.good += runner.invoke(cli.app, ["ask", GOOD], env=environment).exit_code == 0
            found.slowest_s = max(found.slowest_s, perf_counter() - began)
