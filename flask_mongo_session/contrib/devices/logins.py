"""Tells the application of log-ins from new devices, once the log-in is stored and the answer is made."""

from __future__ import annotations

import logging
import typing as t
from dataclasses import dataclass

from flask import Flask, has_request_context, request, request_finished
from flask.blueprints import BlueprintSetupState

from flask_mongo_session import ConfigurationError, MongoSession, SessionInfo, session_created, session_regenerated

from .device import Device, is_new

log = logging.getLogger(__name__)

_NOTED = "flask_mongo_session.log_in"
#: Reasons of a rotation that are a log-in; a session that is created for a user has none.
_LOGINS = (None, "login", "switch")
#: Sessions of the user that a log-in is compared with.
COMPARED = 100


@dataclass(frozen=True)
class NewLogin:
    """A log-in from a device that the user's other sessions do not know."""

    #: The user, as the record carries it.
    user_id: str
    device: Device
    #: How many other live sessions the user has. With 0 there was nothing to compare with: a first log-in, or all
    #: other sessions are over.
    others: int


NewLoginHook = t.Callable[[NewLogin], t.Any]
Describe = t.Callable[[SessionInfo, t.Sequence[SessionInfo]], Device]


class LoginWatch:
    """Calls *hook* for each log-in from a new device. Whatever the hook does, the answer stays what it is."""

    def __init__(self, sessions: MongoSession, hook: NewLoginHook, describe: Describe) -> None:
        self._sessions = sessions
        self._hook = hook
        self._describe = describe

    def install(self, state: BlueprintSetupState) -> None:
        """Listen to the application that the blueprint is registered on."""
        app = state.app
        if not app.config.get("SESSION_TRACK_DEVICE"):
            raise ConfigurationError(
                "on_new_login= needs SESSION_TRACK_DEVICE = True or 'truncated': else no device can be told apart."
            )

        session_created.connect(self.note, app)
        session_regenerated.connect(self.note, app)
        request_finished.connect(self.tell, app)
        # Signals hold their receivers weakly: the application keeps them.
        app.extensions.setdefault("mongo_session_logins", []).append(self)

    def note(self, _app: Flask, *, sid: str, user_id: str | None, reason: str | None = None, **_: t.Any) -> None:
        """A log-in was stored; the answer is still being made."""
        if user_id is not None and reason in _LOGINS and has_request_context():
            request.environ[_NOTED] = sid, user_id

    def tell(self, _app: Flask, **_: t.Any) -> None:
        """The answer is made: look whether the log-in lasted, and whether its device is new."""
        noted = request.environ.pop(_NOTED, None)
        if noted is None:
            return

        try:
            self._compare(*noted)
        except Exception:
            log.exception("A log-in from a new device could not be told; the log-in is not affected.")

    def _compare(self, sid: str, user_id: str) -> None:
        found = self._sessions.of_user(user_id, limit=COMPARED)
        info = next((one for one in found if one.sid == sid), None)
        if info is not None and is_new(info, found):
            self._hook(NewLogin(user_id, self._describe(info, found), len(found) - 1))
