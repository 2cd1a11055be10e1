"""The vault: seals personal fields and message texts, and forgets them by destroying a key. AES-256-GCM.

Three layers: a master key in a file of its own, apart from the data; a keyring (SQLite) beside it, with one random
data key for every owner, a person or a channel, wrapped by the master key; sealed values in the stores. What a value
belongs to (table, column, row) is bound to it, so that it opens nowhere else. The keyring is never part of a backup of
the data: destroying a key makes what it sealed unreadable in every copy.

Blocking and thread-safe.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import StartupError, StoreError

PREFIX = "pf1:"  # of a sealed text: the format's version
VISITORS = "visitors"  # owner of what unregistered visitors ask
JOURNAL = "journal"  # owner of updates and messages on their way
MARK = "vault.json"  # in the data folder: says which vault opens it
KEYRING = "keyring.sqlite"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
KEPT = 20_000  # opened keys kept in memory
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key (owner TEXT PRIMARY KEY, wrapped BLOB NOT NULL, made_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone (name TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""


def person(user_id: int | None) -> str:
    """Name the owner of what a person said.

    Parameters
    ----------
    user_id : int or None
        Ledger's user id; None and 0 for unregistered visitors.

    Returns
    -------
    str
    """
    return f"user:{user_id}" if user_id else VISITORS


def channel(channel_id: int) -> str:
    """Name the owner of a channel's posts."""
    return f"channel:{channel_id}"


