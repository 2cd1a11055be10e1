"""What every request of the web door passes: the antifraud, by address."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.abuse import Act
from appliance.antifraud import Antifraud
from appliance.web.problems import language_of_headers, problem

ACTS: dict[str, Act] = {"/ask": "question", "/search": "search", "/story": "search", "/digest": "digest"}
BAD = frozenset({401, 403, 405, 422})


def limited(app: ASGIApp, *, antifraud: Antifraud) -> ASGIApp:
    """Wrap an ASGI application: an address that abuses is slowed, then refused.

    Parameters
    ----------
    app : ASGIApp
    antifraud : Antifraud

    Returns
    -------
    ASGIApp
        Answers 429 with ``Retry-After`` itself. Keys of the API have their own limits and are not counted by address,
        unless they are wrong.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or antifraud.mode == "off":
            await app(scope, receive, send)
            return
        address = network_of((scope.get("client") or ("?", 0))[0])
        act = ACTS.get(scope["path"]) if scope["method"] == "POST" else None
        headers = Headers(scope=scope)
        if act is not None and "authorization" not in headers:
            verdict = antifraud.look(address, act)
            if verdict.step != "pass":
                wait = {"Retry-After": str(max(1, round(verdict.wait_s)))}
                await problem(429, "slow_down", language_of_headers(headers), headers=wait)(scope, receive, send)
                return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in BAD:
                antifraud.look(address, "bad")
            await send(message)

        await app(scope, receive, watched)

    return guarded


def network_of(address: str) -> str:
    """Return an address as it is limited: IPv6 by its /64, of which anyone has all.

    Parameters
    ----------
    address : str

    Returns
    -------
    str
    """
    if ":" not in address:
        return address
    head = address.split("%")[0].split("::")[0].split(":")
    return ":".join((*head, "0", "0", "0", "0")[:4]) + "::/64"
