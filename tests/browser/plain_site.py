"""An application with nothing but a log-in, for pages of the library that are looked at without the shop."""

from __future__ import annotations

import contextlib
import datetime as dt
import typing as t
import uuid

from flask import Flask, redirect, session

from flask_mongo_session import MongoSession, new_session_id

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)


@contextlib.contextmanager
def plain_site(mongo_server: t.Any, landing: str) -> t.Iterator[tuple[Flask, MongoSession]]:
    """The application and its sessions, on a database of their own; ``/login/<user>`` leads to *landing*."""
    app = Flask("people")
    database = f"people_{uuid.uuid4().hex[:12]}"
    app.config.update(
        SECRET_KEY="a secret for tests only",
        SESSION_MONGODB_URI=mongo_server.uri,
        SESSION_MONGODB_DB=database,
        SESSION_TRACK_DEVICE=True,
        SESSION_ADMIN_HIDE=("card",),
        SESSION_COOKIE_SAMESITE="Lax",
    )
    sessions = MongoSession(app)
    app.add_url_rule("/favicon.ico", "icon", lambda: ("", 204))

    @app.get("/login/<user>")
    def login(user: str) -> t.Any:
        session.update(user_id=user, card="4111 1111", cart=[{"name": "Morning mug", "count": 2}])
        return redirect(landing)

    yield app, sessions
    sessions.store.stop_cleanup()
    sessions.store.collection.database.client.drop_database(database)


def seed(app: Flask, ip: t.Callable[[int], str], other_agent: str) -> list[str]:
    """Store 120 sessions of eight users, by turns on an iPhone and with *other_agent*; the ids of Ada's three."""
    store = app.extensions["mongo_session"].store
    now = store.now()
    rows = [
        {
            "_id": new_session_id(),
            "data": {
                "cart": [{"name": "Morning mug", "count": 2}],
                "card": "4111 1111",
                "note": "x" * (number * 37 % 3000),
            },
            "user_id": f"user-{number % 7}" if number > 2 else "ada",
            "created_at": now - dt.timedelta(minutes=number * 11),
            "authenticated_at": now - dt.timedelta(minutes=number * 11),
            "touched_at": now - dt.timedelta(minutes=number * 7),
            "expires_at": now + dt.timedelta(minutes=number * 13 + 5),
            "ip": ip(number),
            "user_agent": IPHONE if number % 2 else other_agent,
        }
        for number in range(120)
    ]
    store.collection.insert_many(rows)
    return [row["_id"] for row in rows[:3]]
