"""Section: the log of administrative acts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from appliance.schema import Asker
from appliance.verbs import Verbs
from appliance.web.admin import json_of


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/audit")

    @router.get("")
    async def audit(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        """List the newest acts, with the names of who acted and of whom or what it was about."""
        await who(request, "admin")
        acts = await verbs.access.acts(limit)
        subjects = [subject_of(act["subject"]) for act in acts]
        people = {act["actor_id"] for act in acts} | {number for what, number in subjects if what == "user"}
        found = [await verbs.admission.member(one) for one in people if one is not None]
        channels = {one.channel.id: one.channel.title for one in await verbs.channels(Asker(sees_everything=True))}
        names: dict[str, dict[Any, str]] = {
            "user": {one.user_id: one.name for one in found if one is not None},
            "plan": {plan.type_id: plan.name for plan in verbs.plans.all_plans()},
            "chat": {chat: verbs.chats.get(chat, None, "title", "") for chat, _ in verbs.chats.modes()},
            "channel": channels,
            "": channels,
        }
        return json_of(
            [
                {
                    **act,
                    "actor": names["user"].get(act["actor_id"]),
                    "about": names.get(what, {}).get(number),
                    "detail": {
                        key: names[key].get(value, value) if key in names else value
                        for key, value in (act["detail"] or {}).items()
                    },
                }
                for act, (what, number) in zip(acts, subjects, strict=True)
            ]
        )

    return router


def subject_of(subject: str) -> tuple[str, int | None]:
    """Return what an act was about and its number: ``chat:-1001/42`` is chat -1001, ``1500/7`` in channel 1500."""
    what, _, rest = subject.rpartition(":")
    number = rest.partition("/")[0]
    return what, int(number) if number.removeprefix("-").isdecimal() else None
