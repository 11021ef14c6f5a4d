"""Two of three nodes are paused or behind: what nobody can confirm is a 503 in time, and no session gets lost by it."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import typing as t

import pytest
from flask import Flask, session
from plain_shop import add_views
from replication import confirms, lagging
from waiting import eventually

from flask_mongo_session import MongoSession

pytestmark = pytest.mark.replica

#: Seconds for one operation, and by how much an answer may be late: the driver looks for a server half a second longer.
LIMIT, OVERTIME = 1.0, 0.75
CART, GIFT, SEVEN = {"cart": "book"}, {"gift": "wrapped"}, {"user_id": "7"}
_numbers = itertools.count()


class Deed(t.NamedTuple):
    """A request that needs a majority, and what the session holds before and after it."""

    path: str
    before: dict[str, str]
    after: dict[str, str]
    #: Whether an answer that stays out takes the cookie away.
    logs_out: bool = False
    #: Whether the cookie outlives the browser; it would not after a switch of user.
    permanent: bool = True


DEEDS = {
    "log-in": Deed("/login/7", CART, CART | SEVEN),
    "regenerate": Deed("/renew", CART | SEVEN, CART | SEVEN),
    "confirm": Deed("/confirm", CART | SEVEN, CART | SEVEN),
    "log-out": Deed("/logout", CART | SEVEN, {}, logs_out=True),
    "user key removed": Deed("/leave", CART | SEVEN, CART, logs_out=True),
    "switch of user": Deed("/login/8", CART | SEVEN, {"user_id": "8"}, permanent=False),
    "cleared and logged in": Deed("/clean-login", CART | SEVEN, {"user_id": "8"}, permanent=False),
    "merge": Deed("/merge", CART | SEVEN, CART | SEVEN | GIFT),
}


class Visitor:
    """A browser that asks for one deed of an application that nobody else asks, so that no breaker answers for it."""

    def __init__(self, app, name):
        self.name, self.deed, self.app = name, DEEDS[name], app
        self.browser, self.other = app.test_client(), None
        self.path = self.deed.path
        self.get("/write/cart/book")
        if self.deed.permanent:
            self.get("/stay")
        if "user_id" in self.deed.before:
            self.get("/login/7")
        if self.path == "/merge":
            self.other = app.test_client()
            self.get("/write/gift/wrapped", self.other)
            self.path = f"/merge/{self.get('/token', self.other).text}"
        self.cookie = self.browser.get_cookie("session").value

    def get(self, path, browser=None):
        """The answer, once there is one."""
        return eventually(lambda: self._try(path, browser or self.browser), 30, f"an answer to {path}")

    @staticmethod
    def _try(path, browser):
        response = browser.get(path)
        return response if response.status_code == 200 else None

    def ask(self):
        """Ask for the deed: a 503 in time, whose cookie is that of before, or has both tokens, or goes."""
        began = time.monotonic()
        response = self.browser.get(self.path)
        seconds = time.monotonic() - began
        assert (self.name, response.status_code) == (self.name, 503)
        assert response.headers["Retry-After"] == "1"
        assert seconds <= LIMIT + OVERTIME, self.name
        if self.deed.logs_out:
            assert self.browser.get_cookie("session") is None
        else:
            assert self.parts[:2] == self.cookie.split(".")[:2]
            assert len(self.parts) in {4, 5}

    @property
    def parts(self):
        """Of the cookie: the id, one or two tokens, the extras, the signature."""
        return self.browser.get_cookie("session").value.split(".")

    def seen(self):
        return self.get("/all").json

    def check_session(self):
        """It is what it was, or what was asked for; who did not log out finds everything that was there."""
        if self.deed.logs_out:
            self.browser.set_cookie("session", self.cookie)
            assert self.seen() in (self.deed.before, {}), self.name  # the old cookie, as a thief would have it
            return
        assert self.seen() in (self.deed.before, self.deed.after), self.name
        if self.other:
            assert self.get("/all", self.other).json == GIFT

    def check_goes_on(self):
        """The next confirmed answer brings one token alone, and a cookie as lasting as before."""
        if self.deed.logs_out:
            return
        before = self.seen()
        self.get("/write/more/1")
        assert len(self.parts) == 4
        assert (self.browser.get_cookie("session").max_age is not None) == self.deed.permanent, self.name
        assert self.seen() == before | {"more": "1"}


def add_more_views(app):
    """What the other views do not do."""

    @app.get("/stay")
    def stay():
        session.permanent = True
        return "permanent"

    @app.get("/clean-login")
    def clean_login():
        session.clear()
        session["user_id"] = "8"
        return "in"


@pytest.fixture
def nodes(mongo_replica_set):
    """The replica set, whole before and after, with a majority that confirms."""
    mongo_replica_set.heal()
    with mongo_replica_set.client() as driver:
        eventually(lambda: confirms(driver), 40, "a majority")
    yield mongo_replica_set
    mongo_replica_set.heal()


@pytest.fixture
def worker(nodes):
    """Makes workers of one application."""
    uri = nodes.uri.replace("/?", f"/paused_{next(_numbers)}?")
    stores = []

    def make():
        app = Flask("shop")
        app.config.update(
            SECRET_KEY="a secret for tests only",
            SESSION_MONGODB_URI=uri,
            SESSION_MONGODB_TIMEOUT=LIMIT,
            SESSION_CLEANUP_INTERVAL=0,
            SESSION_AUTO_INDEX=False,
        )
        MongoSession(app)
        stores.append(app.extensions["mongo_session"].store)
        add_views(app)
        add_more_views(app)
        return app

    yield make
    for store in stores:
        store.stop_cleanup()


@contextlib.contextmanager
def paused(nodes):
    """The secondaries stop where they are; the primary answers until it notices."""
    for node in nodes.secondaries():
        node.pause()
    yield
    nodes.heal()


def side_by_side(calls):
    """Carry them out at once; the first failure is raised."""
    errors = []

    def carry_out(call):
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=carry_out, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    for error in errors:
        raise error


@pytest.mark.parametrize("harm", [paused, lagging])
def test_no_majority(nodes, worker, harm):
    """Each answer is a 503 in time; afterwards each browser has its session, as it was or as was asked."""
    visitors = [Visitor(worker(), name) for name in DEEDS]
    with harm(nodes):
        side_by_side([visitor.ask for visitor in visitors])

    for visitor in visitors:
        visitor.check_session()
        visitor.check_goes_on()


@pytest.mark.parametrize("harm", [paused, lagging])
def test_a_first_visit_without_a_majority(nodes, worker, harm):
    """Who had no session gets a 503 and no cookie, and may simply come again."""
    app = worker()
    Visitor(app, "regenerate")  # connected, and the clock is known
    browser = app.test_client()
    with harm(nodes):
        response = browser.get("/write/cart/book")
        assert response.status_code == 503
        assert "Set-Cookie" not in response.headers

    eventually(lambda: browser.get("/write/cart/book").status_code == 200, 30, "an answer")
    assert browser.get("/all").json == CART


@pytest.mark.soak
def test_one_rotation_after_the_other_without_a_majority(nodes, worker):
    """The primary stores each, and nobody confirms it: never more than two tokens, of which one works all the while."""
    visitors = [Visitor(worker(), name) for name in ("regenerate", "confirm")]
    with lagging(nodes):
        for _ in range(3):
            side_by_side([lambda visitor=visitor: ask_again(visitor) for visitor in visitors])
        seen = [visitor.seen() for visitor in visitors]
    assert seen == [visitor.deed.after for visitor in visitors]

    for visitor in visitors:
        assert visitor.seen() == visitor.deed.after
        visitor.check_goes_on()


def ask_again(visitor):
    assert visitor.browser.get(visitor.path).status_code == 503
    assert len(visitor.parts) == 5
    assert visitor.seen() == visitor.deed.after
