"""One request that changes 30,000 keys: answered, cheap for the server, and nothing of it goes on running there."""

from __future__ import annotations

import threading

import pymongo
import pytest
from flask import session
from pymongo import monitoring
from waiting import eventually, quickest

KEYS = 30_000
#: Seconds that the server may work for one of them.
WORK = 0.5
POSTS, VISITORS = 40, 8


class Durations(monitoring.CommandListener):
    """How long each command took."""

    def __init__(self):
        self.seconds = []

    def started(self, event):
        pass

    def succeeded(self, event):
        self.seconds.append(event.duration_micros / 1e6)

    failed = succeeded


def write_all(value=1):
    for number in range(KEYS):
        session[f"k{number}"] = value


def blind():
    """Without reading."""
    write_all(2)


def read_first():
    """After a read."""
    session.get("kept")
    write_all(2)


def in_one_go():
    """By ``update``."""
    session.update({f"k{number}": 2 for number in range(KEYS)})


def with_other_keys():
    """Keys that were not there before."""
    for number in range(KEYS // 2):
        session[f"other{number}"] = number


def removed():
    """All but one are removed."""
    for key in list(session):
        if key != "kept":
            del session[key]


def emptied():
    """All are removed, one by one."""
    for key in list(session):
        del session[key]


def incremented():
    """By the database, after a read."""
    session.get("kept")
    for number in range(KEYS):
        session.increment(f"k{number}")


def incremented_blind():
    """Three thousand, by the database, without reading: far fewer bytes than the update that says so."""
    for number in range(3_000):
        session.increment(f"k{number}")


def appended_blind():
    """Three thousand, by the database, without reading, to lists that are not there yet."""
    for number in range(3_000):
        session.append(f"list{number}", number)


def appended():
    """By the database, after a read, to lists that are not there yet."""
    session.get("kept")
    for number in range(KEYS // 3):
        session.append(f"list{number}", number)


def mixed():
    """A bit of all, in one update."""
    for number in range(KEYS // 3):
        session[f"k{number}"] = 3
        session.increment(f"k{number + KEYS // 3}")
        session.pop(f"k{number + 2 * KEYS // 3}")


def cleared():
    """What was there goes, others come."""
    session.clear()
    write_all(2)


def logged_in():
    """With another token."""
    write_all(2)
    session["user_id"] = "7"


def rotated_and_removed():
    """With another token, and without most keys."""
    session.regenerate()
    removed()


DEEDS = [
    blind,
    read_first,
    in_one_go,
    with_other_keys,
    removed,
    emptied,
    incremented,
    incremented_blind,
    appended_blind,
    appended,
    mixed,
    cleared,
    logged_in,
    rotated_and_removed,
]


@pytest.fixture
def durations():
    """How long the commands of :func:`app` took."""
    return Durations()


@pytest.fixture
def app(make_app, mongo_server, durations):
    """An application in which one request does one of those deeds."""
    with pymongo.MongoClient(mongo_server.uri, event_listeners=[durations]) as client:
        app = make_app(SESSION_MONGODB=client, SESSION_MONGODB_TIMEOUT=10, TESTING=False)

        @app.post("/fill")
        def fill():
            session["kept"] = 1
            write_all()
            return "filled"

        for deed in DEEDS:

            def view(deed=deed):
                deed()
                return "done"

            app.add_url_rule(f"/{deed.__name__}", deed.__name__, view, methods=["POST"])
        yield app


@pytest.fixture
def running(database):
    """The operations on the sessions that the server works on at this moment."""
    chosen = {"active": True, "ns": {"$regex": f"^{database.name}\\."}}
    return lambda: list(database.client.admin.aggregate([{"$currentOp": {}}, {"$match": chosen}]))


def test_the_first_write(app, durations, running):
    """A session that begins with 30,000 keys."""

    def attempt():
        browser = app.test_client()
        durations.seconds.clear()
        assert browser.post("/fill").status_code == 200
        assert running() == []
        return sum(durations.seconds)

    assert quickest(attempt, WORK) < WORK


@pytest.mark.parametrize("deed", DEEDS, ids=[deed.__name__ for deed in DEEDS])
def test_a_wide_change(app, durations, running, deed):
    """200, less than half a second of the server's work, and none left when the answer is there."""

    def attempt():
        browser = app.test_client()
        assert browser.post("/fill").status_code == 200
        durations.seconds.clear()
        assert browser.post(f"/{deed.__name__}").status_code == 200
        assert running() == []
        return sum(durations.seconds)

    assert quickest(attempt, WORK) < WORK


def test_a_wide_change_that_was_overtaken(app, durations, running, sessions):
    """Its writes are merged into the session that another tab has rotated meanwhile, as cheaply."""

    @app.get("/renew")
    def renew():
        session.regenerate()
        return "renewed"

    @app.post("/overtaken")
    def overtaken():
        session.get("kept")
        write_all(2)
        assert app.test_client().get("/renew", headers={"Cookie": f"session={cookie}"}).status_code == 200
        durations.seconds.clear()
        return "done"

    browser = app.test_client()
    browser.post("/fill")
    cookie = browser.get_cookie("session").value

    assert browser.post("/overtaken").status_code == 200
    assert running() == []
    assert sum(durations.seconds) < 2 * WORK
    assert sessions.find_one()["data"]["k0"] == 2


def post_all(app):
    """Forty posts, eight at a time; their codes."""
    codes = []

    def visit():
        browser = app.test_client()
        codes.extend(browser.post("/blind").status_code for _ in range(POSTS // VISITORS))

    threads = [threading.Thread(target=visit) for _ in range(VISITORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return codes


@pytest.mark.soak
def test_forty_of_them(app, running):
    """All are answered, and nothing is left running."""
    assert post_all(app) == [200] * POSTS
    assert running() == []


@pytest.mark.soak
def test_forty_that_nobody_waits_for(app, running):
    """Where the time limit is much too short for them the server is done a moment later, too."""
    browser = app.test_client()
    browser.post("/blind")
    app.extensions["mongo_session"].store.connection.timeout = 0.02
    codes = post_all(app)

    assert set(codes) <= {200, 503}
    eventually(lambda: not running(), 1, "the server to be idle")
