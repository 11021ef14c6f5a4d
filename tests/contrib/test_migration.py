"""Nobody is logged out: sessions of Flask-Session, flask-mongoengine and Flask itself go on as ours."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import pickle
import sys
import typing as t
import uuid

import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from flask import session
from itsdangerous import Signer
from markupsafe import Markup
from mongoengine import StringField
from old_applications import COLLECTION, SECRET_KEY, add_views, cookie_of, make_old, make_values, values_in

from flask_mongo_session import ConfigurationError, MongoSession, SessionDocument, SetupError
from flask_mongo_session import MongoSession as Session

# Python 3.12 deprecates what Flask-Session and flask-mongoengine date their sessions with.
pytestmark = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning")

UTC = dt.timezone.utc
DAY = dt.timedelta(days=1)
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=UTC)
#: How many visitors: every day, and once in a while.
CLIENTS = [20, pytest.param(200, marks=pytest.mark.soak)]
PACKED = {"bytes": b"\0\xff", "date": NOON, "by number": {1: "one"}, "unsigned": 2**64 - 1}
TAGGED = {"bytes": b"\0", "date": NOON, "uuid": uuid.UUID(int=7), "tuple": (1, (2,)), "html": Markup("<b>")}
NATIVE = {"bytes": b"\0\xff", "id": ObjectId(), "naive": dt.datetime(2026, 1, 1, 12)}  # noqa: DTZ001 - on purpose
#: Flask-Session's configurations, with values that only some of them keep.
FORMATS = {
    "msgpack": ({}, PACKED),
    "json": ({"SESSION_SERIALIZATION_FORMAT": "json"}, {}),
    "signed": ({"SESSION_USE_SIGNER": True}, PACKED),
}


def restart_all(old, app, restart, more, count):
    """Many visitors log in; then the application is another one. Pairs: the browser, and what its session held."""
    browsers = []
    for number in range(count):
        browser = make_old(old, path=f"/login/{number}", values=more)
        browsers.append((restart(browser, app), values_in(browser)))
    return browsers


def check_all(browsers, sessions):
    """Everybody is who they were, and has what they had."""
    for number, (browser, before) in enumerate(browsers):
        assert browser.get("/user").text == str(number)
        before.pop("_permanent", None)
        after = values_in(browser)
        assert after == before
        for key, value in before.items():  # MongoEngine's lists are lists
            assert isinstance(value, type(after[key])), key
        assert browser.get("/user").text == str(number)

    stored = list(sessions.find())
    assert sorted(record["user_id"] for record in stored) == sorted(map(str, range(len(browsers))))


@pytest.mark.parametrize("count", CLIENTS)
@pytest.mark.parametrize(("config", "more"), FORMATS.values(), ids=FORMATS)
def test_flask_session(flask_session_app, new_app, restart, database, sessions, *, config, more, count):
    """Restarted on our library, all visitors of Flask-Session are logged in, with equal data."""
    kept = {key: value for key, value in config.items() if key == "SESSION_USE_SIGNER"}
    browsers = restart_all(flask_session_app(**config), new_app("flask-session", **kept), restart, more, count)
    assert database[COLLECTION].count_documents({}) == count

    check_all(browsers, sessions)
    assert database[COLLECTION].count_documents({}) == 0
    assert all(record["permanent"] for record in sessions.find())


@pytest.mark.parametrize("count", CLIENTS)
def test_flask_mongoengine(mongoengine_app, new_app, restart, database, sessions, *, count):
    """The same from flask-mongoengine-3, whose values are BSON."""
    check_all(restart_all(mongoengine_app, new_app("flask-mongoengine"), restart, NATIVE, count), sessions)
    assert database[COLLECTION].count_documents({}) == 0


@pytest.mark.parametrize("count", CLIENTS)
def test_flasks_own_session(cookie_app, new_app, restart, sessions, count):
    """The same from Flask's signed cookie."""
    check_all(restart_all(cookie_app, new_app("cookie"), restart, TAGGED, count), sessions)


