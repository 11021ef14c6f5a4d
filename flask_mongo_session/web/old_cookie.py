"""A cookie that another library set, and the cookie of ours that takes its place.

Session id and token are computed from the old cookie. So all requests that carry it meet in one record, whichever of
them stores it, and bring the browser one and the same cookie. The token takes the secret key, which no database holds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import typing as t

from flask_mongo_session.document.record import Document
from flask_mongo_session.session.state import CookieContent, Secret, extras_of, token_hash
from flask_mongo_session.storage.repository import Found

if t.TYPE_CHECKING:
    from flask import Flask

__all__ = ["Migration", "OldCookie", "Secret"]

_ID_LABEL = b"flask-mongoengine-session migrated id\0"
_TOKEN_LABEL = b"flask-mongoengine-session migrated token\0"
_ID_BYTES = 16


class OldCookie:
    """The session of ours that an old cookie leads to.

    :param identity: what tells it from all others, the same however the cookie is spelt.
    :param keys: the application's secret keys, the newest first.
    """

    __slots__ = ("cookie", "tokens")

    def __init__(self, identity: Secret, keys: t.Iterable[str | bytes]) -> None:
        identity_bytes = identity.encode("utf-8", "surrogatepass")
        sid = _text(hashlib.sha256(_ID_LABEL + identity_bytes).digest()[:_ID_BYTES])
        #: The token that the record has, by each of the keys.
        self.tokens = tuple(_token(key, identity_bytes) for key in keys)
        #: Our cookie, without a token until :meth:`settle`: nothing can be done to the record without finding it.
        self.cookie = CookieContent(sid, "")

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"<{type(self).__name__} for {self.cookie.sid}>"

    @property
    def hashed(self) -> bytes:
        """What a new record keeps of the token."""
        return self.hashes[0]

    @property
    def hashes(self) -> list[bytes]:
        """What a record may have of it, by each of the keys."""
        return [token_hash(token) for token in self.tokens]

    def settle(self, record: Document) -> None:
        """Make the cookie the one of *record*, which has been found to be what the old cookie leads to."""
        cookie, hashes = self.cookie, self.hashes
        number = hashes.index(record["token"]) if record.get("token") in hashes else 0
        cookie.token, cookie.hashed = self.tokens[number], hashes[number]
        cookie.permanent, cookie.deadline = extras_of(record)


class Migration(t.Protocol):
    """What takes over sessions of another library, where the application asks for that."""

    def recognise(self, app: Flask, value: Secret) -> OldCookie | None:
        """The cookie that was to be another library's; ``None`` for what it cannot be. No I/O."""

    def find(self, old: OldCookie | None, sid: str, token: bytes, reading: float) -> Found:
        """The record and its standing, after moving the session that *old* leads to, if that was not done."""


def _token(key: str | bytes, identity: bytes) -> Secret:
    secret = key.encode() if isinstance(key, str) else key
    return Secret(_text(hmac.new(secret, _TOKEN_LABEL + identity, hashlib.sha256).digest()))


def _text(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
