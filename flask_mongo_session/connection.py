"""The way to the database: one lazy client per server and process, forks, time limit, breaker, its clock."""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import logging
import os
import threading
import time
import typing as t
import weakref

import pymongo
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteError,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from .codec import CODEC_OPTIONS
from .exceptions import SessionStoreUnavailable

if t.TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)

Client = pymongo.MongoClient[dict[str, t.Any]]

#: Seconds after which the database's clock is read again, and after which a change of primary is noticed.
CLOCK_MAX_AGE = 60.0
PRIMARY_CHECK_AGE = 1.0
#: Failures in a row that open the breaker, and the seconds that it then answers by itself.
BREAKER_FAILURES = 3
BREAKER_SECONDS = 0.5
#: Seconds in which a further failure still belongs to the outage that the log told of.
OUTAGE_SECONDS = 10.0

#: Seconds that the driver may wait for a server beyond its time limit, and between two looks of our own.
_OVERTIME, _POLL = 0.5, 0.02
#: Errors of a server, beside a lost connection and a change of primary, after which a read is worth another try; those
#: of the specification that all drivers follow ("Retryable Reads").
_TRANSIENT = frozenset({6, 7, 89, 134, 262, 9001})

#: Seconds that saying goodbye to a server may take when the process ends.
CLOSE_SECONDS = 0.5

_UTC_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
#: What the data of one record is to blame for, not the system.
_FAULTS_OF_THE_DATA = (DuplicateKeyError, DocumentTooLarge, WriteError, BSONError)


def database_now(client: Client) -> dt.datetime:
    """The time of the server that *client* talks to (UTC); one command."""
    return t.cast("dt.datetime", _hello(client)["localTime"])


def milliseconds(moment: dt.datetime) -> int:
    """UTC milliseconds since 1970, what BSON keeps of a date."""
    return (moment - _UTC_EPOCH) // dt.timedelta(milliseconds=1)


def moment(ms: float) -> dt.datetime:
    """The reverse of :func:`milliseconds`."""
    return _UTC_EPOCH + dt.timedelta(milliseconds=int(ms))


def _hello(client: Client) -> dict[str, t.Any]:
    return client.admin.command("hello", codec_options=t.cast("CodecOptions[t.Any]", CODEC_OPTIONS))


def _timed_hello(client: Client) -> tuple[float, dict[str, t.Any], float]:
    """The answer between the monotonic times at which it was asked for and came."""
    return time.monotonic(), _hello(client), time.monotonic()


_Answer = t.TypeVar("_Answer")


def _persist(client: Client, ask: t.Callable[[], _Answer], seconds: float) -> _Answer:
    """What *ask* returns, asked again after transient errors for so many seconds, as the driver does with its reads."""
    until = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except PyMongoError as error:
            if not _is_transient(error) or time.monotonic() >= until:
                raise
        _await_server(client, until)


def _await_server(client: Client, until: float) -> None:
    """Return when there is a server to talk to; raises :exc:`ServerSelectionTimeoutError` punctually.

    The driver alone looks for half a second longer than it was told to.
    """
    if client.topology_description.has_writable_server():
        return

    left = until - time.monotonic()
    with contextlib.suppress(ConnectionFailure), pymongo.timeout(max(left - _OVERTIME, _POLL)):
        _hello(client)
    while not client.topology_description.has_writable_server():
        if time.monotonic() >= until:
            raise ServerSelectionTimeoutError("no server could be selected in time")
        time.sleep(_POLL)


def _is_transient(error: PyMongoError) -> bool:
    """Whether another try may find a server that answers; where none could be selected, the time is used up."""
    if isinstance(error, AutoReconnect):
        return not isinstance(error, ServerSelectionTimeoutError)

    return isinstance(error, OperationFailure) and error.code in _TRANSIENT


