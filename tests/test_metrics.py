"""Metrics: Prometheus text that agrees with the ledger's rows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from appliance.journal import Journal, Outgoing
from appliance.ledger import Ledger
from appliance.metrics import Metrics
from appliance.schema import Channel, Post
from tests.test_ledger import make_question


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_metrics_come_from_the_rows_and_go_on_from_there(tmp_path: Path) -> None:
    rows = [
        make_question("a", times_ms={"search": 4.0, "total": 20.0}),
        make_question("b", times_ms={"search": 40.0}),
        make_question("c", outcome="not_found", door="telegram", times_ms={}),
    ]
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger, Journal.open(tmp_path / "journal.sqlite") as journal:
        for row in rows:
            ledger.save_question(row)
        ledger.rate("a", 5, "up", "")
        ledger.save_channel(Channel(9, "Канал"))
        ledger.save_posts([Post(9, n, datetime.now(UTC), "текст") for n in range(4)])
        journal.take_in(1, [(1, b"{}"), (2, b"{}")])
        journal.enqueue([Outgoing(5, "sendMessage", {})])

        metrics = Metrics(ledger, journal)
        found = samples(metrics.render())
        assert found["postfinder_questions_total", "door=web", "outcome=answered"] == 2
        assert found["postfinder_questions_total", "door=telegram", "outcome=not_found"] == 1
        assert found["postfinder_stage_seconds_count", "stage=search"] == 2
        assert round(found["postfinder_stage_seconds_sum", "stage=search"], 6) == 0.044
        assert found["postfinder_stage_seconds_bucket", "le=0.005", "stage=search"] == 1
        assert found["postfinder_stage_seconds_bucket", "le=0.05", "stage=search"] == 2
        assert found["postfinder_posts", "channel=9"] == 4
        assert found["postfinder_channels",] == 1
        assert found["postfinder_votes", "vote=up"] == 1
        assert found["postfinder_journal", "state=inbox_pending"] == 2
        assert found["postfinder_journal", "state=outbox_queued"] == 1

        new = replace(rows[0], id="d", asked_at=rows[0].asked_at + timedelta(days=1))
        ledger.save_question(new)
        metrics.saved(new)
        ledger.remove_posts([(9, 0)])
        after = metrics.render()
        assert samples(after)["postfinder_questions_total", "door=web", "outcome=answered"] == 3
        assert samples(after)["postfinder_posts", "channel=9"] == 3
        counters = "postfinder_questions_total", "postfinder_stage_seconds_count", "postfinder_stage_seconds_bucket"
        now, from_rows = samples(after), samples(Metrics(ledger).render())
        assert {key: n for key, n in now.items() if key[0] in counters} == {
            key: n for key, n in from_rows.items() if key[0] in counters
        }
        assert "текст" not in after.decode()


def test_an_empty_appliance_has_metrics(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.duckdb") as ledger:
        found = samples(Metrics(ledger).render())
        assert found["postfinder_channels",] == 0
