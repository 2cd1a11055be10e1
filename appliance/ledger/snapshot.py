"""Copies of the ledger for backups: taken while it serves, and what of a copy can be compared."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from appliance.errors import StoreError
from appliance.ledger.database import SCHEMA, STORAGE, Database
from appliance.ledger.wal import logs_of, measure, sync


@dataclass(frozen=True, slots=True)
class Contents:
    """What a closed ledger's file holds.

    Attributes
    ----------
    engine : str
        DuckDB's version: digests of another one may differ.
    schema : str
        Newest migration taken; empty when none was.
    rows : dict of str to int
        By table.
    digests : dict of str to str
        By table, whatever the order of rows.
    posts : dict of int to int
        By channel.
    """

    engine: str
    schema: str
    rows: dict[str, int]
    digests: dict[str, str]
    posts: dict[int, int]

    @property
    def is_current(self) -> bool:
        """Whether no migration is due."""
        return self.schema == SCHEMA


def copy(database: Database, target: Path) -> None:
    """Copy what is committed into a new file, in one transaction, while others read and write.

    Deleted text is not in the copy: rows are written anew.

    Parameters
    ----------
    database : Database
    target : Path
        Not there yet.
    """
    name, path = f"copy_{time.monotonic_ns()}", str(target).replace("'", "''")
    with database.reading() as connection:
        source = connection.exec_driver_sql("SELECT current_database()").scalar()
        connection.exec_driver_sql(f"ATTACH '{path}' AS {name} (STORAGE_VERSION '{STORAGE}')")
        try:
            connection.exec_driver_sql(f'COPY FROM DATABASE "{source}" TO {name}')
        finally:
            connection.exec_driver_sql(f"DETACH {name}")
    sync(target)


def contents(path: Path) -> Contents:
    """Read a ledger nobody has open, changing nothing.

    Parameters
    ----------
    path : Path
        The DuckDB file.

    Returns
    -------
    Contents

    Raises
    ------
    StoreError
        DuckDB cannot read it.
    """
    try:
        with duckdb.connect(str(path), read_only=True, config={"threads": 2, "memory_limit": "512MB"}) as connection:
            names = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
            rows, digests = {}, {}
            for name in sorted(names):
                query = f'SELECT count(*), sum(hash(t)) FROM "{name}" t'  # noqa: S608  (names of our own tables)
                count, digest = connection.execute(query).fetchone() or (0, None)
                rows[name], digests[name] = int(count), str(digest or 0)
            posts = connection.execute("SELECT channel_id, count(*) FROM post GROUP BY channel_id").fetchall()
            versions = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except duckdb.Error as error:
        raise StoreError(
            f"The ledger {path} cannot be read: {error}", cure="`postfinder restore` brings the newest backup back."
        ) from error
    return Contents(duckdb.__version__, versions[0] if versions else "", rows, digests, dict(posts))


def unsound(path: Path) -> list[str]:
    """Name the logs of a closed ledger whose end is torn; opening the ledger cuts and keeps it.

    Parameters
    ----------
    path : Path
        The DuckDB file.

    Returns
    -------
    list of str
    """
    found = []
    for log in logs_of(path):
        data = log.read_bytes()
        sound = measure(data)
        if not sound.has_header or sound.end != len(data):
            found.append(log.name)
    return found
