"""The applications that are compared: the same views on sessions of different makers, and the floor under them."""

from __future__ import annotations

import datetime as dt
import http.cookies
import itertools
import logging
import math
import secrets
import time
import typing as t
import warnings

from bson.codec_options import CodecOptions
from flask import Flask, session
from mongoengine import BooleanField, FloatField, IntField, ListField, StringField
from pymongo import IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

from benchmarks.measure import Subject
from flask_mongo_session import MongoSession, Session, SessionDocument
from flask_mongo_session.document.codec import CODEC_OPTIONS

CASES = ("untouched", "read", "changed", "blind write", "first write", "log-in")
NAMES = {
    "ours": "flask-mongo-session",
    "floor": "Flask + raw PyMongo",
    "none": "no session",
    "cookie": "Flask's signed cookie",
    "shipped": "Flask-Session 0.8, 1,000 sessions",
    "indexed": "Flask-Session 0.8 + index by hand",
    "mongoengine": "flask-mongoengine-3",
}

#: What a visitor's session holds: a few texts, numbers and a cart.
CONTENT: dict[str, t.Any] = {
    "n": 0,
    "csrf_token": "IjFkNGNmYjk3ZmU2YzUyMTQwMWY3NTk4OGY1NzE1MmU0",
    "theme": "dark",
    "language": "de",
    "newsletter": True,
    "last_search": "shoes, brown, size 43",
    "rebate": 0.15,
    "cart": [1007, 1043, 2311],
    "seen": [{"id": 1007, "times": 3}, {"id": 2311, "times": 1}],
}

#: What raw collections get too: keeping these up to date is a part of a write.
INDEXES = [IndexModel("expires_at"), IndexModel("user_id", sparse=True)]

_PATHS = {
    "untouched": "/untouched",
    "read": "/read",
    "changed": "/changed",
    "blind write": "/blind",
    "first write": "/first",
    "log-in": "/log-in",
}
_SECRET = "a key for measuring only"
_LIFETIME = dt.timedelta(days=31)
#: Seconds after which a visitor is measured under a new cookie: less than our touch interval, since a browser would
#: have got a renewed one there.
_COOKIE_AGE = 20.0
_numbers = itertools.count(1)


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


#: The values for :class:`Declared`.
DECLARED_CONTENT = {name: value for name, value in CONTENT.items() if name != "seen"} | {"name": "Ada", "visits": 12}


class Contender(t.NamedTuple):
    """An application, and how to come by a session of its own: the value of its cookie."""

    key: str
    app: Flask
    new_cookie: t.Callable[[], str]


def pinned(database: Database[t.Any], name: str = "floor") -> Collection[dict[str, t.Any]]:
    """The collection for raw calls, with the concerns of our own."""
    return database.get_collection(
        name,
        codec_options=t.cast("CodecOptions[t.Any]", CODEC_OPTIONS),
        write_concern=WriteConcern(w="majority", wtimeout=2000),
    )


def ours(database: Database[t.Any], model: type[SessionDocument] = Session) -> Contender:
    app = _flask()
    app.config.update(SESSION_MONGODB=database.client, SESSION_MONGODB_DB=database.name, SESSION_CLEANUP_INTERVAL=0)
    MongoSession(app, model=model)
    _add_views(app)
    return Contender("ours", app, lambda: _cookie_of(app))


def signed_cookie(_database: Database[t.Any]) -> Contender:
    app = _flask()
    _add_views(app)
    return Contender("cookie", app, lambda: _cookie_of(app))


def no_session(_database: Database[t.Any]) -> Contender:
    """Flask without a secret key: it makes a null session, and nothing of it is used."""
    app = Flask("none")
    app.add_url_rule("/untouched", view_func=lambda: "ok")
    return Contender("none", app, lambda: "a cookie of somebody else's")


def flask_session(database: Database[t.Any], *, indexed: bool) -> Contender:
    from flask_session.mongodb import MongoDBSessionInterface  # noqa: PLC0415 - not a dependency of ours

    key = "indexed" if indexed else "shipped"
    app = _flask()
    app.session_interface = MongoDBSessionInterface(app, database.client, db=database.name, collection=key)
    if indexed:
        database[key].create_index("id")
    _add_views(app)
    return Contender(key, app, lambda: _cookie_of(app))


def mongoengine_session(database: Database[t.Any]) -> Contender:
    from flask_mongoengine import MongoEngine, MongoEngineSessionInterface  # noqa: PLC0415 - not a dependency of ours
    from mongoengine import connection  # noqa: PLC0415

    logging.getLogger("flask_mongoengine").setLevel(logging.ERROR)

    app = _flask()
    app.session_interface = MongoEngineSessionInterface(MongoEngine(), collection="mongoengine")
    connection._dbs["benchmarks"] = database
    app.session_interface.cls._meta["db_alias"] = "benchmarks"
    _add_views(app)
    return Contender("mongoengine", app, lambda: _cookie_of(app))


