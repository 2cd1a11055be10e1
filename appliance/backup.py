"""Backups of the data folder: taken while it serves, sealed into one file, verified by restoring, put back.

The file holds the ledger and the journal as they were at one moment, the index, and whose keys seal them; never a key.
The vault's own secret opens it, so that a rotated master key still does, and a destroyed key seals its rows in every
backup for good.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog

from appliance import __version__
from appliance.backup_file import SUFFIX, pack, sync_folder, unpack
from appliance.config import SERVING_FILE, Config
from appliance.errors import BadInput, PostFinderError, StartupError, StoreError
from appliance.index import Index
from appliance.journal import Journal
from appliance.journal_rows import waiting
from appliance.keyring import KEYRING, MARK
from appliance.ledger import Ledger
from appliance.ledger.snapshot import contents
from appliance.shelf import CHOICE_FILE, Shelf
from appliance.vault import Vault
from models.ports import EmbedderInfo

VERIFIED = "backup.verified"  # setting: the newest backup that was restored and compared
STAGING = ".backup-"  # in the data folder, for the moment of a backup
RESTORING = ".restoring"  # in the data folder, until a restore is complete
LEDGER, JOURNAL = "ledger.duckdb", "journal.sqlite"
OPENED = 500  # posts read through the vault at a verification
LEFT_OUT = (".lock", ".new", ".cut", "-shm")  # of a data folder
SPARE = 1.2  # free space needed, in sizes of what is copied

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made, read or put back.

    Attributes
    ----------
    file : str
    bytes : int
    made_at : str
        ISO 8601, UTC.
    rows : dict of str to int
        Rows by table of the ledger; empty for one of a stopped appliance.
    indexed : int
        Posts of the index.
    waiting : int
        Updates and messages that waited in the journal; after a restore they are worked on, and a message that went out
        since then goes out twice.
    took_s : float
    """

    file: str
    bytes: int
    made_at: str
    rows: dict[str, int]
    indexed: int
    waiting: int
    took_s: float


