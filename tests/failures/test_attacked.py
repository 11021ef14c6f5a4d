"""A stranger sends whatever comes to mind to an application with every feature on: no error, and nothing piles up."""

from __future__ import annotations

import logging
import uuid

import pytest
from attacked_shop import READING, STAFF, Attacker, make_app

#: Requests in the everyday run, and where there is time.
FEW, MANY = 500, 10_000


@pytest.fixture
def attacked(mongo_server):
    """The application, with a database of its own, in production."""
    database = f"attacked_{uuid.uuid4().hex[:12]}"
    with mongo_server.client() as client:
        yield make_app(client, database)
        client.drop_database(database)


def attack(app, seed, count):
    """So many requests; each is checked by itself."""
    attacker, breaker = Attacker(app, seed), app.extensions["mongo_session"].store.connection.breaker
    for number in range(count):
        status = attacker.step()
        assert status < 500, (number, attacker.last)
        assert breaker.failures == 0, (number, attacker.last)
    return attacker


def visit_empty(app, seed, count):
    """Requests of somebody without a session, to pages that only read; none leaves a record."""
    stranger, collection = Attacker(app, seed), app.extensions["mongo_session"].store.collection
    before = collection.count_documents({})
    for number in range(count):
        cookie = stranger.chance.choice([None, f"session={stranger.raw()}", f"session={stranger.signed()}", "session"])
        status = stranger.step([*READING, *STAFF], cookie, staff=False)
        assert status < 500, (number, stranger.last)
        assert collection.count_documents({}) == before, (number, stranger.last)


@pytest.fixture
def quiet(caplog):
    """Whatever happens, nobody says that the database failed."""
    caplog.set_level(logging.WARNING)
    yield
    assert [record.getMessage() for record in caplog.records if record.name.endswith("circuit_breaker")] == []


def test_a_few_hundred_requests(attacked, quiet):
    """Cookies, forms, JSON keys and values, user ids, page keys: each is an answer, and none counts as an outage."""
    attacker = attack(attacked, 1, FEW)

    assert attacker.codes[200] > FEW / 5
    visit_empty(attacked, 2, FEW // 10)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(10, 50, 10))
def test_ten_thousand_requests(attacked, quiet, seed):
    """The same for longer: a quarter each, so that they share the machine."""
    attack(attacked, seed, MANY // 4)
    visit_empty(attacked, seed + 1, MANY // 40)
