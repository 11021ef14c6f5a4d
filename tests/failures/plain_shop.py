"""Views for each way of using a session; as a module an application for gunicorn, configured by the environment."""

from __future__ import annotations

import json
import os
import threading

from flask import Flask, jsonify, session

from flask_mongo_session import MongoSession
from flask_mongo_session.mongo import connection


def add_views(app):
    """The views."""

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

    @app.get("/leave")
    def leave():
        session.pop("user_id", None)
        return "bye"

    add_views_of_tokens(app)


def add_views_of_tokens(app):
    """Those that rotate, confirm and merge, and tell what is there."""

    @app.get("/renew")
    def renew():
        session.regenerate()
        return "renewed"

    @app.get("/confirm")
    def confirm():
        session.confirm()
        return "confirmed"

    @app.get("/merge/<token>")
    def merge(token):
        session.merge(token)
        return "merged"

    @app.get("/token")
    def token():
        return session.token

    @app.get("/all")
    def everything():
        return jsonify(dict(session))


def create_app():
    """Configured by ``$SHOP`` (JSON); ``/state`` tells what runs in the worker that answers."""
    app = Flask("shop")
    app.config.update(SECRET_KEY="a secret for tests only", **json.loads(os.environ["SHOP"]))
    MongoSession(app)
    add_views(app)
    store = app.extensions["mongo_session"].store

    @app.get("/state")
    def state():
        threads = [thread.name for thread in threading.enumerate()]
        return jsonify(
            pid=os.getpid(),
            sweeping=store.sweeper.running,
            sweepers=threads.count("mongo-session-sweeper"),
            client=id(store.connection.client),
            clients=len(connection._clients.by_uri),
            last_count=store.sweeper.last_count,
            last_error=repr(store.sweeper.last_error),
            memory=resident(),
            ports=local_ports(store.connection.client),
        )

    if os.environ.get("SHOP_WARM"):
        app.test_client().get("/write/before/fork")  # a client, a thread and connections that a fork leaves behind
    return app


def local_ports(client):
    """Where this process's connections for commands begin."""
    pools = [server.pool for server in client._topology._servers.values()]
    held = [connection.conn for pool in pools for connection in list(pool.conns)]
    # The oldest PyMongo that is supported keeps the socket itself there, a later one an object around it.
    return [getattr(conn, "sock", conn).getsockname()[1] for conn in held]


def resident():
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as statm:  # noqa: PTH123 - one line of the system's
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
