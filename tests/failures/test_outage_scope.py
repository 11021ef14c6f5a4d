"""The database is away: only answers that relied on the session say so, though Flask-Login asks after each request."""

from __future__ import annotations

import contextlib

import pymongo
import pytest
from flask import Blueprint, redirect, session, stream_with_context
from flask_login import LoginManager, UserMixin, confirm_login, current_user, login_required, login_user, logout_user
from pymongo import monitoring
from waiting import eventually

#: Seconds for one operation, and by how much an answer may be late: the driver looks for a server half a second longer.
LIMIT, OVERTIME = 0.5, 0.75


class User(UserMixin):
    def __init__(self, name):
        self.id = name


class Sent(monitoring.CommandListener):
    """The names of the commands sent, but for those that ask for the time or log a new connection in."""

    def __init__(self):
        self.names = []

    def started(self, event):
        if event.command_name not in ("hello", "saslContinue"):
            self.names.append(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def add_login(app):
    """Flask-Login as its documentation shows it."""
    LoginManager(app).user_loader(User)

    @app.get("/sign-in/<name>")
    def sign_in(name):
        return str(login_user(User(name)))

    @app.get("/confirm-login")
    def confirm_user():
        confirm_login()
        return "confirmed"

    @app.get("/whoami")
    def whoami():
        return current_user.get_id() or "nobody"

    @app.get("/private")
    @login_required
    def private():
        return "private"


@pytest.fixture
def sent():
    """The commands of :func:`shop`."""
    return Sent()


@pytest.fixture
def shop(make_shop, server, uri, sent, tmp_path):
    """An application with Flask-Login, static files of its own and of a blueprint's, and pages of every kind."""
    (tmp_path / "style.css").write_text("body {}")
    with pymongo.MongoClient(uri, event_listeners=[sent]) as client:
        app = make_shop(None, SESSION_MONGODB=client, SESSION_MONGODB_TIMEOUT=LIMIT)
        app.static_folder = str(tmp_path)
        app.register_blueprint(Blueprint("help", "help", static_folder=str(tmp_path), static_url_path="/help"))
        add_login(app)

        @app.get("/elsewhere")
        def elsewhere():
            return redirect("/untouched")

        @app.get("/failing")
        def failing():
            raise ValueError("as any view may")

        yield app
        server.resume()
        server.start()  # a client says goodbye, and waits long for a server to say it to


@pytest.fixture
def enter(shop):
    """Makes browsers of somebody who is logged in, with something in the session."""

    def make():
        browser = shop.test_client()
        for path in ("/write/kept/1", "/sign-in/7"):
            eventually(lambda path=path: browser.get(path).status_code == 200, 20, "the server")
        return browser

    return make


@pytest.fixture
def browser(enter):
    """One such browser."""
    return enter()


@pytest.fixture(params=["kill", "pause"])
def outage(request, server):
    """Makes the database stop answering, in one way and the other."""
    return getattr(server, request.param)


#: Pages that have nothing to do with the session, and how they are answered.
PAGES = {
    "/static/style.css": 200,
    "/help/style.css": 200,
    "/static/missing.css": 404,
    "/untouched": 200,
    "/nowhere": 404,
    "/elsewhere": 302,
}
#: Pages that have.
RELYING = ["/read/kept", "/whoami", "/private", "/write/kept/2", "/count", "/sign-in/8", "/confirm-login", "/renew"]


@pytest.mark.parametrize("path", ["/static/style.css", "/help/style.css", "/static/missing.css"])
def test_a_static_file_costs_no_command(browser, sent, path):
    """Though Flask-Login asks for its flag after each request: nothing is sent, nothing varies with the cookie."""
    sent.names.clear()
    with browser.get(path) as response:
        assert response.status_code == PAGES[path]

    assert sent.names == []
    assert "Set-Cookie" not in response.headers


def test_elsewhere_a_read_after_the_view_stays_a_read(shop, enter, sent):
    """An ``after_request`` function sees what is stored."""
    seen = []

    @shop.after_request
    def look(response):
        seen.append(session.get("kept"))
        return response

    browser = enter()
    seen.clear()
    sent.names.clear()
    assert browser.get("/untouched").status_code == 200

    assert seen == ["1"]
    assert sent.names == ["find"]


def test_what_did_not_rely_on_it_stays_what_it_is(browser, outage, sent, timed):
    """Static files, pages without session, redirections, and errors of their own, each within the time limit."""
    outage()
    sent.names.clear()
    answers = {path: timed(browser.get, path) for path in PAGES}
    with contextlib.ExitStack() as stack:
        for response, _ in answers.values():
            stack.enter_context(response)

        assert {path: response.status_code for path, (response, _) in answers.items()} == PAGES
    assert not any("Retry-After" in response.headers for response, _ in answers.values())
    assert not any("Set-Cookie" in response.headers for response, _ in answers.values())
    assert max(seconds for _, seconds in answers.values()) <= LIMIT + OVERTIME
    for path in ("/static/style.css", "/help/style.css", "/static/missing.css"):
        assert answers[path][1] < 0.5


def test_what_relied_on_it_is_a_503(browser, outage, timed):
    """Reads, writes, log-ins and Flask-Login's own questions, each with the time to come back."""
    outage()
    cookie = browser.get_cookie("session").value
    for path in RELYING:
        response, seconds = timed(browser.get, path)
        assert (path, response.status_code) == (path, 503)
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Cache-Control"] == "no-store"
        assert seconds <= LIMIT + OVERTIME
        assert browser.get_cookie("session").value == cookie


def test_a_log_out_takes_the_cookie(shop, enter, server):
    """Whoever was leaving when the database went is out as far as this browser goes, and hears that it was not kept."""

    @shop.get("/sign-out")
    def sign_out():
        assert current_user.is_authenticated
        server.pause()
        return str(logout_user())

    browser = enter()
    response = browser.get("/sign-out")

    assert response.status_code == 503
    assert browser.get_cookie("session") is None


def test_an_error_of_the_view_stays_one(browser, server):
    """A view that fails by itself is the 500 that it would be."""
    server.pause()

    assert browser.get("/failing").status_code == 500


def test_everything_is_back_with_the_database(browser, server):
    """The pages that were spoilt are there again, for the user who was logged in."""
    server.pause()
    for path in [*PAGES, *RELYING]:
        browser.get(path).close()
    server.resume()
    eventually(lambda: browser.get("/whoami").status_code == 200, 10, "the server")

    assert browser.get("/whoami").text == "7"
    assert browser.get("/read/kept").text == "1"


def test_a_read_after_the_view_finds_an_empty_session(shop, enter, server):
    """Any function that runs after the request, any way of reading: nothing is there, nothing is raised."""
    seen = []

    @shop.after_request
    def look(response):
        seen.extend([session.get("kept"), "kept" in session, session.pop("kept", "none")])
        seen.extend([len(session), bool(session), dict(session), session.permanent, session.created_at])
        return response

    browser = enter()
    seen.clear()
    server.pause()
    response = browser.get("/untouched")

    assert (response.status_code, response.text) == (200, "nothing")
    assert seen == [None, False, "none", 0, False, {}, False, None]
    assert "Set-Cookie" not in response.headers


def test_a_write_after_the_view_is_a_503(shop, enter, server):
    """An answer whose ``after_request`` function stored something is not what it seems; a static file is."""

    @shop.after_request
    def count(response):
        session["views"] = session.get("views", 0) + 1
        return response

    browser = enter()
    server.pause()

    assert browser.get("/untouched").status_code == 503
    for path in ("/static/style.css", "/help/style.css"):
        with browser.get(path) as response:
            assert response.status_code == 200


def test_a_flag_that_comes_and_goes_is_no_change(browser, server):
    """With ``REMEMBER_COOKIE_REFRESH_EACH_REQUEST`` Flask-Login sets one and takes it out after each request."""
    browser.application.config["REMEMBER_COOKIE_REFRESH_EACH_REQUEST"] = True
    server.pause()

    response = browser.get("/untouched")

    assert (response.status_code, response.text) == (200, "nothing")


def test_a_stream_finds_an_empty_session(shop, enter, server):
    """An answer that is sent bit by bit reads nothing, and ends as it should."""

    @shop.get("/stream")
    def stream():
        return stream_with_context(str(session.get(key)) for key in ("kept", "_user_id"))

    browser = enter()
    server.pause()
    response = browser.get("/stream")

    assert (response.status_code, response.text) == (200, "NoneNone")


BLIND = {
    "a plain write": [("a", 1)],
    "everything": [("a", 1), ("modified", True)],
    "Flask-Login's flag": [("_fresh", False)],
}


@pytest.mark.parametrize("writes", BLIND.values(), ids=BLIND)
def test_no_write_is_lost_silently(shop, enter, failing, stored, writes):
    """A save that has to read first, and cannot, is a 503; what is answered with 200 is stored."""

    @shop.get("/blind")
    def blind():
        for key, value in writes:
            if key == "modified":
                session.modified = value
            else:
                session[key] = value
        return "written"

    browser = enter()
    shop.after_request_funcs.clear()  # Flask-Login would read
    with failing("find", errorCode=13):
        status = browser.get("/blind").status_code

    key, value = writes[0]
    assert status == (200 if stored.sessions.find_one()["data"].get(key) == value else 503)
