"""Section: the words members read, changed and taken back."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from appliance.verbs import Verbs
from appliance.web.admin import json_of


class WordsBody(BaseModel):
    """Other words for a text; empty ones take the shipped words back."""

    model_config = ConfigDict(extra="forbid")
    key: str = Field(max_length=64)
    language: Literal["ru", "en"]
    words: str = Field("", max_length=4000)


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/words")

    @router.get("")
    async def words(request: Request) -> Response:
        """List every text."""
        await who(request, "admin")
        return json_of(verbs.phrasing.all())

    @router.post("")
    async def change(request: Request, body: WordsBody) -> Response:
        """Put other words in force at once."""
        keeper = await who(request, "admin")
        await verbs.phrasing.change(body.key, body.language, body.words, actor=keeper.user_id)
        return json_of({"changed": bool(body.words.strip())})

    return router
