"""Suite `faults-kill`: the whole service killed under load at random instants; what it acknowledged is there, once.

People ask in Telegram and press buttons, visitors ask and rate over HTTP, exports are imported, backups are made, all
the time: while the service starts, while it heals and while it works; at any moment, or just after an answer, a rating
or an import was acknowledged. After every few kills one start is left to finish what waits, is stopped in order, and
the stores are opened and compared with what was acknowledged. A few such data folders are lived in side by side. The
control says "stored" before it stores, and must lose something.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import numpy as np
import orjson

from appliance.config import SERVING_FILE
from appliance.index import Index
from appliance.journal import Journal
from appliance.ledger import Ledger
from appliance.vault import Vault
from benchmarks.faults.forks import Forks, is_alive, kill
from benchmarks.faults.service import config_of
from models.load import load_embedder
from tests.servers.botapi import BotApi
from tests.servers.botapi_limits import Limits

ROUNDS = 500
A_LIFE = 25  # kills of one data folder before it is looked at
AT_ONCE = 4  # data folders side by side: while one waits, the others work
CONTROL = 8  # kills of the control
CHANNEL = 1_500_000_001
WORK_S = 1.2  # longest under load, where a kill is timed; as long as a start takes on a slower machine
MOMENTS = ("while starting", "under load", "after an answer", "after a rating", "after an import")
MOMENT_WEIGHTS = (30, 35, 10, 10, 15)
PATIENCE_S = 8.0  # longest under load, where a kill waits for something to be acknowledged
JUST_AFTER_S = 0.1
LOOK_S = 0.005
READY_S = 120.0
WAITING = r'^postfinder_journal{state="(?:inbox_pending|outbox_queued|outbox_sending)"} (\S+)$'
STUCK_S = 120.0  # without anything done of what waits
WORDS = "лак масло доска клей рубанок гончарный круг глина печь расписание ключ сундук батарейки абонемент".split()


def run(rounds: int = ROUNDS, seed: int = 1, minutes: float = inf) -> dict[str, Any]:
    """Kill so many times, or until the time is up; see the module."""
    return asyncio.run(_run(rounds, seed, minutes))


async def _run(rounds: int, seed: int, minutes: float) -> dict[str, Any]:
    began = monotonic()
    found, starts = await lives(rounds, seed, "careful", until=began + minutes * 60)
    took_s = monotonic() - began
    control, _ = await lives(CONTROL, seed, "hasty")
    done = sum(found["kills"].values())
    return {
        "rounds": done,
        "seed": seed,
        "took_s": took_s,
        "rounds_per_minute": done / took_s * 60,
        "start_p50_s": float(np.median(starts)) if starts else 0.0,
        **found,
        "control_lost": control["lost_in_all"] - control["lost"]["waiting"] - control["lost"]["quarantined"],
    }


async def lives(rounds: int, seed: int, kind: str, *, until: float = inf) -> tuple[dict[str, Any], list[float]]:
    """Kill services of a kind; return the sums over all data folders, and how long starts took."""
    totals: dict[str, Counter[str]] = {name: Counter() for name in ("acknowledged", "lost", "twice", "kills")}
    plain: Counter[str] = Counter(unopenable=0, maybe_twice=0)
    starts: list[float] = []
    folders = iter(list(enumerate(range(0, rounds, A_LIFE))))

    async def live(forks: Forks) -> None:
        for number, first in folders:
            if monotonic() > until:
                break
            with tempfile.TemporaryDirectory(prefix="postfinder-kill-") as folder:
                async with BotApi(limits=Limits(speed=1000), seed=seed) as server:
                    life = Life(server, forks, Path(folder) / "data", random.Random(f"{seed} {number}"), kind)
                    report = await life.run(min(A_LIFE, rounds - first))
            for name, counter in totals.items():
                counter.update(report[name])
            plain.update({name: report[name] for name in plain})
            starts.extend(life.starts)
            print(f"{totals['kills'].total():5} {kind}: {report}", file=sys.stderr, flush=True)

    with Forks("benchmarks.faults.service") as forks:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(live(forks))
    in_all = {f"{name}_in_all": totals[name].total() for name in ("lost", "twice")}
    return {**{name: dict(counter) for name, counter in totals.items()}, **in_all, **plain}, starts


@dataclass
class Life:
    """A data folder, those who use it, and what was acknowledged to them."""

    server: BotApi
    forks: Forks
    data: Path
    chance: random.Random
    kind: str
    people: list[int] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)  # questions in Telegram, and who asked
    asked: dict[str, str] = field(default_factory=dict)  # question ids answered over HTTP, and their texts
    votes: dict[tuple[str, int], list[str]] = field(default_factory=dict)  # by question and Telegram id; 0: a visitor
    surely: dict[tuple[str, int], int] = field(default_factory=dict)  # how many of those votes were acknowledged
    versions: dict[int, int] = field(default_factory=dict)  # newest version of a post sent
    stored: dict[int, int] = field(default_factory=dict)  # newest version acknowledged
    imports: int = 0  # acknowledged
    kills: Counter[str] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)
    unopenable: int = 0
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def run(self, kills: int) -> dict[str, Any]:
        """Live through so many kills, then one whole life; return what was acknowledged, lost and there twice."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(kills):
            await self.round()
        pid = await self.forks.start(str(self.data), self.server.url, self.kind)
        if (serving := await self.ready(pid)) is None:
            self.unopenable += 1
        else:
            await self.drained(serving["url"])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        await kill(pid, patience_s=60.0)
        return await asyncio.to_thread(self.compare)

    async def round(self) -> None:
        """Start, load, kill."""
        for _ in range(2):
            self.people.append(person := 10_000 + next(self._ids))
            self.server.add_user(person, f"Сосед {person}")
        pid = await self.forks.start(str(self.data), self.server.url, self.kind)
        moment = self.chance.choices(MOMENTS, MOMENT_WEIGHTS)[0]
        telegram = asyncio.create_task(self.in_telegram())
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            if moment == "while starting":
                usual = float(np.median(self.starts)) if self.starts else 3.0
                await asyncio.sleep(self.chance.random() * usual)
                tasks: list[asyncio.Task[None]] = [telegram]
            else:
                tasks = [telegram]
                began = monotonic()
                if (serving := await self.ready(pid)) is None:
                    self.unopenable += 1
                else:
                    self.starts.append(monotonic() - began)
                    client.base_url = serving["url"]
                    admin = {"Authorization": f"Bearer {serving['token']}"}
                    work = [self.at_the_page(client), self.at_the_page(client), self.importing(client, admin)]
                    if self.chance.random() < 0.1:
                        work.append(self.backing_up(client, admin))
                    tasks += [asyncio.create_task(_until_cut(one)) for one in work]
                    if moment == "under load":
                        await asyncio.sleep(self.chance.random() * max(WORK_S, float(np.median(self.starts))))
                    else:
                        await self.acknowledged(moment)
            self.kills[moment] += 1
            await kill(pid)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def ready(self, pid: int) -> dict[str, Any] | None:
        """Wait until the service serves; None when it ended by itself."""
        deadline = monotonic() + READY_S
        while monotonic() < deadline:
            with suppress(OSError, orjson.JSONDecodeError):
                serving = orjson.loads((self.data / SERVING_FILE).read_bytes())
                if serving["pid"] == pid:
                    return dict(serving)
            if not is_alive(pid):
                return None
            await asyncio.sleep(0.02)
        return None

    async def acknowledged(self, moment: str) -> None:
        """Wait until one or more of a kind were acknowledged, and for a moment."""

        def count() -> int:
            match moment:
                case "after an answer":
                    return len(self.asked)
                case "after a rating":
                    return sum(self.surely.values())
            return self.imports

        enough = count() + self.chance.choice((1, 1, 2, 3))
        for _ in range(int(PATIENCE_S / LOOK_S)):
            if count() >= enough:
                break
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(self.chance.random() * JUST_AFTER_S)

    # -- those who use it ---------------------------------------------------------------------------------------------

    def question(self) -> str:
        """Make a question nobody asked before."""
        return f"Вопрос {next(self._ids)}: где {self.chance.choice(WORDS)} и {self.chance.choice(WORDS)}?"

    async def in_telegram(self) -> None:
        """Ask in private chats and press buttons, be the service alive or not: Telegram keeps what is not taken."""
        newcomers = self.people[-2:]
        for number in range(8):
            if number < 4:
                self.said[text := self.question()] = person = newcomers[number % 2]
                self.server.say(person, text)
            person = self.chance.choice(self.people)
            rated = [message for message in self.server.from_bot(person) if message.get("reply_markup")]
            if rated:
                key = self.chance.choice(rated[-1]["reply_markup"]["inline_keyboard"][0])["callback_data"]
                if key.startswith("r:"):
                    _, vote, question = key.split(":")
                    self.server.press_data(person, rated[-1]["message_id"], key)
                    place = (question, person)
                    self.votes.setdefault(place, []).append({"u": "up", "d": "down"}[vote])
                    self.surely[place] = len(self.votes[place])  # taken in sooner or later, in this order
            await asyncio.sleep(self.chance.random() * 0.4)

    async def at_the_page(self, client: httpx.AsyncClient) -> None:
        """Ask and rate over HTTP."""
        while True:
            text = self.question()
            answer = await client.post("/ask", json={"question": text})
            if answer.status_code != 200:
                continue
            question = answer.json()["id"]
            self.asked[question] = text
            place = (question, 0)
            vote = self.chance.choice(("up", "down"))
            self.votes.setdefault(place, []).append(vote)
            if (await client.post(f"/answers/{question}/rating", json={"vote": vote})).status_code == 200:
                self.surely[place] = len(self.votes[place])

    async def importing(self, client: httpx.AsyncClient, admin: dict[str, str]) -> None:
        """Import exports of new and edited posts."""
        while True:
            numbers = [next(self._ids) for _ in range(self.chance.choice((1, 5, 12, 40)))]
            known = sorted(self.versions)
            numbers += self.chance.sample(known, min(3, len(known)))
            sent = {}
            for number in numbers:
                sent[number] = self.versions[number] = self.versions.get(number, -1) + 1
            path = self.data.with_name("result.json")
            path.write_text(json.dumps(export_of(sent), ensure_ascii=False), encoding="utf-8")
            async with client.stream("POST", "/admin/import", json={"path": str(path)}, headers=admin) as events:
                async for line in events.aiter_lines():
                    if line == "event: done":
                        self.stored |= sent
                        self.imports += 1

    async def backing_up(self, client: httpx.AsyncClient, admin: dict[str, str]) -> None:
        """Make a backup."""
        await client.post("/admin/backup", json={}, headers=admin)

    async def drained(self, url: str) -> None:
        """Wait until nothing waits at Telegram or in the journal, or nothing more is done of it."""
        least, deadline = inf, monotonic() + STUCK_S
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            while monotonic() < deadline:
                with suppress(httpx.HTTPError):  # a connection that was idle for long is closed
                    figures = re.findall(WAITING, (await client.get("/metrics")).text, re.MULTILINE)
                    waiting = len(self.server.pending()) + sum(map(float, figures))
                    if figures and not waiting:
                        return
                    if waiting < least:
                        least, deadline = waiting, monotonic() + STUCK_S
                await asyncio.sleep(0.5)

    # -- what became of it --------------------------------------------------------------------------------------------

    def compare(self) -> dict[str, Any]:
        """Open the stores and compare them with what was acknowledged."""
        lost: Counter[str] = Counter(dict.fromkeys(("telegram questions", "answers", "web questions", "posts"), 0))
        lost["ratings"] = lost["quarantined"] = lost["waiting"] = 0
        twice: Counter[str] = Counter(dict.fromkeys(("questions", "posts", "chunks", "answers beyond maybe twice"), 0))
        config = config_of(self.data)
        with ExitStack() as stack:
            vault = Vault.open(config.master_key(), self.data)
            stack.callback(vault.close)
            ledger = stack.enter_context(Ledger.open(self.data / "ledger.duckdb", vault))
            journal = stack.enter_context(Journal.open(self.data / "journal.sqlite", vault))
            info = load_embedder(config.embedder, weights_dir=config.weights_dir, threads=1).info
            index = Index.open(self.data / "index", embedder=info, vault=vault)
            stack.callback(index.close)
            rows = questions_in(ledger)
            ids = Counter(row.id for row in rows)
            texts = Counter(row.text for row in rows)
            users = {who: found.user_id for who in self.people if (found := ledger.people.find(f"telegram:{who}"))}
            votes = votes_in(ledger)
            posts = {key[1]: one.text for key, one in ledger.posts((CHANNEL, n) for n in self.versions).items()}
            counts, reasons = journal.counts(), [update.reason for update in journal.quarantined()]
            indexed = index.posts()
            chunk_ids = index._table.search().select(["id"]).limit(10**9).to_arrow()["id"].to_pylist()
            post_ids = ledger.post_ids(CHANNEL)
        lost["telegram questions"] = sum(texts[text] == 0 for text in self.said)
        lost["web questions"] = sum(ids[key] == 0 for key in self.asked)
        twice["questions"] = sum(max(0, n - 1) for n in (*ids.values(), *texts.values()))
        for (question, who), count in self.surely.items():
            kept = votes.get((question, users.get(who, 0)))
            lost["ratings"] += kept not in self.votes[question, who][count - 1 :]
        for number, version in self.stored.items():
            allowed = {text_of(number, v) for v in range(version, self.versions[number] + 1)}
            lost["posts"] += posts.get(number) not in allowed
        lost["posts"] += len(set(posts) ^ {key[1] for key in indexed})  # ledger and index disagree
        twice["posts"] = len(post_ids) - len(set(post_ids))
        twice["chunks"] = len(chunk_ids) - len(set(chunk_ids))
        answers, again = 0, []
        for person, asked in Counter(self.said.values()).items():
            got = [message["text"] for message in self.server.from_bot(person)]
            lost["answers"] += max(0, asked - len(got))
            answers += max(0, len(got) - asked)
            again += [text for text, count in Counter(got).items() if count > 1]
        twice["answers beyond maybe twice"] = max(0, answers - counts["maybe_twice"])
        lost["quarantined"] = counts["inbox_quarantined"]
        lost["waiting"] = counts["inbox_pending"] + counts["outbox_queued"] + counts["outbox_failed"]
        acknowledged = {
            "telegram questions": len(self.said),
            "web questions": len(self.asked),
            "posts": len(self.stored),
            "ratings": len(self.surely),
        }
        if self.unopenable or any((*lost.values(), *twice.values())):
            print(f"quarantined: {reasons}; sent again: {again}", file=sys.stderr)
            shutil.copyfile(f"{self.data}.log", Path(tempfile.gettempdir()) / f"postfinder-kill-{self.kind}.log")
        return {
            "acknowledged": acknowledged,
            "lost": dict(lost),
            "twice": dict(twice),
            "kills": dict(self.kills),
            "unopenable": self.unopenable,
            "maybe_twice": counts["maybe_twice"],
        }


