"""The token of our own forms, where the application has no Flask-WTF: whose it is, and how long it counts."""

from __future__ import annotations

import re

import pytest
from flask import session

from flask_mongo_session.contrib.forgery import is_genuine, token_field


@pytest.fixture
def site(app):
    """An application with a form."""

    @app.route("/form", methods=["GET", "POST"])
    def form():
        return str(is_genuine())

    @app.get("/token")
    def token():
        return dict([token_field()])

    @app.get("/change/<how>")
    def change(how):
        getattr(session, how)()
        return how

    return app


@pytest.fixture
def browser(site):
    """A browser of somebody who is logged in."""
    browser = site.test_client()
    browser.get("/login/ada")
    return browser


def token_of(browser):
    return browser.get("/token").json["csrf_token"]


def counts(browser, token):
    return browser.post("/form", data={"csrf_token": token}).text == "True"


def test_a_forms_token_counts_as_long_as_the_session_goes_on(browser):
    """The page that was opened first can still be sent after others were."""
    token = token_of(browser)

    browser.get("/write/key/value")
    assert token_of(browser) == token
    assert counts(browser, token)


@pytest.mark.parametrize(
    "paths",
    [
        ["/login/bob"],
        ["/login/bob", "/login/ada"],
        ["/logout", "/login/ada"],
        ["/change/regenerate"],
        ["/change/confirm"],
    ],
)
def test_it_does_not_survive_another_user_or_another_token(browser, paths):
    """Whoever follows, and the same user under a new token, gets a token of their own."""
    token = token_of(browser)

    for path in paths:
        browser.get(path)
    assert token_of(browser) != token
    assert not counts(browser, token)
    assert counts(browser, token_of(browser))


def test_a_token_that_was_planted_before_the_log_in_does_not_count_after_it(site):
    """Somebody else's anonymous session, put into this browser, gives no form of the user's away."""
    browser = site.test_client()
    browser.get("/write/key/value")
    token = token_of(browser)
    assert counts(browser, token)

    browser.get("/login/ada")
    assert not counts(browser, token)


def test_it_belongs_to_one_session(site, browser):
    """Not even another session of the same user's has it."""
    other = site.test_client()
    other.get("/login/ada")

    assert token_of(other) != token_of(browser)
    assert not counts(browser, token_of(other))


@pytest.mark.parametrize("how", ["no cookie", "forged", "revoked", "overtaken"])
def test_without_a_session_there_is_none(site, browser, sessions, how):
    """Nothing that a form could say counts then, the empty text included."""
    cookie, token = browser.get_cookie("session").value, token_of(browser)
    if how == "revoked":
        site.extensions["sessions"].revoke(cookie.partition(".")[0])
    elif how == "overtaken":
        browser.get("/login/bob")
    stranger = site.test_client()
    if how != "no cookie":
        stranger.set_cookie("session", cookie + "x" * (how == "forged"))

    assert token_of(stranger) == ""
    assert not counts(stranger, "")
    assert not counts(stranger, token)


def test_the_token_tells_nothing_of_the_sessions(browser):
    """It is a digest: neither the id nor the secret of the cookie is in it."""
    sid, secret = browser.get_cookie("session").value.split(".")[:2]
    token = token_of(browser)

    assert re.fullmatch("[0-9a-f]{64}", token)
    assert sid not in token
    assert secret not in token


@pytest.mark.parametrize("token", ["", "forged", "é", "\N{SNOWMAN}" * 1000])
def test_what_a_stranger_sends_is_refused(browser, token):
    """Whatever it is, and where there is no such field."""
    assert not counts(browser, token)
    assert browser.post("/form").text == "False"
