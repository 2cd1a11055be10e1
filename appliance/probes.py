"""What of a machine and of a data folder can be looked at without opening a store: each finding names its cure."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx

from appliance.backup_file import SUFFIX
from appliance.config import Config
from appliance.errors import StartupError
from appliance.keyring import KEYRING
from appliance.text import lemmas

Status = Literal["ok", "warn", "fail"]

LEAST_FREE = 1 << 30  # bytes
SLOW_SYNC_S = 0.1
LATE = 1.5  # backups: so many periods old
CLOCK_OFF_S = 30.0
PROBE_TIMEOUT_S = 10.0
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
OVER_A_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"})
SAME_WORD = (("доске", "досками"), ("покрывать", "покрываем"), ("люди", "людям"))
ENGINES = "import lancedb, duckdb, onnxruntime, numpy; numpy.ones((8, 8)) @ numpy.ones((8, 8))"
TELEGRAM = "https://api.telegram.org"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    name : str
        What was looked at.
    status : {'ok', 'warn', 'fail'}
        ``fail``: questions, or what was promised about their safety, do not work.
    what : str
        What was found, without personal data.
    cure : str
        What to do; empty when all is well.
    is_mended : bool
        Whether ``--fix`` just did it.
    """

    name: str
    status: Status
    what: str
    cure: str = ""
    is_mended: bool = False


def probe(config: Config, *, fix: bool = False) -> list[Finding]:
    """Look at everything but the stores. Blocking, seconds.

    Parameters
    ----------
    config : Config
    fix : bool
        Mend rights of keys.

    Returns
    -------
    list of Finding
    """
    return [
        cpu(),
        *disk(config.data_dir),
        *keys(config, fix=fix),
        *backups(config),
        language(),
        *telegram(config),
        *egress(config),
    ]


def cpu(work: str = ENGINES) -> Finding:
    """Try the engines in a child process: a CPU without their instructions ends it, not us.

    Parameters
    ----------
    work : str
        Python to run there.

    Returns
    -------
    Finding
    """
    try:
        child = subprocess.run([sys.executable, "-c", work], capture_output=True, timeout=120)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Finding(
            "cpu", "warn", "The engines did not load within two minutes.", "Look at what keeps the machine busy."
        )
    flags = Path("/proc/cpuinfo")
    has_avx2 = not flags.exists() or " avx2" in flags.read_text() or os.uname().machine != "x86_64"
    if child.returncode == -signal.SIGILL:
        return Finding(
            "cpu",
            "fail",
            "The CPU lacks instructions the engines need" + ("." if has_avx2 else " (no AVX2)."),
            "Use a host with AVX2 (Intel since 2013, AMD since 2015); a virtual machine needs CPU type host.",
        )
    if child.returncode:
        last = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return Finding(
            "cpu", "fail", f"The engines do not load: {' '.join(last)[:200]}", "Install again: make clean run"
        )
    if not has_avx2:
        return Finding(
            "cpu", "warn", "No AVX2: the engines load, but slowly run or fail later.", "Use a host with AVX2."
        )
    return Finding("cpu", "ok", "The engines load in a process of their own; AVX2 is there.")


def _held(folder: Path) -> int:
    """Add up the files of a folder, bytes; those that go meanwhile do not count."""
    held = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                held += os.lstat(os.path.join(where, name)).st_size
    return held


def disk(data_dir: Path) -> Iterator[Finding]:
    """Look at the space, the kind and the durability of the disk under the data."""
    folder = _existing(data_dir)
    free = shutil.disk_usage(folder).free
    held = _held(data_dir)
    needed = max(LEAST_FREE, 2 * held)  # a backup and a rewritten ledger beside the data
    said = f"{free >> 20} MiB free, the data is {held >> 20} MiB"
    if free < held // 2 or free < LEAST_FREE // 4:
        yield Finding("disk space", "fail", f"{said}.", "Free space now: stores stop when the disk is full.")
    elif free < needed:
        yield Finding("disk space", "warn", f"{said}.", f"Free space: {needed >> 20} MiB leave room for backups.")
    else:
        yield Finding("disk space", "ok", f"{said}.")
    kind, device = _mount_of(folder)
    if kind in IN_MEMORY:
        yield Finding(
            "disk kind", "fail", f"{folder} lies in memory ({kind}).", "Set POSTFINDER_DATA_DIR to a real disk."
        )
    elif kind in OVER_A_NETWORK:
        cure = "Use a local disk: locks and syncs over a network are not to be relied on."
        yield Finding("disk kind", "warn", f"{folder} lies on a network ({kind}).", cure)
    else:
        yield Finding("disk kind", "ok", f"{folder} lies on {kind}.")
    if _is_encrypted(device):
        yield Finding("volume encryption", "ok", f"{device} is encrypted.")
    else:
        cure = (
            "Vectors, sizes and dates are not sealed by us: use an encrypted volume (LUKS) if the disk may be stolen."
        )
        yield Finding("volume encryption", "warn", "No encrypted volume is seen under the data.", cure)
    try:
        sync_s = _sync_s(folder)
    except OSError as error:
        yield Finding(
            "durability", "fail", f"{folder} cannot be written ({error.strerror}).", "Give this user the folder."
        )
        return
    said = f"A write is on disk after {sync_s * 1000:.1f} ms (median of 9)."
    if sync_s > SLOW_SYNC_S:
        yield Finding(
            "durability", "warn", said, "Every update waits for it: use an SSD, or look for a busy neighbour."
        )
    else:
        yield Finding("durability", "ok", said)


