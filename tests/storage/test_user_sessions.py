"""Whose sessions there are: listing, ending, limiting their number."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
import time

import bson
import pytest
from flask import Flask, session
from markupsafe import Markup
from mongoengine import EmbeddedDocument, EmbeddedDocumentField, ListField, ObjectIdField, StringField

from flask_mongo_session import (
    Session,
    SessionDocument,
    TooManySessions,
    fresh_session,
    new_token,
    session_destroyed,
    session_id,
)
from flask_mongo_session.document.record import Metadata, StoredSession


class Line(EmbeddedDocument):
    name = StringField()


class Declared(SessionDocument):
    theme = StringField(choices=("light", "dark"), default="light")
    cart = ListField(ObjectIdField())
    line = EmbeddedDocumentField(Line)

    meta = {"collection": "sessions"}  # noqa: RUF012 - MongoEngine's convention


@pytest.fixture
def ours(app):
    """The extension of :func:`app`, with a view that answers with the session's id."""

    @app.get("/sid")
    def sid():
        return session.sid or ""

    @app.get("/rotate")
    def rotate():
        session.regenerate()
        return "rotated"

    return app.extensions["sessions"]


@pytest.fixture
def log_in(app):
    """Logs a user in at a browser of its own; returns the browser and the session's id."""

    def log_in(user="ada", **headers):
        browser = app.test_client()
        browser.get(f"/login/{user}", headers=headers)
        return browser, browser.get("/sid").text

    return log_in


@pytest.fixture
def destroyed():
    """The (sid, reason) of each session that is ended, as announced."""
    heard = []

    def receive(sender, sid, reason):
        heard.append((sid, reason))

    with session_destroyed.connected_to(receive):
        yield heard


def seed(store, count, user="ada", **fields):
    """Live sessions straight into the collection; their ids."""
    now = store.now()
    ids = [session_id(new_token()) for _ in range(count)]
    base = {"user_id": user, "created_at": now, "touched_at": now, "expires_at": now + dt.timedelta(hours=1)}
    documents = [{"_id": sid, "data": {"user_id": user}, **base, **fields} for sid in ids]
    store.collection.insert_many(documents)
    return ids


# -- listing ----------------------------------------------------------------------------------------------------------


def test_of_user_lists_the_live_ones_newest_activity_first(ours, log_in, move_clock, commands):
    """One find answers; nobody else's are in it, expired ones are not, the last used one comes first."""
    _, first = log_in()
    move_clock(90)
    _, second = log_in()
    log_in("bob")
    assert [info.sid for info in ours.of_user("ada")] == [second, first]

    commands.clear()
    assert ours.of_user("ada")[0].user_id == "ada"
    assert commands.names == ["find"]
    assert "data" not in commands.sent[0]["projection"]

    move_clock(31 * 86400 - 60)
    assert [info.sid for info in ours.of_user("ada")] == [second]


def test_of_user_finds_by_the_text_of_the_key(ours, store):
    """An ObjectId or an int finds the sessions that carry its text; nobody has none."""
    key = bson.ObjectId()
    (sid,) = seed(store, 1, str(key))

    assert [info.sid for info in ours.of_user(key)] == [sid]
    assert ours.of_user(None) == ours.of_user({"$ne": None}) == []


def test_of_user_uses_the_index(ours, store, database):
    """The query is answered through the index on the user, whatever else is stored."""
    store.ensure_indexes()
    seed(store, 200, "others")
    seed(store, 3)
    database.command("profile", 2)
    ours.of_user("ada")
    database.command("profile", 0)

    (entry,) = database["system.profile"].find({"command.find": "sessions"})
    assert (entry["docsExamined"], entry["nreturned"]) == (3, 3)


