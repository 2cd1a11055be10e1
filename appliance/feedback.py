"""Feedback: what members say of answers."""

from __future__ import annotations

import asyncio

from appliance.errors import BadInput
from appliance.ledger import Ledger
from appliance.schema import Asker, Vote

MAX_REASON_CHARS = 1000


async def rate(question_id: str, *, asker: Asker, vote: Vote, reason: str = "", ledger: Ledger) -> bool:
    """Store a rating of an answer; the last one of a person counts.

    Parameters
    ----------
    question_id : str
        Id of the question's row, as in `appliance.schema.Answer`.
    asker : Asker
        Unregistered visitors share one vote on a question.
    vote : {'up', 'down'}
    reason : str
        Cut to 1,000 characters.
    ledger : Ledger

    Returns
    -------
    bool
        False when there is no such answer.

    Raises
    ------
    BadInput
        Neither ``up`` nor ``down``.
    """
    if vote not in ("up", "down"):
        raise BadInput("A rating is up or down.", cure="Send one of the two.")
    return await asyncio.to_thread(ledger.questions.rate, question_id, asker.user_id, vote, reason[:MAX_REASON_CHARS])
