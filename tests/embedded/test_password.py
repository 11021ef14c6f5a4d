"""The password of an embedded server: only its folder knows it."""

import logging
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pymongo
import pytest
from pymongo.errors import OperationFailure

from flask_mongo_session.embedded import password
from flask_mongo_session.embedded.binary import find_mongod
from flask_mongo_session.embedded.server import EmbeddedServer
from flask_mongo_session.exceptions import EmbeddedServerError
from flask_mongo_session.testing import MongoServer

try:
    find_mongod()
except EmbeddedServerError as error:
    pytest.skip(str(error), allow_module_level=True)

DEADLINE = 20  # seconds, for anything that other processes do


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def serve(folder):
    """Makes servers of one folder, which are released at the end of the test."""
    made = []

    def serve(**options):
        made.append(EmbeddedServer(folder, **options))
        return made[-1]

    yield serve
    for server in made:
        server.release()
    for server in made:
        stop(server)


def stop(server):
    server.release()
    deadline = time.monotonic() + DEADLINE
    while server.running:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def count_up(uri):
    with pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000) as client:
        client.shop.things.insert_one({})
        return client.shop.things.count_documents({})


def test_it_is_random_and_kept_in_the_folder(folder, serve, tmp_path):
    """256 bits, another for each folder, the same at each start."""
    server = serve()
    server.start()
    secret = (folder / "password").read_text()
    stop(server)
    server.start()

    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert (folder / "password").read_text() == secret
    password.keep_password(tmp_path)
    assert password.read_password(tmp_path) not in (secret, None)


def test_the_uri_carries_it(folder, serve):
    """Everybody who is told the URI may come in, and do what a developer does."""
    uri = serve().start()

    assert (folder / "password").read_text() in uri
    with pymongo.MongoClient(uri) as client:
        client.shop.things.create_index("name")
        client.drop_database("shop")
        assert client.admin.command("serverStatus")["ok"]


def test_a_database_can_be_put_into_the_uri(serve):
    """The user is found where it is, whatever database the URI names."""
    with pymongo.MongoClient(serve().start().replace("/?", "/shop?")) as client:
        assert client.get_default_database("none").name == "shop"
        client.get_default_database().things.insert_one({})


def test_it_is_told_nowhere(folder, serve, caplog):
    """Neither in logs, the driver's and the server's included, nor in a command line, an environment or a repr."""
    with caplog.at_level(logging.DEBUG):
        server = serve()
        uri = server.start()
        count_up(uri)
        with pymongo.MongoClient(uri) as client:
            texts = [repr(server), repr(client), repr(client.shop.things), caplog.text]
            texts += [(folder / name).read_text() for name in ("mongod.log", "server.json")]
            texts.append(str(client.admin.command("getCmdLineOpts")))
    supervisor = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1]
    for process in ("self", server.pid, supervisor):
        texts += [Path(f"/proc/{process}/{name}").read_bytes().decode() for name in ("cmdline", "environ")]

    secret = (folder / "password").read_text()
    assert "createUser" in caplog.text
    assert not [text for text in texts if secret in text]


def test_errors_do_not_tell_it(folder, serve):
    """A server that refuses the password is named by its folder."""
    server = serve()
    server.start()
    secret = (folder / "password").read_text()
    assert not password.lets_in(server.port, "0" * 64)
    wrong = server.uri(server.port).replace(secret, secret[::-1])
    with pymongo.MongoClient(wrong) as client, pytest.raises(OperationFailure) as caught:
        client.shop.things.find_one()

    assert secret[::-1] not in str(caught.value)


def test_a_server_that_refuses_it_is_an_error(folder, serve, monkeypatch):
    """One that was started with another password is not used, and not waited for without end."""
    server, late = serve(), serve()
    server.start()
    secret = (folder / "password").read_text()
    (folder / "password").write_text("0" * 64)
    monkeypatch.setattr("flask_mongo_session.embedded.server._START_TIMEOUT", 0.5)

    with pytest.raises(EmbeddedServerError, match="does not answer, or has another password than the folder") as caught:
        late.start()
    assert "0" * 64 not in str(caught.value)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text(""), lambda path: path.write_text("abc")])