def keys(config: Config, *, fix: bool = False) -> Iterator[Finding]:
    """Look at where the keys lie, who may read them, and whether the keyring has a copy."""
    master = config.master_key()
    keyring = master.with_name(KEYRING)
    if not master.exists() and not keyring.exists():
        yield Finding("keys", "ok", "None yet: the first start makes them.")
        return
    for path in (master, keyring):
        if not path.exists():
            yield Finding("keys", "fail", f"{path} is missing.", "Put its copy there; no new key opens the data.")
            return
    if master.resolve().is_relative_to(config.data_dir.resolve()):
        cure = "Set POSTFINDER_KEY_FILE outside, move both files there: a copy of the data must not hold its keys."
        yield Finding("keys apart", "fail", f"The keys lie inside the data folder {config.data_dir}.", cure)
    else:
        yield Finding("keys apart", "ok", "The keys lie outside of the data folder.")
    loose = [path for path in (master, keyring) if path.stat().st_mode & 0o077]
    if loose and fix:
        for path in loose:
            path.chmod(0o600)
        yield Finding("keys", "ok", "Others could read the keys.", "Done: chmod 600.", is_mended=True)
    elif loose:
        names = " ".join(map(str, loose))
        yield Finding("keys", "fail", f"Others may read {names}.", f"Run: chmod 600 {names} (or check --fix)")
    else:
        yield Finding("keys", "ok", "Their owner alone may read them.")
    copy = Path(config.keyring_copy_dir) / KEYRING if config.keyring_copy_dir else None
    if copy is None:
        cure = (
            "Set POSTFINDER_KEYRING_COPY_DIR to a folder on another disk, and keep one copy of master.key elsewhere: "
            "without the keyring no backup opens."
        )
        yield Finding("keyring copy", "warn", "The keyring has no copy of its own.", cure)
    elif not copy.exists():
        cure = "The appliance writes it within a minute of its start; look at its log if it does not."
        yield Finding("keyring copy", "warn", f"{copy} is not there yet.", cure)
    else:
        yield Finding("keyring copy", "ok", f"{copy} is there.")


def backups(config: Config) -> Iterator[Finding]:
    """Look at the age and the place of the newest backup."""
    folder = config.backups()
    found = sorted(folder.glob(f"postfinder-*{SUFFIX}"), reverse=True) if folder.exists() else []
    every_s = config.backup_every_hours * 3600
    if not every_s and not found:
        cure = "Set POSTFINDER_BACKUP_EVERY_HOURS, or run `postfinder backup` from a timer."
        yield Finding("backups", "warn", "None are scheduled, and there is none.", cure)
        return
    if not found:
        cure = "The appliance makes one within a minute of its start; or: postfinder backup --verify"
        yield Finding("backups", "warn", f"There is none in {folder}.", cure)
        return
    age_s = time.time() - found[0].stat().st_mtime
    said = f"{len(found)} in {folder}, the newest {age_s / 3600:.1f} hours old."
    if every_s and age_s > LATE * every_s:
        yield Finding(
            "backups", "fail", said, "Look for “backup failed” in the log; make one: postfinder backup --verify"
        )
    else:
        yield Finding("backups", "ok", said)
    if folder.stat().st_dev == _existing(config.data_dir).stat().st_dev:
        cure = "Set POSTFINDER_BACKUP_DIR to another disk, or copy them to another machine: they are sealed."
        yield Finding("backups apart", "warn", "Backups lie on the disk of the data.", cure)


def language() -> Finding:
    """See that forms of one Russian word are one word to the search."""
    broken = [pair for pair in SAME_WORD if lemmas(pair[0]) != lemmas(pair[1])]
    if broken:
        pairs = ", ".join(f"{one}/{other}" for one, other in broken)
        return Finding(
            "full-text language", "fail", f"Taken for different words: {pairs}.", "Install again: make clean run"
        )
    return Finding("full-text language", "ok", "Forms of a Russian word are found as one word.")


