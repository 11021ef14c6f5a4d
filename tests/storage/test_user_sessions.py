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
    new_session_id,
    session_destroyed,
)
from flask_mongo_session.document.standing import Standing
from flask_mongo_session.mongo import clock
from flask_mongo_session.storage.repository import tombstone
from flask_mongo_session.storage.user_sessions import ANYBODY, UserSessions


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
        return session.sid

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

    def receive(sender, sid, reason, actor):
        heard.append((sid, reason))

    with session_destroyed.connected_to(receive):
        yield heard


def seed(store, count, user="ada", **fields):
    """Live sessions straight into the collection; their ids."""
    now = store.now()
    ids = [new_session_id() for _ in range(count)]
    base = {"user_id": user, "created_at": now, "touched_at": now, "expires_at": now + dt.timedelta(hours=1)}
    documents = [{"_id": sid, "data": {"user_id": user}, **base, **fields} for sid in ids]
    store.collection.insert_many(documents)
    return ids


def revoke_all(ours, keep=None):
    """End everybody's sessions."""
    return UserSessions(ours.store.repository).end_all(ANYBODY, keep)


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
    assert sessions.count_documents({"ended_at": None}) == 1
    assert destroyed == []


def test_revoke_for_nobody_ends_nothing(ours, log_in):
    """A user that turned out to be None is not "anybody": leaving *user_id* out is."""
    browser, sid = log_in()

    assert not ours.revoke(sid, user_id=None)
    assert not ours.revoke(sid, user_id="")
    assert browser.get("/read/user_id").text == "ada"


ENDINGS = {
    "revoke": lambda ours, sid: ours.revoke(sid),
    "revoke for the user": lambda ours, sid: ours.revoke(sid, user_id="ada"),
    "revoke_user": lambda ours, _: ours.revoke_user("ada"),
    "revoke all": lambda ours, _: revoke_all(ours),
    "erase_user": lambda ours, _: ours.erase_user("ada"),
}


@pytest.fixture(params=[False, True], ids=["unheard", "heard"])
def heard(request):
    """With and without somebody who wants to hear of each session that ends, since the commands differ."""
    if not request.param:
        yield
        return
    with session_destroyed.connected_to(lambda *_, **__: None):
        yield


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_a_tombstone_says_nothing_about_anybody(ours, log_in, sessions, store, end):
    """A session that was ended leaves its id and two dates; a revocation counts as ten seconds old: nobody waits."""
    browser, sid = log_in(**{"User-Agent": "Browser/1"})
    before = store.now()
    end(ours, sid)
    after = store.now()

    (left,) = store.collection.find()
    assert set(left) == {"_id", "ended_at", "expires_at"}
    assert left["_id"] == sid
    assert before <= left["ended_at"] + dt.timedelta(seconds=10) <= after
    assert left["ended_at"] - left["expires_at"] == dt.timedelta(seconds=10)
    browser.get("/write/form/token")
    assert browser.get("/read/form").text == "token", "a log-in page works at once"


def test_a_log_out_by_the_user_counts_from_now(ours, log_in, store):
    """What its page sent at the same time is told so, for ten seconds."""
    browser, _ = log_in()
    before = store.now()
    browser.get("/logout")

    (left,) = store.collection.find()
    assert before <= left["ended_at"] <= store.now()
    assert set(left) == {"_id", "ended_at", "expires_at"}


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_what_is_ended_is_not_ended_again(ours, log_in, store, end, move_clock):
    """A tombstone is left as it is, so that it is removed in time."""
    _, sid = log_in()
    end(ours, sid)
    left = store.collection.find_one()
    move_clock(60)

    assert not end(ours, sid)
    assert store.collection.find_one() == left


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


def test_revoke_finds_a_session_after_any_rotation(ours, log_in, move_clock, destroyed):
    """The id is for life."""
    browser, sid = log_in()
    browser.get("/rotate")
    move_clock(11)

    assert ours.revoke(sid, user_id="ada")
    assert browser.get("/read/user_id").text == "None"
    assert destroyed == [(sid, "revoked")]


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


