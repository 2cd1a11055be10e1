"""The webhook of the loopback Bot API: updates are posted to the bot, one by one, until it takes them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.servers.botapi_schema import BadCallError

if TYPE_CHECKING:
    from tests.servers.botapi import BotApi

JsonObject = dict[str, Any]


class Posting:
    """Posts updates to the webhook that the bot has set."""

    def __init__(self, server: BotApi) -> None:
        self.server = server
        self._delivery: asyncio.Task[None] | None = None

    def methods(self) -> dict[str, Any]:
        """Methods of the Bot API by name."""
        return {
            "setWebhook": self.set_webhook,
            "deleteWebhook": self.delete_webhook,
            "getWebhookInfo": self.get_webhook_info,
        }

    async def set_webhook(self, params: JsonObject) -> Any:
        await self.stop()
        self.server._allow(params)
        if params.get("drop_pending_updates"):
            self.server._updates.clear()
        self.server.webhook = {key: params.get(key) for key in ("url", "secret_token", "max_connections")}
        if not params.get("url"):
            self.server.webhook = None
            return True
        self._delivery = asyncio.create_task(self._deliver())
        return True

    async def delete_webhook(self, params: JsonObject) -> Any:
        return await self.set_webhook({"url": "", "drop_pending_updates": params.get("drop_pending_updates")})

    async def get_webhook_info(self, params: JsonObject) -> Any:
        url = self.server.webhook["url"] if self.server.webhook else ""
        return {"url": url, "has_custom_certificate": False, "pending_update_count": len(self.server._updates)}

    async def _deliver(self) -> None:
        """Post updates to the webhook one by one; repeat what is not answered with 2xx."""
        hook = self.server.webhook or {}
        headers = {"X-Telegram-Bot-Api-Secret-Token": hook["secret_token"]} if hook.get("secret_token") else {}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10)) as client:
            while True:
                update_id = min(self.server._updates, default=None)
                if update_id is None:
                    await self.server._changed.wait()
                    continue
                try:
                    async with client.post(
                        hook["url"],
                        data=self.server._updates[update_id].encode(),
                        headers={"Content-Type": "application/json"},
                    ) as response:
                        body = await response.read()
                        taken = 200 <= response.status < 300
                except (aiohttp.ClientError, TimeoutError):
                    taken = False
                if not taken:
                    await asyncio.sleep(0.05)
                    continue
                self.server._updates.pop(update_id, None)
                with suppress(ValueError, BadCallError, KeyError, TypeError):
                    reply = json.loads(body)
                    method = self.server.schema.method(reply.pop("method"))
                    await self.server._do(method, self.server.schema.check(method, reply))
                self.server._notify()

    async def stop(self) -> None:
        if self._delivery is not None:
            self._delivery.cancel()
            with suppress(asyncio.CancelledError):
                await self._delivery
            self._delivery = None
