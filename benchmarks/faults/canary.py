"""Suite `faults-canary`: a person and a channel that must leave no trace, looked for byte by byte in every file.

The canary person has a row in every table that can hold one, found by its columns, so that tables to come are looked
at too; updates and messages of theirs wait in the journal. The canary channel is imported, searched and asked about.
While they live no sealed field may stand in plain in any file, in any of many encodings. Then both are erased, the
appliance starts again, and a backup made before is restored: neither their words, numbers nor vectors may be anywhere,
and no key that is left may open any of their sealed values. The controls have no vault, or keep the keys.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import re
import sqlite3
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, redirect_stderr
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import numpy as np
import orjson
import sqlalchemy as sa

from appliance.app import App, open_app
from appliance.backup import restore
from appliance.journal import Outgoing
from appliance.ledger import Ledger
from appliance.ledger.sealing import SEALED, seal_row
from appliance.ledger.tables import metadata
from appliance.logs import configure_logs
from appliance.schema import Asker, Channel, Filters, Final, Post, Question
from appliance.vault import PREFIX, Vault
from benchmarks.faults.service import config_of

ROUNDS = 60  # posts of the canary channel
PERSON = 7_777_000_333_111
CHANNEL = Channel(1_577_700_333, "Канареечный угол", kind="private_channel", is_open=False)
OTHER = Channel(1_500_000_001, "Мастерская на Речной", username="masterskaya_rechnaya")
WORD = "канарейкосвист"  # in everything of theirs
LIVED = {"user", "question"}  # filled by living
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "cp1251", "koi8-r", "cp866", "utf-32-le")


def run(rounds: int = ROUNDS, seed: int = 1) -> dict[str, Any]:
    """Let the canaries live, erase them, look; see the module."""
    with tempfile.TemporaryDirectory(prefix="postfinder-canary-") as folder:
        found = asyncio.run(live(Path(folder) / "real", rounds, seed, keeps_keys=False))
        kept = asyncio.run(live(Path(folder) / "kept", 5, seed, keeps_keys=True))
        plain = in_plain(Path(folder) / "plain")
    return {
        "posts": rounds,
        "seed": seed,
        **found,
        "control_plain": plain,
        "control_opened": kept["opened_with_any_key"],
    }


async def live(folder: Path, rounds: int, seed: int, *, keeps_keys: bool) -> dict[str, Any]:
    """Fill, look, back up, erase, start again, restore, look."""
    config, log = config_of(folder / "data"), io.StringIO()
    with redirect_stderr(log):
        configure_logs("json")
        async with open_app(config) as app:
            tables = await fill(app, rounds)
            vectors = app.index._table.to_arrow().combine_chunks()["vector"].combine_chunks().flatten().to_numpy()
            is_exported, columns = exported(await app.verbs.privacy.archive(f"telegram:{PERSON}"), tables)
            found = {"tables": len(tables), "columns_exported": columns, "export_is_complete": int(is_exported)}
            found["plain_while_alive"] = count_in(folder, text_shapes())
            backup = await app.verbs.backups.make()
        found["plain_after_a_stop"] = count_in(folder, text_shapes())
        sealed = sealed_values(config.data_dir / "ledger.duckdb")
        async with open_app(config) as app:
            with keys_kept() if keeps_keys else nullcontext():
                await app.verbs.privacy.erase(f"telegram:{PERSON}")
                await app.verbs.privacy.forget_channel(str(CHANNEL.id))
        async with open_app(config):
            pass  # what was erased leaves the ledger's file
        shapes = text_shapes() | number_shapes() | vector_shapes(vectors, rounds)
        found["left_after_erasure"] = count_in(config.data_dir, shapes) + rows_with(config.data_dir)
        into = folder / "restored" / "data"
        with closing(Vault.open(config.master_key(), config.data_dir)) as vault:
            found["opened_with_any_key"] = sum(any_key_opens(vault, place, value) for place, value in sealed)
            restore(Path(backup.file), into, vault)
        restored = config.model_copy(update={"data_dir": into, "key_file": config.master_key()})
        async with open_app(restored) as app:
            posts = [key for key in app.index.posts() if key[0] == CHANNEL.id]
            posts += [(CHANNEL.id, one) for one in app.ledger.post_ids(CHANNEL.id)]
            found["came_back"] = len(posts) + (app.ledger.people.find(f"telegram:{PERSON}") is not None)
        async with open_app(restored):
            pass
        found["left_after_a_restore"] = count_in(into, shapes) + rows_with(into)
    logged = log.getvalue().encode()
    return {
        **found,
        "sealed_values": len(sealed),
        "plain_in_the_log": sum(logged.count(shape) for shape in text_shapes()),
        "log_bytes": len(logged),
    }


async def fill(app: App, rounds: int) -> dict[str, list[str]]:
    """Let both live; return the person's sealed columns by table."""
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    for channel in (CHANNEL, OTHER):
        app.ledger.save_channel(channel)
    posts = [
        Post(
            CHANNEL.id,
            number,
            moment,
            f"{WORD} номер {number}: клей сохнет сутки, спрашивать {WORD}ера",
            author=f"Автор {WORD}",
            author_id=f"user{PERSON}",
            links=(f"https://{WORD}.example/{number}",),
        )
        for number in range(1, rounds + 1)
    ]
    await app.verbs.ingest([*posts, Post(OTHER.id, 1, moment, "Доску покрывают маслом.")])
    asker = await app.verbs.register(telegram_id=PERSON, username=WORD, first_name=WORD, last_name=WORD, language="ru")
    tables = everywhere(app.ledger, app.verbs.privacy.vault, asker.user_id or 0)
    await app.verbs.privacy.agree(asker.user_id or 0)
    member = Asker(user_id=asker.user_id, private_channels=frozenset({CHANNEL.id}))
    for text in (f"Сколько сохнет клей {WORD}?", f"{WORD}?"):
        await ask(app, text, member)
    app.journal.take_in(1, [(1, orjson.dumps({"message": {"from": {"id": PERSON}, "text": WORD}}))])
    app.journal.enqueue([Outgoing(PERSON, "sendMessage", {"chat_id": PERSON, "text": WORD})])
    return tables


