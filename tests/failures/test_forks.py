"""After a fork each process has its own client, locks and sweeper; no warning, no dead-lock, no socket shared."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from gunicorn_server import HERE, Gunicorn

WORKERS = 2
COMPLAINTS = re.compile(r"Warning|Traceback|Error\b|error:|CRITICAL|timed? ?out", re.IGNORECASE)


@pytest.fixture
def start(tmp_path, uri, monkeypatch):
    """Starts gunicorns; those with real threads used sessions before they forked (greenlets survive a fork)."""
    with contextlib.ExitStack() as stack:

        def gunicorn(worker_class, *options):
            monkeypatch.setenv("SHOP_WARM", "" if worker_class == "gevent" else "1")
            server = Gunicorn(
                tmp_path,
                worker_class,
                WORKERS,
                *options,
                SESSION_MONGODB_URI=uri,
                SESSION_CLEANUP_INTERVAL=0.5,
                SESSION_MONGODB_TIMEOUT=10,
            )
            return stack.enter_context(server)

        yield gunicorn


def check(server):
    """What a preloaded start has to show."""
    server.wait_ready()
    for _ in range(4):
        status, text, cookie = server.get("/count")
        assert (status, text) == (200, "1")
        assert server.get("/count", cookie)[:2] == (200, "2")

    states = server.states(WORKERS)
    assert server.process.pid not in states
    assert all(state["sweeping"] and state["sweepers"] == 1 for state in states.values()), states
    assert all(state["clients"] == 1 and state["last_error"] == "None" for state in states.values()), states
    ports = [port for state in states.values() for port in state["ports"]]
    assert len(ports) == len(set(ports)), "workers share a connection"
    assert not set(ports) & connections_of(server.process.pid), "a worker uses a connection of its parent"
    assert ports


def connections_of(pid):
    """The local ports of a process's connections."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    port_of = {fields[9]: int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == "01"}
    held = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(str(handle.readlink()).removeprefix("socket:[").removesuffix("]"))
    return {port_of[inode] for inode in held & port_of.keys()}


GEVENT = ("gevent", "-c", str(HERE / "gevent_first.py"))


def complaints(gunicorn):
    """What a server said that it should not have; but for its own listening socket, which it leaves open at its end."""
    lines = gunicorn.text().splitlines()
    own = f"('127.0.0.1', {gunicorn.port})>"
    return [line for line in lines if COMPLAINTS.search(line) and not line.endswith(own)]


@pytest.mark.parametrize(
    "worker_class",
    [
        pytest.param(("sync",), id="sync"),
        pytest.param(("gthread", "--threads", "4"), id="gthread", marks=pytest.mark.soak),
        pytest.param(GEVENT, id="gevent", marks=pytest.mark.soak),
    ],
)
def test_gunicorn_preload(start, worker_class):
    """Three starts of each kind of worker, with warnings as errors."""
    if worker_class[0] == "gevent":
        pytest.importorskip("gevent", reason="gunicorn's gevent workers need gevent")
    servers = [start(*worker_class) for _ in range(3)]
    for gunicorn in servers:
        check(gunicorn)

    for gunicorn in servers:
        gunicorn.__exit__()
        assert complaints(gunicorn) == [], gunicorn.text()


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_many_preloaded_starts(start):
    """As many as half a minute allows: no warning, no dead-lock, a sweeper alive in each worker."""
    until, starts = time.monotonic() + 30, 0
    while time.monotonic() < until:
        with start(*[("sync",), ("gthread", "--threads", "4"), GEVENT][starts % 3]) as gunicorn:
            check(gunicorn)
        assert complaints(gunicorn) == [], gunicorn.text()
        starts += 1

    sys.stderr.write(f"{starts} preloaded starts\n")
    assert starts > 5


def run_program(program, uri, interval=0.2):
    """The JSON that a Python program prints, with warnings as errors."""
    config = {"SESSION_MONGODB_URI": uri, "SESSION_CLEANUP_INTERVAL": interval, "SESSION_MONGODB_TIMEOUT": 10}
    environment = {
        **os.environ,
        "SHOP": json.dumps(config),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_os_fork_amid_traffic(uri):
    """Twenty children of a busy process, born while other threads hold whatever locks there are."""
    report = run_program(
        """
        import faulthandler, json, os, threading
        from plain_shop import create_app

        app = create_app()
        stopping = threading.Event()
        busy = threading.Barrier(4)

        def hammer():
            for _ in range(5):
                assert app.test_client().get("/count").status_code == 200
            busy.wait()
            while not stopping.is_set():
                assert app.test_client().get("/count").status_code == 200

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        busy.wait()
        children = []
        for _ in range(20):
            child = os.fork()
            if not child:
                faulthandler.dump_traceback_later(40, exit=True)
                browser = app.test_client()
                texts = [browser.get("/count").text for _ in range(3)]
                state = browser.get("/state").json
                os._exit(0 if texts == ["1", "2", "3"] and state["sweepers"] == 1 and state["clients"] == 1 else 1)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        stopping.set()
        for thread in threads:
            thread.join()
        app.extensions["mongo_session"].store.stop_cleanup()
        print(json.dumps(codes))
        """,
        uri,
    )

    assert report == [0] * 20


def test_multiprocessing(uri):
    """A pool of forked processes serves; the parent goes on."""
    report = run_program(
        """
        import json, multiprocessing
        from plain_shop import create_app

        app = create_app()

        def serve(number):
            browser = app.test_client()
            browser.get(f"/write/number/{number}")
            return browser.get("/read/number").text

        assert serve(99) == "99"
        with multiprocessing.get_context("fork").Pool(4) as pool:
            answers = pool.map(serve, range(12))
        assert serve(99) == "99"
        print(json.dumps(answers))
        """,
        uri,
    )

    assert report == [str(number) for number in range(12)]


def test_a_fork_that_python_does_not_hear_of(uri):
    """As a server written in C may fork: the child finds out by its process id.

    The parent's other threads are at rest: without Python's help, a lock that one of them holds stays locked.
    """
    report = run_program(
        """
        import ctypes, json, os, threading
        from plain_shop import create_app

        app = create_app()
        assert app.test_client().get("/count").text == "1"
        before = app.test_client().get("/state").json
        for thread in threading.enumerate():
            if thread.name == "mongo-session-indexes":
                thread.join(30)
        out, into = os.pipe()
        child = ctypes.PyDLL(None).fork()
        if not child:
            browser = app.test_client()
            texts = [browser.get("/count").text for _ in range(2)]
            state = browser.get("/state").json
            os.write(into, json.dumps([texts, state["sweeping"], state["client"] != before["client"]]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert app.test_client().get("/count").text == "1"
        app.extensions["mongo_session"].store.stop_cleanup()
        print(os.read(out, 1000).decode())
        """,
        uri,
        interval=60,
    )

    assert report == [["1", "2"], True, True]
