"""Encryption at rest for the free-form keys: AES-256-GCM, one key for each session, each value bound to its place.

Optional (extra ``encryption``). The server sees names of keys, sizes, owners and expiry, never a value; declared
fields stay as they are, since they are declared to be queried.
"""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
import hmac
import os
import time
import typing as t

import bson
from bson.binary import Binary
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .exceptions import ConfigurationError, UnreadableValue
from .mongo.bson_types import CODEC_OPTIONS

_VERSION = b"\x01"
_KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12
_HEADER = len(_VERSION) + _ID_BYTES + _NONCE_BYTES


#: Seconds after which keys that a callable gave may be asked for again.
_ASK_AGAIN_SECONDS = 60.0

Key = str | bytes
Keys = t.Sequence[Key] | t.Callable[[], t.Sequence[Key]]


class Sealer:
    """Seals values with the first key of the ring and opens those sealed with any of it.

    A value opens only in the database, collection, session and field that it was sealed for (they are authenticated
    with it). The AES key is derived from the ring's key and the session id, so random nonces meet only within one
    session (NIST SP 800-38D).

    :param keys: the key ring, the newest first; or a callable that returns it, from a key management service for
        example. It is called at the first use, and again when a value was sealed with a key that is not known yet.
    """

    def __init__(self, keys: Keys) -> None:
        self._source = keys if callable(keys) else None
        self._keys: dict[bytes, bytes] = {}
        self._current = b""
        self._asked = -_ASK_AGAIN_SECONDS
        self._place: t.Callable[[], str] = str
        if not callable(keys):
            self._take(keys)

    def __repr__(self) -> str:
        """Without the keys."""
        return f"<Sealer with {len(self._keys)} keys>"

    def at(self, place: t.Callable[[], str]) -> Sealer:
        """The same keys for one database and collection, as *place* tells them when asked."""
        sealer = copy.copy(self)
        sealer._place = place  # noqa: SLF001 - its own kind
        return sealer

    @property
    def key_ids(self) -> list[bytes]:
        """What stands in a sealed value for each key of the ring, the newest first."""
        self._current_key()
        return list(self._keys)

    @staticmethod
    def key_id_of(sealed: t.Any) -> bytes | None:
        """Which key a stored value was sealed with; ``None`` for what is no sealed value."""
        if not isinstance(sealed, bytes) or len(sealed) < _HEADER or sealed[:1] != _VERSION:
            return None

        return bytes(sealed[1 : 1 + _ID_BYTES])

    def seal(self, sid: str, field: str, value: t.Any) -> Binary:
        """The encrypted form of an encoded value."""
        nonce, current = os.urandom(_NONCE_BYTES), self._current_key()
        plain = bson.encode({"": value}, codec_options=CODEC_OPTIONS)
        sealed = self._cipher(current, sid).encrypt(nonce, plain, self._where(sid, field))

        sealed_value: Binary = Binary(_VERSION + current + nonce + sealed)
        return sealed_value

    def open(self, sid: str, field: str, sealed: t.Any) -> t.Any:
        """The encoded value; raises :exc:`DamagedDocument` for plain, foreign, moved or tampered ones. No fall-back."""
        key_id = self.key_id_of(sealed)
        if key_id is None:
            raise UnreadableValue("A stored value is not encrypted, though SESSION_ENCRYPTION_KEYS is set.")
        if not self._knows(key_id):
            raise UnreadableValue("A stored value was encrypted with a key that SESSION_ENCRYPTION_KEYS does not hold.")

        nonce = sealed[1 + _ID_BYTES : _HEADER]
        try:
            plain = self._cipher(key_id, sid).decrypt(nonce, bytes(sealed[_HEADER:]), self._where(sid, field))
        except InvalidTag as error:
            raise UnreadableValue("A stored value was tampered with, or belongs to another session or key.") from error

        return bson.decode(plain, codec_options=CODEC_OPTIONS)[""]

    def seal_all(self, sid: str, data: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """All of ``data``, sealed."""
        return {field: self.seal(sid, field, value) for field, value in data.items()}

    def _take(self, keys: t.Sequence[Key]) -> None:
        ring = [_key_bytes(position, key) for position, key in enumerate(keys)]
        if not ring:
            raise ConfigurationError("SESSION_ENCRYPTION_KEYS is empty; leave it out to store in plain.")
        self._keys = {_key_id(key): key for key in ring}
        self._current = _key_id(ring[0])

    def _ask(self) -> None:
        """Take the keys from where they are kept, at most once a minute."""
        if self._source is not None and time.monotonic() - self._asked >= _ASK_AGAIN_SECONDS:
            self._asked = time.monotonic()
            self._take(self._source())

    def _current_key(self) -> bytes:
        if not self._current:
            self._ask()

        return self._current

    def _knows(self, key_id: bytes) -> bool:
        if key_id not in self._keys:
            self._ask()

        return key_id in self._keys

    def _cipher(self, key_id: bytes, sid: str) -> AESGCM:
        return AESGCM(hmac.new(self._keys[key_id], sid.encode("utf-8", "surrogatepass"), hashlib.sha256).digest())

    def _where(self, sid: str, field: str) -> bytes:
        return f"{self._place()}\x00{sid}\x00{field}".encode("utf-8", "surrogatepass")


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"flask-mongoengine-session key id" + key).digest()[:_ID_BYTES]


def _key_bytes(position: int, key: str | bytes) -> bytes:
    """Raw 32 bytes, or 32 bytes as base64 or hexadecimal text."""
    raw = key if isinstance(key, bytes) else _from_text(key)
    if len(raw) != _KEY_BYTES:
        raise ConfigurationError(
            f"SESSION_ENCRYPTION_KEYS[{position}] is no AES-256 key: give 32 bytes, raw, as base64 or in hexadecimal; "
            'make one with: python -c "import secrets; print(secrets.token_hex(32))"'
        )

    return raw


def _from_text(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass

    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
