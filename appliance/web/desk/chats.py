"""Section: groups that were set to something, and how the bot answers in each and in its topics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from appliance.chats import CONFIDENCES, WAYS, Mode, Way
from appliance.errors import BadInput
from appliance.verbs import Verbs
from appliance.web.admin import json_of


class WayBody(BaseModel):
    """How the bot answers in a group, or with a topic in that topic."""

    model_config = ConfigDict(extra="forbid")
    chat_id: Annotated[int, Field(ge=-(2**52), le=-1)]
    topic_id: Annotated[int, Field(ge=0, le=2**52)] = 0
    way: Way
    above: Annotated[float, Field(ge=CONFIDENCES[0], le=CONFIDENCES[-1])] = Mode().above


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/chats")

    @router.get("")
    async def chats(request: Request) -> Response:
        """List the groups that the bot is in, and their topics that were set apart."""
        await who(request, "admin")
        found = [
            {"chat_id": chat, "topic_id": topic, "title": verbs.chats.get(chat, None, "title", ""), "mode": mode}
            for (chat, topic), mode in verbs.chats.modes().items()
        ]
        return json_of({"ways": WAYS, "confidences": CONFIDENCES, "chats": found})

    @router.post("/mode")
    async def mode(request: Request, body: WayBody) -> Response:
        """Choose how the bot answers there."""
        keeper = await who(request, "admin")
        if (body.chat_id, body.topic_id) not in verbs.chats.modes():
            raise BadInput(
                "This group is not known.", cure="Add the bot to it, or send /mode there once.", code="unknown_chat"
            )
        chosen = Mode(body.way, body.above)
        await verbs.chats.set_mode(body.chat_id, body.topic_id or None, chosen, actor_id=keeper.user_id)
        return json_of(chosen)

    return router
