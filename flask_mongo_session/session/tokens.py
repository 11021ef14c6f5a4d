"""The secret in the cookie: making it, signing it with what travels beside it, and its public shadow, the session id.

The cookie's value is ``token.extras.signature``. The extras save reads; they decide nothing that the server does not
check.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import typing as t
from base64 import urlsafe_b64encode

from itsdangerous import BadSignature, Signer
from itsdangerous.signer import SigningAlgorithm

#: Longest cookie value looked at; ours take about 115 characters.
MAX_COOKIE_LENGTH = 512

_SALT = b"flask-mongo-session"
_TOKEN_BYTES = 32
#: The last that Python has a date for: the end of the year 9999.
_LAST_MOMENT = 253402300799999


def new_token() -> str:
    """A fresh secret of 256 random bits, 43 characters (OWASP ASVS 5.0 7.2.3 asks for 128)."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def session_id(token: str) -> str:
    """The token's SHA-256 in base64url, 43 characters: safe to store, to log and to show; leads back to no token."""
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


class CookieContent(t.NamedTuple):
    """A cookie's content: the token, and what the last response knew of the session. Times are UTC milliseconds."""

    token: str
    touched: int
    permanent: bool = False
    deadline: int | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"<CookieContent touched={self.touched} permanent={self.permanent} deadline={self.deadline}>"

    def pack(self) -> str:
        """The text that gets signed."""
        deadline = "" if self.deadline is None else f"-{self.deadline:x}"
        return f"{self.token}.{'p' if self.permanent else 's'}{self.touched:x}{deadline}"

    @classmethod
    def unpack(cls, text: str) -> CookieContent:
        """Read what :meth:`pack` wrote; raises :exc:`ValueError` for anything else."""
        token, extras = text.split(".")
        touched, _, end = extras[1:].partition("-")
        deadline = int(end, 16) if end else None

        if not token or extras[0] not in "ps" or not 0 <= (deadline or 0) <= _LAST_MOMENT:
            raise ValueError("not a ticket")

        return cls(token, int(touched, 16), extras[0] == "p", deadline)


class CookieSigner:
    """Signs tickets with the newest secret key and accepts those of the older ones (``SECRET_KEY_FALLBACKS``)."""

    def __init__(self, secret_key: str | bytes, fallbacks: t.Iterable[str | bytes] = ()) -> None:
        keys = [*map(_derive, fallbacks), _derive(secret_key)]  # itsdangerous expects the newest last
        self._signer = Signer(keys, key_derivation="none", algorithm=_PreparedHMAC())
        self._newest = (
            Signer(keys[-1], key_derivation="none", algorithm=self._signer.algorithm) if len(keys) > 1 else None
        )

    def sign(self, ticket: CookieContent) -> str:
        """The cookie's value."""
        return self._signer.sign(ticket.pack()).decode("ascii")

    def read(self, value: str) -> CookieContent | None:
        """The ticket; ``None`` for everything that we did not sign."""
        if len(value) > MAX_COOKIE_LENGTH or not value.isascii():
            return None

        try:
            return CookieContent.unpack(self._signer.unsign(value).decode("ascii"))
        except (BadSignature, ValueError, IndexError):
            return None

    def is_newest(self, accepted: str) -> bool:
        """Whether a value that :meth:`read` accepts was signed with the newest key."""
        return self._newest is None or self._newest.validate(accepted)

    @staticmethod
    def claim(value: str) -> CookieContent | None:
        """What the value says of itself, whoever signed it; ``None`` for what no ticket looks like.

        For deciding that there is nothing to do, and for nothing else.
        """
        try:
            return CookieContent.unpack(value.rpartition(".")[0])
        except (ValueError, IndexError):
            return None


class _PreparedHMAC(SigningAlgorithm):
    """HMAC-SHA256 with each key set up once: that takes longer than a signature does."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, hmac.HMAC] = {}

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._prepared[key] = hmac.new(key, digestmod="sha256")

        mac = prepared.copy()
        mac.update(value)
        return mac.digest()


def _derive(secret_key: str | bytes) -> bytes:
    secret = secret_key.encode() if isinstance(secret_key, str) else secret_key
    return hmac.new(secret, _SALT, hashlib.sha256).digest()
