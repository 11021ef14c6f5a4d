"""The store by itself, against the raw calls that do the same, and declared fields against free-form keys."""

from __future__ import annotations

import datetime as dt
import typing as t

from mongoengine import BooleanField, FloatField, IntField, ListField, StringField

from benchmarks import content as c
from benchmarks.contenders import connect
from benchmarks.measure import Listener, Pace, Subject, commands_of, interleaved, rows_of
from benchmarks.server import Server
from flask_mongo_session import MongoSessionStore, Session, SessionDocument

#: What is 1.00 in each operation.
BASES = {"find": "raw", "miss": "raw", "commit": "raw", "delete": "raw", "declared": "free form"}

_EXPIRES = dt.timedelta(days=1)
_DATABASE = "benchmarks_operations"


class Declared(SessionDocument):
    """Ten declared fields, for a comparison with the same data in free form."""

    n = IntField()
    csrf_token = StringField()
    theme = StringField(choices=("light", "dark"))
    language = StringField()
    newsletter = BooleanField()
    last_search = StringField()
    rebate = FloatField()
    cart = ListField(IntField())
    name = StringField()
    visits = IntField()
    meta: t.ClassVar[dict[str, t.Any]] = {"collection": "declared"}


_DECLARED_CONTENT = {name: value for name, value in c.CONTENT.items() if name != "seen"} | {"name": "Ada", "visits": 12}


def measure(server: Server, pace: Pace) -> dict[str, dict[str, t.Any]]:
    """Times, commands and bytes of each operation, ours and raw."""
    results = {}
    listener = Listener()
    with connect(server.uri) as client, connect(server.uri, event_listeners=[listener]) as counted:
        for (name, pair), same in zip(
            _pairs(client[_DATABASE]).items(), _pairs(counted[_DATABASE]).values(), strict=True
        ):
            counts = {one.name: commands_of(one, listener) for one in same}
            rows = rows_of(interleaved(pair, pace, server.pids), {"base": BASES[name]})
            results[name] = {key: {**row, **counts[key]} for key, row in rows.items()}
        client.drop_database(_DATABASE)

    return results


def _pairs(database: t.Any) -> dict[str, list[Subject]]:
    """Each operation as (ours, base)."""
    store = MongoSessionStore(Session, database=database, cleanup_interval=0, auto_index=False)
    raw = c.collection_of(database, "raw")
    for collection in (raw, store.collection):
        collection.create_indexes(c.INDEXES)
    expires_at = c.now() + _EXPIRES

    def new_ours() -> str:
        sid = c.new_id()
        store.commit(sid, c.CONTENT, expires_at)
        return sid

    def new_raw() -> str:
        return c.stored(raw, c.CONTENT)

    def unknown(count: int) -> list[str]:
        return [c.new_id() for _ in range(count)]

    def put(sid: str) -> None:
        raw.replace_one({"_id": sid}, c.document_of(sid, c.CONTENT, expires_at=expires_at), upsert=True)

    def look(sid: str) -> t.Any:
        return raw.find_one({"_id": sid})

    return {
        "find": [Subject("ours", store.find, _some(new_ours)), Subject("raw", look, _some(new_raw))],
        "miss": [Subject("ours", store.find, unknown), Subject("raw", look, unknown)],
        "commit": [
            Subject("ours", lambda sid: store.commit(sid, c.CONTENT, expires_at), _some(new_ours)),
            Subject("raw", put, _some(new_raw)),
        ],
        "delete": [
            Subject("ours", store.delete, _fresh(new_ours)),
            Subject("raw", lambda sid: raw.delete_one({"_id": sid}), _fresh(new_raw)),
        ],
        "declared": _declared(database),
    }


def _some(make: t.Callable[[], str]) -> t.Callable[[int], list[str]]:
    """Ten sessions, again and again."""
    some = [make() for _ in range(10)]
    return lambda count: [some[i % len(some)] for i in range(count)]


def _fresh(make: t.Callable[[], str]) -> t.Callable[[int], list[str]]:
    """A session of its own for each call."""
    return lambda count: [make() for _ in range(count)]


def _declared(database: t.Any) -> list[Subject]:
    """The same data in ten declared fields, and in free form."""
    plain = MongoSessionStore(Session, database=database, cleanup_interval=0, auto_index=False, collection="plain")
    typed = MongoSessionStore(Declared, database=database, cleanup_interval=0, auto_index=False)
    sid = c.new_id()
    for store in (typed, plain):
        store.commit(sid, _DECLARED_CONTENT, c.now() + _EXPIRES)
        found = store.find(sid)
        assert found is not None
        assert found.data == _DECLARED_CONTENT

    return [
        Subject("declared", typed.find, lambda count: [sid] * count),
        Subject("free form", plain.find, lambda count: [sid] * count),
    ]
