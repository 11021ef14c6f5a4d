"""What all tests share: applications on a fresh database, the commands they send, a clock that moves by itself."""

from __future__ import annotations

import datetime as dt
import importlib
import itertools
import sys
import threading

import pymongo
import pytest
from flask import Flask, session
from pymongo import monitoring

from flask_mongo_session import MongoSession, Session
from flask_mongo_session.mongo import clock
from flask_mongo_session.mongo.connection import Connection

sys.modules["flask_babel"] = None  # with it, Flask-Admin would want every application to set it up
importlib.import_module("flask_admin.babel")
del sys.modules["flask_babel"]


SECRET_KEY = "a secret for tests only"


class Commands(monitoring.CommandListener):
    """The names of the commands sent, in order, but for those that only ask for the time or log a new connection in."""

    def __init__(self):
        self._events = []

    def started(self, event):
        if event.command_name not in ("hello", "saslContinue"):
            self._events.append((event.command_name, event.command))

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass

    @property
    def names(self):
        return [name for name, _ in self._events]

    @property
    def sent(self):
        return [command for _, command in self._events]

    def clear(self):
        self._events.clear()


@pytest.fixture
def commands():
    """Records the commands of :func:`client`."""
    return Commands()


@pytest.fixture
def client(mongo_server, commands):
    """A client of the application's own, whose commands are recorded."""
    with pymongo.MongoClient(mongo_server.uri, event_listeners=[commands]) as client:
        yield client


_numbers = itertools.count()


@pytest.fixture
def database(client, commands, request, worker_id):
    """A fresh database, through :func:`client`; gone after the test."""
    name = f"test_{worker_id}_{request.node.name[:16].translate(str.maketrans('[] -./$', '_______'))}_{next(_numbers)}"
    client.drop_database(name)
    commands.clear()
    yield client[name]
    client.drop_database(name)


@pytest.fixture
def connect(database):
    """Makes connections of their own to :func:`database`, as other workers have."""
    return lambda: Connection(lambda: database)


@pytest.fixture
def connection(connect):
    """One worker's connection."""
    return connect()


@pytest.fixture
def now(connection):
    """The database's now."""
    with connection.operation():
        return connection.now()


@pytest.fixture
def make_app(database):
    """Makes applications with our sessions on :func:`database`, quiet in the background unless configured otherwise."""
    applications = []

    def make(model=Session, **config):
        app = Flask("tests")
        app.config.update(
            SECRET_KEY=SECRET_KEY,
            TESTING=True,
            SESSION_MONGODB=database.client,
            SESSION_MONGODB_DB=database.name,
            SESSION_CLEANUP_INTERVAL=0,
            SESSION_AUTO_INDEX=False,
            SESSION_MONGODB_TIMEOUT=6,  # the machine may be busy
        )
        app.config.update(config)
        app.extensions["sessions"] = MongoSession(app, model=model)
        applications.append(app)
        return app

    yield make
    for app in applications:
        app.extensions["mongo_session"].store.stop_cleanup()


@pytest.fixture
def app(make_app):
    """An application with the default configuration and a few views; others may be added before its first request."""
    app = make_app()

    @app.get("/untouched")
    def untouched():
        return "nothing"

    @app.get("/read/<key>")
    def read(key):
        return str(session.get(key))

    @app.get("/write/<key>/<value>")
    def write(key, value):
        session[key] = value
        return "written"

    @app.get("/count")
    def count():
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    @app.get("/login/<user>")
    def login(user):
        session["user_id"] = user
        return user

    @app.get("/logout")
    def logout():
        session.clear()
        return "bye"

    return app


@pytest.fixture
def store(app):
    """The store of :func:`app`."""
    return app.extensions["mongo_session"].store


@pytest.fixture
def sessions(database):
    """The collection that sessions are stored in, as a foreigner sees it."""
    return database["sessions"]


@pytest.fixture
def move_clock(monkeypatch):
    """Moves the time by so many seconds: the database's, and the clock that it is anchored to."""
    moved = 0.0
    boottime, hello = clock.boottime, clock.hello

    def move(seconds):
        nonlocal moved
        moved += seconds

    def moved_hello(client):
        reply = hello(client)
        return {**reply, "localTime": reply["localTime"] + dt.timedelta(seconds=moved)}

    monkeypatch.setattr(clock, "boottime", lambda: boottime() + moved)
    monkeypatch.setattr(clock, "hello", moved_hello)
    return move


@pytest.fixture(autouse=True)
def _no_sweeper_left():
    """Fails a test that leaves a sweeping thread behind."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name == "mongo-session-sweeper"]
    for thread in left:
        thread.join(2)
    assert not [thread for thread in left if thread.is_alive()], "a sweeping thread was left running"