def floor(database: Database[t.Any]) -> Contender:
    """Flask without sessions, and in each view exactly the raw calls that keeping a session takes."""
    app, collection = Flask("floor"), pinned(database)
    collection.create_indexes(INDEXES)
    ids: list[str] = []

    def stored() -> str:
        ids.append(new_document(collection))
        return ids[-1]

    @app.get("/read")
    def read():
        return str(_find(collection, ids[-1])["data"]["n"])

    @app.get("/changed")
    def changed():
        n = _find(collection, ids[-1])["data"]["n"] + 1
        _update(collection, ids[-1], n)
        return str(n)

    @app.get("/first")
    def first():
        collection.insert_one(document_of(secrets.token_urlsafe(32), {"n": 1}))
        return "1"

    @app.get("/log-in")
    def log_in():
        sid = ids.pop()
        _find(collection, sid)
        gone = {"data": {}, "ended": {"at": _now()}, "expires_at": _now()}
        before = collection.find_one_and_update({"_id": sid, "expires_at": {"$gt": _now()}}, {"$set": gone})
        collection.insert_one({**before, "_id": secrets.token_urlsafe(32), "user_id": "7"})
        return "ok"

    app.add_url_rule("/blind", view_func=changed, endpoint="blind")
    return Contender("floor", app, stored)


def _find(collection: Collection[dict[str, t.Any]], sid: str) -> dict[str, t.Any]:
    return collection.find_one({"_id": sid}) or {}


def _update(collection: Collection[dict[str, t.Any]], sid: str, n: int) -> None:
    now = _now()
    collection.update_one({"_id": sid}, {"$set": {"data.n": n, "expires_at": now + _LIFETIME, "touched_at": now}})


def new_document(collection: Collection[dict[str, t.Any]], content: dict[str, t.Any] = CONTENT) -> str:
    """Store a session as raw PyMongo would; its id."""
    sid = secrets.token_urlsafe(32)
    collection.insert_one(document_of(sid, content))
    return sid


def document_of(sid: str, content: dict[str, t.Any], expires_at: dt.datetime | None = None) -> dict[str, t.Any]:
    """A session's document, as our store writes it."""
    now = _now()
    return {
        "_id": sid,
        "data": {**content},
        "created_at": now,
        "expires_at": expires_at or now + _LIFETIME,
        "touched_at": now,
    }


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def _flask() -> Flask:
    app = Flask("benchmarks")
    app.config.update(SECRET_KEY=_SECRET, PERMANENT_SESSION_LIFETIME=_LIFETIME)
    return app


def _add_views(app: Flask) -> None:
    @app.get("/untouched")
    def untouched():
        return "ok"

    @app.get("/fill")
    def fill():
        session.update(CONTENT)
        return "ok"

    @app.get("/read")
    def read():
        return str(session["n"])

    @app.get("/changed")
    def changed():
        session["n"] += 1
        return str(session["n"])

    @app.get("/blind")
    def blind():
        session["n"] = next(_numbers)
        return "ok"

    @app.get("/first")
    def first():
        session["n"] = 1
        return "1"

    @app.get("/log-in")
    def log_in():
        session["user_id"] = 7
        return "ok"


def _cookie_of(app: Flask) -> str:
    headers = call(app, environ_of("/fill"))
    cookie = http.cookies.SimpleCookie(next(value for name, value in headers if name == "Set-Cookie"))
    return cookie["session"].value


def environ_of(path: str, cookie: str | None = None) -> dict[str, t.Any]:
    """A WSGI request for *path*."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    return environ if cookie is None else {**environ, "HTTP_COOKIE": f"session={cookie}"}


def call(app: Flask, environ: dict[str, t.Any]) -> list[tuple[str, str]]:
    """One request, in process; the response's headers. Anything but a 200 ends the benchmarks."""
    answered: list[t.Any] = []
    body = app.wsgi_app(environ, lambda status, headers: answered.extend((status, headers)))
    b"".join(body)
    body.close()
    if answered[0] != "200 OK":
        raise AssertionError(f"{environ['PATH_INFO']} answered {answered[0]}")
    return answered[1]


def subject(contender: Contender, case: str) -> Subject:
    """*case* as a request of the contender's. Each one has a session of its own where the case uses it up."""
    path, app = _PATHS[case], contender.app
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


def contenders(database: Database[t.Any]) -> dict[str, Contender]:
    """All of them, on *database*. One that cannot be imported here is left out, with a word why."""
    makers: dict[str, t.Callable[[], Contender]] = {
        "ours": lambda: ours(database),
        "floor": lambda: floor(database),
        "none": lambda: no_session(database),
        "cookie": lambda: signed_cookie(database),
        "shipped": lambda: flask_session(database, indexed=False),
        "indexed": lambda: flask_session(database, indexed=True),
        "mongoengine": lambda: mongoengine_session(database),
    }
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="flask_mongoengine|flask_session")
    made = {}
    for key, make in makers.items():
        try:
            made[key] = make()
        except ImportError as error:
            print(f"{NAMES[key]} is left out: {error}")
    return made


def fill_shipped(database: Database[t.Any], count: int) -> None:
    """So many sessions of other visitors for Flask-Session, which scans them all for each of its finds."""
    now = dt.datetime.now(dt.timezone.utc)
    value = bytes(250)
    for start in range(0, count, 10_000):
        database["shipped"].insert_many(
            {"id": f"session:{secrets.token_urlsafe(32)}", "val": value, "expiration": now + _LIFETIME}
            for _ in range(start, min(start + 10_000, count))
        )


def connect(uri: str, **options: t.Any) -> MongoClient[dict[str, t.Any]]:
    """A client for measuring, as an application makes one."""
    return MongoClient(uri, tz_aware=True, uuidRepresentation="standard", **options)
