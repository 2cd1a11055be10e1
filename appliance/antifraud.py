"""Antifraud: signs of abuse lead up a ladder, from slowing to a ban with a term; in shadow mode it only watches."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import structlog

from appliance.abuse import ASKS, SLOW_AT, STOP_AT, WEIGHTS, Act, Buckets, Sign, Watch, channel_signs, is_rude
from appliance.errors import BadInput
from appliance.ledger import Ledger

Guard = Literal["off", "shadow", "on"]
GUARDS: tuple[Guard, ...] = get_args(Guard)
SETTING = "antifraud"  # of the ledger
STOPS_S = (900.0, 86_400.0, 7 * 86_400.0)  # the first stop of somebody, the second within `STRIKES_S`, the next
STRIKES_S = 7 * 86_400.0
SLOWER = 3.0  # times the usual cost of an act, on top, for who is slowed
CHAT_RATE, CHAT_BURST = 4.0, 240.0  # of a group, all its people together
ALL_RATE, ALL_BURST = 120.0, 2400.0  # of everybody: then who is new or under suspicion waits first
ADDRESS_TIMES = 4.0  # an address on the web may be a whole office
KEPT = 20_000
SHOWN = 200  # newest incidents of the live view
MINUTES = 60
POSTS_LOOKED_AT = 200

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an act.

    Attributes
    ----------
    step : {'pass', 'slow', 'stop'}
        In shadow mode always ``pass``.
    wait_s : float
        How long to wait with the next one, or until the stop ends.
    sign : str
        What weighed most, or empty.
    is_first : bool
        The step was just reached: the person is to be told.
    """

    step: Literal["pass", "slow", "stop"] = "pass"
    wait_s: float = 0.0
    sign: str = ""
    is_first: bool = False


PASS = Verdict()


@dataclass(frozen=True, slots=True)
class Incident:
    """A line of the live view; ``who`` is Telegram's number, or an address."""

    at: float
    who: object
    sign: str
    step: str
    is_real: bool


