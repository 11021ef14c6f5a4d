"""One worker at a time sweeps, by the database's clock."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

from flask_mongo_session.cleanup.lease import Lease


def test_one_winner(connect, database):
    """Of many workers that ask at once, one sweeps: when the lease is new, and each time it is due again."""
    leases = [Lease(connect(), "sessions", 60) for _ in range(8)]
    barrier = threading.Barrier(len(leases), timeout=20)

    def ask(lease):
        barrier.wait()
        return lease.acquire()

    with ThreadPoolExecutor(len(leases)) as pool:
        for _ in range(8):
            assert sum(pool.map(ask, leases)) == 1
            assert sum(pool.map(ask, leases)) == 0
            database["sessions_lease"].delete_many({})
        for _ in range(8):
            sum(pool.map(ask, leases))
            database["sessions_lease"].update_one(
                {}, {"$set": {"due": dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)}}
            )
            assert sum(pool.map(ask, leases)) == 1


def test_take_over(connect, database, move_clock):
    """When its owner is gone, another worker sweeps in the next interval; the owner notices that it is fenced off."""
    first, second = Lease(connect(), "sessions", 60), Lease(connect(), "sessions", 60)
    assert first.acquire()
    fence = database["sessions_lease"].find_one()["fence"]
    move_clock(50)
    assert not second.acquire()
    assert first.still_ours()
    move_clock(50)
    assert not second.acquire()
    move_clock(10)
    assert second.acquire()

    assert not first.still_ours()
    assert second.still_ours()
    assert not first.acquire()
    assert database["sessions_lease"].find_one()["fence"] == fence + 1


def test_renewing_leaves_a_margin(connect, database, move_clock):
    """A worker whose reading of the clock is a little behind must not take a renewed lease for one that is far off."""
    first, second = Lease(connect(), "sessions", 60), Lease(connect(), "sessions", 60)
    assert first.acquire()
    assert first.still_ours()
    move_clock(-0.5)

    assert not second.acquire()


def test_never_acquired(connect):
    """Whoever has no lease cannot renew one."""
    assert not Lease(connect(), "sessions", 60).still_ours()


def test_a_slower_configuration(connect):
    """A lease that was taken for an hour does not keep workers waiting that are configured for a minute."""
    assert Lease(connect(), "sessions", 3600).acquire()
    quick = Lease(connect(), "sessions", 60)

    assert quick.acquire()
    assert not quick.acquire()


def test_runs_are_kept(connect):
    """The last twenty sweeps can be looked at by every worker, the newest first."""
    lease, other = Lease(connect(), "sessions", 60), Lease(connect(), "sessions", 60)
    assert other.runs() == []
    lease.acquire()
    for count in range(25):
        lease.record(count, 0.12345)

    runs = other.runs()
    assert [run["count"] for run in runs] == list(range(24, 4, -1))
    assert runs[0]["seconds"] == 0.123
    assert runs[0]["at"].utcoffset() == dt.timedelta(0)


def test_a_run_without_a_lease_is_kept(connect, database):
    """A command holds no lease, and leaves it to the workers: the first that asks has its turn."""
    command, worker = Lease(connect(), "sessions", 0), Lease(connect(), "sessions", 60)
    command.record(3, 0.5)
    assert [run["count"] for run in worker.runs()] == [3]
    assert worker.acquire()

    due = database["sessions_lease"].find_one()["due"]
    command.record(4, 0.5)
    assert database["sessions_lease"].find_one()["due"] == due
    assert worker.still_ours()
    assert [run["count"] for run in worker.runs()] == [4, 3]


def test_lease_lies_beside_the_sessions(connect, sessions, database):
    """The lease never looks like a session."""
    Lease(connect(), "sessions", 60).acquire()

    assert sessions.count_documents({}) == 0
    assert database["sessions_lease"].count_documents({}) == 1
