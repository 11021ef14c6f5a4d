"""Many workers, one sweep an interval; a sweep that fails, hangs or is interrupted harms nobody."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pymongo
import pytest
from waiting import eventually

from flask_mongo_session import MongoSessionStore, Session
from flask_mongo_session.cleanup.expired import Remover
from flask_mongo_session.cleanup.sweeper import JITTER, Sweeper
from flask_mongo_session.document.filters import TOMBSTONE_LIFE
from flask_mongo_session.storage.repository import tombstone

PROCESSES = 16
INTERVAL = 1.0
PROGRAM = """
import json, os, signal, sys, threading
from flask_mongo_session import MongoSessionStore, Session
from flask_mongo_session.mongo.connection import client_for

uri, interval, processes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
children = []
for _ in range(processes):
    child = os.fork()
    if not child:
        client = client_for(uri, 10)
        store = MongoSessionStore(
            Session, database=client.get_default_database(), cleanup_interval=interval, timeout=10, auto_index=False
        )
        threading.Event().wait(120)
        os._exit(0)
    children.append(child)
print(json.dumps(children), flush=True)
sys.stdin.read()
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.fixture
def sixteen(uri):
    """Sixteen processes that sweep one database; their ids."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM), uri, str(INTERVAL), str(PROCESSES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(20)


def lease_of(stored):
    return stored["sessions_lease"].find_one() or {}


def next_sweep(stored, seconds=10 * INTERVAL):
    """The lease after the next sweep, and when that was seen (monotonic)."""
    fence = lease_of(stored).get("fence")
    lease = eventually(lambda: (found := lease_of(stored)).get("fence") != fence and found, seconds, "a sweep")
    return lease, time.monotonic()


def expired(number, seconds=60.0):
    now = dt.datetime.now(dt.timezone.utc)
    ago = dt.timedelta(seconds=seconds)
    return [{"_id": f"old{n}", "data": {}, "expires_at": now - ago} for n in range(number)]


@pytest.mark.soak
@pytest.mark.timeout(200)
def test_sixteen_processes_sweep_once_an_interval(sixteen, stored):
    """Five intervals see five sweeps, each of which finds work; a killed sweeper's turn is taken in two intervals."""
    next_sweep(stored, 120)  # sixteen of them take their time to start
    fence, began = lease_of(stored)["fence"], time.monotonic()
    stored.sessions.insert_many(expired(100))
    time.sleep(5 * INTERVAL)
    sweeps, took = lease_of(stored)["fence"] - fence, time.monotonic() - began

    assert stored.sessions.count_documents({}) == 0
    assert took / INTERVAL * 0.6 - 1 <= sweeps <= took / INTERVAL / (1 - JITTER) + 1

    for _ in range(3):
        lease, killed = next_sweep(stored)
        owner = int(lease["owner"].rpartition(":")[2])
        assert owner in sixteen
        os.kill(owner, signal.SIGKILL)
        successor, taken = next_sweep(stored)
        assert successor["owner"] != lease["owner"]
        assert taken - killed <= 2 * INTERVAL


@pytest.fixture
def make_store(database):
    """Makes stores on a database of the test's own, which sweep when told to."""
    stores = []

    def make(**how):
        how = {"cleanup_interval": 0, "auto_index": False, "timeout": 10, **how}
        stores.append(MongoSessionStore(Session, database=database, **how))
        return stores[-1]

    yield make
    for store in stores:
        store.stop_cleanup()


def test_the_state_of_the_sweeper(make_store, sessions):
    """``store.sweeper`` tells when it last ran, for how long, how many it removed, and what went wrong."""
    sessions.insert_many(expired(7))
    store = make_store(cleanup_interval=0.2)
    assert (store.sweeper.last_run, store.sweeper.last_count, store.sweeper.last_error) == (None, None, None)

    began = time.time()
    eventually(lambda: store.sweeper.last_count == 7, 10, "a sweep")

    assert began <= store.sweeper.last_run <= time.time()
    assert 0 < store.sweeper.last_seconds < 10
    assert store.sweeper.last_error is None
    assert store.sweeps()[-1]["count"] == 7


