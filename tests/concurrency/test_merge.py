"""Requests that write to one session at once: what each of them wrote is there in the end."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from interleaving import in_order, live, schedules, store_of

THREADS, REQUESTS = 8, 25

four_times_under_soak = pytest.mark.parametrize(
    "runs",
    [pytest.param(1, id="once"), pytest.param(4, id="four times", marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)

#: A process of its own that writes with four threads; its arguments: database's URI and name, cookie, its number.
WRITER = """
import sys, threading
from flask import Flask, session
from flask_mongo_session import MongoSession

uri, name, cookie, number = sys.argv[1:]
app = Flask("writer")
app.config.update(SECRET_KEY="a secret for tests only", SESSION_MONGODB_URI=uri, SESSION_MONGODB_DB=name)
app.config.update(SESSION_CLEANUP_INTERVAL=0, SESSION_AUTO_INDEX=False)
MongoSession(app)

@app.get("/<key>")
def write(key):
    session[key] = session.get("base")
    return "written"

def visit(thread):
    http = app.test_client(use_cookies=False)
    for turn in range(25):
        response = http.get(f"/p{number}t{thread}r{turn}", headers={"Cookie": f"session={cookie}"})
        assert response.status_code == 200, response.status

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=visit, args=[thread]) for thread in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def at_once(act, count=THREADS):
    """Run ``act(number)`` on so many threads that begin together; raises what one of them raised."""
    barrier, errors = threading.Barrier(count), []

    def run(number):
        barrier.wait(10)
        try:
            act(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


@pytest.fixture
def visitor(web, browse):
    """A browser with a session."""
    browser = browse(web)
    browser.get("/write/base/0")
    return browser


def keys_written(browser):
    return {key for key in browser.get("/all").json if key != "base"}


@four_times_under_soak
@pytest.mark.parametrize("path", ["/write", "/change"], ids=["blind", "after reading"])
def test_two_hundred_keys_from_eight_threads_all_survive(web, browse, path, runs):
    """Each request writes a key of its own; none writes over another's."""
    for _ in range(runs):
        browser = browse(web)
        browser.get("/write/base/0")
        cookie = browser.cookie

        def visit(number, cookie=cookie):
            for turn in range(REQUESTS):
                browse(web).get(f"{path}/t{number}r{turn}/1", cookie=cookie)

        at_once(visit)

        assert len(keys_written(browser)) == THREADS * REQUESTS


@four_times_under_soak
def test_two_hundred_keys_from_two_processes_all_survive(visitor, mongo_server, database, runs):
    """The same from two processes with four threads each, which share nothing but the database."""
    for _ in range(runs):
        store_of(visitor.app).collection.delete_many({})
        visitor.cookie = None
        visitor.get("/write/base/0")
        arguments = [sys.executable, "-c", WRITER, mongo_server.uri, database.name, visitor.cookie]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[2]}
        writers = [subprocess.Popen([*arguments, str(number)], **pipes) for number in range(2)]
        try:
            assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 2
            for writer in writers:
                writer.stdin.write("go\n")
                writer.stdin.flush()
            for writer in writers:
                writer.communicate(timeout=60)
        finally:
            for writer in writers:
                writer.kill()
                writer.wait(10)

        assert [writer.returncode for writer in writers] == [0, 0]
        assert len(keys_written(visitor)) == 200


