"""Members: who asks, and what they may read."""

from __future__ import annotations

import asyncio

from appliance.ledger import Ledger
from appliance.schema import Asker, Language


async def register(
    *,
    telegram_id: int,
    username: str | None,
    first_name: str,
    last_name: str | None,
    language: Language,
    ledger: Ledger,
) -> Asker:
    """Create or update a member from what Telegram says of them.

    Parameters
    ----------
    telegram_id : int
        Telegram's user id.
    username : str or None
        Without ``@``.
    first_name : str
    last_name : str or None
    language : {'ru', 'en'}
        Language of the interface's words.
    ledger : Ledger

    Returns
    -------
    Asker
        With the closed channels they may read.
    """
    return await asyncio.to_thread(
        ledger.save_user,
        telegram_id=telegram_id,
        username=username,
        first_name=first_name,
        last_name=last_name,
        language=language,
    )
