"""Section: plans, who has which until when, payments: given, changed, refunded."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from appliance.verbs import Verbs
from appliance.web.admin import json_of
from appliance.web.wire import GrantBody, PlanBody, RefundBody

SHOWN = 100  # who has a plan, those that end first before others


def routes(verbs: Verbs, who: Any) -> APIRouter:
    """Build the section's routes."""
    router = APIRouter(prefix="/plans")

    async def name_of(user_id: int) -> str:
        found = await verbs.admission.member(user_id)
        return found.name if found else ""

    @router.get("")
    async def plans(request: Request) -> Response:
        """List the plans, who has one, and the newest payments."""
        await who(request, "admin")
        names = {plan.type_id: plan.name for plan in verbs.plans.all_plans()}
        holders = verbs.plans.holders()
        return json_of(
            {
                "on": verbs.plans.is_on,
                "plans": verbs.plans.all_plans(),
                "use": await verbs.plans.use(),
                "holding": len(holders),
                "holders": [
                    {
                        "name": await name_of(held.user_id),
                        "plan": names.get(held.type_id, ""),
                        "until": held.valid_to,
                        "renews": held.renews,
                        "is_given": held.charge_id is None,
                    }
                    for held in holders[:SHOWN]
                ],
                "payments": [
                    {
                        "charge_id": one.charge_id,
                        "name": await name_of(one.user_id),
                        "plan": names.get(one.type_id or 0, "") if one.type_id else "",
                        "stars": one.stars,
                        "paid_at": one.paid_at,
                        "refunded_at": one.refunded_at,
                    }
                    for one in await verbs.plans.payments()
                ],
            }
        )

    @router.post("/save")
    async def save(request: Request, body: PlanBody) -> Response:
        """Create a plan, or change the one of this name."""
        keeper = await who(request, "admin")
        return json_of(
            await verbs.plans.save_plan(
                body.name,
                stars=body.stars,
                per_day=body.per_day,
                per_month=body.per_month,
                is_retired=body.is_retired,
                actor_id=keeper.user_id,
            )
        )

    @router.post("/grant")
    async def grant(request: Request, body: GrantBody) -> Response:
        """Give a person a plan without a payment."""
        keeper = await who(request, "admin")
        return json_of(await verbs.plans.grant(body.who, body.plan, days=body.days, actor_id=keeper.user_id))

    @router.post("/refund")
    async def refund(request: Request, body: RefundBody) -> Response:
        """Give a payment back; what it bought ends now."""
        keeper = await who(request, "admin")
        return json_of(await verbs.plans.give_back(body.charge_id, actor_id=keeper.user_id))

    return router