@pytest.mark.parametrize(
    "runs",
    [pytest.param(1, id="once"), pytest.param(4, id="four times", marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_a_thousand_increments_from_eight_threads_are_a_thousand(web, browse, runs):
    """The database adds: not one is lost, whatever else is written meanwhile."""
    for _ in range(runs):
        browser = browse(web)
        browser.get("/write/base/0")
        cookie = browser.cookie

        def visit(number, cookie=cookie):
            for _ in range(125):
                browse(web).get("/increment/n", cookie=cookie)

        at_once(visit)

        assert browser.get("/all").json["n"] == 1_000


def test_appends_from_eight_threads_are_all_there(web, browse, visitor):
    """Each item once, in some order."""
    cookie = visitor.cookie

    def visit(number):
        for turn in range(10):
            browse(web).get(f"/append-all/log/t{number}r{turn}", cookie=cookie)

    at_once(visit)

    log = visitor.get("/all").json["log"]
    assert len(log) == 80
    assert set(log) == {f"t{number}r{turn}" for number in range(8) for turn in range(10)}
    for number in range(8):
        assert [item for item in log if item.startswith(f"t{number}")] == [f"t{number}r{turn}" for turn in range(10)]


def test_a_bound_on_appending_holds_from_eight_threads(web, browse, visitor):
    """The list never grows beyond its bound, and holds the last ones of what was appended."""
    cookie = visitor.cookie

    def visit(number):
        for turn in range(10):
            browse(web).get(f"/append/log/t{number}r{turn}", cookie=cookie)
            assert len(browse(web).get("/all", cookie=cookie).json["log"]) <= 5

    at_once(visit)

    log = visitor.get("/all").json["log"]
    assert len(log) == 5
    assert log[-1].endswith("r9")


PAIRS = [
    ("/write/a/1", "/write/b/2", {"a": "1", "b": "2"}),
    ("/change/a/1", "/change/b/2", {"a": "1", "b": "2"}),
    ("/change/a/1", "/pop/other", {"a": "1", "other": None}),
    ("/nested/x", "/change/b/2", {"list": ["x"], "b": "2"}),
    ("/increment/n", "/increment/n", {"n": 2}),
    ("/append/log/x", "/increment/n", {"log": ["x"], "n": 1}),
    ("/permanent", "/write/a/1", {"a": "1"}),
    ("/deadline/900", "/write/a/1", {"a": "1"}),
    ("/deadline/900", "/change/a/1", {"a": "1"}),
]


@pytest.mark.parametrize(("one", "other", "kept"), PAIRS, ids=[f"{one} {other}" for one, other, _ in PAIRS])
def test_two_changes_both_win_in_every_order(web, browse, one, other, kept):
    """All ways in which their commands can mix."""
    for order in schedules([3, 3]):
        browser = browse(web)
        browser.get("/start")
        cookie = browser.cookie

        def ask(path, browser=browser, cookie=cookie):
            return lambda: browser.get(path, cookie=cookie).status_code

        assert browser.interleaver.run([ask(one), ask(other)], in_order(*order)) == [200, 200]

        found = browse(web).get("/all", cookie=cookie).json
        assert {key: found.get(key) for key in kept} == kept, order


def test_the_same_key_from_two_requests_is_the_last_write(web, browse, interleaver, visitor):
    """Whoever saves last wins, whole."""
    cookie = visitor.cookie
    requests = [lambda value=value: browse(web).get(f"/change/a/{value}", cookie=cookie) for value in ("first", "last")]

    interleaver.run(requests, lambda waiting: waiting[0])

    assert visitor.get("/read/a").text == "last"


def test_two_first_requests_of_a_visitor_make_two_sessions(web, browse, interleaver):
    """Never two documents for one id: the browser keeps the one whose response came last."""
    browser = browse(web)

    interleaver.run([lambda: browser.get("/write/a/1"), lambda: browser.get("/write/b/2")], in_order(0, 1))

    assert len(live(web)) == 2
    assert len(set(browser.brought)) == 2
    assert len(browser.get("/all").json) == 1


def test_merging_the_same_session_twice_at_once_takes_it_over_twice(web, browse, interleaver):
    """Both take its values, and it is gone once."""
    guest, one, other = browse(web), browse(web), browse(web)
    guest.get("/write/cart/full")
    one.get("/write/who/one")
    other.get("/write/who/other")
    token = guest.get("/token").json["token"]

    interleaver.run(
        [lambda: one.get(f"/merge/{token}"), lambda: other.get(f"/merge/{token}")],
        in_order(0, 0, 0, 1, 1, 1),
    )

    assert one.get("/all").json == {"who": "one", "cart": "full"}
    assert other.get("/all").json == {"who": "other", "cart": "full"}
    assert guest.get("/all").json == {}
