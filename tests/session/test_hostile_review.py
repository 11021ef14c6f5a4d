"""What a hostile reader of the code found: merging, limits, values that are changed in place, forgotten keys."""

from __future__ import annotations

import pytest
from flask import request, session

from flask_mongo_session import current_user_id


@pytest.fixture
def site(make_app):
    """Makes applications with a view for each deed."""

    def make(**config):
        app = make_app(**config)
        app.add_url_rule("/login/<user>", "login", lambda user: session.update(user_id=user) or user)
        app.add_url_rule("/set/<key>/<value>", "put", lambda key, value: session.update({key: value}) or "")
        app.add_url_rule("/leave", "leave", lambda: session.pop("user_id", None) or "")
        app.add_url_rule("/all", "all", lambda: dict(session))
        app.add_url_rule("/token", "token", lambda: session.token or "")
        app.add_url_rule("/merge", "merge", lambda: session.merge(request.args["token"]) or "")
        app.add_url_rule("/me", "me", lambda: str(current_user_id(session)))
        return app

    return make


def merge(browser, other):
    return browser.get("/merge", query_string={"token": other.get("/token").text})


def test_a_merge_that_brings_a_user_leaves_the_last_ones_data_behind(site):
    """As a log-in does: what Ada left when she logged out is not for Bob, whose session is taken over."""
    app = site()
    shared, bobs = app.test_client(), app.test_client()
    for path in ("/login/ada", "/set/secret/hers", "/leave"):
        shared.get(path)
    bobs.get("/login/bob")
    bobs.get("/set/cart/his")
    merge(shared, bobs)

    assert shared.get("/all").json == {"cart": "his", "user_id": "bob"}
    assert bobs.get("/all").json == {}


def test_a_merge_that_brings_a_user_forgets_the_form_token(site):
    """A form token that was planted before is worthless afterwards; the visitor's own cart stays."""
    app = site()
    visitor, bobs = app.test_client(), app.test_client()
    visitor.get("/set/csrf_token/planted")
    visitor.get("/set/cart/mine")
    bobs.get("/login/bob")
    merge(visitor, bobs)

    assert visitor.get("/all").json == {"cart": "mine", "user_id": "bob"}


@pytest.mark.parametrize("policy", ["oldest", "refuse"])
def test_a_merge_is_one_session_less(site, policy):
    """Two become one: nobody is refused, and no session is lost, whichever of them is the older one."""
    app = site(SESSION_MAX_PER_USER=(1, policy))
    for _ in range(5):
        visitor, bobs = app.test_client(), app.test_client()
        visitor.get("/set/cart/mine")
        bobs.get("/login/bob")

        assert merge(visitor, bobs).status_code == 200
        assert visitor.get("/all").json == {"cart": "mine", "user_id": "bob"}
        assert bobs.get("/all").json == {}
        assert len(app.extensions["sessions"].of_user("bob")) == 1
        visitor.get("/leave")


def test_a_user_that_is_changed_in_place_is_found_under_the_new_name(site, sessions):
    """With a dictionary as the user, its text is the user's name: what is changed in it changes that, and the token."""
    app = site(SESSION_USER_KEY="user")
    app.add_url_rule("/in", "in", lambda: session.update(user={"id": 7}) or "")
    app.add_url_rule("/rename", "rename", lambda: session["user"].update(id=8) or "")

    @app.get("/both")
    def both():
        session["user"] = user = {"id": 1}
        user["id"] = 2
        return ""

    browser = app.test_client()
    browser.get("/in")
    cookie = browser.get_cookie("session").value
    browser.get("/rename")
    assert browser.get_cookie("session").value != cookie
    assert sessions.find_one()["user_id"] == browser.get("/me").text == "{'id': 8}"

    browser.get("/both")
    assert sessions.find_one()["user_id"] == browser.get("/me").text == "{'id': 2}"
    assert app.extensions["sessions"].revoke_user({"id": 2}) == 1


@pytest.mark.parametrize("then", [None, "ada", "bob"])
def test_a_session_whose_key_was_forgotten_can_be_cleared(site, then):
    """Nobody can say whose it was; logging out and in is possible all the same."""
    browser = site(SESSION_ENCRYPTION_KEYS=["11" * 32]).test_client()
    browser.get("/login/ada")
    app = site(SESSION_ENCRYPTION_KEYS=["22" * 32])

    @app.get("/start-again")
    def start_again():
        assert dict(session) == {}
        session.clear()
        if then:
            session["user_id"] = then
        return ""

    again = app.test_client()
    again.set_cookie("session", browser.get_cookie("session").value)

    assert again.get("/start-again").status_code == 200
    assert again.get("/me").text == str(then)
    assert browser.get("/me").text == "None"
    if then:
        assert len(app.extensions["sessions"].of_user(then)) == 1


def test_a_session_whose_key_was_forgotten_is_not_the_next_users(site):
    """Bob logs in where Ada's session looks empty; once the key is back, nothing of hers is in his."""
    ring = ["11" * 32]
    browser = site(SESSION_ENCRYPTION_KEYS=ring).test_client()
    for path in ("/login/ada", "/set/secret/hers"):
        browser.get(path)

    without = site(SESSION_ENCRYPTION_KEYS=["22" * 32]).test_client()
    without.set_cookie("session", browser.get_cookie("session").value)
    assert without.get("/login/bob").status_code == 200
    both = site(SESSION_ENCRYPTION_KEYS=["22" * 32, *ring]).test_client()
    both.set_cookie("session", without.get_cookie("session").value)

    assert both.get("/all").json == {"user_id": "bob"}
    assert browser.get("/me").text == "None"


def test_fresh_is_asked_of_a_session_whose_key_was_forgotten(site):
    """Flask-Login's flag cannot be read, and is no error where it is set."""
    browser = site(SESSION_ENCRYPTION_KEYS=["11" * 32]).test_client()
    for path in ("/login/ada", "/set/_fresh/1"):
        browser.get(path)
    app = site(SESSION_ENCRYPTION_KEYS=["22" * 32])
    app.add_url_rule("/flag", "flag", lambda: session.update(_fresh=True) or str(session.fresh(60)))
    again = app.test_client()
    again.set_cookie("session", browser.get_cookie("session").value)

    assert again.get("/flag").status_code == 200
