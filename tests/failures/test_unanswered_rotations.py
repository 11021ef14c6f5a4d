"""A rotation whose answer stays out: the browser gets both tokens, and whichever the database knows is the one."""

from __future__ import annotations

import contextlib
import itertools
import random
import typing as t

import pymongo
import pytest
from conftest import LIMIT
from flask import session
from pymongo import monitoring
from waiting import eventually

from flask_mongo_session.session.state import token_hash

CART, SEVEN = {"cart": "book"}, {"user_id": "7"}
#: How the answer to an update is kept from us, and whether the update is carried out.
WAYS = {
    "connection closed": ({"closeConnection": True}, False),
    "time is up": ({"errorCode": 50}, False),
    "too slow": ({"blockConnection": True, "blockTimeMS": int(LIMIT * 1000) + 500}, False),
    "no majority": ({"writeConcernError": {"code": 64, "errmsg": "x", "errInfo": {"wtimeout": True}}}, True),
    "unsatisfiable": ({"writeConcernError": {"code": 100, "errmsg": "x"}}, True),
}
QUICK_WAYS = ["time is up", "no majority", "unsatisfiable"]
#: One way each in which it is not carried out, and is.
EITHER_WAY = pytest.mark.parametrize("way", ["time is up", "no majority"])


class Rotation(t.NamedTuple):
    """A request that changes the token, and what the session holds before and after it."""

    path: str
    before: dict[str, str]
    after: dict[str, str]


ROTATIONS = {
    "log-in": Rotation("/login/7", CART, CART | SEVEN),
    "regenerate": Rotation("/renew", CART | SEVEN, CART | SEVEN),
    "confirm": Rotation("/confirm", CART | SEVEN, CART | SEVEN),
    "switch of user": Rotation("/login/8", CART | SEVEN, {"user_id": "8"}),
}


