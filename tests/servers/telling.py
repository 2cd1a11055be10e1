"""A process to be killed: it notes what people are to be told and hands it to the outbox, for ever.

Run as ``python -m tests.servers.telling FOLDER USER FIRST``; it prints the number of each notice that is in the ledger.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiogram.methods import SendMessage

from appliance.bot import notices
from appliance.journal import Journal
from appliance.ledger import Ledger
from appliance.ledger.notices import Notice
from appliance.notices import Notices
from appliance.vault import Vault


async def plainly(notice: Notice, verbs: Any) -> list[SendMessage]:
    return [SendMessage(chat_id=notice.telegram_id, text=notice.id)]


async def note(verbs: Any, user_id: int, first: int) -> None:
    number = first
    while True:
        told = Notice(f"alert:{number}", user_id, "alert", {"n": number}, datetime.now(UTC))
        await asyncio.to_thread(verbs.ledger.alerts.heard, [], [told])
        verbs.notices.bell()
        print(number, flush=True)  # noqa: T201
        number += 1


async def main(folder: Path, user_id: int, first: int) -> None:
    notices.TELLERS["alert"] = plainly
    vault = Vault.open(folder / "master.key", folder)
    ledger = Ledger.open(folder / "ledger.duckdb", vault)
    journal = Journal.open(folder / "journal.sqlite", vault)
    verbs: Any = SimpleNamespace(admission=SimpleNamespace(paused=None), notices=Notices(ledger), ledger=ledger)
    await asyncio.gather(notices.tell(verbs, journal), note(verbs, user_id, first))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
