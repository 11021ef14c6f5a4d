"""What another user of the machine can do to an embedded server: nothing.

The tests run as root and let a process of another user, the stranger, do its worst in a folder that is open to both,
as ``/tmp`` is.
"""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pymongo
import pytest
from pymongo.errors import OperationFailure

from flask_mongo_session.embedded import password
from flask_mongo_session.embedded import server as embedded
from flask_mongo_session.embedded.binary import find_mongod
from flask_mongo_session.embedded.server import EmbeddedServer, embedded_server
from flask_mongo_session.exceptions import EmbeddedServerError
from flask_mongo_session.testing import MongoServer

STRANGER = 65534
DEADLINE = 20  # seconds, for anything that other processes do
#: What runs as the stranger: everything is imported before, since the packages may be closed to them; also what the
#: driver imports only when it logs in.
PROLOGUE = """
import json, os, socket, sys, time
import pymongo
import pymongo.synchronous.auth
from pathlib import Path
from pymongo.errors import OperationFailure, PyMongoError

def client(port, patience=5000, **login):
    limits = {"serverSelectionTimeoutMS": patience, "directConnection": True}
    return pymongo.MongoClient("127.0.0.1", int(port), **limits, **login)

def refused(action):
    try:
        action()
    except (OSError, PyMongoError) as error:
        return getattr(error, "code", None) or type(error).__name__
    return "allowed"

try:
    client(9, patience=1).admin.command("ping")
except PyMongoError:
    pass
os.chdir("/")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.umask(0)
"""

if os.name != "posix" or os.geteuid() != 0:
    pytest.skip("a process of another user can be started by root only", allow_module_level=True)
try:
    find_mongod()
except EmbeddedServerError as error:
    pytest.skip(str(error), allow_module_level=True)


def command_of(script, *args):
    return [sys.executable, "-c", PROLOGUE + textwrap.dedent(script), *map(str, args)]