class Antifraud:
    """Weighs acts and steps in; of one event loop, in RAM; its bans are the ledger's.

    Parameters
    ----------
    ledger : Ledger
    mode : {'off', 'shadow', 'on'}
        Until an administrator chooses another.
    ban : callable
        `appliance.admission.Admission.ban`.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self, ledger: Ledger, mode: Guard, ban: Callable[..., Awaitable[Any]], clock: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._ban = ban
        self.clock = clock
        self.mode: Guard = ledger.setting(SETTING) or mode
        self._people = Watch(limit=KEPT)
        self._addresses = Watch(rate=ADDRESS_TIMES, burst=60 * ADDRESS_TIMES, limit=KEPT)
        self._chats = Buckets(CHAT_RATE, CHAT_BURST, limit=KEPT)
        self._all = Buckets(ALL_RATE, ALL_BURST, limit=1)
        self._known = ledger.order.known_before(datetime.fromtimestamp(clock(), UTC) - timedelta(days=1))
        self._telegram_ids: OrderedDict[int, int] = OrderedDict()  # by the ledger's user id
        self._stopped: OrderedDict[object, tuple[float, str]] = OrderedDict()  # until when, and why
        self._strikes: OrderedDict[object, tuple[int, float]] = OrderedDict()
        self._slowed: OrderedDict[object, float] = OrderedDict()
        self._incidents: deque[Incident] = deque(maxlen=SHOWN)
        self._minutes: deque[tuple[int, Counter[str]]] = deque(maxlen=MINUTES)

    async def set_mode(self, mode: str, *, actor: int | None) -> None:
        """Switch it off, to watching, or on.

        Raises
        ------
        BadInput
            No such mode.
        """
        if mode not in GUARDS:
            raise BadInput("There is no such mode.", cure=f"Modes are {', '.join(GUARDS)}.")
        await asyncio.to_thread(self._ledger.set_setting, SETTING, mode)
        self.mode = mode
        self._stopped.clear()
        await asyncio.to_thread(self._ledger.access.record, "antifraud.mode", actor_id=actor, detail={"mode": mode})

    def look(self, who: int | str, act: Act, *, text: str | None = None, chat: int | None = None) -> Verdict:
        """Weigh an act, before anything else is done for it.

        Parameters
        ----------
        who : int or str
            Telegram's number of a person, or an address on the web.
        act : str
        text : str, optional
            What was typed.
        chat : int, optional
            The group it was written in.

        Returns
        -------
        Verdict
        """
        if self.mode == "off":
            return PASS
        now = self.clock()
        counts = self._counts(now)
        counts["seen"] += 1
        if (stopped := self._stopped.get(who)) is not None:
            if stopped[0] > now:
                counts["stopped"] += 1
                return self._really(Verdict("stop", stopped[0] - now, stopped[1]))
            del self._stopped[who]
        is_person = isinstance(who, int)
        watch = self._people if is_person else self._addresses
        wait_s, signs = watch.look(who, act, now, text=text, is_new=is_person and who not in self._known)
        if text is not None and act != "chatter" and is_rude(text):
            self._note(who, "toxic", "flag", now)
        trace = watch.trace(who, now)
        cost = WEIGHTS[act]
        crowded_s = self._chats.take(chat, cost, now) if chat is not None and act != "chatter" else 0.0
        everyone_s = self._all.take("all", cost, now)
        if everyone_s > 0 and not (trace.is_new or trace.points > 1.0):
            everyone_s = 0.0  # who is known and calm does not wait for the others' flood
        wait_s = max(wait_s, crowded_s, everyone_s)
        score = trace.score(now)
        sign = ""
        if signs:
            for name, points in signs:
                score = trace.add(points, now)
                counts["signs"] += 1
                if points != 1.0 or name != "flood":
                    self._note(who, name, "sign", now)
            sign = max(signs, key=lambda one: one[1])[0]
        if score >= STOP_AT:
            return self._stop(who, sign or "flood", now)
        if score >= SLOW_AT and act in ASKS:
            wait_s = max(wait_s, trace.bucket.take(SLOWER * cost, now))
            if wait_s == 0.0 and sign:
                wait_s = cost / 1.0
        if wait_s > 0:
            counts["slowed"] += 1
            is_first = now - self._slowed.get(who, 0.0) > 60.0
            if is_first:
                _keep(self._slowed, who, now)
                self._note(who, sign or "flood", "slow", now)
            return self._really(Verdict("slow", wait_s, sign or "flood", is_first))
        return PASS

    def missed(self, user_id: int | None) -> None:
        """Note that a person's question found nothing."""
        who = self._telegram_ids.get(user_id or 0)
        if who is None or self.mode == "off":
            return
        now = self.clock()
        for name, points in self._people.missed(who, now):
            self._people.trace(who, now).add(points, now)
            self._note(who, name, "sign", now)

    def met(self, user_id: int, telegram_id: int) -> None:
        """Remember which number of Telegram a user has."""
        if self._telegram_ids.get(user_id) != telegram_id:
            _keep(self._telegram_ids, user_id, telegram_id)

    async def punish(self, user_id: int, verdict: Verdict) -> None:
        """Write a stop down as a ban with its term, so that it outlives a restart and can be appealed and lifted."""
        await self._ban(user_id, actor=None, days=verdict.wait_s / 86_400, cause=verdict.sign)

    def pardon(self, who: int | str) -> None:
        """Forget everything held against somebody."""
        for kept in (self._stopped, self._strikes, self._slowed):
            kept.pop(who, None)
        self._people.forget(who)
        self._addresses.forget(who)

    def view(self) -> dict[str, Any]:
        """Return the live view: the last hour by minute, and the newest incidents.

        Returns
        -------
        dict
            JSON-ready; times in seconds since the epoch.
        """
        now = self.clock()
        minute = int(now // 60)
        recent = [(at, counts) for at, counts in self._minutes if at > minute - MINUTES]
        total: Counter[str] = Counter()
        for _, counts in recent:
            total.update(counts)
        kept = dict(recent)
        names = ("seen", "signs", "slowed", "stopped")
        return {
            "mode": self.mode,
            "hour": {name: total[name] for name in names},
            "minutes": [
                {"at": at * 60, **{name: kept[at][name] if at in kept else 0 for name in names}}
                for at in range(minute - MINUTES + 1, minute + 1)
            ],
            "signs": {name: total[f"sign:{name}"] for name in get_args(Sign) if total[f"sign:{name}"]},
            "incidents": [
                {"at": one.at, "who": one.who, "sign": one.sign, "step": one.step, "real": one.is_real}
                for one in reversed(self._incidents)
            ],
            "watched": len(self._people) + len(self._addresses),
        }

    async def channel(self, channel_id: int) -> dict[str, float | bool]:
        """Look at the newest posts of a channel; see `appliance.abuse.channel_signs`."""
        return await asyncio.to_thread(self._channel, channel_id)

    def _channel(self, channel_id: int) -> dict[str, float | bool]:
        ids = self._ledger.post_ids(channel_id)[-POSTS_LOOKED_AT:]
        posts = self._ledger.posts([(channel_id, number) for number in ids]).values()
        return channel_signs([post.text for post in posts], sum(post.forwarded_from is not None for post in posts))

    def _stop(self, who: int | str, sign: str, now: float) -> Verdict:
        strikes, last = self._strikes.get(who, (0, now))
        strikes = strikes if now - last < STRIKES_S else 0
        stop_s = STOPS_S[min(strikes, len(STOPS_S) - 1)]
        _keep(self._strikes, who, (strikes + 1, now + stop_s))
        _keep(self._stopped, who, (now + stop_s, sign))
        watch = self._people if isinstance(who, int) else self._addresses
        watch.trace(who, now).points = 0.0
        self._counts(now)["stopped"] += 1
        self._note(who, sign, "stop", now)
        log.info("antifraud", step="stop", sign=sign, real=self.mode == "on", strikes=strikes + 1)
        return self._really(Verdict("stop", stop_s, sign, is_first=True))

    def _really(self, verdict: Verdict) -> Verdict:
        return verdict if self.mode == "on" else PASS

    def _note(self, who: object, sign: str, step: str, now: float) -> None:
        self._counts(now)[f"sign:{sign}"] += 1
        self._incidents.append(Incident(now, who, sign, step, self.mode == "on"))

    def _counts(self, now: float) -> Counter[str]:
        minute = int(now // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, Counter()))
        return self._minutes[-1][1]


def _keep(kept: OrderedDict[Any, Any], key: object, value: object) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > KEPT:
        kept.popitem(last=False)
