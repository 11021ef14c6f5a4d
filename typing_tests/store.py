"""The store without Flask, and what listens to it."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from pymongo import MongoClient
from typing_extensions import assert_type

from flask_mongo_session import MongoSessionStore, Session, StoredSession, new_session_id

client: MongoClient[dict[str, Any]] = MongoClient("mongodb://localhost")
store = MongoSessionStore(Session, database=client["shop"], cleanup_interval=dt.timedelta(seconds=30))
sid = new_session_id()


def right() -> None:
    """What the Go package's interface has, with types."""
    assert_type(sid, str)
    store.commit(sid, {"message": "hi"}, dt.datetime.now(dt.timezone.utc))
    assert_type(store.find(sid), StoredSession | None)
    assert_type(store.all(), dict[str, dict[str, Any]])
    iterator: Iterator[tuple[str, dict[str, Any]]] = store.iterate()
    assert_type(next(iterator)[0], str)
    store.delete(sid)
    store.stop_cleanup()


def mistakes() -> None:
    """Each of these lines is an error; an ignore without one would be an error itself."""
    store.commit(sid, {"message": "hi"}, expires_at=60)  # type: ignore[arg-type]
    store.find(sid).data  # type: ignore[union-attr]
    MongoSessionStore(dict)  # type: ignore[arg-type]
