"""A million sessions, half of them expired: finds, sweeps, listings and memory, against raw PyMongo."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import typing as t

from benchmarks import content as c
from benchmarks.contenders import connect
from benchmarks.measure import Listener, Pace, Subject, interleaved, resident, rows_of
from benchmarks.server import Server
from flask_mongo_session import MongoSessionStore, Session

_BATCH = 10_000
_SMALL = 1_000
_PAGE = 20


def measure(server: Server, pace: Pace, *, scale: int, quiet: float) -> dict[str, t.Any]:
    """Everything about *scale* sessions, the half of them expired."""
    with connect(server.uri) as client:
        database = client["benchmarks_scale"]
        store = _store(database)
        store.ensure_indexes()
        fill(store, scale // 2, live=True)
        fill(store, scale - scale // 2, live=False)

        results: dict[str, t.Any] = {"sessions": scale, "storage": _storage(store)}
        results["find"] = _finds(store, database, server, pace)
        results["start_up"] = _start_up(server, database.name)
        results["listing"] = _listing(store)
        results["iterate"] = _iterate(server, database.name)
        results["sweep"] = _sweeps(store, server, scale - scale // 2, seconds=quiet)
        client.drop_database(database.name)

    return results


def _store(database: t.Any, **options: t.Any) -> MongoSessionStore:
    return MongoSessionStore(Session, database=database, cleanup_interval=0, auto_index=False, **options)


def fill(store: MongoSessionStore, count: int, *, live: bool) -> None:
    """Store so many sessions, expiring (or expired) spread over a day; every tenth of the live ones has a user."""
    now = c.now()
    for start in range(0, count, _BATCH):
        store.collection.insert_many(
            [_document(now, number, live=live) for number in range(start, min(start + _BATCH, count))],
            ordered=False,
        )


def _document(now: dt.datetime, number: int, *, live: bool) -> dict[str, t.Any]:
    offset = dt.timedelta(seconds=random.uniform(600, 86_400))
    document = c.document_of(
        c.new_id(), c.CONTENT, token=c.new_token(), expires_at=now + offset if live else now - offset
    )
    return {**document, "user_id": str(number)} if live and number % 10 == 0 else document


def _storage(store: MongoSessionStore) -> dict[str, t.Any]:
    """Bytes for each session: in memory, on the disk, in each index."""
    stats = store.collection.database.command("collStats", store.collection.name)
    count = stats["count"]
    return {
        "bytes": stats["size"] / count,
        "disk_bytes": stats["storageSize"] / count,
        "index_bytes": {name: size / count for name, size in stats["indexSizes"].items()},
    }


def _some_ids(store: MongoSessionStore, count: int = 2_000) -> list[str]:
    live = {"expires_at": {"$gt": c.now()}}
    sample = store.collection.aggregate([{"$match": live}, {"$sample": {"size": count}}, {"$project": {"_id": True}}])
    return [document["_id"] for document in sample]


def _finds(store: MongoSessionStore, database: t.Any, server: Server, pace: Pace) -> dict[str, t.Any]:
    """Finding one session of all, of a thousand, and one that is unknown."""
    small = _store(database, collection="small")
    fill(small, _SMALL, live=True)

    def among(ids: list[str]) -> t.Callable[[int], list[str]]:
        return lambda count: random.choices(ids, k=count)

    samples = interleaved(
        [
            Subject("all", store.find, among(_some_ids(store))),
            Subject("a thousand", small.find, among(_some_ids(small, _SMALL))),
            Subject("unknown", store.find, lambda count: [c.new_id() for _ in range(count)]),
        ],
        pace,
        server.pids,
    )
    return rows_of(samples, {"a thousand": "a thousand"})


def _start_up(server: Server, database: str) -> dict[str, t.Any]:
    """What a worker's start costs where the indexes are there already."""
    listener = Listener()
    with connect(server.uri, event_listeners=[listener]) as client:
        store = _store(client[database])
        store.find(c.new_id())  # connects, and learns the server's time
        listener.clear()
        _, seconds = timed(store.ensure_indexes)
        return {"commands": [*listener.names], "seconds": seconds}


