"""The ledger's file: owned by one process, mended and migrated at opening, written by one thread, read by any.

Writes that wait share a transaction, so a busy appliance pays one disk sync for many rows. A write returns after its
commit is on disk.
"""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import duckdb
import orjson
import sqlalchemy as sa
import structlog

from appliance.errors import StartupError, StoreError
from appliance.ledger.wal import heal, logs_of, set_aside, sync

Result = TypeVar("Result")

SCHEMA = "0006"  # newest step in migrations/versions
MIGRATIONS = Path(__file__).parent / "migrations"
WRITES_TOGETHER = 256  # waiting writes that may share one transaction
BULK_ROWS = 2  # from this many rows DuckDB's inserts go through Arrow, the faster way
MEMORY_LIMIT = "512MB"
STORAGE = "v1.5.0"  # from v1.4.0 on the log names its database, so that another one's is refused

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Write:
    """A write waiting for its commit: ``act`` does it alone; plain rows may be inserted with their neighbours."""

    act: Callable[[sa.Connection], Any]
    after: Callable[[Any], None] | None
    row: tuple[sa.Table, dict[str, Any]] | None
    done: Future[Any]


class Database:
    """The open file; make one with `Database.open`.

    Attributes
    ----------
    path : Path
        The DuckDB file.
    notes : tuple of str
        What opening had to repair, for the operator; empty after an orderly stop.
    """

    def __init__(self, path: Path, engine: sa.Engine, lock: int, notes: Sequence[str]) -> None:
        self.path = path
        self.notes = tuple(notes)
        self._engine = engine
        self._lock = lock
        self._log_file = path.with_name(path.name + ".wal")
        self._log_inode = 0
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write_forever, name="ledger-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open the file, creating, mending and migrating it as needed.

        Parameters
        ----------
        path : Path
            The DuckDB file; its folder is created.

        Returns
        -------
        Database

        Raises
        ------
        StartupError
            Another process owns the file, or DuckDB cannot read it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _own(path)
        try:
            notes = heal(path)
            if not path.exists():
                _create(path)
            engine = _connect(path, notes)
            try:
                with store_errors(path):
                    notes += _migrate(engine, path)
            except BaseException:
                engine.dispose()
                raise
        except BaseException:
            os.close(lock)
            raise
        return cls(path, engine, lock, notes)

    def close(self) -> None:
        """Finish waiting writes, fold the log into the file, release it. Closing twice is harmless."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._writer.join()
        try:
            with store_errors(self.path):
                _checkpoint(self._engine)
        finally:
            self._engine.dispose()
            os.close(self._lock)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Lend a connection for reading, from any thread.

        Yields
        ------
        sqlalchemy.Connection
            Each statement sees what is committed when it starts.

        Raises
        ------
        StoreError
            When closed.
        """
        if self._closed:
            raise _closed_error()
        with (
            store_errors(self.path),
            self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            yield connection

    def read(self, statement: sa.Executable) -> Sequence[Any]:
        """Run a query.

        Parameters
        ----------
        statement : sqlalchemy.Executable

        Returns
        -------
        sequence of sqlalchemy.Row
        """
        with self.reading() as connection:
            return connection.execute(statement).all()

    def write(self, act: Callable[[sa.Connection], Result], after: Callable[[Result], None] | None = None) -> Result:
        """Run ``act`` in a transaction of the writer's thread and wait until it is on disk.

        Parameters
        ----------
        act : callable
            Gets the connection; touches nothing else, since it may run again when a neighbour fails.
        after : callable, optional
            Gets the result once committed, on the writer's thread, before this returns.

        Returns
        -------
        object
            What ``act`` returned.

        Raises
        ------
        StoreError
            When closed.
        """
        return cast("Result", self._wait(_Write(act, after, None, Future())))

    def append(self, table: sa.Table, row: dict[str, Any], otherwise: Callable[[sa.Connection], Any]) -> None:
        """Insert one row, together with other waiting rows of the table.

        Parameters
        ----------
        table : sqlalchemy.Table
        row : dict
            Values by column name.
        otherwise : callable
            Stores the row when the plain insert is refused, because its key is there already.
        """
        self._wait(_Write(otherwise, None, (table, row), Future()))

    def _wait(self, write: _Write) -> Any:
        with self._closing:
            if self._closed:
                raise _closed_error()
            self._waiting.put(write)
        return write.done.result()

    def _write_forever(self) -> None:
        stop = False
        while not stop:
            batch: list[_Write] = []
            item = self._waiting.get()
            while item is not None:
                batch.append(item)
                if len(batch) == WRITES_TOGETHER or self._waiting.empty():
                    break
                item = self._waiting.get()
            stop = item is None
            if batch and self._commit(batch, together=True) is not None:
                for write in batch:  # one of them failed: each on its own, so that only the culprit does
                    error = self._commit([write], together=False)
                    if error is not None:
                        write.done.set_exception(error)

    def _commit(self, batch: Sequence[_Write], *, together: bool) -> BaseException | None:
        """Commit the batch and answer its writers; or change nothing and return the error."""
        try:
            results: list[Any] = []
            with store_errors(self.path), self._engine.begin() as connection:
                for table, group in groupby(batch, lambda write: write.row and write.row[0]) if together else ():
                    writes = list(group)
                    if table is None:
                        results += [write.act(connection) for write in writes]
                    else:
                        connection.execute(sa.insert(table), [write.row[1] for write in writes if write.row])
                        results += [None] * len(writes)
                if not together:
                    results += [write.act(connection) for write in batch]
        except BaseException as error:
            return error
        try:
            self._sync_new_log()
        except OSError as error:
            for write in batch:
                write.done.set_exception(error)
            return None
        for write, result in zip(batch, results, strict=True):
            if write.after is not None:
                try:
                    write.after(result)
                except Exception:
                    log.exception("ledger.after_write")
            write.done.set_result(result)
        return None

    def _sync_new_log(self) -> None:
        """Make the log's name durable when DuckDB has just created it; DuckDB syncs only its content."""
        try:
            inode = self._log_file.stat().st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._log_inode:
            sync(self.path.parent)
            self._log_inode = inode


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Name what DuckDB cannot read or write as ours: a damaged block, a full disk.

    Parameters
    ----------
    path : Path
        The DuckDB file.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not isinstance(error.orig, _BROKEN):
            raise
        raise StoreError(
            f"The ledger {path} could not do its work: {str(error.orig)[:200]}",
            cure="Free disk space if there is none; else restore the newest backup: postfinder restore.",
        ) from error


_BROKEN = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)