# -- one visitor ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["flask-session", "flask-mongoengine", "cookie"])
def library(request):
    return request.param


@pytest.fixture
def old_app(request, library):
    """The old application of :func:`library`."""
    if library == "flask-session":
        return request.getfixturevalue("flask_session_app")()
    return request.getfixturevalue("mongoengine_app" if library == "flask-mongoengine" else "cookie_app")


@pytest.fixture
def visitor(old_app, library, new_app, restart, commands):
    """A browser that was logged in before the restart."""
    browser = restart(make_old(old_app), new_app(library))
    commands.clear()
    return browser


def test_a_request_without_session_moves_nothing(visitor, commands):
    """No command, no cookie."""
    before = cookie_of(visitor)
    visitor.get("/untouched")

    assert (commands.names, cookie_of(visitor)) == ([], before)


def test_a_view_that_only_reads_brings_the_new_cookie(visitor, commands, sessions):
    """Once: from then on the visit is like any other, and nothing is looked up in the old place."""
    before = cookie_of(visitor)
    visitor.get("/user")
    after = cookie_of(visitor)
    assert after != before
    assert after.startswith(sessions.find_one()["_id"])

    visitor.get("/user")
    commands.clear()
    visitor.get("/user")
    assert commands.names == ["find"]
    assert cookie_of(visitor) == after


@pytest.mark.parametrize("path", ["/write/cart/book", "/login/7", "/keys"])
def test_whatever_comes_first_finds_the_session(visitor, path):
    """Writing without reading, logging in again, iterating: nothing that was there is lost."""
    assert visitor.get(path).status_code == 200

    assert visitor.get("/user").text == "7"
    assert set(make_values("7")) <= set(visitor.get("/keys").json)


def test_a_log_out_stays(visitor, sessions, restart):
    """The old cookie, used again after the log-out, leads nowhere, also when the tombstone is long gone."""
    stolen = restart(visitor, visitor.application)
    visitor.get("/user")
    visitor.get("/logout")
    assert stolen.get("/user").text == "nobody"

    sessions.delete_many({})
    assert stolen.get("/user").text == "nobody"
    assert sessions.count_documents({}) == 0


def test_a_log_out_as_the_first_request_stays(visitor, sessions, restart):
    """Also where nothing was read before."""
    stolen = restart(visitor, visitor.application)
    visitor.get("/logout")
    assert cookie_of(visitor) is None

    sessions.delete_many({})
    assert stolen.get("/user").text == "nobody"


def test_the_old_cookie_is_worthless_once_the_browser_has_ours(visitor, restart, move_clock):
    """Requests under way still get their session; whoever comes later with the old cookie does not."""
    stolen, early = (restart(visitor, visitor.application) for _ in range(2))
    visitor.get("/user")
    assert early.get("/user").text == "7"
    visitor.get("/user")
    late = restart(stolen, visitor.application)
    assert late.get("/user").text == "7"

    move_clock(11)
    assert stolen.get("/user").text == "nobody"
    stolen.get("/write/cart/book")
    assert stolen.get("/user").text == "nobody"
    assert visitor.get("/keys").json == sorted(make_values("7"))


def test_a_browser_that_never_got_our_cookie_keeps_its_session(visitor, restart, move_clock):
    """An answer that was lost on the way logs nobody out."""
    again = restart(visitor, visitor.application)
    visitor.get("/user")

    move_clock(3600)
    assert again.get("/user").text == "7"


def test_a_log_in_makes_the_old_cookie_worthless(visitor, restart):
    """It brings a new token, like any log-in."""
    stolen = restart(visitor, visitor.application)
    visitor.get("/login/8")

    assert visitor.get("/user").text == "8"
    assert stolen.get("/user").text == "nobody"


