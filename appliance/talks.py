"""Talks: which dialogue goes on where, when a person was here before, answers held for publishing, surveys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from appliance.ledger import Ledger
from appliance.schema import Asker, Language

PAUSE = timedelta(hours=1)  # of silence in a private chat, after which another dialogue begins
VISIT_GAP = timedelta(hours=3)  # of silence that ends a visit
FIRST_VISIT = timedelta(days=7)  # told to who was never here
LONGEST_AWAY = timedelta(days=30)
SURVEY_EVERY = timedelta(days=30)
SURVEY_AFTER = 5  # questions since the last one
SURVEY_LOOKED = timedelta(minutes=10)  # between two looks whether it is time


@dataclass(frozen=True, slots=True)
class Talks:
    """What belongs to one person besides their questions.

    Parameters
    ----------
    ledger : Ledger
    """

    ledger: Ledger
    _looked: dict[int, datetime] = field(default_factory=dict)

    async def dialogue(self, asker: Asker, topic_id: int | None) -> str | None:
        """Return the dialogue that goes on in a person's private chat or in a topic of it; None for who is unknown.

        Parameters
        ----------
        asker : Asker
        topic_id : int or None
            A topic is one dialogue for ever; the chat itself begins another after an hour of silence.
        """
        if asker.user_id is None:
            return None
        pause = PAUSE if topic_id is None else None
        return await asyncio.to_thread(self.ledger.talks.dialogue, asker.user_id, topic_id or 0, pause)

    async def begin(self, asker: Asker, topic_id: int | None) -> None:
        """Leave the dialogue there behind."""
        if asker.user_id is not None:
            await asyncio.to_thread(self.ledger.talks.begin, asker.user_id, topic_id or 0)

    async def away_since(self, asker: Asker) -> datetime:
        """Return since when a person was away before the visit that goes on now; at most 30 days ago."""
        now, found = datetime.now(UTC), None
        if asker.user_id is not None:
            found = await asyncio.to_thread(self.ledger.talks.away_since, asker.user_id, VISIT_GAP)
        return max(found or now - FIRST_VISIT, now - LONGEST_AWAY)

    async def hold(self, asker: Asker, chat_id: int, calls: Sequence[dict[str, Any]]) -> str:
        """Keep the calls that would publish an answer for a week; returns the name to publish it by."""
        return await asyncio.to_thread(self.ledger.talks.hold, asker.user_id, chat_id, calls)

    async def held(self, held_id: str) -> tuple[int, int] | None:
        """Return the asker (0: unknown) and the chat of a held answer; None when there is none."""
        return await asyncio.to_thread(self.ledger.talks.held, held_id)

    async def decide(self, held_id: str, update_id: int) -> list[dict[str, Any]] | None:
        """Take a held answer, to publish it or drop it; None when somebody else did."""
        return await asyncio.to_thread(self.ledger.talks.decide, held_id, update_id)

    async def language(self, user_id: int) -> Language | None:
        """Return a person's language; None for who is unknown."""
        found = await asyncio.to_thread(self.ledger.talks.asker, user_id)
        return None if found is None else found.language

    async def survey(self, asker: Asker) -> str | None:
        """Begin a survey if it is time for one.

        Returns
        -------
        str or None
            Names it; at most one in 30 days, and only after some questions.
        """
        now = datetime.now(UTC)
        if asker.user_id is None or now - self._looked.get(asker.user_id, now - SURVEY_EVERY) < SURVEY_LOOKED:
            return None
        if len(self._looked) > 10_000:
            self._looked.clear()
        self._looked[asker.user_id] = now
        asked_at = await asyncio.to_thread(self.ledger.talks.ask_survey, asker.user_id, SURVEY_EVERY, SURVEY_AFTER)
        return None if asked_at is None else str(int(asked_at.timestamp()))

    async def answer_survey(self, asker: Asker, name: str, score: int) -> bool:
        """Store a score of 1 to 5; False when this person was not asked."""
        if asker.user_id is None or not 1 <= score <= 5 or not name.isdecimal() or len(name) > 11:
            return False
        asked_at = datetime.fromtimestamp(int(name), UTC)
        return await asyncio.to_thread(self.ledger.talks.answer_survey, asker.user_id, asked_at, score)

    async def quiet_hours(self, asker: Asker) -> dict[str, Any] | None:
        """Return the quiet hours a person chose: ``from``, ``to`` and ``utc``, or ``off``; None where they did not."""
        found = None
        if asker.user_id is not None:
            found = await asyncio.to_thread(self.ledger.talks.setting, asker.user_id, "quiet")
        return found if isinstance(found, dict) else None

    async def set_quiet_hours(self, asker: Asker, value: dict[str, Any]) -> None:
        """Store a person's quiet hours."""
        if asker.user_id is not None:
            await asyncio.to_thread(self.ledger.talks.set, asker.user_id, "quiet", value)
