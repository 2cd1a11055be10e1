"""Start an appliance, put load on it, keep HTML, CSV and figures, and tell by the exit code.

First links at a fixed rate (``LOAD_LINKS_RATE``, 100 a second, for ``LOAD_LINKS_TIME``, 20s; 0s for none), then people
of both doors by Locust for ``LOAD_TIME`` (60s; see the locustfile). The half hour on a quiet machine, then people to
saturation, is ``make load LOAD_CORPUS=exports LOAD_LINKS_RATE=300 LOAD_LINKS_TIME=30m LOAD_STAGES=8,32,96``. People
alone, as many as a community of thousands has, are
``make load LOAD_CORPUS=exports LOAD_LINKS_TIME=0s LOAD_USERS=8 LOAD_RATE=1 LOAD_TIME=3m``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import numpy as np
import orjson

from benchmarks import results
from benchmarks.ask import EXPORTS
from benchmarks.results import RESULTS, ROOT, SHARED

HERE = Path(__file__).parent
START_S = 900.0
LOOK_EVERY_S = 2.0
SETTLED = 0.2  # share of the time after which memory is expected to have settled
LONG_S = 600.0  # from so long a run on, memory must not grow
GROWTH = 0.05
LINKS_P95_MS = float(os.environ.get("LOAD_LINKS_P95_MS", "50"))
ANSWERS = "complete"


def main() -> int:
    """Run the load; settings are read from the environment (see the module and the locustfile)."""
    if not SHARED.exists():
        raise SystemExit(f"The load reads {SHARED}, which is absent: put the data folder beside the checkout.")
    kept = RESULTS / "load"
    kept.mkdir(parents=True, exist_ok=True)
    links_s = seconds(os.environ.get("LOAD_LINKS_TIME", "20s"))
    locust_s = seconds(os.environ.get("LOAD_TIME", "60s"))
    rate = float(os.environ.get("LOAD_LINKS_RATE", "100"))
    with tempfile.TemporaryDirectory() as folder, bot_api() as api, serving(Path(folder), api) as (url, server):
        memory = Memory(server.pid)
        links = lean(url, rate, links_s) if links_s else {}
        settled = memory.growth() if links_s else 0.0
        code = locust(url, api, locust_s, kept) if locust_s else 0
        settle(api)
        after = figures(Path(folder) / "data")
        memory.stop()
        died = server.poll() is not None
    if died:
        raise SystemExit("The appliance ended before the load did.")
    people = told(kept / "load_stats.csv") if locust_s else {}
    answered = people.get(ANSWERS, {}).get("n", 0)
    result = {
        "corpus": os.environ.get("LOAD_CORPUS", "sample"),
        "links": links,
        "people": people,
        "answers_per_s": people.get(ANSWERS, {}).get("per_s", 0.0),
        "server": after["stages_ms"],
        "memory_mb": {"first": memory.at[0], "most": max(memory.at), "last": memory.at[-1], "links_growth": settled},
        "answers_without_a_row": max(0, answered - after["questions"]),
        "journal_left": after["journal_left"],
    }
    results.keep("load" if links_s else "load-people", result, options())
    missed = misses(result, links_s) + (["Locust: see MISS above"] if code else [])
    for line in missed:
        print(f"MISS {line}")
    print(orjson.dumps({key: result[key] for key in ("links", "memory_mb")}).decode())
    return 1 if missed else 0


def options() -> str:
    """Name the settings that were given, as they are typed."""
    return "".join(f" {name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("LOAD_"))


def misses(result: dict[str, Any], links_s: float) -> list[str]:
    """Name the targets that were missed."""
    found = []
    links = result["links"]
    if links:
        if links["failed"] or links["answered"] + links["shed"] < links["asked"]:
            found.append(f"links: {links['failed']} failed of {links['asked']}")
        if links["answered"] < 0.99 * links["asked"]:
            found.append(f"links: {links['shed']} of {links['asked']} were asked to come back")
        if links["p95_ms"] > LINKS_P95_MS:
            found.append(f"links: p95 {links['p95_ms']:.0f} ms, at most {LINKS_P95_MS:.0f}")
    if links_s >= LONG_S and result["memory_mb"]["links_growth"] > GROWTH:
        found.append(f"memory grew by {result['memory_mb']['links_growth']:.1%}, at most {GROWTH:.0%}")
    if result["answers_without_a_row"]:
        found.append(f"{result['answers_without_a_row']} answers have no row in the ledger")
    if result["journal_left"]:
        found.append(f"{result['journal_left']} updates or messages are left in the journal")
    return found


class Memory:
    """Resident memory of a process, looked at every two seconds, MB."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self._over = threading.Event()
        self.at = [self._now()]
        threading.Thread(target=self._watch, daemon=True).start()

    def _now(self) -> float:
        return int(self._path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            try:
                self.at.append(self._now())
            except (OSError, IndexError):
                return

    def growth(self) -> float:
        """Share by which memory grew after it had settled."""
        start = int(len(self.at) * SETTLED)
        part = max(1, len(self.at) // 10)
        return float(np.mean(self.at[-part:]) / np.mean(self.at[start : start + part]) - 1)

    def stop(self) -> None:
        """Look no more."""
        self._over.set()


def seconds(text: str) -> float:
    """Read ``90``, ``90s``, ``30m`` or ``1h``."""
    found = re.fullmatch(r"([\d.]+)([smh]?)", text)
    if found is None:
        raise SystemExit(f"{text} is not a time: write it as 90s, 30m or 1h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


@contextmanager
def bot_api() -> Iterator[str]:
    """Run the loopback Bot API in a thread; yields its address, or nothing where the checkout has no tests."""
    if not (ROOT / "tests" / "servers").is_dir() or os.environ.get("LOAD_TELEGRAM") == "0":
        yield ""
        return
    sys.path.insert(0, str(ROOT))
    server = import_module("tests.servers.botapi").BotApi()
    loop, ready = asyncio.new_event_loop(), threading.Event()

    def run() -> None:
        loop.run_until_complete(server.start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(server.stop())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server.url
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@contextmanager
def serving(folder: Path, api: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run an appliance with posts in it; yields its address and process."""
    settings = {
        **os.environ,
        "POSTFINDER_DATA_DIR": str(folder / "data"),
        "POSTFINDER_WEIGHTS_DIR": str(ROOT / "weights"),
        "POSTFINDER_PORT": "0",
        "TELEGRAM_BOT_TOKEN": token_of(api),
        "POSTFINDER_TELEGRAM_API": api,
    }
    command = Path(sys.executable).parent / "postfinder"
    is_sample = os.environ.get("LOAD_CORPUS", "sample") == "sample"
    for name in () if is_sample else EXPORTS:
        export = SHARED / "telegram-export" / name
        subprocess.run([command, "import", export, "--username", name], env=settings, cwd=folder, check=True)
    with subprocess.Popen(
        [command, "serve", *(["--demo"] if is_sample else [])],
        env=settings,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        late = threading.Timer(START_S, server.kill)
        late.start()
        try:
            url = address(server)
            late.cancel()
            yield url, server
        finally:
            late.cancel()
            server.send_signal(signal.SIGTERM)


def token_of(api: str) -> str:
    """Return the token that the loopback Bot API knows; empty without it."""
    return str(import_module("tests.servers.botapi").DEFAULT_TOKEN) if api else ""


def address(server: subprocess.Popen[str]) -> str:
    """Return the page's address from the server's words; the rest of them is read and dropped."""
    lines = server.stdout
    if lines is None:
        raise SystemExit("The appliance has no output.")
    for line in lines:
        if found := re.search(r"(http://\S+?)\s+the page is open", re.sub(r"\x1b\[[0-9;]*m", "", line)):
            threading.Thread(target=dropped, args=(lines,), daemon=True).start()
            return found.group(1)
    raise SystemExit("The appliance did not start; `postfinder serve` says why.")


def dropped(lines: Any) -> None:
    """Read lines to their end and keep none."""
    for _ in lines:
        pass


def lean(url: str, rate: float, lasting_s: float) -> dict[str, Any]:
    """Ask for links at a rate from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load.links", url, str(rate), str(lasting_s)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"links: {found['per_s']:.0f}/s, p95 {found['p95_ms']:.1f} ms, {found['recalled']} of them recalled")
    return found


def locust(url: str, api: str, lasting_s: float, kept: Path) -> int:
    """Run Locust; returns its exit code."""
    stages = os.environ.get("LOAD_STAGES", "")
    users = [] if stages else ["--users", os.environ.get("LOAD_USERS", "8"), "--spawn-rate", "8"]
    return subprocess.run(
        [
            *(Path(sys.executable).parent / "locust", "-f", HERE / "locustfile.py", "--headless", "--only-summary"),
            *("--host", url, *users, "--run-time", f"{lasting_s:.0f}s", "--stop-timeout", "10"),
            *("--processes", os.environ.get("LOAD_WORKERS", "2")),
            *("--html", kept / "load.html", "--csv", kept / "load"),
        ],
        cwd=ROOT,
        env={**os.environ, "LOAD_BOT_API": api, "LOAD_SECONDS": str(lasting_s), "PYTHONPATH": str(ROOT)},
        check=False,
    ).returncode


def settle(api: str) -> None:
    """Let the bot send what it still owes."""
    if api:
        sleep(3.0)


def figures(data: Path) -> dict[str, Any]:
    """Read the appliance's own figures: stages of its questions, how many there are, what the journal still holds."""
    serving_now = orjson.loads((data / "serving.json").read_bytes())
    base, headers = serving_now["url"], {"Authorization": f"Bearer {serving_now['token']}"}
    with httpx.Client(base_url=base, headers=headers, timeout=60) as client:
        stats = client.get("/stats").json()
        text = client.get("/metrics").text
    left = re.findall(r'postfinder_journal\{state="(?:inbox_pending|outbox_queued|outbox_sending)"\} (\S+)', text)
    return {
        "stages_ms": stats["stages_ms"],
        "questions": stats["questions"]["total"],
        "journal_left": int(sum(map(float, left))),
    }


def told(path: Path) -> dict[str, dict[str, float]]:
    """Read Locust's figures by name."""
    import csv

    with path.open(encoding="utf-8") as file:
        return {
            row["Name"]: {
                "n": int(row["Request Count"]),
                "per_s": float(row["Requests/s"]),
                **{f"p{share}_ms": float(row[f"{share}%"]) for share in (50, 95, 99)},
            }
            for row in csv.DictReader(file)
            if row["Type"] == "part"
        }


if __name__ == "__main__":
    sys.exit(main())
