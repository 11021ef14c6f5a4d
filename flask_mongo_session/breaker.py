"""What stands between a request and a database that does not answer: a time limit, a breaker, errors in our terms."""

from __future__ import annotations

import logging
import threading
import time
import typing as t

import pymongo
from bson.errors import BSONError
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteError,
)

from .exceptions import SessionStoreUnavailable
from .patience import await_server

if t.TYPE_CHECKING:
    from types import TracebackType

    from pymongo.client_session import ClientSession

    from .connection import Connection

log = logging.getLogger(__name__)

#: Failures in a row that open the breaker, and the seconds that it then answers by itself.
BREAKER_FAILURES = 3
BREAKER_SECONDS = 0.5
#: Seconds in which a further failure still belongs to the outage that the log told of.
OUTAGE_SECONDS = 10.0
#: Seconds for one command on the whole collection.
BACKGROUND_SECONDS = 30.0

#: What the data of one record is to blame for, not the system.
_FAULTS_OF_THE_DATA = (DuplicateKeyError, DocumentTooLarge, WriteError, BSONError)


class Breaker:
    """Answers for a database that failed several times in a row, so that requests do not queue up behind it.

    Half a second later one operation may try; the others go on being refused until it is back.
    """

    def __init__(self, trial_seconds: float) -> None:
        self._trial_seconds = trial_seconds
        #: Failures in a row.
        self.failures = 0
        #: Whether the last operation went well, so that there is no reason to look for a server first.
        self.calm = False
        self._refuse_until = self._recovered = self._quiet_until = 0.0
        self._announced = False
        self._refusal: object = None
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether an operation would be refused right now."""
        return self.failures >= BREAKER_FAILURES and time.monotonic() < self._refuse_until

    def enter(self) -> None:
        """Let an operation begin, or raise :exc:`SessionStoreUnavailable` at once."""
        if self.failures < BREAKER_FAILURES:
            return

        with self._lock:
            if self.open:
                raise SessionStoreUnavailable
            self._refuse_until = time.monotonic() + self._trial_seconds

    def succeeded(self) -> None:
        """The database answered."""
        if self.calm:
            return
        self.calm = True
        if self.failures:
            self.failures, self._recovered = 0, time.monotonic()
            if self._announced:
                log.info("The session store answers again.")
                self._announced = False
        self._refusal = None

    def failed(self, error: BaseException, began: float) -> None:
        """The database did not answer an operation that *began* then; said in the log once for each outage.

        One that began before the database was back says nothing about now.
        """
        if began < self._recovered:
            return
        now = time.monotonic()
        if not self.failures and now >= self._quiet_until:
            log.warning("The session store is unavailable: %s: %s", type(error).__name__, _reason(error))
            self._announced, self._quiet_until = True, now + OUTAGE_SECONDS

        self.failures += 1
        self._refuse_until = now + BREAKER_SECONDS
        self.calm = False  # last: whoever succeeds at the same time finds something to tidy up

    def refused(self, error: PyMongoError) -> None:
        """The database answered that it would not; said in the log once, until something succeeds."""
        self.failures = 0
        refusal = (type(error), getattr(error, "code", None))
        if refusal != self._refusal:
            log.error("The session store refused: %s: %s", type(error).__name__, _reason(error))
            self._refusal = refusal
        self.calm = False


class Operation:
    """One operation on the database: refused by an open breaker, bounded in time, its errors in our own terms.

    The context's value is a session of the driver's for its commands: to lend one costs less than starting one each.
    In the *background*, where no request waits, it may take longer, and its failure says nothing to requests.
    """

    __slots__ = ("_background", "_began", "_breaker", "_connection", "_limit", "_session")

    def __init__(self, connection: Connection, seconds: float, *, background: bool = False) -> None:
        self._connection = connection
        self._breaker = connection.breaker
        self._background = background
        self._session: ClientSession | None = None
        self._limit = pymongo.timeout(seconds)

    def __enter__(self) -> ClientSession:
        if self._background or not self._breaker.calm:
            self._enter_carefully()
        else:
            self._began = time.monotonic()
            self._limit.__enter__()

        self._session = session = self._connection.lend()
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
            self._connection.take_back(t.cast("ClientSession", self._session))
            if not self._breaker.calm:
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


def _reason(error: BaseException) -> str:
    """What went wrong without what was sent: a server's message may quote a value."""
    if isinstance(error, OperationFailure):
        return f"code {error.code} ({(error.details or {}).get('codeName', 'unknown')})"

    return str(error).partition(", Topology Description")[0]