def door(config: Config, *, is_served: bool) -> Iterator[Finding]:
    """Look at the port of the web door and at who can reach it."""
    if is_served:
        yield Finding("port", "ok", "The appliance serves.")
    elif not config.port:
        yield Finding("port", "ok", "A free one is taken at the start.")
    else:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((config.host, config.port))
            except OSError as error:
                cure = "Stop the other program, or set POSTFINDER_PORT and POSTFINDER_HOST."
                yield Finding("port", "fail", f"{config.host}:{config.port}: {error.strerror}.", cure)
            else:
                yield Finding("port", "ok", f"{config.host}:{config.port} is free.")
    if not _is_local(config.host):
        cure = (
            "Put a proxy with TLS before it, or set POSTFINDER_HOST=127.0.0.1; in a container publish 127.0.0.1:8080."
        )
        yield Finding("door", "warn", f"The page listens on {config.host}, in plain HTTP.", cure)


def telegram(config: Config) -> Iterator[Finding]:
    """Reach Telegram where a token is set, and compare clocks with it."""
    try:
        token = config.bot_token()
    except StartupError as error:
        yield Finding("telegram", "fail", str(error.args[0]), error.cure)
        return
    if not token:
        yield Finding("telegram", "ok", "No token is set: the bot is off.")
        return
    began = time.monotonic()
    try:
        reply = httpx.get(f"{config.telegram_api or TELEGRAM}/bot{token}/getMe", timeout=PROBE_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        cure = "Open the way to api.telegram.org, or set POSTFINDER_TELEGRAM_API to a Bot API server within reach."
        yield Finding("telegram", "fail", f"Telegram cannot be reached ({type(error).__name__}).", cure)
        return
    took_ms = (time.monotonic() - began) * 1000
    if reply.status_code in {401, 404}:
        cure = "Take a new one from @BotFather and set TELEGRAM_BOT_TOKEN."
        yield Finding("telegram", "fail", "Telegram refuses the token.", cure)
    elif reply.is_error:
        yield Finding("telegram", "warn", f"Telegram answers HTTP {reply.status_code}.", "Try again in a few minutes.")
    else:
        yield Finding("telegram", "ok", f"Telegram answers in {took_ms:.0f} ms and knows the token.")
    yield from clock(reply.headers.get("date", ""))


def clock(date: str) -> Iterator[Finding]:
    """Compare the clock with a ``Date`` header of a server."""
    try:
        off_s = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError):
        return
    said = f"The clock is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} Telegram's."
    if abs(off_s) > CLOCK_OFF_S:
        yield Finding("clock", "fail", said, "Turn on time synchronisation: timedatectl set-ntp true")
    else:
        yield Finding("clock", "ok", said)


def egress(config: Config) -> Iterator[Finding]:
    """Name every place the appliance would talk to, and those of them that are outside."""
    asked = {"generator": config.generator_url, "embedder": config.embedder_url}
    outside = []
    for part, url in asked.items():
        host = urlsplit(url).hostname or ""
        if host and not _is_private(host):
            outside.append(f"{part} at {host}")
    if outside:
        cure = "Questions and posts leave the host that way: name a server of your own network."
        yield Finding("egress", "warn", f"Outside of the network: {', '.join(outside)}.", cure)
    else:
        own = "Telegram alone" if config.telegram_token_file or config.telegram_token.get_secret_value() else "nothing"
        yield Finding("egress", "ok", f"Outside of the network the appliance talks to {own}.")


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _mount_of(folder: Path) -> tuple[str, str]:
    """Kind and device of the file system under a folder."""
    best, kind, device = "", "an unknown file system", ""
    mounts = Path("/proc/self/mounts")
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        source, place, name = line.split(" ")[:3]
        place = place.replace("\\040", " ")
        if folder.resolve().is_relative_to(place) and len(place) >= len(best):
            best, kind, device = place, name, source
    return kind, device


def _is_encrypted(device: str) -> bool:
    name = Path(device).resolve().name
    known = Path("/sys/class/block") / name / "dm" / "uuid"
    return known.exists() and known.read_text().startswith("CRYPT-")


def _sync_s(folder: Path) -> float:
    path, times = folder / f".sync-{os.getpid()}", []
    try:
        with path.open("wb") as file:
            for _ in range(9):
                began = time.monotonic()
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
                times.append(time.monotonic() - began)
    finally:
        path.unlink(missing_ok=True)
    return statistics.median(times)


def _is_local(host: str) -> bool:
    return host in {"localhost", "127.0.0.1", "::1"}


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))  # a name of a compose network
    return address.is_private or address.is_loopback
