"""The views of an application that changes its session library, and the browsers of its visitors."""

from __future__ import annotations

from flask import jsonify, session

SECRET_KEY = "a secret for tests only"
#: flask-mongoengine's default, and far from ours.
COLLECTION = "session"


def add_views(app):
    """What visitors do, before and after."""

    @app.get("/login/<user>")
    def login(user):
        session.update(make_values(user))
        if "permanent" in app.config:
            session.permanent = app.config["permanent"]
        return user

    @app.get("/user")
    def user():
        return session.get("_user_id", "nobody")

    @app.get("/write/<key>/<value>")
    def write(key, value):
        session[key] = value
        return "written"

    @app.get("/logout")
    def logout():
        session.clear()
        return "bye"

    @app.get("/keys")
    def keys():
        return jsonify(sorted(session))

    @app.get("/untouched")
    def untouched():
        return "nothing"

    return app


def make_values(user):
    """A value of every type that one of the libraries keeps."""
    return {
        "_user_id": user,
        "_fresh": True,
        "number": 42,
        "large": 2**62,
        "ratio": 0.1,
        "flag": False,
        "nothing": None,
        "text": "ä\0 \N{GRINNING FACE}",
        "list": [1, "two", [3.0, None]],
        "dict": {"a": {"c": 1}},
        "_flashes": [("message", "Welcome")],
    }


def make_old(app, *, values=None, path="/login/7"):
    """A browser that was logged in, and the session as the old application has it."""
    browser = app.test_client()
    browser.get(path)
    if values:
        with browser.session_transaction() as stored:
            stored.update(values)
    return browser


def cookie_of(browser):
    found = browser.get_cookie("session")
    return found and found.value


def values_in(browser):
    """All that a browser's session holds."""
    with browser.session_transaction() as stored:
        return dict(stored)
