"""Ending everybody's sessions, and the record of who ended what."""

from __future__ import annotations

import datetime as dt
import os
import random
import threading
import time

import pytest
from flask import session

from flask_mongo_session import new_session_id, session_destroyed
from flask_mongo_session.storage.audit import Actor, AuditLog
from flask_mongo_session.storage.marks import UNDER_WAY

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def ours(app):
    """The extension of :func:`app`, with a view that tells the session's id, and a log-in that takes its time."""
    app.add_url_rule("/sid", "sid", lambda: session.sid)

    @app.get("/slow/<user>/<float:seconds>")
    def slow(user, seconds):
        session["user_id"] = user
        time.sleep(seconds)
        return session.sid

    return app.extensions["sessions"]


@pytest.fixture
def log_in(app, ours):
    """Logs a user in at a browser of its own; returns the browser and the session's id."""

    def log_in(user="ada"):
        browser = app.test_client()
        browser.get(f"/login/{user}")
        return browser, browser.get("/sid").text

    return log_in


def seed(store, count, **fields):
    """Live sessions straight into the collection."""
    now = store.now()
    base = {"created_at": now, "touched_at": now, "expires_at": now + HOUR, "token": b"x" * 32, **fields}
    store.collection.insert_many([{"_id": new_session_id(), "user_id": f"u{n}", **base} for n in range(count)])