def text_of(number: int, version: int) -> str:
    """Write a version of a post."""
    chance = random.Random(number * 1000 + version)
    return f"Пост {number}, версия {version}: {' '.join(chance.choices(WORDS, k=5 + number % 40))}"


def export_of(versions: dict[int, int]) -> dict[str, Any]:
    """Write an export of these versions of posts."""
    messages = []
    for number, version in versions.items():
        at = 1_700_000_000 + number
        edit = {"edited": "2024-01-01T00:00:00", "edited_unixtime": str(at + version)} if version else {}
        date = {"date": "2023-11-15T01:13:20", "date_unixtime": str(at)}
        messages.append({"id": number, "type": "message", **date, **edit, "text": text_of(number, version)})
    return {"name": "Мастерская", "type": "public_channel", "id": CHANNEL, "messages": messages}


def questions_in(ledger: Ledger) -> list[Any]:
    """Read all questions' rows."""
    from sqlalchemy import select

    from appliance.ledger.rows import QUESTION_COLUMNS

    return [ledger.questions.row_of(row) for row in ledger._read(select(*QUESTION_COLUMNS))]


def votes_in(ledger: Ledger) -> dict[tuple[str, int], str]:
    """Read all votes by question and user."""
    from sqlalchemy import select

    from appliance.ledger.tables import feedback

    columns = (feedback.c.question_id, feedback.c.user_id, feedback.c.vote)
    return {(row[0], row[1]): row[2] for row in ledger._read(select(*columns))}


async def _until_cut(work: Coroutine[Any, Any, None]) -> None:
    """Do work until the connection is gone."""
    with suppress(httpx.HTTPError):
        await work
