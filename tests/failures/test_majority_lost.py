"""The primary answers and the majority is away: an honest 503 in time, and nobody's session is empty afterwards."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import typing as t

import pytest
from replication import confirms, lagging
from waiting import eventually

pytestmark = pytest.mark.replica

#: Seconds for one operation, and by how much an answer may be late: the driver looks for a server half a second longer.
LIMIT, OVERTIME = 1.0, 0.75
CART, SEVEN = {"cart": "book"}, {"user_id": "7"}
_numbers = itertools.count()


class Deed(t.NamedTuple):
    """A request that needs a majority, and what the session holds before and after it."""

    path: str
    before: dict[str, str]
    #: ``None``: nothing, since it has ended.
    after: dict[str, str] | None

    @property
    def logs_out(self):
        return "user_id" in self.before and "user_id" not in (self.after or {})


DEEDS = {
    "log-in": Deed("/login/7", CART, CART | SEVEN),
    "regenerate": Deed("/renew", CART | SEVEN, CART | SEVEN),
    "confirm": Deed("/confirm", CART | SEVEN, CART | SEVEN),
    "log-out": Deed("/logout", CART | SEVEN, None),
    "user key removed": Deed("/leave", CART | SEVEN, CART),
    "switch of user": Deed("/login/8", CART | SEVEN, {"user_id": "8"}),
}


class Visitor(threading.Thread):
    """A browser that asks for one deed of an application that nobody else asks, so that no breaker answers for it."""

    def __init__(self, app, name):
        super().__init__(daemon=True)
        self.name, self.deed = name, DEEDS[name]
        self.browser = app.test_client()
        self._get("/write/cart/book")
        if "user_id" in self.deed.before:
            self._get("/login/7")
        self.cookie = self.browser.get_cookie("session").value
        self.response, self.seconds = None, 0.0

    def _get(self, path):
        eventually(lambda: self.browser.get(path).status_code == 200, 20, "the replica set")

    def run(self):
        began = time.monotonic()
        self.response = self.browser.get(self.deed.path)
        self.seconds = time.monotonic() - began

    def check_answer(self):
        """It was a 503 in time, whose cookie is that of before, or has both tokens, or is gone after a log-out."""
        assert self.response.status_code == 503, self.name
        assert self.response.headers["Retry-After"] == "1"
        assert self.seconds <= LIMIT + OVERTIME, self.name
        cookie = self.browser.get_cookie("session")
        if self.deed.logs_out:
            assert cookie is None
        else:
            assert cookie.value.split(".")[:2] == self.cookie.split(".")[:2]
            assert cookie.value.count(".") in {3, 4}

    def seen(self):
        """What the browser finds in its session, once there is an answer."""
        return eventually(self._look, 20, "an answer").json

    def _look(self):
        response = self.browser.get("/all")
        return response.status_code == 200 and response

    def check_session(self, *, only_before=False):
        """It is what it was, or what was asked for; never empty, unless the browser gave its cookie up for that."""
        if self.deed.logs_out:
            self.browser.set_cookie("session", self.cookie)
            assert self.seen() in (self.deed.before, {}), self.name
        else:
            allowed = [self.deed.before] if only_before else [self.deed.before, self.deed.after]
            assert self.seen() in allowed, self.name

    def check_goes_on(self):
        """The next confirmed answer brings one token alone, and all that was there."""
        if self.deed.logs_out:
            return
        before = self.seen()
        self._get("/write/gift/wrapped")
        assert self.browser.get_cookie("session").value.count(".") == 3
        assert self.seen() == before | {"gift": "wrapped"}


@pytest.fixture
def visitors(replica_set, make_shop):
    """One browser for each deed, logged in where that is asked for."""
    number = next(_numbers)
    with replica_set.client() as driver:
        eventually(lambda: confirms(driver), 40, "a majority")
    uri = replica_set.uri.replace("/?", f"/majority_{number}?")
    return [Visitor(make_shop(uri, SESSION_MONGODB_TIMEOUT=LIMIT), name) for name in DEEDS]


def ask_all(visitors):
    """Side by side; the answers are checked."""
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(20)
    for visitor in visitors:
        visitor.check_answer()


@contextlib.contextmanager
def paused(replica_set):
    """The secondaries stop where they are."""
    secondaries = replica_set.secondaries()
    for node in secondaries:
        node.pause()
    yield
    for node in secondaries:
        node.resume()


@contextlib.contextmanager
def killed(replica_set):
    """The secondaries die."""
    for node in replica_set.secondaries():
        node.kill()
    yield
    replica_set.heal()


def test_secondaries_lag(replica_set, visitors):
    """The primary goes on alone: it may have stored what it cannot confirm, and the cookie works all the while."""
    with lagging(replica_set):
        ask_all(visitors)
        for visitor in visitors:
            visitor.check_session()

    with replica_set.client() as driver:
        eventually(lambda: confirms(driver), 40, "a majority")
    for visitor in visitors:
        visitor.check_session()
        visitor.check_goes_on()


@pytest.mark.soak
@pytest.mark.parametrize("harm", [paused, killed])
def test_secondaries_are_away(replica_set, visitors, harm):
    """The primary finds itself alone, and gives up after a second or so; afterwards nobody has lost a session."""
    with harm(replica_set):
        ask_all(visitors)

    replica_set.heal()
    for visitor in visitors:
        visitor.check_session()
        visitor.check_goes_on()


def test_a_primary_is_rolled_back(replica_set, visitors):
    """What the primary alone had stored is undone with its end: each browser's cookie finds what was before."""
    primary = replica_set.primary()
    with lagging(replica_set):
        ask_all(visitors)
        stored = [visitor.seen() for visitor in visitors if not visitor.deed.logs_out]
        primary.kill()

    eventually(lambda: replica_set._find_primary() not in (None, primary), 40, "a new primary")
    for visitor in visitors:
        visitor.check_session(only_before=True)
    assert stored == [visitor.deed.after for visitor in visitors if not visitor.deed.logs_out]

    replica_set.heal()
    for visitor in visitors:
        visitor.check_session(only_before=True)
        visitor.check_goes_on()
