"""The store by itself, against the raw calls that do the same, and declared fields against free-form keys."""

from __future__ import annotations

import datetime as dt
import secrets
import typing as t

from benchmarks import contenders as c
from benchmarks.measure import Listener, Subject, commands_of, interleaved
from benchmarks.server import Server
from flask_mongo_session import MongoSessionStore, Session

OPERATIONS = ("find", "miss", "commit", "delete", "declared")
_EXPIRES = dt.timedelta(days=1)


def counted(server: Server) -> dict[str, dict[str, t.Any]]:
    """Commands and bytes of each operation, ours and raw."""
    listener = Listener()
    with c.connect(server.uri, event_listeners=[listener]) as client:
        pairs = _pairs(client["benchmarks_counted"])
        counts = {name: {one.name: commands_of(one, listener) for one in pair} for name, pair in pairs.items()}
        client.drop_database("benchmarks_counted")

    return counts


def timed(server: Server, *, rounds: int, block: int) -> dict[str, dict[str, t.Any]]:
    """Times of each operation as ratios to the raw call (for the declared fields: to free-form keys)."""
    results = {}
    with c.connect(server.uri) as client:
        for name, pair in _pairs(client["benchmarks_timed"]).items():
            samples = interleaved(pair, rounds=rounds, block=block, server=server.pid)
            results[name] = {key: sample.summary(samples[pair[1].name]) for key, sample in samples.items()}
        client.drop_database("benchmarks_timed")

    return results


def _pairs(database: t.Any) -> dict[str, list[Subject]]:
    """Each operation as (ours, base)."""
    store = MongoSessionStore(Session, database=database, cleanup_interval=0, auto_index=False)
    raw = c.pinned(database)
    for collection in (raw, store.collection):
        collection.create_indexes(c.INDEXES)
    store.now()

    def ids(collection: t.Any) -> t.Callable[[int], list[str]]:
        some = [c.new_document(collection) for _ in range(10)]
        return lambda count: [some[i % len(some)] for i in range(count)]

    def fresh(collection: t.Any) -> t.Callable[[int], list[str]]:
        return lambda count: [c.new_document(collection) for _ in range(count)]

    def unknown(count: int) -> list[str]:
        return [secrets.token_urlsafe(32) for _ in range(count)]

    expires_at = dt.datetime.now(dt.timezone.utc) + _EXPIRES
    return {
        "find": [
            Subject("ours", store.find, ids(store.collection)),
            Subject("raw", lambda sid: raw.find_one({"_id": sid}), ids(raw)),
        ],
        "miss": [
            Subject("ours", store.find, unknown),
            Subject("raw", lambda sid: raw.find_one({"_id": sid}), unknown),
        ],
        "commit": [
            Subject("ours", lambda sid: store.commit(sid, c.CONTENT, expires_at), ids(store.collection)),
            Subject(
                "raw",
                lambda sid: raw.replace_one({"_id": sid}, c.document_of(sid, c.CONTENT, expires_at), upsert=True),
                ids(raw),
            ),
        ],
        "delete": [
            Subject("ours", store.delete, fresh(store.collection)),
            Subject("raw", lambda sid: raw.delete_one({"_id": sid}), fresh(raw)),
        ],
        "declared": _declared(database),
    }


def _declared(database: t.Any) -> list[Subject]:
    """The same data in ten declared fields, and in free form."""
    plain = MongoSessionStore(Session, database=database, cleanup_interval=0, auto_index=False, collection="plain")
    typed = MongoSessionStore(c.Declared, database=database, cleanup_interval=0, auto_index=False)
    expires_at = dt.datetime.now(dt.timezone.utc) + _EXPIRES
    sid = secrets.token_urlsafe(32)
    for store in (typed, plain):
        store.commit(sid, c.DECLARED_CONTENT, expires_at)
        found = store.find(sid)
        assert found is not None
        assert found.data == c.DECLARED_CONTENT

    return [
        Subject("declared", typed.find, lambda count: [sid] * count),
        Subject("free form", plain.find, lambda count: [sid] * count),
    ]