def test_a_damaged_record_does_not_break_the_list(ours, store):
    """What is no date or no text counts as absent."""
    (sid,) = seed(store, 1, touched_at="yesterday", ip=7, permanent="yes", created_at=None)

    (info,) = ours.of_user("ada")
    assert (info.sid, info.touched_at, info.ip, info.permanent) == (sid, None, None, False)


def test_the_device_is_listed_where_it_is_kept(make_app):
    """With SESSION_TRACK_DEVICE the list says from where and with what; truncated, only the network."""
    app = make_app(SESSION_TRACK_DEVICE="truncated")
    app.add_url_rule("/in", view_func=lambda: session.update(user_id="ada") or "in")
    app.test_client().get("/in", headers={"User-Agent": "Browser/1"}, environ_base={"REMOTE_ADDR": "192.0.2.77"})

    (info,) = app.extensions["sessions"].of_user("ada")
    assert (info.ip, info.user_agent) == ("192.0.2.0/24", "Browser/1")


# -- ending one -------------------------------------------------------------------------------------------------------


def test_revoke_ends_the_session(ours, log_in, destroyed):
    """The browser is logged out at its next request, and it is announced once."""
    browser, sid = log_in()

    assert ours.revoke(sid)
    assert browser.get("/read/user_id").text == "None"
    assert destroyed == [(sid, "revoked")]
    assert not ours.revoke(sid)


@pytest.mark.parametrize("handle", ["made-up", "", None, {"$ne": None}, ["x"]])
def test_revoke_of_nothing_changes_nothing(ours, log_in, sessions, destroyed, handle):
    """What is no id of a live session is refused: not an error, and no operator."""
    log_in()

    assert not ours.revoke(handle)
    assert sessions.count_documents({}) == 1
    assert destroyed == []


def test_revoke_with_a_user_never_touches_another_users(ours, log_in, destroyed):
    """The filter holds both, so that a foreign id is as unknown as a made-up one."""
    browser, sid = log_in("bob")

    assert not ours.revoke(sid, user_id="ada")
    assert browser.get("/read/user_id").text == "bob"
    assert ours.revoke(sid, user_id="bob")
    assert destroyed == [(sid, "revoked")]


def test_revoke_of_an_expired_session_is_refused(ours, log_in, move_clock, destroyed):
    """It does not exist any more, swept or not."""
    _, sid = log_in()
    move_clock(32 * 86400)

    assert not ours.revoke(sid)
    assert destroyed == []


def test_revoke_follows_a_rotation(ours, log_in):
    """An id from before a rotation of the last seconds still ends the session, wherever it went."""
    browser, sid = log_in()
    browser.get("/rotate")

    assert ours.revoke(sid, user_id="ada")
    assert browser.get("/read/user_id").text == "None"


def test_an_id_from_before_an_old_rotation_is_unknown(ours, log_in, move_clock, destroyed):
    """Swept or not: what a rotation left behind counts for ten seconds."""
    browser, sid = log_in()
    browser.get("/rotate")
    move_clock(11)

    assert not ours.revoke(sid)
    assert (browser.get("/read/user_id").text, destroyed) == ("ada", [])


# -- ending all -------------------------------------------------------------------------------------------------------


def test_revoke_user_ends_all_but_the_kept_one(ours, log_in, destroyed):
    """It counts and announces those that it ended; other users keep theirs."""
    kept, keep = log_in()
    others = [log_in() for _ in range(3)]
    bob, _ = log_in("bob")

    assert ours.revoke_user("ada", keep=keep) == 3
    assert [browser.get("/read/user_id").text for browser, _ in others] == ["None"] * 3
    assert [browser.get("/read/user_id").text for browser in (kept, bob)] == ["ada", "bob"]
    assert sorted(destroyed) == sorted((sid, "revoked") for _, sid in others)
    assert ours.revoke_user("ada", keep=keep) == 0


@pytest.mark.parametrize("nobody", [None, ""])
def test_revoke_user_of_nobody_is_a_mistake(ours, nobody):
    """A missing user is told at once: nothing would be ended, silently."""
    with pytest.raises(TypeError, match="nobody"):
        ours.revoke_user(nobody)


