"""People at POST /ask and in Telegram: links, first piece, complete and remembered apart, each line timed as it comes.

Settings, from the environment: ``LOAD_RATE`` questions a second of each user (0: the next when the last is answered),
``LOAD_STAGES`` numbers of users, one after another (``8,32,128``) over ``LOAD_TIME``, ``LOAD_TELEGRAM`` of ten users
ask in Telegram, ``LOAD_BOT_API`` address of the loopback Bot API, ``LOAD_REPEATS`` share of questions drawn from the
popular ones, ``LOAD_ANSWER_LINKS_P95_MS``, ``LOAD_SHED_P95_MS``, ``LOAD_REMEMBERED_P99_MS``, ``LOAD_TELEGRAM_P95_MS``
targets that the exit code tells of, ``LOAD_SEED``.
"""

from __future__ import annotations

import json
import os
import random
from itertools import count
from time import perf_counter
from typing import Any

import gevent
from locust import HttpUser, LoadTestShape, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

from benchmarks.load.questions import chooser

RATE = float(os.environ.get("LOAD_RATE", "0"))
STAGES = [int(users) for users in os.environ.get("LOAD_STAGES", "").split(",") if users]
SECONDS = float(os.environ.get("LOAD_SECONDS", "60"))
BOT_API = os.environ.get("LOAD_BOT_API", "")
TELEGRAM = int(os.environ.get("LOAD_TELEGRAM", "2")) if BOT_API else 0
LOOK_EVERY_S = 0.03
PATIENCE_S = 30.0
TARGETS = {  # of each event: percentile, milliseconds
    "links": (0.95, float(os.environ.get("LOAD_ANSWER_LINKS_P95_MS", "250"))),
    "shed": (0.95, float(os.environ.get("LOAD_SHED_P95_MS", "100"))),
    "remembered": (0.99, float(os.environ.get("LOAD_REMEMBERED_P99_MS", "250"))),
    "telegram answer": (0.95, float(os.environ.get("LOAD_TELEGRAM_P95_MS", "2000"))),
}
SEED = int(os.environ["LOAD_SEED"]) if "LOAD_SEED" in os.environ else None

choose = chooser(SEED)
chance = random.Random(SEED)
people = count(1)


class Timed(HttpUser):  # type: ignore[misc]
    """One who asks, reads the answer to its end, and asks again."""

    abstract = True

    def wait_time(self) -> float:
        """Seconds between questions: none in the closed loop, at random in the open one."""
        return chance.expovariate(RATE) if RATE else 0.0

    def tell(self, what: str, started: float, kind: str = "part") -> None:
        """Report a time as an event of its own."""
        took = (perf_counter() - started) * 1000
        self.environment.events.request.fire(
            request_type=kind, name=what, response_time=took, response_length=0, exception=None, context={}
        )


class Visitor(Timed):
    """Asks on the page, over server-sent events."""

    weight = 10 - TELEGRAM

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """Ask one question."""
        started = perf_counter()
        with self.client.post(
            "/ask",
            json={"question": choose()},
            headers={"Accept": "text/event-stream"},
            stream=True,
            catch_response=True,
            timeout=60,
            name="POST /ask",
        ) as response:
            if response.status_code == 429:
                if not response.headers.get("Retry-After"):
                    response.failure("429 without Retry-After")
                    return
                response.success()
                self.tell("shed", started)
                return
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            self.read(response, started)

    def read(self, response: Any, started: float) -> None:
        """Time each part as its line arrives."""
        name, seen = "", set()
        for raw in response.iter_lines():
            line = raw.decode() if isinstance(raw, bytes) else raw
            if line.startswith("event:"):
                name = line[6:].strip()
                if name in {"links", "piece"} and name not in seen:
                    self.tell("first piece" if name == "piece" else name, started)
                seen.add(name)
            elif line.startswith("data:") and name == "final":
                self.tell("complete", started)
                if "remembered" in json.loads(line[5:])["times_ms"]:
                    self.tell("remembered", started)
        if "final" not in seen:
            response.failure("the answer did not end")


class Member(Timed):
    """Asks the bot in a private chat on the loopback Bot API, at Telegram's pace, and waits for its message."""

    weight = TELEGRAM

    def wait_time(self) -> float:
        """Seconds between questions: Telegram lets a bot write to a chat about once a second."""
        return chance.expovariate(RATE) if RATE else chance.uniform(1.0, 2.0)

    def on_start(self) -> None:
        """Come into being and greet the bot."""
        self.me = 10_000_000 + os.getpid() * 10_000 % 900_000_000 + next(people)
        self.control("add_user", user_id=self.me, first_name="Гость")
        self.known = 0
        self.say("/start")

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """Ask one question."""
        started = perf_counter()
        if self.say(choose()):
            self.tell("telegram answer", started)
        else:
            error = TimeoutError(f"no message within {PATIENCE_S:.0f} s")
            self.environment.events.request.fire(
                request_type="telegram",
                name="question",
                response_time=PATIENCE_S * 1000,
                response_length=0,
                exception=error,
                context={},
            )

    def say(self, text: str) -> bool:
        """Write to the bot; returns whether it wrote back."""
        self.control("say", user_id=self.me, text=text)
        end = perf_counter() + PATIENCE_S
        while perf_counter() < end:
            gevent.sleep(LOOK_EVERY_S)
            seen = self.control("transcript", chat_id=self.me)
            written = sum(message["from"]["is_bot"] for message in seen)
            if written > self.known:
                self.known = written
                return True
        return False

    def control(self, verb: str, **given: Any) -> Any:
        """Act through the loopback Bot API."""
        with self.client.post(
            f"{BOT_API}/_control/{verb}", json=given, name=f"(Bot API) {verb}", catch_response=True
        ) as reply:
            reply.success()
            return reply.json()["result"]


if not TELEGRAM:
    del Member

if STAGES:

    class Stages(LoadTestShape):  # type: ignore[misc]
        """More and more users, each number for an equal part of the time."""

        def tick(self) -> tuple[int, float] | None:
            """Return the users wanted now and how many of them may come in a second."""
            stage = int(self.get_run_time() / SECONDS * len(STAGES))
            return (STAGES[stage], 50.0) if stage < len(STAGES) else None


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit code: 1 for a failed request, no answer at all, or a missed target."""
    if isinstance(environment.runner, WorkerRunner):
        return
    stats, missed = environment.stats, []
    if stats.total.num_failures:
        missed.append(f"{stats.total.num_failures} requests failed")
    if ("links", "part") not in stats.entries:
        missed.append("no question was answered")
    if TELEGRAM and ("telegram answer", "part") not in stats.entries:
        missed.append("nobody was answered in Telegram")
    for name, (share, at_most) in TARGETS.items():
        entry = stats.entries.get((name, "part"))
        took = entry.get_response_time_percentile(share) if entry else 0
        if took > at_most:
            missed.append(f"{name} p{share * 100:.0f} {took:.0f} ms, at most {at_most:.0f}")
    for line in missed:
        print(f"MISS {line}")
    environment.process_exit_code = 1 if missed else 0
