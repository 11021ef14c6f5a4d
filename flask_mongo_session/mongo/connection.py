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
from urllib.parse import urlsplit

import pymongo
from bson.codec_options import CodecOptions
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ConfigurationError, PyMongoError, ServerSelectionTimeoutError
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
_PLAIN, _SRV = "mongodb://", "mongodb+srv://"
#: Seconds that saying goodbye to a server may take when the process ends.
CLOSE_SECONDS = 0.5


class Connection:
    """A database, reached on first use, with what sessions need pinned on it whatever its client says.

    With *follow* the database is asked for again at each operation, since somebody else may have exchanged it.
    """

    def __init__(
        self,
        resolve: t.Callable[[], Database[t.Any]],
        *,
        timeout: float = 2.0,
        write_concern: str | int = "majority",
        follow: bool = False,
    ) -> None:
        self.timeout = timeout
        #: Whether :meth:`catch_up` has something to do.
        self.follows = follow
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

    def catch_up(self) -> None:
        """Go on with another database where there is one: MongoEngine's alias was connected anew, for example."""
        present, known = self._resolve(), self._database
        if known is not None and (present.client is not known.client or present.name != known.name):
            self.end_sessions()
            self.reset_after_fork()

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

        Cheaper than the driver's own cursor for one document; the retries are those that the cursor would have got.
        Dates come bare, see :data:`.BARE_DATES`.
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
    """This process's clients by URI, without the database."""

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


def client_for(uri: str, timeout: float) -> Client:
    """This process's client for *uri*, shared by everybody who names the same server; closed at exit.

    Names behind an SRV address have *timeout* seconds to resolve. Raises
    :exc:`pymongo.errors.ServerSelectionTimeoutError` where they do not; the next call tries again.
    """
    process.notice_fork()

    server = _without_database(uri)
    with _clients.lock:
        client = _clients.by_uri.get(server)
        if client is None:
            client = _clients.by_uri[server] = _new_client(uri, timeout)

    return client


def _new_client(uri: str, timeout: float) -> Client:
    options: dict[str, t.Any] = {
        "tz_aware": True,
        "uuidRepresentation": "standard",
        "appname": "flask-mongoengine-session",
    }
    if not uri.startswith(_SRV):
        return pymongo.MongoClient(_address(uri), connect=False, **options)

    if "connecttimeoutms=" not in uri.lower():  # else the driver waits 20 s for names
        options["connectTimeoutMS"] = int(timeout * 1000)
    try:
        return pymongo.MongoClient(uri, connect=False, **options)
    except ConfigurationError as error:  # before 4.11 PyMongo asks for the names here
        raise ServerSelectionTimeoutError(f"{urlsplit(uri).hostname}: {error}") from None


def _without_database(uri: str) -> str:
    """The part of *uri* that says which server, and as whom: a user may be known in the named database alone."""
    hosts, slash, rest = uri.removeprefix(_SRV).removeprefix(_PLAIN).partition("/")
    options = rest.partition("?")[2]
    if uri.startswith("embedded:") or not slash or ("@" in hosts and "authsource=" not in options.lower()):
        return uri

    return f"{_SRV if uri.startswith(_SRV) else _PLAIN}{hosts}/?{options}"


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
