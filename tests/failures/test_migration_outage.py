"""A database that fails while a session is being moved: a 503, nothing lost or stored twice, no secret in a frame."""

from __future__ import annotations

import datetime as dt
import json
import secrets

import pytest
from test_raised_frames import UNCONFIRMED, found_in

from flask_mongo_session import SessionStoreUnavailable

UTC = dt.timezone.utc
CLOSED, REFUSED = {"closeConnection": True}, {"errorCode": 13}


@pytest.fixture
def shop(make_shop, uri):
    """An application that takes over Flask-Session's sessions and Flask's cookies, and collects what was raised."""
    app = make_shop(
        uri, SESSION_MIGRATE_FROM=("flask-session", "cookie"), SESSION_MIGRATE_DB=uri.split("/")[-1].split("?")[0],
        SESSION_MIGRATE_COLLECT="old",
    )  # fmt: skip
    app.extensions["raised"] = []

    @app.errorhandler(Exception)
    def look(error):
        app.extensions["raised"].append(error)
        return "sorry", getattr(error, "code", 500)

    return app


@pytest.fixture
def old(stored):
    """The old collection, with one session; its id is the cookie's value."""
    sid = secrets.token_urlsafe(32)
    ends = dt.datetime.now(UTC) + dt.timedelta(days=1)
    stored["old"].insert_one({"id": f"session:{sid}", "val": json.dumps({"user_id": "7"}).encode(), "expiration": ends})
    return sid


@pytest.mark.parametrize(
    ("command", "how"),
    [
        *((command, how) for command in ("find", "insert", "delete") for how in (CLOSED, REFUSED)),
        *((command, UNCONFIRMED) for command in ("insert", "delete")),
    ],
)
def test_an_outage_loses_nothing(shop, stored, failing, old, *, command, how):
    """Wherever it comes, the answer is a 503 or the session, the old cookie stays, and the session is moved once."""
    browser = shop.test_client()
    browser.set_cookie("session", old)
    with failing(command, **how):
        assert browser.get("/read/user_id").status_code == 503
    assert browser.get_cookie("session").value == old

    shop.extensions["mongo_session"].store.connection.breaker.succeeded()
    assert browser.get("/read/user_id").text == "7"
    assert browser.get_cookie("session").value != old
    assert stored["old"].count_documents({}) == 0
    assert [record["user_id"] for record in stored["sessions"].find()] == ["7"]
    for error in shop.extensions["raised"]:
        assert isinstance(error, SessionStoreUnavailable)
        assert found_in(error, [old]) == []
