"""Suite `antifraud`: ordinary people and five attacks simulated, classifiers cross-validated, honest waits measured.

A control that remembers nobody from one act to the next must recognise no attack.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import structlog
from aiogram import Bot
from aiogram.types import Update, User

from appliance import sample
from appliance.abuse import Act
from appliance.antifraud import Antifraud, Verdict
from appliance.app import open_app
from appliance.bot.courtesies import Courtesies
from appliance.bot.pacing import Pace, Pacer
from appliance.bot.routers import create_dispatcher
from appliance.config import Config
from appliance.ledger import Ledger
from benchmarks import wordmarks
from benchmarks.results import ROOT, SHARED

SEED = 20261127
PEOPLE = 4000
DAYS = 3
HOUR, DAY = 3600.0, 86_400.0
START = 1_800_000_000.0
ROUNDS = 2  # alone, beside an attack, beside it, alone: a machine that slows down does so for both
HONEST_ASKS, HONEST_GAP_S = 600, 0.1  # a round
OPENING = 30  # honest questions while an attack is not recognised yet
ATTACKS = ("flood", "duplicates", "spam", "ring", "drip")


@dataclass(frozen=True, slots=True, order=True)
class Move:
    """An act of somebody at a time; ``kind`` says what they are."""

    at: float
    who: int
    kind: str
    act: Act
    text: str


def run() -> dict[str, Any]:
    """Simulate days of a community with attacks, judge the classifiers, and measure the wait of honest people."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    simulated = simulate(SEED)
    control = simulate(SEED, Forgetful)
    result: dict[str, Any] = {
        "simulation": simulated,
        "control": {"recall": control["recall"], "most_recall": max(control["recall"].values())},
        "look_us": look_us(),
    }
    if (SHARED / "spam").exists():
        result["spam"] = wordmarks.judge("spam")
        result["toxic"] = wordmarks.judge("toxic")
    with tempfile.TemporaryDirectory() as folder:
        result["wait"] = asyncio.run(waits(Path(folder)))
    return result


# People


def questions(rng: random.Random) -> str:
    """Invent an ordinary question; short popular ones come often."""
    starts = ["Где", "Когда", "Сколько стоит", "Как записаться на", "Кто ведёт", "Можно ли прийти на", "Что взять на"]
    things = [
        "занятие по керамике", "сварку", "субботник", "лекцию о саде", "аренду зала", "мастерскую", "собрание",
        "прокат велосипеда", "детский кружок", "экскурсию", "печать на принтере", "ремонт чайника", "хор", "йогу",
    ]  # fmt: skip
    ends = ["", "в субботу", "в марте", "завтра вечером", "для новичков", "с ребёнком", "в этом году", "по абонементу"]
    return " ".join(filter(None, (rng.choice(starts), rng.choice(things), rng.choice(ends)))) + "?"


def person(number: int, rng: random.Random) -> Iterator[Move]:
    """One ordinary person's days: quiet, curious, or in bursts; people repeat themselves and write in the chat."""
    temper = rng.choices(("quiet", "curious", "burst", "impatient", "chatty"), (50, 22, 14, 8, 6))[0]
    for day in range(DAYS):
        if rng.random() > (0.35 if temper == "quiet" else 0.75):
            continue
        sittings = 1 if temper == "quiet" else rng.randint(1, 4)
        for _ in range(sittings):
            now = START + day * DAY + rng.gauss(14, 4) % 24 * HOUR
            count = {
                "quiet": 1,
                "curious": rng.randint(2, 9),
                "burst": rng.randint(6, 16),
                "impatient": rng.randint(2, 6),
            }.get(temper, 2)
            asked = questions(rng)
            for _ in range(count):
                if temper != "impatient" or rng.random() < 0.4:
                    asked = questions(rng)
                yield Move(now, number, "honest", "question", asked)
                if rng.random() < 0.3:
                    yield Move(now + rng.uniform(1, 20), number, "honest", "button", "")
                now += rng.lognormvariate(2.3 if temper in {"burst", "impatient"} else 4.0, 0.9) + 1.0
            if temper == "chatty":
                for _ in range(rng.randint(10, 60)):
                    yield Move(now, number, "honest", "chatter", questions(rng))
                    now += rng.lognormvariate(2.0, 1.0)


