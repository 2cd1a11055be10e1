"""The seal of the journal: updates and messages are encrypted as they are written and opened as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from appliance.errors import StartupError, StoreError
from appliance.journal_rows import Update
from appliance.sqlite_file import SqliteFile
from appliance.vault import JOURNAL, Vault


class JournalSeal:
    """Seals and opens the bytes of the journal's rows; without a vault they stay as they are.

    Parameters
    ----------
    file : SqliteFile
    vault : Vault, optional
    """

    def __init__(self, file: SqliteFile, vault: Vault | None) -> None:
        self._path = file.path
        self._run, self._rows = file.run, file.rows
        self._vault = vault

    def update(self, bot_id: int, update_id: int, raw: bytes) -> bytes:
        """Seal an update."""
        return self._seal(f"inbox.raw:{bot_id}/{update_id}", raw)

    def open_update(self, bot_id: int, update_id: int, sealed: bytes) -> bytes:
        """Open an update; raises `StoreError` when it is damaged."""
        return self._open(f"inbox.raw:{bot_id}/{update_id}", sealed)

    def payload(self, chat_id: int, method: str, data: bytes) -> bytes:
        """Seal a call's payload."""
        return self._seal(f"outbox.payload:{chat_id}/{method}", data)

    def open_payload(self, chat_id: int, method: str, sealed: bytes) -> bytes:
        """Open a call's payload; raises `StoreError` when it is damaged."""
        return self._open(f"outbox.payload:{chat_id}/{method}", sealed)

    def opened_update(self, row: Sequence[Any], *, damaged: bytes | None = None) -> Update:
        """Make the record of a row of the inbox.

        Parameters
        ----------
        row : sequence
            Of the fields of `Update`.
        damaged : bytes, optional
            What stands for bytes that cannot be opened; without it they raise `StoreError`.

        Returns
        -------
        Update
        """
        seq, bot_id, update_id, raw, *rest = row
        try:
            opened = self.open_update(bot_id, update_id, raw)
        except StoreError:
            if damaged is None:
                raise
            opened = damaged
        return Update(seq, bot_id, update_id, opened, *rest)

    def opened_payloads(self, statement: str, *values: Any) -> list[Any]:
        """Rows of the outbox with their payloads opened; a damaged one is given up, so that the rest flow on."""
        found = []
        for id_, chat_id, method, payload, *rest in self._rows(statement, *values):
            try:
                opened = orjson.loads(self.open_payload(chat_id, method, payload))
            except (StoreError, orjson.JSONDecodeError):
                self._run("UPDATE outbox SET state = 'failed', reason = 'damaged on disk' WHERE id = ?", id_)
                continue
            found.append((id_, chat_id, method, opened, *rest))
        return found

    def protect(self) -> None:
        """Seal what was written without a vault; delete what a backup brought back of erased people.

        Raises
        ------
        StartupError
            The journal is sealed and there is no vault.
        """
        is_sealed = bool(self._rows("SELECT n FROM tally WHERE name = 'sealed'"))
        if self._vault is None:
            if is_sealed:
                raise StartupError(f"The journal {self._path} is sealed.", cure="Open it with its vault.")
            return
        if not is_sealed:
            for seq, bot_id, update_id, raw in self._rows("SELECT seq, bot_id, update_id, raw FROM inbox"):
                self._run("UPDATE inbox SET raw = ? WHERE seq = ?", self.update(bot_id, update_id, raw), seq)
            for id_, chat_id, method, payload in self._rows("SELECT id, chat_id, method, payload FROM outbox"):
                sealed = self.payload(chat_id, method, payload)
                self._run("UPDATE outbox SET payload = ? WHERE id = ?", sealed, id_)
            self._run("INSERT INTO tally VALUES ('sealed', 1)")
        if self._vault.gone("telegram:"):
            for (chat_id,) in self._rows("SELECT DISTINCT chat_id FROM outbox"):
                erased_at = self._vault.gone_at(f"telegram:{self._vault.blind('telegram', str(chat_id))}")
                if erased_at is not None:
                    self._run("DELETE FROM outbox WHERE chat_id = ? AND queued_at < ?", chat_id, erased_at)

    def _seal(self, place: str, data: bytes) -> bytes:
        return data if self._vault is None or not data else self._vault.seal_bytes(JOURNAL, place, data)

    def _open(self, place: str, data: bytes) -> bytes:
        if self._vault is None or not data:
            return data
        return self._vault.open_bytes(JOURNAL, place, data) or b""
