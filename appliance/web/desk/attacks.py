"""Section: the live view of attacks, and how the protection works."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from appliance.verbs import Verbs
from appliance.web.admin import json_of


class GuardBody(BaseModel):
    """How the protection works."""

    model_config = ConfigDict(extra="forbid")
    mode: Literal["off", "shadow", "on"]


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/attacks")

    @router.get("")
    async def attacks(request: Request) -> Response:
        """Show the last hour by minute, and the newest incidents with their people."""
        await who(request)
        view = verbs.antifraud.view()
        names: dict[object, dict[str, Any]] = {}
        for line in view["incidents"][:50]:
            if isinstance(line["who"], int) and line["who"] not in names:
                found = await verbs.admission.find(f"telegram:{line['who']}")
                names[line["who"]] = {"name": found.name, "user_id": found.user_id} if found else {}
        view["incidents"] = [{**line, **names.get(line["who"], {})} for line in view["incidents"][:50]]
        return json_of(view)

    @router.post("/mode")
    async def mode(request: Request, body: GuardBody) -> Response:
        """Switch the protection off, to watching, or on."""
        keeper = await who(request, "admin")
        await verbs.antifraud.set_mode(body.mode, actor=keeper.user_id)
        return json_of({"mode": verbs.antifraud.mode})

    return router
