"""The measured views: once for every kind of session, once with raw calls in place of a session."""

from __future__ import annotations

import itertools
import typing as t

from flask import Flask, session
from pymongo.collection import Collection

from benchmarks import content as c

#: The kinds of requests, and the sizes' own.
PATHS = {
    "untouched": "/untouched",
    "read": "/read",
    "changed": "/changed",
    "blind write": "/blind",
    "first write": "/first",
    "log-in": "/log-in",
    "nested": "/nested",
}
CASES = ("untouched", "read", "changed", "blind write", "first write", "log-in")

_numbers = itertools.count(1)


def add_views(app: Flask, content: dict[str, t.Any]) -> None:
    """Views on ``flask.session``, whoever keeps it."""

    @app.get("/untouched")
    def untouched():
        return "ok"

    @app.get("/fill")
    def fill():
        session.update(content)
        return "ok"

    @app.get("/read")
    def read():
        return str(session["n"])

    @app.get("/nested")
    def nested():
        return str(session["orders"][0]["count"])

    @app.get("/changed")
    def changed():
        n = session["n"] + 1
        session["n"] = n
        return str(n)

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


def add_raw_views(app: Flask, collection: Collection[dict[str, t.Any]], ids: list[str]) -> None:
    """The raw floor: in each view just the calls that keeping a session takes, on the last of *ids*.

    The two commands of a log-in are those of a session that keeps its id. A blind write is measured against
    reading and changing, which is what sessions that load eagerly do.
    """

    def found() -> dict[str, t.Any]:
        return (collection.find_one({"_id": ids[-1]}) or {})["data"]

    @app.get("/read")
    def read():
        return str(found()["n"])

    @app.get("/nested")
    def nested():
        return str(found()["orders"][0]["count"])

    @app.get("/changed")
    def changed():
        n = found()["n"] + 1
        collection.update_one({"_id": ids[-1]}, {"$set": {"data.n": n}})
        return str(n)

    @app.get("/first")
    def first():
        collection.insert_one(c.document_of(c.new_id(), {"n": 1}, token=c.new_token()))
        return "1"

    @app.get("/log-in")
    def log_in():
        sid = ids.pop()
        collection.find_one({"_id": sid})
        now = c.now()
        collection.update_one(
            {"_id": sid},
            {
                "$set": {
                    "data.user_id": 7,
                    "user_id": "7",
                    "token": c.new_token(),
                    "authenticated_at": now,
                    "expires_at": now + c.LIFETIME,
                    "touched_at": now,
                }
            },
        )
        return "ok"

    app.add_url_rule("/blind", view_func=changed, endpoint="blind")