def test_revoke_user_of_nobody(ours, store):
    """A missing user is a mistake, told at once; an empty one, which a client may send, has no sessions."""
    seed(store, 1, "")
    for call in (ours.revoke_user, ours.erase_user, ours.export_user):
        with pytest.raises(TypeError, match="nobody"):
            call(None)

    assert (ours.revoke_user(""), ours.erase_user(""), ours.of_user("")) == (0, 0, [])
    assert ours.export_user("")["sessions"] == []


@pytest.mark.parametrize("user", ["\ud800", "a\0b", "x" * 5_000, "$where", "é"], ids=ascii)
def test_any_text_may_name_a_user(ours, app, user):
    """Lone surrogates, too: listed, revoked and erased, never an error."""

    @app.get("/enter")
    def enter():
        session["user_id"] = user
        return ""

    browser = app.test_client()
    browser.get("/enter")
    assert len(ours.of_user(user)) == 1
    with app.app_context():
        assert Session.objects.of_user(user).count() == 1
    assert ours.revoke_user(user) == 1
    assert ours.erase_user(user) == 0


def test_expired_sessions_are_not_counted(ours, store):
    """There were none; the sweep takes them."""
    seed(store, 2, expires_at=store.now() - dt.timedelta(seconds=1))

    assert ours.revoke_user("ada") == 0
    assert store.count_expired() == 2


@pytest.mark.parametrize("heard", [False, True])
def test_revoking_many(ours, store, commands, heard):
    """Without a receiver it is one update and one that finds no more; with one each is heard of.

    Beside the sessions the user's mark is moved, and who did it is recorded.
    """
    ids = seed(store, 2_500)
    seed(store, 3, "bob")
    store.ensure_indexes()
    commands.clear()
    seen = []
    if heard:
        with session_destroyed.connected_to(lambda _sender, sid, **_: seen.append(sid)):
            assert ours.revoke_user("ada") == 2_500
        assert sorted(seen) == sorted(ids)
    else:
        assert ours.revoke_user("ada") == 2_500
        ended = [sent for sent in commands.sent if sent.get("update") == "sessions"]
        assert len(ended) == 2
        assert ended[0]["updates"][0]["hint"] == {"user_id": 1}
        beside = ["update sessions_revocations", "insert sessions_audit", "update sessions_audit"]
        assert [f"{name} {sent[name]}" for name, sent in zip(commands.names, commands.sent, strict=True)] == [
            *beside[:2],
            *["update sessions"] * 2,
            beside[2],
        ]
    assert store.collection.count_documents({"ended_at": None}) == 3


def test_revoking_without_the_index(ours, store):
    """Slower, but complete."""
    seed(store, 30)
    assert ours.revoke_user("ada") == 30


@pytest.mark.usefixtures("heard")
def test_revoking_everybody(ours, store, log_in):
    """All live sessions end, but the one that is kept: whose they are does not matter."""
    browser, keep = log_in()
    seed(store, 5, "bob")
    seed(store, 5, None)
    seed(store, 2, expires_at=store.now() - dt.timedelta(seconds=1))

    assert revoke_all(ours, keep) == 10
    assert browser.get("/read/user_id").text == "ada"
    assert (revoke_all(ours), revoke_all(ours)) == (1, 0)
    assert store.count_expired() == 2


def write():
    session["late"] = 1