class DatabaseClock:
    """The database's clock, anchored to the monotonic one, so that application hosts' clocks do not matter."""

    def __init__(self, patience: float = 2.0) -> None:
        self._patience = patience
        self._offset: float | None = None  # database's milliseconds minus monotonic milliseconds
        self._measured = self._checked = 0.0
        self._primary: t.Any = None

    def now(self, client: Client) -> dt.datetime:
        """The database's now (UTC, whole milliseconds). Asks the database when the last answer is too old.

        Raises what the driver raises; call it inside :meth:`Connection.operation`.
        """
        if self._is_stale(client):
            self._measure(client)

        return moment(time.monotonic() * 1000 + t.cast("float", self._offset))

    def known(self) -> dt.datetime | None:
        """The database's now where it need not be asked, ``None`` otherwise."""
        now = time.monotonic()
        if not self._measured or now - self._measured > CLOCK_MAX_AGE or now - self._checked > PRIMARY_CHECK_AGE:
            return None

        return moment(self.estimate())

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
        self._measured = 0.0

    def _is_stale(self, client: Client) -> bool:
        now = time.monotonic()
        if self._offset is None or not self._measured or now - self._measured > CLOCK_MAX_AGE:
            return True
        if now - self._checked < PRIMARY_CHECK_AGE:
            return False

        self._checked = now
        return bool(client.primary != self._primary)

    def _measure(self, client: Client) -> None:
        before, reply, after = _persist(client, lambda: _timed_hello(client), self._patience)

        self._offset = milliseconds(reply["localTime"]) - (before + after) * 500
        self._primary = client.primary
        self._measured = self._checked = after


class Breaker:
    """Answers for a database that failed several times in a row, so that requests do not queue up behind it.

    Half a second later one operation may try; the others go on being refused until it is back.
    """

    def __init__(self, trial_seconds: float) -> None:
        self._trial_seconds = trial_seconds
        #: Failures in a row.
        self.failures = 0
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

    def refused(self, error: PyMongoError) -> None:
        """The database answered that it would not; said in the log once, until something succeeds."""
        self.failures = 0
        refusal = (type(error), getattr(error, "code", None))
        if refusal != self._refusal:
            log.error("The session store refused: %s: %s", type(error).__name__, _reason(error))
            self._refusal = refusal


class Operation:
    """One operation on the database: refused by an open breaker, bounded in time, its errors in our own terms."""

    __slots__ = ("_began", "_breaker", "_connection", "_limit")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._breaker = connection.breaker
        self._limit = pymongo.timeout(connection.timeout)

    def __enter__(self) -> None:
        self._breaker.enter()
        if self._breaker.failures or not self._connection.clock.measured:
            self._enter_carefully()
            return

        self._began = time.monotonic()
        self._limit.__enter__()

    def _enter_carefully(self) -> None:
        """Nothing says that there is a server: find one first."""
        client = self._connection.client  # may take its time to start, where the server is an embedded one
        self._began = time.monotonic()
        self._limit.__enter__()
        try:
            _await_server(client, self._began + self._connection.timeout)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.__exit__(kind, error, trace)
        if error is None or isinstance(error, _FAULTS_OF_THE_DATA):
            self._breaker.succeeded()
        elif isinstance(error, PyMongoError):
            self._unavailable(error)

    def _unavailable(self, error: PyMongoError) -> t.NoReturn:
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


