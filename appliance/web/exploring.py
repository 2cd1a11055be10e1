"""Routes that go on from a post or a subject: related posts, and the story of a subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from appliance.schema import Asker, Door, FoundPost, Language, Story
from appliance.verbs import Verbs
from appliance.web.problems import problem
from appliance.web.stream import unless_gone
from appliance.web.wire import StoryBody, encode, filters_of, shown, shown_story

MAX_ID = 2**52
Who = Callable[[Request, Language | None, str], tuple[Asker, Door]]
Id = Annotated[int, InPath(ge=1, le=MAX_ID)]


def exploring(verbs: Verbs, who: Who, problems: dict[int | str, dict[str, Any]]) -> APIRouter:
    """Build the routes.

    Parameters
    ----------
    verbs : Verbs
    who : callable
        Returns who asks, given the request, the language of the body and the scope of a key.
    problems : dict
        Described answers of failures.

    Returns
    -------
    APIRouter
    """
    router = APIRouter(responses=problems)

    @router.get("/posts/{channel_id}/{message_id}/related", response_model=list[FoundPost])
    async def related(
        request: Request,
        channel_id: Id,
        message_id: Id,
        limit: Annotated[int, Query(ge=1, le=20)] = 5,
    ) -> Response:
        """Find posts on the subject of a post, the one it replies to first."""
        asker, _ = who(request, None, "search")
        found = await unless_gone(request, verbs.related((channel_id, message_id), asker=asker, limit=limit))
        if found is None:
            return problem(404, "no_post", asker.language)
        posts = [replace(hit, post=shown(hit.post)) for hit in found]
        return Response(encode(posts), media_type="application/json")

    @router.post("/story", response_model=Story)
    async def story(request: Request, body: StoryBody) -> Response:
        """Tell what was said about a subject over time, period by period."""
        asker, _ = who(request, body.language, "search")
        work = verbs.story(body.subject, asker=asker, filters=filters_of(body), unread=body.unread)
        told = await unless_gone(request, work)
        return Response(encode(shown_story(told, asker.language)), media_type="application/json")

    return router