UNDER_WAY = {
    "reads only": lambda: session.get("user_id"),
    "writes": write,
    "reads and writes": lambda: session.update(late=session.get("user_id")),
    "changes in place": lambda: session.setdefault("list", []).append(1),
    "increments": lambda: session.increment("clicks"),
    "appends": lambda: session.append("seen", "mug"),
    "regenerates": lambda: session.regenerate(),  # noqa: PLW0108 - the session of the request
    "confirms": lambda: session.confirm(),  # noqa: PLW0108 - the session of the request
    "becomes permanent": lambda: setattr(session, "permanent", True),
    "removes": lambda: session.pop("n", None),
    "logs out": lambda: session.clear(),  # noqa: PLW0108 - the session of the request
}


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("loads", [False, True], ids=["not loaded", "loaded"])
@pytest.mark.parametrize("act", UNDER_WAY.values(), ids=UNDER_WAY)
@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_a_request_under_way_does_not_revive_the_session(app, ours, log_in, *, end, act, loads):
    """However it is ended: what the request had loaded and changes is dropped, and nobody is logged in afterwards."""
    ends = []

    @app.get("/slow")
    def slow():
        if loads:
            assert session["user_id"] == "ada"
        ends[0]()
        act()
        return ""

    browser, sid = log_in()
    browser.get("/write/n/1")
    ends.append(lambda: end(ours, sid))
    answer = browser.get("/slow")

    assert answer.status_code == 200
    assert browser.get("/read/user_id").text == "None"
    assert [info for info in ours.recent() if info.user_id or info.sid == sid] == []
    if loads:
        assert "Set-Cookie" not in answer.headers
        assert ours.recent() == []


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_a_log_in_under_way_stands(app, ours, log_in, end):
    """Who proves who they are while their old session is ended gets a new one."""
    ends = []

    @app.get("/slow")
    def slow():
        assert session["user_id"] == "ada"
        ends[0]()
        session["user_id"] = "eve"
        return ""

    browser, sid = log_in()
    ends.append(lambda: end(ours, sid))
    browser.get("/slow")

    assert browser.get("/read/user_id").text == "eve"
    assert [info.sid == sid for info in ours.of_user("eve")] == [False]


def test_a_slow_request_is_told_that_it_was_overtaken(ours, store, log_in, move_clock):
    """The tombstone is there as long as any request takes: what such a request writes without reading starts nothing.

    A request that began after the end is as good as a stranger's.
    """
    _, sid = log_in()
    token, began = store.collection.find_one()["token"], clock.boottime()
    ours.revoke(sid)

    for passed in (0, 60, 830):
        move_clock(passed)
        assert store.repository.find(sid, token, began - 1).standing is Standing.SUPERSEDED
        assert store.repository.find(sid, token, clock.boottime()).standing is Standing.GONE


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
    """A thousand sessions are ended in less than a second, those too that write or rotate all the time; one is kept."""
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


def test_oldest_gives_way(limited, move_clock):
    """The log-in that is one too many ends the oldest session of that user, and only of that one."""
    app = limited((2, "oldest"))
    browsers = [app.test_client() for _ in range(4)]
    browsers[0].get("/login/bob")
    for browser in browsers[1:]:
        browser.get("/set/cart")
        browser.get("/login/ada")
        move_clock(5)

    assert [browser.get("/who").text for browser in browsers] == ["bob", "None", "ada", "ada"]
    assert browsers[3].get("/cart").text == "cart"


def test_refuse_refuses_the_new_one(limited, move_clock):
    """A 403 through the application's own handler; the browser stays what it was, with what it had."""
    app = limited((1, "refuse"))
    app.register_error_handler(TooManySessions, lambda error: (f"{error.limit} allowed", 403))
    first, second = app.test_client(), app.test_client()
    first.get("/login/ada")
    second.get("/set/cart")

    refused = second.get("/login/ada")
    assert (refused.status_code, refused.text) == (403, "1 allowed")
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
    assert refused.headers["Cache-Control"] == "no-store"
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
    """Where two log-ins pass the first look together, the later one takes its user out again; the data stays."""
    app = limited((1, "refuse"))
    app.test_client().get("/login/ada")
    monkeypatch.setattr("flask_mongo_session.session.limit.SessionLimit.check_room", lambda *_: None)
    browser = app.test_client()
    browser.get("/set/cart")

    assert browser.get("/login/ada").status_code == 403
    assert browser.get("/who").text == "None"
    assert browser.get("/cart").text == "cart"
    assert len(app.extensions["sessions"].of_user("ada")) == 1