def test_expired_sessions_are_not_counted(ours, store):
    """They are removed with the others, but there were none."""
    seed(store, 2, expires_at=store.now() - dt.timedelta(seconds=1))

    assert ours.revoke_user("ada") == 0
    assert store.collection.count_documents({}) == 0


def test_old_rotations_are_not_followed(ours, log_in, move_clock, commands, sessions):
    """What they left behind may lie there unswept, but nothing can come of it any more; the kept one is found by it."""
    browser, keep = log_in()
    for _ in range(5):
        browser.get("/rotate")
    log_in()
    move_clock(11)
    commands.clear()

    assert ours.revoke_user("ada", keep=keep) == 1
    assert commands.names == ["find", "find", "delete", "find"]
    assert browser.get("/read/user_id").text == "ada"


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_revoke_user_meets_a_rotation_wherever_it_is(ours, store, moment):
    """Before its first half, between the halves, after the second: nothing of the session survives."""
    (sid,) = seed(store, 1)
    successor, now = session_id(new_token()), store.now()
    frame = Metadata(now=now, expires_at=now + dt.timedelta(hours=1), user_id="ada")

    if moment == "before":
        assert ours.revoke_user("ada") == 1
    assert isinstance(store.retire(sid, successor, "ada", now), StoredSession) is (moment != "before")
    if moment == "between":
        ours.revoke_user("ada")
    if moment != "before":
        assert store.succeed(sid, successor, {"user_id": "ada"}, frame) is (moment == "after")
    if moment == "after":
        assert ours.revoke_user("ada") == 1

    assert store.all() == {}
    assert ours.of_user("ada") == []


def test_a_rotation_that_took_the_time_earlier_cannot_revive(ours, store):
    """A tombstone is dead for a request, too, whose now lies a moment before the end."""
    (sid,) = seed(store, 1)
    earlier = store.now()
    store.bury(sid)

    assert not isinstance(store.retire(sid, session_id(new_token()), "ada", earlier), StoredSession)


@pytest.mark.parametrize("halves", [1, 2])
def test_a_kept_session_that_rotates_is_kept(ours, store, halves):
    """Its successor is spared, stored or about to be, and so is the log-in's that led to it."""
    anonymous, keep, successor = [*seed(store, 1, user=None), session_id(new_token()), session_id(new_token())]
    now = store.now()
    frame = Metadata(now=now, expires_at=now + dt.timedelta(hours=1), user_id="ada")
    store.retire(anonymous, keep, "ada", now)
    assert store.succeed(anonymous, keep, {"user_id": "ada"}, frame)
    store.retire(keep, successor, "ada", now)
    if halves == 2:
        assert store.succeed(keep, successor, {"user_id": "ada"}, frame)
    seed(store, 2)

    assert ours.revoke_user("ada", keep=keep) == 2
    if halves == 1:
        assert store.succeed(keep, successor, {"user_id": "ada"}, frame)
    assert [info.sid for info in ours.of_user("ada")] == [successor]


@pytest.fixture
def busy(app, log_in):
    """Eight browsers of one user and a ninth, whose session's id comes first, that write or rotate all the time."""
    done, errors = threading.Event(), []
    kept, keep = log_in()
    browsers = [log_in()[0] for _ in range(8)]

    def use(browser, paths):
        try:
            while not done.is_set():
                for path in paths:
                    browser.get(path)
        except Exception as error:
            errors.append(error)

    paths = [["/rotate"], ["/write/a/1", "/read/user_id"]]
    threads = [threading.Thread(target=use, args=(browser, paths[i % 2])) for i, browser in enumerate(browsers)]
    threads.append(threading.Thread(target=use, args=(kept, ["/rotate"])))
    for thread in threads:
        thread.start()

    def stop():
        done.set()
        for thread in threads:
            thread.join(20)
        return errors

    yield keep, kept, browsers, stop
    stop()


