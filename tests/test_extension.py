"""The extension: set up once, for each application; no I/O before the first use; nothing holds an application."""

from __future__ import annotations

import gc
import socket
import time
import weakref

import pytest
from flask import Flask, session

from flask_mongo_session import (
    ConfigurationTypeError,
    MongoSession,
    MongoSessionInterface,
    MongoSessionStore,
    Session,
    SessionDocument,
    SetupError,
)


class OtherSession(SessionDocument):
    meta = {"collection": "others"}  # noqa: RUF012 - MongoEngine's convention


@pytest.fixture
def closed_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def test_parts_are_found(app):
    """The store, the model and the configuration are found under ``app.extensions``."""
    state = app.extensions["mongo_session"]

    assert isinstance(state.store, MongoSessionStore)
    assert state.model is Session
    assert state.config.cleanup_interval.total_seconds() == 0
    assert isinstance(app.session_interface, MongoSessionInterface)
    assert app.session_interface.store is state.store


def test_init_app(database):
    """The factory pattern does the same as the constructor."""
    extension, app = MongoSession(model=OtherSession), Flask("tests")
    app.config.update(SESSION_MONGODB=database.client, SESSION_MONGODB_DB=database.name)
    extension.init_app(app)

    assert app.extensions["mongo_session"].model is OtherSession
    assert extension.store is app.extensions["mongo_session"].store


@pytest.mark.parametrize("again", [lambda app, one: one.init_app(app), lambda app, _: MongoSession(app)])
def test_set_up_twice(app, again):
    """The second time is a mistake that is told, whichever object does it; the first stays."""
    state = app.extensions["mongo_session"]
    with pytest.raises(SetupError, match=r"already set up.*once"):
        again(app, app.extensions["sessions"])

    assert app.extensions["mongo_session"] is state


def test_not_set_up():
    """Without ``init_app`` the error says what was forgotten."""
    extension = MongoSession()
    with pytest.raises(SetupError, match="forget to call 'init_app'"):
        _ = extension.store
    with Flask("tests").app_context(), pytest.raises(SetupError, match="init_app"):
        _ = extension.state


@pytest.mark.parametrize("config", [{}, {"SESSION_MONGODB_DB": "shop"}], ids=repr)
def test_without_a_database_the_first_use_says_which_key(config):
    """Neither a URI nor a client nor a connection of MongoEngine's: told where it is needed, not by the driver."""
    app = Flask("tests")
    app.config.update(config, SECRET_KEY="x", SESSION_MONGODB_ALIAS="nowhere", SESSION_CLEANUP_INTERVAL=0, TESTING=True)
    extension = MongoSession(app)
    app.add_url_rule("/", "put", lambda: session.update(a=1) or "")

    for use in (lambda: extension.of_user("ada"), lambda: app.test_client().get("/")):
        with pytest.raises(SetupError, match=r"SESSION_MONGODB_URI.*'nowhere'"):
            use()
    for words in (["sessions", "list"], ["sessions-cleanup"]):
        result = app.test_cli_runner().invoke(args=words)
        assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
        assert "SESSION_MONGODB_URI" in result.output


@pytest.mark.parametrize("model", [None, dict, "Session", SessionDocument, 0], ids=str)
def test_wrong_model(model):
    """What is no session model is refused before there is an application."""
    with pytest.raises(ConfigurationTypeError, match=r"model=.*SessionDocument"):
        MongoSession(model=model)


def test_refused_configuration_leaves_no_trace():
    """An application whose configuration was refused can be set up after it was mended."""
    app = Flask("tests")
    app.config["SESSION_MAX_SIZE"] = 0
    before = app.session_interface
    with pytest.raises(ValueError, match="SESSION_MAX_SIZE"):
        MongoSession(app)
    assert app.session_interface is before

    app.config["SESSION_MAX_SIZE"] = 1000
    MongoSession(app)


