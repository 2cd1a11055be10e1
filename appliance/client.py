"""How a command reaches the appliance: always over HTTP, to the running one or to one opened for the command."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import ModuleType
from typing import Any

import httpx
import orjson
import pydantic

from appliance.config import SERVING_FILE, Config
from appliance.errors import PostFinderError, StartupError
from appliance.schema import Language

TIMEOUT = httpx.Timeout(600, connect=5)


@asynccontextmanager
async def connect(config: Config) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client with the operator's rights.

    Parameters
    ----------
    config : Config

    Yields
    ------
    httpx.AsyncClient
        To the appliance that serves this data folder, or to one opened here on a free port, without the bot.

    Raises
    ------
    StartupError
        The appliance cannot be opened.
    """
    client = await running(config)
    if client is not None:
        async with aclosing(client):
            yield client
        return
    app_room = import_app()  # seconds: only a command that opens its own waits
    local = config.model_copy(update={"host": "127.0.0.1"})
    async with app_room.open_app(local) as app, app_room.open_doors(app, port=0, with_bot=False):
        client = await running(local)
        if client is None:
            raise StartupError("The appliance opened for this command does not answer.", cure="Try again.")
        async with aclosing(client):
            yield client


def import_app() -> ModuleType:
    """Import `appliance.app` a second faster.

    LanceDB imports a REST client whose every call is given an argument checker, built at import by
    ``pydantic.validate_call``; nothing here calls it. The collector is paused, for nothing imported is garbage.

    Returns
    -------
    module
    """
    checked_call, pydantic.validate_call = pydantic.validate_call, _unchecked
    gc.disable()
    try:
        return importlib.import_module("appliance.app")
    finally:
        gc.enable()
        pydantic.validate_call = checked_call


def _unchecked(function: Any = None, **_: Any) -> Any:
    return function if function is not None else _unchecked


async def running(config: Config) -> httpx.AsyncClient | None:
    """Return a client of the appliance that serves this data folder, or None when none does."""
    try:
        serving = orjson.loads((config.data_dir / SERVING_FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    client = httpx.AsyncClient(
        base_url=serving["url"],
        headers={"Authorization": f"Bearer {serving['token']}", "Accept-Language": language()},
        timeout=TIMEOUT,
        trust_env=False,
    )
    try:
        (await client.get("/healthz", timeout=5)).raise_for_status()
    except httpx.ReadTimeout:
        return client  # it took the connection: it lives, and is busy
    except httpx.HTTPError:
        await client.aclose()
        return None
    return client


def language() -> Language:
    """Return the language of the shell's locale: Russian or English."""
    spoken = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    return "ru" if spoken.lower().startswith("ru") else "en"


class Refused(PostFinderError):
    """The appliance said no; its own words."""


def checked(response: httpx.Response) -> Any:
    """Return the JSON of a good response, else raise `Refused` with the appliance's words."""
    body = orjson.loads(response.content) if response.content else {}
    if response.is_error:
        raise Refused(body.get("message", f"HTTP {response.status_code}"), cure=body.get("cure", ""))
    return body


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """Read a ``text/event-stream`` as (event, data) pairs; an ``error`` event raises `Refused`."""
    if response.is_error:
        await response.aread()
        checked(response)
    name = "message"
    async for line in response.aiter_lines():
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data = orjson.loads(line[5:])
            if name == "error":
                raise Refused(data.get("message", ""), cure=data.get("cure", ""))
            yield name, data