@pytest.mark.parametrize("others", [0, pytest.param(100_000, marks=pytest.mark.soak)])
def test_no_session_survives_while_eight_threads_write(ours, store, busy, others):
    """A thousand sessions are ended in less than a second, those too that write or rotate all the time; one is kept.

    The kept one's id is from before its rotations, whose trail lies there for ten seconds.
    """
    keep, kept, browsers, stop = busy
    store.ensure_indexes()
    for start in range(0, others, 10_000):
        seed(store, 10_000, f"others-{start}")
    seed(store, 1_000)

    began = time.monotonic()
    count = ours.revoke_user("ada", keep=keep)
    seconds = time.monotonic() - began
    errors = stop()

    assert not errors
    assert count >= 1_000
    assert {browser.get("/read/user_id").text for browser in browsers} == {"None"}
    assert len(ours.of_user("ada")) == 1
    assert kept.get("/read/user_id").text == "ada"
    print(f"revoke_user of 1,000 of {others} more while eight threads write: {seconds:.3f} s")  # noqa: T201
    assert seconds < 1 or os.getloadavg()[0] > 2 * os.cpu_count(), "too slow, and nobody else keeps the machine busy"


# -- a limited number -------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(make_app):
    """Makes an application with SESSION_MAX_PER_USER."""

    def make(limit, **config):
        app = make_app(SESSION_MAX_PER_USER=limit, **config)

        @app.get("/login/<user>")
        def login(user):
            session["user_id"] = user
            return user

        @app.get("/set/<key>")
        def put(key):
            session[key] = key
            return key

        @app.get("/who")
        def who():
            return str(session.get("user_id"))

        @app.get("/cart")
        def cart():
            return str(session.get("cart"))

        return app

    return make


def test_without_a_limit_a_log_in_costs_what_it_costs(app, commands):
    """No command is sent for a limit that nobody set."""
    browser = app.test_client()
    browser.get("/login/ada")

    assert commands.names == ["insert"]


@pytest.mark.parametrize(
    ("policy", "sent"), [("oldest", ["insert", "find"]), ("refuse", ["aggregate", "insert", "find"])]
)
def test_a_limit_costs_a_query_or_two_at_log_in(limited, commands, policy, sent):
    """And nothing at any other request."""
    browser = limited((2, policy)).test_client()
    browser.get("/login/ada")
    assert commands.names == sent

    commands.clear()
    browser.get("/set/cart")
    assert commands.names == ["update"]


@pytest.mark.parametrize("rotate", [True, False])
def test_oldest_gives_way(limited, move_clock, rotate):
    """The log-in that is one too many ends the oldest session of that user, and only of that one."""
    app = limited((2, "oldest"), SESSION_ROTATE_ON_LOGIN=rotate)
    browsers = [app.test_client() for _ in range(4)]
    browsers[0].get("/login/bob")
    for browser in browsers[1:]:
        browser.get("/set/cart")
        browser.get("/login/ada")
        move_clock(5)

    assert [browser.get("/who").text for browser in browsers] == ["bob", "None", "ada", "ada"]
    assert browsers[3].get("/cart").text == "cart"


@pytest.mark.parametrize("rotate", [True, False])
def test_refuse_refuses_the_new_one(limited, move_clock, rotate):
    """A 403 through the application's own handler; the browser stays what it was, with what it had."""
    app = limited((1, "refuse"), SESSION_ROTATE_ON_LOGIN=rotate)
    app.register_error_handler(TooManySessions, lambda error: (f"{error.limit} allowed", 403))
    first, second = app.test_client(), app.test_client()
    first.get("/login/ada")
    second.get("/set/cart")

    refused = second.get("/login/ada")
    assert (refused.status_code, refused.text, refused.headers["Cache-Control"]) == (403, "1 allowed", "no-store")
    assert "Set-Cookie" not in refused.headers
    assert [browser.get("/who").text for browser in (first, second)] == ["ada", "None"]
    assert second.get("/cart").text == "cart"

    move_clock(32 * 86400)
    assert second.get("/login/ada").status_code == 200


