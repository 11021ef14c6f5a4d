"""What cannot be read or saved becomes one honest error page, made by the application itself."""

from __future__ import annotations

import io
import logging

import pymongo
import pytest
from flask import Response, flash, get_flashed_messages, render_template_string, send_file, session
from sent import Sent
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from flask_mongo_session import SessionStoreUnavailable, SessionTooLarge, UnstorableValue

READ, SAVE = "/read/kept", "/write/kept/1"


@pytest.fixture(autouse=True)
def broken(failing):
    """Every command that a session needs is refused."""
    with failing("find", "insert", "update", "delete", "findAndModify", errorCode=91):
        yield


@pytest.fixture
def whole(server):
    """Heals what :func:`broken` broke."""

    def heal():
        server.command("configureFailPoint", "failCommand", mode="off")

    return heal


@pytest.fixture
def browser(shop, visitor):
    """A visitor with a cookie, for whom the database does not answer."""
    return visitor(shop)


@pytest.mark.parametrize("path", [READ, SAVE])
@pytest.mark.parametrize("caught", [503, SessionStoreUnavailable, ServiceUnavailable, HTTPException, Exception])
def test_the_applications_own_handler_makes_the_page(shop, browser, path, caught):
    """By code, by our class or by any class above it, for reads and saves alike; the headers come from us."""

    @shop.errorhandler(caught)
    def handler(error):
        assert isinstance(error, SessionStoreUnavailable)
        return "we are sorry", 503, {"X-Shop": "closed"}

    response = browser.get(path)

    assert (response.status_code, response.text) == (503, "we are sorry")
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Shop"] == "closed"
    assert response.headers["Content-Length"] == "12"
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("path", [READ, SAVE])
def test_what_the_handler_says_of_retrying_counts(shop, browser, path):
    """An application that knows better when to come back may say so."""

    @shop.errorhandler(503)
    def handler(error):
        return "later", 503, {"Retry-After": "120"}

    assert browser.get(path).headers["Retry-After"] == "120"


@pytest.mark.parametrize("path", [READ, SAVE])
def test_an_error_page_may_read_the_session(shop, browser, path):
    """Its template finds an empty session; nothing asks the database again."""

    @shop.errorhandler(503)
    def handler(error):
        return render_template_string("{{ session.theme }}{{ session.get('a', 'none') }}{{ session | length }}"), 503

    response = browser.get(path)

    assert (response.status_code, response.text) == (503, "none0")
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", [READ, SAVE])
def test_an_error_page_may_write_to_the_session(shop, browser, path):
    """A page that flashes shows its message, and is a 503 all the same."""

    @shop.errorhandler(503)
    def handler(error):
        flash("the till is closed")
        session.permanent = True
        session["seen"] = session.increment("errors")
        return "".join(get_flashed_messages()), 503

    response = browser.get(path)

    assert (response.status_code, response.text) == (503, "the till is closed")
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("path", [READ, SAVE])
def test_a_handler_that_fails_itself_is_an_ordinary_error(shop, browser, path):
    """One 500 by Flask's own means."""

    @shop.errorhandler(503)
    def handler(error):
        raise RuntimeError("broken page")

    assert browser.get(path).status_code == 500


def test_a_view_that_goes_on_after_a_failed_read_cannot_lose_a_write(shop, browser):
    """It caught the error and wrote: that was not stored, so the answer is not what the view says."""

    @shop.get("/stubborn")
    def stubborn():
        try:
            session.get("cart")
        except SessionStoreUnavailable:
            session["cart"] = [1]
        return "stored"

    assert browser.get("/stubborn").status_code == 503


def test_a_view_that_goes_on_after_a_failed_read_may_answer(shop, browser):
    """A page that makes do without the session is delivered."""

    @shop.get("/makeshift")
    def makeshift():
        try:
            theme = session.get("theme")
        except SessionStoreUnavailable:
            theme = session.get("theme", "light")
        return theme

    response = browser.get("/makeshift")

    assert (response.status_code, response.text) == (200, "light")
    assert "Set-Cookie" not in response.headers


def test_one_attempt_to_save(shop, uri, make_shop):
    """Flask saves again when saving raises; there is one command all the same."""
    sent = Sent()
    with pymongo.MongoClient(uri, event_listeners=[sent]) as client:
        client.admin.command("ping")
        assert make_shop(None, SESSION_MONGODB=client).test_client().get(SAVE).status_code == 503

    assert sent.names.count("insert") == 1


def test_headers_of_after_request_stay(shop, browser):
    """What the application says on every answer, it says on this one."""

    @shop.after_request
    def secure(response):
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Vary"] = "Accept"
        response.set_cookie("language", "de")
        return response

    @shop.errorhandler(503)
    def handler(error):
        return "sorry", 503, {"X-Frame-Options": "SAMEORIGIN"}

    response = browser.get(SAVE)

    assert response.status_code == 503
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Set-Cookie"].startswith("language=de")
    assert {"Accept", "Cookie"} >= set(response.vary)


