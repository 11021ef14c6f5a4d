"""Whether sessions can be had at this moment, for readiness probes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flask import Flask

from flask_mongo_session import SessionStoreUnavailable

from .events import state_of

#: The id of no session: real ones are made of other characters.
_NOBODY = "readiness probe"


@dataclass(frozen=True)
class Health:
    """What :func:`check_health` found; it names no host, no database and no reason, so anybody may see it."""

    ok: bool
    #: How long the answer took.
    seconds: float

    def __bool__(self) -> bool:
        """Whether sessions can be had."""
        return self.ok

    @property
    def status(self) -> str:
        """``"ok"`` or ``"unavailable"``."""
        return "ok" if self.ok else "unavailable"

    @property
    def code(self) -> int:
        """The HTTP status for a probe: 200 or 503."""
        return 200 if self.ok else 503


def check_health(app: Flask) -> Health:
    """Whether the database answers a read of *app*'s sessions, within ``SESSION_MONGODB_TIMEOUT`` seconds.

    One indexed ``find`` that finds nothing. While the circuit breaker refuses operations the answer comes at once; a
    failed probe counts for the breaker as any other operation does. Never raises.
    """
    store, began = state_of(app).store, time.monotonic()
    try:
        store.find(_NOBODY)
    except SessionStoreUnavailable:
        return Health(ok=False, seconds=time.monotonic() - began)

    return Health(ok=True, seconds=time.monotonic() - began)