def test_refuse_without_a_handler_is_a_403(limited):
    """The answer says what to do, and a browser without a cookie gets none."""
    app = limited((1, "refuse"))
    app.test_client().get("/login/ada")
    refused = app.test_client().get("/login/ada")

    assert refused.status_code == 403
    assert "too many devices" in refused.text
    assert "Set-Cookie" not in refused.headers


@pytest.mark.parametrize("policy", ["oldest", "refuse"])
def test_parallel_log_ins_keep_the_limit(limited, policy):
    """Of twelve at once as many remain as are allowed, neither more nor fewer."""
    app = limited((3, policy))
    barrier, statuses = threading.Barrier(12), []

    def log_in():
        barrier.wait(10)
        statuses.append(app.test_client().get("/login/ada").status_code)

    threads = [threading.Thread(target=log_in) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(app.extensions["sessions"].of_user("ada")) == 3
    assert len(statuses) == 12
    assert set(statuses) <= {200, 403}


def test_a_refusal_that_comes_late_logs_nobody_in(limited, monkeypatch):
    """Where two log-ins pass the first look together, the later one ends itself."""
    app = limited((1, "refuse"))
    app.test_client().get("/login/ada")
    monkeypatch.setattr("flask_mongo_session.storage.user_sessions.UserSessions.check_room", lambda *_: None)
    browser = app.test_client()

    assert browser.get("/login/ada").status_code == 403
    assert browser.get("/who").text == "None"
    assert len(app.extensions["sessions"].of_user("ada")) == 1


# -- recently authenticated -------------------------------------------------------------------------------------------


@pytest.fixture
def dangerous(app, ours):
    """Views that want a recent authentication."""

    @app.route("/danger", methods=["GET", "POST"])
    @fresh_session(300)
    def danger():
        return "done"

    @app.route("/danger/<path:rest>", methods=["GET", "POST"])
    @fresh_session(300, endpoint="again")
    def redirected(rest):
        return "done"

    @app.get("/again")
    def again():
        session.confirm()
        return "confirmed"

    return ours


def test_fresh_session_lets_pass_after_log_in_and_confirmation(dangerous, app, log_in, move_clock):
    """For so many seconds; then a 401, until the user is authenticated again."""
    browser, _ = log_in()
    assert browser.get("/danger").text == "done"

    move_clock(301)
    assert browser.get("/danger").status_code == 401
    browser.get("/again")
    assert browser.get("/danger").text == "done"
    assert app.test_client().get("/danger").status_code == 401


def test_the_handler_answers_instead(dangerous, app):
    """What `needs_refresh_handler` was given decides."""

    @dangerous.needs_refresh_handler
    def ask():
        return "who are you?", 418

    answer = app.test_client().get("/danger")
    assert (answer.status_code, answer.text) == (418, "who are you?")


@pytest.mark.parametrize(
    ("method", "path", "location"),
    [
        ("GET", "/danger/x?a=1", "/again?next=/danger/x?a%3D1"),
        ("GET", "/danger/x", "/again?next=/danger/x"),
        ("POST", "/danger/x", "/again"),
    ],
)
def test_the_way_back_is_a_path_of_this_host(dangerous, app, method, path, location):
    """`next` leads back to the page, never to another host, and never repeats a POST."""
    answer = app.test_client().open(path, method=method)

    assert answer.status_code == 302
    assert answer.headers["Location"] == location


@pytest.mark.parametrize("path", ["/%5Cevil.example/x", "///evil.example/x", "/%5c/evil.example/x"])
def test_what_browsers_take_for_a_host_is_no_way_back(app, path):
    """Two slashes, or a slash and a backslash, at the beginning of a path would lead to another host."""

    @app.get("/<path:rest>")
    @fresh_session(300, endpoint="untouched")
    def anything(rest):
        return "done"

    app.url_map.merge_slashes = False
    answer = app.test_client().get(path, base_url="http://shop.example")

    assert answer.headers["Location"] == "/untouched?next=/evil.example/x"


def test_fresh_follows_the_clock_of_a_new_connection(dangerous, app, ours, log_in, move_clock):
    """After a fork the connection measures anew, and what counts is what it measured."""
    browser, _ = log_in()
    ours.store.connection.reset_after_fork()
    browser.get("/read/x")
    move_clock(301)

    assert browser.get("/danger").status_code == 401


# -- privacy ----------------------------------------------------------------------------------------------------------


def test_export_holds_everything_and_is_json(make_app):
    """All keys of all sessions of the user, declared and free-form, in plain JSON; no token."""
    app = make_app(model=Declared)
    product = bson.ObjectId()

    @app.get("/fill")
    def fill():
        session.update(user_id=7, theme="dark", cart=[product], line=Line(name="mug"))
        session.update(when=dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc), raw=b"\x00\xff", pair=(1, {2}))
        session.update(shown=Markup("<b>"), nan=float("nan"), keyed={1: "one"})
        return ""

    @app.get("/token")
    def token():
        return session.token

    browser = app.test_client()
    browser.get("/fill")
    exported = app.extensions["sessions"].export_user(7)

    text = json.dumps(exported, allow_nan=False)
    assert browser.get("/token").text not in text
    (only,) = exported["sessions"]
    assert only["data"] == {
        "user_id": 7,
        "theme": "dark",
        "cart": [str(product)],
        "line": {"name": "mug"},
        "when": "2024-01-02T00:00:00+00:00",
        "raw": "AP8=",
        "pair": [1, [2]],
        "shown": "<b>",
        "nan": "nan",
        "keyed": {"1": "one"},
    }
    assert only["user_id"] == exported["user_id"] == "7"
    assert only["expires_at"] > exported["exported_at"]


