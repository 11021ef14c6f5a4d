"""Encryption at rest: each value sealed for its place, queryable where declared, never read in plain by mistake."""

from __future__ import annotations

import base64
import datetime as dt
import logging

import pytest
from bson import Binary
from flask import session
from mongoengine import IntField, ListField, StringField

from flask_mongo_session import (
    ConfigurationError,
    EncryptionUnsupported,
    MongoSessionStore,
    Session,
    SessionDocument,
    SessionTooLarge,
)
from flask_mongo_session.encryption import Sealer

OLD, NEW, OTHER = ("ab" * 32, "cd" * 32, "ef" * 32)
SECRET = "a value to keep"


class EncryptedShop(SessionDocument):
    theme = StringField()
    visits = IntField()
    cart = ListField(StringField())
    meta = {"collection": "sessions"}  # noqa: RUF012 - MongoEngine's convention


@pytest.fixture
def make_sealed(make_app):
    """Makes applications with a key ring and views for anything."""

    def make(*keys, model=Session, **config):
        app = make_app(model=model, SESSION_ENCRYPTION_KEYS=list(keys or [OLD]), **config)

        @app.get("/put/<key>/<value>")
        def put(key, value):
            session[key] = value
            return "put"

        @app.get("/get/<key>")
        def get(key):
            return str(session.get(key))

        @app.get("/login/<user>")
        def login(user):
            session["user_id"] = user
            return user

        @app.get("/renew")
        def renew():
            session.regenerate()
            return "renewed"

        return app

    return make


def browser_of(app, cookie=None):
    browser = app.test_client()
    if cookie:
        browser.set_cookie("session", cookie)
    return browser


def cookie_of(browser):
    return browser.get_cookie("session").value


def sid_of(browser):
    return cookie_of(browser).partition(".")[0]


@pytest.fixture
def secret(make_sealed):
    """A browser that stored a value under the old key."""
    browser = browser_of(make_sealed())
    browser.get(f"/put/secret/{SECRET}")
    return browser


# -- what is stored ---------------------------------------------------------------------------------------------------


def test_values_are_unreadable_in_the_database(secret, sessions):
    """Nothing of a value is in the record, but in its sealed form, and it comes back."""
    document = sessions.find_one()

    assert SECRET.encode() not in document["data"]["secret"]
    assert SECRET not in str(document)
    assert secret.get("/get/secret").text == SECRET


def test_what_is_declared_stays_queryable(make_sealed, sessions):
    """Declared fields, owner and expiry are what they are without encryption."""
    browser = browser_of(make_sealed(model=EncryptedShop))
    browser.get("/put/theme/dark")
    browser.get(f"/put/secret/{SECRET}")
    browser.get("/login/7")

    found = sessions.find_one(
        {"theme": "dark", "user_id": "7", "expires_at": {"$gt": dt.datetime.now(dt.timezone.utc)}}
    )
    assert set(found["data"]) == {"secret", "user_id"}
    assert all(isinstance(value, bytes) for value in found["data"].values())


def test_the_same_value_is_sealed_differently_each_time(make_sealed, sessions):
    """Nobody can tell which sessions hold the same."""
    app = make_sealed()
    for _ in range(2):
        browser_of(app).get(f"/put/secret/{SECRET}")

    one, other = sessions.find()
    assert one["data"]["secret"] != other["data"]["secret"]


def test_only_the_changed_key_is_written(make_sealed, secret, commands):
    """Per-key merge works as in plain: an update names the changed key alone."""
    commands.clear()
    secret.get("/put/other/1")

    assert commands.names == ["update"]
    assert {path for path in commands.sent[-1]["updates"][0]["u"]["$set"] if path.startswith("data")} == {"data.other"}


def test_changes_of_different_keys_both_win(make_sealed):
    """Two requests at once, as ever."""
    app = make_sealed()
    first = browser_of(app)
    first.get("/put/a/1")
    second = browser_of(app, cookie_of(first))

    with first.session_transaction() as one:
        assert one["a"] == "1"
        second.get("/put/b/2")
        one["a"] = "3"

    assert (first.get("/get/a").text, first.get("/get/b").text) == ("3", "2")


@pytest.mark.parametrize("key", ["a.b", "$set", "", "nul\x00", "\ud800", "%"])
def test_any_key_can_be_sealed(make_sealed, key):
    """The place that a value is bound to is the key, whatever it is."""
    app = make_sealed()
    browser = browser_of(app)
    for value in (1, 2):
        with browser.session_transaction() as opened:
            opened[key] = value

    with browser.session_transaction() as opened:
        assert opened[key] == 2


def test_a_change_in_place_is_found(make_sealed):
    """Comparing happens on what was opened."""
    browser = browser_of(make_sealed())
    with browser.session_transaction() as opened:
        opened["list"] = [1]
    with browser.session_transaction() as opened:
        opened["list"].append(2)
    with browser.session_transaction() as opened:
        assert opened["list"] == [1, 2]


