"""Section: the log of administrative acts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from appliance.verbs import Verbs
from appliance.web.admin import json_of


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/audit")

    @router.get("")
    async def audit(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        """List the newest acts, with the names of those who keep order now."""
        await who(request, "admin")
        acts = await verbs.access.acts(limit)
        names = {one.user_id: one.first_name for one in await verbs.admission.staff()}
        return json_of([{**act, "actor": names.get(act["actor_id"])} for act in acts])

    return router
