"""Updates that Telegram posts to us: the same journal and the same lanes as fetched ones, acknowledged once on disk."""

from __future__ import annotations

import asyncio
import hmac
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import structlog

from appliance.bot.intake import read_updates, update_id_in
from appliance.errors import StartupError
from appliance.journal import Journal

log = structlog.get_logger()

SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")  # Telegram allows 1 to 256 of these
Taken = Literal["taken", "unreadable", "later"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where Telegram posts updates, and what becomes of them; make one with `Webhook.of`.

    Attributes
    ----------
    url : str
        As Telegram is told.
    secret : str
        Of every request.
    bot_id : int
    journal : Journal
    arrived : asyncio.Event
        Set when a new update is on disk.
    """

    url: str
    secret: str
    bot_id: int
    journal: Journal
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, url: str, secret: str, *, token: str, journal: Journal) -> Webhook:
        """Check the settings and bind the journal.

        Raises
        ------
        StartupError
            No secret, one Telegram does not take, or an address that is not https.
        """
        if not SECRET.fullmatch(secret):
            raise StartupError(
                "A webhook without a secret lets anyone speak for Telegram."
                if not secret
                else "The webhook's secret is too short, or holds signs Telegram does not take.",
                cure="Set POSTFINDER_TELEGRAM_WEBHOOK_SECRET to the output of: openssl rand -hex 32",
            )
        parts = urlsplit(url)
        if not parts.hostname or (parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost"}):
            raise StartupError(
                "The webhook's address must begin with https://.",
                cure="Mend POSTFINDER_TELEGRAM_WEBHOOK_URL, or leave it empty: updates are fetched then.",
            )
        bot_id = token.partition(":")[0]
        if not bot_id.isdecimal():
            raise StartupError("The Telegram token is malformed.", cure="Take a token from @BotFather.")
        return cls(url, secret, int(bot_id), journal)

    def is_from_telegram(self, given: bytes) -> bool:
        """Compare a secret as bytes, in constant time."""
        return hmac.compare_digest(given, self.secret.encode())

    async def take(self, body: bytes) -> Taken:
        """Put an update on disk.

        Parameters
        ----------
        body : bytes
            As posted, by someone who knows the secret.

        Returns
        -------
        {'taken', 'unreadable', 'later'}
            ``taken``: it is on disk, now or before, quarantined where it cannot be read. ``unreadable``: not even its
            id can be found. ``later``: the journal refuses; Telegram repeats it.
        """
        updates = read_updates(b'{"result":[' + body + b"]}")
        readable = updates is not None and len(updates) == 1
        if updates is None or not readable:
            update_id = update_id_in(body)
            if update_id is None:
                log.warning("a posted body that is no update", bytes=len(body))
                return "unreadable"
            updates = [(update_id, body)]
        try:
            new = await asyncio.to_thread(self.journal.take_in, self.bot_id, updates)
            if new and not readable:
                await asyncio.to_thread(self.journal.quarantine, (self.bot_id, updates[0][0]), "not JSON")
                log.error("update quarantined", update_id=updates[0][0], why="not JSON")
        except Exception as error:
            log.error("a posted update was not stored", kind=type(error).__name__)
            return "later"
        if new:
            self.arrived.set()
        return "taken"
