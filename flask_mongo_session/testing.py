"""A pytest plugin: a real MongoDB for tests, as fixtures that start nothing until a test asks for them.

``mongo_server`` and ``mongo_database`` are for the everyday, ``mongo_server_own`` and ``mongo_replica_set`` for tests
that do harm. All servers listen on the loopback address only, ask for a password, which their ``uri`` carries, and end
with the pytest process, whatever ends that one. Without the password anybody on the machine may still set fail points.

Without a ``mongod`` the tests that ask for one are skipped, saying what to install; they fail with
``--require-mongod`` or where ``$CI`` is set.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
import typing as t
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

# The plugin is loaded into every run of pytest wherever the package is installed: what costs is imported where used.
if t.TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

    Client = MongoClient[dict[str, t.Any]]

__all__ = ["MongoServer", "ReplicaSet"]

_REPLICA_SET = "flask-mongoengine-session"
_TEST_COMMANDS = ("--setParameter", "enableTestCommands=1")
#: A member that ends cleanly waits for clients to leave, 15 s by default.
_QUICK_END = ("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100")
_ELECTIONS = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 500, "heartbeatTimeoutSecs": 1}
#: Seconds: between two looks; for one answer; for a server to end; for a replica set to come to terms.
_POLL, _TIMEOUT, _END_TIMEOUT, _SET_TIMEOUT = 0.05, 1.0, 30.0, 60.0
_PRIMARY, _SECONDARY = 1, 2


class MongoServer:
    """A ``mongod`` of the tests. Whatever is done to it, :meth:`start` brings it back on the same port and data.

    *set_password* is for the members of a replica set, which have one user and one password.
    """

    def __init__(self, folder: Path, *, arguments: t.Sequence[str] = (), set_password: str | None = None) -> None:
        from .embedded.server import EmbeddedServer

        self._server = EmbeddedServer(folder, temporary=True, arguments=arguments, set_password=set_password)
        self._server.acquire()

    def __repr__(self) -> str:
        """The port, and the process if there is one."""
        return f"<MongoServer on port {self.port}, process {self._server.pid}>"

    @property
    def port(self) -> int:
        """The port on the loopback address; 0 before the first start."""
        return self._server.fixed_port

    @property
    def uri(self) -> str:
        """A connection string for this server alone, with its password once it was started."""
        return self._server.uri(self.port)

    @property
    def pid(self) -> int:
        """The process id of ``mongod``; raises :class:`ProcessLookupError` when it does not run."""
        pid = self._server.pid  # of a living server: nobody else's process is ever signalled
        if pid is None:
            raise ProcessLookupError(f"{self!r} does not run: start() it first.")
        return pid

    @property
    def running(self) -> bool:
        """Whether there is a process, paused or not."""
        return self._server.running

    def client(self, **options: t.Any) -> Client:
        """A new ``MongoClient`` for this server, which the caller closes."""
        from pymongo import MongoClient

        return MongoClient(self.uri, **options)

    def command(self, *command: t.Any, timeout: float = _TIMEOUT, **options: t.Any) -> dict[str, t.Any]:
        """The answer to one administrative command; raises what pymongo raises, after *timeout* seconds at most."""
        with self._server.internal_client(self.port, timeout) as client:
            return client.admin.command(*command, **options)

    def start(self) -> str:
        """The URI of the server, which runs and answers from now on."""
        self._server.start()
        self._server.fixed_port = self._server.port or self.port
        return self.uri

    def restart(self) -> str:
        """The URI of the server, after a clean end and a new start on the same port and data."""
        self.terminate()
        return self.start()

    def kill(self) -> None:
        """End the process without warning (SIGKILL); returns when it is gone. A dead one is left alone."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """End the process cleanly (SIGTERM), even a paused one; returns when it is gone. A dead one is left alone."""
        self.resume()
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Stop the process where it is (SIGSTOP): connections stay open, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        _poll(lambda: _is_stopped(self.pid), _END_TIMEOUT, f"{self!r} to stop")

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT). One that runs, or is dead, is left alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Return when the server answers; raises :class:`TimeoutError` after *timeout* seconds."""
        _poll(lambda: _ask(self, "ping"), timeout, f"{self!r} to answer")

    def close(self) -> None:
        """Let go of the server: it ends and its folder is removed, unless another process uses it."""
        self.resume()
        self._server.release()

    def _end(self, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, how)
            _poll(lambda: not self.running, _END_TIMEOUT, f"{self!r} to end")


