"""Suite `faults-power`: the stores after power cuts; what was acknowledged is back, and nothing is wrong silently.

A process writes to all stores at once while a library loaded before the C library (`durable.c`) keeps each file as it
was when it was last forced to disk. At random instants the process is held and images are made of what a power cut
could leave: files that were not forced to disk dropped, empty, full of zeros, torn, with garbage, or with some pages
old and some new; names of folders that were not forced to disk there or not. Each image is opened and healed as a start
does it. The control never waits for the disk, and must lose something.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from structlog.testing import capture_logs

from benchmarks.faults.stores import CHANNEL, opened, post_of, update_of
from benchmarks.results import ROOT

ROUNDS = 300
IMAGES = 6  # of one instant
INSTANTS = 8  # of one process
CONTROL = 12
PAGE, SECTOR = 4096, 512
TORN = ("as forced", "as written", "empty", "zeros", "torn", "zeros after", "garbage after", "pages")


def run(rounds: int = ROUNDS, seed: int = 1) -> dict[str, Any]:
    """Make so many images; see the module."""
    if shutil.which("cc") is None:
        raise SystemExit("The suite compiles a small library: install a C compiler (cc).")
    with tempfile.TemporaryDirectory(prefix="postfinder-power-") as name:
        library = Path(name) / "durable.so"
        source = Path(__file__).with_name("durable.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
        began = monotonic()
        found = cuts(rounds, seed, "careful", library, Path(name))
        took_s = monotonic() - began
        control = cuts(CONTROL, seed, "forgetful", library, Path(name))
    wrong = control["lost"] + control["unopenable"] + control["wrong"]
    return {"images": rounds, "seed": seed, "took_s": took_s, **found, "control_lost": wrong}


def cuts(images: int, seed: int, kind: str, library: Path, folder: Path) -> dict[str, Any]:
    """Make images of stores of a kind and open them."""
    totals: Counter[str] = Counter(dict.fromkeys(("acknowledged", "lost", "wrong", "unopenable", "healed"), 0))
    shapes: Counter[str] = Counter()
    made = 0
    while made < images:
        chance = random.Random(f"{seed} {kind} {made}")
        live, kept = folder / "live", folder / "kept"
        for one in (live, kept):
            shutil.rmtree(one, ignore_errors=True)
            one.mkdir()
        (kept / "names").mkdir()
        with Writer(live, kept, kind, library, chance.randrange(10**6)) as writer:
            for _ in range(INSTANTS):
                writer.wait(chance.randrange(80))
                sleep(chance.random() * 0.02)
                told = writer.held()
                for _ in range(min(IMAGES, images - made)):
                    image = folder / "image"
                    shutil.rmtree(image, ignore_errors=True)
                    cut(live, kept, image, chance, shapes)
                    made += 1
                    totals.update(look(image, told, made, kind))
                writer.go_on()
                if made >= images:
                    break
        print(f"{made:5} {kind}: {dict(totals)}", file=sys.stderr, flush=True)
    return {**totals, "shapes": dict(shapes)}


@dataclass
class Told:
    """What was acknowledged."""

    posts: dict[int, int] = field(default_factory=dict)  # newest version by number
    updates: set[int] = field(default_factory=set)
    replies: set[int] = field(default_factory=set)
    questions: dict[int, int] = field(default_factory=dict)  # user id by number
    ratings: dict[int, int] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        """Take an acknowledgement down."""
        what, *words = line.split()
        numbers = list(map(int, words))
        match what:
            case "post":
                self.posts[numbers[0]] = numbers[1]
            case "update":
                self.updates.update(numbers)
            case "reply":
                self.replies.update(numbers)
            case "question":
                self.questions[numbers[0]] = numbers[1]
            case "rating":
                self.ratings[numbers[0]] = numbers[1]

    def __len__(self) -> int:
        """Count what was acknowledged."""
        return sum(map(len, (self.posts, self.updates, self.replies, self.questions, self.ratings)))


class Writer:
    """The process that writes; a context."""

    def __init__(self, live: Path, kept: Path, kind: str, library: Path, seed: int) -> None:
        self._said = live.with_name("said")
        environment = {"LD_PRELOAD": str(library), "DURABLE_ROOT": str(live), "DURABLE_KEPT": str(kept)}
        with self._said.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.faults.stores", str(live), kind, str(seed)],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=out,
            )
        while not self._said.stat().st_size:
            if self._process.poll() is not None:
                raise RuntimeError("the writer ended")
            sleep(0.05)

    def wait(self, more: int) -> None:
        """Let it go on until it was acknowledged so much more, or for some seconds."""
        enough = len(self._said.read_bytes().splitlines()) + more
        for _ in range(500):
            if len(self._said.read_bytes().splitlines()) >= enough:
                return
            sleep(0.01)

    def held(self) -> Told:
        """Hold it; return what it was acknowledged so far."""
        os.kill(self._process.pid, signal.SIGSTOP)
        while Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")")[-1].split()[0] != "T":
            sleep(0.001)
        told = Told()
        for line in self._said.read_text().splitlines():
            told.hear(line)
        return told

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


# --- what a power cut leaves -----------------------------------------------------------------------------------------


def cut(live: Path, kept: Path, image: Path, chance: random.Random, shapes: Counter[str]) -> None:
    """Make an image of a folder."""
    how = chance.choice(
        ("forced", "written", "either")
    )  # names of folders: a journalling file system keeps their order

    def folder(name: str, now: Path | None, target: Path) -> None:
        target.mkdir(mode=0o700)
        forced, written = forced_names(kept, name), written_names(now)
        take = chance.choice(("forced", "written")) if how == "either" else how
        for place, (key, is_folder) in (written if take == "written" else forced).items():
            there = now / place if now is not None and written.get(place, ("",))[0] == key else None
            if is_folder:
                folder(key, there, target / place)
            elif (content := left_of(kept / key, there, chance, shapes)) is not None:
                (target / place).write_bytes(content)
                (target / place).chmod(0o600)

    folder(keys_of([live])[0], live, image)


def left_of(forced: Path, written: Path | None, chance: random.Random, shapes: Counter[str]) -> bytes | None:
    """Say what is left of a file."""
    old = forced.read_bytes() if forced.exists() else b""
    new = written.read_bytes() if written is not None else old
    if old == new:
        return old
    common = min(len(old), len(new)) // SECTOR * SECTOR
    differing = (at for at in range(0, common, SECTOR) if old[at : at + SECTOR] != new[at : at + SECTOR])
    first = next(differing, common)
    at = min(len(new), first + chance.randrange(max(1, len(new) - first)))
    shape = chance.choice(TORN)
    if shape == "empty" and old:
        shape = "as forced"
    shapes[shape] += 1
    rest = max(0, len(new) - at)
    match shape:
        case "as written":
            return new
        case "empty":
            return b""
        case "zeros":
            return old + bytes(max(0, len(new) - len(old)))
        case "torn":
            return new[:at] + old[at:]
        case "zeros after":
            return new[:at] + (old[at:] or bytes(rest))
        case "garbage after":
            return new[:at] + (old[at:] or chance.randbytes(rest))
        case "pages":
            padded = old + bytes(max(0, len(new) - len(old)))
            pages = [chance.choice((new, padded))[place : place + PAGE] for place in range(0, len(new), PAGE)]
            return b"".join(pages) + padded[len(new) :]
    return old


def keys_of(paths: list[Path]) -> list[str]:
    """Name files or folders as `durable.c` does: by inode and time of birth."""
    if not paths:
        return []
    asked = subprocess.run(["stat", "-c", "%i %W %w", *map(str, paths)], capture_output=True, text=True, check=True)
    found = (line.split() for line in asked.stdout.splitlines())
    return [f"{inode}-{seconds}.{int(time.split('.')[1])}" for inode, seconds, _, time, _ in found]


def written_names(folder: Path | None) -> dict[str, tuple[str, bool]]:
    """Names of a folder as they are."""
    paths = list(folder.iterdir()) if folder is not None else []
    return {path.name: (key, path.is_dir()) for path, key in zip(paths, keys_of(paths), strict=True)}


def forced_names(kept: Path, key: str) -> dict[str, tuple[str, bool]]:
    """Names of a folder as they were when it was last forced to disk."""
    file = kept / "names" / key
    lines = file.read_text().splitlines() if file.exists() else []
    return {name: (one, kind == "d") for one, kind, name in (line.split(" ", 2) for line in lines)}


# --- what is opened of it --------------------------------------------------------------------------------------------


def look(image: Path, told: Told, number: int, kind: str) -> Counter[str]:
    """Open an image and compare it with what was acknowledged."""
    found: Counter[str] = Counter(acknowledged=len(told))
    missing: dict[str, Any] = {}
    try:
        with capture_logs(), opened(image) as stores:
            ids = stores.ledger.post_ids(CHANNEL.id)
            posts = stores.ledger.posts((CHANNEL.id, one) for one in ids)
            texts = {key[1]: (post.text, post.edited_at) for key, post in posts.items()}
            indexed = {key[1] for key in stores.index.posts()}
            inbox = {update.update_id: update.raw for update in stores.journal.next_pending(limit=10**6)}
            outbox = {message.payload["text"] for message in stores.journal.due(9e9, limit=10**6)}
            counts = stores.journal.counts()
            questions = {one: stores.ledger.questions.get(f"q{one}") for one in told.questions}
            votes = stores.ledger.questions.votes()
            found["healed"] = len(stores.notes) > 0
    except Exception as error:
        if kind == "careful":
            print(f"image {number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            shutil.copytree(image, Path(tempfile.gettempdir()) / f"postfinder-power-{number}", dirs_exist_ok=True)
        return Counter(acknowledged=len(told), unopenable=1)
    for one, version in told.posts.items():
        if one not in texts or (texts[one][1] or 0) < (post_of(one, version).edited_at or 0):  # type: ignore[operator]
            missing.setdefault("posts", []).append(one)
    missing["updates"] = sorted(told.updates - told.replies - set(inbox) - set(map(int, outbox)))
    missing["replies"] = sorted(one for one in told.replies if str(one) not in outbox)
    missing["questions"] = [one for one, row in questions.items() if row is None]
    missing["ratings"] = [0] * max(0, len(told.ratings) - votes.get("up", 0))
    found["lost"] = sum(map(len, missing.values()))
    wrong = sum(text != post_of(one, (at - post_of(one, 0).edited_at).days).text for one, (text, at) in texts.items())  # type: ignore[operator]
    wrong += sum(raw != update_of(one) for one, raw in inbox.items())
    wrong += sum(row is not None and row.text != f"Вопрос {one}?" for one, row in questions.items())
    wrong += len(set(texts) ^ indexed) + counts["inbox_quarantined"] + counts["outbox_failed"]
    found["wrong"] = wrong
    if kind == "careful" and (found["lost"] or wrong):
        print(f"image {number}: lost {missing}, wrong {wrong}", file=sys.stderr, flush=True)
        shutil.copytree(image, Path(tempfile.gettempdir()) / f"postfinder-power-{number}", dirs_exist_ok=True)
    return found
