"""Alerts: "tell me when somebody writes about …". New posts are compared by meaning; each is told once, in its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from time import monotonic

import numpy as np

from appliance.config import Config
from appliance.errors import BadInput
from appliance.hot import Scope
from appliance.ledger import Ledger
from appliance.ledger.alerts import Alert
from appliance.notices import Notice, Notices
from appliance.ranking import calibration_of, relevance
from appliance.schema import Asker, PostKey
from appliance.search import query_lemmas
from appliance.shelf import Pair
from appliance.text import clean
from models.ports import Vectors

MAX_CHARS = 200
COMPARED = 200  # chunks of new posts nearest to an alert
GENERAL_S = 3600.0  # how long the mean and the spread of an alert's cosines are remembered
STRICT, USUAL, WIDE = 0.124, 0.039, 0.021  # probabilities of relevance, chosen by `postfinder bench alerts`
LEVELS = (STRICT, USUAL, WIDE)


@dataclass(slots=True)
class Alerts:
    """Alerts of people over new posts.

    Parameters
    ----------
    config : Config
    ledger : Ledger
    pair : callable
        Returns the embedder and the index in service.
    notices : Notices
        Takes what is to be told.
    """

    config: Config
    ledger: Ledger
    pair: Callable[[], Pair]
    notices: Notices
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _general: dict[tuple[int, frozenset[int], str], tuple[float, float, float]] = field(default_factory=dict)

    async def add(self, asker: Asker, text: str, above: float = USUAL) -> Alert:
        """Make an alert.

        Parameters
        ----------
        asker : Asker
            Registered.
        text : str
            What they want to hear of.
        above : float
            Probability of relevance from which on a post is told.

        Returns
        -------
        Alert

        Raises
        ------
        BadInput
            No words, too many, or as many alerts as one may have (``too_many_alerts``).
        """
        words = " ".join(clean(text).split())
        if asker.user_id is None or not query_lemmas(words):
            raise BadInput("There are no words in the alert.", cure="Say what to tell of.", code="alert_usage")
        if len(words) > MAX_CHARS:
            raise BadInput("The alert is too long.", cure=f"At most {MAX_CHARS} characters.", code="alert_too_long")
        most = self.config.alerts_per_person
        made = await asyncio.to_thread(self.ledger.alerts.add, asker.user_id, words, above, most)
        if made is None:
            raise BadInput("There are as many alerts as one may have.", cure="Delete one.", code="too_many_alerts")
        return made

    async def listed(self, asker: Asker) -> list[Alert]:
        """List a person's alerts, the oldest first."""
        return [] if asker.user_id is None else await asyncio.to_thread(self.ledger.alerts.listed, asker.user_id)

    async def change(self, asker: Asker, alert_id: int, above: float) -> bool:
        """Make a person's own alert stricter or wider; False when they have no such alert."""
        return await asyncio.to_thread(self.ledger.alerts.change, asker.user_id or 0, alert_id, above)

    async def remove(self, asker: Asker, alert_id: int) -> bool:
        """Delete a person's own alert; False when they have no such alert."""
        return await asyncio.to_thread(self.ledger.alerts.remove, asker.user_id or 0, alert_id)

    async def ring(self) -> int:
        """Compare new posts with every alert and note what is to be told; what a stop cuts off is done at the next.

        Returns
        -------
        int
            New notices.
        """
        told = 0
        async with self._turn:
            while keys := await asyncio.to_thread(self.ledger.alerts.fresh):
                told += await asyncio.to_thread(self._compare, keys)
        if told:
            self.notices.bell()
        return told

    def _compare(self, keys: Sequence[PostKey]) -> int:
        """Compare posts with the alerts; blocking."""
        alerts = self.ledger.alerts.listed()
        posts = self.ledger.posts(keys) if alerts else {}
        pair, now = self.pair(), datetime.now(UTC)
        quiet = self.ledger.talks.settings("quiet") if alerts else {}
        askers: dict[int, Asker | None] = {}
        notices = []
        vectors = pair.embedder.embed_queries([alert.text for alert in alerts]) if alerts and posts else ()
        for alert, vector in zip(alerts, vectors, strict=True) if posts else ():
            if alert.user_id not in askers:
                askers[alert.user_id] = self.ledger.talks.asker(alert.user_id)
            asker = askers[alert.user_id]
            if asker is None:
                continue
            seen = self.ledger.visible_channels(asker)
            fresh = [key for key, post in posts.items() if key[0] in seen and post.date >= alert.made_at]
            if not fresh:
                continue
            since = min(posts[key].date for key in fresh)
            when = not_before(now, quiet.get(alert.user_id), self.config)
            for key, chance in self._chances(alert, vector, seen, since, pair).items():
                if key in fresh and chance >= alert.above:
                    name = f"alert:{alert.alert_id}:{key[0]}:{key[1]}"
                    body = {"alert": alert.alert_id, "about": alert.text, "post": list(key)}
                    notices.append(Notice(name, alert.user_id, "alert", body, when))
        return self.ledger.alerts.heard(keys, notices)

    def _chances(
        self, alert: Alert, vector: Vectors, seen: frozenset[int], since: datetime, pair: Pair
    ) -> dict[PostKey, float]:
        """Return the probability that each recent post is what the alert asks for, by the calibration of search.

        The mean and the spread of the cosines are those of all the person may see, as in a search: among a few new
        posts alone they would say nothing.
        """
        lemmas, card = query_lemmas(alert.text), pair.index.embedder.card
        place = (alert.alert_id, seen, card)
        mean, std, read_at = self._general.get(place, (0.0, 0.0, -GENERAL_S))
        if monotonic() - read_at >= GENERAL_S:
            whole = pair.index.candidates(vector, lemmas, scope=Scope(channels=seen), n=1)
            mean, std = whole.dense_mean, whole.dense_std
            if len(self._general) > 10_000:
                self._general.clear()
            self._general[place] = (mean, std, monotonic())
        found = pair.index.candidates(vector, lemmas, scope=Scope(channels=seen, since=since), n=COMPARED)
        chances = relevance(replace(found, dense_mean=mean, dense_std=std), calibration_of(card))
        best: dict[PostKey, float] = {}
        for key, chance in zip(found.posts, np.asarray(chances).tolist(), strict=True):
            best[key] = max(best.get(key, 0.0), chance)
        return best


