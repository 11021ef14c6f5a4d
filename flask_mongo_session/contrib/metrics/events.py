"""What is counted and measured, whoever exports it: from the signals, the operations and the circuit breaker."""

from __future__ import annotations

import logging
import typing as t

from blinker import NamedSignal
from flask import Flask

from flask_mongo_session import (
    MongoSessionState,
    MongoSessionStore,
    SetupError,
    session_created,
    session_destroyed,
    session_regenerated,
    session_rejected,
    sessions_swept,
)

log = logging.getLogger(__name__)

#: What a label says where the package announces a reason that is not listed here: labels stay bounded.
OTHER = "other"


class Counter(t.NamedTuple):
    """Something that happens to sessions."""

    help: str
    #: The values of its label ``reason``; empty: it has none.
    reasons: tuple[str, ...] = ()


COUNTERS = {
    "created": Counter("Sessions that were stored for the first time."),
    "ended": Counter("Sessions that were ended before their time.", ("logout", "revoked", "merged", OTHER)),
    "rejected": Counter("Cookies that named no live session.", ("forged", "unknown", "expired", "damaged", OTHER)),
    "rotated": Counter(
        "Sessions that went on under a new token.",
        ("login", "logout", "switch", "regenerate", "confirm", "clear", OTHER),
    ),
    "swept": Counter("Expired sessions that were removed."),
}
#: The values of the two labels of an operation: for whom it ran, and what became of it.
KINDS, OUTCOMES = ("request", "background"), ("ok", "failed")
#: Upper bounds (seconds) of the classes of the latency: past the last one stands the default time limit.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


class Instruments(t.Protocol):
    """One exporter's counters."""

    def add(self, name: str, amount: int, reason: str | None) -> None:
        """Count *amount* more of :data:`COUNTERS`' *name*."""

    def timed(self, seconds: float, kind: str, outcome: str) -> None:
        """One operation took so long."""

    def breaker(self, *, tripped: bool) -> None:
        """The circuit breaker after an operation."""


class Recorder:
    """Hears of everything and tells the exporter. A failing exporter is logged and harms no request."""

    def __init__(self, app: Flask, instruments: Instruments, *, rejected: bool) -> None:
        self._instruments = instruments
        self._store = store = state_of(app).store
        heard: list[tuple[NamedSignal, t.Callable[..., None]]] = [
            (session_created, self.created),
            (session_destroyed, self.ended),
            (session_regenerated, self.rotated),
            (sessions_swept, self.swept),
        ]
        if rejected:
            heard.append((session_rejected, self.rejected))
        for signal, receiver in heard:
            signal.connect(receiver, app)
        store.connection.observers += (self.operated,)
        # Signals hold their receivers weakly: the application keeps them, for as long as there is one.
        app.extensions.setdefault("mongo_session_metrics", []).append(self)

    def created(self, _app: Flask, **_: t.Any) -> None:
        """A session was stored for the first time."""
        self._instruments.add("created", 1, None)

    def ended(self, _app: Flask, *, reason: str, **_: t.Any) -> None:
        """A session was ended."""
        self._add("ended", reason)

    def rotated(self, _app: Flask, *, reason: str, **_: t.Any) -> None:
        """A session got a new token."""
        self._add("rotated", reason)

    def rejected(self, _app: Flask, *, reason: str, **_: t.Any) -> None:
        """A cookie named no live session."""
        self._add("rejected", reason)

    def swept(self, _app: Flask, *, count: int, **_: t.Any) -> None:
        """Expired sessions were removed."""
        self._instruments.add("swept", count, None)

    def operated(self, seconds: float, failure: Exception | None, *, background: bool) -> None:
        """An operation on the database ended."""
        try:
            self._instruments.timed(seconds, KINDS[background], OUTCOMES[failure is not None])
            self._instruments.breaker(tripped=self._store.connection.breaker.tripped)
        except Exception:
            log.exception("An operation could not be counted; the session is not affected.")

    def _add(self, name: str, reason: str) -> None:
        self._instruments.add(name, 1, reason if reason in COUNTERS[name].reasons else OTHER)


def state_of(app: Flask) -> MongoSessionState:
    """What the extension keeps for *app*. Raises :exc:`SetupError` where it is not set up."""
    state: MongoSessionState | None = app.extensions.get("mongo_session")
    if state is None:
        raise SetupError(f"The application {app.name!r} has no sessions to measure: call MongoSession(app) first.")

    return state


def store_of(app: Flask) -> MongoSessionStore:
    """The store of :func:`state_of`."""
    return state_of(app).store
