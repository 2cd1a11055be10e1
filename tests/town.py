"""A town for scripted conversations: the loopback Bot API server, the real appliance, and the bot between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiogram.types import ChatMemberAdministrator

from appliance.app import App
from appliance.bot.pacing import Pace
from appliance.journal import Journal
from tests import neighbours
from tests.servers.botapi import BotApi

FAST = Pace(speed=1000)
CHANNEL = -1001777000055


class Town(neighbours.Town):
    """A town with channels, whose appliance is at hand."""

    def __init__(self, server: BotApi, app: App, path: Path) -> None:
        super().__init__(server, path, app.verbs)
        self.app = app

    @asynccontextmanager
    async def bot(self, **verbs: Any) -> AsyncIterator[Journal]:
        """Run the bot; it has introduced itself when this begins."""
        async with super().bot(**verbs) as journal:
            await self.server.until(lambda: self.server._allowed is not None or self.server.webhook)
            yield journal

    def is_quiet(self, journal: Journal) -> bool:
        """Tell whether nothing waits, notices included."""
        return super().is_quiet(journal) and not self.app.ledger.notices.due(datetime.now(UTC))

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
