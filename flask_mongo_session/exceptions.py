"""Every error that this package raises, in one tree.

Three kinds, told apart by who can mend them: the developer (configuration, set-up, a value that cannot be
stored), nobody in the browser (garbage from a client is never an exception, it is an empty session), and the
system (:class:`SessionStoreUnavailable`). A message names the symptom, the thing, and the likely fix; it never holds a
token or a value out of a session.
"""

from __future__ import annotations

import logging
import typing as t

from mongoengine.errors import ValidationError
from werkzeug.exceptions import Forbidden, ServiceUnavailable


class MongoSessionError(Exception):
    """Base of all errors of this package."""


class SetupError(MongoSessionError, RuntimeError):
    """The extension was used in an order that cannot work (no ``init_app``, ``init_app`` twice)."""


class ConfigurationError(MongoSessionError, ValueError):
    """A configuration key is unknown or holds a value that cannot be used."""


class ConfigurationTypeError(ConfigurationError, TypeError):
    """A configuration key, or an argument of the extension, holds a value of the wrong type."""


class ModelError(ConfigurationError, TypeError):
    """A session model declares something that a session cannot have; raised when the class is made."""


class EmbeddedServerError(MongoSessionError, RuntimeError):
    """The embedded ``mongod`` could not be found or started; the message says which, and what to install or free."""


class UnstorableValue(MongoSessionError, TypeError):
    """A value cannot be stored losslessly; names the session key and the type, never the value."""


class InvalidFieldValue(MongoSessionError, ValidationError, ValueError):
    """A declared field refused the value assigned to its key; names key, field and rule.

    A :class:`mongoengine.ValidationError`, so what catches MongoEngine's own catches this too.
    """

    def __init__(self, message: str, field_name: str | None = None) -> None:
        ValidationError.__init__(self, message, field_name=field_name)


class SessionTooLarge(MongoSessionError, ValueError):
    """The session would outgrow ``SESSION_MAX_SIZE`` (bytes); the stored one is untouched."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The session would take {size} bytes, SESSION_MAX_SIZE allows {limit}: "
            f"keep large values in a collection of their own and their ids in the session."
        )
        self.size = size
        self.limit = limit


class TooManySessions(MongoSessionError, Forbidden):
    """The user has ``SESSION_MAX_PER_USER`` live sessions and the policy is ``"refuse"``; nobody was logged in.

    An HTTP 403 that goes through the application's own handlers. ``limit`` is the number that is allowed.
    """

    description = "You are logged in on too many devices. Log out on one of them, then try again."

    def __init__(self, limit: int) -> None:
        Forbidden.__init__(self)
        self.limit = limit

    def get_headers(self, *args: t.Any, **kwargs: t.Any) -> list[tuple[str, str]]:
        """The headers of a 403 that nothing between us and the browser may keep."""
        return [*super().get_headers(*args, **kwargs), ("Cache-Control", "no-store")]


class EncryptionUnsupported(MongoSessionError, RuntimeError):
    """The database was asked to compute with a value that it cannot read because it is encrypted."""


class DamagedDocument(MongoSessionError):
    """A stored document or value is not what this package writes. Internal: users see an empty session."""

    #: How loudly the log says so.
    level = logging.WARNING


class UnreadableValue(DamagedDocument):
    """A stored value does not open with the keys that are configured: somebody forgot one, or moved the value."""

    level = logging.ERROR


class SessionStoreUnavailable(MongoSessionError, ServiceUnavailable):
    """The database did not answer in time, or refused. An HTTP 503 (RFC 9110 §15.6.4) when it leaves a view.

    It goes through the application's own handlers for 503. ``retry_after`` is in seconds.
    """

    description = "The session store is unavailable for the moment. Please try again shortly."

    def __init__(self, description: str | None = None, *, retry_after: int = 1) -> None:
        ServiceUnavailable.__init__(self, description, retry_after=retry_after)

    def get_headers(self, *args: t.Any, **kwargs: t.Any) -> list[tuple[str, str]]:
        """The headers of a 503 that nothing between us and the browser may keep."""
        return [*super().get_headers(*args, **kwargs), ("Cache-Control", "no-store")]
