"""An application that takes over old sessions, for tests that start it in a process of its own."""

from __future__ import annotations

import os

from flask import Flask
from old_applications import COLLECTION, SECRET_KEY, add_views

from flask_mongo_session import MongoSession


def create_app(uri=None, database=None):
    """With the address of the server and the name of the database, else with those in the environment."""
    app = Flask("shop")
    app.config.update(
        SECRET_KEY=SECRET_KEY,
        SESSION_MONGODB_URI=uri or os.environ["MONGODB_URI"],
        SESSION_MONGODB_DB=database or os.environ["MONGODB_DATABASE"],
        SESSION_MONGODB_TIMEOUT=10,
        SESSION_CLEANUP_INTERVAL=0,
        SESSION_AUTO_INDEX=False,
        SESSION_MIGRATE_FROM=("flask-session", "cookie"),
        SESSION_MIGRATE_COLLECT=COLLECTION,
    )
    MongoSession(app)
    return add_views(app)


def visit_all(uri, database, cookies, meet):
    """One visit by each cookie, at the moment at which the other process has its own; what came of them."""
    app, results = create_app(uri, database), []
    for cookie in cookies:
        browser = app.test_client()
        browser.set_cookie("session", cookie)
        meet.wait(30)
        text = browser.get("/user").text
        results.append((text, browser.get_cookie("session").value))
    return results
