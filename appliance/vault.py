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
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import StartupError, StoreError
from appliance.keyring import (
    KEY_BYTES,
    KEYRING,
    MARK,
    NONCE_BYTES,
    connect,
    draft_of,
    fitting,
    make_key,
    match_data,
    read_key,
    refuse_if_needed,
    sync_folder,
    unwrap,
    wrap,
)

PREFIX = "pf1:"  # of a sealed text: the format's version
VISITORS = "visitors"  # owner of what unregistered visitors ask
JOURNAL = "journal"  # owner of updates and messages on their way
TAG_BYTES = 16
KEPT = 20_000  # opened keys kept in memory


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
            refuse_if_needed(key_file, keyring, mark)
            make_key(key_file)
        elif mark.exists() and not keyring.exists():
            raise StartupError(
                f"The keyring {keyring} is missing, and the data in {data_dir} is sealed with its keys.",
                cure="Put the keyring back beside the master key, from the copy of the keys folder.",
            )
        master = read_key(key_file)
        connection = connect(keyring)
        try:
            master = fitting(connection, key_file, master)
            vault = cls(key_file, connection, master)
            match_data(vault.id, mark, data_dir)
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
        sync_folder(folder)

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
        draft = draft_of(self.key_file)
        draft.unlink(missing_ok=True)
        make_key(draft)
        fresh = AESGCM(read_key(draft))
        with self._guard:
            rows = self._connection.execute("SELECT owner, wrapped FROM key").fetchall()
            secret = self._connection.execute("SELECT name, value FROM meta").fetchall()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                again = [(wrap(fresh, owner, unwrap(self._master, owner, wrapped)), owner) for owner, wrapped in rows]
                self._connection.executemany("UPDATE key SET wrapped = ? WHERE owner = ?", again)
                kept = [(wrap(fresh, name, unwrap(self._master, name, value)), name) for name, value in secret]
                self._connection.executemany("UPDATE meta SET value = ? WHERE name = ?", kept)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            draft.replace(self.key_file)  # a stop just before this is finished at the next opening
            sync_folder(self.key_file.parent)
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
                key = AESGCM(unwrap(self._master, owner, wrapped))
            elif make:
                raw = secrets.token_bytes(KEY_BYTES)
                self._connection.execute(
                    "INSERT INTO key VALUES (?, ?, ?)", (owner, wrap(self._master, owner, raw), time.time())
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
        return unwrap(self._master, name, row[0])