def test_export_opens_what_is_encrypted(make_app, sessions):
    """It is the user's own data, whatever keeps it from others in the database."""
    app = make_app(SESSION_ENCRYPTION_KEYS=["0" * 64])
    app.add_url_rule("/fill", view_func=lambda: session.update(user_id="ada", secret="plans") or "")
    app.test_client().get("/fill")

    (only,) = app.extensions["sessions"].export_user("ada")["sessions"]
    assert only["data"] == {"user_id": "ada", "secret": "plans"}
    assert "plans" not in str(sessions.find_one())


def test_two_applications_keep_apart(make_app, database):
    """One extension for two databases answers for the application whose context it is in, and asks for one."""
    first = make_app()
    ours = first.extensions["sessions"]
    second = Flask("second")
    second.config.update(first.config, SESSION_MONGODB_DB=f"{database.name}_2")
    ours.init_app(second)
    try:
        seed(second.extensions["mongo_session"].store, 1)
        with first.app_context():
            assert (ours.of_user("ada"), ours.revoke_user("ada"), Session.objects.live().count()) == ([], 0, 0)
        with second.app_context():
            assert (len(ours.of_user("ada")), Session.objects.of_user("ada").count()) == (1, 1)
        with pytest.raises(RuntimeError, match="several applications"):
            ours.of_user("ada")
    finally:
        database.client.drop_database(f"{database.name}_2")


def test_export_tells_of_damaged_and_expired_records(ours, store):
    """They are stored under the user's name, so they belong to it."""
    seed(store, 1, data="broken")
    seed(store, 1, expires_at=store.now() - dt.timedelta(days=1))

    exported = ours.export_user("ada")["sessions"]
    assert sorted("damaged" in one for one in exported) == [False, True]


