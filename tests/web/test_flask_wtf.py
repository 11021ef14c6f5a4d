"""Flask-WTF's CSRF token lives in the session; and what a streamed response may do with a session."""

from __future__ import annotations

import pytest
from flask import Response, session, stream_with_context
from flask_wtf import CSRFProtect
from flask_wtf.csrf import generate_csrf


@pytest.fixture
def app(make_app):
    """An application that protects all its forms."""
    return add_shop(make_app(WTF_CSRF_TIME_LIMIT=None))


def add_shop(app):
    """Protect the application's forms, and give it some."""
    CSRFProtect(app)

    @app.get("/form")
    def form():
        return generate_csrf()

    @app.post("/buy")
    def buy():
        session["bought"] = True
        return "bought"

    @app.get("/login/<user>")
    def login(user):
        session["user_id"] = user
        return user

    @app.get("/logout")
    def logout():
        session.clear()
        return "bye"

    @app.get("/bought")
    def bought():
        return str(session.get("bought"))

    @app.get("/keys")
    def keys():
        return sorted(session)

    add_streams(app)
    return app


def add_streams(app):
    """Views whose responses go on after the session was saved."""

    @app.get("/streamed")
    def streamed():
        @stream_with_context
        def lines():
            yield f"bought: {session.get('bought')}\n"
            yield "end\n"

        return Response(lines())

    @app.get("/streamed-write")
    def streamed_write():
        session["before"] = "kept"

        @stream_with_context
        def lines():
            yield "begin\n"
            session["during"] = "too late: the headers and the save have gone before"
            yield f"end {session['before']}\n"

        return Response(lines())


def test_a_token_from_the_form_is_accepted(app):
    """The token that one request puts into the session is what the next one is checked against."""
    browser = app.test_client()
    token = browser.get("/form").text

    assert browser.post("/buy", data={"csrf_token": token}).text == "bought"
    assert browser.get("/bought").text == "True"


def test_a_missing_or_foreign_token_is_refused_and_changes_nothing(app):
    """Neither none, nor another browser's."""
    browser, other = app.test_client(), app.test_client()
    browser.get("/form")
    foreign = other.get("/form").text

    assert browser.post("/buy").status_code == 400
    assert browser.post("/buy", data={"csrf_token": foreign}).status_code == 400
    assert browser.get("/bought").text == "None"


def test_a_form_from_before_the_log_in_does_not_count(app):
    """Its token may have been planted; the log-in forgets it, and the next page brings another one."""
    browser = app.test_client()
    token = browser.get("/form").text

    browser.get("/login/7")

    assert browser.post("/buy", data={"csrf_token": token}).status_code == 400
    assert browser.post("/buy", data={"csrf_token": browser.get("/form").text}).text == "bought"


def test_a_form_of_one_user_does_not_count_for_the_next(app):
    """Nor for the same user again, after somebody else."""
    browser = app.test_client()
    browser.get("/login/7")
    token = browser.get("/form").text

    for user in ("8", "7"):
        browser.get(f"/login/{user}")
        assert browser.post("/buy", data={"csrf_token": token}).status_code == 400
    assert browser.get("/bought").text == "None"


def test_a_form_counts_after_the_log_in_where_the_application_says_so(make_app):
    """``SESSION_FORGET_ON_LOGIN`` names the keys that go; none, if it is empty."""
    app = add_shop(make_app(SESSION_FORGET_ON_LOGIN=()))
    browser = app.test_client()
    token = browser.get("/form").text

    browser.get("/login/7")

    assert browser.post("/buy", data={"csrf_token": token}).text == "bought"


def test_a_form_from_before_the_log_out_does_not(app):
    """The token ends with the session."""
    browser = app.test_client()
    browser.get("/login/7")
    token = browser.get("/form").text

    browser.get("/logout")

    assert browser.post("/buy", data={"csrf_token": token}).status_code == 400


def test_asking_for_the_same_token_again_writes_nothing(app, commands):
    """A page with a form costs one find once its token is there."""
    browser = app.test_client()
    browser.get("/form")
    commands.clear()

    browser.get("/form")

    assert commands.names == ["find"]


def test_a_streamed_response_can_read_the_session(app):
    """After it was saved, and as it was saved."""
    browser = app.test_client()
    token = browser.get("/form").text
    browser.post("/buy", data={"csrf_token": token})

    assert browser.get("/streamed").text == "bought: True\nend\n"


def test_a_streamed_response_saves_once_before_it_begins(app, commands):
    """What is written before the stream is kept; what is written during it is not, as with Flask's own sessions."""
    browser = app.test_client()
    browser.get("/form")
    commands.clear()

    assert browser.get("/streamed-write").text == "begin\nend kept\n"

    assert commands.names.count("update") == 1
    assert browser.get("/keys").json == ["before", "csrf_token"]
