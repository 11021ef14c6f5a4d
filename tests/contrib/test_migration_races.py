"""Several first requests of one visitor at once: the session is moved once, and nobody is logged out."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from migrating_shop import visit_all
from old_applications import COLLECTION, cookie_of, make_old

pytestmark = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning")

THREADS, ROUNDS = 6, 5


@pytest.fixture(params=["flask-session", "flask-mongoengine", "cookie"])
def old_app(request):
    if request.param == "flask-session":
        return request.getfixturevalue("flask_session_app")()
    return request.getfixturevalue("mongoengine_app" if request.param == "flask-mongoengine" else "cookie_app")


def library_of(app):
    names = {"MongoDBSessionInterface": "flask-session", "MongoEngineSessionInterface": "flask-mongoengine"}
    return names.get(type(app.session_interface).__name__, "cookie")


@pytest.mark.parametrize("path", ["/user", "/write/cart/book"])
def test_threads(old_app, new_app, restart, database, sessions, *, path):
    """All requests at once see the session, all bring the same cookie, and there is one record."""
    app, meet = new_app(library_of(old_app)), threading.Barrier(THREADS)
    app.get("/")

    def visit(browser):
        meet.wait(10)
        return browser.get(path).text, cookie_of(browser)

    for number in range(ROUNDS):
        old = make_old(old_app, path=f"/login/{number}")
        with ThreadPoolExecutor(THREADS) as pool:
            results = set(pool.map(visit, [restart(old, app) for _ in range(THREADS)]))
        assert len(results) == 1
        text, cookie = results.pop()
        assert text == (str(number) if path == "/user" else "written")
        assert cookie != cookie_of(old)
        assert sessions.count_documents({}) == number + 1
    assert database[COLLECTION].count_documents({}) == 0


def test_two_processes(flask_session_app, cookie_app, mongo_server, database, sessions):
    """Two workers that know nothing of each other do the same."""
    old_apps = (flask_session_app(), cookie_app)
    cookies = [cookie_of(make_old(old_apps[number % 2], path=f"/login/{number}")) for number in range(20)]
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(2, mp_context=spawn) as pool:
        meet = manager.Barrier(2)
        both = [pool.submit(visit_all, mongo_server.uri, database.name, cookies, meet) for _ in range(2)]
        first, second = (future.result(60) for future in both)

    assert first == second
    assert [text for text, _ in first] == [str(number) for number in range(20)]
    assert sessions.count_documents({}) == 20
    assert database[COLLECTION].count_documents({}) == 0


def test_a_crash_before_the_removal_undoes_no_log_out(flask_session_app, new_app, restart, database, sessions):
    """A record was stored, and the old session is still there: whoever goes on removes it before anything else."""
    app = new_app("flask-session")
    browser, stolen = (restart(make_old(flask_session_app()), app) for _ in range(2))
    stolen = restart(browser, app)
    document = database[COLLECTION].find_one()
    restart(browser, app).get("/user")  # an answer that never arrived
    database[COLLECTION].replace_one({"_id": document["_id"]}, document, upsert=True)

    assert browser.get("/user").text == "7"
    browser.get("/logout")
    sessions.delete_many({})  # the tombstone is gone
    assert stolen.get("/user").text == "nobody"
    assert database[COLLECTION].count_documents({"id": document["id"]}) == 0


def test_a_log_out_beside_a_first_read_wins(old_app, new_app, restart, sessions):
    """Whoever comes first of the two, the session is over."""
    app, meet = new_app(library_of(old_app)), threading.Barrier(2)
    app.get("/")

    def visit(browser, path):
        meet.wait(10)
        browser.get(path)

    for number in range(ROUNDS):
        old = make_old(old_app, path=f"/login/{number}")
        reader, leaver = restart(old, app), restart(old, app)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(visit, [reader, leaver], ["/user", "/logout"]))
        assert reader.get("/user").text == "nobody"
        assert restart(old, app).get("/user").text == "nobody"
        assert sessions.count_documents({"ended_at": None}) == 0