class Sent(monitoring.CommandListener):
    """The names of the commands sent, but for those that ask for the time or log a new connection in."""

    def __init__(self):
        self.names = []

    def started(self, event):
        if event.command_name not in ("hello", "saslContinue"):
            self.names.append(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


class Tab:
    """A browser with something in its session."""

    def __init__(self, app, rotation, stored):
        self.browser, self.rotation, self._sessions = app.test_client(), rotation, stored.sessions
        self.browser.get("/write/cart/book")
        if "user_id" in rotation.before:
            self.browser.get("/login/7")
        self.sid, self.token = self.parts[:2]

    @property
    def cookie(self):
        cookie = self.browser.get_cookie("session")
        return cookie and cookie.value

    @property
    def parts(self):
        """Of the cookie: the id, one or two tokens, the extras, the signature."""
        return self.cookie.split(".")

    @property
    def record(self):
        return self._sessions.find_one({"_id": self.sid})

    def get(self, path):
        return self.browser.get(path)

    def seen(self):
        response = self.get("/all")
        assert response.status_code == 200
        return response.json


@pytest.fixture
def sent(uri):
    """The commands of :func:`shop`, on a client of its own."""
    return Sent()


@pytest.fixture
def shop(make_shop, uri, sent):
    """An application whose commands are recorded, with a few views more."""
    with pymongo.MongoClient(uri, event_listeners=[sent]) as client:
        app = make_shop(None, SESSION_MONGODB=client)

        @app.get("/stay")
        def stay():
            session.permanent = True
            return "permanent"

        @app.get("/add")
        def add():
            session.append("list", 1)
            return "added"

        yield app


@pytest.fixture
def leave_unanswered(failing):
    """Asks for something while the answers to updates stay out; whether they were carried out."""

    def leave(tab, path, way):
        data, applied = WAYS[way]
        with failing("update", **data):
            response = tab.get(path)
        assert response.status_code == 503
        return applied

    return leave


@pytest.fixture
def torn(shop, stored, leave_unanswered):
    """Makes tabs whose cookie has two tokens, and tells which of them is right."""

    def make(way, rotation=ROTATIONS["regenerate"]):
        tab = Tab(shop, rotation, stored)
        applied = leave_unanswered(tab, rotation.path, way)
        assert len(tab.parts) == 5
        return tab, applied

    return make


@pytest.mark.parametrize(
    ("name", "way"),
    [*itertools.product(ROTATIONS, QUICK_WAYS), ("log-in", "too slow"), ("regenerate", "connection closed")],
)
def test_both_tokens_until_an_answer_is_confirmed(torn, name, way):
    """The 503's cookie has the old token and the new one; it works, and the next confirmed answer has one alone."""
    rotation = ROTATIONS[name]
    tab, applied = torn(way, rotation)
    sid, old, new = tab.parts[:3]
    assert (sid, old) == (tab.sid, tab.token)
    assert tab.record["token"] == token_hash(new if applied else old)

    torn_cookie, expected = tab.cookie, rotation.after if applied else rotation.before
    assert tab.seen() == expected
    assert tab.cookie == torn_cookie  # a read alone confirms nothing that a cookie may rely on

    assert tab.get("/write/gift/wrapped").status_code == 200
    assert len(tab.parts) == 4
    assert (tab.parts[0], tab.parts[1] == new) == (sid, applied)
    assert tab.parts[1] != old  # the rotation may still arrive, and finds its token gone
    assert tab.seen() == expected | {"gift": "wrapped"}


def test_a_database_that_hangs(server, shop, stored):
    """The update waits in a connection that we have given up, and may be carried out later: either token works."""

    @shop.get("/hang")
    def hang():
        session.regenerate()
        server.pause()
        return "renewed"

    tab = Tab(shop, ROTATIONS["regenerate"], stored)
    assert tab.get("/hang").status_code == 503
    assert len(tab.parts) == 5
    server.resume()
    eventually(lambda: tab.get("/all").status_code == 200, 10, "the server")

    assert tab.seen() == CART | SEVEN
    assert tab.get("/write/gift/wrapped").status_code == 200
    assert len(tab.parts) == 4
    assert tab.seen() == CART | SEVEN | {"gift": "wrapped"}


@EITHER_WAY
def test_a_permanent_session_gets_one_token_from_a_read(shop, stored, leave_unanswered, way):
    """A load that finds the new token says that it is the current one; while it finds the old one, both stay."""
    tab = Tab(shop, ROTATIONS["regenerate"], stored)
    tab.get("/stay")
    applied = leave_unanswered(tab, "/renew", way)
    torn = tab.parts
    assert len(torn) == 5
    assert torn[3].startswith("p")

    assert tab.seen() == CART | SEVEN
    assert tab.parts[:-1] == ([torn[0], torn[2], torn[3]] if applied else torn[:-1])
    assert tab.browser.get_cookie("session").max_age > 0


@EITHER_WAY
@pytest.mark.parametrize(
    ("path", "holds"), [("/write/gift/wrapped", {"gift": "wrapped"}), ("/add", {"list": [1]}), ("/count", {"count": 1})]
)
def test_it_loads_first(torn, sent, way, path, holds):
    """Also for a request that would not have had to read; whichever token it is, one update follows."""
    tab, applied = torn(way)
    sent.names.clear()

    assert tab.get(path).status_code == 200
    assert sent.names == ["find"] * (2 if applied else 1) + ["update"]
    assert tab.seen() == CART | SEVEN | holds


@EITHER_WAY
def test_a_page_that_does_not_use_the_session_leaves_it_alone(torn, sent, way):
    """No command, no cookie."""
    tab, _ = torn(way)
    sent.names.clear()

    assert "Set-Cookie" not in tab.get("/untouched").headers
    assert sent.names == []


@EITHER_WAY
@pytest.mark.parametrize("again", ["time is up", "no majority"])
def test_never_three_tokens(torn, leave_unanswered, way, again):
    """A second rotation in a row whose answer stays out: the one that was right, and the newest."""
    tab, applied = torn(way)
    right = tab.parts[2 if applied else 1]
    applied_again = leave_unanswered(tab, "/renew", again)

    assert len(tab.parts) == 5
    assert tab.parts[1] == right
    assert tab.record["token"] == token_hash(tab.parts[2 if applied_again else 1])
    assert tab.seen() == CART | SEVEN


@EITHER_WAY
def test_an_outage_in_between_keeps_both(torn, failing, way):
    """Who cannot even read learns nothing, and the browser keeps what it has."""
    tab, _ = torn(way)
    cookie = tab.cookie
    with failing("find", errorCode=13):
        for path in ("/all", "/write/a/1", "/renew", "/login/8"):
            assert tab.get(path).status_code == 503
            assert tab.cookie == cookie

    assert tab.seen() == CART | SEVEN


@EITHER_WAY
@pytest.mark.parametrize("path", ["/logout", "/leave"])
def test_a_log_out_takes_the_cookie_instead(shop, stored, leave_unanswered, way, path):
    """There is nothing to go on with for somebody who left, whether it was carried out or not."""
    tab = Tab(shop, ROTATIONS["regenerate"], stored)
    leave_unanswered(tab, path, way)

    assert tab.cookie is None


@EITHER_WAY
@pytest.mark.parametrize("path", ["/logout", "/leave"])
def test_a_log_out_with_both_tokens(torn, way, path):
    """It ends the session, or takes the user out of it, whichever of the tokens is right."""
    tab, _ = torn(way)
    assert tab.get(path).status_code == 200

    if path == "/logout":
        assert tab.record.keys() == {"_id", "ended_at", "expires_at"}
        assert tab.cookie is None
    else:
        assert tab.record["data"] == CART
        assert len(tab.parts) == 4
        assert tab.seen() == CART


@EITHER_WAY
def test_a_log_out_with_both_tokens_that_is_not_answered_either(torn, leave_unanswered, way):
    """It takes the cookie, too."""
    tab, _ = torn(way)
    leave_unanswered(tab, "/logout", "no majority")

    assert tab.cookie is None
    assert tab.record.keys() == {"_id", "ended_at", "expires_at"}


@EITHER_WAY
def test_a_session_with_both_tokens_can_be_merged(torn, shop, way):
    """``session.token`` is the one that is right."""
    tab, _ = torn(way)
    token = tab.get("/token").text
    other = shop.test_client()
    other.get("/write/gift/wrapped")

    assert other.get(f"/merge/{token}").status_code == 200
    assert other.get("/all").json == CART | SEVEN | {"gift": "wrapped"}


@EITHER_WAY
def test_clearing_and_logging_in_is_no_log_out(shop, stored, leave_unanswered, way):
    """As many log-ins begin with ``session.clear()``: the cookie has both tokens, and one of them works."""

    @shop.get("/clean-login")
    def clean_login():
        session.clear()
        session["user_id"] = "8"
        return "in"

    tab = Tab(shop, ROTATIONS["regenerate"], stored)
    applied = leave_unanswered(tab, "/clean-login", way)

    assert len(tab.parts) == 5
    assert tab.seen() == ({"user_id": "8"} if applied else CART | SEVEN)


def wander(tab, chance, steps, failing):
    """Requests at random, of which any rotation may go unanswered: the session is what was acknowledged, or asked."""
    expected = tab.rotation.before
    for number in range(steps):
        path, asked = chance.choice(
            [
                ("/renew", expected),
                ("/confirm", expected),
                ("/login/7", expected | SEVEN if expected.get("user_id") == "7" else SEVEN),
                ("/login/8", expected | {"user_id": "8"} if expected.get("user_id") == "8" else {"user_id": "8"}),
                (f"/write/k/{number}", expected | {"k": str(number)}),
                ("/all", expected),
            ]
        )
        data, applied = WAYS[chance.choice([*QUICK_WAYS, "connection closed"])]
        spoil = failing("update", **data) if chance.random() < 0.4 else contextlib.nullcontext()
        with spoil:
            status = tab.get(path).status_code

        seen = tab.seen()  # always an answer, and it closes the breaker
        assert tab.cookie.count(".") in {3, 4}
        assert seen == (asked if status == 200 or applied else expected), (number, path, status)
        assert status in {200, 503}
        expected = seen


@pytest.mark.parametrize("steps", [60, pytest.param(400, marks=pytest.mark.soak)])
def test_any_number_of_them(shop, stored, failing, steps):
    """One after the other, with others in between: the browser never loses its session."""
    wander(Tab(shop, ROTATIONS["regenerate"], stored), random.Random(steps), steps, failing)
