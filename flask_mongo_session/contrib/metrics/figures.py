"""What the database alone knows: how many sessions are alive, and the last sweep. Asked rarely, however often read."""

from __future__ import annotations

import os
import threading
import time
import typing as t
import weakref

from flask_mongo_session import MongoSessionStore, SessionStoreUnavailable
from flask_mongo_session.management.statistics import live_count


class DatabaseFigures(t.NamedTuple):
    """The database's figures at one moment."""

    live: int
    #: The last sweep of all workers: ``at``, ``count``, ``seconds``; ``None`` before the first.
    sweep: dict[str, t.Any] | None


class CachedFigures:
    """The figures of *store*, measured at most once per so many *seconds* in each process.

    A second reader does not wait for the first one's measurement but gets the figures from before. The store is held
    weakly, since exporters live as long as the process.
    """

    def __init__(self, store: MongoSessionStore, seconds: float) -> None:
        self._store = weakref.ref(store)
        self._seconds = seconds
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._until = 0.0
        self._figures: DatabaseFigures | None = None

    def get(self) -> DatabaseFigures | None:
        """The figures; ``None`` while the database does not answer, and in the moment of the first measurement."""
        if self._process != os.getpid():
            self._reset()  # a lock that was taken during the fork is never given back on this side

        store, lock = self._store(), self._lock
        if store is None:
            return None
        if time.monotonic() >= self._until and lock.acquire(blocking=False):
            try:
                self._figures = measure(store)
            except SessionStoreUnavailable:
                self._figures = None
            finally:
                self._until = time.monotonic() + self._seconds
                lock.release()
        return self._figures

    @property
    def tripped(self) -> bool:
        """Whether this process's circuit breaker refuses operations."""
        store = self._store()
        return store is not None and store.connection.breaker.tripped


def measure(store: MongoSessionStore) -> DatabaseFigures:
    """With five bounded commands at the most. Raises :exc:`SessionStoreUnavailable`."""
    return DatabaseFigures(live_count(store), next(iter(store.sweeps()), None))
