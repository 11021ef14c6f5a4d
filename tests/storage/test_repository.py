"""Commands sent to MongoDB, counted exactly."""

from __future__ import annotations

import pytest


@pytest.fixture
def browser(app, commands):
    """A client that has a stored session, with nothing counted yet."""
    browser = app.test_client()
    browser.get("/write/kept/1")
    commands.clear()
    return browser


def test_untouched_request_sends_nothing(browser, commands):
    """A view that never looks at the session costs no command, whatever cookie came."""
    browser.get("/untouched")

    assert commands.names == []


def test_read_sends_one_find(browser, commands):
    """Reading loads the session once, and saving it sends nothing."""
    assert browser.get("/read/kept").text == "1"
    assert commands.names == ["find"]


def test_write_without_reading_sends_one_update(browser, commands):
    """An assignment alone needs no load."""
    browser.get("/write/kept/2")

    assert commands.names == ["update"]
    assert browser.get("/read/kept").text == "2"


def test_read_and_change_sends_find_and_update(browser, commands):
    """A change after a read is one update of that key."""
    assert [browser.get("/count").text for _ in range(2)] == ["1", "2"]
    assert commands.names == ["find", "update"] * 2
    assert set(commands.sent[-1]["updates"][0]["u"]["$set"]) == {"data.count", "expires_at", "touched_at"}


def test_anonymous_read_sends_nothing(app, commands):
    """Without a cookie there is nothing to look for."""
    response = app.test_client().get("/read/kept")

    assert commands.names == []
    assert "Set-Cookie" not in response.headers


def test_anonymous_write_sends_one_insert(app, commands):
    """A new session is one insert."""
    app.test_client().get("/write/kept/1")

    assert commands.names == ["insert"]


@pytest.mark.parametrize("cookie", ["", "garbage", "a.b.c", "x" * 4000, "t\xf6k.s1.sig", ".s1."])
def test_forged_cookie_sends_nothing(app, commands, cookie):
    """The database is not asked about a cookie that we did not sign."""
    browser = app.test_client()
    browser.set_cookie("session", cookie)

    assert browser.get("/read/kept").text == "None"
    assert commands.names == []


def test_log_in_sends_three(browser, commands):
    """A rotation is a find, the retirement of the old record, and an insert."""
    browser.get("/login/7")

    assert commands.names == ["find", "findAndModify", "insert"]


def test_log_out_sends_one_delete(browser, commands):
    """Ending a session needs no load."""
    browser.get("/logout")

    assert commands.names == ["delete"]
