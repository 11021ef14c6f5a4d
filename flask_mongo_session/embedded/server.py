"""Find, start, share and stop a ``mongod`` on a developer's machine. For development and tests only.

Locks (``flock``) decide everything, because the kernel drops them however a process ends:

- ``users.lock``: shared, held by each process that uses the folder. The server's supervisor waits for it exclusively.
  Once it has it nobody is left, and it keeps it until the server is gone: a newcomer waits for a clean end.
- ``server.lock``: exclusive, taken by who starts the server and inherited by the supervisor: some server is starting
  or running. Who finds it free starts one.
- ``server.json``: exclusive, held by the ``mongod`` that it describes, and by nobody else: only while it is locked is
  the process id in it that server's.

The supervisor is a detached process of its own, :mod:`.supervisor`. The folder is this user's alone (:mod:`.private`);
in it is the password that the server asks for (:mod:`.password`).
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
import weakref
from pathlib import Path

if sys.platform != "win32":
    import fcntl

from flask_mongo_session.exceptions import EmbeddedServerError

from . import password, supervisor
from .binary import explain, find_mongod, found_port_taken
from .private import check_contents, check_way, make_private_folder, open_private
from .supervisor import LOG, RECORD, USERS_LOCK, is_file, is_locked, remove_folder, try_lock

log = logging.getLogger(__name__)

_SCHEME = "embedded:"
_SERVER_LOCK = "server.lock"
#: Seconds: for a server to answer, for a stranger to let go of the folder, between two looks.
_START_TIMEOUT, _GRACE, _POLL = 30.0, 2.0, 0.02
#: Bytes without which a server is not started: on a full disk ``mongod`` does not fail, it hangs.
_SPACE = 64 * 1024 * 1024
_PORT_ATTEMPTS = 5
_OPTIONS = (
    *("--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet", "--wiredTigerCacheSizeGB", "0.25"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    # The journal stays on, in small files: three of 100 MB each take longer to make than all the rest.
    *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
)


def embedded_server(uri: str) -> EmbeddedServer:
    """The process's one server for the folder that *uri* names, its folder in use from now on; does not start it.

    ``embedded:`` is a temporary folder per user and working directory. Raises :class:`.EmbeddedServerError` when the
    folder cannot be used, or is not this user's alone.
    """
    name = uri.removeprefix(_SCHEME)
    folder = _named_folder(name) if name else _temporary_folder()
    with _servers_lock:
        server = _servers.setdefault(folder, EmbeddedServer(folder, temporary=not name))

    server.acquire()
    return server


class EmbeddedServer:
    """A ``mongod`` in *folder*, shared by all processes that name it; it ends when the last of them does.

    *temporary* folders are removed with the server. *arguments* go to ``mongod``. *set_password* makes the server a
    member of a replica set, whose members share a password and a user; the caller makes that user. Both apply to
    whoever starts the server, not to those who join it. Thread safe, and usable in a forked process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        temporary: bool = False,
        arguments: t.Sequence[str] = (),
        set_password: str | None = None,
    ) -> None:
        self.folder = folder
        self.temporary = temporary
        self._arguments = tuple(arguments)
        self._set_password = set_password
        #: The port to start on; 0 takes a free one at each start.
        self.fixed_port = 0
        self._lock = threading.RLock()
        self._users: int | None = None
        self._password: str | None = None
        self._answered: dict[str, int] | None = None
        _instances.add(self)

    def __repr__(self) -> str:
        """The folder, and the port if a server is recorded."""
        return f"<EmbeddedServer {str(self.folder)!r} on port {self.port}>"

    @property
    def port(self) -> int | None:
        """The port of the folder's server, or ``None`` when it does not run."""
        return (self._record() or {}).get("port")

    @property
    def pid(self) -> int | None:
        """The process id of the folder's ``mongod``, or ``None`` when it does not run."""
        return (self._record() or {}).get("pid")

    @property
    def running(self) -> bool:
        """Whether a server is starting, running or stopping in the folder."""
        try:
            claim = self._claim()
        except EmbeddedServerError:
            return False
        if claim is None:
            return True

        os.close(claim)
        return False

    def acquire(self) -> None:
        """Keep a server alive from now on; waits for one that is just stopping. Again: nothing happens."""
        if sys.platform == "win32":
            raise EmbeddedServerError("'embedded:' needs Linux or macOS: start a mongod and give its mongodb:// URI.")

        with self._lock:
            users = self._users
            if users is not None and is_file(users, self.folder / USERS_LOCK):
                return

            self._users = self._lock_users()
            if users is not None:  # somebody removed the folder
                os.close(users)

    def start(self) -> str:
        """The URI of the folder's server, which is started if need be, and answers; cheap when it is known to run.

        The URI carries the password: keep it out of logs. Raises :class:`.EmbeddedServerError`, with the reason from
        the server's log.
        """
        self.acquire()
        with self._lock:
            deadline = time.monotonic() + _START_TIMEOUT
            while time.monotonic() < deadline:
                claim = self._claim()
                if claim is not None:
                    self._launch(claim)

                record = self._record()
                if record and (record == self._answered or self._admits(record["port"])):
                    self._answered = record
                    return self.uri(record["port"])
                time.sleep(_POLL)

        raise EmbeddedServerError(
            f"The server in '{self.folder}' does not answer, or has another password than the folder: "
            f"see '{self.folder / LOG}'."
        )

    def uri(self, port: int) -> str:
        """The URI of the server on *port*, with the password that the last start found."""
        return password.server_uri([f"127.0.0.1:{port}"], self._password, "directConnection=true")

    def internal_client(self, port: int, timeout: float) -> password.Client:
        """A client of the server on *port* that needs no user, with all rights; *timeout* in seconds."""
        return password.internal_client(port, self._password, timeout)

    def release(self) -> None:
        """Stop using the folder; without other users its server ends soon after. Again: nothing happens."""
        with self._lock:
            users, self._users, self._answered = self._users, None, None
            if users is None:
                return

            os.close(users)  # no LOCK_UN: forked processes share this lock and may go on
            if self.temporary:
                self._remove_unused()

    def _admits(self, port: int) -> bool:
        """Whether the folder's server answers there and lets its user in."""
        with self._no_folder():
            self._password = password.read_password(self.folder)
        if self._password is None:
            return False

        ask = password.is_ours if self._set_password else password.lets_in
        return ask(port, self._password)

    def _lock_users(self) -> int:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            with self._no_folder():
                users = self._try_lock_users()
            if users is not None:
                return users
            time.sleep(_POLL)

        raise EmbeddedServerError(f"The last server in '{self.folder}' does not end: end it by hand.")

    def _try_lock_users(self) -> int | None:
        path = self.folder / USERS_LOCK
        try:
            make_private_folder(self.folder)
            users = open_private(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            if self.temporary:  # a supervisor has removed it since it was made, or seen
                return None
            raise

        if try_lock(users, fcntl.LOCK_SH) and is_file(users, path):
            return users

        os.close(users)
        return None

    def _claim(self) -> int | None:
        """The exclusive right to start a server, or ``None`` when there is one."""
        with self._no_folder():
            claim = open_private(self.folder / _SERVER_LOCK, os.O_RDWR | os.O_CREAT)
        if try_lock(claim, fcntl.LOCK_EX):
            return claim

        os.close(claim)
        return None

    def _launch(self, claim: int) -> None:
        try:
            self._check_folder()
            mongod = find_mongod()
            for _ in range(_PORT_ATTEMPTS):  # another program may take the port before mongod does
                port = self.fixed_port or _free_port()
                report = self._run(mongod, port, claim)
                if self.fixed_port or "code" not in report or not found_port_taken(report["code"], report["output"]):
                    break
        finally:
            os.close(claim)

        if "code" in report:
            raise EmbeddedServerError(explain(mongod, port, report["code"], report["output"]))

        kind = "removed after use" if self.temporary else "kept"
        log.warning("Started a MongoDB for development and tests on port %d, data in %s (%s)", port, self.folder, kind)

    def _check_folder(self) -> None:
        """Make sure that nobody uses the data, that it is ours alone, has a password, and that some would fit."""
        with self._no_folder():
            check_contents(self.folder)
            self._end_orphan()
            (self.folder / RECORD).unlink(missing_ok=True)
            free = shutil.disk_usage(self.folder).free
        if free < _SPACE:
            raise EmbeddedServerError(
                f"The disk of '{self.folder}' is full: {free >> 20} MiB free, mongod wants {_SPACE >> 20} MiB."
            )

        with self._no_folder():
            password.keep_password(self.folder, self._set_password)

    def _end_orphan(self) -> None:
        """Wait until no ``mongod`` has the data; kill one that outlived its supervisor, refuse a stranger's."""
        path = self.folder / "mongod.lock"
        deadline = time.monotonic() + _GRACE
        while is_locked(path):
            pid = self.pid
            if pid is not None:  # it holds the record's lock, so this is its process and no other
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"The folder '{self.folder}' is in use by another mongod (process {_first_line(path)}): "
                    f"stop it, connect to it with its mongodb:// URI, or name another folder."
                )
            time.sleep(_POLL)

    def _run(self, mongod: Path, port: int, claim: int) -> dict[str, t.Any]:
        command = [str(mongod), "--dbpath", str(self.folder), "--port", str(port), *_OPTIONS]
        command += [*password.options(self.folder), *self._arguments]
        order = {"folder": str(self.folder), "temporary": self.temporary, "command": command, "port": port}
        try:
            done = subprocess.run(  # noqa: S603 - our own program and options
                [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(order)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(claim,),
                timeout=_START_TIMEOUT,
                check=False,
            )
            report: dict[str, t.Any] = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise EmbeddedServerError(
                f"The server in '{self.folder}' did not start ({type(error).__name__}): see '{self.folder / LOG}'."
            ) from error

        return report

    def _record(self) -> dict[str, int] | None:
        """Port and process id of the running server; ``None`` without one, whatever a dead one has left behind."""
        try:
            descriptor = open_private(self.folder / RECORD, os.O_RDONLY)
        except (OSError, EmbeddedServerError):
            return None

        with os.fdopen(descriptor) as file, contextlib.suppress(ValueError):
            if not try_lock(descriptor, fcntl.LOCK_SH):
                record: dict[str, int] = json.load(file)
                return record
        return None

    def _remove_unused(self) -> None:
        """Remove a folder without server and users; where a server runs, its supervisor does."""
        with contextlib.suppress(OSError, EmbeddedServerError), contextlib.ExitStack() as stack:
            users = open_private(self.folder / USERS_LOCK, os.O_RDWR)
            stack.callback(os.close, users)
            if try_lock(users, fcntl.LOCK_EX) and is_file(users, self.folder / USERS_LOCK):
                claim = self._claim()
                if claim is not None:
                    stack.callback(os.close, claim)
                    remove_folder(self.folder)

    @contextlib.contextmanager
    def _no_folder(self) -> t.Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EmbeddedServerError(
                f"The folder '{self.folder}' cannot hold a database: {error.strerror or error}. "
                f"Name one in SESSION_MONGODB_URI that you may write to."
            ) from error


_servers: dict[Path, EmbeddedServer] = {}
_servers_lock = threading.Lock()
_instances: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


@atexit.register
def _release_all() -> None:
    for server in list(_instances):
        server.release()


def _after_fork() -> None:
    """In the child: a lock may be held by a thread that does not exist here."""
    global _servers_lock  # noqa: PLW0603 - as above
    _servers_lock = threading.Lock()
    for server in _instances:
        server._lock = threading.RLock()  # noqa: SLF001 - as above


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)


def _named_folder(name: str) -> Path:
    """The folder's one path, however it is spelt; where it is a symlink itself, the symlink's."""
    folder = Path(os.path.normpath(Path.cwd() / Path(name).expanduser()))
    check_way(folder)
    return folder.parent.resolve() / folder.name


def _temporary_folder() -> Path:
    place = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir(), f"flask-mongoengine-session-{os.geteuid()}-{place}").absolute()


def _first_line(path: Path) -> str:
    with os.fdopen(open_private(path, os.O_RDONLY), errors="replace") as file:
        return file.readline().strip()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