def test_a_lost_password_is_replaced(folder, serve, damage):
    """The data is still there, and the old password worthless."""
    server = serve()
    assert count_up(server.start()) == 1
    stop(server)
    old = (folder / "password").read_text()
    damage(folder / "password")

    assert count_up(server.start()) == 2
    new = (folder / "password").read_text()
    assert new != old
    assert not password.is_ours(server.port, old)
    with (
        pymongo.MongoClient(server.uri(server.port).replace(new, old)) as client,
        pytest.raises(OperationFailure, match="Authentication failed"),
    ):
        client.shop.things.find_one()


def test_a_crash_before_the_user_was_made_is_made_good(serve):
    """Whoever comes next finds a server without a user, and makes it."""
    first, second = serve(), serve()
    first.start()
    with first.internal_client(first.port, 5) as client:
        client.admin.command("dropUser", "flask")

    assert count_up(second.start()) == 1


def test_a_folder_of_a_server_without_password_gets_one(folder, serve):
    """Data that an older version kept stays, once the folder is closed to others."""
    folder.mkdir(mode=0o700)
    command = [find_mongod(), "--dbpath", folder, "--port", "0", "--bind_ip", "127.0.0.1", "--nounixsocket"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as old:
        try:
            listening = next(line for line in old.stdout if '"id":23016' in line)
            port = int(re.search(r'"port":(\d+)', listening)[1])
            assert count_up(f"mongodb://127.0.0.1:{port}") == 1
        finally:
            old.terminate()
            old.stdout.read()

    assert count_up(serve().start()) == 2


def test_a_client_with_a_clever_name_stops_nothing(folder, serve):
    """A stranger may choose what the server logs of him; the log line of a server that is ready counts once."""
    server = serve(arguments=("--setParameter", "enableTestCommands=1"))
    uri, pid = server.start(), server.pid
    with pymongo.MongoClient("127.0.0.1", server.port, appname="Waiting for connections") as client:
        client.admin.command("ping")
    with server.internal_client(server.port, 5) as client:  # and if that was not logged, this is
        client.admin.command("logMessage", "Waiting for connections")
    assert (folder / "mongod.log").read_text().count("Waiting for connections") > 1

    assert count_up(uri) == 1
    assert (server.start(), server.pid) == (uri, pid)


def test_only_the_living_are_recorded(folder, serve):
    """The record of a server that was killed names no process any more, though its file may be there for a moment."""
    server = serve()
    server.start()
    record = (folder / "server.json").read_bytes()
    stop(server)
    (folder / "server.json").write_bytes(record)
    (folder / "server.json").chmod(0o600)

    assert (server.pid, server.port) == (None, None)


def test_a_stopped_server_is_a_living_one(serve):
    """A paused process keeps its record."""
    server = serve()
    server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert server.pid == pid
    finally:
        os.kill(pid, signal.SIGCONT)


# The fixtures.


def test_a_server_of_the_tests_has_one_too(mongo_server):
    """Without it nobody comes in; it is in the URI and in no repr."""
    secret = re.search("flask:([0-9a-f]{64})@", mongo_server.uri)[1]

    with pymongo.MongoClient("127.0.0.1", mongo_server.port) as client, pytest.raises(OperationFailure) as caught:
        client.list_database_names()
    assert caught.value.code == 13
    assert secret not in repr(mongo_server)
    with mongo_server.client() as client:
        assert secret not in repr(client)


def test_before_the_start_there_is_none(tmp_path):
    """A server that was never started has an address without a password."""
    server = MongoServer(tmp_path / "mongod")
    try:
        assert server.uri == "mongodb://127.0.0.1:0/?directConnection=true"
    finally:
        server.close()


def test_a_replica_set_has_one_for_all(mongo_replica_set):
    """Every member knows the user; strangers see no more than who is there."""
    secret = re.search("flask:([0-9a-f]{64})@", mongo_replica_set.uri)[1]
    for node in mongo_replica_set.nodes:
        assert secret in node.uri
        with node.client() as client:
            assert client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
        with (
            pymongo.MongoClient("127.0.0.1", node.port, directConnection=True) as client,
            pytest.raises(OperationFailure, match="requires authentication"),
        ):
            client.admin.command("replSetGetStatus")

    assert secret not in repr(mongo_replica_set)
