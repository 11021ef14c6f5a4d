"""A database that fails while a session is being moved: a 503, nothing lost or stored twice, no secret in a frame."""

from __future__ import annotations

import datetime as dt
import json
import secrets

import pytest
from flask.sessions import SecureCookieSessionInterface
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
def stored_session(shop, stored):
    """An old session in the database; its cookie, and the secret in it."""
    sid = secrets.token_urlsafe(32)
    ends = dt.datetime.now(UTC) + dt.timedelta(days=1)
    stored["old"].insert_one({"id": f"session:{sid}", "val": json.dumps({"user_id": "7"}).encode(), "expiration": ends})
    return sid


@pytest.fixture
def signed_session(shop):
    """An old session that is a cookie."""
    return SecureCookieSessionInterface().get_signing_serializer(shop).dumps({"user_id": "7"})


@pytest.mark.parametrize(
    ("kind", "command", "how"),
    [
        *(("stored_session", command, how) for command in ("find", "insert", "delete") for how in (CLOSED, REFUSED)),
        *(("signed_session", command, REFUSED) for command in ("find", "insert")),
        *(("stored_session", command, UNCONFIRMED) for command in ("insert", "delete")),
    ],
)
def test_an_outage_loses_nothing(request, shop, stored, failing, *, kind, command, how):
    """Wherever it comes, the answer is a 503, the old cookie stays, and afterwards the session is moved once."""
    old = request.getfixturevalue(kind)
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
    assert shop.extensions["raised"]
    for error in shop.extensions["raised"]:
        assert isinstance(error, SessionStoreUnavailable)
        assert found_in(error, [old, old.rpartition(".")[0] or old]) == []


def test_a_cookie_is_not_given_out_before_the_old_one_is_remembered(shop, stored, failing, signed_session):
    """Else a log-out could be undone by the old one."""
    browser = shop.test_client()
    browser.set_cookie("session", signed_session)
    with failing("update", **REFUSED):
        assert browser.get("/read/user_id").status_code == 503
    assert browser.get_cookie("session").value == signed_session

    shop.extensions["mongo_session"].store.connection.breaker.succeeded()
    browser.get("/logout")
    stored["sessions"].delete_many({})
    browser.set_cookie("session", signed_session)
    assert browser.get("/read/user_id").text == "None"
