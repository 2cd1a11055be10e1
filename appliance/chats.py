"""Chats: in which way the bot answers in a group and in each of its topics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, get_args

from appliance.ledger import Ledger

Way = Literal["mention", "whisper", "admins", "auto", "off"]
WAYS: tuple[Way, ...] = get_args(Way)
CONFIDENCES = (0.6, 0.75, 0.9)  # offered for answering unasked


@dataclass(frozen=True, slots=True)
class Mode:
    """How the bot answers in a topic.

    Attributes
    ----------
    way : {'mention', 'whisper', 'admins', 'auto', 'off'}
        When spoken to; when spoken to, but only the asker sees it; with drafts that administrators publish; also
        unasked, to questions it is sure of; not at all.
    above : float
        Probability of relevance from which on it answers unasked.
    """

    way: Way = "mention"
    above: float = CONFIDENCES[1]


@dataclass(frozen=True, slots=True)
class Chats:
    """Settings of chats and topics, any of them; modes are one.

    Parameters
    ----------
    ledger : Ledger
    """

    ledger: Ledger

    def get(self, chat_id: int, topic_id: int | None, name: str, default: Any = None) -> Any:
        """Return what a topic is set to, else its chat, else the default; from memory."""
        return self.ledger.chats.get(chat_id, topic_id, name, default)

    async def set(
        self, chat_id: int, topic_id: int | None, name: str, value: Any, *, actor_id: int | None = None
    ) -> None:
        """Set a topic, or with None the whole chat, and log the act; a value of None takes the setting away."""
        await asyncio.to_thread(self.ledger.chats.set, chat_id, topic_id, name, value)
        subject = f"chat:{chat_id}/{topic_id or 0}"
        await asyncio.to_thread(
            self.ledger.access.record, f"chat.{name}", actor_id=actor_id, subject=subject, detail={"to": value}
        )

    def mode(self, chat_id: int, topic_id: int | None) -> Mode:
        """Return how the bot answers in a topic."""
        stored = self.get(chat_id, topic_id, "mode")
        if not isinstance(stored, dict) or stored.get("way") not in WAYS:
            return Mode()
        return Mode(stored["way"], float(stored.get("above", Mode().above)))

    async def set_mode(self, chat_id: int, topic_id: int | None, mode: Mode, *, actor_id: int | None = None) -> None:
        """Choose how the bot answers in a topic, or with None in the whole chat."""
        value = {"way": mode.way, "above": mode.above}
        await self.set(chat_id, topic_id, "mode", value, actor_id=actor_id)

    def modes(self) -> dict[tuple[int, int], Mode]:
        """List how the bot answers in the chats it is in, and in topics set apart; topic 0 is the whole chat."""
        named = self.ledger.chats.of("title")
        apart = {place for place in self.ledger.chats.of("mode") if (place[0], 0) in named}
        return {(chat, topic): self.mode(chat, topic or None) for chat, topic in sorted({*named, *apart})}

    async def name(self, chat_id: int, title: str | None) -> None:
        """Remember a chat's title, for those who set it from elsewhere; None when the bot left it."""
        if self.ledger.chats.get(chat_id, None, "title") != title:
            await asyncio.to_thread(self.ledger.chats.set, chat_id, None, "title", title)

    async def move(self, chat_id: int, new_id: int) -> None:
        """Carry a group's settings over to the supergroup it became."""
        await asyncio.to_thread(self.ledger.chats.move, chat_id, new_id)
