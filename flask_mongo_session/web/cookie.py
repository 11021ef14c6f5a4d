"""The session cookie: found in a request, verified, signed.

Its value is ``id.token.extras.signature``: the session id, the secret, whether the session is permanent (``p`` or
``s``) with its deadline if there is one, and an HMAC over all of it. Where nobody could say whether a rotation was
stored, both secrets stand in it: ``id.token.new-token.extras.signature``.
"""

from __future__ import annotations

import hmac
import typing as t
from base64 import urlsafe_b64encode

from flask_mongo_session.mongo.bson_types import LAST_MOMENT
from flask_mongo_session.session.state import CookieContent

if t.TYPE_CHECKING:
    from werkzeug.wrappers import Request

#: Longest cookie value looked at; ours take about 120 characters, 165 with two tokens.
MAX_COOKIE_LENGTH = 512

_SALT = b"flask-mongoengine-session"
_BLANKS = " \t"


def find_cookie(request: Request, name: str) -> str | None:
    """The cookie's value as ``request.cookies.get(name)`` has it, without taking all cookies apart for it.

    Only blanks and tabs are stripped from names (RFC 6265 §5.2): a name with any other character around it is another
    cookie's, which a subdomain may have set.
    """
    header: str = request.environ.get("HTTP_COOKIE", "")
    start = header.find(name)
    while start >= 0:
        end = start + len(name)
        if header[:start].rstrip(_BLANKS)[-1:] in ("", ";") and header[end:].lstrip(_BLANKS)[:1] == "=":
            value = header[end:].partition(";")[0].partition("=")[2].strip(_BLANKS)
            return request.cookies.get(name) if value.startswith('"') else value
        start = header.find(name, end)

    return None if name.isascii() else request.cookies.get(name)


def says_permanent(value: str) -> bool:
    """Whether a cookie's text claims to be that of a permanent session; nothing is verified."""
    return value.rpartition(".")[0].rpartition(".")[2][:1] == "p"


class CookieSigner:
    """Signs cookies with the newest secret key and accepts those of the older ones (``SECRET_KEY_FALLBACKS``).

    The format is that of :class:`itsdangerous.Signer`, which takes three times as long.
    """

    def __init__(self, secret_key: str | bytes, fallbacks: t.Iterable[str | bytes] = ()) -> None:
        self._keys = [_prepared(key) for key in (secret_key, *fallbacks)]

    def sign(self, content: CookieContent) -> str:
        """The cookie's value."""
        deadline = "" if content.deadline is None else f"{content.deadline:x}"
        pending = "" if content.pending is None else f".{content.pending}"
        text = f"{content.sid}.{content.token}{pending}.{'p' if content.permanent else 's'}{deadline}"
        return f"{text}.{_signature(self._keys[0], text)}"

    def read(self, value: str) -> CookieContent | None:
        """What the cookie says; ``None`` for everything that we did not sign."""
        if len(value) > MAX_COOKIE_LENGTH or not value.isascii():
            return None

        text, _, signature = value.rpartition(".")
        for key in self._keys:
            if hmac.compare_digest(_signature(key, text), signature):
                break
        else:
            return None

        try:
            sid, token, *pending, extras = text.split(".")
            deadline = int(extras[1:], 16) if extras[1:] else None
            kind = extras[0]
        except (ValueError, IndexError):
            return None

        complete = sid and token and all(pending) and len(pending) <= 1
        if not complete or kind not in "ps" or not 0 <= (deadline or 0) <= LAST_MOMENT:
            return None
        return CookieContent(sid, token, kind == "p", deadline, pending[0] if pending else None)


def _prepared(secret_key: str | bytes) -> hmac.HMAC:
    """The HMAC-SHA256 with a key derived from the secret one, set up once: that takes longer than a signature does."""
    secret = secret_key.encode() if isinstance(secret_key, str) else secret_key
    return hmac.new(hmac.digest(secret, _SALT, "sha256"), digestmod="sha256")


def _signature(key: hmac.HMAC, text: str) -> str:
    mac = key.copy()
    mac.update(text.encode())
    return urlsafe_b64encode(mac.digest()).rstrip(b"=").decode()