# -- binding ----------------------------------------------------------------------------------------------------------


def test_a_value_cannot_be_moved_to_another_key(secret, sessions, caplog):
    """Copied under another name it does not open, and the session counts as empty."""
    moved = sessions.find_one()["data"]["secret"]
    sessions.update_one({}, {"$set": {"data.role": moved}})

    assert secret.get("/get/role").text == "None"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_value_cannot_be_moved_to_another_session(make_sealed, secret, sessions):
    """Copied into another record it does not open."""
    victim, attacker = sid_of(secret), browser_of(make_sealed())
    attacker.get("/put/secret/mine")
    moved = sessions.find_one({"_id": victim})["data"]["secret"]
    sessions.update_one({"_id": sid_of(attacker)}, {"$set": {"data.secret": moved}})

    assert attacker.get("/get/secret").text == "None"


def test_a_value_opens_in_its_collection_alone(secret, make_sealed, sessions):
    """A record that was copied to another collection, with its token, is a session without values."""
    sessions.database["others"].insert_one(sessions.find_one())
    other = browser_of(make_sealed(SESSION_MONGODB_COLLECT="others"), cookie_of(secret))

    assert other.get("/get/secret").text == "None"
    assert secret.get("/get/secret").text == SECRET


@pytest.mark.parametrize("at", [0, 1, 5, 17, -1])
def test_a_value_that_was_tampered_with_does_not_open(secret, sessions, at):
    """One flipped bit in version, key id, nonce, text or tag is enough."""
    sealed = bytearray(sessions.find_one()["data"]["secret"])
    sealed[at] ^= 1
    sessions.update_one({}, {"$set": {"data.secret": Binary(bytes(sealed))}})

    assert secret.get("/get/secret").text == "None"


@pytest.mark.parametrize("planted", [SECRET, 1, b"", b"\x01", b"\x01" * 40, {"$gt": ""}, None, ["x"]])
def test_plain_values_are_never_read(secret, sessions, caplog, planted):
    """What somebody planted in plain is damage, said as an error in the log, never a value."""
    sessions.update_one({}, {"$set": {"data.secret": planted}})

    assert secret.get("/get/secret").text == "None"
    assert "ERROR" in {record.levelname for record in caplog.records}
    assert SECRET not in caplog.text


def test_an_unreadable_value_can_be_replaced(secret, sessions, caplog):
    """It counts as absent; the session goes on without it, and one warning is enough."""
    sessions.update_one({}, {"$set": {"data.secret": "planted"}})
    before = sid_of(secret)
    for _ in range(3):
        secret.get("/get/secret")
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1

    with secret.session_transaction() as opened:
        opened["count"] = opened.get("count", 0) + 1

    assert sid_of(secret) == before
    assert secret.get("/get/count").text == "1"
    secret.get(f"/put/secret/{SECRET}")
    assert secret.get("/get/secret").text == SECRET


# -- keys -------------------------------------------------------------------------------------------------------------


def test_the_ring_rotates_while_sessions_live(make_sealed, secret, sessions):
    """The first key seals, all of them open; a value moves to the new key when it is written."""
    rotated = browser_of(make_sealed(NEW, OLD), cookie_of(secret))

    assert rotated.get("/get/secret").text == SECRET
    rotated.get("/put/other/1")
    assert rotated.get("/get/secret").text == SECRET

    rotated.get(f"/put/secret/{SECRET}2")
    alone = browser_of(make_sealed(NEW), cookie_of(rotated))
    assert alone.get("/get/secret").text == f"{SECRET}2"
    assert alone.get("/get/other").text == "1"


@pytest.mark.parametrize(("before", "after"), [([OLD], [OLD, NEW]), ([OLD, NEW], [NEW, OLD])])
def test_old_and_new_workers_side_by_side(make_sealed, before, after):
    """First everybody gets the new key at the end, then at the front: nobody meets a value that it cannot open."""
    workers = [make_sealed(*before), make_sealed(*after)]
    browser = browser_of(workers[0])
    for turn in range(4):
        browser.get(f"/put/secret/{turn}")
        browser = browser_of(workers[turn % 2], cookie_of(browser))
        assert browser.get("/get/secret").text == str(turn)


