"""The shop's own way to the database: the server, the client and the database that its sessions are kept in."""

from __future__ import annotations

import typing as t

import pymongo
from flask import Flask, current_app, g, request
from pymongo.database import Database

from flask_mongo_session import MongoSessionStore

# Seconds that one request may spend with MongoDB altogether, its session included.
LIMIT = 2


def init_app(app: Flask) -> None:
    """Bound the time that a request waits: for its session, for customers and products, once for all."""
    app.before_request(limit_the_wait)
    app.teardown_request(lift_the_limit)


def store() -> MongoSessionStore:
    """The current application's store of sessions."""
    return current_app.extensions["mongo_session"].store


def database() -> Database[t.Any]:
    """The current application's database. Connects to nothing, but the first call may start the embedded server."""
    return store().collection.database


def limit_the_wait() -> None:
    """From here on; the start of the embedded server does not count."""
    if request.endpoint != "static":
        database()
        g.limit = pymongo.timeout(LIMIT)
        g.limit.__enter__()


def lift_the_limit(_error: BaseException | None) -> None:
    """The next request in this thread has its own."""
    if "limit" in g:
        g.pop("limit").__exit__(None, None, None)
