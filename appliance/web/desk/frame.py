"""The desk's frame: login, session, forgery checks, roles looked up at every request; sections hang into it."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from appliance.config import Config
from appliance.errors import NotAllowed
from appliance.verbs import Verbs
from appliance.web.admin import PROBLEMS, json_of
from appliance.web.desk import attacks, audit, channels, chats, overview, people, plans, questions, words
from appliance.web.problems import language_of_request

PAGE = Path(__file__).parents[1] / "page" / "admin.html"
COOKIE, HOST_COOKIE = "desk", "__Host-desk"  # the second over TLS: no other host or path can set it
LONGEST_S = 12 * 3600
RANKS = ("moderator", "admin", "owner")  # the mightiest last
SECTIONS = (overview, people, questions, channels, chats, plans, words, attacks, audit)


@dataclass(frozen=True, slots=True)
class Keeper:
    """Who acts: the ledger's number, None for the operator's shell; and the role, as it is now."""

    user_id: int | None
    role: str


Who = Callable[..., Awaitable[Keeper]]  # (request, least role) → Keeper, or NotAllowed


class LoginBody(BaseModel):
    """One of three proofs: a link's secret, the login page's fields, a mini app's ``initData``."""

    model_config = ConfigDict(extra="forbid")

    once: str = Field("", max_length=100)
    widget: dict[str, str | int] | None = Field(None, max_length=10)
    init_data: str = Field("", max_length=4096)


def desk(verbs: Verbs, config: Config, is_operator: Callable[[Request], bool]) -> APIRouter:
    """Build the page and its routes.

    Parameters
    ----------
    verbs : Verbs
    config : Config
    is_operator : callable
        Whether a request carries the operator's token.

    Returns
    -------
    APIRouter
    """
    router = APIRouter(prefix="/admin", responses=PROBLEMS, include_in_schema=False)

    async def who(request: Request, least: str = "moderator") -> Keeper:
        """Return who acts, or refuse: not logged in, a role too low, or a change that this page did not ask for."""
        if is_operator(request):
            return Keeper(None, "owner")
        session = verbs.sessions.get(secret_of(request))
        if session is None:
            raise NotAllowed("Log in first.", code="login_needed")
        if request.method not in {"GET", "HEAD"}:
            is_ours = hmac.compare_digest(request.headers.get("x-csrf", "").encode(), session.csrf.encode())
            if not is_ours or not is_same_site(request):
                raise NotAllowed("This page did not ask for that.", code="stale_page")
        role = await verbs.access.role(session.user_id)
        if role not in RANKS or verbs.admission.ban_of(session.user_id) is not None:
            verbs.sessions.end_all(session.user_id)
            raise NotAllowed("Log in first.", code="login_needed")
        if RANKS.index(role) < RANKS.index(least):
            raise NotAllowed("The role is too low.")
        return Keeper(session.user_id, role)

    @router.api_route("", methods=["GET", "HEAD"])
    async def page() -> Response:
        return FileResponse(PAGE, headers={"Cache-Control": "no-cache"})

    @router.get("/desk/login")
    async def ways(request: Request) -> Response:
        """Say how one may log in; Telegram's own page needs a public address."""
        token = config.bot_token()
        is_public = config.public_url.startswith("https://")
        return json_of({"bot_id": token.split(":")[0] if token and is_public else "", "has_bot": bool(token)})

    @router.post("/desk/login")
    async def login(request: Request, body: LoginBody) -> Response:
        """Begin a session for who proves to keep order here."""
        user_id = None
        if is_same_site(request):
            if body.once:
                user_id = verbs.sessions.by_link(body.once)
            else:
                number = verbs.sessions.by_telegram(fields=body.widget, data=body.init_data)
                user_id = None if number is None else await verbs.privacy.user_id(number)
        if user_id is None or await verbs.access.role(user_id) not in RANKS:
            await verbs.admission.act("desk.refused", None, "")
            raise NotAllowed("The link is used or too old.", code="login_old")
        secret, session = verbs.sessions.begin(user_id)
        await verbs.admission.act("desk.login", user_id, f"user:{user_id}")
        response = json_of({"csrf": session.csrf})
        is_secure = request.url.scheme == "https" or config.public_url.startswith("https://")
        response.set_cookie(
            HOST_COOKIE if is_secure else COOKIE,
            secret,
            max_age=LONGEST_S,
            httponly=True,
            secure=is_secure,
            samesite="strict",
        )
        return response

    @router.post("/desk/logout")
    async def logout(request: Request) -> Response:
        """End the session."""
        keeper = await who(request)
        verbs.sessions.end(secret_of(request))
        await verbs.admission.act("desk.logout", keeper.user_id, "")
        response = json_of({"ended": True})
        for name in (COOKIE, HOST_COOKIE):
            response.delete_cookie(name, httponly=True, samesite="strict", secure=name == HOST_COOKIE)
        return response

    @router.get("/desk/me")
    async def me(request: Request) -> Response:
        """Say who is logged in, with what every change must carry."""
        keeper = await who(request)
        session = verbs.sessions.get(secret_of(request))
        found = None if keeper.user_id is None else await verbs.admission.member(keeper.user_id)
        said: dict[str, Any] = {"role": keeper.role, "csrf": session.csrf if session else ""}
        return json_of({**said, "name": found.first_name if found else "", "language": language_of_request(request)})

    for section in SECTIONS:
        router.include_router(section.routes(verbs, who), prefix="/desk")
    return router


def secret_of(request: Request) -> str:
    """Return the session's secret that a request carries, or nothing."""
    return request.cookies.get(HOST_COOKIE) or request.cookies.get(COOKIE) or ""


def is_same_site(request: Request) -> bool:
    """Whether a request comes from a page of this very address, as far as its browser says."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
