"""How many Python functions of this package a request enters: exact, so that nobody adds a detour unseen."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from flask import session

import flask_mongo_session

PACKAGE = str(Path(flask_mongo_session.__file__).parent)


def calls_of(act):
    """The package's functions entered while *act* runs in this thread, with how often."""
    entered = Counter()

    def profile(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            file = frame.f_code.co_filename.removeprefix(f"{PACKAGE}/")
            entered[f"{file}:{frame.f_code.co_name}"] += 1

    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
    return entered


@pytest.fixture
def browser(app):
    """A client with a stored session, after a first round of all views: caches are warm."""

    @app.get("/change")
    def change():
        session["count"] = session["count"] + 1
        return ""

    browser = app.test_client()
    for path in ("/count", "/change", "/read/count", "/untouched", "/login/7", "/logout", "/count"):
        browser.get(path)
    return browser


#: By page, in Python 3.11, which still counts a comprehension as a call.
CALLS = {"/untouched": 8, "/read/count": 34, "/change": 55, "/login/7": 75}


@pytest.mark.parametrize("path", CALLS)
def test_calls_of_a_request(browser, path):
    """No request walks further through the package than it did; who finds a shorter way writes it down here."""
    entered = calls_of(lambda: browser.get(path))

    shown = "\n".join(f"{count:3} {name}" for name, count in entered.items())
    if sys.version_info[:2] == (3, 11):
        assert entered.total() == CALLS[path], shown
    else:
        assert entered.total() <= CALLS[path] + 1, shown


@pytest.mark.parametrize("act", [lambda: session["one"], lambda: session["one"].append(2)], ids=["read", "changed"])
def test_a_request_pays_for_the_keys_that_it_uses(app, act):
    """Values are decoded, compared and encoded key by key: what else the session holds costs no call."""

    def calls_beside(others):
        browser = app.test_client()
        with browser.session_transaction() as stored:
            stored.update(one=[1], **{f"key{number}": [{"a": (number,)}] for number in range(others)})
        browser.get("/act")
        return calls_of(lambda: browser.get("/act"))

    app.add_url_rule("/act", view_func=lambda: str(act()))
    assert calls_beside(50) == calls_beside(0)
