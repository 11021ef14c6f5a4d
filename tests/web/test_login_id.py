"""Flask-Login's remember-me cookies end with a revocation, where the application uses login ids."""

from __future__ import annotations

import pytest
from flask import session
from flask_login import LoginManager, UserMixin, current_user, login_user

from flask_mongo_session.document.record import GENERATION, split_login, user_text


@pytest.fixture
def ours(app):
    """The extension of an application with Flask-Login, set up as the documentation says."""
    sessions = app.extensions["sessions"]
    manager = LoginManager(app)

    class User(UserMixin):
        def __init__(self, user_id):
            self.id = user_id

        def get_id(self):
            return sessions.login_id(self.id)

    @manager.user_loader
    def load_user(login_id):
        user_id = sessions.user_behind(login_id)
        return User(user_id) if user_id else None

    @app.get("/enter/<user>")
    def enter(user):
        login_user(User(user), remember=True)
        return user

    @app.get("/who")
    def who():
        return str(getattr(current_user, "id", None))

    @app.get("/end-others")
    def end_others():
        return str(sessions.revoke_user(current_user.id, keep=session.sid))

    return sessions


@pytest.fixture
def remembered(app, ours):
    """Logs a user in at a browser of its own, and gives back only what "remember me" left there."""

    def remembered(user="ada"):
        browser = app.test_client()
        browser.get(f"/enter/{user}")
        kept = app.test_client()
        kept.set_cookie("remember_token", browser.get_cookie("remember_token").decoded_value)
        return kept

    return remembered


REVOCATIONS = {
    "revoke_user": lambda ours: ours.revoke_user("ada"),
    "erase_user": lambda ours: ours.erase_user("ada"),
    "revoke_all": lambda ours: ours.revoke_all(),
}


@pytest.mark.parametrize("revoke", REVOCATIONS.values(), ids=REVOCATIONS)
def test_a_remember_me_cookie_ends_with_a_revocation(ours, remembered, sessions, revoke):
    """It logs in before, and not afterwards: nobody is logged in, nothing is stored, and the browser forgets it."""
    browser, bob = remembered(), remembered("bob")
    copy = remembered()
    assert browser.get("/who").text == "ada"
    revoke(ours)

    for one in (browser, copy):
        assert one.get("/who").text == "None"
        assert one.get_cookie("remember_token") is None
        assert one.get("/who").text == "None"
    assert sessions.count_documents({"user_id": "ada"}) == 0
    assert bob.get("/who").text == ("None" if revoke is REVOCATIONS["revoke_all"] else "bob")


def test_a_new_cookie_works_after_a_revocation(ours, remembered):
    """Who logs in again is remembered again."""
    ours.revoke_user("ada")
    browser = remembered()
    assert [browser.get("/who").text for _ in range(3)] == ["ada"] * 3


def test_the_session_that_is_kept_goes_on(app, ours, remembered):
    """The revocation ends what the user had elsewhere, not the session that asks for it."""
    browser, elsewhere = app.test_client(), remembered()
    browser.get("/enter/ada")
    assert elsewhere.get("/who").text == "ada"
    assert browser.get("/end-others").text == "2"

    assert [elsewhere.get("/who").text, browser.get("/who").text] == ["None", "ada"]


def test_what_it_costs(app, ours, commands):
    """A query at log-in, a query and an update at the first request, and nothing more after that."""
    browser, sent = app.test_client(), []
    for path in ("/enter/ada", "/who", "/who"):
        commands.clear()
        browser.get(path)
        sent.append(commands.names)

    assert sent == [["find", "insert"], ["find", "find", "update"], ["find"]]


def test_a_log_in_by_cookie_that_a_revocation_overtakes(app, ours, remembered):
    """What is stored after the revocation, by a request that was let in before it, logs nobody in."""

    @app.get("/slow")
    def slow():
        user = current_user.id
        ours.revoke_user("ada")
        return user

    browser = remembered()
    assert browser.get("/slow").text == "ada"
    assert [browser.get("/who").text for _ in range(2)] == ["None"] * 2
    assert ours.of_user("ada") == []


def test_sessions_are_found_by_the_user(ours, remembered):
    """A login id names its user wherever a user is asked for."""
    remembered().get("/who")

    assert len(ours.of_user("ada")) == len(ours.of_user(ours.login_id("ada"))) == 2
    assert ours.revoke_user(ours.login_id("ada")) == 2
    assert ours.not_before("ada") <= ours.store.now()
    assert ours.not_before("bob") is None
    with pytest.raises(TypeError, match="nobody"):
        ours.login_id(None)


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("ada", ("ada", 0)),
        (f"ada{GENERATION}3", ("ada", 3)),
        (f"a{GENERATION}b{GENERATION}12", (f"a{GENERATION}b", 12)),
        (f"ada{GENERATION}", (f"ada{GENERATION}", 0)),
        (f"{GENERATION}3", (f"{GENERATION}3", 0)),
        (f"ada{GENERATION}²", (f"ada{GENERATION}²", 0)),
        (f"ada{GENERATION}-1", (f"ada{GENERATION}-1", 0)),
    ],
)
def test_a_login_id_in_two(text, user):
    """Whatever is no login id is a user's id; the record knows the user alone."""
    assert split_login(text) == user
    assert user_text(text) == user[0]
