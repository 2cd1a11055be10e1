"""People at POST /ask, their answers read line by line: links, first piece, complete and remembered apart.

Settings, from the environment: ``LOAD_RATE`` questions a second of each user (0: the next when the last is answered),
``LOAD_REPEATS`` share of questions drawn from the popular ones, ``LOAD_LINKS_P95_MS``, ``LOAD_SHED_P95_MS`` and
``LOAD_REMEMBERED_P99_MS`` targets that the exit code tells of, ``LOAD_SEED``.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from time import perf_counter
from typing import Any

from locust import HttpUser, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
SETS = ("questions-open/miracl_ru_train.jsonl", "questions-open/rubq_dev.jsonl", "telegram-search/queries.jsonl")
POPULAR = 100
RATE = float(os.environ.get("LOAD_RATE", "0"))
REPEATS = float(os.environ.get("LOAD_REPEATS", "0.5"))
TARGETS = {  # of each event: percentile, milliseconds
    "links": (0.95, float(os.environ.get("LOAD_LINKS_P95_MS", "50"))),
    "shed": (0.95, float(os.environ.get("LOAD_SHED_P95_MS", "50"))),
    "remembered": (0.99, float(os.environ.get("LOAD_REMEMBERED_P99_MS", "50"))),
}


def questions() -> tuple[list[str], list[str]]:
    """Return the popular questions, most popular first, and all others."""
    lines = [line for name in SETS for line in (SHARED / name).read_text(encoding="utf-8").splitlines() if line]
    texts = sorted({json.loads(line)["text"] for line in lines})
    random.Random(7).shuffle(texts)
    return texts[:POPULAR], texts[POPULAR:]


HEAD, TAIL = questions()
ZIPF = [1 / rank for rank in range(1, len(HEAD) + 1)]
chance = random.Random(int(os.environ["LOAD_SEED"]) if "LOAD_SEED" in os.environ else None)


class Visitor(HttpUser):  # type: ignore[misc]
    """One who asks, reads the answer to its end, and asks again."""

    def wait_time(self) -> float:
        """Seconds between questions: none in the closed loop, at random in the open one."""
        return chance.expovariate(RATE) if RATE else 0.0

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """Ask one question over server-sent events."""
        text = chance.choices(HEAD, ZIPF)[0] if chance.random() < REPEATS else chance.choice(TAIL)
        started = perf_counter()
        with self.client.post(
            "/ask",
            json={"question": text},
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

    def tell(self, what: str, started: float) -> None:
        """Report a time as an event of its own."""
        took = (perf_counter() - started) * 1000
        self.environment.events.request.fire(
            request_type="part", name=what, response_time=took, response_length=0, exception=None, context={}
        )


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
    for name, (share, at_most) in TARGETS.items():
        entry = stats.entries.get((name, "part"))
        took = entry.get_response_time_percentile(share) if entry else 0
        if took > at_most:
            missed.append(f"{name} p{share * 100:.0f} {took:.0f} ms, at most {at_most:.0f}")
    for line in missed:
        print(f"MISS {line}")
    environment.process_exit_code = 1 if missed else 0
