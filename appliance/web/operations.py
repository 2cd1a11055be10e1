"""The operator's routes over backups and the state of the appliance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from appliance.verbs import Verbs
from appliance.web.admin import PROBLEMS, json_of
from appliance.web.wire import BackupBody, CheckBody, RestoreBody, VerifyBody


def caring(verbs: Verbs, only_operator: Callable[[Request], None]) -> APIRouter:
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

    @router.post("/backup")
    async def backup(request: Request, body: BackupBody) -> Response:
        """Back up everything into one sealed file while questions are answered."""
        only_operator(request)
        return json_of(await verbs.backups.make(Path(body.to) if body.to else None))

    @router.post("/backup/verify")
    async def verify(request: Request, body: VerifyBody) -> Response:
        """Restore a backup into a scratch folder and compare."""
        only_operator(request)
        return json_of(await verbs.backups.verify(Path(body.file) if body.file else None))

    @router.post("/restore")
    async def restore(request: Request, body: RestoreBody) -> Response:
        """Put a backup into another folder."""
        only_operator(request)
        return json_of(await verbs.backups.restore(Path(body.file), Path(body.into)))

    @router.post("/check")
    async def check(request: Request, body: CheckBody) -> Response:
        """Look at the machine and the stores; every finding names its cure."""
        only_operator(request)
        return json_of(await verbs.check(body.fix))

    return router
