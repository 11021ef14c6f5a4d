"""What a browser is told where nobody knows whether a rotation was stored: answers lost, late, or never asked for."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import typing as t

import pymongo
import pytest
from flask import request, session
from plain_shop import add_views
from sent import Sent

from flask_mongo_session.exceptions import SessionStoreUnavailable
from flask_mongo_session.mongo.circuit_breaker import BREAKER_FAILURES
from flask_mongo_session.mongo.clock import boottime
from flask_mongo_session.session.state import token_hash

LIMIT = 1.0
#: Seconds after which waiting for the driver is given up.
PATIENCE = 20.0
CART, SEVEN = {"cart": "book"}, {"user_id": "7"}
LATER = dt.datetime(2100, 1, 1, tzinfo=dt.timezone.utc)
WIDE = {f"k{number}": number for number in range(150)}


class Rotation(t.NamedTuple):
    """A request that changes the token, and what the session holds before and after it."""

    path: str
    before: dict[str, t.Any]
    after: dict[str, t.Any]


ROTATIONS = {
    "log-in": Rotation("/login/7", CART, CART | SEVEN),
    "regenerate": Rotation("/renew", CART | SEVEN, CART | SEVEN),
    "confirm": Rotation("/confirm", CART | SEVEN, CART | SEVEN),
    "switch of user": Rotation("/login/8", CART | SEVEN, {"user_id": "8"}),
    "cleared and logged in": Rotation("/clean-login", CART | SEVEN, {"user_id": "8"}),
    "more than 100 keys": Rotation("/wide", CART | SEVEN, CART | SEVEN | WIDE),
}
#: ``clear()`` is a log-out also where something is written after it.
LOG_OUTS = ("/logout", "/leave", "/anew")
#: Those that wait for the time limit.
SLOW = ("log-in", "regenerate", "switch of user", "cleared and logged in")


class Tab:
    """A browser with something in its session."""

    def __init__(self, app, before, sessions, *, permanent=False):
        self.browser, self._sessions = app.test_client(), sessions
        self.get("/write/cart/book")
        if permanent:
            self.get("/stay")
        if "user_id" in before:
            self.get("/login/7")
        self.sid, self.token = self.parts[:2]

    def get(self, path):
        return self.browser.get(path)

    @property
    def parts(self):
        """Of the cookie: the id, one or two tokens, the extras, the signature; none without a cookie."""
        cookie = self.browser.get_cookie("session")
        return cookie.value.split(".") if cookie else []

    @property
    def record(self):
        return self._sessions.find_one({"_id": self.sid})

    def seen(self):
        """What the session holds, once the driver has found its server again."""
        deadline = time.monotonic() + PATIENCE
        while (response := self.get("/all")).status_code == 503 and time.monotonic() < deadline:
            pass

        assert response.status_code == 200
        return response.json


def add_more_views(app):
    """Rotations that the other views do not have."""

    @app.get("/stay")
    def stay():
        session.permanent = True
        return "permanent"

    @app.get("/anew")
    def anew():
        session.clear()
        session["gift"] = "wrapped"
        return "anew"

    @app.get("/clean-login")
    def clean_login():
        session.clear()
        session["user_id"] = "8"
        return "in"

    @app.get("/wide")
    def wide():
        session.update(WIDE)
        session.regenerate()
        return "wide"


@pytest.fixture
def shop(make_app, relay, mongo_server):
    """An application behind the relay, with a time limit of one second."""
    with pymongo.MongoClient(relay.uri(mongo_server.uri)) as client:
        app = make_app(SESSION_MONGODB=client, SESSION_MONGODB_TIMEOUT=LIMIT, TESTING=False)
        add_views(app)
        add_more_views(app)
        yield app


@pytest.fixture
def visit(shop, sessions):
    """Makes tabs."""
    return lambda before=CART | SEVEN, **how: Tab(shop, before, sessions, **how)


@pytest.fixture
def lost(visit, relay):
    """Makes tabs whose rotation was stored, and whose connection broke before the answer came."""

    def make(rotation=ROTATIONS["regenerate"], **how):
        tab = visit(rotation.before, **how)
        relay.lose()
        assert tab.get(rotation.path).status_code == 503
        relay.wait_answered()
        assert len(tab.parts) == 5
        return tab

    return make


@pytest.fixture
def late(visit, relay):
    """Makes tabs whose rotation has not arrived, although the time for it is up."""

    def make(rotation=ROTATIONS["regenerate"], **how):
        tab = visit(rotation.before, **how)
        relay.hold()
        assert tab.get(rotation.path).status_code == 503
        relay.wait_held()
        assert len(tab.parts) == 5
        return tab

    return make


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize("name", ROTATIONS)
def test_stored_and_the_answer_lost(lost, name, permanent):
    """The connection breaks after the commit: the new token in the 503's cookie works, and soon it is the only one."""
    rotation = ROTATIONS[name]
    tab = lost(rotation, permanent=permanent)
    sid, old, new = tab.parts[:3]
    assert (sid, old) == (tab.sid, tab.token)
    assert tab.record["token"] == token_hash(new)

    assert tab.seen() == rotation.after
    assert tab.get("/write/more/1").status_code == 200
    assert tab.parts[:2] == [sid, new]
    assert len(tab.parts) == 4
    assert tab.parts[2][0] == ("p" if tab.record.get("permanent") else "s")
    assert tab.seen() == rotation.after | {"more": "1"}