@dataclass(slots=True)
class Backups:
    """The open stores and what may be done about copies of them; one thing at a time."""

    config: Config
    ledger: Ledger
    journal: Journal
    shelf: Shelf
    vault: Vault
    _alone: asyncio.Lock
    _under_way: set[asyncio.Task[Any]]
    _copied_at: int = -1

    @classmethod
    def of(cls, config: Config, ledger: Ledger, journal: Journal, shelf: Shelf, vault: Vault) -> Backups:
        """Bind the stores; see the class."""
        for leftover in config.data_dir.glob(f"{STAGING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        return cls(config, ledger, journal, shelf, vault, asyncio.Lock(), set())

    async def make(self, to: Path | None = None) -> Backup:
        """Back up everything while questions are answered.

        Parameters
        ----------
        to : Path, optional
            A folder, or the file to write; by default a new file in the folder of the settings.

        Returns
        -------
        Backup

        Raises
        ------
        StoreError
            No space, no right to write, or a file of that name is there.
        """
        async with self._alone:
            made = await self._finished(self._make, to)
            detail = {"bytes": made.bytes, "took_s": round(made.took_s, 1)}
            await asyncio.to_thread(self.ledger.access.record, "backup", subject=Path(made.file).name, detail=detail)
        return made

    def _make(self, to: Path | None) -> Backup:
        began = perf_counter()
        target = target_of(to or self.config.backups())
        index = self.shelf.now.index
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=self.config.data_dir) as name:
            staging = Path(name)
            require_space(target.parent, self.config.data_dir)
            self.journal.copy_to(staging / JOURNAL)  # first: what it calls done is then in the ledger
            self.ledger.copy_to(staging / LEDGER)
            index.copy_to(staging / index.folder.name)
            for known in (MARK, CHOICE_FILE):
                if (self.config.data_dir / known).exists():
                    shutil.copyfile(self.config.data_dir / known, staging / known)
            held = contents(staging / LEDGER)
            about = {
                "kind": "running",
                "ledger": asdict(held),
                "journal": waiting(staging / JOURNAL),
                "index": {"folder": index.folder.name, "embedder": asdict(index.embedder)}
                | {"posts": sum(index_posts(staging / index.folder.name, index.embedder, self.vault).values())},
            }
            return write(files_of(staging), about, target, vault=self.vault, began=began)

    async def verify(self, file: Path | None = None) -> Backup:
        """Restore a backup into a scratch folder beside it and compare it with what it says of itself.

        Parameters
        ----------
        file : Path, optional
            The newest of the settings' folder by default.

        Returns
        -------
        Backup

        Raises
        ------
        StoreError
            It is not what was backed up.
        """
        async with self._alone:
            checked = await self._finished(self._verify, file)
            noted = {"file": checked.file, "made_at": checked.made_at, "at": datetime.now(UTC).isoformat()}
            await asyncio.to_thread(self.ledger.set_setting, VERIFIED, noted)
        return checked

    def _verify(self, file: Path | None) -> Backup:
        return verify(file or newest(self.config.backups()), self.vault)

    async def restore(self, file: Path, into: Path) -> Backup:
        """Put a backup into another folder than the one served; see `restore`."""
        return await self._finished(self._restore, file, into)

    def _restore(self, file: Path, into: Path) -> Backup:
        if into.resolve() == self.config.data_dir.resolve():
            raise StoreError(
                f"{into} is being served.",
                cure="Stop the appliance and move the folder aside, or restore --into another.",
            )
        return restore(file, into, self.vault)

    async def keep(self) -> Backup | None:
        """Make and verify a scheduled backup when one is due, and drop the oldest beyond those to keep.

        Returns
        -------
        Backup or None
            None when none is due.
        """
        await self.copy_keyring()
        every_s = self.config.backup_every_hours * 3600
        folder = self.config.backups()
        if not every_s or ((age := age_s(folder)) is not None and age < every_s):
            return None
        made = await self.make()
        await self.verify(Path(made.file))
        for old in backups_in(folder)[self.config.backup_keep :]:
            old.unlink()
        log.info("backup made and verified", file=Path(made.file).name, bytes=made.bytes, took_s=round(made.took_s, 1))
        return made

    async def close(self) -> None:
        """Wait for what is under way: the stores it reads may be closed then."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _finished(self, work: Callable[..., Backup], *words: Path | None) -> Backup:
        """Run work in a thread, which goes on when whoever waits for it leaves."""
        task = asyncio.create_task(asyncio.to_thread(work, *words))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def copy_keyring(self) -> None:
        """Copy the keyring where the settings say, when keys were made or destroyed since the last copy."""
        folder = self.config.keyring_copy_dir
        if folder and (changes := self.vault.changes()) != self._copied_at:
            await asyncio.to_thread(self.vault.copy_keyring, Path(folder))
            self._copied_at = changes


def target_of(to: Path) -> Path:
    """Return the file to write: the given one, or a new one in the given folder.

    Raises
    ------
    StoreError
        It is there already, or its folder cannot be made.
    """
    is_file = to.name.endswith(SUFFIX)
    try:
        (to.parent if is_file else to).mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"The folder of {to} cannot be made ({error.strerror}).", cure="Name another one.") from error
    target = to if is_file else to / f"postfinder-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{SUFFIX}"
    if target.exists():
        raise StoreError(f"{target} is there already; a backup never overwrites one.", cure="Name another file.")
    return target


def write(files: dict[str, Path], about: dict[str, Any], target: Path, *, vault: Vault, began: float) -> Backup:
    """Write the file of a backup; `about` is kept in it."""
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"made_at": made_at, "version": __version__, **about}
    try:
        size = pack(files, about, target, key=vault.hash_key("backup"), vault_id=bytes.fromhex(vault.id))
    except OSError as error:
        raise StoreError(
            f"The backup {target} cannot be written ({error.strerror}).",
            cure="Free space, or name another folder; no half of it is left.",
        ) from error
    return described(target, about, size, began)


def described(file: Path, about: dict[str, Any], size: int, began: float) -> Backup:
    """Say what a backup holds."""
    counts = about["journal"]
    return Backup(
        file=str(file),
        bytes=size,
        made_at=about["made_at"],
        rows=about["ledger"]["rows"] if about["ledger"] else {},
        indexed=about["index"]["posts"] if about["index"] else 0,
        waiting=sum(counts[name] for name in ("inbox_pending", "outbox_queued", "outbox_sending")) if counts else 0,
        took_s=perf_counter() - began,
    )


def make_stopped(config: Config, vault: Vault, to: Path | None = None) -> Backup:
    """Back up the folder of an appliance that is stopped, file by file, opening and changing no store.

    Parameters
    ----------
    config : Config
    vault : Vault
    to : Path, optional
        As for `Backups.make`.

    Returns
    -------
    Backup
    """
    began = perf_counter()
    target = target_of(to or config.backups())
    require_space(target.parent, config.data_dir)
    about: dict[str, Any] = {"kind": "stopped", "ledger": None, "journal": None, "index": None}
    return write(files_of(config.data_dir), about, target, vault=vault, began=began)


def verify(file: Path, vault: Vault) -> Backup:
    """Restore a backup into a scratch folder beside it, open its stores, and compare; see `Backups.verify`."""
    began = perf_counter()
    require_file(file)
    require_space(file.parent, file)
    with tempfile.TemporaryDirectory(prefix=".verifying-", dir=file.parent) as name:
        scratch = Path(name)
        about = unpack(file, scratch, key=vault.hash_key("backup"), vault_id=bytes.fromhex(vault.id))
        if about["kind"] == "running":
            _compare(scratch, about, vault)
        else:
            contents(scratch / LEDGER)
            waiting(scratch / JOURNAL)
    return described(file, about, file.stat().st_size, began)


def _compare(scratch: Path, about: dict[str, Any], vault: Vault) -> None:
    found = contents(scratch / LEDGER)
    then = about["ledger"]
    _same("rows of the ledger", found.rows, then["rows"])
    if found.engine == then["engine"]:
        _same("digests of the ledger's tables", found.digests, then["digests"])
    _same("what waits in the journal", waiting(scratch / JOURNAL), about["journal"])
    info = EmbedderInfo(**about["index"]["embedder"])
    by_channel = index_posts(scratch / about["index"]["folder"], info, vault)
    _same("posts of the index", sum(by_channel.values()), about["index"]["posts"])
    beyond = {channel for channel, count in by_channel.items() if count > found.posts.get(channel, 0)}
    if beyond:
        log.warning("index of a backup ahead of its ledger", channels=len(beyond), cure="mended at its first opening")
    with Ledger.open(scratch / LEDGER, vault) as ledger:
        for channel in ledger.post_counts():
            ledger.posts([(channel, message) for message in ledger.post_ids(channel)[-OPENED:]])


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise StoreError(f"The restored backup differs in {what}.", cure="Make a new backup; keep the older ones.")


def index_posts(folder: Path, embedder: EmbedderInfo, vault: Vault | None) -> dict[int, int]:
    """Count the posts of a copied index by channel."""
    with closing(Index.open(folder, embedder=embedder, hot_limit=0, vault=vault)) as index:
        return index.post_counts()


def restore(file: Path, into: Path, vault: Vault) -> Backup:
    """Put a backup into a folder that is empty or absent; every digest is compared before anything is in place.

    Parameters
    ----------
    file : Path
    into : Path
        The new data folder. What a restore that was cut off left there is replaced.
    vault : Vault

    Returns
    -------
    Backup

    Raises
    ------
    StoreError
        The folder holds something, or the backup is damaged or another vault's.
    """
    began = perf_counter()
    require_file(file)
    scratch = into / RESTORING
    was_cut_off = scratch.exists()
    if was_cut_off:
        shutil.rmtree(scratch)
    elif into.exists() and any(not path.name.startswith(".") for path in into.iterdir()):
        raise StoreError(
            f"{into} holds data; a restore never overwrites.",
            cure=f"Move it aside first (mv {into} {into}.old), or restore --into another folder.",
        )
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch.mkdir(mode=0o700)
    try:
        require_space(scratch, file)
        about = unpack(file, scratch / "data", key=vault.hash_key("backup"), vault_id=bytes.fromhex(vault.id))
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    for path in sorted((scratch / "data").iterdir()):
        place = into / path.name
        if was_cut_off and place.exists():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        path.rename(place)
    for folder in [path for path in into.rglob("*") if path.is_dir()]:
        sync_folder(folder)
    sync_folder(into)
    shutil.rmtree(scratch)
    sync_folder(into)
    return described(file, about, file.stat().st_size, began)


@contextmanager
def vault_for(config: Config) -> Iterator[Vault]:
    """Open the keys of a stopped appliance for a backup or a restore; never makes any.

    Raises
    ------
    StartupError
        They are not there, or do not fit the data.
    """
    key_file = config.master_key()
    for path in (key_file, key_file.with_name(KEYRING)):
        if not path.exists():
            raise StartupError(
                f"{path} is missing: a backup holds no keys and cannot be opened without them.",
                cure="Put the copy of the keys folder there, or set POSTFINDER_KEY_FILE.",
            )
    with tempfile.TemporaryDirectory() as name:
        has_mark = (config.data_dir / MARK).exists()
        with closing(Vault.open(key_file, config.data_dir if has_mark else Path(name))) as vault:
            yield vault


def files_of(folder: Path) -> dict[str, Path]:
    """List what of a data folder belongs into a backup: no locks, drafts, earlier copies or hidden files."""
    chosen: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        is_kept = not any(part.startswith(".") for part in inside.parts) and not path.name.endswith(LEFT_OUT)
        if is_kept and path.is_file() and inside.name not in {SERVING_FILE, "LOCK"} and ".before-" not in inside.name:
            chosen[inside.as_posix()] = path
    return chosen


def backups_in(folder: Path) -> list[Path]:
    """List the scheduled backups of a folder, newest first; their names tell their times."""
    return sorted(folder.glob(f"postfinder-*{SUFFIX}"), reverse=True) if folder.exists() else []


def require_file(file: Path) -> None:
    """Refuse a backup that is not there.

    Raises
    ------
    BadInput
        There is no such file.
    """
    if not file.is_file():
        raise BadInput(f"There is no file {file}.", cure="Name a backup: a file that `postfinder backup` made.")


def newest(folder: Path) -> Path:
    """Return the newest backup of a folder.

    Raises
    ------
    BadInput
        There is none.
    """
    found = backups_in(folder)
    if not found:
        raise BadInput(f"There is no backup in {folder}.", cure="Make one: postfinder backup")
    return found[0]


def age_s(folder: Path) -> float | None:
    """Seconds since the newest backup of a folder was written; None when there is none."""
    found = backups_in(folder)
    return max(0.0, datetime.now(UTC).timestamp() - found[0].stat().st_mtime) if found else None


def require_space(folder: Path, source: Path) -> None:
    """Refuse work that would fill the disk.

    Raises
    ------
    StoreError
        Less is free than the files of `source` need.
    """
    sizes = files_of(source).values() if source.is_dir() else [source]
    needed = int(sum(path.stat().st_size for path in sizes) * SPARE)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"{folder} has {free >> 20} MiB free, {needed >> 20} MiB are needed.",
            cure="Free space, or use another disk (POSTFINDER_BACKUP_DIR).",
        )


async def keep_forever(backups: Backups, *, first_s: float, every_s: float, failed: Callable[[str], None]) -> None:
    """Make scheduled backups until cancelled; a failure is told and tried again.

    Parameters
    ----------
    backups : Backups
    first_s, every_s : float
        When to look whether one is due.
    failed : callable
        Gets what went wrong.
    """
    await asyncio.sleep(first_s)
    while True:
        try:
            await backups.keep()
        except (PostFinderError, OSError) as error:
            failed(str(error))
        await asyncio.sleep(every_s)