def _closed_error() -> StoreError:
    return StoreError("The ledger is closed.", cure="Start the appliance again.")


def _own(path: Path) -> int:
    """Take the lock file; returns its descriptor."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise _in_use(path, f"process {owner}") from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _in_use(path: Path, by: str) -> StartupError:
    return StartupError(f"The ledger {path} is in use by {by}.", cure="Use the running appliance, or stop it first.")


def _settle_pandas() -> None:
    """Let DuckDB look for pandas once.

    It does so twice for every value of a statement, and a module that is missing takes longer to look for than the
    statement. What it finds it holds: for this one statement it finds an empty module.
    """
    if find_spec("pandas") is None:
        sys.modules["pandas"] = ModuleType("pandas")
        try:
            duckdb.connect().execute("select ?", [0]).fetchall()
        finally:
            del sys.modules["pandas"]


_settle_pandas()


def _connect(path: Path, notes: list[str]) -> sa.Engine:
    """Open the file; when DuckDB cannot replay a log whose entries are all sound, set the log aside and say so."""
    engine = sa.create_engine(
        sa.URL.create("duckdb", database=str(path)),
        connect_args={
            "config": {
                "threads": 1,  # its statements are small: handing parts of them around takes a third longer
                "memory_limit": MEMORY_LIMIT,
                "storage_compatibility_version": STORAGE,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        },
        pool_size=8,
        max_overflow=-1,
        pool_reset_on_return=None,  # a read is no transaction, a write ends its own
        skip_autocommit_rollback=True,  # rolling back nothing is an exception inside DuckDB: a third of a read
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        execution_options={"duckdb_copy_threshold": BULK_ROWS},
    )
    # The dialect notes on each connection which it is in, but does not tell SQLAlchemy.
    engine.dialect.detect_autocommit_setting = lambda dbapi_conn: bool(dbapi_conn.autocommit)  # type: ignore[method-assign]
    try:
        _try(engine)
    except duckdb.Error as error:
        if "Could not set lock" in str(error):
            raise _in_use(path, "another program") from error
        logs = logs_of(path)
        asides = [set_aside(log_file) for log_file in logs]
        try:
            _try(engine)
        except duckdb.Error as worse:
            for log_file, aside in zip(logs, asides, strict=True):
                aside.rename(log_file)
            raise StartupError(
                f"The ledger {path} cannot be read: {worse}", cure="Restore the newest backup: postfinder restore."
            ) from worse
        if not asides:
            raise
        notes.append(
            f"DuckDB could not replay the ledger's log ({error}): set aside as {', '.join(a.name for a in asides)}. "
            "Everything stored since the last checkpoint is in it and not in the ledger; restore the newest backup."
        )
    return engine


def _try(engine: sa.Engine) -> None:
    try:
        engine.connect().close()
    except sa.exc.DBAPIError as error:
        raise cast("Exception", error.orig) from error


def _create(path: Path) -> None:
    """Make an empty ledger under another name first, so that a start cut off leaves a whole file or none."""
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, *logs_of(fresh)):
        leftover.unlink(missing_ok=True)
    engine = _connect(fresh, [])
    try:
        _migrate(engine, fresh)
    finally:
        engine.dispose()
    sync(fresh)
    fresh.rename(path)
    sync(path.parent)


def rewrite(path: Path) -> None:
    """Write a closed ledger anew, without what was deleted from it, and remove the plain copies of migrations.

    Parameters
    ----------
    path : Path
        The DuckDB file; nobody may have it open.
    """
    lock = _own(path)
    try:
        fresh = path.with_name(path.name + ".new")
        for leftover in (fresh, *logs_of(fresh)):
            leftover.unlink(missing_ok=True)
        old, new = (str(file).replace("'", "''") for file in (path, fresh))
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{old}' AS old (READ_ONLY)")
            connection.execute(f"ATTACH '{new}' AS fresh (STORAGE_VERSION '{STORAGE}')")
            connection.execute("COPY FROM DATABASE old TO fresh")
        sync(fresh)
        fresh.rename(path)
        for copy in path.parent.glob(f"{path.name}.before-*"):
            copy.unlink()
        sync(path.parent)
    finally:
        os.close(lock)


def _migrate(engine: sa.Engine, path: Path) -> list[str]:
    """Bring the schema up to date and to disk; returns what was done to a ledger that had one already.

    Alembic is loaded only when there is something to do.
    """
    with engine.connect() as connection:
        version = None
        if sa.inspect(connection).has_table("alembic_version"):
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if version == SCHEMA:
        return []
    notes = []
    if version is not None:
        if str(version) > SCHEMA:
            raise StartupError(
                f"The ledger {path} has schema {version}, this PostFinder knows {SCHEMA}.",
                cure="Install the PostFinder that wrote it, or restore an older backup.",
            )
        _checkpoint(engine)
        copy = path.with_name(f"{path.name}.before-{SCHEMA}")
        shutil.copyfile(path, copy)
        sync(copy)
        notes.append(f"The ledger's schema was brought from {version} to {SCHEMA}; the copy before it is {copy.name}.")

    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, SCHEMA)
    _checkpoint(engine)
    return notes


def _checkpoint(engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CHECKPOINT")