def test_keys_may_come_from_a_callable(make_app, make_sealed, secret, monkeypatch):
    """It is called when a key is needed, and again for a value whose key it did not name, once a minute at the most."""
    asked = []

    def keys():
        asked.append(1)
        return [OLD] if len(asked) == 1 else [NEW, OLD]

    app = make_app(SESSION_ENCRYPTION_KEYS=keys)
    app.add_url_rule("/get/<key>", view_func=lambda key: str(session.get(key)), endpoint="get")
    assert asked == []

    assert browser_of(app, cookie_of(secret)).get("/get/secret").text == SECRET
    assert len(asked) == 1

    newer = browser_of(make_sealed(NEW))
    newer.get(f"/put/secret/{SECRET}")
    assert browser_of(app, cookie_of(newer)).get("/get/secret").text == "None"
    assert len(asked) == 1

    monkeypatch.setattr("flask_mongo_session.encryption._ASK_AGAIN_SECONDS", 0.0)
    assert browser_of(app, cookie_of(newer)).get("/get/secret").text == SECRET
    assert len(asked) == 2


@pytest.mark.parametrize("keys", [[], ["short"]])
def test_a_callable_that_gives_no_key_is_told_so(make_app, keys):
    """When it is asked: no value is stored in plain for want of one."""
    app = make_app(SESSION_ENCRYPTION_KEYS=lambda: keys)
    app.add_url_rule("/put", view_func=lambda: session.update(secret=SECRET) or "put", endpoint="put")

    with pytest.raises(ConfigurationError, match="SESSION_ENCRYPTION_KEYS"):
        app.test_client().get("/put")


def test_the_doctor_says_which_keys_are_needed(make_sealed, secret):
    """By their place in the ring; a missing one is wrong."""

    def finding(*keys):
        result = make_sealed(*keys).test_cli_runner().invoke(args=["sessions", "doctor"])
        (line,) = [line for line in result.output.splitlines() if " encryption" in line]
        return line

    assert "(1 key)" in finding(OLD)
    assert "still needed beside the first: 2" in finding(NEW, OLD)
    assert "only the first is needed" in finding(OLD, NEW)
    assert "1 of up to 1,000 live sessions need a key" in finding(NEW)


def test_a_forgotten_key_is_an_error_and_an_empty_session(make_sealed, secret, sessions, caplog):
    """The log names the configuration key; the stored session is left alone until it expires."""
    before = sessions.find_one()
    other = browser_of(make_sealed(OTHER), cookie_of(secret))

    assert other.get("/get/secret").text == "None"
    assert sessions.find_one() == before
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "SESSION_ENCRYPTION_KEYS" in record.getMessage()
    assert before["_id"] in record.getMessage()


def test_plain_sessions_do_not_open_once_keys_are_set(make_app, make_sealed, sessions):
    """Switching encryption on ends the sessions before it: no fall-back to reading plain."""
    plain = make_app()

    @plain.get("/put")
    def put():
        session["secret"] = SECRET
        return "put"

    browser = plain.test_client()
    browser.get("/put")

    assert browser_of(make_sealed(), cookie_of(browser)).get("/get/secret").text == "None"


@pytest.mark.parametrize(
    "key",
    [
        *(bytes.fromhex(OLD), OLD, OLD.upper(), base64.b64encode(bytes.fromhex(OLD)).decode()),
        base64.urlsafe_b64encode(bytes.fromhex(OLD)).decode().rstrip("="),
    ],
    ids=["raw", "hex", "HEX", "base64", "base64url"],
)
def test_a_key_in_each_of_its_forms_is_the_same_key(make_sealed, secret, key):
    """Raw, hexadecimal, base64."""
    assert browser_of(make_sealed(key), cookie_of(secret)).get("/get/secret").text == SECRET


@pytest.mark.parametrize("keys", [["short"], [OLD, "zz" * 32], [b"x" * 31], [b""], [""], []])
def test_a_key_that_is_none_is_refused_at_once(make_app, keys):
    """When the application is set up, naming the configuration key and not the key itself."""
    with pytest.raises(ConfigurationError, match="SESSION_ENCRYPTION_KEYS") as raised:
        make_app(SESSION_ENCRYPTION_KEYS=keys)

    assert "zz" not in str(raised.value)


def test_keys_are_in_no_repr(make_sealed):
    """Neither of the sealer nor of the configuration."""
    state = make_sealed().extensions["mongo_session"]

    assert OLD not in repr(state)
    assert OLD not in repr(Sealer([OLD])) + repr(Sealer([OLD]).__dict__.keys())


# -- the rest of the API ----------------------------------------------------------------------------------------------


def test_a_rotation_leaves_the_values_sealed(make_sealed, secret, sessions):
    """Log-in and ``regenerate()`` change the token, not the id that values are bound to: nothing is sealed anew."""
    before = sessions.find_one()
    secret.get("/login/7")
    secret.get("/renew")

    after = sessions.find_one()
    assert after["token"] != before["token"]
    assert after["data"]["secret"] == before["data"]["secret"]
    assert secret.get("/get/secret").text == SECRET


