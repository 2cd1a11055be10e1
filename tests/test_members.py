"""Members: registration through the verb the doors hold."""

from pathlib import Path

from appliance.ledger import Ledger
from appliance.members import register
from appliance.schema import Channel


async def test_registering_again_updates_the_person_and_keeps_their_rights(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        ann = {"telegram_id": 10, "username": "ann", "first_name": "Анна", "last_name": None}
        first = await register(**ann, language="ru", ledger=ledger)  # type: ignore[arg-type]
        assert (first.user_id, first.language, first.private_channels) == (1, "ru", frozenset())
        ledger.save_channel(Channel(5, "Своим", is_open=False))
        ledger.grant(1, 5)
        again = await register(**ann, language="en", ledger=ledger)  # type: ignore[arg-type]
        assert (again.user_id, again.language, again.private_channels) == (1, "en", {5})
        assert not again.sees_everything
        other = await register(
            telegram_id=11, username=None, first_name="", last_name="\x00\ud800", language="ru", ledger=ledger
        )
        assert other.user_id == 2
        assert ledger.visible_channels(other) == frozenset()
