"""A small pottery shop: what ``flask_mongo_session`` looks like inside an application.

``flask --app example_app run`` serves it with nothing configured: sessions, customers and products live in one MongoDB
that is started for the occasion and keeps its files in the instance folder. ``SHOP_MONGODB_URI``, ``SHOP_SECRET_KEY``
and ``SHOP_INSTANCE_PATH`` say otherwise, and so does any other key of the configuration with ``SHOP_`` before it.
"""

from __future__ import annotations

import os
import typing as t
from datetime import timedelta
from pathlib import Path

from flask import Flask

from flask_mongo_session.contrib.devices import devices_blueprint

from . import accounts, cart, catalogue, database, errors, formats, security, seed, session_page, staff
from .extensions import csrf, login_manager, sessions

__all__ = ["create_app"]

DEFAULTS: dict[str, t.Any] = {
    "PERMANENT_SESSION_LIFETIME": timedelta(days=14),
    "SESSION_ABSOLUTE_LIFETIME": timedelta(days=90),
    "SESSION_COOKIE_SAMESITE": "Lax",
    "MAX_CONTENT_LENGTH": 64 * 1024,
    "SESSION_TRACK_DEVICE": True,
    "SESSION_ADMIN_HIDE": session_page.HIDDEN,
}


def create_app(config: t.Mapping[str, t.Any] | None = None) -> Flask:
    """Make the shop. ``config`` wins over the environment, the environment over the defaults."""
    app = Flask(__name__, instance_path=os.environ.get("SHOP_INSTANCE_PATH"))
    instance = Path(app.instance_path)

    app.config.from_mapping(DEFAULTS)
    app.config.from_prefixed_env("SHOP")
    app.config.from_mapping(config or {})
    app.config.setdefault("SESSION_MONGODB_URI", app.config.get("MONGODB_URI") or f"embedded:{instance / 'mongodb'}")
    app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or security.kept_secret_key(instance)

    sessions.init_app(app)
    login_manager.init_app(app)
    csrf.init_app(app)

    for part in (catalogue, cart, accounts, session_page):
        app.register_blueprint(part.blueprint)
    app.register_blueprint(devices_blueprint(sessions, on_not_me=accounts.not_me), url_prefix="/account/devices")

    for part in (database, formats, security, errors, staff, seed):
        part.init_app(app)

    return app
