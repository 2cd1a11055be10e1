"""A SQLite file of one process: every transaction is on disk before its caller goes on, many share one sync."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from appliance.errors import StartupError, StoreError

Result = TypeVar("Result")


class SqliteFile:
    """The open file; make one with `SqliteFile.open`. Blocking and thread-safe.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._turn = threading.Lock()
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._closed = False

    @classmethod
    def open(cls, path: Path, steps: Sequence[str]) -> SqliteFile:
        """Open the file, creating it as needed, and bring its schema up to date.

        Parameters
        ----------
        path : Path
            Its folder is created.
        steps : sequence of str
            The schema's steps; ``user_version`` counts those taken.

        Returns
        -------
        SqliteFile

        Raises
        ------
        StartupError
            Another process owns it, it cannot be read, or a newer program wrote it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
        try:
            with startup_errors(path):
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA secure_delete = ON")
                taken = connection.execute("PRAGMA user_version").fetchone()[0]
                if taken > len(steps):
                    raise StartupError(
                        f"The {path.stem} {path} has schema {taken}, this PostFinder knows {len(steps)}.",
                        cure="Install the PostFinder that wrote it.",
                    )
                for number, step in enumerate(steps[taken:], taken + 1):
                    connection.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT;")
        except BaseException:
            connection.close()
            raise
        return cls(path, connection)

    def close(self, *, fold: bool = True) -> None:
        """Fold the log into the file, unless told not to, and release it. Closing twice is harmless."""
        with self._turn:
            if not self._closed:
                self._closed = True
                if fold:
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._connection.close()

    def copy_to(self, target: Path) -> None:
        """Copy what is committed into a new file, between two transactions.

        Parameters
        ----------
        target : Path
            Not there yet.
        """
        with self._turn, closing(sqlite3.connect(target, isolation_level=None)) as copy:
            self._connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")

    def fold(self) -> None:
        """Fold the log into the file."""
        with self._turn:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def durably(self, act: Callable[[], Result]) -> Result:
        """Run ``act`` in a transaction and wait until it is on disk.

        Whoever gets the turn commits for everyone who waits: one disk sync for all of them.

        Parameters
        ----------
        act : callable
            Calls `run` and `rows`; what it raises undoes what it did, and nothing of its neighbours.

        Returns
        -------
        object
            What ``act`` returned.

        Raises
        ------
        StoreError
            The file is closed.
        """
        mine: Future[Any] = Future()
        self._waiting.append((act, mine))
        with self._turn:
            if not mine.done():
                if self._closed:
                    raise StoreError(f"The {self.path.stem} is closed.", cure="Start the appliance again.")
                batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
                self._commit(batch)
        return cast("Result", mine.result())

    def run(self, statement: str, *values: Any) -> int:
        """Execute a statement, inside `durably`; returns how many rows it changed."""
        return self._connection.execute(statement, values).rowcount

    def add(self, statement: str, *values: Any) -> int | None:
        """Insert a row, inside `durably`; returns its number, None when the statement found it there already."""
        cursor = self._connection.execute(statement, values)
        return cursor.lastrowid if cursor.rowcount else None

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Fetch all rows of a query, inside `durably`."""
        return self._connection.execute(statement, values).fetchall()

    def _commit(self, batch: Sequence[tuple[Callable[[], Any], Future[Any]]]) -> None:
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for act, future in batch:
                self._connection.execute("SAVEPOINT one")
                try:
                    answers.append((future, act(), None))
                except Exception as error:
                    self._connection.execute("ROLLBACK TO one")
                    answers.append((future, None, error))
                self._connection.execute("RELEASE one")
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for _, future in batch:
                future.set_exception(error)
            return
        for future, result, failure in answers:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)


@contextmanager
def startup_errors(path: Path) -> Iterator[None]:
    """Name what keeps a file from being opened, with the cure.

    Parameters
    ----------
    path : Path
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        raise StartupError(
            f"The {path.stem} {path} is in use by another process.",
            cure="Use the running appliance, or stop it first.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise StartupError(
            f"The {path.stem} {path} cannot be read: {error}.",
            cure="Move it aside; what waits in it is lost unless a backup holds it.",
        ) from error