def classroom(first: int, rng: random.Random) -> Iterator[Move]:
    """Newcomers who were told in one room to ask the same three questions: they arrive together, and are honest."""
    asked = [questions(rng) for _ in range(3)]
    began = START + 1.5 * DAY
    for number in range(first, first + 25):
        now = began + rng.uniform(0, 600)
        for text in asked:
            yield Move(now, number, "honest", "question", text)
            now += rng.lognormvariate(3.7, 0.7)


# Attacks


def flood(first: int, rng: random.Random) -> Iterator[Move]:
    """Messages as fast as they go, each another."""
    for number in range(first, first + 20):
        now = START + rng.uniform(0.2, 2.5) * DAY
        for step in range(300):
            yield Move(now, number, "flood", "question", f"{questions(rng)} {step}")
            now += rng.uniform(0.1, 1.5)


def duplicates(first: int, rng: random.Random) -> Iterator[Move]:
    """Say one thing again and again, at a rate that floods nothing, with small changes of marks."""
    for number in range(first, first + 20):
        now, text = START + rng.uniform(0.2, 2.5) * DAY, questions(rng)
        for step in range(60):
            yield Move(now, number, "duplicates", "question", text.replace("?", "!" * (step % 4)) + " " * (step % 3))
            now += rng.uniform(8, 40)


def spam(first: int, rng: random.Random) -> Iterator[Move]:
    """Advertisements, every one put together anew."""
    what = (
        "Заработок на дому", "Удалённая работа без опыта", "Пассивный доход в крипте", "Быстрые деньги каждый день",
        "Набираю команду в новый проект",
    )  # fmt: skip
    how = ("от {} 000 руб в неделю", "доход {}00$ в день", "платим {} 500 рублей за день", "от {}0 000 рублей в месяц")
    end = (
        "пишите в личку @money_{}", "подробности в лс, ставьте +", "жми ссылку https://t.me/+aBc{}dEf",
        "ждём, пиши плюс в личные сообщения", "только 18+, пишите @work_{}",
    )  # fmt: skip
    for number in range(first, first + 20):
        now = START + rng.uniform(0.2, 2.5) * DAY
        for step in range(30):
            parts = (rng.choice(what), rng.choice(how).format(rng.randint(2, 9)), rng.choice(end).format(step))
            yield Move(now, number, "spam", "question", ", ".join(parts) + " 💰" * rng.randint(0, 2))
            now += rng.uniform(40, 200)


def ring(first: int, rng: random.Random) -> Iterator[Move]:
    """Accounts of one hand: they arrive within minutes and ask out of one list, in other orders and endings."""
    for group in range(2):
        began = START + (0.7 + group) * DAY
        asked = [questions(rng) for _ in range(8)]
        for number in range(first + group * 15, first + group * 15 + 15):
            now = began + rng.uniform(0, 900)
            for text in rng.sample(asked, 8) * 3:
                words = text.rstrip("?").split()
                rng.shuffle(words)
                yield Move(now, number, "ring", "question", " ".join(words))
                now += rng.uniform(15, 120)


def drip(first: int, rng: random.Random) -> Iterator[Move]:
    """Slow and even: everything is asked for, one question every minutes, day and night."""
    for number in range(first, first + 20):
        every, now = rng.uniform(60, 290), START + rng.uniform(0, 0.5) * DAY
        while now < START + DAYS * DAY:
            yield Move(now, number, "drip", "question", f"{questions(rng)} {rng.randint(0, 9999)}")
            now += every * rng.uniform(0.85, 1.15)