def test_a_late_refusal_of_a_first_visit(limited, monkeypatch):
    """Without any session before, too: what was stored holds no user."""
    app = limited((1, "refuse"))
    app.test_client().get("/login/ada")
    monkeypatch.setattr("flask_mongo_session.session.limit.SessionLimit.check_room", lambda *_: None)
    browser = app.test_client()

    assert browser.get("/login/ada").status_code == 403
    assert browser.get("/who").text == "None"
    assert len(app.extensions["sessions"].of_user("ada")) == 1
    assert app.extensions["sessions"].export_user("ada")["sessions"][0]["data"] == {"user_id": "ada"}


def test_a_refusal_comes_before_the_view_goes_on(limited):
    """It raises where the user key is assigned: nothing that follows a log-in happens, and who was there stays."""
    app, went_on = limited((1, "refuse")), []

    @app.get("/switch/<user>")
    def switch(user):
        session["user_id"] = user
        went_on.append(user)
        return ""

    app.test_client().get("/login/ada")
    browser = app.test_client()
    browser.get("/login/bob")

    assert browser.get("/switch/ada").status_code == 403
    assert went_on == []
    assert browser.get("/who").text == "bob"


@pytest.mark.parametrize("policy", ["oldest", "refuse"])
def test_logging_in_again_in_one_browser_always_works(limited, policy):
    """The session that the cookie names is the first to give way."""
    browser = limited((1, policy)).test_client()
    for _ in range(3):
        assert browser.get("/login/ada").status_code == 200
        assert browser.get("/login/bob").status_code == 200
    assert browser.get("/who").text == "bob"


@pytest.mark.parametrize("policy", ["oldest", "refuse"])
def test_a_clock_that_went_back_locks_nobody_out(limited, sessions, policy):
    """A log-in from the future counts as the oldest."""
    app = limited((1, "oldest"))
    first, second = app.test_client(), app.test_client()
    first.get("/login/ada")
    sessions.update_many({}, {"$set": {"authenticated_at": dt.datetime(2999, 1, 1, tzinfo=dt.timezone.utc)}})
    second.get("/login/ada")

    assert [first.get("/who").text, second.get("/who").text] == ["None", "ada"]
    app.extensions["sessions"].revoke_user("ada")
    assert limited((1, policy)).test_client().get("/login/ada").status_code == 200


@pytest.mark.parametrize(("seconds", "who"), [(9, ["ada", "None"]), (11, ["None", "ada"])])
def test_clocks_may_differ_by_ten_seconds(limited, sessions, store, seconds, who):
    """A log-in from so near a future still counts as the newer; from beyond it as the oldest."""
    app = limited((1, "oldest"))
    first, second = app.test_client(), app.test_client()
    first.get("/login/ada")
    sessions.update_many({}, {"$set": {"authenticated_at": store.now() + dt.timedelta(seconds=seconds)}})
    second.get("/login/ada")

    assert [first.get("/who").text, second.get("/who").text] == who


@pytest.mark.parametrize("policy", ["oldest", "refuse"])
def test_a_double_click_on_log_in_is_not_two_devices(limited, policy):
    """The session that the second log-in leaves behind in the same browser gives way, not another browser's."""
    app = limited((2, policy))
    other, browser, twin = (app.test_client() for _ in range(3))
    clicks = [lambda: twin.get("/login/ada")]

    @app.get("/click")
    def click():
        kept = session["cart"]
        clicks[0]()
        session["user_id"] = "ada"
        return kept

    other.get("/login/ada")
    browser.get("/set/cart")
    twin.set_cookie("session", browser.get_cookie("session").value)

    assert browser.get("/click").status_code == 200
    assert [one.get("/who").text for one in (other, browser)] == ["ada", "ada"]
    assert browser.get("/cart").text == "cart"
    assert len(app.extensions["sessions"].of_user("ada")) == 2


def test_an_empty_name_is_nobody(limited, sessions):
    """Visitors whose user key is empty are not counted as one user."""
    app = limited((1, "refuse"))
    app.add_url_rule("/nobody", "nobody", lambda: session.update(user_id="") or "")
    assert [app.test_client().get("/nobody").status_code for _ in range(3)] == [200] * 3
    assert sessions.count_documents({"user_id": {"$exists": True}}) == 0


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


@pytest.mark.parametrize(
    "path",
    ["/%5Cevil.example/x", "///evil.example/x", "/%5c/evil.example/x", "/%09/evil.example/x", "/%0a%5cevil.example/x"],
)
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


