"""The database is away: users get a fast honest answer, and nobody is logged out by it."""

from __future__ import annotations

import logging
import time

import pymongo
import pytest
from sent import Sent
from waiting import quickest

NOWHERE = "mongodb://127.0.0.1:9/?directConnection=true"
LIMIT = 1.0


def is_up(browser, path="/read/kept"):
    return browser.get(path).status_code == 200


def first_answer(browser, path="/read/kept", seconds=5.0):
    """Seconds until the store answers again."""
    began = time.perf_counter()
    while not is_up(browser, path):
        assert time.perf_counter() - began < seconds
        time.sleep(0.02)
    return time.perf_counter() - began


def test_starts_at_once_without_a_database(timed, make_shop):
    """An application starts, and serves a page without session, in less than a tenth of a second."""

    def start():
        app, making = timed(make_shop, NOWHERE)
        response, answering = timed(app.test_client().get, "/untouched")
        assert response.status_code == 200
        return making + answering

    assert quickest(start, 0.1) < 0.1


def test_starts_at_once_with_everything_in_the_background(timed, make_shop):
    """Building indexes and sweeping wait for the database where no request does."""

    def start():
        app = make_shop(NOWHERE, SESSION_AUTO_INDEX=True, SESSION_CLEANUP_INTERVAL=60)
        return timed(app.test_client().get, "/untouched")[1]

    assert quickest(start, 0.1) < 0.1


@pytest.mark.parametrize("path", ["/read/kept", "/write/kept/1", "/count", "/login/7", "/logout"])
def test_first_answer_comes_within_the_time_limit(timed, make_shop, visitor, path):
    """Reading or saving, it takes the time limit and no more than a tenth of a second beyond."""

    def answer():
        response, seconds = timed(visitor(make_shop(NOWHERE)).get, path)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Cache-Control"] == "no-store"
        return seconds

    assert quickest(answer, LIMIT + 0.1) <= LIMIT + 0.1


def test_answers_at_once_after_three_failures(timed, make_shop, visitor):
    """An open breaker answers in less than 50 ms."""
    browser = visitor(make_shop(NOWHERE))
    for _ in range(3):
        browser.get("/read/kept")

    answers = [timed(browser.get, "/read/kept") for _ in range(3)]

    assert [response.status_code for response, _ in answers] == [503] * 3
    assert min(seconds for _, seconds in answers) < 0.05


def test_untouched_pages_do_not_notice(server, shop, timed, visitor):
    """A page that does not use the session is as fast as ever."""
    browser = visitor(shop)
    browser.get("/read/kept")
    server.kill()
    browser.get("/read/kept")
    answers = [timed(browser.get, "/untouched") for _ in range(5)]

    assert [response.status_code for response, _ in answers] == [200] * 5
    assert sorted(seconds for _, seconds in answers)[2] < 0.05
    assert not any("Set-Cookie" in response.headers for response, _ in answers)


def test_comes_back_by_itself_and_logs_nobody_out(server, shop):
    """Within a second of the server's return; no answer in between touched a cookie, and the session is as it was."""
    browser = shop.test_client()
    browser.get("/login/7")
    cookie = browser.get_cookie("session").value

    server.kill()
    outage = [browser.get(path) for path in ["/read/user_id", "/count", "/write/a/1", "/read/user_id", "/count"]]
    server.start()
    seconds = first_answer(browser)

    assert [response.status_code for response in outage] == [503] * 5
    assert not any("Set-Cookie" in response.headers for response in outage), (
        "no command was sent that could have arrived"
    )
    assert browser.get_cookie("session").value == cookie
    assert browser.get("/read/user_id").text == "7"
    assert browser.get("/read/a").text == "None"
    assert seconds <= 1


def test_comes_back_after_the_server_hung(server, shop, timed):
    """A server that holds connections open and says nothing costs the time limit, not more, and is found again."""
    browser = shop.test_client()
    browser.get("/write/kept/1")

    server.pause()
    response, seconds = timed(browser.get, "/read/kept")
    server.resume()

    assert response.status_code == 503
    assert seconds <= LIMIT + 0.25
    assert first_answer(browser) <= 1
    assert browser.get("/read/kept").text == "1"