def test_several_applications(client, database):
    """One object serves several applications, each with its own database; which one is meant, the context says."""
    extension, apps = MongoSession(), []
    names = [database.name, f"{database.name}_b"]
    for name in names:
        app = Flask(name)
        app.config.update(
            SECRET_KEY="x", SESSION_MONGODB=client, SESSION_MONGODB_DB=name, SESSION_CLEANUP_INTERVAL=0,
            SESSION_AUTO_INDEX=False,
        )  # fmt: skip
        extension.init_app(app)
        app.add_url_rule("/", "put", lambda name=name: session.update(name=name) or "")
        app.test_client().get("/")
        apps.append(app)

    try:
        for app, name in zip(apps, names, strict=True):
            with app.app_context():
                assert [data for _, data in extension.store.iterate()] == [{"name": name}]
        with pytest.raises(SetupError, match=r"several applications.*app_context"):
            _ = extension.store
    finally:
        client.drop_database(names[1])


def test_setting_up_does_no_io(closed_port, commands):
    """With nobody listening at the URI, setting up and requests without sessions are as quick as ever."""
    app = Flask("tests")
    app.config.update(SECRET_KEY="x", SESSION_MONGODB_URI=f"mongodb://127.0.0.1:{closed_port}/")
    began = time.perf_counter()
    extension = MongoSession(app)
    took = time.perf_counter() - began

    assert took < 0.1
    assert not extension.store.sweeper.running
    assert commands.names == []


def test_the_first_request_starts_the_sweeping(make_app):
    """Nothing runs before the first request; stopping ends it, and no request starts it again."""
    app = make_app(SESSION_CLEANUP_INTERVAL=600)
    app.add_url_rule("/", "index", lambda: "")
    store = app.extensions["mongo_session"].store
    assert not store.sweeper.running

    app.test_client().get("/")
    assert store.sweeper.running
    store.stop_cleanup()
    app.test_client().get("/")
    assert not store.sweeper.running


def test_applications_are_freed(make_app, database):
    """Nothing of ours holds an application: it goes with its last reference, without the cycle collector."""

    def use():
        app = Flask("tests")
        app.config.update(
            SECRET_KEY="x", SESSION_MONGODB=database.client, SESSION_MONGODB_DB=database.name,
            SESSION_CLEANUP_INTERVAL=600,
        )  # fmt: skip
        extension = MongoSession(app)
        app.test_client().get("/")
        return app, extension

    app, extension = use()
    store = extension.store
    reference, store_gone, thread = weakref.ref(app), weakref.ref(store), store.sweeper._thread
    del store
    gc.collect()
    gc.disable()
    try:
        del app
        assert reference() is None
        assert store_gone() is None
    finally:
        gc.enable()

    thread.join(5)
    assert not thread.is_alive()
    assert "0 applications" in repr(extension)


@pytest.mark.parametrize("config", [{"SESSION_MONGODB_DB": "named"}, {}])
def test_which_database(mongo_server, config):
    """The database is that of its own key, else the URI's, else a name of ours."""
    for path, name in (("inuri", "inuri"), ("", "flask_session")):
        app = Flask("tests")
        app.config.update(config, SESSION_MONGODB_URI=f"mongodb://127.0.0.1:{mongo_server.port}/{path}", SECRET_KEY="x")
        store = MongoSession(app).store

        assert store.connection.database.name == config.get("SESSION_MONGODB_DB", name)


def test_which_collection(make_app, database):
    """The collection is the model's, unless a key says otherwise."""
    assert make_app(OtherSession).extensions["mongo_session"].store.collection.name == "others"
    store = make_app(SESSION_MONGODB_COLLECT="mine").extensions["mongo_session"].store
    assert store.collection.full_name == f"{database.name}.mine"


def test_one_client_for_a_server(mongo_server):
    """All applications that name the same URI share one client."""
    stores = []
    for _ in range(2):
        app = Flask("tests")
        app.config.update(SESSION_MONGODB_URI=mongo_server.uri)
        stores.append(MongoSession(app).store)

    assert stores[0].connection.client is stores[1].connection.client
    assert MongoSession(Flask("t"))  # the alias is not looked for before it is used
