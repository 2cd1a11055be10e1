"""Helpers of the web door's tests: the appliance opened, its API, a real port."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from appliance import sample
from appliance.app import App, open_app
from appliance.config import Config
from appliance.web.api import create_api

TOKEN = "operator's token"
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
KNOWN = "Чем покрыть разделочную доску?"
UNKNOWN = "Какой курс доллара в Уругвае?"


@asynccontextmanager
async def opened(folder: Path, messages: set[int]) -> AsyncIterator[App]:
    """Open the appliance on some messages of the sample: the whole takes seconds to embed."""
    config = Config(
        _env_file=None, data_dir=folder / "data", weights_dir=Path(__file__).parents[1] / "weights", threads=2
    )
    with sample.export() as path:
        export = json.loads(path.read_text())
    kept = [message for message in export["messages"] if message["id"] in messages]
    file = folder / "result.json"
    file.write_text(json.dumps({**export, "messages": kept}))
    async with open_app(config) as app:
        async for _ in app.verbs.import_export(file, username=sample.USERNAME):
            pass
        yield app


def door(app: App, **verbs: Any) -> Any:
    """The API of the opened appliance, some of its verbs exchanged."""
    return create_api(replace(app.verbs, **verbs), config=app.config, metrics=app.metrics, admin_token=TOKEN)


def at(api: Any, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(api, **options), base_url="http://postfinder")


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
