"""The way to the database: one lazy client per server and process, what sessions need pinned on it, forks."""

from __future__ import annotations

import atexit
import collections
import contextlib
import datetime as dt
import threading
import time
import typing as t
import weakref

import pymongo
from bson.codec_options import CodecOptions
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from flask_mongo_session import process

from .bson_types import BARE_DATES, CODEC_OPTIONS
from .circuit_breaker import CircuitBreaker
from .clock import DatabaseClock
from .operation import BACKGROUND_SECONDS, Observer, Operation
from .retry import Client, retry

if t.TYPE_CHECKING:
    from pymongo.client_session import ClientSession

_BARE_DATES = t.cast("CodecOptions[t.Any]", BARE_DATES)
#: Seconds that saying goodbye to a server may take when the process ends.
CLOSE_SECONDS = 0.5


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
        #: Hear of every operation, for metrics.
        self.observers: tuple[Observer, ...] = ()
        self._resolve = resolve
        self.reset_after_fork()
        process.register(self)
        _connections.add(self)

    def reset_after_fork(self, *, announced: bool = False) -> None:  # noqa: ARG002 - the same either way
        """Resolve the database anew: locks, sockets and driver sessions of a parent process are not ours."""
        self._lock = threading.Lock()
        self._database: Database[t.Any] | None = None
        self._collections: dict[tuple[str, t.Any], Collection[dict[str, t.Any]]] = {}
        #: Driver sessions that no operation uses at the moment.
        self.idle_sessions: collections.deque[ClientSession] = collections.deque()
        self.breaker = CircuitBreaker(self.timeout)
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
        return Operation(self, self.timeout)

    def background_operation(self, seconds: float = BACKGROUND_SECONDS) -> Operation:
        """The same, bounded by so many *seconds*, for a command on the whole collection that no request waits for."""
        return Operation(self, seconds, background=True)

    def end_sessions(self) -> None:
        """Give the idle ones back to the client, which tells the server when it closes; no I/O."""
        while self.idle_sessions:
            self.idle_sessions.pop().end_session()

    def now(self) -> dt.datetime:
        """The database's now (UTC, whole milliseconds); inside :meth:`operation`, since it may have to ask."""
        return self.clock.known() or self.clock.now(self.client)

    def read(self, command: dict[str, t.Any], session: ClientSession) -> dict[str, t.Any]:
        """Run a read command on the primary, again after a lost connection or a change of primary.

        Dates come bare, see :data:`.BARE_DATES`.

        Cheaper than the driver's own cursor for one document; the retries are those that the cursor would have got.
        """
        began, database = time.monotonic(), self._database
        if database is None:
            database = self.database
        try:
            return database.command(command, codec_options=_BARE_DATES, session=session)
        except PyMongoError as error:
            first = error

        return retry(
            self.client,
            lambda: database.command(command, codec_options=_BARE_DATES, session=session),
            began + self.timeout,
            first,
        )

    @property
    def known_to_be_away(self) -> bool:
        """Whether an operation would have to wait for a server, as far as is known without asking."""
        if not (self.breaker.failures or self.clock.measured):
            return False

        return self.breaker.open or not self.client.topology_description.has_writable_server()


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


class _Clients:
    """This process's clients by URI."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_uri: dict[str, Client] = {}
        #: A parent's clients that cannot be closed here, kept since they would complain when collected.
        self._inherited: list[Client] = []

    def reset_after_fork(self, *, announced: bool = False) -> None:
        """Close the parent's clients, which only says that we are done, if the driver has let go of its sockets."""
        parents, self.by_uri, self.lock = list(self.by_uri.values()), {}, threading.Lock()
        if not announced:
            self._inherited += parents
            return

        for client in parents:
            with contextlib.suppress(Exception):
                client.close()


_clients = _Clients()
process.register(_clients)


def client_for(uri: str) -> Client:
    """This process's client for *uri*, shared by everybody who names it; closed at exit."""
    process.notice_fork()

    with _clients.lock:
        client = _clients.by_uri.get(uri)
        if client is None:
            client = _clients.by_uri[uri] = pymongo.MongoClient(
                _address(uri),
                connect=False,
                tz_aware=True,
                uuidRepresentation="standard",
                appname="flask-mongoengine-session",
            )

    return client


def _address(uri: str) -> str:
    if not uri.startswith("embedded:"):
        return uri

    from flask_mongo_session.embedded.server import embedded_server  # noqa: PLC0415 - only for those who use it

    return embedded_server(uri).start()


def _close_clients() -> None:
    for connection in list(_connections):
        connection.end_sessions()
    for client in _clients.by_uri.values():
        with contextlib.suppress(Exception), pymongo.timeout(CLOSE_SECONDS):
            client.close()

    _clients.by_uri.clear()


atexit.register(_close_clients)
