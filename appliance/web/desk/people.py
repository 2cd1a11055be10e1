"""Section: members, requests, invitations, bans, roles."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from appliance.ledger.order import Member
from appliance.verbs import Verbs
from appliance.web.admin import json_of

PAGE = 30
UserId = Annotated[int, Field(ge=1, le=2**52)]


class PersonBody(BaseModel):
    """A person."""

    model_config = ConfigDict(extra="forbid")
    user_id: UserId


class DecisionBody(PersonBody):
    """Let in or refused."""

    let_in: bool


class BanBody(PersonBody):
    """A ban; without days it has no end."""

    days: float | None = Field(None, gt=0, le=3650)
    reason: str = Field("", max_length=500)


class RoleBody(PersonBody):
    """A role."""

    role: Literal["owner", "admin", "moderator", "trusted", "member"]


class InviteBody(BaseModel):
    """Names to let in before they write, or not any more."""

    model_config = ConfigDict(extra="forbid")
    names: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(min_length=1, max_length=500)
    back: bool = False


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/people")

    @router.get("")
    async def people(
        request: Request,
        only: Literal["", "waiting", "refused", "banned", "staff"] = "",
        wanted: Annotated[str, Query(max_length=64)] = "",
        page: Annotated[int, Query(ge=0, le=10_000)] = 0,
    ) -> Response:
        """List people, the last seen first."""
        await who(request)
        found, total = await verbs.admission.members(only=only, wanted=wanted, skip=page * PAGE, limit=PAGE)
        return json_of({"total": total, "page": PAGE, "people": [shown(one) for one in found]})

    @router.post("/decide")
    async def decide(request: Request, body: DecisionBody) -> Response:
        """Let a person in, or refuse them."""
        keeper = await who(request)
        return json_of(shown(await verbs.admission.decide(body.user_id, let_in=body.let_in, actor=keeper.user_id)))

    @router.post("/ban")
    async def ban(request: Request, body: BanBody) -> Response:
        """Ban a person."""
        keeper = await who(request)
        made = await verbs.admission.ban(body.user_id, actor=keeper.user_id, reason=body.reason, days=body.days)
        verbs.sessions.end_all(body.user_id)
        return json_of(made)

    @router.post("/lift")
    async def lift(request: Request, body: PersonBody) -> Response:
        """End a ban."""
        keeper = await who(request)
        return json_of(shown(await verbs.admission.lift(body.user_id, actor=keeper.user_id)))

    @router.post("/keep")
    async def keep(request: Request, body: PersonBody) -> Response:
        """Refuse an appeal."""
        keeper = await who(request)
        await verbs.admission.keep(body.user_id, actor=keeper.user_id)
        return json_of({"kept": True})

    @router.post("/role")
    async def role(request: Request, body: RoleBody) -> Response:
        """Give a person a role."""
        keeper = await who(request, "admin")
        await verbs.admission.set_role(body.user_id, body.role, actor=keeper.user_id)
        verbs.sessions.end_all(body.user_id)
        return json_of({"role": body.role})

    @router.post("/invite")
    async def invite(request: Request, body: InviteBody) -> Response:
        """Let people in before they write, or not any more."""
        keeper = await who(request, "admin")
        return json_of({"count": await verbs.admission.invite(body.names, actor=keeper.user_id, back=body.back)})

    return router


def shown(one: Member) -> dict[str, Any]:
    """Return a person as the page shows them."""
    made = one.ban
    return {
        "user_id": one.user_id,
        "name": " ".join(filter(None, (one.first_name, one.last_name))),
        "username": one.username,
        "role": one.role,
        "registered_at": one.registered_at,
        "seen_at": one.seen_at,
        "state": one.state,
        "ban": made
        and {
            "cause": made.cause,
            "reason": made.reason,
            "since": made.since,
            "until": made.until,
            "appealed_at": made.appealed_at,
            "answered_at": made.answered_at,
        },
    }
