"""The applications that are compared: the same views on sessions of different makers, and the floors under them."""

from __future__ import annotations

import datetime as dt
import logging
import math
import secrets
import time
import typing as t
import warnings

from flask import Flask
from pymongo import MongoClient
from pymongo.database import Database

from benchmarks import content as c
from benchmarks.correct_floor import CorrectFloor
from benchmarks.measure import Subject
from benchmarks.views import CASES, PATHS, add_raw_views, add_views
from benchmarks.wsgi import call, cookie_of, environ_of
from flask_mongo_session import MongoSession

__all__ = ["CASES", "LAYER", "NAMES", "Contender", "bases_of", "connect", "contenders", "subject", "subjects_of"]

NAMES = {
    "ours": "flask-mongoengine-session",
    "raw": "raw floor (Flask + raw PyMongo)",
    "correct": "correct floor (by hand)",
    "none": "no session",
    "cookie": "Flask's signed cookie",
    "shipped": "Flask-Session 0.8 as shipped",
    "indexed": "Flask-Session 0.8 + index by hand",
    "mongoengine": "flask-mongoengine-3",
}
#: Those that can do with a stubbed driver.
LAYER = ("ours", "raw", "correct", "none", "cookie")

_SECRET = "a key for measuring only"
#: Seconds after which a visitor is measured under a new cookie: before any session's expiry is due to be moved.
_COOKIE_AGE = 20.0


class Contender(t.NamedTuple):
    """An application, how to come by a session of its own (the value of its cookie), and how to store many others.

    *fill* stores the sessions of so many other visitors. Without it they make no difference.
    """

    key: str
    app: Flask
    new_cookie: t.Callable[[], str]
    fill: t.Callable[[int], None] | None = None


def ours(database: Database[t.Any], content: dict[str, t.Any] = c.CONTENT) -> Contender:
    app = _flask(content)
    app.config.update(SESSION_MONGODB=database.client, SESSION_MONGODB_DB=database.name, SESSION_CLEANUP_INTERVAL=0)
    store = MongoSession(app).store
    return Contender("ours", app, lambda: cookie_of(app), lambda count: _insert(store.collection, count, _record))


def raw_floor(database: Database[t.Any], content: dict[str, t.Any] = c.CONTENT) -> Contender:
    """Flask without sessions; the visitors' ids are kept in a list, the last is the one who visits."""
    app, collection = Flask("raw"), c.collection_of(database, "raw")
    collection.create_indexes(c.INDEXES)
    ids: list[str] = []
    add_raw_views(app, collection, ids)

    def new_cookie() -> str:
        ids.append(c.stored(collection, content, token=c.new_token()))
        return ids[-1]

    return Contender("raw", app, new_cookie, lambda count: _insert(collection, count, _record))


def correct_floor(database: Database[t.Any], content: dict[str, t.Any] = c.CONTENT) -> Contender:
    app, collection = _flask(content), c.collection_of(database, "correct")
    collection.create_indexes(c.INDEXES)
    app.session_interface = CorrectFloor(_SECRET, collection)
    return Contender("correct", app, lambda: cookie_of(app), lambda count: _insert(collection, count, _record))


def signed_cookie(_database: Database[t.Any], content: dict[str, t.Any] = c.CONTENT) -> Contender:
    app = _flask(content)
    return Contender("cookie", app, lambda: cookie_of(app))


def no_session(_database: Database[t.Any], _content: dict[str, t.Any] = c.CONTENT) -> Contender:
    """Flask without a secret key: it makes a null session, and nothing of it is used."""
    app = Flask("none")
    app.add_url_rule("/untouched", view_func=lambda: "ok")
    return Contender("none", app, lambda: "a cookie of somebody else's")


def flask_session(
    database: Database[t.Any], content: dict[str, t.Any] = c.CONTENT, *, indexed: bool = True
) -> Contender:
    from flask_session.mongodb import MongoDBSessionInterface  # noqa: PLC0415 - not a dependency of ours

    key = "indexed" if indexed else "shipped"
    app, collection = _flask(content), database[key]
    app.session_interface = MongoDBSessionInterface(app, database.client, db=database.name, collection=key)
    if indexed:
        collection.create_index("id")
    return Contender(key, app, lambda: cookie_of(app), lambda count: _insert(collection, count, _flask_sessions))


