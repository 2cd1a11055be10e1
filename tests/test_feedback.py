"""Feedback: ratings through the verb the doors hold."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import BadInput
from appliance.feedback import MAX_REASON_CHARS, rate
from appliance.ledger import Ledger
from appliance.schema import Asker
from tests.test_ledger import make_question


async def test_the_last_rating_of_a_person_counts(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        ledger.questions.save(make_question("q1"))
        ledger.questions.save(replace(make_question("q2"), user_id=7))
        assert await rate("q1", asker=Asker(user_id=7), vote="up", ledger=ledger)
        assert await rate("q1", asker=Asker(user_id=7), vote="down", reason="я" * 5000, ledger=ledger)
        assert await rate("q2", asker=Asker(), vote="up", ledger=ledger)
        assert not await rate("q3", asker=Asker(), vote="up", ledger=ledger)
        assert ledger.questions.votes() == {"up": 1, "down": 1}
        assert MAX_REASON_CHARS == 1000
        with pytest.raises(BadInput, match="up or down"):
            await rate("q1", asker=Asker(), vote="sideways", ledger=ledger)  # type: ignore[arg-type]
        voters = [rate("q1", asker=Asker(user_id=n), vote="up", ledger=ledger) for n in range(100, 140)]
        assert all(await asyncio.gather(*voters))
        assert ledger.questions.votes() == {"up": 41, "down": 1}
