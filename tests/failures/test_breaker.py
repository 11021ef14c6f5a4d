"""A database that failed several times in a row is not asked by everybody."""

from __future__ import annotations

import logging
import threading
import time

import pymongo
import pytest
from freezegun import freeze_time
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure

from flask_mongo_session.exceptions import SessionStoreUnavailable
from flask_mongo_session.mongo.circuit_breaker import BREAKER_FAILURES, BREAKER_SECONDS, CircuitBreaker
from flask_mongo_session.mongo.clock import boottime
from flask_mongo_session.mongo.connection import Connection

GONE = AutoReconnect("gone")


@pytest.fixture
def connection(server):
    """A connection to the breakable server."""
    with pymongo.MongoClient(server.uri) as client:
        yield Connection(lambda: client["breaker"], timeout=10)


def break_it(breaker, times=BREAKER_FAILURES):
    for _ in range(times):
        breaker.failed(GONE, boottime())


def attempt(connection, error=None):
    with connection.operation():
        if error:
            raise error


def test_opens_after_three_failures_in_a_row():
    """Two are bad luck; after the third nobody is let in, and a success in between starts the count anew."""
    breaker = CircuitBreaker(2)
    break_it(breaker, 2)
    breaker.enter()
    breaker.succeeded()
    break_it(breaker, 2)
    breaker.enter()
    break_it(breaker, 1)

    with pytest.raises(SessionStoreUnavailable):
        breaker.enter()


def test_lets_one_try_after_half_a_second():
    """The one that tries is alone until it is done, or its time limit is over."""
    breaker = CircuitBreaker(1)
    break_it(breaker)
    time.sleep(0.55)

    breaker.enter()
    with pytest.raises(SessionStoreUnavailable):
        breaker.enter()
    time.sleep(1.05)
    breaker.enter()


def test_many_threads_one_try():
    """Also when eight of them come at the same moment."""
    breaker, let_in = CircuitBreaker(2), []
    break_it(breaker)
    time.sleep(0.55)
    line = threading.Barrier(8)

    def come():
        line.wait()
        try:
            breaker.enter()
        except SessionStoreUnavailable:
            return
        let_in.append(1)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(let_in) == 1


def test_success_closes_it():
    """Everybody is let in again."""
    breaker = CircuitBreaker(2)
    break_it(breaker)
    breaker.succeeded()

    breaker.enter()
    assert not breaker.open


def test_a_failure_from_before_the_recovery_does_not_count(caplog):
    """An operation that hung since the outage neither opens the breaker again nor announces another outage."""
    breaker, began = CircuitBreaker(2), boottime()
    break_it(breaker)
    breaker.succeeded()
    caplog.clear()

    for _ in range(BREAKER_FAILURES):
        breaker.failed(GONE, began)

    breaker.enter()
    assert not caplog.records


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="every clock is faked there")
def test_an_outage_while_a_test_stops_the_clock():
    """It is over half a second later, and the next one opens the breaker, whatever time the test believed in."""
    breaker = CircuitBreaker(2)
    with freeze_time("2387-01-01"):
        break_it(breaker)
        assert breaker.open
    time.sleep(BREAKER_SECONDS)
    assert not breaker.open

    with freeze_time("2387-01-01"):
        breaker.succeeded()
    break_it(breaker)
    assert breaker.open


def test_an_outage_that_flickers_is_said_once(caplog):
    """A primary that reads and cannot confirm fails every other operation: two lines, not two for each request."""
    caplog.set_level(logging.INFO, "flask_mongo_session")
    breaker = CircuitBreaker(2)
    for _ in range(20):
        breaker.failed(GONE, boottime())
        breaker.succeeded()

    assert len(caplog.records) == 2


def test_faults_of_the_data_are_answers(connection):
    """A duplicate key, a refused value: the database is there."""
    break_it(connection.breaker, 2)
    with pytest.raises(DuplicateKeyError):
        attempt(connection, DuplicateKeyError("taken"))
    break_it(connection.breaker, 2)

    attempt(connection)


def test_errors_of_the_caller_are_neither(connection):
    """A bug inside of an operation says nothing about the database."""
    break_it(connection.breaker, 2)
    with pytest.raises(ZeroDivisionError):
        attempt(connection, ZeroDivisionError())
    break_it(connection.breaker, 1)

    with pytest.raises(SessionStoreUnavailable):
        attempt(connection)


def test_a_refusal_is_said_once(connection, failing, caplog):
    """Missing rights are a 503 each time, and one line in the log that names the code and quotes nothing."""
    caplog.set_level(logging.INFO, "flask_mongo_session")
    with failing("insert", errorCode=13):
        for _ in range(5):
            with pytest.raises(SessionStoreUnavailable) as raised, connection.operation():
                connection.collection("x").insert_one({"value": "precious"})
            assert isinstance(raised.value.__cause__, OperationFailure)

    lines = [record.getMessage() for record in caplog.records if record.name.endswith("breaker")]
    assert lines == ["The session store refused: OperationFailure: code 13 (Unauthorized)"]


@pytest.mark.soak
def test_the_background_says_nothing_to_requests(connection, failing):
    """A command on the whole collection that fails, or takes longer than a request may, opens no breaker."""
    with failing("aggregate", errorCode=50):  # MaxTimeMSExpired
        for _ in range(2 * BREAKER_FAILURES):
            with pytest.raises(SessionStoreUnavailable), connection.background_operation():
                connection.collection("x").count_documents({})
    assert not connection.breaker.open

    slow = failing("aggregate", blockConnection=True, blockTimeMS=int(connection.timeout * 1000) + 200)
    with slow, connection.background_operation():
        assert connection.collection("x").count_documents({}) == 0
