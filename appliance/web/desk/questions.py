"""Section: what waits for a decision: channels of the pool, questions without an answer, frequent ones."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from appliance.schema import MEMBERS_ANSWERS
from appliance.verbs import Verbs
from appliance.web.admin import json_of


class PoolBody(BaseModel):
    """A decision about a channel of the pool."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=256)
    state: Literal["approved", "refused"]


class DropBody(BaseModel):
    """A question that needs no answer."""

    model_config = ConfigDict(extra="forbid")
    question_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")


class AnswerBody(DropBody):
    """An answer to a question that waits."""

    text: str = Field(min_length=1, max_length=20_000)


class FaqBody(DropBody):
    """A decision about a frequent question."""

    state: Literal["approved", "refused"]


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/questions")

    @router.get("")
    async def questions(request: Request) -> Response:
        """List what waits for a decision."""
        await who(request)
        pool = [entry for entry in await verbs.pool.entries() if entry.state == "waiting"]
        faq = await verbs.community.faq("proposed", "approved")
        return json_of({"queue": await verbs.community.queue(50), "faq": faq, "pool": pool})

    @router.post("/answer")
    async def answer(request: Request, body: AnswerBody) -> Response:
        """Answer a question that waits: its askers are told, and the next one finds it."""
        keeper = await who(request)
        found = await verbs.admission.member(keeper.user_id)
        kept = await verbs.community.reply(
            body.question_id, body.text, author=found.name if found else "", user_id=keeper.user_id
        )
        return json_of({"is_open": kept.corpus_id == MEMBERS_ANSWERS})

    @router.post("/drop")
    async def drop(request: Request, body: DropBody) -> Response:
        """Take a question out of the queue."""
        keeper = await who(request)
        return json_of({"dropped": await verbs.community.drop(body.question_id, user_id=keeper.user_id)})

    @router.post("/faq")
    async def faq(request: Request, body: FaqBody) -> Response:
        """Approve or refuse a frequent question."""
        keeper = await who(request, "admin")
        done = await verbs.community.decide_faq(body.question_id, body.state, user_id=keeper.user_id)
        return json_of({"done": done})

    @router.post("/pool")
    async def pool(request: Request, body: PoolBody) -> Response:
        """Take a channel into the pool, or refuse it."""
        keeper = await who(request, "admin")
        return json_of(await verbs.pool.decide(body.name, body.state, user_id=keeper.user_id))

    return router