def test_our_cookie_comes_first(visitor, app_of_its_own, commands):
    """While a browser has a valid cookie of ours, the old one is not looked at, wherever it stands."""
    old = cookie_of(visitor)
    visitor.get("/login/8")
    ours = cookie_of(visitor)
    fresh = app_of_its_own(visitor)

    commands.clear()
    for header in (f"session={old}; session={ours}", f"session={ours}; session={old}"):
        assert fresh.get("/user", headers={"Cookie": header}).text == "8"
    assert set(commands.names) <= {"find", "update"}


@pytest.fixture
def app_of_its_own():
    """A browser without cookies, for requests that bring theirs."""
    return lambda browser: browser.application.test_client(use_cookies=False)


def now_in(app):
    """The database's now, by which the dates of sessions are set; the host's clock may be behind it."""
    return app.extensions["mongo_session"].store.now()


def test_an_expired_session_is_not_read(visitor, sessions, move_clock, monkeypatch):
    """What the old library would have refused, we refuse."""
    move_clock(32 * 24 * 3600)
    real = dt.datetime.now(UTC)
    monkeypatch.setattr("itsdangerous.timed.time.time", (real + 32 * DAY).timestamp)

    assert visitor.get("/user").text == "nobody"
    assert sessions.count_documents({}) == 0


def test_a_forged_cookie_is_an_empty_session(new_app, library, sessions):
    """Nothing of it is stored, and nothing fails."""
    browser = new_app(library).test_client()
    values = ("x", "forged" * 10, "a.b.c", ".eJw.aaa.bbb", "?a=b", "c2ln?a=b", "ä" * 20, '"', "$where" * 3, "a" * 4000)
    for value in values:
        assert browser.get("/user", headers={"Cookie": f"session={value}"}).text == "nobody"

    assert sessions.count_documents({}) == 0


def test_a_log_in_of_unknown_age_is_not_fresh(visitor, library):
    """The log-in happened before, nobody knows when: what asks for a fresh one asks again."""
    with visitor.session_transaction() as stored:
        assert not stored.fresh(3600) or library == "flask-session"  # which tells when the session began
        assert stored.created_at is None or stored.created_at <= now_in(visitor.application)


def test_flask_session_tells_when_a_session_began(flask_session_app, new_app, restart, database, sessions):
    """By the document's id; the log-in counts as that old, and an absolute lifetime begins there."""
    old = make_old(flask_session_app())
    document = database[COLLECTION].find_one_and_delete({})
    began = dt.datetime.now(UTC).replace(microsecond=0) - DAY
    database[COLLECTION].insert_one({**document, "_id": ObjectId.from_datetime(began)})
    browser = restart(old, new_app("flask-session", SESSION_ABSOLUTE_LIFETIME=2 * DAY))

    with browser.session_transaction() as stored:
        assert stored.created_at == began
        assert stored.deadline == began + 2 * DAY
        assert stored.fresh(25 * 3600)
        assert not stored.fresh(23 * 3600)


def test_use_extends_what_was_moved(visitor, sessions):
    """The first visit counts as use: the session lives as long as a new one."""
    visitor.get("/user")

    left = sessions.find_one()["expires_at"].replace(tzinfo=UTC) - now_in(visitor.application)
    assert dt.timedelta(days=30, hours=23) < left <= dt.timedelta(days=31)


@pytest.mark.parametrize("permanent", [True, False])
def test_permanence_arrives(cookie_app, new_app, restart, permanent):
    """Flask's flag becomes the session's own, and is no key any more."""
    cookie_app.config["permanent"] = permanent
    browser = restart(make_old(cookie_app), new_app("cookie"))
    browser.get("/user")

    assert (browser.get_cookie("session").expires is not None) is permanent
    assert "_permanent" not in browser.get("/keys").json


@pytest.mark.parametrize("whose", ["theirs", "everybody's"])
def test_what_was_revoked_before_it_moved_ends(visitor, restart, sessions, whose):
    """A revocation holds for sessions that have not come yet; a log-in afterwards is a new one."""
    stolen, extension = restart(visitor, visitor.application), visitor.application.extensions["sessions"]
    extension.revoke_user("8")
    assert extension.revoke_user("7") == 0 if whose == "theirs" else extension.revoke_all() == 0
    assert visitor.get("/user").text == "nobody"

    visitor.get("/login/7")
    assert visitor.get("/user").text == "7"
    assert stolen.get("/user").text == "nobody"
    assert sessions.count_documents({"ended_at": None}) == 1