@contextmanager
def keys_kept() -> Iterator[None]:
    """Erase as the control does: without destroying a key."""
    destroy = Vault.destroy
    Vault.destroy = lambda self, owner: True  # type: ignore[method-assign]
    try:
        yield
    finally:
        Vault.destroy = destroy  # type: ignore[method-assign]


async def ask(app: App, text: str, asker: Asker) -> None:
    """Ask and rate."""
    async for part in app.verbs.ask(Question(text, asker, Filters(), door="telegram")):
        if isinstance(part, Final):
            await app.verbs.rate(part.answer.id, asker=asker, vote="down", reason=WORD)


# --- the canary in every table ---------------------------------------------------------------------------------------


def everywhere(ledger: Ledger, vault: Vault | None, user_id: int) -> dict[str, list[str]]:
    """Put a row of the person into every table that can hold one; return their sealed columns by table."""
    filled = {}
    for table in metadata.sorted_tables:
        if not {"user_id", "chat_id"} & {column.name for column in table.c} or table.name in LIVED:
            continue
        row = seal_row(vault, table.name, row_of(table, user_id)) if table.name in SEALED else row_of(table, user_id)
        ledger._write(lambda connection, table=table, row=row: connection.execute(sa.insert(table).values(row)))  # type: ignore[misc]
        filled[str(table.name)] = list(SEALED.get(table.name, ()))
    return filled


def row_of(table: sa.Table, user_id: int) -> dict[str, Any]:
    """Write a row by its columns' types; what is sealed holds the word."""
    row: dict[str, Any] = {}
    for column in table.c:
        kind = column.type.python_type if not isinstance(column.type, sa.TypeDecorator) else datetime
        if column.name == "user_id":
            row[column.name] = user_id
        elif column.name == "chat_id":
            row[column.name] = PERSON
        elif column.name in SEALED.get(table.name, ()):
            row[column.name] = f"{WORD} {table.name} {column.name}"
        elif isinstance(column.type, sa.JSON):
            row[column.name] = []
        elif kind is datetime:
            row[column.name] = datetime(2026, 5, 2, tzinfo=UTC)
        elif kind is str:
            row[column.name] = "x"
        else:
            row[column.name] = False if kind is bool else 9
    return row


