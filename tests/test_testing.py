"""The pytest plugin: servers for tests, whatever is done to them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pymongo
import pytest
from pymongo.errors import OperationFailure, PyMongoError

import flask_mongo_session
from flask_mongo_session.testing import MongoServer

DEADLINE = 30  # seconds, for anything that other processes do
ROOT = Path(flask_mongo_session.__file__).parents[1]
PLUGINS = ["-p", "flask_mongo_session.testing", "-p", "xdist"]
NEEDY = "def test_needy(mongo_database): pass"


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture
def run_pytest(tmp_path):
    """Start pytest on a file with the given text, in a process and folder of its own."""
    processes = []

    def run(text, *options, **env):
        (tmp_path / "test_it.py").write_text(text)
        (tmp_path / "tmp").mkdir(exist_ok=True)
        context = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
        context = {name: value for name, value in context.items() if not name.startswith("PYTEST_XDIST")}
        context |= {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(tmp_path / "tmp"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **env,
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "pytest", *PLUGINS, "-W", "error", "-rs", *options, "test_it.py"],
                cwd=tmp_path,
                env=context,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def no_mongod(tmp_path):
    """An environment in which no server is found."""
    blind = tmp_path / "blind" / "fiftyone"
    blind.mkdir(parents=True)
    (blind / "__init__.py").touch()
    return {"PYTHONPATH": f"{blind.parent}{os.pathsep}{ROOT}", "PATH": str(tmp_path), "MONGOD": ""}


# Without a server.


def test_without_a_server_tests_are_skipped(run_pytest, no_mongod):
    """A machine without mongod skips what needs one, and says what to install."""
    process = run_pytest(NEEDY, **no_mongod)
    output, _ = process.communicate(timeout=DEADLINE)

    assert process.returncode == 0, output
    assert "1 skipped" in output
    assert "pip install flask-mongoengine-session[embedded]" in output.replace("\n", " ")


@pytest.mark.parametrize(("options", "env"), [(["--require-mongod"], {}), ([], {"CI": "true"})])
def test_where_a_server_is_required_they_fail(run_pytest, no_mongod, options, env):
    """With ``--require-mongod``, and in CI, nothing is skipped in silence."""
    process = run_pytest(NEEDY, *options, **no_mongod, **env)
    output, _ = process.communicate(timeout=DEADLINE)

    assert process.returncode == 1, output
    assert "1 error" in output
    assert "pip install flask-mongoengine-session[embedded]" in output


def test_the_plugin_starts_nothing_by_itself(run_pytest):
    """A run that asks for no server has none, and has imported nothing for it."""
    text = "import sys\ndef test_lean(): assert 'flask_mongo_session.embedded.server' not in sys.modules"
    process = run_pytest(text)
    output, _ = process.communicate(timeout=DEADLINE)

    assert process.returncode == 0, output


# One server.


def test_a_database_is_empty_and_its_own(mongo_database, mongo_server):
    """Each test starts with an empty database on the shared server."""
    assert mongo_database.list_collection_names() == []
    assert mongo_database.name.startswith("test_")
    assert mongo_database.client.address == ("127.0.0.1", mongo_server.port)


def test_a_database_is_dropped(run_pytest):
    """A later test finds nothing of an earlier one; afterwards neither server nor folder is left."""
    text = """
def test_first(mongo_database): mongo_database.things.insert_one({})
def test_second(mongo_database, mongo_server):
    print("pid", mongo_server.pid)
    assert not [name for name in mongo_database.client.list_database_names() if name.startswith("test_")]
"""
    process = run_pytest(text, "-s")
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output

    pid = int(output.partition("pid ")[2].split()[0])
    wait_for(lambda: not alive(pid))


def test_the_server_can_be_asked_and_reached(mongo_server):
    """Its address, port and process are known; clients take pymongo's options."""
    with mongo_server.client(appname="asker") as client:
        assert client.admin.command("serverStatus")["pid"] == mongo_server.pid
    assert str(mongo_server.port) in mongo_server.uri
    assert str(mongo_server.port) in repr(mongo_server)
    mongo_server.wait_ready()


@pytest.mark.parametrize("end", ["kill", "terminate", "restart"])
def test_an_own_server_comes_back_with_its_data(mongo_server_own, end):
    """However it ends, it comes back on the same port with what was acknowledged."""
    server, uri, old = mongo_server_own, mongo_server_own.uri, mongo_server_own.pid
    with server.client(journal=True) as client:
        client.shop.things.insert_one({"_id": 1})

    getattr(server, end)()
    if end != "restart":
        assert not server.running
        with pytest.raises(ProcessLookupError, match=r"start\(\) it first"):
            server.pid  # noqa: B018 - a property that raises
        getattr(server, end)()
    server.start()

    assert not alive(old)
    assert server.uri == uri
    with server.client() as client:
        assert client.shop.things.find_one() == {"_id": 1}