def test_what_described_the_lost_body_goes_with_it(shop, browser):
    """Type, length, validators and redirections belonged to the answer that is not sent."""

    @shop.get("/download")
    def download():
        session["kept"] = 1
        headers = {"ETag": '"1"', "Location": "/x", "Content-Disposition": "attachment", "Content-Language": "de"}
        return Response("%PDF" * 100, 201, headers, content_type="application/pdf")

    response = browser.get("/download")

    assert response.status_code == 503
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert int(response.headers["Content-Length"]) == len(response.data)
    assert not {"ETag", "Location", "Content-Disposition", "Content-Language"} & set(response.headers.keys())


def test_a_streamed_body_is_closed(shop, browser):
    """The stream of the answer that is not sent gets to clean up, and so does who waits for its end."""
    events = []

    class Body:
        def __iter__(self):
            yield "never sent"

        def close(self):
            events.append("closed")

    @shop.get("/stream")
    def stream():
        session["kept"] = 1
        response = Response(Body())
        response.call_on_close(lambda: events.append("called"))
        return response

    with browser.get("/stream") as response:
        assert response.status_code == 503
        assert "never" not in response.text

    assert events == ["closed", "called"]


def test_a_sent_file_is_closed(shop, browser):
    """A file on its way out is closed, its headers are gone."""
    file = io.BytesIO(b"secret" * 1000)

    @shop.get("/file")
    def sent():
        session["kept"] = 1
        return send_file(file, "application/zip", as_attachment=True, download_name="a.zip")

    response = browser.get("/file")

    assert response.status_code == 503
    assert file.closed
    assert b"secret" not in response.data
    assert "Content-Disposition" not in response.headers


@pytest.mark.parametrize("path", [READ, SAVE])
def test_the_error_page_may_be_a_file(shop, browser, path):
    """A handler that answers with ``send_file`` works too."""

    @shop.errorhandler(503)
    def handler(error):
        response = send_file(io.BytesIO(b"<h1>closed</h1>"), "text/html")
        response.status_code = 503
        return response

    response = browser.get(path)

    assert (response.status_code, response.data) == (503, b"<h1>closed</h1>")
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/logout", "/leave"])
def test_a_log_out_that_nobody_confirmed_takes_the_cookie(shop, browser, path):
    """Who wanted to leave is out, as far as this browser goes, whether reading or deleting failed."""
    response = browser.get(path)

    assert response.status_code == 503
    assert response.headers["Set-Cookie"].startswith("session=;")
    assert browser.get_cookie("session") is None


@pytest.mark.parametrize("path", [READ, SAVE, "/count", "/login/7", "/untouched"])
def test_nothing_else_touches_the_cookie(browser, path):
    """An outage logs nobody out."""
    assert "Set-Cookie" not in browser.get(path).headers


def test_a_session_transaction_is_told(shop, browser):
    """A test that prepares a session hears of the failure where it is."""
    with pytest.raises(SessionStoreUnavailable), browser.session_transaction() as prepared:
        prepared["kept"] = 1


# -- what the data is to blame for ------------------------------------------------------------------------------------


@pytest.fixture
def full(shop, whole):
    """A browser with a stored session, and views that spoil it at the end of the request."""
    whole()

    @shop.get("/grow")
    def grow():
        session["big"] = "x" * 2_000_000
        return "grown"

    @shop.get("/spoil")
    def spoil():
        session["list"].append(object())
        return "spoilt"

    browser = shop.test_client()
    browser.get("/write/kept/1")
    with browser.session_transaction() as prepared:
        prepared["list"] = [1]
    return browser


@pytest.mark.parametrize("spoiling", [("/grow", SessionTooLarge), ("/spoil", UnstorableValue)], ids=["grow", "spoil"])
def test_what_cannot_be_stored_is_one_error(full, stored, caplog, spoiling):
    """A single 500, logged once with its cause; the stored session and the cookie are as before."""
    path, error = spoiling
    before = stored.sessions.find_one()
    response = full.get(path)

    assert response.status_code == 500
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers
    assert stored.sessions.find_one() == before
    logged = [record.exc_info[0] for record in caplog.records if record.levelno >= logging.ERROR]
    assert logged == [error]
    assert full.get("/read/list").text == "[1]"


@pytest.mark.parametrize("error", [SessionTooLarge, UnstorableValue])
def test_what_cannot_be_stored_goes_through_the_handlers(shop, whole, error):
    """By class, as any error of a view."""
    whole()
    shop.register_error_handler(error, lambda error: (type(error).__name__, 413))

    @shop.get("/spoil")
    def spoil():
        session["list"] = [] if error is UnstorableValue else "x" * 2_000_000
        if error is UnstorableValue:
            session["list"].append(object())
        return "spoilt"

    response = shop.test_client().get("/spoil")

    assert (response.status_code, response.text) == (413, error.__name__)


@pytest.mark.parametrize(("path", "error"), [("/grow", SessionTooLarge), ("/spoil", UnstorableValue)])
def test_what_cannot_be_stored_is_raised_in_testing(shop, full, path, error):
    """A test sees the error itself."""
    shop.testing = True

    with pytest.raises(error):
        full.get(path)
