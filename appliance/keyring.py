"""The master key's file, the keyring that it opens, and the data folder whose keys they are. Blocking."""

from __future__ import annotations

import base64
import os
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import StartupError, StoreError

MARK = "vault.json"  # in the data folder: says which vault opens it
KEYRING = "keyring.sqlite"
KEY_BYTES = 32
NONCE_BYTES = 12
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key (owner TEXT PRIMARY KEY, wrapped BLOB NOT NULL, made_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone (name TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""


def make_key(path: Path) -> None:
    """Write a new random key, readable by its owner alone; never over an existing one.

    Raises
    ------
    StartupError
        The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        raise StartupError(
            f"The master key {path} cannot be written ({error.strerror}).",
            cure="Set POSTFINDER_KEY_FILE to a file in a folder of this user, outside the data folder.",
        ) from error


def read_key(path: Path) -> bytes:
    """Read a key.

    Raises
    ------
    StartupError
        It cannot be read, others may read it, or it is no key.
    """
    try:
        mode = path.stat().st_mode
        if mode & 0o077:
            raise StartupError(f"Others may read the master key {path}.", cure=f"Run: chmod 600 {path}")
        raw = base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise StartupError(
            f"The master key {path} cannot be read ({error.strerror}).",
            cure="Make it readable for this user, or set POSTFINDER_KEY_FILE.",
        ) from error
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise StartupError(
            f"The master key {path} is damaged: it is not {KEY_BYTES} bytes in Base64.",
            cure="Put back the copy of the master key.",
        )
    return raw


def refuse_if_needed(key_file: Path, keyring: Path, mark: Path) -> None:
    """Refuse a start without the master key where something was sealed with one."""
    if keyring.exists() or mark.exists():
        raise StartupError(
            f"The master key {key_file} is missing, and there is sealed data.",
            cure="Put back the copy of the master key, or set POSTFINDER_KEY_FILE; no new one can open this data.",
        )


def connect(keyring: Path) -> sqlite3.Connection:
    """Open the keyring for this process alone, empty where there was none.

    Raises
    ------
    StartupError
        Another process holds it, or it is damaged.
    """
    os.close(os.open(keyring, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(keyring, timeout=0.5, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError as error:
        connection.close()
        if "locked" in str(error):
            raise StartupError(
                f"The keyring {keyring} is in use by another process.", cure="Use the running appliance, or stop it."
            ) from error
        raise StartupError(f"The keyring {keyring} cannot be read: {error}.", cure="Put back its copy.") from error
    return connection


def require_fit(key_file: Path, data_dir: Path) -> None:
    """Refuse keys that do not open a stopped appliance's data; nothing is changed.

    Parameters
    ----------
    key_file, data_dir : Path
        As for `Vault.open`; the key and its keyring are there.

    Raises
    ------
    StartupError
        The master key is not the keyring's, or the data was sealed with another.
    """
    keyring = key_file.with_name(KEYRING)
    try:
        with closing(sqlite3.connect(f"{keyring.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
    except sqlite3.DatabaseError as error:
        raise StartupError(f"The keyring {keyring} cannot be read: {error}.", cure="Put back its copy.") from error
    if row is not None:
        _require_same(_opener(key_file, row[0])[2].hex(), data_dir / MARK)


def fitting(connection: sqlite3.Connection, key_file: Path, master: bytes) -> bytes:
    """Return the master key that opens the keyring: finish a rotation that was cut off, or set up a new keyring."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
    if row is None:
        for name, size in (("blinding", KEY_BYTES), ("id", 16)):
            wrapped = wrap(AESGCM(master), name, secrets.token_bytes(size))
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, wrapped))
        return master
    path, candidate, _ = _opener(key_file, row[0])
    if path == key_file:
        draft_of(key_file).unlink(missing_ok=True)
    else:
        path.replace(key_file)
        sync_folder(key_file.parent)
    return candidate


def draft_of(key_file: Path) -> Path:
    """Name the new master key of a rotation that is not finished."""
    return key_file.with_name(key_file.name + ".new")


def _opener(key_file: Path, wrapped_id: bytes) -> tuple[Path, bytes, bytes]:
    """Return which file's key opens the keyring, that key, and the vault's id."""
    for path in (key_file, draft_of(key_file)):
        if path.exists():
            candidate = read_key(path)
            with suppress(StoreError):
                return path, candidate, unwrap(AESGCM(candidate), "id", wrapped_id)
    raise StartupError(
        f"The master key {key_file} does not open the keyring beside it.",
        cure="Put back the master key that belongs to this keyring.",
    )


def match_data(vault_id: str, mark: Path, data_dir: Path) -> None:
    """Mark the data folder with the vault's id, or refuse one that another vault sealed."""
    _require_same(vault_id, mark)
    if mark.exists():
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    draft = mark.with_name(mark.name + ".new")
    with draft.open("wb") as file:
        file.write(orjson.dumps({"vault": vault_id}))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(mark)
    sync_folder(data_dir)


def _require_same(vault_id: str, mark: Path) -> None:
    if not mark.exists():
        return
    try:
        expected = orjson.loads(mark.read_bytes())["vault"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        expected = "?"
    if expected != vault_id:
        raise StartupError(
            f"The data in {mark.parent} is sealed with another vault's keys ({expected[:8]}, not {vault_id[:8]}).",
            cure="Set POSTFINDER_KEY_FILE to the master key that belongs to this data. "
            f"Where that is the right one, {mark} is damaged: remove it, the next start writes it anew.",
        )


def wrap(master: AESGCM, name: str, raw: bytes) -> bytes:
    """Seal a key with the master key, bound to its name."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + master.encrypt(nonce, raw, b"key:" + name.encode())


def unwrap(master: AESGCM, name: str, wrapped: bytes) -> bytes:
    """Open a key that was sealed under this name.

    Raises
    ------
    StoreError
        It is damaged, or sealed with another master key.
    """
    try:
        return master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], b"key:" + name.encode())
    except (InvalidTag, ValueError) as error:
        raise StoreError(
            f"The key of {name} in the keyring is damaged, or the master key is not its own.",
            cure="Put back the keyring and the master key that belong together.",
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