def test_it_survives_errors_and_tells_them(server, uri, caplog):
    """While the server is away the thread lives, the error is kept and logged once; afterwards it sweeps again."""
    caplog.set_level(logging.WARNING, "flask_mongo_session.cleanup.sweeper")
    with pymongo.MongoClient(uri) as client:
        stored = client.get_default_database()
        store = MongoSessionStore(Session, database=stored, cleanup_interval=0.1, timeout=0.3, auto_index=False)
        try:
            server.kill()
            eventually(lambda: store.sweeper.last_error, 10, "an error")
            eventually(lambda: store.sweeper._failures > 1, 10, "another error")
            server.start()
            stored.sessions.insert_many(expired(3))
            eventually(lambda: stored.sessions.count_documents({}) == 0, 20, "a sweep")
            eventually(lambda: store.sweeper.last_error is None, 5, "forgiveness")
        finally:
            store.stop_cleanup()

    assert len([record for record in caplog.records if record.name.endswith("sweeper")]) == 1


class Failing:
    """Something to sweep that always fails."""

    def __init__(self):
        self.calls = 0

    def sweep(self, stopping):
        self.calls += 1
        raise RuntimeError("no")


def test_it_backs_off():
    """After each failure it waits longer, up to eight intervals."""
    target = Failing()
    sweeper = Sweeper(target.sweep, 10)
    pauses = [sweeper.run(threading.Event()) for _ in range(6)]

    assert [round(pause / 10 + JITTER) for pause in pauses] == [1, 2, 4, 8, 8, 8]
    assert isinstance(sweeper.last_error, RuntimeError)
    assert target.calls == 6


def test_it_stops_within_a_batch(make_store, sessions):
    """Amid a hundred thousand records ``stop_cleanup()`` waits for one batch, not for all."""
    for start in range(0, 60_000, 20_000):
        records = [{**record, "_id": f"{start}{record['_id']}"} for record in expired(20_000, 60 + start)]
        sessions.insert_many(records, ordered=False)
    sessions.create_index("expires_at")
    store = make_store(cleanup_interval=0.05)
    eventually(lambda: sessions.estimated_document_count() < 60_000, 20, "the first batch")

    began = time.monotonic()
    store.stop_cleanup()

    assert time.monotonic() - began < 3
    assert not store.sweeper.running
    assert sessions.count_documents({}) > 0


def test_what_is_renewed_meanwhile_stays(make_store, sessions):
    """A session that comes back to life between two batches is not deleted, whichever batch it was in."""
    store = make_store()
    sessions.insert_many(expired(5, 30) + [{**record, "_id": f"x{record['_id']}"} for record in expired(20, 60)])
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)

    batches = Remover(store.connection, "sessions", 4).batches()
    removed = next(batches)
    sessions.update_many({"_id": {"$in": ["old1", "xold19"]}}, {"$set": {"expires_at": later}})
    removed += sum(batches)

    assert {record["_id"] for record in sessions.find()} >= {"old1", "xold19"} - {"xold19"} | {"old1"}
    assert sessions.count_documents({"expires_at": later}) == 25 - removed


@pytest.mark.timeout(30)
@pytest.mark.parametrize("same", [True, False], ids=["one moment", "many moments"])
def test_tombstones_do_not_hold_it_up(make_store, sessions, same):
    """More than fit into a batch, all too fresh to go: the sweep passes them by, and ends."""
    store, now = make_store(), store_now(make_store)
    marks = [
        {"_id": f"mark{number}", **tombstone(now - dt.timedelta(milliseconds=0 if same else number))}
        for number in range(50)
    ]
    sessions.insert_many(marks + expired(30))

    assert sum(store.remove_batches(4)) == 30
    assert sessions.count_documents({}) == 50


def test_tombstones_go_when_they_are_old(make_store, sessions, move_clock):
    """A quarter of an hour later."""
    store, now = make_store(), store_now(make_store)
    sessions.insert_one({"_id": "mark", **tombstone(now)})
    move_clock(TOMBSTONE_LIFE.total_seconds() + 1)

    assert store.delete_expired() == 1


def store_now(make_store):
    return make_store().now()


def test_a_lease_from_a_slower_configuration_is_no_hindrance(make_store, database, sessions):
    """After the interval was shortened nobody waits for the old one."""
    far = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    database["sessions_lease"].insert_one({"_id": "sweep", "due": far, "fence": 3})
    sessions.insert_many(expired(2))

    store = make_store(cleanup_interval=0.1)

    eventually(lambda: store.sweeper.last_count == 2, 10, "a sweep")
