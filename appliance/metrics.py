"""Prometheus metrics: counted from the questions' rows at start, then from each row as it is stored."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from appliance.journal import Journal
from appliance.ledger import Ledger
from appliance.schema import QuestionRow

TIMED = 50_000  # newest questions whose stage times are counted at start
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The appliance's metrics; thread-safe.

    Parameters
    ----------
    ledger : Ledger
        Read once, for what was stored before.
    journal : Journal, optional
        Its backlog is shown when given.
    troubles : sequence of str, optional
        Why questions cannot be answered at some door; counted whenever the metrics are written.
    """

    def __init__(self, ledger: Ledger, journal: Journal | None = None, troubles: Sequence[str] = ()) -> None:
        self._ledger = ledger
        self._journal = journal
        self._troubles = troubles
        self._registry = CollectorRegistry()
        self._questions = Counter(
            "postfinder_questions",
            "Questions stored, by outcome and door.",
            ["outcome", "door"],
            registry=self._registry,
        )
        self._stages = Histogram(
            "postfinder_stage_seconds",
            "Time of a question's stages.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._votes = self._gauge("postfinder_votes", "Ratings in force, by vote.", ["vote"])
        self._reasons = self._gauge("postfinder_troubles", "Reasons why questions cannot be answered at some door.")
        self._channels = self._gauge("postfinder_channels", "Channels searched.")
        self._posts = self._gauge("postfinder_posts", "Posts stored, by channel.", ["channel"])
        self._backlog = self._gauge("postfinder_journal", "Updates and messages in the journal, by state.", ["state"])
        for (outcome, door), n in ledger.questions.outcomes().items():
            self._questions.labels(outcome=outcome, door=door).inc(n)
        for times_ms in ledger.questions.timings(TIMED):
            self._time(times_ms)

    def saved(self, row: QuestionRow) -> None:
        """Count a question whose row has just been stored.

        Parameters
        ----------
        row : QuestionRow
        """
        self._questions.labels(outcome=row.outcome, door=row.door).inc()
        self._time(row.times_ms)

    def render(self) -> bytes:
        """Write the metrics in Prometheus text format 0.0.4.

        Returns
        -------
        bytes
            UTF-8.
        """
        self._reasons.set(len(self._troubles))
        statuses = self._ledger.channels()
        self._channels.set(len(statuses))
        self._posts.clear()
        for status in statuses:
            self._posts.labels(channel=str(status.channel.id)).set(status.posts)
        for vote, n in self._ledger.questions.votes().items():
            self._votes.labels(vote=vote).set(n)
        if self._journal is not None:
            for state, n in self._journal.counts().items():
                self._backlog.labels(state=state).set(n)
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(name, text, labels or [], registry=self._registry)

    def _time(self, times_ms: dict[str, float]) -> None:
        for stage, value in times_ms.items():
            self._stages.labels(stage=stage).observe(value / 1000)