class Vault:
    """The open vault; make one with `Vault.open`."""

    def __init__(self, key_file: Path, connection: sqlite3.Connection, master: bytes) -> None:
        self.key_file = key_file
        self._connection = connection
        self._master = AESGCM(master)
        self._guard = threading.RLock()
        self._opened: dict[str, AESGCM | None] = {}
        self._blinding = self._secret("blinding")
        self._gone: dict[str, float] = dict(connection.execute("SELECT name, at FROM gone").fetchall())

    @classmethod
    def open(cls, key_file: Path, data_dir: Path) -> Vault:
        """Open the vault of a data folder; at the very first start make it.

        Parameters
        ----------
        key_file : Path
            The master key; the keyring lies beside it.
        data_dir : Path
            The folder whose stores it seals; it is marked with the vault's id.

        Returns
        -------
        Vault

        Raises
        ------
        StartupError
            A key is missing, wrong, readable by others, or of another data folder. No key is ever made in place of
            one that is missing.
        """
        key_file = Path(key_file)
        keyring = key_file.with_name(KEYRING)
        mark = data_dir / MARK
        if not key_file.exists():
            _refuse_if_needed(key_file, keyring, mark)
            make_key(key_file)
        elif mark.exists() and not keyring.exists():
            raise StartupError(
                f"The keyring {keyring} is missing, and the data in {data_dir} is sealed with its keys.",
                cure="Put the keyring back beside the master key, from the copy of the keys folder.",
            )
        master = read_key(key_file)
        connection = _connect(keyring)
        try:
            master = _fitting(connection, key_file, master)
            vault = cls(key_file, connection, master)
            _match(vault.id, mark, data_dir)
        except BaseException:
            connection.close()
            raise
        return vault

    @property
    def id(self) -> str:
        """The vault's own id, written into the data folder it seals."""
        return self._secret("id").hex()

    def close(self) -> None:
        """Release the keyring; harmless twice."""
        with self._guard:
            self._opened.clear()
            self._connection.close()

    # Sealing

    def seal_bytes(self, owner: str, place: str, data: bytes) -> bytes:
        """Seal bytes.

        Parameters
        ----------
        owner : str
            Whose key; made at first use.
        place : str
            Where the value stands: ``table.column:row``.
        data : bytes

        Returns
        -------
        bytes
            Nonce, ciphertext and tag: 28 bytes longer.

        Raises
        ------
        StoreError
            The owner's key was destroyed: nothing more is kept for them.
        """
        key = self._key(owner, make=True)
        if key is None:
            raise StoreError(f"The key of {owner} was destroyed.", cure="Register the person anew.")
        nonce = os.urandom(NONCE_BYTES)
        return nonce + key.encrypt(nonce, data, place.encode())

    def open_bytes(self, owner: str, place: str, sealed: bytes) -> bytes | None:
        """Open sealed bytes.

        Parameters
        ----------
        owner, place : str
            As at sealing.
        sealed : bytes

        Returns
        -------
        bytes or None
            None when the owner's key was destroyed.

        Raises
        ------
        StoreError
            The value is damaged, moved from another place, or its key is unknown.
        """
        key = self._key(owner, make=False)
        if key is None:
            return None
        try:
            return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise StoreError(
                f"A sealed value of {place} is damaged or belongs elsewhere.",
                cure="Restore the newest backup; if it says the same, the keyring is not this data's.",
            ) from error

    def seal(self, owner: str, place: str, text: str) -> str:
        """Seal a text; see `seal_bytes`. An empty one stays empty.

        Parameters
        ----------
        owner, place, text : str

        Returns
        -------
        str
            `PREFIX` and Base64.
        """
        if not text:
            return text
        return PREFIX + base64.b64encode(self.seal_bytes(owner, place, text.encode("utf-8", "replace"))).decode()

    def open_text(self, owner: str, place: str, sealed: str) -> str:
        """Open a sealed text; see `open_bytes`.

        Parameters
        ----------
        owner, place, sealed : str

        Returns
        -------
        str
            Empty when the owner's key was destroyed.

        Raises
        ------
        StoreError
            It is no sealed text, or a damaged one.
        """
        if not sealed:
            return sealed
        try:
            if not sealed.startswith(PREFIX):
                raise ValueError("no prefix")
            raw = base64.b64decode(sealed[len(PREFIX) :], validate=True)
        except ValueError as error:
            raise StoreError(f"A value of {place} is not sealed.", cure="Restore the newest backup.") from error
        opened = self.open_bytes(owner, place, raw)
        return "" if opened is None else opened.decode()

    def blind(self, kind: str, value: str) -> str:
        """Turn a value into a name that says nothing, the same every time: a keyed hash (BLAKE2b).

        Parameters
        ----------
        kind : str
            At most 16 ASCII letters; the same value of another kind gets another name.
        value : str

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        digest = hashlib.blake2b(value.encode(), digest_size=8, key=self._blinding, person=kind.encode())
        return digest.hexdigest()

    def hash_key(self, kind: str) -> bytes:
        """Return the key of a keyed hash of a kind, so that nobody can guess a text from its digest.

        Parameters
        ----------
        kind : str

        Returns
        -------
        bytes
            32 bytes, the same every time.
        """
        return hashlib.blake2b(kind.encode(), digest_size=32, key=self._blinding).digest()

    # Forgetting

    def knows(self, owner: str) -> bool:
        """Whether the owner has, or had, a key."""
        with self._guard:
            return owner in self._gone or self._wrapped(owner) is not None

    def is_gone(self, name: str) -> bool:
        """Whether an owner's key was destroyed, or a name noted with `note_gone`."""
        return name in self._gone

    def gone_at(self, name: str) -> float | None:
        """When a name was noted as gone, in seconds since the epoch; None when it is not."""
        return self._gone.get(name)

    def gone(self, prefix: str) -> list[str]:
        """Names that are gone and start so, in order."""
        return sorted(name for name in self._gone if name.startswith(prefix))

    def destroy(self, owner: str) -> bool:
        """Destroy an owner's key for good: what it sealed can be read nowhere again. On disk when this returns.

        Parameters
        ----------
        owner : str

        Returns
        -------
        bool
            Whether there was one.
        """
        with self._guard:
            existed = bool(self._connection.execute("DELETE FROM key WHERE owner = ?", (owner,)).rowcount)
            self.note_gone([owner])
            self._opened[owner] = None
        return existed

    def note_gone(self, names: list[str]) -> None:
        """Note what must not come back with an old backup or export. On disk when this returns.

        Parameters
        ----------
        names : list of str
            Without personal data: owners, ``post:channel/message``, blinded names.
        """
        now = time.time()
        with self._guard:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                rows = [(name, now) for name in names]
                self._connection.executemany("INSERT OR REPLACE INTO gone VALUES (?, ?)", rows)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # no old page keeps a destroyed key
            self._gone.update(rows)

    # The master key

    def copy_keyring(self, folder: Path) -> None:
        """Put a copy of the keyring in place of the one before: new keys are in it, destroyed ones are not.

        Parameters
        ----------
        folder : Path
            Made as needed. The master key is not copied; without it the copy opens nothing.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f"{KEYRING}.new"
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT, 0o600))
        copy = sqlite3.connect(draft, isolation_level=None)
        try:
            with self._guard:
                self._connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()
        handle = os.open(draft, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        draft.replace(folder / KEYRING)
        _sync_folder(folder)

    def changes(self) -> int:
        """Count the keys made and destroyed since this opening: another number means that a copy is stale."""
        return self._connection.total_changes

    def rotate(self) -> int:
        """Make a new master key and wrap every data key with it; the old one opens nothing any more.

        Returns
        -------
        int
            Data keys wrapped anew.
        """
        draft = _draft(self.key_file)
        draft.unlink(missing_ok=True)
        make_key(draft)
        fresh = AESGCM(read_key(draft))
        with self._guard:
            rows = self._connection.execute("SELECT owner, wrapped FROM key").fetchall()
            secret = self._connection.execute("SELECT name, value FROM meta").fetchall()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                again = [(_wrap(fresh, owner, _unwrap(self._master, owner, wrapped)), owner) for owner, wrapped in rows]
                self._connection.executemany("UPDATE key SET wrapped = ? WHERE owner = ?", again)
                kept = [(_wrap(fresh, name, _unwrap(self._master, name, value)), name) for name, value in secret]
                self._connection.executemany("UPDATE meta SET value = ? WHERE name = ?", kept)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            draft.replace(self.key_file)  # a stop just before this is finished at the next opening
            _sync_folder(self.key_file.parent)
            self._master = fresh
        return len(rows)

    # Inside

    def _key(self, owner: str, *, make: bool) -> AESGCM | None:
        try:
            return self._opened[owner]
        except KeyError:
            pass
        with self._guard:
            if owner in self._gone:
                key = None
            elif (wrapped := self._wrapped(owner)) is not None:
                key = AESGCM(_unwrap(self._master, owner, wrapped))
            elif make:
                raw = secrets.token_bytes(KEY_BYTES)
                self._connection.execute(
                    "INSERT INTO key VALUES (?, ?, ?)", (owner, _wrap(self._master, owner, raw), time.time())
                )
                key = AESGCM(raw)
            else:
                raise StoreError(
                    f"The keyring has no key of {owner}.",
                    cure="Put back the keyring that belongs to this data.",
                )
            if len(self._opened) >= KEPT:
                self._opened.clear()
            self._opened[owner] = key
            return key

    def _wrapped(self, owner: str) -> bytes | None:
        row = self._connection.execute("SELECT wrapped FROM key WHERE owner = ?", (owner,)).fetchone()
        return None if row is None else bytes(row[0])

    def _secret(self, name: str) -> bytes:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return _unwrap(self._master, name, row[0])


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
        _sync_folder(path.parent)
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


def _refuse_if_needed(key_file: Path, keyring: Path, mark: Path) -> None:
    """Refuse a start without the master key where something was sealed with one."""
    if keyring.exists() or mark.exists():
        raise StartupError(
            f"The master key {key_file} is missing, and there is sealed data.",
            cure="Put back the copy of the master key, or set POSTFINDER_KEY_FILE; no new one can open this data.",
        )


def _connect(keyring: Path) -> sqlite3.Connection:
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


def _fitting(connection: sqlite3.Connection, key_file: Path, master: bytes) -> bytes:
    """Return the master key that opens the keyring: finish a rotation that was cut off, or set up a new keyring."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
    if row is None:
        for name, size in (("blinding", KEY_BYTES), ("id", 16)):
            wrapped = _wrap(AESGCM(master), name, secrets.token_bytes(size))
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, wrapped))
        return master
    path, candidate, _ = _opener(key_file, row[0])
    if path == key_file:
        _draft(key_file).unlink(missing_ok=True)
    else:
        path.replace(key_file)
        _sync_folder(key_file.parent)
    return candidate


def _draft(key_file: Path) -> Path:
    return key_file.with_name(key_file.name + ".new")


def _opener(key_file: Path, wrapped_id: bytes) -> tuple[Path, bytes, bytes]:
    """Return which file's key opens the keyring, that key, and the vault's id."""
    for path in (key_file, _draft(key_file)):
        if path.exists():
            candidate = read_key(path)
            with suppress(StoreError):
                return path, candidate, _unwrap(AESGCM(candidate), "id", wrapped_id)
    raise StartupError(
        f"The master key {key_file} does not open the keyring beside it.",
        cure="Put back the master key that belongs to this keyring.",
    )


def _match(vault_id: str, mark: Path, data_dir: Path) -> None:
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
    _sync_folder(data_dir)


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


def _wrap(master: AESGCM, name: str, raw: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + master.encrypt(nonce, raw, b"key:" + name.encode())


def _unwrap(master: AESGCM, name: str, wrapped: bytes) -> bytes:
    try:
        return master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], b"key:" + name.encode())
    except (InvalidTag, ValueError) as error:
        raise StoreError(
            f"The key of {name} in the keyring is damaged, or the master key is not its own.",
            cure="Put back the keyring and the master key that belong together.",
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
