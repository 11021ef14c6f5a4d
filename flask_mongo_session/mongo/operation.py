"""What stands between a request and the database: a time limit, the breaker's word, errors in our own terms."""

from __future__ import annotations

import time
import typing as t

import pymongo
from bson.errors import BSONError
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    PyMongoError,
    WriteError,
)

from flask_mongo_session.exceptions import SessionStoreUnavailable

from .circuit_breaker import CircuitBreaker
from .clock import DatabaseClock
from .retry import Client, await_server

if t.TYPE_CHECKING:
    from types import TracebackType

    from pymongo.client_session import ClientSession

#: Seconds for one command on the whole collection.
BACKGROUND_SECONDS = 30.0

#: What the data of one record is to blame for, not the system.
_FAULTS_OF_THE_DATA = (DuplicateKeyError, DocumentTooLarge, WriteError, BSONError)


class Way(t.Protocol):
    """What an operation needs of the way to the database."""

    timeout: float
    breaker: CircuitBreaker
    clock: DatabaseClock

    @property
    def client(self) -> Client:
        """The client, which may have to be made first."""

    def check_out(self) -> ClientSession:
        """A session of the driver's, nobody else's meanwhile."""

    def check_in(self, session: ClientSession) -> None:
        """Keep it for the next operation."""


class Operation:
    """One operation on the database: refused by an open breaker, bounded in time, its errors in our own terms.

    The context's value is a session of the driver's for its commands: reusing one costs less than starting one each.
    In the *background*, where no request waits, it may take longer, and its failure says nothing to requests.
    """

    __slots__ = ("_background", "_began", "_breaker", "_connection", "_limit", "_session")

    def __init__(self, connection: Way, seconds: float, *, background: bool = False) -> None:
        self._connection = connection
        self._breaker = connection.breaker
        self._background = background
        self._session: ClientSession | None = None
        self._limit = pymongo.timeout(seconds)

    def __enter__(self) -> ClientSession:
        if self._background or not self._breaker.closed:
            self._enter_carefully()
        else:
            self._began = time.monotonic()
            self._limit.__enter__()

        self._session = session = self._connection.check_out()
        return session

    def _enter_carefully(self) -> None:
        """Nothing says that there is a server: find one first."""
        self._breaker.enter()
        client = self._connection.client  # may take its time to start, where the server is an embedded one
        self._began = time.monotonic()
        self._limit.__enter__()
        try:
            await_server(client, self._began + self._connection.timeout)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.__exit__(kind, error, trace)
        if error is None:
            self._connection.check_in(t.cast("ClientSession", self._session))
            if not self._breaker.closed:
                self._breaker.succeeded()
            return

        if self._session:
            self._session.end_session()
        if isinstance(error, _FAULTS_OF_THE_DATA):
            self._breaker.succeeded()
        elif isinstance(error, PyMongoError):
            self._unavailable(error)

    def _unavailable(self, error: PyMongoError) -> t.NoReturn:
        if self._background:
            raise SessionStoreUnavailable from error
        if error.timeout or isinstance(error, (ConnectionFailure, ExecutionTimeout)):
            self._connection.clock.forget()
            self._breaker.failed(error, self._began)
        else:
            self._breaker.refused(error)

        raise SessionStoreUnavailable from error
