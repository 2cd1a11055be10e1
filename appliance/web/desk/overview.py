"""Section: how things stand, who may ask, and the switch that pauses answering."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from appliance.verbs import Verbs
from appliance.web.admin import json_of


class ModeBody(BaseModel):
    """Who may ask."""

    model_config = ConfigDict(extra="forbid")
    mode: Literal["open", "whitelist", "approval"]


class PauseBody(BaseModel):
    """What members read meanwhile; empty for the usual words."""

    model_config = ConfigDict(extra="forbid")
    word: str = Field("", max_length=500)


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter()

    @router.get("/overview")
    async def overview(request: Request) -> Response:
        """Show how things stand."""
        await who(request)
        counts, troubles = await asyncio.gather(verbs.admission.counts(), verbs.ready())
        return json_of(
            {
                "counts": counts,
                "admission": verbs.admission.mode,
                "antifraud": verbs.antifraud.mode,
                "paused": verbs.admission.paused,
                "troubles": troubles,
            }
        )

    @router.get("/numbers")
    async def numbers(request: Request) -> Response:
        """Give the figures of the last weeks; small counts stay unsaid."""
        await who(request)
        return json_of(await verbs.numbers())

    @router.post("/admission")
    async def admission(request: Request, body: ModeBody) -> Response:
        """Choose who may ask."""
        keeper = await who(request, "admin")
        await verbs.admission.set_mode(body.mode, actor=keeper.user_id)
        return json_of({"mode": verbs.admission.mode})

    @router.post("/pause")
    async def pause(request: Request, body: PauseBody) -> Response:
        """Pause answering everywhere."""
        keeper = await who(request, "admin")
        found = None if keeper.user_id is None else await verbs.admission.member(keeper.user_id)
        name = found.first_name if found else "postfinder"
        await verbs.admission.pause(actor=keeper.user_id, name=name, word=body.word)
        return json_of({"paused": verbs.admission.paused})

    @router.post("/resume")
    async def resume(request: Request) -> Response:
        """Answer again."""
        keeper = await who(request, "admin")
        return json_of({"resumed": await verbs.admission.resume(actor=keeper.user_id)})

    return router