@pytest.mark.parametrize("name", SLOW)
def test_read_before_it_arrives(late, relay, name):
    """A rotation that is carried out late: as long as nothing else is confirmed the cookie works before and after."""
    rotation = ROTATIONS[name]
    tab = late(rotation)
    assert tab.seen() == rotation.before
    assert len(tab.parts) == 5

    relay.deliver()
    assert tab.record["token"] == token_hash(tab.parts[2])
    assert tab.seen() == rotation.after
    assert tab.get("/write/more/1").status_code == 200
    assert len(tab.parts) == 4
    assert tab.seen() == rotation.after | {"more": "1"}


@pytest.mark.parametrize("name", SLOW)
def test_written_before_it_arrives(late, relay, name):
    """A write that is confirmed with the old token, and then the rotation: the browser keeps its session."""
    tab = late(ROTATIONS[name])
    assert tab.get("/write/more/1").status_code == 200

    relay.deliver()
    assert tab.seen()["more"] == "1"


def test_a_permanent_session_is_read_before_it_arrives(late, relay):
    """Its cookie is sent with each answer; the browser keeps its session, whatever arrives afterwards."""
    tab = late(permanent=True)
    assert tab.seen() == CART | SEVEN

    relay.deliver()
    assert tab.seen() == CART | SEVEN


@pytest.mark.parametrize("name", SLOW)
def test_rotated_again_before_it_arrives(late, relay, name):
    """The next rotation is confirmed, and the late one finds its token gone."""
    tab = late(ROTATIONS[name])
    assert tab.get("/renew").status_code == 200
    assert len(tab.parts) == 4

    relay.deliver()
    assert tab.seen() == ROTATIONS[name].before


@pytest.mark.parametrize("path", LOG_OUTS)
@pytest.mark.parametrize("name", ["regenerate", "switch of user"])
def test_a_log_out_before_it_arrives(late, relay, name, path):
    """An acknowledged log-out stands; no token of that time reads anything."""
    tab = late(ROTATIONS[name])
    torn = tab.browser.get_cookie("session").value
    assert tab.get(path).status_code == 200
    record = tab.record
    assert "user_id" not in record.get("data", {})

    relay.deliver()
    assert tab.record == record
    tab.browser.set_cookie("session", torn)
    assert tab.seen() == {}


@pytest.mark.parametrize("path", LOG_OUTS)
@pytest.mark.parametrize("how", ["lose", "hold"])
def test_a_log_out_without_an_answer(visit, relay, how, path):
    """It takes the cookie away, whether it was stored, is on its way, or never arrives."""
    tab = visit()
    getattr(relay, how)()
    response = tab.get(path)

    assert response.status_code == 503
    assert tab.parts == []
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    relay.deliver()
    assert "user_id" not in tab.record.get("data", {})


# -- never asked for --------------------------------------------------------------------------------------------------


@pytest.fixture
def sent():
    """The commands of :func:`outage`."""
    return Sent()