class ReplicaSet:
    """Three ``mongod`` with fast elections and test commands (fail points). :meth:`heal` makes it whole again."""

    def __init__(self, folder: Path) -> None:
        from .embedded.password import new_password

        self._password = new_password()
        arguments = ("--replSet", _REPLICA_SET, "--oplogSize", "16", *_TEST_COMMANDS, *_QUICK_END)
        self.nodes = [
            MongoServer(folder / f"node-{number}", arguments=arguments, set_password=self._password)
            for number in range(3)
        ]

    def __repr__(self) -> str:
        """The nodes."""
        return f"<ReplicaSet {self.nodes}>"

    @property
    def uri(self) -> str:
        """A connection string for the whole set."""
        from .embedded.password import server_uri

        return server_uri(self._addresses, self._password, f"replicaSet={_REPLICA_SET}")

    def client(self, **options: t.Any) -> Client:
        """A new ``MongoClient`` for the whole set, which the caller closes."""
        from pymongo import MongoClient

        return MongoClient(self.uri, **options)

    def start(self) -> str:
        """The URI of the set, which is founded and complete from now on."""
        self._start_nodes()
        members = [{"_id": number, "host": address} for number, address in enumerate(self._addresses)]
        founding = {"_id": _REPLICA_SET, "members": members, "settings": _ELECTIONS}
        self.nodes[0].command("replSetInitiate", founding, timeout=_SET_TIMEOUT)
        self._make_user()
        self._wait_whole()
        _poll(self._knows_user, _SET_TIMEOUT, "the user on three nodes")
        return self.uri

    def primary(self) -> MongoServer:
        """The node that takes writes, waited for if there is none at the moment."""
        return self.wait_for_primary()

    def secondaries(self) -> list[MongoServer]:
        """The nodes that follow the primary at the moment."""
        return [node for node in self.nodes if (_ask(node, "hello") or {}).get("secondary")]

    def wait_for_primary(self, timeout: float = _SET_TIMEOUT) -> MongoServer:
        """The node that takes writes; raises :class:`TimeoutError` when there is none in *timeout* seconds."""
        return t.cast("MongoServer", _poll(self._find_primary, timeout, "a primary"))

    def step_down(self, *, force: bool = False) -> None:
        """Make the primary a secondary for 20 s; *force* it even when no other node has caught up."""
        options = {"secondaryCatchUpPeriodSecs": 0 if force else 5, "force": force}
        self.primary().command("replSetStepDown", 20, timeout=_SET_TIMEOUT, **options)

    def heal(self) -> None:
        """Undo what tests do: resume and restart nodes, turn fail points off, wait until all three are healthy."""
        for node in self.nodes:
            node.resume()
        self._start_nodes()
        for node in self.nodes:
            _turn_off_failpoints(node)
            _ask(node, "replSetFreeze", 0)  # one that stepped down may stand again; a primary refuses, rightly

        self._wait_whole()

    def close(self) -> None:
        """Let go of the nodes: they end and their folders are removed."""
        for node in self.nodes:
            node.close()

    def _make_user(self) -> None:
        from .embedded.password import internal_client, make_user

        with internal_client(self.primary().port, self._password, _SET_TIMEOUT) as client:
            make_user(client, self._password)

    def _knows_user(self) -> bool:
        from .embedded.password import USER

        return all((_ask(node, "usersInfo", USER) or {}).get("users") for node in self.nodes)

    @property
    def _addresses(self) -> list[str]:
        return [f"127.0.0.1:{node.port}" for node in self.nodes]

    def _start_nodes(self) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(MongoServer.start, self.nodes))

    def _find_primary(self) -> MongoServer | None:
        claims = []
        for number, node in enumerate(self.nodes):
            answer = _ask(node, "hello")
            if answer and answer["isWritablePrimary"]:
                claims.append((answer["electionId"], number))  # the later election is right

        return self.nodes[max(claims)[1]] if claims else None

    def _wait_whole(self) -> None:
        _poll(self._is_whole, _SET_TIMEOUT, "three healthy nodes")

    def _is_whole(self) -> bool:
        primary = self._find_primary()
        status = _ask(primary, "replSetGetStatus") if primary else None
        states = sorted(member["state"] for member in status["members"]) if status else []
        return states == [_PRIMARY, _SECONDARY, _SECONDARY]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--require-mongod``."""
    group = parser.getgroup("flask-mongoengine-session")
    group.addoption(
        "--require-mongod", action="store_true", help="fail the tests that need a mongod, instead of skipping them"
    )


@pytest.fixture(scope="session")
def mongo_server(request: pytest.FixtureRequest) -> t.Iterator[MongoServer]:
    """A running server, shared by all tests and by the workers of pytest-xdist: handle with care."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir(), f"flask-mongoengine-session-test-{run[:12]}")
    with _started(request.config, lambda: MongoServer(folder, arguments=_TEST_COMMANDS)) as server:
        yield server


