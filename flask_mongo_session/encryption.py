"""Encryption at rest for the free-form keys: AES-256-GCM, one key for each session, each value bound to its place.

Optional (extra ``encryption``). The server sees names of keys, sizes, owners and expiry, never a value; declared
fields stay as they are, since they are declared to be queried.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
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


class Sealer:
    """Seals values with the first key of the ring and opens those sealed with any of it.

    A value opens only in the session and under the field that it was sealed for (they are authenticated with it). The
    AES key is derived from the ring's key and the session id, so random nonces meet only within one session (NIST SP
    800-38D).
    """

    def __init__(self, keys: t.Sequence[str | bytes]) -> None:
        ring = [_key_bytes(position, key) for position, key in enumerate(keys)]
        self._keys = {_key_id(key): key for key in ring}
        self._current = _key_id(ring[0])

    def __repr__(self) -> str:
        """Without the keys."""
        return f"<Sealer with {len(self._keys)} keys>"

    def seal(self, sid: str, field: str, value: t.Any) -> Binary:
        """The encrypted form of an encoded value."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = bson.encode({"": value}, codec_options=CODEC_OPTIONS)
        sealed = self._cipher(self._current, sid).encrypt(nonce, plain, _place(sid, field))

        sealed_value: Binary = Binary(_VERSION + self._current + nonce + sealed)
        return sealed_value

    def open(self, sid: str, field: str, sealed: t.Any) -> t.Any:
        """The encoded value; raises :exc:`DamagedDocument` for plain, foreign, moved or tampered ones. No fall-back."""
        if not isinstance(sealed, bytes) or len(sealed) < _HEADER or sealed[:1] != _VERSION:
            raise UnreadableValue("A stored value is not encrypted, though SESSION_ENCRYPTION_KEYS is set.")

        key_id = bytes(sealed[1 : 1 + _ID_BYTES])
        if key_id not in self._keys:
            raise UnreadableValue("A stored value was encrypted with a key that SESSION_ENCRYPTION_KEYS does not hold.")

        nonce = sealed[1 + _ID_BYTES : _HEADER]
        try:
            plain = self._cipher(key_id, sid).decrypt(nonce, bytes(sealed[_HEADER:]), _place(sid, field))
        except InvalidTag as error:
            raise UnreadableValue("A stored value was tampered with, or belongs to another session or key.") from error

        return bson.decode(plain, codec_options=CODEC_OPTIONS)[""]

    def seal_all(self, sid: str, data: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """All of ``data``, sealed."""
        return {field: self.seal(sid, field, value) for field, value in data.items()}

    def open_all(self, sid: str, data: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """All of ``data``, opened; raises :exc:`DamagedDocument` for the first value that does not open."""
        return {field: self.open(sid, field, sealed) for field, sealed in data.items()}

    def _cipher(self, key_id: bytes, sid: str) -> AESGCM:
        return AESGCM(hmac.new(self._keys[key_id], sid.encode(), hashlib.sha256).digest())


def _place(sid: str, field: str) -> bytes:
    return f"{sid}\x00{field}".encode("utf-8", "surrogatepass")


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"flask-mongo-session key id" + key).digest()[:_ID_BYTES]


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
