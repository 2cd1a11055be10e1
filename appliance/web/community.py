"""The operator's routes over channels, questions that wait, frequent questions and members' answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from appliance.community import MAX_ANSWER_CHARS
from appliance.verbs import Verbs
from appliance.web.admin import PROBLEMS, json_of
from appliance.web.wire import Name, Words

QuestionId = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}$")]


class ChannelBody(BaseModel):
    """A channel."""

    model_config = ConfigDict(extra="forbid")

    channel: Annotated[Name, Field(description="@username, title or id.")]


class ConsentBody(ChannelBody):
    """What a channel's owner says."""

    given: Annotated[bool, Field(strict=True, description="Whether its posts are found without naming it.")]


class ReadBody(ChannelBody):
    """A public channel to read from outside."""

    feed: Annotated[str, Field(max_length=2000, description="Address of a feed; empty for the preview page.")] = ""
    stop: Annotated[bool, Field(strict=True, description="Read it no longer; its posts stay.")] = False


class ReplyBody(BaseModel):
    """An answer to a question that waits."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[Words, Field(min_length=1, max_length=MAX_ANSWER_CHARS)]
    author: Annotated[Name, Field(max_length=64, description="Name shown with the answer.")]


def communing(verbs: Verbs, only_operator: Callable[[Request], None]) -> APIRouter:
    """Build the routes.

    Parameters
    ----------
    verbs : Verbs
    only_operator : callable
        Refuses a request without the operator's token.

    Returns
    -------
    APIRouter
    """
    router = APIRouter(prefix="/admin", responses=PROBLEMS)

    @router.get("/pool")
    async def pool(request: Request) -> Response:
        """List the pool of channels, what waits first."""
        only_operator(request)
        return json_of(await verbs.pool.entries())

    @router.post("/pool/approve")
    async def approve(request: Request, body: ChannelBody) -> Response:
        """Approve a channel: its posts are searched."""
        only_operator(request)
        return json_of(await verbs.pool.decide(body.channel, "approved"))

    @router.post("/pool/refuse")
    async def refuse(request: Request, body: ChannelBody) -> Response:
        """Refuse a channel: its posts are removed and no further ones taken."""
        only_operator(request)
        return json_of(await verbs.pool.decide(body.channel, "refused"))

    @router.post("/pool/consent")
    async def consent(request: Request, body: ConsentBody) -> Response:
        """Note whether a channel's owner agrees that it is found without being named."""
        only_operator(request)
        return json_of(await verbs.pool.consent(body.channel, body.given))

    @router.post("/pool/remove")
    async def remove(request: Request, body: ChannelBody) -> Response:
        """Erase a channel with its posts and its key."""
        only_operator(request)
        return json_of(await verbs.pool.remove(body.channel))

    @router.post("/pool/read")
    async def read(request: Request, body: ReadBody) -> Response:
        """Read a public channel from its preview page or a feed, where that is turned on; or no longer."""
        only_operator(request)
        if body.stop:
            return json_of(await verbs.readers.stop(body.channel))
        return json_of(await verbs.readers.add(body.channel, feed=body.feed))

    @router.get("/unanswered")
    async def unanswered(request: Request, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Response:
        """List the questions that the posts did not answer, the most asked first."""
        only_operator(request)
        return json_of(await verbs.community.queue(limit))

    @router.post("/unanswered/{question_id}/reply")
    async def reply(request: Request, question_id: QuestionId, body: ReplyBody) -> Response:
        """Answer a question that waits: the next asker gets it, those who asked are told."""
        only_operator(request)
        return json_of(await verbs.community.reply(question_id, body.text, author=body.author))

    @router.post("/unanswered/{question_id}/drop")
    async def drop(request: Request, question_id: QuestionId) -> Response:
        """Take a question out of the queue unanswered."""
        only_operator(request)
        return json_of({"dropped": await verbs.community.drop(question_id)})

    @router.get("/faq")
    async def faq(request: Request) -> Response:
        """List frequent questions: proposed and approved."""
        only_operator(request)
        return json_of(await verbs.community.faq("proposed", "approved"))

    @router.post("/faq/mine")
    async def mine(request: Request) -> Response:
        """Look for frequent questions now; it is done once a day anyway."""
        only_operator(request)
        return json_of({"proposed": await verbs.community.mine()})

    @router.post("/faq/{question_id}/{state}")
    async def decide(
        request: Request,
        question_id: QuestionId,
        state: Annotated[str, InPath(pattern=r"^(?:approved|refused)$")],
    ) -> Response:
        """Approve or refuse a frequent question."""
        only_operator(request)
        return json_of({"stored": await verbs.community.decide_faq(question_id, state)})

    return router