def test_a_paused_server_answers_nobody_until_it_is_resumed(mongo_server_own):
    """Pausing holds the connections open and the answers back."""
    mongo_server_own.pause()
    with pytest.raises(PyMongoError):
        mongo_server_own.command("ping", timeout=0.2)
    with pytest.raises(TimeoutError, match=r"Waited 0\.1 s in vain"):
        mongo_server_own.wait_ready(timeout=0.1)

    mongo_server_own.resume()
    mongo_server_own.wait_ready()


def test_a_paused_server_can_be_closed(tmp_path):
    """A test that forgets to resume its server leaves no process and no folder behind."""
    server = MongoServer(tmp_path / "mongod")
    server.start()
    pid = server.pid
    server.pause()

    server.close()

    wait_for(lambda: not alive(pid))
    wait_for(lambda: list(tmp_path.iterdir()) == [])


def test_a_server_survives_the_thread_that_started_it(mongo_server_own):
    """A test's helper thread may restart the server and end."""
    thread = threading.Thread(target=mongo_server_own.restart)
    thread.start()
    thread.join(DEADLINE)

    mongo_server_own.wait_ready()
    assert alive(mongo_server_own.pid)


def test_servers_end_with_a_killed_pytest(run_pytest):
    """After kill -9 of pytest its servers are gone."""
    text = """
import time
def test_long(mongo_server, mongo_server_own):
    print("\\npids", mongo_server.pid, mongo_server_own.pid, flush=True)
    time.sleep(60)
"""
    process = run_pytest(text, "-s")
    line = next(line for line in process.stdout if line.startswith("pids"))
    pids = [int(pid) for pid in line.split()[1:]]
    assert all(map(alive, pids))

    os.kill(process.pid, signal.SIGKILL)

    wait_for(lambda: not any(map(alive, pids)))


def test_workers_of_xdist_share_one_server(run_pytest, tmp_path):
    """Two workers, one server, and it is gone after the last of them."""
    text = """
import pathlib, pytest
@pytest.mark.parametrize("number", range(4))
def test_shared(mongo_database, mongo_server, worker_id, number):
    pathlib.Path(f"seen-{worker_id}").write_text(str(mongo_server.pid))
"""
    process = run_pytest(text, "-n", "2")
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output

    (pid,) = {int(seen.read_text()) for seen in tmp_path.glob("seen-*")}
    assert len(list(tmp_path.glob("seen-*"))) == 2
    wait_for(lambda: not alive(pid))


# Three servers.


@pytest.fixture
def replica_set(mongo_replica_set):
    """The shared set, made whole after each test."""
    yield mongo_replica_set
    mongo_replica_set.heal()


@pytest.mark.replica
def test_a_set_has_a_primary_and_two_secondaries(replica_set):
    """A set is complete from the start, and a client finds the primary."""
    primary = replica_set.primary()

    assert {node.port for node in [primary, *replica_set.secondaries()]} == {node.port for node in replica_set.nodes}
    with replica_set.client(w="majority") as client:
        client.shop.things.insert_one({})
        assert client.address == ("127.0.0.1", primary.port)
    assert str(primary.port) in repr(replica_set)


@pytest.mark.replica
@pytest.mark.parametrize("force", [False, True])
def test_a_primary_steps_down(replica_set, force):
    """After a step-down another node is elected."""
    old = replica_set.primary()

    replica_set.step_down(force=force)

    assert replica_set.wait_for_primary(DEADLINE) is not old


@pytest.mark.soak
@pytest.mark.replica
@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_a_lost_primary_is_replaced(replica_set, harm):
    """A dead or silent primary has a successor within seconds, who has all that was acknowledged."""
    old = replica_set.primary()
    with replica_set.client(w="majority", serverSelectionTimeoutMS=DEADLINE * 1000, socketTimeoutMS=1000) as client:
        client.shop[harm].insert_one({"_id": 1})

        getattr(old, harm)()

        assert replica_set.wait_for_primary(DEADLINE) is not old
        with pymongo.timeout(DEADLINE):
            assert client.shop[harm].find_one() == {"_id": 1}


@pytest.mark.replica
def test_a_healed_set_is_whole(replica_set):
    """Dead and paused nodes and fail points: nothing of it is left after healing."""
    primary, (one, other) = replica_set.primary(), replica_set.secondaries()
    primary.command(
        "configureFailPoint", "failCommand", mode="alwaysOn", data={"failCommands": ["find"], "errorCode": 1}
    )
    with replica_set.client() as client, pytest.raises(OperationFailure):
        client.shop.things.find_one()
    one.kill()
    other.pause()

    replica_set.heal()

    assert len(replica_set.secondaries()) == 2
    with replica_set.client() as client:
        client.shop.things.find_one()