def _listing(store: MongoSessionStore) -> dict[str, t.Any]:
    """A page of an admin view, through an index, early and late; how many are live."""
    collection = store.collection
    live = {"expires_at": {"$gt": c.now()}}
    page = [("expires_at", -1)]
    count, counting = timed(lambda: collection.count_documents(live))
    _, first = timed(lambda: list(collection.find(live).sort(page).limit(_PAGE)))
    deep, _ = timed(lambda: collection.find(live).sort(page).skip(count // 2).limit(1)[0]["expires_at"])
    _, after = timed(
        lambda: list(collection.find({"expires_at": {"$gt": c.now(), "$lt": deep}}).sort(page).limit(_PAGE))
    )
    _, skipped = timed(lambda: list(collection.find(live).sort(page).skip(count // 2).limit(_PAGE)))
    plan = collection.find(live).sort(page).limit(_PAGE).explain()["queryPlanner"]["winningPlan"]
    return {
        "live": count,
        "count_seconds": counting,
        "first_page_seconds": first,
        "page_after_seconds": after,
        "page_skipped_to_seconds": skipped,
        "through_index": "IXSCAN" in json.dumps(plan, default=str) and "COLLSCAN" not in json.dumps(plan, default=str),
    }


_WALKS: dict[str, str] = {
    "raw cursor": "sum(1 for _ in store.collection.find({'expires_at': {'$gt': now}}, {'data': True}))",
    "iterate": "sum(1 for _ in store.iterate())",
    "all": "len(store.all())",
}


def _iterate(server: Server, database: str) -> dict[str, t.Any]:
    """All live sessions one by one, each way in processes of its own, for the sake of the memory."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in _WALKS}
    for _ in range(2):
        for name in random.sample(list(_WALKS), len(_WALKS)):
            arguments = [sys.executable, "-m", "benchmarks.scale", server.uri, database, name]
            runs[name].append(json.loads(subprocess.run(arguments, check=True, stdout=subprocess.PIPE).stdout))

    medians = {
        name: {key: statistics.median(run[key] for run in several) for key in several[0]}
        for name, several in runs.items()
    }
    base = medians["raw cursor"]
    return {
        name: {**one, "ratio": one["seconds"] / base["seconds"], "client_ratio": one["cpu"] / base["cpu"]}
        for name, one in medians.items()
    }


def walk(uri: str, database: str, name: str) -> dict[str, float]:
    """One of the ways, in this process: time, processor time, and how much the memory grew at most."""
    with connect(uri) as client:
        store = _store(client[database])
        store.find(c.new_id())  # connects, and learns the server's time
        before, cpu = resident(), time.process_time()
        with _watched_memory() as peak:
            count, seconds = timed(lambda: eval(_WALKS[name], {"store": store, "now": c.now()}))  # noqa: S307 - our own text
        return {"count": count, "seconds": seconds, "cpu": time.process_time() - cpu, "memory": peak[0] - before}


@contextlib.contextmanager
def _watched_memory() -> t.Iterator[list[int]]:
    peak, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak[0] = max(peak[0], resident())


def _sweeps(store: MongoSessionStore, server: Server, count: int, *, seconds: float) -> dict[str, t.Any]:
    """Our sweep and one raw ``delete_many``, in turns, each with finds of live sessions beside it.

    Before each so many *seconds* of finds without a sweep.
    """
    ids = _some_ids(store)
    quiet, loud = [], {"ours": [], "raw": []}
    rates: dict[str, list[float]] = {"ours": [], "raw": []}

    def ours() -> int:
        return store.delete_expired()

    def raw() -> int:
        return store.collection.delete_many({"expires_at": {"$lte": c.now()}}).deleted_count

    order = [("ours", ours), ("raw", raw), ("raw", raw), ("ours", ours)]
    for number, (name, sweep) in enumerate(order):
        if number:
            fill(store, count, live=False)
        _settle(store)
        quiet += _finding(server.uri, store, ids, seconds=seconds)
        with _finds_beside(server.uri, store, ids) as latencies:
            removed, took = timed(sweep)
        assert removed >= count, (name, removed, count)
        loud[name] += latencies
        rates[name].append(removed / took)

    result: dict[str, t.Any] = {"removed": count, "quiet": _percentiles(quiet)}
    for name, values in rates.items():
        result[name] = {"per_second": statistics.fmean(values), "runs": values, "finds": _percentiles(loud[name])}
    result["ratio"] = result["ours"]["per_second"] / result["raw"]["per_second"]
    return result


def _settle(store: MongoSessionStore) -> None:
    """Let the server write out what the filling left, so that no measurement pays for it."""
    store.collection.database.client.admin.command("fsync")


def _finding(uri: str, store: MongoSessionStore, ids: list[str], *, seconds: float) -> list[float]:
    with _finds_beside(uri, store, ids) as latencies:
        time.sleep(seconds)
    return latencies


@contextlib.contextmanager
def _finds_beside(uri: str, store: MongoSessionStore, ids: list[str]) -> t.Iterator[list[float]]:
    """Finds one session after the other on a thread, every five milliseconds; seconds that each took."""
    latencies: list[float] = []
    done = threading.Event()
    with connect(uri) as client:
        beside = _store(client[store.collection.database.name])
        beside.find(random.choice(ids))

        def find() -> None:
            over = False
            while not over:
                began = time.perf_counter()
                beside.find(random.choice(ids))
                latencies.append(time.perf_counter() - began)
                over = done.wait(0.005)

        thread = threading.Thread(target=find, daemon=True)
        thread.start()
        try:
            yield latencies
        finally:
            done.set()
            thread.join()


def _percentiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"count": len(seconds), "median_us": cuts[49] * 1e6, "p99_us": cuts[98] * 1e6}


def timed(call: t.Callable[[], t.Any]) -> tuple[t.Any, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(walk(*sys.argv[1:])))
