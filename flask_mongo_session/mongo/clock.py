"""The database's clock: the one time that all application hosts agree on."""

from __future__ import annotations

import datetime as dt
import time
import typing as t

from .bson_types import milliseconds, moment
from .retry import Client, hello, retry

#: Seconds after which the clock is read again, and after which a change of primary is noticed.
CLOCK_MAX_AGE = 60.0
PRIMARY_CHECK_AGE = 1.0


def database_now(client: Client) -> dt.datetime:
    """The time of the server that *client* talks to (UTC); one command."""
    return t.cast("dt.datetime", hello(client)["localTime"])


class DatabaseClock:
    """The database's clock, anchored to the monotonic one, so that application hosts' clocks do not matter."""

    def __init__(self, patience: float = 2.0) -> None:
        self._timeout = patience
        self._offset: float | None = None  # database's milliseconds minus monotonic milliseconds
        self._measured = self._known_until = 0.0
        self._primary: t.Any = None

    def now(self, client: Client) -> dt.datetime:
        """The database's now (UTC, whole milliseconds). Asks the database when the last answer is too old.

        Raises what the driver raises; call it inside :meth:`Connection.operation`.
        """
        if self._is_stale(client):
            self._measure(client)

        return moment(time.monotonic() * 1000 + t.cast("float", self._offset))

    def known(self) -> dt.datetime | None:
        """The database's now where nothing has to be looked at, ``None`` otherwise."""
        now = time.monotonic()
        return moment(now * 1000 + t.cast("float", self._offset)) if now < self._known_until else None

    def estimate(self) -> int:
        """The database's now in milliseconds as far as known without asking; at first the host's."""
        if self._offset is None:
            return int(time.time() * 1000)

        return int(time.monotonic() * 1000 + self._offset)

    @property
    def measured(self) -> bool:
        """Whether the database has ever been asked."""
        return self._offset is not None

    def forget(self) -> None:
        """Ask again the next time."""
        self._measured = self._known_until = 0.0

    def _is_stale(self, client: Client) -> bool:
        now = time.monotonic()
        if not self._measured or now - self._measured > CLOCK_MAX_AGE or client.primary != self._primary:
            return True

        self._known_until = min(now + PRIMARY_CHECK_AGE, self._measured + CLOCK_MAX_AGE)
        return False

    def _measure(self, client: Client) -> None:
        before, reply, after = retry(client, lambda: _timed_hello(client), self._timeout)

        self._offset = milliseconds(reply["localTime"]) - (before + after) * 500
        self._primary = client.primary
        self._measured, self._known_until = after, after + PRIMARY_CHECK_AGE


def _timed_hello(client: Client) -> tuple[float, dict[str, t.Any], float]:
    """The answer between the monotonic times at which it was asked for and came."""
    return time.monotonic(), hello(client), time.monotonic()