def stranger(script, *args, told=None):
    """What a script answers that runs as another user; it is *told* something on its standard input."""
    done = subprocess.run(
        command_of(script, *args), input=json.dumps(told), capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


@contextlib.contextmanager
def stranger_at_work(script, *args):
    """A process of another user, once it has said that it is ready."""
    with subprocess.Popen(
        command_of(script, *args), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def common():
    """A folder like ``/tmp``: all users may write to it, and remove what is theirs."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def own(common):
    """A folder of ours that holds a file."""
    folder = common / "own"
    folder.mkdir(mode=0o700)
    (folder / "file").write_text("untouched")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert (folder / "file").read_text() == "untouched"


@pytest.fixture
def serve():
    """Makes servers, which are released at the end of the test."""
    made = []

    def serve(folder, **options):
        made.append(EmbeddedServer(folder, **options))
        return made[-1]

    yield serve
    for server in made:
        server.release()
    for server in made:
        wait_for(lambda server=server: not server.running)


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def password_of(folder):
    return (folder / "password").read_text()


# Reading.


def test_a_stranger_opens_nothing(common, serve):
    """The folder is closed, and neither command line nor environment of a process tells the password."""
    server = serve(common / "data")
    server.start()
    files = [str(path) for path in (server.folder, *server.folder.rglob("*"))]
    assert str(server.folder / "password") in files

    answers, seen, found = stranger(
        """
        files, password = json.load(sys.stdin)
        seen = b""
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    seen += (process / name).read_bytes()
                except OSError:
                    pass
        answers = [refused(lambda: os.open(path, os.O_RDONLY)) for path in files]
        print(json.dumps([answers, b"--keyFile" in seen, password.encode() in seen]))
        """,
        told=[files, password_of(server.folder)],
    )

    assert set(answers) == {"PermissionError"}
    assert seen
    assert not found


def test_a_stranger_is_not_let_in(common, serve):
    """Without the password nothing can be read, written or stopped, and nobody can make himself a user."""
    server = serve(common / "data")
    with pymongo.MongoClient(server.start()) as client:
        client.shop.things.insert_one({"_id": 1})

        answers = stranger(
            """
            anonymous = client(sys.argv[1])
            wrong = client(sys.argv[1], username="flask", password="guess", authSource="admin")
            internal = client(sys.argv[1], username="__system", password="guess", authSource="local")
            actions = [
                lambda: anonymous.shop.things.find_one(),
                lambda: anonymous.shop.things.insert_one({}),
                lambda: anonymous.list_database_names(),
                lambda: anonymous.admin.command("createUser", "me", pwd="me", roles=["root"]),
                lambda: anonymous.admin.command("shutdown", force=True),
                lambda: anonymous.admin.command("getCmdLineOpts"),
                lambda: wrong.shop.things.find_one(),
                lambda: internal.shop.things.find_one(),
            ]
            print(json.dumps([refused(action) for action in actions]))
            """,
            server.port,
        )

        assert answers == [13] * 6 + [18] * 2  # unauthorized, authentication failed
        assert list(client.shop.things.find()) == [{"_id": 1}]


def test_a_server_without_users_is_closed_as_well(common, serve):
    """Nobody makes himself the first user, in the moment before the server's own is made."""
    server = serve(common / "data", set_password=password.new_password())  # its user is the caller's to make
    server.start()

    answer = stranger(
        """
        make_user = lambda: client(sys.argv[1]).admin.command("createUser", "me", pwd="me", roles=["root"])
        print(json.dumps(refused(make_user)))
        """,
        server.port,
    )

    assert answer == 13  # unauthorized
    with server.internal_client(server.port, 5) as client:
        assert client.admin.command("usersInfo")["users"] == []


def test_a_stranger_on_the_servers_port_gets_nothing(common, serve, tmp_path):
    """Whoever listens there after the server's end would have to prove that he knows the password."""
    server = serve(common / "data")
    uri, port = server.start(), server.port
    secret = password_of(server.folder)
    server.release()
    wait_for(lambda: not server.running)

    command = [find_mongod(), "--dbpath", tmp_path, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert any("Waiting for connections" in line for line in other.stdout)
            with pymongo.MongoClient(uri) as client, pytest.raises(OperationFailure, match="Authentication failed"):
                client.shop.things.insert_one({"secret": 1})
            with pymongo.MongoClient("127.0.0.1", port, directConnection=True) as client:
                assert "shop" not in client.list_database_names()
            assert not password.lets_in(port, secret)
        finally:
            other.kill()


# Planting something beforehand.


@pytest.mark.parametrize(
    "plant",
    [
        "path.mkdir(0o777)",
        "path.mkdir(0o700)",
        "path.symlink_to(own)",
        "path.symlink_to(own / 'new')",
        "(path.parent / 'theirs').mkdir(0o777); path.symlink_to(path.parent / 'theirs')",
    ],
)
@pytest.mark.parametrize("below", ["", pytest.param("data", marks=pytest.mark.soak)])
def test_a_folder_made_by_a_stranger_is_refused(common, own, plant, below):
    """Neither it, nor what is to be made in it, nor where a symlink leads: nothing is written anywhere."""
    stranger(f"own, path = map(Path, sys.argv[1:]); {plant}", own, common / "planted")

    with pytest.raises(EmbeddedServerError, match="is not yours alone"):
        embedded_server(f"embedded:{common / 'planted' / below}")

    assert {path.name for path in common.rglob("*")} <= {"own", "file", "planted", "theirs"}


def test_a_strangers_symlink_behind_our_own_is_refused(common, own):
    """Each symlink on the way is looked at, not only the first."""
    stranger("Path(sys.argv[2]).symlink_to(sys.argv[1])", own, common / "theirs")
    (common / "ours").symlink_to(common / "theirs")

    with pytest.raises(EmbeddedServerError, match=f"theirs' is not yours alone: it belongs to user {STRANGER}"):
        embedded_server(f"embedded:{common / 'ours' / 'data'}")


def test_a_temporary_folder_made_by_a_stranger_is_refused(common, own, monkeypatch):
    """Its name can be guessed, so a stranger may be the first to use it; the error says so."""
    monkeypatch.setattr(tempfile, "tempdir", str(common))
    folder = embedded._temporary_folder()
    assert folder.parent == common
    stranger("Path(sys.argv[2]).symlink_to(sys.argv[1])", own, folder)

    with pytest.raises(EmbeddedServerError, match=f"belongs to user {STRANGER}"):
        embedded_server("embedded:")


def test_the_shared_server_of_tests_is_not_a_strangers(common, own):
    """The folder that pytest's workers share is refused where it is not ours."""
    stranger("Path(sys.argv[1]).mkdir(0o777)", common / "flask-mongoengine-session-test-1")

    with pytest.raises(EmbeddedServerError, match=f"belongs to user {STRANGER}"):
        MongoServer(common / "flask-mongoengine-session-test-1")


@pytest.mark.soak
@pytest.mark.parametrize(
    "plant",
    [
        "path.symlink_to(own / 'file')",
        "path.symlink_to(own / 'new')",
        "path.symlink_to(own)",
        "path.write_text('a' * 64)",
        "path.mkdir()",
        "os.mkfifo(path)",
    ],
)
def test_files_planted_in_an_open_folder_are_not_used(common, own, plant):
    """What a stranger put into a folder before it was closed is neither followed nor read, written or removed."""
    names = ("mongod.log", "server.json", "server.lock", "users.lock", "password", "WiredTiger")
    planted = [common / f"data-{name}" / name for name in names]
    for path in planted:
        path.parent.mkdir()
        path.parent.chmod(0o777)
    stranger(f"own, *paths = map(Path, sys.argv[1:])\nfor path in paths: {plant}", own, *planted)

    for path in planted:
        with pytest.raises(EmbeddedServerError, match=f"Run `chmod 700 {path.parent}`"):
            EmbeddedServer(path.parent).acquire()
        path.parent.chmod(0o700)
        check_refused(path)


def check_refused(path):
    before, server = identity(path), EmbeddedServer(path.parent)
    try:
        with pytest.raises(EmbeddedServerError, match=f"'{path}' is not yours alone: it "):
            server.start()
    finally:
        server.release()

    assert identity(path) == before
    assert {other.name for other in path.parent.iterdir()} <= {path.name, "server.lock", "users.lock"}


def identity(path):
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns


def test_a_folder_that_anybody_may_replace_is_refused(common):
    """In a folder without the sticky bit a stranger could exchange ours at any time."""
    common.chmod(0o777)

    with pytest.raises(EmbeddedServerError, match=f"'{common}' .* writable by everybody. .*`chmod o-w {common}`"):
        embedded_server(f"embedded:{common / 'data'}")
    assert list(common.iterdir()) == []


def test_a_new_folder_is_closed_whatever_the_umask_says(common, serve):
    """So is everything that the server and its supervisor make in it, even where the server asks the umask."""
    mask = os.umask(0)
    try:
        server = serve(common / "data", arguments=("--setParameter", "honorSystemUmask=true"))
        server.start()
    finally:
        os.umask(mask)

    modes = {stat.S_IMODE(path.lstat().st_mode) for path in (server.folder, *server.folder.rglob("*"))}
    assert modes == {0o700, 0o600}


# Signals.


@pytest.fixture
def bystander():
    """A stranger's process that wants to live."""
    with stranger_at_work('print("ready", flush=True); sys.stdin.read()') as process:
        yield process
        assert process.poll() is None, "somebody ended it"


@pytest.mark.parametrize("pid_lock", [True, False])
def test_nobody_is_signalled_on_the_word_of_a_file(common, serve, bystander, pid_lock):
    """A process id counts only while the record's lock is held, as it is by the server that the record describes."""
    folder = common / "data"
    folder.mkdir(mode=0o700)
    for name, text in (
        ("server.json", json.dumps({"port": 1, "pid": bystander.pid})),
        ("mongod.lock", f"{bystander.pid}\n" if pid_lock else ""),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)

    server = serve(folder)
    assert (server.pid, server.port) == (None, None)

    server.start()

    assert server.pid not in (None, bystander.pid)


def test_a_test_server_signals_its_own_process_only(common, bystander):
    """Killing a server that has ended kills nobody, whatever is written in its folder."""
    server = MongoServer(common / "data")
    try:
        record = common / "data" / "server.json"
        record.write_text(json.dumps({"port": 1, "pid": bystander.pid}))
        record.chmod(0o600)

        server.kill()
        server.terminate()
        server.resume()
        with pytest.raises(ProcessLookupError):
            server.pause()
    finally:
        server.close()