def test_serves_when_the_database_arrives_late(server, make_shop, uri):
    """An application that was started first needs no restart."""
    server.kill()
    browser = make_shop(uri).test_client()
    assert browser.get("/write/kept/1").status_code == 503

    server.start()
    first_answer(browser, "/write/kept/1")

    assert browser.get("/read/kept").text == "1"


def test_says_so_once(server, shop, visitor, caplog):
    """One line when it goes, one when it is back, whatever the number of requests; no value, no token."""
    caplog.set_level(logging.INFO, "flask_mongo_session")
    browser = shop.test_client()
    browser.get("/write/kept/precious")
    token = browser.get_cookie("session").value.split(".")[1]

    server.kill()
    for _ in range(8):
        browser.get("/write/kept/precious")
    server.start()
    first_answer(browser)

    lines = [
        record.getMessage() for record in caplog.records if record.name == "flask_mongo_session.mongo.circuit_breaker"
    ]
    assert len(lines) == 2
    assert lines[0].startswith("The session store is unavailable: ")
    assert lines[1] == "The session store answers again."
    assert "precious" not in caplog.text
    assert token not in caplog.text


@pytest.mark.parametrize("code", [6, 7, 89, 134, 262, 9001])
def test_a_read_is_tried_again_after_a_transient_error(make_shop, uri, failing, code):
    """The fast path keeps the driver's retries: no user sees what two tries can mend."""
    browser = make_shop(uri, SESSION_MONGODB_TIMEOUT=2).test_client()
    browser.get("/write/kept/1")

    with failing("find", mode={"times": 2}, errorCode=code):
        assert browser.get("/read/kept").text == "1"


def test_a_read_is_tried_again_after_a_lost_connection(make_shop, uri, failing):
    """Also when the server closes the connection twice in a row."""
    shop = make_shop(uri, SESSION_MONGODB_TIMEOUT=2)
    browser = shop.test_client()
    browser.get("/write/kept/1")

    with failing("find", mode={"times": 2}, closeConnection=True):
        assert browser.get("/read/kept").text == "1"


def test_a_read_is_not_tried_beyond_the_time_limit(shop, failing, timed):
    """An error that stays is a 503 within the limit, not a request that never ends."""
    browser = shop.test_client()
    browser.get("/write/kept/1")

    with failing("find", errorCode=262):
        response, seconds = timed(browser.get, "/read/kept")

    assert response.status_code == 503
    assert seconds <= LIMIT + 0.25


@pytest.mark.parametrize(
    "options",
    ["w=1", "w=0", "w=1&journal=false&wtimeoutMS=1", "readPreference=secondary", "readConcernLevel=linearizable"],
)
def test_what_the_address_says_of_concerns_does_not_matter(make_shop, uri, options):
    """What has to be kept is confirmed by a majority, what is read comes from the primary, whatever the URI says."""
    sent = Sent()
    with pymongo.MongoClient(f"{uri}&{options}", event_listeners=[sent]) as client:
        browser = make_shop(None, SESSION_MONGODB=client).test_client()
        for path in ["/write/kept/1", "/count", "/login/7", "/read/count", "/logout"]:
            assert browser.get(path).status_code == 200

    written = [command for name in ("insert", "update", "findAndModify", "delete") for command in sent.of(name)]
    assert len(written) == 4
    assert all(command["writeConcern"] == {"w": "majority"} for command in written)
    assert all(command["maxTimeMS"] <= LIMIT * 1000 for command in written)
    for command in sent.of("find"):
        assert command.get("readConcern", {}).get("level", "local") == "local"
        assert command.get("$readPreference", {"mode": "primary"})["mode"].startswith("primary")


def test_the_configuration_says_what_is_kept(make_shop, uri):
    """``SESSION_MONGODB_WRITE_CONCERN`` is the one way to ask for less."""
    sent = Sent()
    with pymongo.MongoClient(uri, event_listeners=[sent]) as client:
        make_shop(None, SESSION_MONGODB=client, SESSION_MONGODB_WRITE_CONCERN=1).test_client().get("/write/kept/1")

    assert [command["writeConcern"] for command in sent.of("insert")] == [{"w": 1}]