def test_erase_leaves_nothing_with_the_users_name(ours, store, log_in, sessions):
    """Live, expired, and the marks of rotations; other users' stay, and logged-in browsers are logged out."""
    browser, _ = log_in()
    browser.get("/rotate")
    seed(store, 2)
    seed(store, 1, expires_at=store.now() - dt.timedelta(days=1))
    seed(store, 1, "bob")

    assert ours.erase_user("ada") == 3
    assert [record["user_id"] for record in sessions.find({"user_id": {"$exists": True}})] == ["bob"]
    assert browser.get("/read/user_id").text == "None"


def test_describe_masks_what_is_hidden(make_app):
    """SESSION_ADMIN_HIDE keys show that they are there, not what they hold; an unknown id has no description."""
    app = make_app(SESSION_ADMIN_HIDE=("card",))
    app.add_url_rule("/fill", view_func=lambda: session.update(user_id="ada", card="4111", plain=1) or "")
    app.test_client().get("/fill")
    ours = app.extensions["sessions"]
    (info,) = ours.of_user("ada")

    assert ours.describe(info.sid)["data"] == {"user_id": "ada", "card": "•••", "plain": 1}
    assert ours.describe("made-up") is None
    assert ours.describe({"$ne": None}) is None


# -- figures ----------------------------------------------------------------------------------------------------------


def test_figures_count_what_is_there(ours, store):
    """Live and expired, by activity, by hour, by size, by user; nothing is estimated where there are few."""
    now = store.now()
    seed(store, 3)
    seed(store, 1, "bob", touched_at=now - dt.timedelta(minutes=30))
    seed(store, 1, "eve", touched_at=now - dt.timedelta(hours=30), data={"a": "x" * 5_000})
    seed(store, 2, "old", expires_at=now - dt.timedelta(seconds=1))
    seed(store, 1, None, created_at="never", touched_at=None)

    figures = ours.figures()
    assert (figures.live, figures.expired, figures.with_user, figures.estimated) == (6, 2, 5, False)
    assert figures.active == [("5 minutes", 3), ("1 hour", 4), ("24 hours", 4)]
    assert sum(count for _, count in figures.created) == 5
    assert sum(count for _, count in figures.expiring) == 6
    assert dict(figures.sizes)["< 16 KiB"] == 1
    assert figures.per_user == [("1", 67), ("2", 0), ("3–5", 33), ("6–10", 0), ("11 +", 0)]


def test_figures_of_nothing(ours):
    """An empty collection has figures, too."""
    figures = ours.figures()

    assert (figures.live, figures.average_size, figures.sweeps) == (0, 0, [])


def test_figures_of_many_are_estimated(ours, store):
    """Beyond a few thousand sessions the shape comes from a sample, scaled to all of them."""
    seed(store, 6_000)
    seed(store, 2_000, "bob", touched_at=store.now() - dt.timedelta(minutes=30))

    figures = ours.figures()
    assert (figures.live, figures.estimated) == (8_000, True)
    assert dict(figures.active)["5 minutes"] == pytest.approx(6_000, rel=0.1)
    assert dict(figures.active)["1 hour"] == 8_000


# -- queries ----------------------------------------------------------------------------------------------------------


def test_a_model_query_in_a_plain_view(app, ours, log_in, move_clock):
    """The model's own manager counts and filters in any view, by the database's clock."""

    @app.get("/live/<user>")
    def live(user):
        return {
            "live": Session.objects.live().count(),
            "theirs": [str(found.id) for found in Session.objects.of_user(user)],
            "expired": Session.objects.expired().count(),
        }

    _, sid = log_in()
    log_in("bob")
    assert app.test_client().get("/live/ada").json == {"live": 2, "theirs": [sid], "expired": 0}

    move_clock(32 * 86400)
    assert app.test_client().get("/live/ada").json == {"live": 0, "theirs": [], "expired": 2}
