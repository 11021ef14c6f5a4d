"""The way to the database: one lazy client per server and process, what sessions need pinned on it, forks."""

from __future__ import annotations

import atexit
import collections
import contextlib
import datetime as dt
import os
import threading
import typing as t
import weakref

import pymongo
from bson.codec_options import CodecOptions
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from .bson_types import CODEC_OPTIONS
from .circuit_breaker import CircuitBreaker
from .clock import DatabaseClock
from .operation import BACKGROUND_SECONDS, Operation
from .retry import Client, retry

if t.TYPE_CHECKING:
    from pymongo.client_session import ClientSession

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
        self._resolve = resolve
        self._begin()
        _connections.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._database: Database[t.Any] | None = None
        self._collections: dict[tuple[str, t.Any], Collection[dict[str, t.Any]]] = {}
        self._idle_sessions: collections.deque[ClientSession] = collections.deque()
        self._process = os.getpid()
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

    def check_out(self) -> ClientSession:
        """A session of the driver's, nobody else's until :meth:`check_in`; not causally consistent, as its own are."""
        try:
            return self._idle_sessions.pop()
        except IndexError:
            return self.client.start_session(causal_consistency=False)

    def check_in(self, session: ClientSession) -> None:
        """Keep a session that was lent for the next operation."""
        self._idle_sessions.append(session)

    def end_sessions(self) -> None:
        """Give the idle ones back to the client, which tells the server when it closes; no I/O."""
        while self._idle_sessions:
            self._idle_sessions.pop().end_session()

    def now(self) -> dt.datetime:
        """The database's now (UTC, whole milliseconds); inside :meth:`operation`, since it may have to ask."""
        return self.clock.known() or self.clock.now(self.client)

    def read(self, command: dict[str, t.Any], session: ClientSession) -> dict[str, t.Any]:
        """Run a read command on the primary, again after a lost connection or a change of primary.

        Cheaper than the driver's own cursor for one document; the retries are those that the cursor would have got.
        """
        return retry(self.client, lambda: self._run(command, session), self.timeout)

    def _run(self, command: dict[str, t.Any], session: ClientSession) -> dict[str, t.Any]:
        options = t.cast("CodecOptions[t.Any]", CODEC_OPTIONS)
        return self.database.command(command, codec_options=options, session=session)

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

    from flask_mongo_session.embedded.server import embedded_server  # noqa: PLC0415 - only for those who use it

    return embedded_server(uri).start()


def _close_clients() -> None:
    for connection in list(_connections):
        connection.end_sessions()
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
