"""What the cookie is after every case: its flags, its size, and who must not get in with what."""

from __future__ import annotations

import pytest
from interleaving import is_deletion, live, store_of
from werkzeug.http import parse_set_header

FLAGS = {
    "SESSION_COOKIE_DOMAIN": "example.test",
    "SESSION_COOKIE_PATH": "/shop",
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_HTTPONLY": True,
    "SESSION_COOKIE_SAMESITE": "None",
    "SESSION_COOKIE_PARTITIONED": True,
}
EXPECTED_FLAGS = {
    "Domain": "example.test",
    "Path": "/shop",
    "Secure": "",
    "HttpOnly": "",
    "SameSite": "None",
    "Partitioned": "",
}

#: What happened before, what the request does, and whether a cookie is set, deleted or left alone.
CASES = [
    ([], "/untouched", None),
    ([], "/read/a", None),
    ([], "/write/a/1", "set"),
    ([], "/login/7", "set"),
    ([], "/logout", None),
    (["/start"], "/untouched", None),
    (["/start"], "/read/secret", None),
    (["/start"], "/write/a/1", None),
    (["/start"], "/change/a/1", None),
    (["/start"], "/increment/n", None),
    (["/start"], "/permanent", "set"),
    (["/start"], "/deadline/900", "set"),
    (["/start"], "/regenerate", "set"),
    (["/start"], "/login/8", "set"),
    (["/start"], "/login-anew/8", "set"),
    (["/start"], "/logout-user", "set"),
    (["/start"], "/logout", "deleted"),
    (["/start"], "/empty", "deleted"),
    (["/start", "/permanent"], "/untouched", None),
    (["/start", "/permanent"], "/read/secret", "set"),
    (["/start", "/permanent"], "/write/a/1", "set"),
    (["/start", "/permanent"], "/logout", "deleted"),
]
STALE = [
    ("/read/secret", None),
    ("/change/a/1", "set"),
    ("/write/a/1", "set"),
    ("/increment/n", "set"),
    ("/regenerate", None),
    ("/login/8", "set"),
    ("/logout-user", None),
    ("/empty", None),
    ("/logout", None),
    ("/untouched", None),
]


@pytest.fixture
def flagged(make_web):
    """An application with every flag that a cookie may have."""
    return make_web(**FLAGS)


def check(response, outcome):
    """One cookie or none, with the flags, small; one ``Vary`` wherever the answer depends on the session."""
    lines = response.headers.getlist("Set-Cookie")
    assert len(lines) == (outcome is not None), lines
    varies = response.headers.getlist("Vary")
    assert len(varies) <= 1
    if lines:
        assert len(lines[0]) <= 4_096
        flags = dict(part.strip().partition("=")[::2] for part in lines[0].split(";")[1:])
        assert {name: flags.get(name) for name in EXPECTED_FLAGS} == EXPECTED_FLAGS
        assert is_deletion(lines[0]) == (outcome == "deleted")
        assert list(parse_set_header(varies[0])) == ["Cookie"]


@pytest.mark.parametrize(
    ("before", "path", "outcome"), CASES, ids=[" ".join([*before, path]) for before, path, _ in CASES]
)
def test_the_cookie_has_its_flags_in_every_case(flagged, browse, before, path, outcome):
    """Set or deleted: the same attributes each time, once; left alone where nothing about it changes."""
    browser = browse(flagged)
    for step in before:
        browser.get(step)

    check(browser.get(path), outcome)


@pytest.mark.parametrize(("path", "outcome"), STALE, ids=[path for path, _ in STALE])
@pytest.mark.parametrize("how", ["expired", "removed"])
def test_a_session_that_was_found_gone_costs_nobody_a_cookie(flagged, browse, path, outcome, how):
    """Only who ended it deletes it; it is replaced only by what was written without having been read."""
    browser = browse(flagged)
    browser.get("/start")
    store = store_of(flagged)
    if how == "expired":
        store.collection.update_many({}, {"$set": {"expires_at": store.now()}})
    else:
        store.collection.delete_many({})
    before = browser.cookie

    check(browser.get(path), outcome)

    assert before != browser.cookie or outcome is None
    assert "secret" not in str(live(flagged))


@pytest.mark.parametrize("path", [path for path, _ in STALE if path not in ("/login/8", "/logout", "/logout-user")])
def test_a_session_that_a_rotation_just_ended_sends_no_cookie(flagged, browse, path):
    """The browser is about to get a better one."""
    browser = browse(flagged)
    browser.get("/start")
    before = browser.cookie
    browser.get("/regenerate")

    check(browse(flagged).get(path, cookie=before), None)
    assert browser.get("/whoami").text == "7"


# ruff: noqa: ARG005 - all are asked alike
EXPIRED = {
    "find": lambda store, sid: store.find(sid) is None,
    "all": lambda store, sid: store.all() == {},
    "iterate": lambda store, sid: list(store.iterate()) == [],
    "live()": lambda store, sid: store.model.objects.live().count() == 0,
    "of_user()": lambda store, sid: store.model.objects.of_user("7").live().count() == 0,
}


@pytest.mark.parametrize("asked", EXPIRED)
def test_what_has_expired_is_not_listed_before_it_is_swept(web, browse, asked):
    """The record is there, the session is not."""
    browser = browse(web)
    browser.get("/start")
    sid = browser.get("/token").json["sid"]
    store = store_of(web)
    store.collection.update_many({}, {"$set": {"expires_at": store.now()}})

    with web.app_context():
        assert EXPIRED[asked](store, sid)
    assert store.count_expired() == 1


@pytest.mark.parametrize(
    "path", ["/change/a/1", "/write/a/1", "/increment/n", "/untouched", "/regenerate", "/login/8", "/merge/{token}"]
)
def test_what_has_expired_is_not_brought_back_before_it_is_swept(make_web, browse, path):
    """Neither a change, nor a touch, a rotation, or a merge from another session takes anything of it."""
    web = make_web(SESSION_TOUCH_INTERVAL=0)
    browser, other = browse(web), browse(web)
    browser.get("/start")
    token = browser.get("/token").json["token"]
    store = store_of(web)
    store.collection.update_many({}, {"$set": {"expires_at": store.now()}})
    other.get("/write/mine/1")

    for one in (browser, other):
        one.get(path.format(token=token), cookie=browser.cookie if one is browser else None)

    assert "what only" not in str(live(web))
    assert store.collection.count_documents({"data.secret": {"$exists": True}}) == 1, "still as it was"
