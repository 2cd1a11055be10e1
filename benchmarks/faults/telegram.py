"""Suite `faults-telegram`: updates by polling and by webhook, while the bot is killed and Telegram misbehaves.

Updates come out of order and more than once; calls meet 429s, 500s, cut connections and lost replies; the bot is killed
again and again. Every update must be answered. A message may go out twice only where a process died between sending
and marking it, or where the reply to the call was lost: the journal counts both. No call may come inside a
`retry_after`. The controls say yes before they journal, and must lose updates.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from appliance.journal import Journal
from benchmarks.faults.forks import Forks, kill
from tests.servers.botapi import BotApi
from tests.servers.botapi_limits import Fault, Limits

ROUNDS = 10_000
CONTROL = 300
PEOPLE = 200
REPEATED = 0.05
AT_ONCE = 8  # connections of the webhook
A_LIFE = 250  # updates to a kill
LIFE_S = 20.0  # longest of a process that sends too little
LOOK_S = 0.25
PATIENCE_S = 600.0


def run(rounds: int = ROUNDS, seed: int = 1) -> dict[str, Any]:
    """Send so many updates, half by polling and half by webhook; see the module."""
    return asyncio.run(_run(rounds, seed))


async def _run(rounds: int, seed: int) -> dict[str, Any]:
    began = monotonic()
    found = {
        "polling": await through(rounds - rounds // 2, seed, "careful"),
        "webhook": await through(rounds // 2, seed, "posted"),
    }
    took_s = monotonic() - began
    control = [await through(CONTROL, seed, kind, patience_s=8.0) for kind in ("hasty", "careless")]
    sums = {name: sum(one[name] for one in found.values()) for name in next(iter(found.values()))}
    return {
        "seed": seed,
        "took_s": took_s,
        **found,
        **sums,
        "maybe_twice_share": sums["maybe_twice"] / sums["updates"],
        "twice_share": sums["twice"] / sums["updates"],
        "control_lost": min(one["lost"] for one in control),
    }


async def through(updates: int, seed: int, kind: str, *, patience_s: float = PATIENCE_S) -> dict[str, int]:
    """Send updates to bots of a kind; return what became of them."""
    with tempfile.TemporaryDirectory(prefix="postfinder-telegram-") as folder, Forks("tests.servers.crash") as forks:
        async with BotApi(limits=Limits(speed=1000), seed=seed) as server:
            town = Town(server, random.Random(f"{seed} {kind}"), is_posted=kind in {"posted", "careless"})
            journal = Path(folder) / "journal.sqlite"
            found = await town.live(forks, str(journal), kind, updates, patience_s)
        with Journal.open(journal) as opened:
            counts = opened.counts()
    found["maybe_twice"] = counts["maybe_twice"]
    found["beyond"] = max(0, found["twice"] - found["maybe_twice"])
    found["lost"] += counts["inbox_quarantined"] + counts["outbox_failed"]
    print(f"{updates} {kind}: {found}", file=sys.stderr, flush=True)
    return found


@dataclass
class Town:
    """People who write, and a Telegram that misbehaves."""

    server: BotApi
    chance: random.Random
    is_posted: bool
    waiting: list[str] = field(default_factory=list)  # raw updates to be posted
    said: dict[str, int] = field(default_factory=dict)  # texts, and who wrote them
    taken: int = 0  # posted updates that the webhook said yes to

    async def live(self, forks: Forks, journal: str, kind: str, updates: int, patience_s: float) -> dict[str, int]:
        """Let people write so many messages while bots of a kind are killed; then let the last one finish."""
        for person in range(1, PEOPLE + 1):
            self.server.add_user(person, f"Сосед {person}")
        self.server.faults += [
            Fault("429", probability=0.01),
            Fault("500", probability=0.005),
            Fault("reset", probability=0.005, times=updates // 200),
            Fault("lost", probability=0.004, times=updates // 200),
        ]
        posting = [asyncio.create_task(self.post()) for _ in range(AT_ONCE * self.is_posted)]
        writing = asyncio.create_task(self.write(updates))
        kills = max(3, updates // A_LIFE)
        for _ in range(kills):
            pid = await forks.start(self.server.url, journal, kind)
            await self.sent(self.chance.randrange(2 * updates // (kills + 1)), LIFE_S)
            await asyncio.sleep(self.chance.random() * 0.05)
            await kill(pid)
        pid = await forks.start(self.server.url, journal, kind)
        await writing
        for _ in range(int(patience_s / LOOK_S)):
            await asyncio.sleep(LOOK_S)
            if not self.waiting and not self.unanswered():
                break
        await asyncio.sleep(0.5)  # what would be sent twice is sent
        await kill(pid)
        for task in posting:
            task.cancel()
        answers = Counter(message["text"] for who in self.server.users for message in self.server.from_bot(who))
        return {
            "updates": updates,
            "kills": kills,
            "refused": sum(status == 429 for _, _, _, status in self.server.calls),
            "lost": len(self.unanswered()),
            "twice": sum(n - 1 for n in answers.values()),
            "inside_retry_after": self.server.flood.violations,
        }

    async def sent(self, more: int, patience_s: float) -> None:
        """Wait until the bot has taken and sent so many more messages, or for some time."""
        enough = len(self.server.calls) + self.taken + more
        for _ in range(int(patience_s / 0.01)):
            await asyncio.sleep(0.01)
            if len(self.server.calls) + self.taken >= enough:
                break

    def unanswered(self) -> set[str]:
        """Texts that nobody answered."""
        return set(self.said) - {message["text"] for who in self.server.users for message in self.server.from_bot(who)}

    async def write(self, updates: int) -> None:
        """Write messages in bursts; some updates come again."""
        while len(self.said) < updates:
            for _ in range(min(updates - len(self.said), self.chance.choice((1, 5, 40, 150)))):
                text = f"вопрос {len(self.said)}"
                self.said[text] = person = self.chance.randrange(1, PEOPLE + 1)
                self.server.say(person, text)
                number = next(reversed(self.server._updates))
                raw = self.server._updates[number]
                if self.is_posted:
                    self.waiting.append(self.server._updates.pop(number))
                elif self.chance.random() < REPEATED:
                    asyncio.get_running_loop().call_later(0.3, self.server.push_raw, raw, number)
            await asyncio.sleep(self.chance.random() * 0.5)

    async def post(self) -> None:
        """Post waiting updates to the webhook, in any order, until they are taken; some once more."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client:
            while True:
                hook = self.server.webhook
                if not self.waiting or not hook:
                    await asyncio.sleep(0.02)
                    continue
                raw = self.waiting.pop(self.chance.randrange(len(self.waiting)))
                headers = {"X-Telegram-Bot-Api-Secret-Token": hook["secret_token"]}
                try:
                    async with client.post(hook["url"], data=raw.encode(), headers=headers) as response:
                        is_taken = response.status == 200
                except (aiohttp.ClientError, TimeoutError):
                    is_taken = False
                    await asyncio.sleep(0.02)
                self.taken += is_taken
                if not is_taken or self.chance.random() < REPEATED:
                    self.waiting.append(raw)