@pytest.fixture
def outage(make_app, mongo_server_own, sent):
    """An application on a server of its own; in a request with ``?open`` its circuit breaker opens after the load.

    With ``?open=clock`` the database's time is known, so that it is the update itself that is refused.
    """
    with pymongo.MongoClient(mongo_server_own.uri, event_listeners=[sent]) as client:
        app = make_app(SESSION_MONGODB=client, SESSION_MONGODB_TIMEOUT=LIMIT, TESTING=False)
        add_views(app)
        add_more_views(app)
        connection = app.extensions["mongo_session"].store.connection

        @app.before_request
        def open_breaker():
            if "open" in request.args:
                assert session.get("cart") == "book"
                with failing(mongo_server_own, "update", closeConnection=True):
                    fail_until_open(app, connection.breaker)
                if request.args["open"] == "clock":
                    connection.clock.now(connection.client)  # by another request, which had been let in before
                sent.names.clear()

        yield app


@contextlib.contextmanager
def failing(server, command, **how):
    """The server does not answer that command as it should."""
    data = {"failCommands": [command], **how}
    server.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
    try:
        yield
    finally:
        server.command("configureFailPoint", "failCommand", mode="off")


def fail_until_open(app, breaker):
    """Others ask in vain, until nobody is let through any more."""
    store = app.extensions["mongo_session"].store
    for _ in range(BREAKER_FAILURES):
        assert not breaker.open
        with pytest.raises(SessionStoreUnavailable):
            store.commit("somebody", {}, LATER)
    breaker._refuse_until = boottime() + 60  # however long this process is not scheduled
    assert breaker.open


def heal(app):
    """The breaker lets the next one try, who finds the server well."""
    app.extensions["mongo_session"].store.connection.breaker._refuse_until = 0.0


@pytest.fixture
def sessions_of_outage(outage):
    """Its collection."""
    config = outage.config
    return config["SESSION_MONGODB"][config["SESSION_MONGODB_DB"]]["sessions"]


@pytest.mark.parametrize(
    ("known", "names"), [("nothing", ["regenerate"]), pytest.param("clock", [*ROTATIONS], marks=pytest.mark.soak)]
)
def test_an_open_breaker_sends_no_cookie(outage, sessions_of_outage, sent, known, names):
    """A rotation that was never sent cannot have been stored: the cookie stays as it is, and works afterwards."""
    for rotation in map(ROTATIONS.get, names):
        tab = Tab(outage, rotation.before, sessions_of_outage)
        parts, record = tab.parts, tab.record
        response = tab.get(f"{rotation.path}?open={known}")
        assert (response.status_code, sent.names) == (503, [])
        assert "Set-Cookie" not in response.headers

        heal(outage)
        assert tab.parts == parts
        assert tab.record == record
        assert tab.seen() == rotation.before


def test_an_open_breaker_keeps_both_tokens(outage, sessions_of_outage, sent, mongo_server_own):
    """What the browser has of an unanswered rotation stays, and goes on working."""
    tab = Tab(outage, CART | SEVEN, sessions_of_outage)
    with failing(mongo_server_own, "update", writeConcernError={"code": 64, "errmsg": "x"}):
        assert tab.get("/renew").status_code == 503
    parts = tab.parts
    assert len(parts) == 5

    response = tab.get("/login/8?open=clock")
    assert (response.status_code, sent.names) == (503, [])
    assert "Set-Cookie" not in response.headers
    heal(outage)
    assert tab.parts == parts
    assert tab.seen() == CART | SEVEN
    assert tab.get("/write/more/1").status_code == 200
    assert tab.parts[:2] == [parts[0], parts[2]]


@pytest.mark.soak
def test_an_open_breaker_and_a_log_out(outage, sessions_of_outage, sent):
    """The browser's cookie goes, although nothing was sent; whoever kept it is still let in."""
    for path in LOG_OUTS:
        tab = Tab(outage, CART | SEVEN, sessions_of_outage)
        cookie, record = tab.browser.get_cookie("session").value, tab.record
        response = tab.get(f"{path}?open=clock")
        assert (response.status_code, sent.names) == (503, [])
        assert tab.parts == []

        heal(outage)
        assert tab.record == record
        tab.browser.set_cookie("session", cookie)
        assert tab.seen() == CART | SEVEN