def test_erase_leaves_nothing_with_the_users_name(app, ours, store, log_in, sessions):
    """Live, expired, and what a log-out left behind; other users' stay, and logged-in browsers are logged out."""
    app.add_url_rule("/leave", "leave", lambda: session.pop("user_id"))
    browser, _ = log_in()
    browser.get("/rotate")
    left, _ = log_in()
    left.get("/write/a/1")
    left.get("/leave")
    assert sessions.count_documents({"last_user_id": "ada"}) == 1
    assert any(one["data"].get("a") == "1" for one in ours.export_user("ada")["sessions"])
    seed(store, 2)
    seed(store, 1, expires_at=store.now() - dt.timedelta(days=1))
    seed(store, 1, "bob")

    assert ours.erase_user("ada") == 3
    assert [record["user_id"] for record in sessions.find({"user_id": {"$exists": True}})] == ["bob"]
    assert sessions.count_documents({"last_user_id": {"$exists": True}}) == 0
    assert browser.get("/read/user_id").text == "None"


def test_erase_keeps_one(ours, store, log_in, sessions):
    """The session that the user asks from, its data and its name included; other users' tombstones stay, too."""
    browser, keep = log_in()
    seed(store, 2)
    left = seed(store, 1, None, last_user_id="ada")
    gone = seed(store, 1, None, last_user_id="ada", expires_at=store.now() - dt.timedelta(days=1))

    assert ours.erase_user("ada", keep=keep) == 2
    assert browser.get("/read/user_id").text == "ada"
    assert [record["_id"] for record in sessions.find({"ended_at": None})] == [keep]
    assert sessions.count_documents({"_id": {"$in": left}}) == 1, "as a tombstone"
    assert sessions.count_documents({"_id": {"$in": gone}}) == 0


def test_erase_is_heard_of(ours, store, destroyed):
    """Each session that was alive is announced once, those that the user left last among them."""
    live = [*seed(store, 2), *seed(store, 1, None, last_user_id="ada")]
    seed(store, 1, expires_at=store.now() - dt.timedelta(days=1))

    assert ours.erase_user("ada") == 2
    assert sorted(destroyed) == sorted((sid, "revoked") for sid in live)


@pytest.mark.parametrize("user", ["ada", 7, bson.ObjectId("0" * 24)], ids=repr)
def test_export_finds_what_a_log_out_left(app, ours, user):
    """After a log-out that keeps the data they are still the user's; until somebody logs in or clears."""
    app.add_url_rule("/in", "in", lambda: session.update(user_id=user, note="mine") or "")
    app.add_url_rule("/leave", "leave", lambda: session.pop("user_id") and "")
    browser = app.test_client()
    browser.get("/in")
    browser.get("/leave")

    assert ours.of_user(user) == []
    assert ours.revoke_user(user) == 0
    (only,) = ours.export_user(user)["sessions"]
    assert only["data"] == {"note": "mine"}
    assert "user_id" not in only
    browser.get("/login/bob")
    assert ours.export_user(user)["sessions"] == []
    assert ours.export_user("bob")["sessions"][0]["data"] == {"user_id": "bob"}


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


def test_figures_leave_tombstones_out(ours, store, sessions):
    """What ended sessions leave is neither live nor expired, whether few are counted or many are estimated."""
    now = store.now()
    seed(store, 3)
    seed(store, 2, expires_at=now - dt.timedelta(seconds=1))
    sessions.insert_many([{"_id": f"ended{n}", **tombstone(now)} for n in range(50)])
    figures = ours.figures()
    assert (figures.live, figures.expired, figures.with_user, figures.estimated) == (3, 2, 3, False)

    seed(store, 6_000)
    sessions.insert_many([{"_id": f"more{n}", **tombstone(now)} for n in range(1_000)])
    figures = ours.figures()
    assert (figures.live, figures.expired, figures.estimated) == (6_003, 2, True)
    assert (figures.with_user, dict(figures.active)["5 minutes"]) == (6_003, 6_003)


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