# -- Flask-Session's corners ------------------------------------------------------------------------------------------


def test_the_import_is_all_that_changes(make_app, flask_session_app, restart, database, sessions):
    """With Flask-Session's own configuration both libraries share a collection, and neither minds the other's."""
    config = {"SESSION_MONGODB_COLLECT": "sessions", "SESSION_TYPE": "mongodb"}
    browser, other = (make_old(flask_session_app(**config)) for _ in range(2))
    app = add_views(make_app(SESSION_MIGRATE_FROM="flask-session", **config))
    assert Session is MongoSession
    moved = restart(browser, app)

    assert moved.get("/user").text == "7"
    assert len(app.extensions["sessions"].of_user("7")) == 1
    assert sessions.count_documents({"val": {"$exists": True}}) == 1
    assert app.extensions["mongo_session"].store.delete_expired() == 0
    assert restart(other, app).get("/user").text == "7"
    assert sessions.count_documents({"val": {"$exists": True}}) == 0


def test_regenerate_as_flask_session_spells_it(app):
    """``app.session_interface.regenerate(session)`` gives a new token; of an empty session it makes nothing."""

    @app.get("/renew")
    def renew():
        app.session_interface.regenerate(session)
        return session.get("cart", "none")

    browser = app.test_client()
    assert browser.get("/renew").text == "none"
    assert cookie_of(browser) is None

    browser.get("/write/cart/book")
    before = cookie_of(browser)
    assert browser.get("/renew").text == "book"
    assert cookie_of(browser) != before


def test_where_ids_were_signed_unsigned_ones_are_worthless(flask_session_app, new_app, database, sessions):
    """Who has read the old database has not got in."""
    make_old(flask_session_app(SESSION_USE_SIGNER=True))
    sid = database[COLLECTION].find_one()["id"].removeprefix("session:")
    browser = new_app("flask-session", SESSION_USE_SIGNER=True).test_client()
    for value in (sid, f"{sid}.c2lnbmF0dXJl", Signer("other", salt="flask-session").sign(sid).decode()):
        assert browser.get("/user", headers={"Cookie": f"session={value}"}).text == "nobody"

    assert sessions.count_documents({}) == 0