def exported(archive: bytes, tables: dict[str, list[str]]) -> tuple[bool, int]:
    """Whether an archive holds every sealed column of every table, and how many there are."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        content = orjson.loads(packed.read("postfinder.json"))
        readable = packed.read("postfinder.md").decode()
    wanted = [f"{WORD} {table} {column}" for table, columns in tables.items() for column in columns]
    whole = orjson.dumps(content).decode()
    is_complete = all(text in whole and text in readable for text in wanted) and all(content[table] for table in tables)
    return is_complete and len(content["journal"]) == 2 and content["user"][0]["first_name"] == WORD, len(wanted)


# --- looked for ------------------------------------------------------------------------------------------------------


def text_shapes() -> set[bytes]:
    """Write the word in every way it could stand in a file."""
    shapes = set()
    for word in (WORD, WORD.capitalize(), WORD.upper()):
        shapes |= {word.encode(code) for code in ENCODINGS}
        raw = word.encode()
        shapes |= {raw.hex().encode(), raw.hex().upper().encode(), quote(word).encode(), orjson.dumps(word)[1:-1]}
        shapes.add(word.encode("unicode_escape"))
        for shift in range(3):  # Base64 has three alignments; its ends depend on the neighbours
            shapes.add(base64.b64encode(b"\0" * shift + raw)[4:-4])
    return shapes


def number_shapes() -> set[bytes]:
    """Write the numbers of both."""
    numbers = (PERSON, CHANNEL.id)
    return {str(n).encode() for n in numbers} | {struct.pack("<q", n) for n in numbers}


def vector_shapes(vectors: Any, rounds: int) -> set[bytes]:
    """Take a piece of each vector of the channel."""
    rows = np.asarray(vectors, np.float32).reshape(-1, 384)[:rounds]
    return {row[:6].tobytes() for row in rows}


def count_in(folder: Path, shapes: set[bytes]) -> int:
    """Count where any shape stands in any file."""
    pattern = re.compile(b"|".join(map(re.escape, sorted(shapes))))
    hits = {str(file): len(pattern.findall(file.read_bytes())) for file in folder.rglob("*") if file.is_file()}
    for name, count in hits.items():
        if count:
            logging.getLogger(__name__).warning("%s places in %s", count, name)
    return sum(hits.values())


def rows_with(data: Path) -> int:
    """Count the rows of any table of any database that hold a number of theirs: columns may be packed in the file."""
    numbers = (str(PERSON), str(CHANNEL.id))
    count = 0
    with duckdb.connect(str(data / "ledger.duckdb"), read_only=True) as ledger:
        for (table,) in ledger.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            for number in numbers:
                found = ledger.execute(
                    f"""SELECT count(*) FROM "{table}" AS t WHERE t::VARCHAR LIKE '%{number}%'"""
                ).fetchone()
                count += found[0] if found else 0
    with closing(sqlite3.connect(data / "journal.sqlite")) as journal:
        for (table,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            count += sum(any(n in str(row) for n in numbers) for row in journal.execute(f'SELECT * FROM "{table}"'))
    return count


def sealed_values(path: Path) -> list[tuple[str, str]]:
    """Read all sealed values of a closed ledger, with the place each is bound to."""
    found = []
    with duckdb.connect(str(path), read_only=True) as ledger:
        for name, columns in SEALED.items():
            key = [column.name for column in metadata.tables[name].primary_key.columns]
            for column in columns:
                where = f"WHERE user_id <> 0 AND \"{column}\" LIKE '{PREFIX}%'"
                if "user_id" not in metadata.tables[name].c:
                    where = f"WHERE channel_id = {CHANNEL.id} AND \"{column}\" LIKE '{PREFIX}%'"
                names = ", ".join(f'"{one}"' for one in key)
                statement = f'SELECT {names}, "{column}"::VARCHAR FROM "{name}" {where}'
                for *row, value in ledger.execute(statement).fetchall():
                    found.append((f"{name}.{column}:{'/'.join(map(str, row))}", value))
    return found


def any_key_opens(vault: Vault, place: str, value: str) -> bool:
    """Whether any key of a keyring opens a sealed value."""
    raw = base64.b64decode(value[len(PREFIX) :])
    for owner in owners(vault):
        try:
            if vault.open_bytes(owner, place, raw) is not None:
                return True
        except Exception:
            continue
    return False


def owners(vault: Vault) -> Iterator[str]:
    """Everyone who has a key."""
    yield from (row[0] for row in vault._connection.execute("SELECT owner FROM key").fetchall())


def in_plain(folder: Path) -> int:
    """Fill a ledger without a vault, as the control; return where the word stands in its files."""
    with Ledger.open(folder / "ledger.duckdb") as ledger:
        asker = ledger.save_user(telegram_id=PERSON, username=WORD, first_name=WORD)
        everywhere(ledger, None, asker.user_id or 0)
    return count_in(folder, text_shapes())
