"""The operator's routes over people, posts, roles and keys: its commands come through here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from appliance.errors import BadInput
from appliance.verbs import Verbs
from appliance.web.wire import (
    BanPersonBody,
    GrantBody,
    KeyBody,
    LinkBody,
    MembershipBody,
    PlanBody,
    Problem,
    RefundBody,
    RoleBody,
    SyncBody,
    WhoBody,
    WordBody,
    encode,
)

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "What is wrong with the request and its cure."}
}


def json_of(value: Any) -> Response:
    """Return a record as a JSON response."""
    return Response(encode(value), media_type="application/json")


def administering(verbs: Verbs, only_operator: Callable[[Request], None]) -> APIRouter:
    """Build the operator's routes.

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

    @router.post("/people/archive", responses={200: {"content": {"application/zip": {}}}})
    async def archive(request: Request, body: WhoBody) -> Response:
        """Give everything about a person as a ZIP."""
        only_operator(request)
        packed = await verbs.privacy.archive(body.who)
        await verbs.privacy.act("person.export", None, "")
        return Response(packed, media_type="application/zip")

    @router.post("/people/erase")
    async def erase(request: Request, body: WhoBody) -> Response:
        """Erase a person everywhere; returns the receipt."""
        only_operator(request)
        receipt = await verbs.privacy.erase(body.who)
        await verbs.privacy.act("person.erase", None, "", {"receipt": receipt.receipt_id})
        return json_of(receipt)

    @router.post("/people/role")
    async def role(request: Request, body: RoleBody) -> Response:
        """Give a person a role."""
        only_operator(request)
        await verbs.access.set_role(body.who, body.role)
        return json_of({"stored": True})

    async def known(who: str) -> int:
        """Return the ledger's number of a person."""
        found = await verbs.admission.find(who)
        if found is None:
            raise BadInput("Nobody of that name is known.", cure="They must have written to the bot.", code="nobody")
        return found.user_id

    @router.post("/people/ban")
    async def ban(request: Request, body: BanPersonBody) -> Response:
        """Ban a person; they are told, and may appeal."""
        only_operator(request)
        user_id = await known(body.who)
        return json_of(await verbs.admission.ban(user_id, actor=None, reason=body.reason, days=body.days))

    @router.post("/people/unban")
    async def unban(request: Request, body: WhoBody) -> Response:
        """End a ban; the person is told."""
        only_operator(request)
        await verbs.admission.lift(await known(body.who), actor=None)
        return json_of({"lifted": True})

    @router.post("/pause")
    async def pause(request: Request, body: WordBody) -> Response:
        """Pause answering at every door."""
        only_operator(request)
        await verbs.admission.pause(actor=None, name="postfinder", word=body.word)
        return json_of({"paused": True})

    @router.post("/resume")
    async def resume(request: Request) -> Response:
        """Answer again."""
        only_operator(request)
        return json_of({"resumed": await verbs.admission.resume(actor=None)})

    @router.post("/people/membership")
    async def membership(request: Request, body: MembershipBody) -> Response:
        """Let a person read a closed channel, or no longer."""
        only_operator(request)
        await verbs.access.grant(body.who, body.channel_id, may_read=body.may_read)
        return json_of({"stored": True})

    @router.post("/posts/forget")
    async def forget(request: Request, body: LinkBody) -> Response:
        """Remove a post for good."""
        only_operator(request)
        return json_of(await verbs.privacy.forget_link(body.link, is_operator=True))

    @router.post("/channels/forget")
    async def forget_channel(request: Request, body: WhoBody) -> Response:
        """Erase a channel with its key."""
        only_operator(request)
        receipt = await verbs.privacy.forget_channel(body.who)
        await verbs.privacy.act("channel.forget", None, "", {"receipt": receipt.receipt_id})
        return json_of(receipt)

    @router.post("/authors/opt-out")
    async def opt_out(request: Request, body: WhoBody) -> Response:
        """Keep no more posts of an author."""
        only_operator(request)
        receipt = await verbs.privacy.opt_out(body.who)
        await verbs.privacy.act("author.opt-out", None, "", {"receipt": receipt.receipt_id})
        return json_of(receipt)

    @router.post("/sync")
    async def sync(request: Request, body: SyncBody) -> Response:
        """Remove the posts that a newer, complete export no longer holds."""
        only_operator(request)
        reports = await verbs.privacy.sync(
            Path(body.path), dry_run=body.dry_run, username=body.username, all_of_them=body.all_of_them
        )
        return json_of(reports)

    @router.get("/keys")
    async def keys(request: Request) -> Response:
        """List the keys of the API."""
        only_operator(request)
        return json_of(verbs.access.keys())

    @router.post("/keys")
    async def make_key(request: Request, body: KeyBody) -> Response:
        """Make a key of the API; it is shown once."""
        only_operator(request)
        made, key = await verbs.access.make_key(
            body.name, scopes=tuple(body.scopes), days=body.days, per_minute=body.per_minute
        )
        return json_of({"key": key, "record": made})

    @router.post("/keys/{key_id}/revoke")
    async def revoke_key(request: Request, key_id: Annotated[str, InPath(pattern=r"^[0-9a-f]{12}$")]) -> Response:
        """Make a key good for nothing."""
        only_operator(request)
        await verbs.access.revoke_key(key_id)
        return json_of({"revoked": True})

    @router.post("/master-key/rotate")
    async def rotate(request: Request) -> Response:
        """Make a new master key and wrap every data key with it."""
        only_operator(request)
        return json_of({"wrapped": await verbs.privacy.rotate()})

    @router.get("/plans")
    async def plans(request: Request) -> Response:
        """List the plans, the free one first."""
        only_operator(request)
        return json_of({"on": verbs.plans.is_on, "plans": verbs.plans.all_plans()})

    @router.post("/plans")
    async def save_plan(request: Request, body: PlanBody) -> Response:
        """Create a plan, or change the one of this name."""
        only_operator(request)
        return json_of(
            await verbs.plans.save_plan(
                body.name, stars=body.stars, per_day=body.per_day, per_month=body.per_month, is_retired=body.is_retired
            )
        )

    @router.post("/plans/grant")
    async def grant_plan(request: Request, body: GrantBody) -> Response:
        """Give a person a plan without a payment."""
        only_operator(request)
        return json_of(await verbs.plans.grant(body.who, body.plan, days=body.days))

    @router.get("/payments")
    async def payments(request: Request) -> Response:
        """List the newest payments."""
        only_operator(request)
        return json_of(await verbs.plans.payments())

    @router.post("/payments/refund")
    async def refund(request: Request, body: RefundBody) -> Response:
        """Give a payment back and end what it bought."""
        only_operator(request)
        return json_of(await verbs.plans.give_back(body.charge_id, actor_id=None))

    @router.get("/audit")
    async def audit(request: Request, limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """List the newest administrative acts."""
        only_operator(request)
        return json_of(await verbs.access.acts(limit))

    return router