@pytest.fixture
def mongo_server_own(request: pytest.FixtureRequest, tmp_path: Path) -> t.Iterator[MongoServer]:
    """A running server for one test, which may do to it what it likes."""
    with _started(request.config, lambda: MongoServer(tmp_path / "mongod", arguments=_TEST_COMMANDS)) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_replica_set(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[ReplicaSet]:
    """A running replica set of three nodes, shared by the tests of a process, each of which heals what it harms."""
    with _started(request.config, lambda: ReplicaSet(tmp_path_factory.mktemp("replica-set"))) as replica_set:
        yield replica_set


@pytest.fixture
def mongo_database(mongo_server: MongoServer) -> t.Iterator[Database[dict[str, t.Any]]]:
    """An empty database with a name of its own, dropped after the test."""
    with mongo_server.client() as client:
        database = client[f"test_{uuid.uuid4().hex}"]
        yield database
        client.drop_database(database)


_Server = t.TypeVar("_Server", MongoServer, ReplicaSet)


@contextlib.contextmanager
def _started(config: pytest.Config, make: t.Callable[[], _Server]) -> t.Iterator[_Server]:
    _check_mongod(config)
    server = make()
    try:
        server.start()
        yield server
    finally:
        server.close()


def _check_mongod(config: pytest.Config) -> None:
    from .embedded.binary import find_mongod
    from .exceptions import EmbeddedServerError

    try:
        find_mongod()
    except EmbeddedServerError as error:
        if config.getoption("--require-mongod") or os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def _poll(condition: t.Callable[[], t.Any], timeout: float, what: str) -> t.Any:
    """The first true result of *condition*; raises :class:`TimeoutError` after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {timeout:g} s in vain for {what}.")
        time.sleep(_POLL)


def _ask(node: MongoServer, *command: t.Any) -> dict[str, t.Any] | None:
    """The answer to a command, or ``None`` when the node refuses or gives none."""
    from pymongo.errors import PyMongoError

    try:
        return node.command(*command)
    except PyMongoError:
        return None


def _turn_off_failpoints(node: MongoServer) -> None:
    prefix = "failpoint."
    # A member that has just started may refuse this for a moment.
    parameters = _poll(lambda: _ask(node, "getParameter", "*"), _SET_TIMEOUT, f"the parameters of {node!r}")
    for name, state in parameters.items():
        if name.startswith(prefix) and state["mode"]:
            node.command("configureFailPoint", name.removeprefix(prefix), mode="off")


def _is_stopped(pid: int) -> bool:
    """Whether the system says so; one without ``/proc`` is trusted to have obeyed."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "T"
