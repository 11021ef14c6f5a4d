"""Flask-Login on our sessions: its life cycle, and what becomes of ids, cookies and requests in flight."""

from __future__ import annotations

import pytest
from flask import session
from flask_login import (
    LoginManager,
    UserMixin,
    confirm_login,
    current_user,
    fresh_login_required,
    login_fresh,
    login_required,
    login_user,
    logout_user,
)

from flask_mongo_session import session_id


class User(UserMixin):
    def __init__(self, name):
        self.id = name


@pytest.fixture
def app(make_app):
    """An application as Flask-Login's documentation shows it."""
    app = make_app()
    manager = LoginManager(app)
    manager.user_loader(User)

    @app.get("/visit")
    def visit():
        session["cart"] = ["book"]
        return "visited"

    @app.get("/login/<name>")
    def login(name):
        return str(login_user(User(name)))

    @app.get("/remember/<name>")
    def remember(name):
        return str(login_user(User(name), remember=True))

    @app.get("/logout")
    @login_required
    def logout():
        return str(logout_user())

    @app.get("/whoami")
    def whoami():
        return current_user.get_id() or "nobody"

    @app.get("/private")
    @login_required
    def private():
        return "private"

    @app.get("/secret")
    @fresh_login_required
    def secret():
        return "secret"

    @app.get("/confirm")
    def confirm():
        confirm_login()
        return str(login_fresh())

    return app


def cookie_of(browser):
    return browser.get_cookie("session").value


def sid_of(app, cookie):
    return session_id(app.session_interface.signer(app).read(cookie).token)


def test_the_life_cycle_of_a_log_in(app):
    """Refused, logged in, recognised, logged out, refused again."""
    browser = app.test_client()
    assert browser.get("/private").status_code == 401

    assert browser.get("/login/ann").text == "True"
    assert browser.get("/private").text == "private"
    assert browser.get("/whoami").text == "ann"
    assert browser.get("/logout").text == "True"

    assert browser.get("/private").status_code == 401
    assert browser.get("/whoami").text == "nobody"


def test_a_log_in_changes_the_id_and_keeps_the_data(app, sessions):
    """Without a word about it in the application; the id from before is worthless, to a thief too."""
    browser, thief = app.test_client(), app.test_client()
    browser.get("/visit")
    before = cookie_of(browser)
    thief.set_cookie("session", before)

    browser.get("/login/ann")

    assert sid_of(app, cookie_of(browser)) != sid_of(app, before)
    (document,) = sessions.find({"ended": None})
    assert document["data"]["cart"] == ["book"]
    assert document["user_id"] == "ann"
    assert thief.get("/whoami").text == "nobody"
    assert thief.get("/private").status_code == 401


def test_a_log_out_changes_the_id_too(app, sessions):
    """What is left of the session goes on under another id, and belongs to nobody."""
    browser, thief = app.test_client(), app.test_client()
    browser.get("/visit")
    browser.get("/login/ann")
    thief.set_cookie("session", cookie_of(browser))
    assert thief.get("/whoami").text == "ann"

    browser.get("/logout")

    assert thief.get("/whoami").text == "nobody"
    assert list(sessions.find({"user_id": "ann", "ended": None})) == []
    assert browser.get("/whoami").text == "nobody"


def test_switching_users_leaves_nothing_behind(app, sessions):
    """Logging in as another user is a log-in: new id, new owner."""
    browser = app.test_client()
    browser.get("/login/ann")
    before = cookie_of(browser)

    browser.get("/login/bob")

    assert cookie_of(browser) != before
    assert [document["user_id"] for document in sessions.find({"ended": None})] == ["bob"]


def test_logging_in_again_as_the_same_user_keeps_the_id(app):
    """Nothing changes that would ask for a new one."""
    browser = app.test_client()
    browser.get("/login/ann")
    before = cookie_of(browser)

    browser.get("/login/ann")

    assert sid_of(app, cookie_of(browser)) == sid_of(app, before)


def test_a_remembered_user_comes_back_under_a_new_session(app, sessions):
    """The remember cookie outlives the session; who comes back by it is not fresh until confirmed."""
    browser = app.test_client()
    browser.get("/remember/ann")
    sessions.delete_many({})

    assert browser.get("/whoami").text == "ann"
    assert browser.get("/secret").status_code == 401
    assert browser.get("/confirm").text == "True"
    assert browser.get("/secret").text == "secret"
    assert sessions.count_documents({"user_id": "ann", "ended": None}) == 1


def test_strong_protection_ends_a_session_that_moved_to_another_browser(app, sessions):
    """Flask-Login takes the user out: the session does not go on, under no id."""
    app.login_manager.session_protection = "strong"
    browser, thief = app.test_client(), app.test_client()
    browser.get("/login/ann", headers={"User-Agent": "one"})
    thief.set_cookie("session", cookie_of(browser))

    assert thief.get("/whoami", headers={"User-Agent": "another"}).text == "nobody"

    assert browser.get("/whoami", headers={"User-Agent": "one"}).text == "nobody"
    assert sessions.count_documents({"user_id": "ann", "ended": None}) == 0


def test_revoking_a_user_logs_out_everywhere(app):
    """Two browsers, one call."""
    browsers = [app.test_client() for _ in range(2)]
    for browser in browsers:
        browser.get("/login/ann")

    assert app.extensions["sessions"].revoke_user("ann") == 2
    assert [browser.get("/private").status_code for browser in browsers] == [401, 401]


def test_a_page_costs_one_find_and_no_write(app, commands):
    """Whether it asks for the user or not: Flask-Login itself looks into the session after every request."""
    browser = app.test_client()
    browser.get("/login/ann")

    for path in ("/private", "/static/none", "/whoami"):
        commands.clear()
        browser.get(path)
        assert commands.names == ["find"], path
