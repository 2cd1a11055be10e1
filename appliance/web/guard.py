"""What stands before every route: body limit, security headers, one log line, and no traceback ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.web.problems import language_of_headers, problem

log = structlog.get_logger()

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LINGER_BYTES = 1 << 20
LINGER_S = 1.0
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def guard(
    app: ASGIApp,
    *,
    max_body_bytes: int,
    clock: Callable[[], float] = perf_counter,
    larger: Mapping[str, int] | None = None,
) -> ASGIApp:
    """Wrap an ASGI application with the manners of the house.

    Parameters
    ----------
    app : ASGIApp
    max_body_bytes : int
        A larger claim in ``Content-Length`` never reaches the application; a body without a claim is counted.
        Of a refused body at most `LINGER_BYTES` are read and dropped; a claim above that is answered at once.
    clock : callable
        Seconds, for the log.
    larger : mapping of str to int, optional
        Larger limits by path.

    Returns
    -------
    ASGIApp
        Adds `SECURITY_HEADERS`, forbids caching unless a route allows it, logs method, route and status (never a
        query), and turns an unforeseen error into a plain 500.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began = clock()
        limit = max(max_body_bytes, (larger or {}).get(scope["path"], 0))
        status = 0
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                await drain(receive)
                raise HTTPException(413)
            return message

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-cache" if route_of(scope) == "/assets" else "no-store")
                if status == 413:
                    headers["Connection"] = "close"  # the rest of the body stays unread
            await send(message)

        headers = Headers(scope=scope)
        language = language_of_headers(headers)
        try:
            if (claim := claimed(headers)) > limit:
                if claim <= LINGER_BYTES:
                    await drain(receive)
                await problem(413, "body_too_large", language)(scope, receive, dressed)
            else:
                await app(scope, counted, dressed)
        except Exception as error:
            log.error("request failed", kind=type(error).__name__, where=where(error), route=route_of(scope))
            if status:
                raise  # too late for words: the server closes the connection
            await problem(500, "internal", language)(scope, receive, dressed)
        finally:
            route = route_of(scope)
            tell = log.debug if route in QUIET or route.startswith("/assets") else log.info
            method = scope["method"] if scope["method"] in METHODS else "other"
            tell("request", method=method, route=route, status=status, ms=round((clock() - began) * 1000, 1))

    return guarded


async def drain(receive: Receive) -> None:
    """Read a little of a refused body: a sender cut off in the middle of it would not hear the answer."""
    read = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while read <= LINGER_BYTES:
                message = await receive()
                read += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def claimed(headers: Headers) -> int:
    """Return the body length claimed, in bytes; 0 when none or not a number."""
    length = headers.get("content-length", "")
    return int(length[:20]) if length.isascii() and length.isdigit() else 0


def route_of(scope: Scope) -> str:
    """Return the route's pattern (``/posts/{channel_id}/{message_id}``): a path as typed may hold anything."""
    if scope["path"].startswith("/assets/"):
        return "/assets"
    if scope["path"] == "/openapi.json":
        return "/openapi.json"
    return str(getattr(scope.get("route"), "path", "unknown"))


def where(error: BaseException) -> list[str]:
    """Return the innermost places of a traceback, ``file:line``: an error's own words may quote a message."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places[-6:]