def in_threads(*acts):
    """Run them at the same time; their results."""
    results = [None] * len(acts)

    def run(number):
        results[number] = acts[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


# -- everybody --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_revoke_all(ours, store, log_in, sessions, heard):
    """Everybody is logged out, batch by batch, but for those that are to stay; receivers hear of each."""
    (mine, keep), (other, kept), (gone, _) = log_in(), log_in("bob"), log_in("eve")
    seed(store, 2_100)
    seed(store, 3, expires_at=store.now() - HOUR)
    seen = []
    if heard:
        session_destroyed.connect(receiver := lambda _sender, **said: seen.append(said))
    count = ours.revoke_all([keep, kept])

    assert count == 2_101
    assert [browser.get("/read/user_id").text for browser in (mine, other, gone)] == ["ada", "bob", "None"]
    assert sessions.count_documents({"ended_at": {"$exists": True}}) == 2_101
    assert store.count_expired() == 3
    if heard:
        session_destroyed.disconnect(receiver)
        assert {said["reason"] for said in seen} == {"revoked"}
        assert len({said["sid"] for said in seen}) == 2_101


@pytest.mark.parametrize("keep", [{"$ne": 1}, [{"$ne": 1}], [None], 7, "", [""]])
def test_what_is_no_id_cannot_be_kept(ours, log_in, keep):
    """It is a mistake, told at once: nothing has been ended by then."""
    browser, _ = log_in()
    for revoke in (ours.revoke_all, lambda keep: ours.revoke_user("ada", keep)):
        with pytest.raises(TypeError, match=r"keep takes|not iterable"):
            revoke(keep)

    assert browser.get("/read/user_id").text == "ada"
    assert ours.audit() == []


def test_log_ins_under_way_do_not_outlive_it(app, ours):
    """A log-in that began before stores nothing afterwards, whether it is quick or slower than anybody waits for.

    The two quick ones store their sessions while revoke_all waits; the slow one after it has returned.
    """
    seconds = UNDER_WAY.total_seconds()
    browsers = [app.test_client() for _ in range(4)]
    waits = (seconds / 4, seconds - 0.3, seconds + 1.5)
    slow = [lambda b=b, s=s: b.get(f"/slow/ada/{s}").status_code for b, s in zip(browsers, waits, strict=False)]

    def revoke():
        time.sleep(0.1)
        return ours.revoke_all()

    results = in_threads(*slow, revoke)
    assert results[:3] == [200] * 3
    assert ours.recent() == []
    assert [browser.get("/read/user_id").text for browser in browsers[:3]] == ["None"] * 3
    browsers[3].get("/login/ada")
    assert browsers[3].get("/read/user_id").text == "ada"


def test_a_slow_log_in_stands_where_nothing_was_revoked(app, ours, commands):
    """It looks at the mark, and that is all."""
    ours.revoke_all()
    browser = app.test_client()
    commands.clear()
    browser.get(f"/slow/ada/{UNDER_WAY.total_seconds() + 0.2}")

    assert commands.names == ["insert", "find"]
    assert browser.get("/read/user_id").text == "ada"


@pytest.mark.soak
def test_many_threads_log_in_during_it(app, ours, store):
    """Eight threads log in all the time, quickly and slowly: who began before is out, who began afterwards is in."""
    seed(store, 20_000)
    done, log_ins = threading.Event(), []

    def use():
        while not done.is_set():
            browser, began = app.test_client(), store.now()
            browser.get(f"/slow/ada/{random.choice((0.0, 0.01, 0.5, 2.0, 3.5)) + 0.0}")
            log_ins.append((began, browser))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    began = store.now()
    ours.revoke_all()
    ended, until = store.now(), time.monotonic() + 20
    while not any(at > ended for at, _ in log_ins) and time.monotonic() < until:
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join(20)

    before = [browser.get("/read/user_id").text for at, browser in log_ins if at <= began]
    after = [browser.get("/read/user_id").text for at, browser in log_ins if at > ended]
    assert set(before) == {"None"}
    assert set(after) <= {"ada"}
    assert after


class Rests:
    """In place of ``time`` where everybody's sessions are ended: it rests for a second after four hundred steps."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self):
        self.batches, self.at_work = 0, True

    def sleep(self, seconds):
        time.sleep(seconds)
        self.batches += 1
        if self.batches % 400 == 0:
            self.at_work = False
            time.sleep(1)
            self.at_work = True


@pytest.mark.soak
@pytest.mark.parametrize("count", [100_000])
def test_requests_are_served_beside_it(ours, store, monkeypatch, count):
    """A find takes as long as ever, while a walk over many sessions goes on: p99 is no multiple of that at rest."""
    store.ensure_indexes()
    for _ in range(0, count, 10_000):
        seed(store, 10_000, data={"cart": ["x" * 20] * 5})
    sids = [found["_id"] for found in store.collection.find({}, {"_id": True}, limit=5_000)]
    rests, done, took = Rests(), threading.Event(), {True: [], False: []}
    monkeypatch.setattr("flask_mongo_session.storage.user_sessions.time", rests)

    def find():
        while not done.is_set():
            began = time.perf_counter()
            working = rests.at_work
            store.repository.find(random.choice(sids), b"")
            took[working].append(time.perf_counter() - began)
            time.sleep(0.002)

    thread = threading.Thread(target=find)
    thread.start()
    began = time.monotonic()
    ended = ours.revoke_all()
    seconds = time.monotonic() - began - rests.batches // 400
    done.set()
    thread.join(10)

    assert ended == count
    resting, walking = (1_000 * sorted(took[at_work])[-len(took[at_work]) // 100] for at_work in (False, True))
    print(f"revoke_all of {count:,}: {seconds:.1f} s; p99 of a find {walking:.1f} ms, {resting:.1f} at rest")  # noqa: T201
    busy = os.getloadavg()[0] > 2 * os.cpu_count()
    assert walking < 4 * resting or busy, "too slow, and nobody else keeps the machine busy"


# -- who ended what ---------------------------------------------------------------------------------------------------


def brief(record):
    return record.action, record.actor, record.via, record.user_id, record.ended


def test_each_revocation_is_recorded(app, ours, log_in):
    """Who, what, when, from where: of a visitor the user and the network, of a command the account and the host."""
    views = {
        "one": lambda: ours.revoke(sid),
        "user": lambda: ours.revoke_user("bob"),
        "erase": lambda: ours.erase_user("bob", actor="the nightly job"),
    }
    for name, act in views.items():
        app.add_url_rule(f"/end/{name}", name, lambda act=act: str(act()))
    _, sid = log_in("bob")
    log_in("bob")
    admin, keep = log_in("root")
    for name in views:
        admin.get(f"/end/{name}", environ_base={"REMOTE_ADDR": "192.0.2.7"})

    began = ours.store.now()
    app.test_cli_runner().invoke(args=["sessions", "revoke-user", "bob", "--keep", keep])
    ours.revoke_user("bob", actor="a script")

    records = ours.audit()
    assert [brief(record) for record in records[::-1]] == [
        ("revoke", "root", "request", "bob", 1),
        ("revoke_user", "root", "request", "bob", 1),
        ("erase_user", "the nightly job", "request", "bob", 0),
        ("revoke_user", records[1].actor, "command", "bob", 0),
        ("revoke_user", "a script", "code", "bob", 0),
    ]
    assert {record.address for record in records[2:]} == {"192.0.2.0/24"}
    assert (records[-1].sid, records[1].kept) == (sid, [keep])
    assert records[1].actor
    assert records[2].at <= began <= records[1].at


def test_the_whole_address_is_kept_where_devices_are(make_app):
    """With SESSION_TRACK_DEVICE = True the record holds the address itself."""
    app = make_app(SESSION_TRACK_DEVICE=True)
    ours = app.extensions["sessions"]
    app.add_url_rule("/end", view_func=lambda: str(ours.revoke_user("bob")))
    app.test_client().get("/end", environ_base={"REMOTE_ADDR": "192.0.2.7"})

    (record,) = ours.audit()
    assert (record.actor, record.address) == (None, "192.0.2.7")


def test_what_ended_nothing_is_not_recorded(ours, log_in):
    """A session that is not there; whereas a user's sessions were revoked even if there were none."""
    log_in()

    assert not ours.revoke("made-up")
    assert not ours.revoke_user("")
    assert ours.audit() == []


def test_the_signal_carries_the_actor(ours, log_in):
    """Whoever listens learns who ended the session; a log-out names nobody."""
    heard = []
    browser, _ = log_in()
    log_in("bob")
    with session_destroyed.connected_to(lambda _sender, **said: heard.append((said["reason"], said["actor"]))):
        ours.revoke_user("bob", actor="root")
        browser.get("/logout")

    assert heard == [("revoked", "root"), ("logout", None)]


def test_the_audit_by_filters(ours, store):
    """By user, actor, session, action and time, page by page, newest first; nothing acts as an operator."""
    for number in range(6):
        ours.revoke_user(f"u{number % 2}", actor=f"a{number % 3}")
    newest = ours.audit(2)

    assert [record.user_id for record in ours.audit(user_id="u1")] == ["u1"] * 3
    assert [record.actor for record in ours.audit(actor="a0")] == ["a0"] * 2
    assert len(ours.audit(before=newest[1].id)) == 4
    assert ours.audit(action="revoke") == ours.audit(session_id="x") == ours.audit(user_id={"$ne": None}) == []
    assert ours.audit(before="no id") != []
    assert (len(ours.audit(since=newest[0].at)), len(ours.audit(until=store.now() + HOUR))) >= (1, 6)
    assert ours.audit(since=store.now() + HOUR) == []


def test_a_record_that_fails_changes_nothing(ours, log_in, store, monkeypatch, caplog):
    """The revocation takes place; that it could not be recorded is in the log, and so is who did it."""
    browser, _ = log_in()

    def broken(*_):
        raise OSError("disk")

    monkeypatch.setattr(AuditLog, "_collection", property(broken))
    assert ours.revoke_user("ada", actor="root") == 1

    assert browser.get("/read/user_id").text == "None"
    assert "revoke_user" in caplog.text
    assert "root" in caplog.text
    store.audit.complete("some record", 7)
    assert "(7) could not be recorded" in caplog.text


def test_records_expire(store, database):
    """The server removes them when they have been kept for as long as the configuration says."""
    audit = AuditLog(store.repository, HOUR)
    audit.write("revoke", Actor("ada"))
    indexes = database["sessions_audit"].index_information()
    (record,) = database["sessions_audit"].find()

    assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
    assert record["expires_at"] - record["at"] == HOUR
