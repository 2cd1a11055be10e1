"""Signs of abuse, from what a person's messages look like and when they come. Pure, bounded memory, microseconds."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Literal

from appliance.wordmarks import chance

Sign = Literal["flood", "duplicates", "spam", "toxic", "ring", "probing", "drip", "volume", "unusual"]
Act = Literal["question", "digest", "search", "button", "message", "chatter", "bad"]

WEIGHTS: dict[Act, float] = {  # what an act costs of a person's allowance
    "question": 6, "digest": 12, "search": 3, "button": 1, "message": 2, "chatter": 0.2, "bad": 3,
}  # fmt: skip
ASKS: frozenset[Act] = frozenset({"question", "digest", "search"})

# Points of a sign; they halve every `HALF_LIFE_S`. `appliance.antifraud` says what points lead to.
HALF_LIFE_S = 900.0
SLOW_AT, STOP_AT = 6.0, 12.0
FLOOD_POINTS, SPAM_POINTS, RING_POINTS, BAD_POINTS, MISS_POINTS = 1.0, 4.5, 2.0, 1.5, 1.0
DRIP_POINTS, VOLUME_POINTS, UNUSUAL_POINTS = 3.0, 0.7, 3.0

DUPLICATES_S, DUPLICATES_FREE = 600.0, 2  # the same words again within; the first repeats are a person's impatience
SPAM_CHANCE, TOXIC_CHANCE, SPAM_CHARS = 0.8, 0.8, 40
RING_ARRIVE_S, RING_TEXTS, RING_PARTNERS = 1800.0, 4, 4  # newcomers of one half-hour, texts in common, how many others
NEWCOMER_S = 86_400.0
BAD_FREE = 3  # forged buttons or unknown commands an hour
MISSES_FROM, MISSES_SHARE = 20, 0.8  # questions of an hour, and the share that found nothing
DRIP_INTERVALS, DRIP_SPREAD, DRIP_HOURS = 40, 0.3, 20  # even intervals; hours of a day with questions
DRIP_S = (5.0, 3600.0)
DAY_AT_LEAST, DAY_TIMES = 150, 4.0  # questions a day: at least, and times the community's busiest in a hundred
HOUR_AT_LEAST, HOUR_TIMES = 30, 8.0  # questions an hour: at least, and times the person's own busiest hour

_WORD = re.compile(r"[^\W\d_]{3,}|\d+")


@dataclass(slots=True)
class Bucket:
    """Allowance: `burst` at once, `rate` a second."""

    rate: float
    burst: float
    left: float
    at: float

    def take(self, cost: float, now: float) -> float:
        """Take from the allowance; returns 0, or the seconds until there is enough, having taken nothing."""
        self.left = min(self.burst, self.left + max(0.0, now - self.at) * self.rate)
        self.at = now
        if self.left >= cost:
            self.left -= cost
            return 0.0
        return (cost - self.left) / self.rate


class Buckets:
    """Allowances by key, the least recently used forgotten.

    Parameters
    ----------
    rate, burst : float
        Of each key: a second, and at once.
    limit : int
        Most keys kept.
    """

    def __init__(self, rate: float, burst: float, *, limit: int) -> None:
        self._rate, self._burst, self._limit = rate, burst, limit
        self._kept: OrderedDict[object, Bucket] = OrderedDict()

    def take(self, key: object, cost: float, now: float) -> float:
        """Take from a key's allowance; see `Bucket.take`."""
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = Bucket(self._rate, self._burst, self._burst, now)
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found.take(cost, now)

    def __len__(self) -> int:
        return len(self._kept)


@dataclass(slots=True)
class Trace:
    """What is remembered of one person or address."""

    first: float
    is_new: bool  # the community did not know them before
    bucket: Bucket
    points: float = 0.0
    points_at: float = 0.0
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=12))  # (words, when)
    last_ask: float = 0.0
    even: int = 0  # intervals seen of the running mean
    mean_s: float = 0.0
    spread_s: float = 0.0
    hour: int = 0
    in_hour: int = 0
    misses: int = 0
    bad: int = 0
    busiest_hour: int = 0
    hours: int = 0  # bits: hours of the last 24 with questions, the newest lowest
    day: int = 0
    in_day: int = 0
    partners: dict[object, int] | None = None  # newcomers with the same words, and how many texts
    ring: Bucket | None = None  # shared with them once they are a ring
    told_unusual: int = -1

    def score(self, now: float) -> float:
        """Return the points in force."""
        return float(self.points * 0.5 ** (max(0.0, now - self.points_at) / HALF_LIFE_S)) if self.points else 0.0

    def add(self, points: float, now: float) -> float:
        """Add points; returns those in force."""
        self.points, self.points_at = self.score(now) + points, now
        return self.points


