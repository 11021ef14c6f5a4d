"""Time that an application's tests stop or move: sessions stay readable before, inside and after, their dates true."""

from __future__ import annotations

import datetime as dt
import itertools
import random

import pytest
import time_machine
from flask import session
from freezegun import freeze_time

from flask_mongo_session.mongo.connection import Connection

UTC = dt.timezone.utc
PAST, NEAR, FUTURE = "1999-12-31 23:59:59", "2031-02-03 04:05:06", "2387-01-01"
FREEZERS = {
    "freezegun": freeze_time,
    "freezegun, ticking": lambda moment: freeze_time(moment, tick=True),
    "time-machine": lambda moment: time_machine.travel(dt.datetime.fromisoformat(moment), tick=False),
    "time-machine, ticking": lambda moment: time_machine.travel(dt.datetime.fromisoformat(moment), tick=True),
}
BLOCKS = list(itertools.product(FREEZERS, (PAST, NEAR, FUTURE)))
SLACK = dt.timedelta(seconds=60)


@pytest.fixture
def app(make_app):
    """An application with a view that counts and keeps dates, and one that logs out."""
    app = make_app(PERMANENT_SESSION_LIFETIME=3600)

    @app.get("/visit")
    def visit():
        session.permanent = True
        session["count"] = session.get("count", 0) + 1
        session["at"] = dt.datetime.now(UTC)
        return str(session["count"])

    @app.get("/at")
    def at():
        return session["at"].isoformat()

    @app.get("/log-in")
    def log_in():
        session["user_id"] = "7"
        return "7"

    @app.get("/fresh")
    def fresh():
        return str(session.fresh(60))

    return app


@pytest.fixture
def dates(sessions):
    """All dates of metadata in the database, which must be of the database's clock, whatever the host believed."""

    def dates():
        for record in sessions.find():
            for name in ("created_at", "touched_at", "authenticated_at", "ended_at"):
                if name in record:
                    yield name, record[name].replace(tzinfo=UTC)
            if "ended_at" not in record:
                yield "expires_at", record["expires_at"].replace(tzinfo=UTC) - dt.timedelta(hours=1)

    return dates


def assert_true(dates):
    """Each of them is about now."""
    now = dt.datetime.now(UTC)
    for name, found in dates():
        assert abs(found - now) < SLACK, (name, found)


@pytest.mark.parametrize("moment", [PAST, NEAR, FUTURE])
@pytest.mark.parametrize("freeze", FREEZERS.values(), ids=FREEZERS)
def test_before_inside_and_after(app, dates, freeze, moment):
    """One session from before the block, one from inside, one from after: each is read at all three times."""
    before, inside, after = (app.test_client() for _ in range(3))
    assert before.get("/visit").text == "1"

    with freeze(moment):
        told = dt.datetime.fromisoformat(moment).replace(tzinfo=UTC)
        assert before.get("/visit").text == "2"
        assert inside.get("/visit").text == "1"
        assert abs(dt.datetime.fromisoformat(inside.get("/at").text) - told) < 10 * SLACK
        assert inside.get("/log-in").text == "7"
        assert inside.get("/fresh").text == "True"
    assert_true(dates)

    assert before.get("/visit").text == "3"
    assert abs(dt.datetime.fromisoformat(inside.get("/at").text) - told) < 10 * SLACK
    assert inside.get("/visit").text == "2"
    assert inside.get("/fresh").text == "True"
    assert after.get("/visit").text == "1"
    with freeze(moment):
        assert [browser.get("/visit").text for browser in (before, inside, after)] == ["4", "3", "2"]
    assert_true(dates)


@pytest.mark.parametrize("freeze", FREEZERS.values(), ids=FREEZERS)
def test_an_application_made_inside(make_app, dates, freeze):
    """One that is made, and meets its database, while time stands still measures its clock anew afterwards."""
    with freeze(NEAR):
        app = make_app(PERMANENT_SESSION_LIFETIME=3600)
        app.add_url_rule("/", view_func=lambda: str(session.setdefault("n", 1)))
        browser = app.test_client()
        assert browser.get("/").text == "1"
        assert browser.get("/").text == "1"
    assert browser.get("/").text == "1"
    assert_true(dates)


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(4, 60))])
def test_tests_in_any_order(app, dates, sessions, seed):
    """Blocks of every kind one after the other, nested too, with one connection: nobody loses a session."""
    chance, browsers, counts = random.Random(seed), [app.test_client() for _ in range(3)], [0, 0, 0]

    def visit():
        chosen = chance.randrange(3)
        counts[chosen] += 1
        assert browsers[chosen].get("/visit").text == str(counts[chosen])

    blocks = chance.sample(BLOCKS, 5)
    for name, moment in blocks:
        visit()
        with FREEZERS[name](moment):
            visit()
            if name.startswith("freezegun") and chance.random() < 0.5:
                with freeze_time(chance.choice([PAST, NEAR, FUTURE])):
                    visit()
            visit()
        assert_true(dates)
    visit()
    assert sessions.count_documents({}) == sum(map(bool, counts))


def test_a_store_swept_while_time_stands_still(app, store, sessions):
    """Nothing is swept, or spared, because a test believes in another time."""
    browser = app.test_client()
    browser.get("/visit")
    for freeze in FREEZERS.values():
        with freeze(FUTURE):
            assert store.delete_expired() == 0
    sessions.update_many({}, {"$set": {"expires_at": dt.datetime.now(UTC) - SLACK}})
    with freeze_time(PAST):
        assert store.delete_expired() == 1


def test_a_connection_made_inside(database):
    """Its first reading of the database's clock is forgotten as soon as time goes on."""
    connection = Connection(lambda: database)
    for freeze in FREEZERS.values():
        with freeze(NEAR), connection.operation():
            inside = connection.now()
        with connection.operation():
            after = connection.now()
        assert abs(inside - dt.datetime.now(UTC)) < SLACK
        assert abs(after - dt.datetime.now(UTC)) < SLACK
