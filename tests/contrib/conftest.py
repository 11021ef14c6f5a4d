"""Applications with the administration; and applications as they were before they came to us: with other sessions."""

from __future__ import annotations

import warnings

import flask_session
import mongoengine
import pytest
from admin_site import logged_in
from flask import Flask, session
from flask_admin import Admin
from flask_wtf import CSRFProtect
from old_applications import COLLECTION, SECRET_KEY, add_views, cookie_of

from flask_mongo_session.contrib.admin import SessionAdmin


@pytest.fixture(params=["own", "flask-wtf"])
def protection(request):
    """What protects the forms."""
    return request.param


@pytest.fixture
def site(make_app):
    """An application with the admin, for the user "root" only."""
    app = make_app(SESSION_ADMIN_HIDE=("card",))
    admin = Admin(app)
    admin.add_view(SessionAdmin(app.extensions["sessions"], is_allowed=lambda: session.get("user_id") == "root"))

    @app.get("/login/<user>")
    def login(user):
        session.update(user_id=user, card="4111 1111", shop=[{"name": "Kiosk", "card": "4222"}])
        return user

    @app.get("/who")
    def who():
        return str(session.get("user_id"))

    @app.get("/ids")
    def ids():
        return {"sid": session.sid, "token": session.token}

    @app.get("/logout")
    def logout():
        session.clear()
        return "bye"

    return app


@pytest.fixture
def protected(site, protection):
    """The same, under either protection."""
    if protection == "flask-wtf":
        CSRFProtect(site)
    return site


@pytest.fixture
def root(site):
    """The administrator's browser."""
    return logged_in(site, "root")


@pytest.fixture
def flask_session_app(database):
    """Makes applications with Flask-Session 0.8."""

    def make(**config):
        app = Flask("old")
        app.config.update(
            SECRET_KEY=SECRET_KEY,
            TESTING=True,
            SESSION_TYPE="mongodb",
            SESSION_MONGODB=database.client,
            SESSION_MONGODB_DB=database.name,
            SESSION_MONGODB_COLLECT=COLLECTION,
        )
        app.config.update(config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flask_session.Session(app)
        return add_views(app)

    return make


@pytest.fixture
def mongoengine_app(database, mongo_server):
    """An application with flask-mongoengine-3's sessions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from flask_mongoengine.sessions import MongoEngineSessionInterface

    mongoengine.connect(database.name, host=mongo_server.uri, alias="default", uuidRepresentation="standard")
    app = Flask("old")
    app.config.update(SECRET_KEY=SECRET_KEY, TESTING=True)
    app.session_interface = MongoEngineSessionInterface(mongoengine, COLLECTION)
    yield add_views(app)
    mongoengine.disconnect("default")


@pytest.fixture
def cookie_app():
    """An application with Flask's own session."""
    app = Flask("old")
    app.config.update(SECRET_KEY=SECRET_KEY, TESTING=True)
    return add_views(app)


@pytest.fixture
def new_app(make_app):
    """Makes the same application with our sessions, which take over those of a library."""

    def make(library, **config):
        config = {"SESSION_MIGRATE_FROM": library, "SESSION_MIGRATE_COLLECT": COLLECTION, **config}
        return add_views(make_app(**config))

    return make


@pytest.fixture
def restart():
    """Takes a browser with its cookies from one application to the other."""

    def move(browser, app):
        moved = app.test_client()
        value = cookie_of(browser)
        if value is not None:
            moved.set_cookie("session", value)
        return moved

    return move
