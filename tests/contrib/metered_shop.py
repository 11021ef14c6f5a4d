"""An application with metrics, for gunicorn: tests start it in processes of its own."""

from __future__ import annotations

import os

from flask import Flask, session

from flask_mongo_session import MongoSession
from flask_mongo_session.contrib.metrics import check_health
from flask_mongo_session.contrib.metrics.prometheus import PrometheusMetrics


def create_app() -> Flask:
    app = Flask("metered")
    app.config.update(
        SECRET_KEY="a secret for tests only",
        SESSION_MONGODB_URI=os.environ["METERED_URI"],
        SESSION_MONGODB_DB=os.environ["METERED_DB"],
        SESSION_CLEANUP_INTERVAL=0,
        SESSION_AUTO_INDEX=False,
    )
    MongoSession(app)
    app.add_url_rule("/metrics", "metrics", PrometheusMetrics(app, seconds=0).page)

    @app.get("/pid")
    def pid():
        return str(os.getpid())

    @app.get("/login")
    def login():
        session["user_id"] = "ada"
        return str(os.getpid())

    @app.get("/ready")
    def ready():
        health = check_health(app)
        return {"sessions": health.status}, health.code

    return app
