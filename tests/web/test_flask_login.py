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

from flask_mongo_session import fresh_session
from flask_mongo_session.session.state import token_hash


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


def hash_of(cookie):
    """What the database holds of the cookie's secret."""
    return token_hash(cookie.split(".")[1])


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


def test_a_log_in_changes_the_token_and_keeps_the_data(app, sessions):
    """Without a word about it in the application; the token from before is worthless, to a thief too."""
    browser, thief = app.test_client(), app.test_client()
    browser.get("/visit")
    before = cookie_of(browser)
    thief.set_cookie("session", before)

    browser.get("/login/ann")

    (document,) = sessions.find()
    assert document["token"] == hash_of(cookie_of(browser)) != hash_of(before)
    assert document["data"]["cart"] == ["book"]
    assert document["user_id"] == "ann"
    assert thief.get("/whoami").text == "nobody"
    assert thief.get("/private").status_code == 401


def test_a_log_out_changes_the_token_too(app, sessions):
    """What is left of the session goes on under another token, and belongs to nobody."""
    browser, thief = app.test_client(), app.test_client()
    browser.get("/visit")
    browser.get("/login/ann")
    thief.set_cookie("session", cookie_of(browser))
    assert thief.get("/whoami").text == "ann"

    browser.get("/logout")

    assert thief.get("/whoami").text == "nobody"
    assert list(sessions.find({"user_id": "ann"})) == []
    assert browser.get("/whoami").text == "nobody"
    assert sessions.find_one()["data"]["cart"] == ["book"]


def test_switching_users_leaves_nothing_behind(app, sessions):
    """Logging in as another user is a log-in: new token, new owner, and nothing of the first one's."""
    browser = app.test_client()
    browser.get("/login/ann")
    browser.get("/visit")
    before = cookie_of(browser)

    browser.get("/login/bob")

    assert cookie_of(browser) != before
    (document,) = sessions.find()
    assert document["user_id"] == "bob"
    assert "cart" not in document["data"]


def test_logging_in_again_as_the_same_user_keeps_the_token(app):
    """Nothing changes that would ask for a new one."""
    browser = app.test_client()
    browser.get("/login/ann")
    before = cookie_of(browser)

    browser.get("/login/ann")

    assert cookie_of(browser) == before


def test_a_remembered_user_comes_back_under_a_new_session(app, sessions):
    """The remember cookie outlives the session; who comes back by it is not fresh until confirmed."""
    browser = app.test_client()
    browser.get("/remember/ann")
    sessions.delete_many({})

    assert browser.get("/whoami").text == "ann"
    assert browser.get("/secret").status_code == 401
    assert browser.get("/confirm").text == "True"
    assert browser.get("/secret").text == "secret"
    assert sessions.count_documents({"user_id": "ann", "ended_at": None}) == 1


def test_strong_protection_ends_a_session_that_moved_to_another_browser(app, sessions):
    """Flask-Login takes the user out: the session does not go on, under no id."""
    app.login_manager.session_protection = "strong"
    browser, thief = app.test_client(), app.test_client()
    browser.get("/login/ann", headers={"User-Agent": "one"})
    thief.set_cookie("session", cookie_of(browser))

    assert thief.get("/whoami", headers={"User-Agent": "another"}).text == "nobody"

    assert browser.get("/whoami", headers={"User-Agent": "one"}).text == "nobody"
    assert sessions.count_documents({"user_id": "ann", "ended_at": None}) == 0


def test_revoking_a_user_logs_out_everywhere(app):
    """Two browsers, one call."""
    browsers = [app.test_client() for _ in range(2)]
    for browser in browsers:
        browser.get("/login/ann")

    assert app.extensions["sessions"].revoke_user("ann") == 2
    assert [browser.get("/private").status_code for browser in browsers] == [401, 401]


def test_a_page_costs_one_find_and_no_write(app, commands):
    """Whether it asks for the user or not, since Flask-Login looks into the session after every request; but a file."""
    browser = app.test_client()
    browser.get("/login/ann")

    for path, sent in [("/private", ["find"]), ("/nowhere", ["find"]), ("/static/none", [])]:
        commands.clear()
        browser.get(path)
        assert commands.names == sent, path


def test_a_remembered_log_in_is_not_fresh(app, sessions):
    """A view that wants a fresh session sends who came back by the remember cookie away, until they confirm."""

    @app.get("/guarded")
    @fresh_session(3600)
    def guarded():
        return "guarded"

    browser = app.test_client()
    browser.get("/remember/ann")
    assert browser.get("/guarded").text == "guarded"
    browser.delete_cookie("session")

    assert browser.get("/guarded").status_code == 401
    assert browser.get("/whoami").text == "ann"
    assert browser.get("/guarded").status_code == 401
    assert "authenticated_at" not in sessions.find_one({"data._fresh": False})
    before = cookie_of(browser)

    browser.get("/confirm")
    assert browser.get("/guarded").text == "guarded"
    assert cookie_of(browser) != before


def test_a_log_out_that_sees_nobody_still_wins(app, sessions):
    """``logout_user()`` removes only what it finds; after a rotation the old cookie finds nothing, and yet it ends."""
    app.add_url_rule("/rotate", "rotate", lambda: session.regenerate() or "")
    app.add_url_rule("/leave", "leave", lambda: str(logout_user()))
    browser, other = app.test_client(), app.test_client()
    browser.get("/login/ann")
    other.set_cookie("session", cookie_of(browser))
    browser.get("/rotate")

    other.get("/leave")

    assert browser.get("/whoami").text == "nobody"
    assert sessions.count_documents({"user_id": "ann"}) == 0


def test_a_form_token_from_before_the_log_in_is_worthless(app, sessions):
    """Keys in ``SESSION_FORGET_ON_LOGIN`` go when the user changes; what is written afterwards stays."""
    app.add_url_rule("/plant", "plant", lambda: session.update(csrf_token="planted", other=1) or "")

    @app.get("/login-and-form")
    def login_and_form():
        login_user(User("ann"))
        session["csrf_token"] = "new"
        return ""

    browser = app.test_client()
    browser.get("/plant")
    browser.get("/login/ann")
    assert "csrf_token" not in sessions.find_one()["data"]
    assert sessions.find_one()["data"]["other"] == 1

    again = app.test_client()
    again.get("/plant")
    again.get("/login-and-form")
    assert sessions.find_one({"data.csrf_token": {"$exists": True}})["data"]["csrf_token"] == "new"
