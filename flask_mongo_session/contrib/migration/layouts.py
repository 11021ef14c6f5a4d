"""How Flask-Session and flask-mongoengine store a session, and what their cookies say."""

from __future__ import annotations

import re
import typing as t

from itsdangerous import BadSignature, Signer

from flask_mongo_session.web.old_cookie import Secret

from .old_session import Unreadable, secret_keys

if t.TYPE_CHECKING:
    from flask import Flask

#: What ``secrets.token_urlsafe`` and ``uuid.uuid4`` make.
_SESSION_ID = re.compile(r"[\w-]{8,512}", re.ASCII)
_SALT = "flask-session"


class Layout(t.Protocol):
    """How a library stores a session."""

    name: str
    #: What its documents have and ours have not.
    old: t.ClassVar[dict[str, t.Any]]
    #: The field to find a session by, where the library has no index on it.
    indexed: t.ClassVar[str | None]

    def key_in(self, app: Flask, value: Secret) -> Secret | None:
        """The session id in a cookie."""

    def filter(self, key: Secret) -> dict[str, t.Any]:
        """The document with this id."""

    def key_of(self, document: dict[str, t.Any]) -> Secret:
        """The id of a document."""

    def values_of(self, document: dict[str, t.Any]) -> dict[t.Any, t.Any]:
        """The session's values."""


class FlaskSessionLayout:
    """Flask-Session 0.4 to 0.8: ``{id: "session:<sid>", val, expiration}``.

    :param signed: accept only signed ids (``SESSION_USE_SIGNER``).
    """

    name = "flask-session"
    old: t.ClassVar[dict[str, t.Any]] = {"val": {"$exists": True}, "expires_at": None}
    indexed: t.ClassVar[str | None] = "id"

    def __init__(
        self,
        prefix: str,
        decode: t.Callable[[bytes], dict[t.Any, t.Any]],
        *,
        signed: bool,
    ) -> None:
        self._prefix = prefix
        self._decode = decode
        self._signed = signed

    def key_in(self, app: Flask, value: Secret) -> Secret | None:
        """The id, whose signature is verified where there is one."""
        for key in secret_keys(app):
            try:
                return Secret(Signer(key, salt=_SALT, key_derivation="hmac").unsign(value).decode())
            except (BadSignature, UnicodeDecodeError):
                continue

        return None if self._signed else session_id(value)

    def filter(self, key: Secret) -> dict[str, t.Any]:
        """By the id with its prefix."""
        return {"id": Secret(self._prefix + key)}

    def key_of(self, document: dict[str, t.Any]) -> Secret:
        """The id without its prefix."""
        key = document.get("id")
        if not isinstance(key, str) or not key.startswith(self._prefix):
            raise Unreadable("Its id does not begin with SESSION_KEY_PREFIX.")

        return Secret(key.removeprefix(self._prefix))

    def values_of(self, document: dict[str, t.Any]) -> dict[t.Any, t.Any]:
        """Decoded from ``val``."""
        serialized = document.get("val")
        if isinstance(serialized, str):
            serialized = serialized.encode("utf-8", "surrogatepass")
        if not isinstance(serialized, bytes):
            raise Unreadable("What it holds are no bytes.")

        return self._decode(serialized)


class MongoEngineLayout:
    """flask-mongoengine and flask-mongoengine-3: ``{_id: sid, data, expiration}``."""

    name = "flask-mongoengine"
    old: t.ClassVar[dict[str, t.Any]] = {"expiration": {"$exists": True}, "expires_at": None}
    indexed: t.ClassVar[str | None] = None

    def key_in(self, app: Flask, value: Secret) -> Secret | None:  # noqa: ARG002 - nothing is signed
        """The cookie is the id."""
        return session_id(value)

    def filter(self, key: Secret) -> dict[str, t.Any]:
        """By the id."""
        return {"_id": key}

    def key_of(self, document: dict[str, t.Any]) -> Secret:
        """The id."""
        key = document.get("_id")
        if not isinstance(key, str):
            raise Unreadable("Its id is no text.")

        return Secret(key)

    def values_of(self, document: dict[str, t.Any]) -> dict[t.Any, t.Any]:
        """As they are."""
        values = document.get("data", {})
        if not isinstance(values, dict):
            raise Unreadable("Its data is no document.")

        return values


def session_id(value: Secret) -> Secret | None:
    """The cookie's value if it may be an unsigned session id."""
    return value if _SESSION_ID.fullmatch(value) else None
