"""A town for scripted conversations: the loopback Bot API server, the real appliance, and the bot between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiogram.types import ChatMemberAdministrator

from appliance.app import App
from appliance.bot import run_bot
from appliance.bot.pacing import Pace
from appliance.journal import Journal
from tests.servers.botapi import DEFAULT_TOKEN, BotApi

FAST = Pace(speed=1000)
CHANNEL = -1001777000055


@dataclass
class Town:
    """The server, the appliance and its journal; `bot` runs the bot."""

    server: BotApi
    app: App
    path: Path

    @asynccontextmanager
    async def bot(self, **verbs: Any) -> AsyncIterator[Journal]:
        with Journal.open(self.path) as journal:
            own = {"community": replace(self.app.verbs.community, journal=journal), **verbs}
            task = asyncio.create_task(
                run_bot(
                    replace(self.app.verbs, **own), token=DEFAULT_TOKEN, api_base=self.server.url, journal=journal,
                    pace=FAST, grace_s=3.0,
                )
            )  # fmt: skip
            try:
                await self.server.until(lambda: self.server._allowed is not None or self.server.webhook)
                yield journal
            finally:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    async def ask(self, who: int, text: str, *, chat: int | None = None, **more: Any) -> dict[str, Any]:
        """Say something and wait for the next message of the bot in that chat."""
        chat = who if chat is None else chat
        before = len(self.server.from_bot(chat))
        self.server.say(who, text, chat_id=chat, **more)
        await self.server.until(lambda: len(self.server.from_bot(chat)) > before, 30)
        return self.server.from_bot(chat)[before]

    async def quiet(self, journal: Journal) -> None:
        """Wait until every update is worked on, every notice told and everything sent."""

        def is_quiet() -> bool:
            counts = journal.counts()
            return not (
                self.server.pending()
                or counts["inbox_pending"]
                or counts["outbox_queued"]
                or counts["outbox_sending"]
                or self.app.ledger.notices.due(datetime.now(UTC))
            )

        await self.server.until(is_quiet, 30)

    # A channel in which the bot is an admin

    def channel(self, chat_id: int = CHANNEL, title: str = "Новости двора", username: str | None = "dvor_news") -> None:
        chat = {"id": chat_id, "type": "channel", "title": title, **({"username": username} if username else {})}
        self.server.chats[chat_id] = chat
        self.server.messages.setdefault(chat_id, {})

    def member(self, who: int, status: str, chat_id: int = CHANNEL) -> None:
        """Let a person make the bot an admin of a channel, or put it out."""
        fields = ChatMemberAdministrator.model_fields.items()
        rights = {name: True for name, field in fields if field.is_required() and field.annotation is bool}
        now = {"user": self.server.me, "status": status, **(rights if status == "administrator" else {})}
        if status == "kicked":
            now["until_date"] = 0
        self.server.push(
            {
                "my_chat_member": {
                    "chat": self.server.chats[chat_id],
                    "from": self.server.users[who],
                    "date": 1_790_000_000,
                    "old_chat_member": {"user": self.server.me, "status": "left"},
                    "new_chat_member": now,
                }
            }
        )

    def post(
        self, message_id: int, text: str = "", *, chat_id: int = CHANNEL, edit: int | None = None, **more: Any
    ) -> None:
        """Let the channel publish a post, or edit it at a second."""
        message = {
            "message_id": message_id,
            "date": 1_790_000_000 + message_id,
            "chat": self.server.chats[chat_id],
            "sender_chat": self.server.chats[chat_id],
            **more,
        }
        if text:
            message["text"] = text
        if edit is not None:
            message["edit_date"] = 1_790_000_000 + edit
        self.server.push({"channel_post" if edit is None else "edited_channel_post": message})

    def react(self, message_id: int, *counts: int, chat_id: int = CHANNEL) -> None:
        """Let readers react to a post."""
        faces = ("👍", "🔥", "❤")
        reactions = [
            {"type": {"type": "emoji", "emoji": face}, "total_count": count}
            for face, count in zip(faces, counts, strict=False)
        ]
        self.server.push(
            {
                "message_reaction_count": {
                    "chat": self.server.chats[chat_id],
                    "message_id": message_id,
                    "date": 1_790_000_500,
                    "reactions": reactions,
                }
            }
        )


def buttons(message: dict[str, Any]) -> list[str]:
    """Texts of the buttons under a message."""
    return [key["text"] for row in message.get("reply_markup", {}).get("inline_keyboard", []) for key in row]
