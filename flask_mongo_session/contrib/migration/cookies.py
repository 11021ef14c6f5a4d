"""Old sessions that are a signed cookie: Flask's own, and Werkzeug's (``SecureCookie``).

They leave nothing to remove. So that a cookie cannot be used again after a log-out, a small collection remembers which
have been moved, as the id of the record that each became, until the cookie itself expires.

Cookies with equal content, signed in the same second, are one and the same text: two visitors may hold it. A cookie in
which nobody is logged in therefore becomes a session of its own each time that it comes, so that strangers never share
one. With a user in it, it is that user's, on whichever device.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import json
import logging
import secrets
import typing as t
from urllib.parse import unquote_plus

from flask.sessions import SecureCookieSessionInterface
from itsdangerous import BadData
from pymongo.errors import OperationFailure

from flask_mongo_session.document.filters import TOMBSTONE_LIFE
from flask_mongo_session.document.record import user_of
from flask_mongo_session.web.old_cookie import Secret

from .old_session import Claim, OldSession

if t.TYPE_CHECKING:
    from flask import Flask
    from pymongo.collection import Collection

    from flask_mongo_session.storage.repository import SessionRepository

log = logging.getLogger(__name__)

#: The collection of cookies whose sessions have moved.
_MOVED = "moved_cookies"
_flask = SecureCookieSessionInterface()
#: Where nothing says when a cookie expires, it is remembered for good.
_NEVER = dt.datetime(9999, 12, 31, tzinfo=dt.timezone.utc)


class CookieSource:
    """Sessions that the cookie itself holds."""

    name = "cookie"

    def __init__(self, user_keys: t.Iterable[str]) -> None:
        self._user_keys = user_keys
        self._indexed = False

    def recognise(self, app: Flask, value: Secret) -> Claim | None:
        """See :class:`Source`."""
        claim = _flask_claim(app, value) or _werkzeug_claim(app, value)
        if claim is None or claim.session is None or user_of(claim.session.values, self._user_keys) is not None:
            return claim

        return claim._replace(identity=Secret(secrets.token_urlsafe()), drawn=True)

    def read(self, repository: SessionRepository, claim: Claim, sid: str) -> OldSession | None:
        """See :class:`Source`."""
        if claim.drawn:
            return claim.session

        with repository.connection.operation() as session:
            moved = repository.beside(_MOVED).find_one({"_id": sid}, session=session)

        return claim.session if moved is None else None

    def retire(self, repository: SessionRepository, claim: Claim, sid: str) -> None:
        """See :class:`Source`."""
        if claim.drawn:
            return

        expires_at = (claim.session.expires_at if claim.session else None) or _NEVER
        expires_at = min(expires_at, _NEVER - TOMBSTONE_LIFE) + TOMBSTONE_LIFE  # clocks may differ
        with repository.connection.operation() as session:
            collection = repository.beside(_MOVED)
            if not self._indexed:
                self._create_index(collection)
            collection.update_one({"_id": sid}, {"$set": {"expires_at": expires_at}}, upsert=True, session=session)

    def _create_index(self, collection: Collection[dict[str, t.Any]]) -> None:
        """So that the server forgets expired cookies; where that is not allowed, they are remembered for longer."""
        self._indexed = True
        try:
            collection.create_index("expires_at", expireAfterSeconds=0)
        except OperationFailure as error:
            log.warning("Cannot create the index that cleans up %s: code %s", collection.name, error.code)


def _flask_claim(app: Flask, value: Secret) -> Claim | None:
    """Of a cookie as Flask signs it; what tells it from others is what is signed, since a signature can be respelt."""
    signer, lifetime = _flask.get_signing_serializer(app), app.permanent_session_lifetime
    if signer is None or "." not in value:
        return None

    try:
        values, signed_at = signer.loads(value, max_age=int(lifetime.total_seconds()), return_timestamp=True)
    except (BadData, ValueError, OverflowError, RecursionError):
        return None

    if not isinstance(values, dict):
        return None
    expires_at = signed_at + min(lifetime, _NEVER - signed_at)
    return Claim(Secret(value.rpartition(".")[0]), OldSession(values, expires_at, None, signed_at))


def _werkzeug_claim(app: Flask, value: Secret) -> Claim | None:
    """Of a cookie as Werkzeug's ``SecureCookie`` signs it, with its values as JSON."""
    signature, found, signed = value.partition("?")
    if not found or not value.isascii() or not _is_signed(app, signature, signed):
        return None

    try:
        pairs = [item.split("=", 1) for item in signed.split("&")]
        values = {unquote_plus(key): json.loads(base64.b64decode(text, validate=True)) for key, text in pairs}
        ends = values.pop("_expires", None)
        expires_at = None if ends is None else dt.datetime.fromtimestamp(ends, dt.timezone.utc)
    except (ValueError, TypeError, OverflowError, OSError, RecursionError):
        return None

    if expires_at is not None and expires_at <= dt.datetime.now(dt.timezone.utc):
        return None
    return Claim(Secret(_as_signed(signed)), OldSession(values, expires_at))


def _is_signed(app: Flask, signature: str, signed: str) -> bool:
    try:
        given = base64.b64decode(signature)
    except (binascii.Error, ValueError):
        return False

    keys = [key for key in (app.secret_key, *(app.config["SECRET_KEY_FALLBACKS"] or ())) if key]
    signing = [key.encode() if isinstance(key, str) else key for key in keys]
    macs = [hmac.new(key, _as_signed(signed).encode(), hashlib.sha1).digest() for key in signing]
    return any(hmac.compare_digest(mac, given) for mac in macs)


def _as_signed(signed: str) -> str:
    """The very text that Werkzeug's signature covers."""
    return "|" + signed.replace("&", "|")
