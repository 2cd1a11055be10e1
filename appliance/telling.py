"""Words to a person who did not just write: queued in the durable outbox of the bot, where there is a bot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from appliance.journal import Journal, Outgoing

Rows = Sequence[Sequence[tuple[str, str]]]  # buttons: words and callback data
Tell = Callable[[int, str, Rows], Awaitable[None]]


def teller(journal: Journal, *, has_bot: bool) -> Tell:
    """Return what writes to a person's private chat.

    Parameters
    ----------
    journal : Journal
    has_bot : bool
        Without a bot nobody would ever send what is queued: nothing is.

    Returns
    -------
    callable
        Takes Telegram's number of the person, the words, and rows of buttons.
    """

    async def tell(telegram_id: int, text: str, rows: Rows = ()) -> None:
        if not has_bot:
            return
        payload: dict[str, object] = {"chat_id": telegram_id, "text": text}
        if rows:
            keys = [[{"text": words, "callback_data": data} for words, data in row] for row in rows]
            payload["reply_markup"] = {"inline_keyboard": keys}
        await asyncio.to_thread(journal.enqueue, [Outgoing(telegram_id, "sendMessage", payload)])

    return tell