def test_merging_opens_one_and_seals_for_the_other(make_sealed, secret, sessions):
    """The values of the other session are at home in this one."""
    token = cookie_of(secret).rsplit(".", 2)[0]
    browser = browser_of(make_sealed())
    browser.get("/put/own/1")
    with browser.session_transaction() as opened:
        opened.merge(token)

    assert browser.get("/get/secret").text == SECRET
    assert browser.get("/get/own").text == "1"
    assert "data" not in sessions.find_one({"_id": sid_of(secret)})


def test_the_size_that_counts_is_that_of_what_is_sent(make_sealed):
    """Sealed values are longer than plain ones, also where the whole session was read before."""
    app = make_sealed(SESSION_MAX_SIZE=1000)
    app.add_url_rule("/grow", view_func=lambda: (session.get("note") and session.update(note="x" * 960)) or "")
    browser = browser_of(app)
    browser.get("/put/note/short")

    with pytest.raises(SessionTooLarge):
        browser.get("/grow")
    assert browser.get("/get/note").text == "short"


def test_emptying_the_session_ends_it(make_sealed, secret, sessions):
    """Popping the last key ends the session, as in plain."""
    with secret.session_transaction() as opened:
        opened.pop("secret")

    assert sessions.count_documents({"ended_at": None}) == 0


@pytest.mark.parametrize("read_first", [False, True])
@pytest.mark.parametrize("how", ["increment", "append"])
def test_the_database_cannot_compute_with_what_it_cannot_read(make_sealed, secret, sessions, how, read_first):
    """``increment`` and ``append`` of a free-form key raise, naming it, and change nothing."""
    before = sessions.find_one()
    with secret.session_transaction() as opened:
        if read_first:
            opened.get("count")
        with pytest.raises(EncryptionUnsupported, match="'count'"):
            getattr(opened, how)("count", 1)

    assert sessions.find_one()["data"] == before["data"]


def test_declared_fields_can_be_computed_with(make_sealed, sessions):
    """They are not encrypted."""
    browser = browser_of(make_sealed(model=EncryptedShop))
    for _ in range(2):
        with browser.session_transaction() as opened:
            opened.increment("visits")
            opened.append("cart", "book")

    assert (sessions.find_one()["visits"], sessions.find_one()["cart"]) == (2, ["book", "book"])


def test_the_store_by_itself_seals_too(database):
    """Commit, find, all and iterate work on opened values; a value that does not open counts as absent."""
    expires_at = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)
    store = MongoSessionStore(Session, database=database, cleanup_interval=0, sealer=Sealer([OLD]), auto_index=False)
    store.commit("one", {"secret": SECRET}, expires_at)
    store.commit("two", {"secret": 2}, expires_at)
    database["sessions"].insert_one({"_id": "foreign", "data": {"a": 1}, "expires_at": expires_at})
    database["sessions"].insert_one({"data": {"a": b"\x01" * 60}, "expires_at": expires_at})

    assert store.find("one").data == {"secret": SECRET}
    assert store.find("foreign").data == {}
    assert store.all() == {"one": {"secret": SECRET}, "two": {"secret": 2}, "foreign": {}}
    assert dict(store.iterate()) == store.all()


def test_a_wide_update_is_sealed(make_sealed, sessions):
    """More keys than an update names one by one: each is sealed for its place, and each comes back."""
    values = {f"key{number}": f"{SECRET} {number}" for number in range(150)}
    browser = browser_of(make_sealed())
    browser.get("/put/first/1")
    with browser.session_transaction() as opened:
        opened.update(values)

    document = sessions.find_one()
    assert len(document["data"]) == 151
    assert all(isinstance(value, bytes) for value in document["data"].values())
    with browser.session_transaction() as opened:
        assert dict(opened) == {"first": "1", **values}


def test_what_replaces_a_whole_session_is_sealed(make_sealed, sessions):
    """When one user follows another, all values are set anew: sealed, and none of the old is left."""
    browser = browser_of(make_sealed(model=EncryptedShop))
    browser.get("/login/ada")
    browser.get("/put/theme/dark")
    browser.get(f"/put/secret/{SECRET}")
    before = sessions.find_one()
    with browser.session_transaction() as opened:
        opened["user_id"] = "bob"
        opened["note"] = SECRET

    after = sessions.find_one()
    assert set(after["data"]) == {"user_id", "note"}
    assert all(isinstance(value, bytes) for value in after["data"].values())
    assert "theme" not in after
    assert after["data"]["user_id"] != before["data"]["user_id"]
    assert browser.get("/get/note").text == SECRET


def test_a_key_that_came_meanwhile_keeps_an_emptied_session(make_sealed, secret, sessions):
    """Whether the stored data are still what was loaded is compared in their sealed form."""
    with secret.session_transaction() as opened:
        opened.pop("secret")
        browser_of(make_sealed(), cookie_of(secret)).get("/put/late/1")

    assert set(sessions.find_one({"ended_at": None})["data"]) == {"late"}
    assert secret.get("/get/late").text == "1"
