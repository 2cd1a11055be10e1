"""A stream sealed piece by piece into one file: AES-256-GCM, every piece bound to its place and to the file's head.

After the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, 2015): pieces cannot be dropped, moved, repeated or cut off at the end unnoticed. The file's own key
is derived from the given one and a salt, so that nonces, which count pieces, never meet again.

The file: `MAGIC`, the id of the vault whose key it needs (16 bytes), salt (16 bytes), then pieces of `PIECE` bytes and
a tag of 16 bytes each; only the last may be shorter.
"""

from __future__ import annotations

import os
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import BadInput, StoreError

MAGIC = b"PFBACKUP1\n"
ID_BYTES = SALT_BYTES = TAG_BYTES = 16
PIECE = 1 << 20
HEAD = len(MAGIC) + ID_BYTES + SALT_BYTES
OTHER_COPY = "Take another copy of this backup, or an older one."


class SealedWriter:
    """Seals what is written into an open file; `finish` writes the last piece.

    Parameters
    ----------
    file : binary file
    key : bytes
        32 bytes.
    vault_id : bytes
        16 bytes, written plainly: tells later which keys open it.
    """

    def __init__(self, file: IO[bytes], key: bytes, vault_id: bytes) -> None:
        self._file = file
        self._head = MAGIC + vault_id + os.urandom(SALT_BYTES)
        self._cipher = _cipher(key, self._head)
        self._count = 0
        self._waiting = bytearray()
        file.write(self._head)

    def write(self, data: bytes) -> int:
        """Take bytes; returns how many."""
        self._waiting += data
        while len(self._waiting) > PIECE:  # one piece is kept back: it may be the last
            self._seal(bytes(self._waiting[:PIECE]), is_last=False)
            del self._waiting[:PIECE]
        return len(data)

    def finish(self) -> None:
        """Write the last piece."""
        self._seal(bytes(self._waiting), is_last=True)
        self._waiting.clear()

    def _seal(self, piece: bytes, *, is_last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._count, is_last), piece, self._head))
        self._count += 1


class SealedReader:
    """Opens a file that `SealedWriter` wrote; gives nothing of a piece that is not whole.

    Parameters
    ----------
    file : binary file
    key : bytes
        32 bytes.
    vault_id : bytes
        Of the keys at hand.

    Raises
    ------
    BadInput
        It is no such file.
    StoreError
        It is sealed with another vault's keys.
    """

    def __init__(self, file: IO[bytes], key: bytes, vault_id: bytes) -> None:
        self._file = file
        self._head = file.read(HEAD)
        if len(self._head) < HEAD or not self._head.startswith(MAGIC):
            raise BadInput("This is no PostFinder backup, or its beginning is damaged.", cure=OTHER_COPY)
        wanted = self._head[len(MAGIC) : len(MAGIC) + ID_BYTES]
        if wanted != vault_id:
            raise StoreError(
                f"This backup is sealed with the keys of vault {wanted.hex()[:8]}, the keys here are of "
                f"{vault_id.hex()[:8]}.",
                cure="Set POSTFINDER_KEY_FILE to the master key that belongs to it, its keyring beside it.",
            )
        self._cipher = _cipher(key, self._head)
        self._count = 0
        self._next = file.read(PIECE + TAG_BYTES)
        self._open = bytearray()
        self._is_done = False

    def read(self, size: int) -> bytes:
        """Give up to so many bytes; empty at the end.

        Raises
        ------
        StoreError
            A piece is damaged, missing or out of place.
        """
        while len(self._open) < size and not self._is_done:
            piece = self._next
            self._next = self._file.read(PIECE + TAG_BYTES)
            self._is_done = not self._next
            try:
                self._open += self._cipher.decrypt(_nonce(self._count, self._is_done), piece, self._head)
            except (InvalidTag, ValueError) as error:
                place = HEAD + self._count * (PIECE + TAG_BYTES)
                raise StoreError(
                    f"The backup is damaged or cut off after byte {place}; nothing of it was used.", cure=OTHER_COPY
                ) from error
            self._count += 1
        found = bytes(self._open[:size])
        del self._open[:size]
        return found


def _cipher(key: bytes, head: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt=head[-SALT_BYTES:], info=b"postfinder backup").derive(key))


def _nonce(count: int, is_last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes([is_last])
