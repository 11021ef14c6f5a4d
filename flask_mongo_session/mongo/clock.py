"""The database's clock: the one time that all application hosts agree on."""

from __future__ import annotations

import datetime as dt
import functools
import time
import typing as t

from pymongo.errors import PyMongoError

from .bson_types import EPOCH, MILLISECOND, milliseconds, moment
from .retry import Client, hello, retry

#: Seconds after which the clock is read again, and after which a change of primary is noticed.
CLOCK_MAX_AGE = 60.0
PRIMARY_CHECK_AGE = 1.0
#: Seconds by which the host's wall clock may drift from its monotonic one before the database is asked again.
_JUMP = 2.0

#: A monotonic clock in seconds that goes on while the machine sleeps, where the system has one.
boottime: t.Callable[[], float] = (
    functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


def database_now(client: Client) -> dt.datetime:
    """The time of the server that *client* talks to (UTC); one command."""
    return t.cast("dt.datetime", hello(client)["localTime"])


class DatabaseClock:
    """The database's clock, anchored to :func:`boottime`, so that the clocks of application hosts do not matter."""

    def __init__(self, timeout: float = 2.0) -> None:
        self._timeout = timeout
        self._offset: float | None = None  # the database's milliseconds minus those of the boot clock
        self._measured = self._known_until = 0.0
        self._wall = 0.0  # the host's wall clock minus its boot clock, when the database was asked
        self._primary: t.Any = None

    def now(self, client: Client) -> dt.datetime:
        """The database's now (UTC, whole milliseconds). Asks the database when the last answer is too old.

        Raises what the driver raises; call it inside an :class:`Operation`.
        """
        if self._is_stale(client):
            self._measure(client)

        return moment(boottime() * 1000 + t.cast("float", self._offset))

    def known(self) -> dt.datetime | None:
        """The database's now where nothing has to be checked, ``None`` otherwise."""
        reading = boottime()
        if not self._measured <= reading < self._known_until:
            return None

        return EPOCH + int(reading * 1000 + t.cast("float", self._offset)) * MILLISECOND

    def at(self, reading: float) -> dt.datetime | None:
        """The database's time at a *reading* of :func:`boottime`; ``None`` before the database was ever asked."""
        return None if self._offset is None else moment(reading * 1000 + self._offset)

    def estimate(self) -> dt.datetime:
        """The database's now as far as known without asking; at first the host's."""
        return self.at(boottime()) or dt.datetime.now(dt.timezone.utc)

    @property
    def measured(self) -> bool:
        """Whether the database has ever been asked."""
        return self._offset is not None

    def forget(self) -> None:
        """Ask again the next time."""
        self._measured = self._known_until = 0.0

    def _is_stale(self, client: Client) -> bool:
        reading = boottime()
        if not self._measured or not 0 <= reading - self._measured <= CLOCK_MAX_AGE:
            return True
        if client.primary != self._primary or abs(time.time() - reading - self._wall) > _JUMP:
            return True

        self._known_until = min(reading + PRIMARY_CHECK_AGE, self._measured + CLOCK_MAX_AGE)
        return False

    def _measure(self, client: Client) -> None:
        began = time.monotonic()
        try:
            before, reply, after = _timed_hello(client)
        except PyMongoError as error:
            before, reply, after = retry(client, lambda: _timed_hello(client), began + self._timeout, error)

        self._offset = milliseconds(reply["localTime"]) - (before + after) * 500
        self._primary = client.primary
        self._measured, self._known_until = after, after + PRIMARY_CHECK_AGE
        self._wall = time.time() - after


def _timed_hello(client: Client) -> tuple[float, dict[str, t.Any], float]:
    """The answer between the readings of the boot clock at which it was asked for and came."""
    before = boottime()
    return before, hello(client), boottime()