def flask_session_as_shipped(database: Database[t.Any], content: dict[str, t.Any] = c.CONTENT) -> Contender:
    return flask_session(database, content, indexed=False)


def mongoengine_session(database: Database[t.Any], content: dict[str, t.Any] = c.CONTENT) -> Contender:
    from flask_mongoengine import MongoEngine, MongoEngineSessionInterface  # noqa: PLC0415 - not a dependency of ours
    from mongoengine import connection  # noqa: PLC0415

    logging.getLogger("flask_mongoengine").setLevel(logging.ERROR)

    app, alias = _flask(content), f"benchmarks {database.name}"
    app.session_interface = MongoEngineSessionInterface(MongoEngine(), collection="mongoengine")
    connection._dbs[alias] = database
    app.session_interface.cls._meta["db_alias"] = alias
    collection = database["mongoengine"]
    return Contender(
        "mongoengine", app, lambda: cookie_of(app), lambda count: _insert(collection, count, _mongoengines)
    )


MAKERS: dict[str, t.Callable[..., Contender]] = {
    "ours": ours,
    "raw": raw_floor,
    "correct": correct_floor,
    "none": no_session,
    "cookie": signed_cookie,
    "shipped": flask_session_as_shipped,
    "indexed": flask_session,
    "mongoengine": mongoengine_session,
}


def contenders(
    database: Database[t.Any], keys: t.Iterable[str] = tuple(MAKERS), content: dict[str, t.Any] = c.CONTENT
) -> dict[str, Contender]:
    """Those named by *keys*, on *database*. One that cannot be imported here is left out, with a word why."""
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="flask_mongoengine|flask_session")
    made = {}
    for key in keys:
        try:
            made[key] = MAKERS[key](database, content)
        except ImportError as error:
            print(f"{NAMES[key]} is left out: {error}")
    return made


def subject(contender: Contender, case: str) -> Subject:
    """*case* as a request of the contender's. Each one has a session of its own where the case uses it up."""
    path, app = PATHS[case], contender.app
    cookie, made = "", -math.inf

    def prepare(count: int) -> list[dict[str, t.Any]]:
        nonlocal cookie, made
        if case == "first write":
            return [environ_of(path) for _ in range(count)]
        if case == "log-in":
            return [environ_of(path, contender.new_cookie()) for _ in range(count)]
        if time.monotonic() - made > _COOKIE_AGE:
            cookie, made = contender.new_cookie(), time.monotonic()
        return [environ_of(path, cookie) for _ in range(count)]

    return Subject(contender.key, lambda environ: call(app, environ), prepare)


def subjects_of(made: dict[str, Contender], case: str) -> list[Subject]:
    """Everybody who takes part in *case*; the raw floor has no untouched request, no session at all only that."""
    left_out = "raw" if case == "untouched" else "none"
    return [subject(contender, case) for key, contender in made.items() if key != left_out]


def bases_of(case: str) -> dict[str, str]:
    """What is 1.00 in *case*: either floor. Without a session, the raw floor is the route itself."""
    return {"raw": "none" if case == "untouched" else "raw", "correct": "correct"}


def connect(uri: str, **options: t.Any) -> MongoClient[dict[str, t.Any]]:
    """A client for measuring, as an application makes one."""
    return MongoClient(uri, tz_aware=True, uuidRepresentation="standard", **options)


def _flask(content: dict[str, t.Any]) -> Flask:
    app = Flask("benchmarks")
    app.config.update(SECRET_KEY=_SECRET, PERMANENT_SESSION_LIFETIME=c.LIFETIME)
    add_views(app, content)
    return app


# -- sessions of other visitors ----------------------------------------------------------------------------------------


def _insert(collection: t.Any, count: int, make: t.Callable[[], dict[str, t.Any]]) -> None:
    for start in range(0, count, 10_000):
        collection.insert_many([make() for _ in range(start, min(start + 10_000, count))], ordered=False)


def _record() -> dict[str, t.Any]:
    return c.document_of(c.new_id(), c.CONTENT, token=c.new_token())


def _flask_sessions() -> dict[str, t.Any]:
    return {"id": f"session:{secrets.token_urlsafe(32)}", "val": bytes(250), "expiration": _expiry()}


def _mongoengines() -> dict[str, t.Any]:
    return {"_id": secrets.token_hex(16), "data": c.CONTENT, "expiration": _expiry()}


def _expiry() -> dt.datetime:
    return c.now() + c.LIFETIME
