"""Keeps a ``mongod`` running while somebody uses its folder. Run by its path, with the standard library alone.

Detached, so that Ctrl-C passes it by. On Linux ``mongod`` dies with it; elsewhere the next user ends one that was left
behind. The locks and the record that it shares with :mod:`.embedded` are here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import typing as t
from collections import deque
from pathlib import Path

if sys.platform != "win32":
    import fcntl

#: Shared, held by each process that uses the folder; the supervisor waits for it exclusively.
USERS_LOCK = "users.lock"
#: Port and process id of the server, once it is ready. The server holds the lock of this file for as long as it lives.
RECORD = "server.json"
_NEW_RECORD = f"{RECORD}.new"
LOG = "mongod.log"

#: Seconds that a server may take to stop cleanly.
_STOP_TIMEOUT = 10.0


def open_plain(path: Path, flags: int) -> int:
    """A descriptor of *path*, which is no symlink; a new file has mode 0600. Never waits for a pipe's other end."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, kind: int) -> bool:
    """Take a lock if it is free, without waiting."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether somebody holds *path* exclusively."""
    try:
        descriptor = open_plain(path, os.O_RDONLY)
    except FileNotFoundError:
        return False

    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def is_file(descriptor: int, path: Path) -> bool:
    """Whether *path* is still what *descriptor* was opened as, not removed or replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def remove_folder(folder: Path) -> None:
    """Remove *folder*, under its exclusive locks; out of the way first, so that a newcomer makes a new one."""
    gone = folder.with_name(f"{folder.name}.{os.urandom(8).hex()}")  # a name that nobody can take beforehand
    with contextlib.suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _supervise(folder: Path, port: int, *, temporary: bool, command: list[str]) -> None:
    """Run ``mongod`` until it ends or nobody uses *folder*; report on standard output once it is ready or failed."""
    if os.fork():
        os._exit(0)  # the server is nobody's child, so that nobody has to wait for it

    os.umask(0o077)
    users = open_plain(folder / USERS_LOCK, os.O_RDWR)
    record = _new_record(folder)
    mongod = subprocess.Popen(  # noqa: S603 - the command is the starter's
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_mortal(),  # noqa: PLW1509 - there are no threads yet
        pass_fds=(record,),  # with its lock, which nobody else keeps
    )
    signal.signal(signal.SIGTERM, lambda *_: mongod.terminate())
    threading.Thread(target=_stop_when_unused, args=(users, mongod, temporary), daemon=True).start()

    output = _relay(mongod, folder, record, {"port": port, "pid": mongod.pid})
    code = mongod.wait()

    ours = is_file(users, folder / USERS_LOCK)  # else somebody removed the folder, and perhaps made a new one
    if ours:
        (folder / RECORD).unlink(missing_ok=True)
        (folder / _NEW_RECORD).unlink(missing_ok=True)
    _report({"code": code, "output": output})
    if ours and temporary and try_lock(users, fcntl.LOCK_EX):
        remove_folder(folder)


def _new_record(folder: Path) -> int:
    """A descriptor of the record to be, empty and locked."""
    (folder / _NEW_RECORD).unlink(missing_ok=True)
    record = open_plain(folder / _NEW_RECORD, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    fcntl.flock(record, fcntl.LOCK_EX)
    return record


def _relay(mongod: subprocess.Popen[bytes], folder: Path, record: int, facts: dict[str, int]) -> list[str]:
    """Copy the server's output to its log and write *facts* to the record once it is ready; returns the last lines."""
    output: deque[str] = deque(maxlen=50)
    ready = False
    with os.fdopen(open_plain(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb", buffering=0) as file:
        for line in mongod.stdout or ():
            with contextlib.suppress(OSError):  # a full disk must not stop the server's output
                file.write(line)
            output.append(line.decode(errors="replace").strip())
            if not ready and b"Waiting for connections" in line:  # later on, a client may be called that
                ready = True
                os.write(record, json.dumps(facts).encode())
                os.close(record)  # from here on only the server holds the lock
                (folder / _NEW_RECORD).replace(folder / RECORD)
                _report(facts)

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