def moves(seed: int) -> list[Move]:
    """Everything that happens, in order."""
    rng = random.Random(seed)
    found = list(itertools.chain.from_iterable(person(number, rng) for number in range(1, PEOPLE + 1)))
    found += classroom(PEOPLE + 1, rng)
    for place, attack in enumerate((flood, duplicates, spam, ring, drip)):
        found += attack(100_000 + place * 1000, rng)
    return sorted(found)


class Forgetful(Antifraud):
    """The broken control: whoever acts was never seen before."""

    def look(self, who: int | str, act: Act, *, text: str | None = None, chat: int | None = None) -> Verdict:
        """Weigh an act and forget it."""
        verdict = super().look(who, act, text=text, chat=chat)
        self.pardon(who)
        return verdict


def simulate(seed: int, guarded_by: type[Antifraud] = Antifraud) -> dict[str, Any]:
    """Let the antifraud judge everything that happens."""
    clock = [START]
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.duckdb") as ledger:
        guard = guarded_by(ledger, "on", _no_ban, clock=lambda: clock[0])
        guard._known = set(range(1, PEOPLE + 1, 2))  # half of the ordinary people were here before
        kinds: dict[int, str] = {}
        stopped: dict[int, tuple[str, int]] = {}
        slowed: set[int] = set()
        counts: dict[int, int] = {}
        for move in moves(seed):
            clock[0] = move.at
            kinds[move.who] = move.kind
            counts[move.who] = counts.get(move.who, 0) + 1
            verdict = guard.look(move.who, move.act, text=move.text or None)
            if verdict.step == "stop" and move.who not in stopped:
                stopped[move.who] = (verdict.sign, counts[move.who])
            elif verdict.step == "slow":
                slowed.add(move.who)
        ringed = {who for who in kinds if (trace := guard._people._traces.get(who)) is not None and trace.ring}
    honest = [who for who, kind in kinds.items() if kind == "honest"]
    recall, acts = {}, {}
    for attack in ATTACKS:
        own = [who for who, kind in kinds.items() if kind == attack]
        caught = [who for who in own if who in stopped or (attack == "ring" and who in ringed)]
        recall[attack] = len(caught) / len(own)
        before = [stopped[who][1] for who in own if who in stopped]
        acts[attack] = float(np.median(before)) if before else None
    false = sorted(who for who in honest if who in stopped)
    return {
        "seed": seed,
        "honest": len(honest),
        "acts": sum(counts.values()),
        "false_stops": len(false),
        "false_stop_share": len(false) / len(honest),
        "false_signs": sorted(stopped[who][0] for who in false),
        "honest_slowed_share": sum(who in slowed for who in honest) / len(honest),
        "recall": recall,
        "stopped_after_acts": acts,
        "ring_of_honest": len(ringed & set(honest)),
    }


async def _no_ban(*_: object, **__: object) -> None:
    return None


def look_us() -> float:
    """Return microseconds of processor time of one look, over ordinary questions of many people."""
    rng = random.Random(SEED)
    texts = [questions(rng) for _ in range(2000)]
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.duckdb") as ledger:
        guard = Antifraud(ledger, "on", _no_ban)
        began = process_time()
        for number in range(20_000):
            guard.look(number % 3000, "question", text=texts[number % 2000])
        return (process_time() - began) / 20_000 * 1e6


# The wait of honest people