def not_before(now: datetime, chosen: object, config: Config) -> datetime:
    """Return when a person may be told: now, or when their quiet hours end.

    Parameters
    ----------
    now : datetime
    chosen : object
        Their own hours as stored (``from``, ``to`` and maybe ``utc``, or ``off``), or None for the community's.
    config : Config

    Returns
    -------
    datetime
        UTC.
    """
    first, last = quiet_of(chosen, config)
    has_zone = isinstance(chosen, dict) and "utc" in chosen
    zone = timezone(timedelta(hours=float(chosen["utc"]))) if has_zone else config.zone()  # type: ignore[index]
    local = now.astimezone(zone)
    is_quiet = first <= local.hour < last if first < last else local.hour >= first or local.hour < last
    if first == last or not is_quiet:
        return now
    end = local.replace(hour=last, minute=0, second=0, microsecond=0)
    return (end if end > local else end + timedelta(days=1)).astimezone(UTC)


def quiet_of(chosen: object, config: Config) -> tuple[int, int]:
    """Return the hours in force, from and to; equal ones are none."""
    if isinstance(chosen, dict):
        return (0, 0) if chosen.get("off") else (int(chosen["from"]) % 24, int(chosen["to"]) % 24)
    first, _, last = config.quiet_hours.partition("-")
    return (int(first) % 24, int(last) % 24) if last else (0, 0)