class Connection:
    """A database, reached on first use, with what sessions need pinned on it whatever its client says."""

    def __init__(
        self,
        resolve: t.Callable[[], Database[t.Any]],
        *,
        timeout: float = 2.0,
        write_concern: str | int = "majority",
    ) -> None:
        self.timeout = timeout
        self.write_concern = WriteConcern(w=write_concern, wtimeout=int(timeout * 1000) if write_concern != 0 else None)
        self._resolve = resolve
        self._begin()
        _connections.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._database: Database[t.Any] | None = None
        self._collections: dict[tuple[str, t.Any], Collection[dict[str, t.Any]]] = {}
        self._process = os.getpid()
        self.breaker = Breaker(self.timeout)
        self.clock = DatabaseClock(self.timeout)

    @property
    def database(self) -> Database[t.Any]:
        """The database; connects to nothing yet."""
        if self._database is None:
            with self._lock:
                if self._database is None:
                    self._database = self._resolve()

        return self._database

    @property
    def client(self) -> Client:
        """The database's client."""
        return self.database.client

    def collection(self, name: str, *, w: str | int | None = None) -> Collection[dict[str, t.Any]]:
        """The collection, read from the primary and written with our concern (or *w*); made once, since that costs."""
        found = self._collections.get((name, w))
        if found is None:
            found = self._collections[name, w] = self.database.get_collection(
                name,
                codec_options=CODEC_OPTIONS,
                read_preference=ReadPreference.PRIMARY,
                read_concern=ReadConcern("local"),
                write_concern=self.write_concern if w is None else WriteConcern(w=w),
            )

        return found

    def operation(self) -> Operation:
        """A context in which driver calls end within the time limit and fail as :exc:`SessionStoreUnavailable`."""
        return Operation(self)

    def now(self) -> dt.datetime:
        """The database's now (UTC, whole milliseconds); inside :meth:`operation`, since it may have to ask."""
        return self.clock.now(self.client)

    def read(self, command: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run a read command on the primary, again after a lost connection or a change of primary.

        Cheaper than the driver's own cursor for one document; the retries are those that the cursor would have got.
        """
        return _persist(self.client, lambda: self._run(command), self.timeout)

    def _run(self, command: dict[str, t.Any]) -> dict[str, t.Any]:
        return self.database.command(command, codec_options=t.cast("CodecOptions[t.Any]", CODEC_OPTIONS))

    @property
    def known_to_be_away(self) -> bool:
        """Whether an operation would have to wait for a server, as far as is known without asking."""
        if not (self.breaker.failures or self.clock.measured):
            return False

        return self.breaker.open or not self.client.topology_description.has_writable_server()

    def reset_after_fork(self) -> None:
        """Resolve anew: locks and clients of the parent are not ours. Once in each process."""
        if self._process != os.getpid():
            self._begin()


_clients: dict[str, Client] = {}
_clients_lock = threading.Lock()
_clients_process = os.getpid()
#: Clients of a parent process that cannot be closed here, kept since they would complain when collected.
_inherited: list[Client] = []
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def client_for(uri: str) -> Client:
    """This process's client for *uri*, shared by everybody who names it; closed at exit."""
    if _clients_process != os.getpid():
        _inherited.extend(_forget_clients())  # forked by a server written in C, which told nobody

    with _clients_lock:
        client = _clients.get(uri)
        if client is None:
            client = _clients[uri] = pymongo.MongoClient(
                _address(uri),
                connect=False,
                tz_aware=True,
                uuidRepresentation="standard",
                appname="flask-mongo-session",
            )

    return client



def _address(uri: str) -> str:
    if not uri.startswith("embedded:"):
        return uri

    from .embedded import embedded_server  # noqa: PLC0415 - only for those who use it

    return embedded_server(uri).start()


def _close_clients() -> None:
    for client in _clients.values():
        with contextlib.suppress(Exception), pymongo.timeout(CLOSE_SECONDS):
            client.close()

    _clients.clear()


def _after_fork() -> None:
    """In the child: the driver has already let go of the parent's sockets, so closing only says that we are done."""
    for client in _forget_clients():
        with contextlib.suppress(Exception):
            client.close()

    for connection in list(_connections):
        connection.reset_after_fork()


def _forget_clients() -> list[Client]:
    """Begin anew in this process; the parent's clients. Its lock may be held by a thread that does not exist here."""
    global _clients, _clients_lock, _clients_process
    parents = list(_clients.values())
    _clients, _clients_lock, _clients_process = {}, threading.Lock(), os.getpid()

    return parents


atexit.register(_close_clients)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
