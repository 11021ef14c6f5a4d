"""Runs commands under a time limit and a circuit breaker, and translates the driver's errors."""

from __future__ import annotations

import collections
import time
import typing as t

import pymongo
from bson.errors import BSONError
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    PyMongoError,
    WriteError,
)

from flask_mongo_session.exceptions import SessionStoreUnavailable

from .circuit_breaker import CircuitBreaker
from .clock import DatabaseClock, boottime
from .retry import Client, await_server

if t.TYPE_CHECKING:
    from types import TracebackType

    from pymongo.client_session import ClientSession

#: Seconds for one command on the whole collection.
BACKGROUND_SECONDS = 30.0
#: Seconds that the server may work on handing out a whole collection: it counts the limit of the first command over all
#: that follow.
WALK_SECONDS = 600.0
#: Driver sessions kept for reuse; more than this many operations at once start sessions of their own.
MAX_IDLE_SESSIONS = 64

#: Errors for which the data of one record is to blame, not the system.
_FAULTS_OF_THE_DATA = (DuplicateKeyError, DocumentTooLarge, WriteError, BSONError)
#: Errors that mean that nobody answered. Here a ConfigurationError says that an SRV name was not resolved.
_OUTAGES = (ConnectionFailure, ExecutionTimeout, ConfigurationError)


class Observer(t.Protocol):
    """Hears of every operation that ended."""

    def __call__(self, seconds: float, failure: PyMongoError | None, *, background: bool) -> None:
        """It took so long; *failure* says why the database did not carry it out, if it did not. Must not raise."""


class Target(t.Protocol):
    """What an operation needs of a connection."""

    timeout: float
    breaker: CircuitBreaker
    clock: DatabaseClock
    idle_sessions: collections.deque[ClientSession]
    observers: tuple[Observer, ...]
    follows: bool

    def catch_up(self) -> None:
        """Go on with another database where there is one."""

    @property
    def client(self) -> Client:
        """The client, which may have to be made first."""


class Operation:
    """A context for the commands of one operation.

    An open circuit breaker refuses it, a time limit of *seconds* ends it, and the driver's errors leave it as
    :exc:`SessionStoreUnavailable`. Errors that the data of one record causes pass through. The context's value is a
    driver session for the commands; reusing one is cheaper than starting one for each command.

    In the *background*, where no request waits, it may take longer, and its failure tells the breaker nothing.
    """

    __slots__ = ("_background", "_began", "_limit", "_session", "_target")

    def __init__(self, target: Target, seconds: float | None = None, *, background: bool = False) -> None:
        self._target = target
        self._background = background
        self._session: ClientSession | None = None
        self._limit = pymongo.timeout(target.timeout if seconds is None else seconds)

    def __enter__(self) -> ClientSession:
        target = self._target
        if target.follows:
            target.catch_up()
        if self._background or not target.breaker.closed:
            self._enter_carefully()
        else:
            self._began = boottime()
            self._limit.__enter__()

        try:
            self._session = session = target.idle_sessions.pop()
        except IndexError:
            self._session = session = target.client.start_session(causal_consistency=False)
        return session

    def _enter_carefully(self) -> None:
        """Wait for a server first, since nothing says that there is one."""
        target = self._target
        target.breaker.enter()
        self._began = boottime()
        try:
            client = target.client  # may take its time to start, where the server is an embedded one
        except PyMongoError as error:
            self._limit.__enter__()
            self.__exit__(type(error), error, error.__traceback__)
            raise

        self._began = boottime()
        self._limit.__enter__()
        try:
            await_server(client, time.monotonic() + target.timeout)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.__exit__(kind, error, trace)
        target, session = self._target, self._session
        if error is None and session is not None and len(target.idle_sessions) < MAX_IDLE_SESSIONS:
            target.idle_sessions.append(session)
        elif session is not None:
            session.end_session()

        failure = None
        if error is None or (isinstance(error, _FAULTS_OF_THE_DATA) and not _is_foreign(error)):
            if not target.breaker.closed:
                target.breaker.succeeded()
        elif isinstance(error, PyMongoError):
            failure = error
            if not self._background:
                self._tell_breaker(failure)

        for observe in target.observers:
            observe(boottime() - self._began, failure, background=self._background)
        if failure is not None:
            raise SessionStoreUnavailable from failure

    def _tell_breaker(self, error: PyMongoError) -> None:
        if error.timeout or isinstance(error, _OUTAGES):
            self._target.clock.forget()
            self._target.breaker.failed(error, self._began)
        else:
            self._target.breaker.refused(error)


def _is_foreign(error: BaseException) -> bool:
    """Whether a unique index refused the record that is none of ours: somebody made it beside them."""
    pattern = (error.details or {}).get("keyPattern", {}) if isinstance(error, DuplicateKeyError) else {}
    return bool(pattern) and list(pattern) != ["_id"]
