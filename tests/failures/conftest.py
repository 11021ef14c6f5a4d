"""What the tests of failures share: a server that they may break, and applications that reach it by its address."""

from __future__ import annotations

import contextlib
import itertools
import time

import pymongo
import pytest
from flask import Flask
from plain_shop import add_views
from relay import Relay

from flask_mongo_session import MongoSession
from flask_mongo_session.mongo.connection import _close_clients
from flask_mongo_session.session.state import CookieContent, new_session_id, new_token
from flask_mongo_session.testing import MongoServer, _check_mongod

SECRET_KEY = "a secret for tests only"
#: Seconds for one operation.
LIMIT = 1.0
_numbers = itertools.count()


@pytest.fixture(scope="session")
def breakable(request, tmp_path_factory):
    """A server of this process, which its tests kill, pause and let fail; :func:`server` heals it."""
    _check_mongod(request.config)
    server = MongoServer(tmp_path_factory.mktemp("breakable"), arguments=("--setParameter", "enableTestCommands=1"))
    server.start()
    yield server
    _close_clients()
    server.close()


@pytest.fixture
def server(breakable):
    """The breakable server, whole before and after the test."""
    yield breakable
    breakable.resume()
    breakable.start()
    breakable.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture
def uri(server):
    """Its address, with a database of the test's own, whose collection exists: making files is slow under load."""
    name = f"failures_{next(_numbers)}"
    uri = server.uri.replace(
        "/?", f"/{name}?appName={name}&"
    )  # with a client of its own, whatever others did to theirs
    with pymongo.MongoClient(uri) as client:
        client.get_default_database().create_collection("sessions")
        yield uri
        server.resume()
        server.start()
        client.drop_database(client.get_default_database().name)


@pytest.fixture
def stored(uri):
    """The database as a foreigner sees it."""
    with pymongo.MongoClient(uri) as client:
        yield client.get_default_database()


@pytest.fixture
def failing(server):
    """Makes contexts in which the server fails the named commands: ``failing("insert", errorCode=91)``."""

    @contextlib.contextmanager
    def fail(*commands, mode="alwaysOn", **data):
        data["failCommands"] = list(commands)
        server.command("configureFailPoint", "failCommand", mode=mode, data=data)
        try:
            yield
        finally:
            server.command("configureFailPoint", "failCommand", mode="off")

    return fail


@pytest.fixture
def replica_set(mongo_replica_set):
    """The replica set, whole before and after."""
    mongo_replica_set.heal()
    yield mongo_replica_set
    mongo_replica_set.heal()


@pytest.fixture
def relay(mongo_server):
    """The network between an application, or several processes, and the shared server."""
    relay = Relay(mongo_server.port)
    yield relay
    relay.close()


@pytest.fixture
def make_shop():
    """Makes applications by address, as in production (not in testing mode), with a few views."""
    applications = []

    def make(uri, **config):
        app = Flask("shop")
        app.config.update(
            SECRET_KEY=SECRET_KEY,
            SESSION_MONGODB_URI=uri,
            SESSION_MONGODB_TIMEOUT=LIMIT,
            SESSION_CLEANUP_INTERVAL=0,
            SESSION_AUTO_INDEX=False,
        )
        app.config.update(config)
        MongoSession(app)
        applications.append(app)
        add_views(app)
        return app

    yield make
    for app in applications:
        app.extensions["mongo_session"].store.stop_cleanup()


@pytest.fixture
def shop(make_shop, uri):
    """An application on the breakable server, with a time limit of one second."""
    return make_shop(uri)


def signed_cookie(app, **extras):
    """The value of a cookie that *app* would have set, for a session that nobody stored."""
    return app.session_interface.signer(app).sign(CookieContent(new_session_id(), new_token(), **extras))


@pytest.fixture
def visitor():
    """Makes browsers that hold a cookie signed by the application."""

    def make(app, **how):
        browser = app.test_client()
        browser.set_cookie("session", signed_cookie(app, **how))
        return browser

    return make


@pytest.fixture
def timed():
    """Calls something, and tells how many seconds that took."""

    def call(function, *arguments):
        began = time.perf_counter()
        result = function(*arguments)
        return result, time.perf_counter() - began

    return call