def words_of(text: str) -> int | None:
    """Return the same number for texts of the same words, whatever their order, endings and marks.

    Parameters
    ----------
    text : str

    Returns
    -------
    int or None
        None for fewer than three words of three letters: "да", "спасибо" and "/start" say nothing.
    """
    found = frozenset(word[:5] for word in _WORD.findall(text[:600].lower()))
    return hash(found) if len(found) >= 3 else None


class Watch:
    """Looks at acts and names the signs of abuse in them; remembers a bounded number of people and texts.

    Parameters
    ----------
    rate, burst : float
        A person's allowance: a second, and at once; see `WEIGHTS`.
    limit : int
        Most people and addresses remembered.
    texts : int
        Most texts of newcomers remembered.
    """

    def __init__(self, *, rate: float = 1.0, burst: float = 60.0, limit: int = 20_000, texts: int = 5_000) -> None:
        self._rate, self._burst, self._limit, self._texts = rate, burst, limit, texts
        self._traces: OrderedDict[object, Trace] = OrderedDict()
        self._said: OrderedDict[int, dict[object, float]] = OrderedDict()  # newcomers' words: who, when they came
        self._days: deque[int] = deque(maxlen=1000)  # questions of finished days of people
        self.busiest_day = 0  # the community's, of 99 in 100

    def __len__(self) -> int:
        return len(self._traces)

    def trace(self, who: object, now: float, *, is_new: bool = False) -> Trace:
        """Return what is remembered of somebody, beginning anew where that is nothing."""
        found = self._traces.get(who)
        if found is None:
            found = self._traces[who] = Trace(now, is_new, Bucket(self._rate, self._burst, self._burst, now))
            if len(self._traces) > self._limit:
                self._traces.popitem(last=False)
        else:
            self._traces.move_to_end(who)
        return found

    def forget(self, who: object) -> None:
        """Forget somebody: they begin anew."""
        self._traces.pop(who, None)

    def look(
        self, who: object, act: Act, now: float, *, text: str | None = None, is_new: bool = False
    ) -> tuple[float, list[tuple[Sign, float]]]:
        """Look at one act.

        Parameters
        ----------
        who : object
            Telegram's number of a person, or an address.
        act : str
        now : float
            Seconds since the epoch.
        text : str, optional
            What was typed; none for buttons.
        is_new : bool
            Whether the community met them within a day; asked at their first act alone.

        Returns
        -------
        (float, list of (str, float))
            Seconds until the allowance holds the act (0: it did), and signs with their points.
        """
        trace = self.trace(who, now, is_new=is_new)
        signs: list[tuple[Sign, float]] = []
        wait_s = trace.bucket.take(WEIGHTS[act], now)
        if wait_s > 0:
            signs.append(("flood", FLOOD_POINTS))
        elif trace.ring is not None and (wait_s := trace.ring.take(WEIGHTS[act], now)) > 0:
            signs.append(("ring", RING_POINTS))
        if act == "bad":
            self._turn(trace, now)
            trace.bad += 1
            if trace.bad > BAD_FREE:
                signs.append(("probing", BAD_POINTS))
        elif act in ASKS:
            self._asked(trace, now, signs)
        if text and len(text) >= 12:
            self._read(who, trace, text, act, now, signs)
        return wait_s, signs

    def missed(self, who: object, now: float) -> list[tuple[Sign, float]]:
        """Note that a question found nothing; many of them in a row look like probing."""
        trace = self._traces.get(who)
        if trace is None:
            return []
        trace.misses += 1
        is_probing = trace.in_hour >= MISSES_FROM and trace.misses >= MISSES_SHARE * trace.in_hour
        return [("probing", MISS_POINTS)] if is_probing else []

    def _turn(self, trace: Trace, now: float) -> None:
        """Begin a new hour or day of a trace where the clock did."""
        hour, day = int(now // 3600), int(now // 86_400)
        if hour > trace.hour:
            trace.busiest_hour = max(trace.busiest_hour, trace.in_hour)
            trace.hours = (trace.hours << min(24, hour - trace.hour)) & 0xFFFFFF if trace.hour else 0
            trace.hour, trace.in_hour, trace.misses, trace.bad = hour, 0, 0, 0
        if day > trace.day:
            if trace.in_day:
                self._days.append(trace.in_day)
                if len(self._days) % 20 == 0:
                    self.busiest_day = sorted(self._days)[int(len(self._days) * 0.99)]
            trace.day, trace.in_day = day, 0

    def _asked(self, trace: Trace, now: float, signs: list[tuple[Sign, float]]) -> None:
        self._turn(trace, now)
        trace.in_hour += 1
        trace.in_day += 1
        trace.hours |= 1
        if trace.in_day > max(DAY_AT_LEAST, DAY_TIMES * self.busiest_day):
            signs.append(("volume", VOLUME_POINTS))
        if (
            trace.busiest_hour
            and trace.in_hour >= max(HOUR_AT_LEAST, HOUR_TIMES * trace.busiest_hour)
            and trace.told_unusual != trace.hour
        ):
            trace.told_unusual = trace.hour
            signs.append(("unusual", UNUSUAL_POINTS))
        took, trace.last_ask = now - trace.last_ask, now
        if DRIP_S[0] <= took <= DRIP_S[1]:
            trace.even += 1
            share = max(1 / DRIP_INTERVALS, 1 / trace.even)
            trace.mean_s += share * (took - trace.mean_s)
            trace.spread_s += share * (abs(took - trace.mean_s) - trace.spread_s)
            is_even = trace.even >= DRIP_INTERVALS and trace.spread_s < DRIP_SPREAD * trace.mean_s
            if is_even or trace.hours.bit_count() >= DRIP_HOURS:
                signs.append(("drip", DRIP_POINTS))
        elif took > DRIP_S[1]:
            trace.even = 0

    def _read(
        self, who: object, trace: Trace, text: str, act: Act, now: float, signs: list[tuple[Sign, float]]
    ) -> None:
        words = words_of(text)
        if words is not None:
            again = sum(was == words and now - when < DUPLICATES_S for was, when in trace.recent)
            trace.recent.append((words, now))
            if again > DUPLICATES_FREE:
                signs.append(("duplicates", 1.0 + min(again - DUPLICATES_FREE, 3)))
            if trace.is_new and not again and act != "chatter" and now - trace.first < NEWCOMER_S:
                self._compare(who, trace, words, now, signs)
        if len(text) >= SPAM_CHARS and chance("spam", text) >= SPAM_CHANCE:
            signs.append(("spam", SPAM_POINTS))

    def _compare(self, who: object, trace: Trace, words: int, now: float, signs: list[tuple[Sign, float]]) -> None:
        """Find newcomers who arrived at the same time and say the same; from then on they share one allowance."""
        said = self._said.get(words)
        if said is None:
            said = self._said[words] = {}
            if len(self._said) > self._texts:
                self._said.popitem(last=False)
        mine = trace.partners if trace.partners is not None else {}
        for other, came in said.items():
            theirs = self._traces.get(other)
            if theirs is None or abs(came - trace.first) > RING_ARRIVE_S:
                continue
            mine[other] = mine.get(other, 0) + 1
            if theirs.partners is None:
                theirs.partners = {}
            theirs.partners[who] = theirs.partners.get(who, 0) + 1
        if len(said) < 64:
            said[who] = trace.first
        trace.partners = mine or None
        close = [other for other, texts in mine.items() if texts >= RING_TEXTS]
        if len(close) < RING_PARTNERS:
            return
        if trace.ring is None:
            known = (self._traces[other].ring for other in close if other in self._traces)
            ring = next((one for one in known if one is not None), None)
            trace.ring = ring or Bucket(3 * self._rate, 2 * self._burst, self._burst, now)
            for other in close:
                if (theirs := self._traces.get(other)) is not None and theirs.ring is None:
                    theirs.ring = trace.ring
            signs.append(("ring", 0.0))


def is_rude(text: str) -> bool:
    """Flag a rude message; nobody is stopped for it."""
    return len(text) >= 8 and chance("toxic", text) >= TOXIC_CHANCE


def channel_signs(texts: list[str], forwarded: int) -> dict[str, float | bool]:
    """Look at the posts of a channel that asks to be taken in.

    Parameters
    ----------
    texts : list of str
        Of its newest posts.
    forwarded : int
        How many of them are forwards.

    Returns
    -------
    dict
        Shares of posts like spam (``spam``), said before (``repeated``) and ``forwarded``, and ``suspicious``: a
        fifth is like spam, or half is repeated.
    """
    count = max(1, len(texts))
    spam = sum(len(text) >= SPAM_CHARS and chance("spam", text) >= SPAM_CHANCE for text in texts) / count
    words = [found for text in texts if (found := words_of(text)) is not None]
    repeated = (len(words) - len(set(words))) / count
    is_suspicious = len(texts) >= 10 and (spam >= 0.2 or repeated >= 0.5)
    return {
        "posts": len(texts),
        "spam": round(spam, 3),
        "repeated": round(repeated, 3),
        "forwarded": round(forwarded / count, 3),
        "suspicious": is_suspicious,
    }