def test_older_secret_keys_count(flask_session_app, cookie_app, new_app, restart):
    """What was signed with one of ``SECRET_KEY_FALLBACKS``, or moved under it, is still somebody's."""
    keys = {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": [SECRET_KEY]}
    signed = make_old(flask_session_app(SESSION_USE_SIGNER=True))
    assert restart(signed, new_app("flask-session", SESSION_USE_SIGNER=True, **keys)).get("/user").text == "7"

    browser = make_old(cookie_app)
    again = restart(browser, new_app("cookie", **keys))
    assert restart(browser, new_app("cookie")).get("/user").text == "7"
    assert again.get("/user").text == "7"
    assert again.get("/user").text == "7"


def test_another_prefix(flask_session_app, new_app, restart):
    """``SESSION_KEY_PREFIX`` says how Flask-Session named its documents."""
    browser = make_old(flask_session_app(SESSION_KEY_PREFIX="shop:"))

    assert restart(browser, new_app("flask-session", SESSION_KEY_PREFIX="shop:")).get("/user").text == "7"
    assert restart(browser, new_app("flask-session", SESSION_KEY_PREFIX="else:")).get("/user").text == "7"


def test_several_libraries(flask_session_app, mongoengine_app, cookie_app, new_app, restart):
    """One after the other, by the form of the cookie."""
    app = new_app(("cookie", "flask-mongoengine", "flask-session"), SESSION_MIGRATE_COLLECT=None)
    config = {"SESSION_MONGODB_COLLECT": "sessions"}

    plain, signed = flask_session_app(**config), flask_session_app(SESSION_USE_SIGNER=True, **config)
    for old in (plain, signed, mongoengine_app, cookie_app):
        assert restart(make_old(old), app).get("/user").text == "7"


def test_one_name_for_two_collections_is_refused(new_app):
    """It would say nothing of one of them."""
    with pytest.raises(ConfigurationError, match="SESSION_MIGRATE_COLLECT"):
        new_app(("flask-mongoengine", "flask-session"))


# -- Werkzeug's cookie ------------------------------------------------------------------------------------------------


def secure_cookie(values, key=SECRET_KEY):
    """What Werkzeug's ``SecureCookie(values, key).serialize()`` makes, which no longer runs with today's Werkzeug."""
    packed = {name: base64.b64encode(json.dumps(value).encode()).decode() for name, value in values.items()}
    items = [f"{name}={text}" for name, text in sorted(packed.items())]
    mac = hmac.new(key.encode(), "".join(f"|{item}" for item in items).encode(), hashlib.sha1).digest()
    return f"{base64.b64encode(mac).decode()}?{'&'.join(items)}"


def test_werkzeugs_cookie(new_app):
    """With its own date of expiry, or none; however it is spelt, a log-out stays."""
    app = new_app("cookie")
    soon = dt.datetime.now(UTC).timestamp() + 600
    for values in ({"_user_id": "7", "cart": ["book"]}, {"_user_id": "7", "_expires": int(soon)}):
        value = secure_cookie(values)
        browser = app.test_client()
        browser.set_cookie("session", value)
        assert browser.get("/user").text == "7"
        assert "_expires" not in browser.get("/keys").json

        browser.get("/logout")
        app.extensions["mongo_session"].store.collection.delete_many({})
        for spelt in (value, value.replace("&", "|")):
            browser.set_cookie("session", spelt)
            assert browser.get("/user").text == "nobody"

    for value in (secure_cookie({"_user_id": "7", "_expires": 1}), secure_cookie({"_user_id": "7"}, "other")):
        browser.set_cookie("session", value)
        assert browser.get("/user").text == "nobody"


def test_a_signature_spelt_otherwise_is_the_same_cookie(cookie_app, new_app, restart, sessions):
    """The last character of a signature has bits that nobody looks at: they make no second cookie of one."""
    browser = restart(make_old(cookie_app), new_app("cookie"))
    value = cookie_of(browser)
    browser.get("/logout")
    sessions.delete_many({})

    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in alphabet:
        browser.set_cookie("session", value[:-1] + last)
        assert browser.get("/user").text == "nobody"


def test_strangers_with_equal_cookies_do_not_share_a_session(cookie_app, new_app, restart, sessions):
    """Equal content signed in the same second is one text; nobody is logged in, so nobody knows whose it is."""
    old, app = make_old(cookie_app, path="/write/language/de"), new_app("cookie")
    one, other = restart(old, app), restart(old, app)
    one.get("/write/cart/book")
    assert other.get("/keys").json == ["language"]
    assert one.get("/keys").json == ["cart", "language"]

    assert sessions.count_documents({}) == 2
    assert restart(old, app).get("/keys").json == ["language"]


# -- what cannot be moved ---------------------------------------------------------------------------------------------


def test_pickles_are_refused(flask_session_app, new_app, restart, database, caplog):
    """They are counted and logged once, without anything of them; the session is empty, and nothing was run."""
    app = new_app("flask-session")
    browsers = [restart(make_old(flask_session_app()), app) for _ in range(2)]
    database[COLLECTION].update_many({}, {"$set": {"val": pickle.dumps({"_user_id": "7", "secret": "hunter2"})}})
    for browser in browsers:
        assert browser.get("/user").text == "nobody"

    assert app.session_interface.migration.mover.counts == {"refused": 2}
    assert caplog.text.count("SESSION_MIGRATE_PICKLE") == 1
    assert "hunter2" not in caplog.text
    assert database[COLLECTION].count_documents({}) == 2


def test_pickles_are_read_where_that_is_asked_for(flask_session_app, new_app, restart, database, caplog):
    """With a warning when the application is set up, and in the log."""
    browser = make_old(flask_session_app())
    database[COLLECTION].update_one({}, {"$set": {"val": pickle.dumps({"_user_id": "7", "tuple": (1, 2)})}})
    with pytest.warns(UserWarning, match="SESSION_MIGRATE_PICKLE is on"):
        app = new_app("flask-session", SESSION_MIGRATE_PICKLE=True)

    assert "SESSION_MIGRATE_PICKLE is on" in caplog.text
    browser = restart(browser, app)
    assert browser.get("/user").text == "7"
    assert values_in(browser) == {"_user_id": "7", "tuple": (1, 2)}


GARBAGE = {
    "no bytes": {"val": 5},
    "empty": {"val": b""},
    "a list": {"val": b"\x93\x01\x02\x03"},
    "a number in JSON": {"val": b"5"},
    "deep": {"val": b"\x81\xa1a" + b"\x91" * 5000 + b"\x01"},
    "deep JSON": {"val": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"},
    "not UTF-8": {"val": b"\x81\xa1a\xa1\xff"},
    "nothing storable": {"val": b"\x81\x01\x01"},
    "too large": {"val": b'{"a":"' + b"x" * 2_000_000 + b'"}'},
    "no expiry": {"expiration": "tomorrow"},
    "far expiry": {"expiration": DatetimeMS(2**62)},
    "only the flag": {"val": b"\x81\xaa_permanent\xc3"},
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_an_empty_session(flask_session_app, new_app, restart, database, sessions, *, garbage):
    """Whatever lies in the old collection, nobody gets a 500 for it, and a visitor can log in anew."""
    browser = restart(make_old(flask_session_app()), new_app("flask-session"))
    database[COLLECTION].update_one({}, {"$set": garbage})

    assert browser.get("/user").text == "nobody"
    assert browser.get("/login/8").status_code == 200
    assert browser.get("/user").text == "8"


def test_a_value_that_cannot_be_stored_does_not_cost_the_session(flask_session_app, new_app, restart, database, caplog):
    """It is left out, which the log says once by key and type; all others arrive."""
    browser = restart(make_old(flask_session_app()), new_app("flask-session"))
    packed = b"\x83\xa8_user_id\xa17\xa1e\xd4\x05\x01\x01\x02"  # with an extension type, and a key that is no text
    database[COLLECTION].update_one({}, {"$set": {"val": packed}})

    assert values_in(browser) == {"_user_id": "7"}
    assert "'e'" in caplog.text


class Themed(SessionDocument):
    """A declared session."""

    theme = StringField(choices=("light", "dark"))
    meta: t.ClassVar = {"collection": "themed"}


def test_declared_and_encrypted(flask_session_app, make_app, restart, database):
    """What is declared lies in its field, if it passes; what is not is encrypted where that is asked for."""
    app = add_views(
        make_app(
            Themed,
            SESSION_MIGRATE_FROM="flask-session",
            SESSION_MIGRATE_COLLECT=COLLECTION,
            SESSION_ENCRYPTION_KEYS=[b"k" * 32],
        )
    )
    right, wrong = (
        restart(make_old(flask_session_app(), values={"theme": theme}), app) for theme in ("dark", "purple")
    )
    assert values_in(right)["theme"] == "dark"
    assert "theme" not in values_in(wrong)
    assert values_in(wrong)["text"] == make_values("7")["text"]
    stored = database["themed"].find_one({"theme": "dark"})
    assert "ratio" in stored["data"]
    assert stored["data"]["ratio"] != 0.1


def test_what_is_needed_is_said(new_app, monkeypatch):
    """Without the decoder, the set-up fails and names what to install."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(SetupError, match=r"flask-mongoengine-session\[migration\]"):
        new_app("flask-session")