async def waits(folder: Path) -> dict[str, Any]:
    """Ask at an even pace through the real chain, alone and beside each attack; return p95 and its growth."""
    config = Config(
        data_dir=folder / "data", weights_dir=ROOT / "weights", antifraud="on", remembered_answers=0, _env_file=None
    )
    async with open_app(config) as app:
        with sample.export() as path:
            async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                pass
        bot = Bot("1000001:benchmark")
        bot._me = User(
            id=1000001, is_bot=True, first_name="PostFinder", username="postfinder_bot"
        )  # there is no Telegram
        dispatcher = create_dispatcher(app.verbs, _Silent(bot, Pacer(Pace())), _no_dialogue)
        asked = sample.questions() or ["Чем покрыть разделочную доску?"]
        found: dict[str, Any] = {}
        numbers = itertools.count(1)
        await honest(dispatcher, bot, asked, numbers)  # warm
        for attack in ATTACKS:
            alone: list[float] = []
            beside: list[float] = []
            opening: list[float] = []
            sent = 0
            for turn in range(ROUNDS):
                for is_attacked in (False, True) if turn % 2 == 0 else (True, False):
                    if not is_attacked:
                        alone += await honest(dispatcher, bot, asked, numbers)
                        continue
                    stop = asyncio.Event()
                    attacking = asyncio.create_task(attack_live(attack, turn, dispatcher, bot, numbers, stop))
                    times = await honest(dispatcher, bot, asked, numbers)
                    stop.set()
                    sent += await attacking
                    beside += times
                    opening += times[:OPENING]
            alone_ms, beside_ms, opening_ms = (float(np.percentile(times, 95)) for times in (alone, beside, opening))
            found[attack] = {
                "alone_p95_ms": alone_ms,
                "p95_ms": beside_ms,
                "growth": beside_ms / alone_ms - 1,
                "opening_p95_ms": opening_ms,
                "attack_updates": sent,
            }
        await bot.session.close()
        return {"by_attack": found, "most_growth": max(one["growth"] for one in found.values())}


async def honest(dispatcher: Any, bot: Bot, asked: list[str], numbers: Iterator[int]) -> list[float]:
    """Return how long each honest person waits for the answer, in ms, as asked; each asks once and differs."""

    async def one(number: int) -> float:
        began = perf_counter()
        await dispatcher.feed_update(bot, update(next(numbers), 500_000 + next(numbers), asked[number % len(asked)]))
        return (perf_counter() - began) * 1e3

    tasks = []
    for number in range(HONEST_ASKS):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(HONEST_GAP_S)
    return await asyncio.gather(*tasks)


async def attack_live(
    kind: str, turn: int, dispatcher: Any, bot: Bot, numbers: Iterator[int], stop: asyncio.Event
) -> int:
    """Send an attack's messages, quickened to the measurement's seconds, until told to stop; each turn by others.

    Everybody in it sends on their own, each message when the one before was answered or dropped, as a chat's are.
    """
    rng = random.Random(SEED)
    makers = {"flood": flood, "duplicates": duplicates, "spam": spam, "ring": ring, "drip": drip}
    texts = [move.text for move in itertools.islice(makers[kind](0, rng), 2000)]
    people = {"flood": 3, "duplicates": 3, "spam": 3, "ring": 15, "drip": 3}[kind]
    gap_s = {"flood": 0.02, "duplicates": 0.1, "spam": 0.1, "ring": 0.05, "drip": 0.1}[kind] * people
    base = 900_000_000 + ATTACKS.index(kind) * 1000 + turn * 100

    async def one(place: int) -> int:
        await asyncio.sleep(gap_s * place / people)
        sent = 0
        while not stop.is_set():
            text = texts[(place + sent * people) % len(texts)]
            await dispatcher.feed_update(bot, update(next(numbers), base + place, text))
            sent += 1
            await asyncio.sleep(gap_s)
        return sent

    return sum(await asyncio.gather(*map(one, range(people))))


def update(number: int, who: int, text: str) -> Update:
    """Make a private message's update."""
    user = {"id": who, "is_bot": False, "first_name": "Кто-то", "language_code": "ru"}
    chat = {"id": who, "type": "private", "first_name": "Кто-то"}
    message = {"message_id": number, "date": int(START), "chat": chat, "from": user, "text": text}
    return Update.model_validate({"update_id": number, "message": message})


class _Silent(Courtesies):
    """Offers nothing: there is no Telegram."""

    def offer(self, method: Any, *, counts: bool = False, within_s: float = 0.0) -> bool:
        """Drop the call."""
        return False


async def _no_dialogue(chat_id: int, message_id: int) -> str | None:
    return None
