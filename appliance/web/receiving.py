"""The route Telegram posts updates to: a secret, a limit, a journal; never a server error over what is posted."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

PATH = "/telegram/webhook"
MAX_BYTES = 1 << 20  # of an update
HEADER = b"x-telegram-bot-api-secret-token"
STATUS = {"taken": 200, "unreadable": 400, "later": 503}


class Receiver(Protocol):
    """What takes updates in."""

    def is_from_telegram(self, given: bytes) -> bool:
        """Whether a request carries the secret."""

    def take(self, body: bytes) -> Awaitable[Literal["taken", "unreadable", "later"]]:
        """Put an update on disk."""


def receiving(hook: Receiver) -> APIRouter:
    """Build the route.

    Parameters
    ----------
    hook : Receiver

    Returns
    -------
    APIRouter
    """
    router = APIRouter()

    @router.post(PATH, include_in_schema=False)
    async def webhook(request: Request) -> Response:
        given = [value for name, value in request.scope["headers"] if name == HEADER]
        if len(given) != 1 or not hook.is_from_telegram(given[0]):
            raise HTTPException(401)
        return Response(status_code=STATUS[await hook.take(await request.body())])

    return router
