"""Section: the channels that are searched: opened, closed, looked at, removed with their posts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from appliance.errors import BadInput
from appliance.schema import Asker
from appliance.verbs import Verbs
from appliance.web.admin import json_of

ChannelId = Annotated[int, Field(ge=1, le=2**52)]


class OpenBody(BaseModel):
    """Whether everyone may search a channel."""

    model_config = ConfigDict(extra="forbid")
    channel_id: ChannelId
    is_open: bool


class ConsentBody(BaseModel):
    """Whether a channel's owner agrees that it is found without being named."""

    model_config = ConfigDict(extra="forbid")
    channel_id: ChannelId
    given: bool


class RemoveBody(BaseModel):
    """A channel to remove for good; its title says that it is meant."""

    model_config = ConfigDict(extra="forbid")
    channel_id: ChannelId
    title: str = Field(max_length=256)


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/channels")

    @router.get("")
    async def channels(request: Request) -> Response:
        """List the channels with their counts."""
        await who(request)
        return json_of(await verbs.channels(Asker(sees_everything=True)))

    @router.get("/{channel_id}/signs")
    async def signs(request: Request, channel_id: Annotated[int, InPath(ge=1, le=2**52)]) -> Response:
        """Look whether a channel's newest posts are like spam or repeat each other."""
        await who(request)
        return json_of(await verbs.antifraud.channel(channel_id))

    @router.post("/open")
    async def open_(request: Request, body: OpenBody) -> Response:
        """Open a channel to everyone, or close it to all but its members."""
        keeper = await who(request, "admin")
        await verbs.open_channel(body.channel_id, body.is_open)
        kind = "channel.open" if body.is_open else "channel.close"
        await verbs.admission.act(kind, keeper.user_id, f"channel:{body.channel_id}")
        return json_of({"is_open": body.is_open})

    @router.post("/consent")
    async def consent(request: Request, body: ConsentBody) -> Response:
        """Note whether a channel may be found without being named."""
        keeper = await who(request, "admin")
        entry = await verbs.pool.consent(str(body.channel_id), body.given, user_id=keeper.user_id)
        return json_of({"is_cross": entry.is_cross})

    @router.post("/remove")
    async def remove(request: Request, body: RemoveBody) -> Response:
        """Erase a channel with its posts and its key."""
        keeper = await who(request, "admin")
        entry = await verbs.pool.find(str(body.channel_id))
        if body.title.strip() != entry.title.strip():
            raise BadInput("That is another channel's title.", cure="Repeat the channel's own.", code="wrong_title")
        return json_of(await verbs.pool.remove(str(body.channel_id), user_id=keeper.user_id))

    return router
