"""Processes killed with an update under way, or with a cookie of two tokens: what arrives late does no harm."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from halting import Nursery
from plain_shop import add_views

from flask_mongo_session.session.state import CookieContent, new_token, token_hash

FIND, UPDATE = "find", "update"
CART, GIFT, SEVEN = {"cart": "book"}, {"gift": "wrapped"}, {"user_id": "7"}
TOMBSTONE = {"_id", "ended_at", "expires_at"}


class Deed(t.NamedTuple):
    """A request, what the session holds before and after it, and how many reads precede its update."""

    path: str
    before: dict[str, str]
    #: ``None``: nothing, since it has ended.
    after: dict[str, str] | None
    reads: int = 1
    rotates: bool = True


DEEDS = {
    "log-in": Deed("/login/7", CART, CART | SEVEN),
    "regenerate": Deed("/renew", CART | SEVEN, CART | SEVEN),
    "confirm": Deed("/confirm", CART | SEVEN, CART | SEVEN),
    "log-out": Deed("/logout", CART | SEVEN, None, reads=0, rotates=False),
    "user key removed": Deed("/leave", CART | SEVEN, CART),
    "switch of user": Deed("/login/8", CART | SEVEN, {"user_id": "8"}),
    "merge": Deed("/merge", CART, CART | GIFT, reads=2, rotates=False),
    "write": Deed("/write/gift/wrapped", CART | SEVEN, CART | SEVEN | GIFT, reads=0, rotates=False),
}
MEANWHILE = {"log-out": "/logout", "regenerate": "/renew", "another log-in": "/login/9"}


class Browser:
    """A browser with a session, which talks to a worker that nothing happens to."""

    def __init__(self, app, sessions, deed):
        self.app, self.deed, self._sessions = app, deed, sessions
        self.client = app.test_client()
        self.client.get("/write/cart/book")
        if "user_id" in deed.before:
            self.client.get("/login/7")
        self.path, self.other_sid = deed.path, None
        if deed.path == "/merge":
            other = app.test_client()
            other.get("/write/gift/wrapped")
            self.other_sid = other.get_cookie("session").value.partition(".")[0]
            self.path = f"/merge/{other.get('/token').text}"
        self.sid, self.token = self.cookie.split(".")[:2]

    @property
    def cookie(self):
        return self.client.get_cookie("session").value

    def record(self, sid=None):
        return self._sessions.find_one({"_id": sid or self.sid})

    def signed(self, token, pending=None):
        """A cookie of this session with one token or two."""
        return self.app.session_interface.signer(self.app).sign(CookieContent(self.sid, token, pending=pending))

    def seen_with(self, cookie):
        """All that a browser with this cookie finds in its session."""
        browser = self.app.test_client()
        browser.set_cookie("session", cookie)
        response = browser.get("/all")
        assert response.status_code == 200
        return response.json

    def check_user(self):
        """Nobody is half logged in: the field and the key agree, and a user has a date."""
        record = self.record()
        if "ended_at" in record:
            assert record.keys() == TOMBSTONE
            return
        assert record.get("user_id") == record["data"].get("user_id")
        assert ("user_id" in record) == ("authenticated_at" in record)

    def check_done(self, token):
        """The record is what was asked for, whole, and *token* alone reads it."""
        self.check_user()
        record, after = self.record(), self.deed.after
        if after is None:
            assert record.keys() == TOMBSTONE
            assert self.seen_with(self.signed(token)) == {}
            return
        assert record["data"] == after
        assert record["token"] == token_hash(token)
        assert self.seen_with(self.signed(token)) == after

    def check_untouched(self, record):
        """The record is what it was, byte for byte."""
        self.check_user()
        assert self.record() == record


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    """Makes processes."""
    nursery = Nursery(tmp_path_factory.mktemp("crashes"))
    yield nursery
    nursery.close()


@pytest.fixture
def app(make_app):
    """Another worker of the same application, on a connection of its own."""
    app = make_app(TESTING=False)
    add_views(app)
    return app


@pytest.fixture
def visit(app, sessions):
    """Makes browsers that are about to ask for a deed."""
    return lambda name: Browser(app, sessions, DEEDS[name])


@pytest.fixture
def halted(nursery, relay, mongo_server, app):
    """Makes processes that stand still right before or after a command of a request."""
    names = ("SECRET_KEY", "SESSION_MONGODB_DB", "SESSION_CLEANUP_INTERVAL", "SESSION_AUTO_INDEX")
    config = {**{name: app.config[name] for name in names}, "SESSION_MONGODB_TIMEOUT": 10.0}
    workers = []

    def make(browser, side, number, *, cookie=None):
        job = {"uri": relay.uri(mongo_server.uri), "config": config, "path": browser.path}
        worker = nursery.start(**job, cookie=cookie or browser.cookie, halt=(side, number))
        workers.append(worker)
        return worker, worker.wait_halted()

    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def killed_in_flight(halted, relay):
    """Kills a process whose update has been sent and has not arrived; returns the tokens that it made."""

    def kill(browser):
        worker, command = halted(browser, "before", browser.deed.reads + 1)
        assert command == UPDATE
        relay.hold()
        worker.go_on()
        relay.wait_held()
        worker.kill()
        return worker.tokens

    return kill


@pytest.mark.parametrize("name", DEEDS)
def test_killed_with_its_update_under_way(visit, relay, killed_in_flight, name):
    """Until it arrives the browser's cookie works; then all is done, reached by the new token alone."""
    browser = visit(name)
    record = browser.record()
    tokens = killed_in_flight(browser)

    browser.check_untouched(record)
    assert browser.seen_with(browser.cookie) == browser.deed.before
    assert len(tokens) == (1 if browser.deed.rotates else 0)

    relay.deliver()
    browser.check_done(tokens[-1] if tokens else browser.token)
    if browser.deed.rotates:
        assert browser.seen_with(browser.cookie) == {}
    if browser.other_sid:
        assert browser.record(browser.other_sid)["data"] == GIFT  # it had no time to end that one


@pytest.mark.parametrize(("name", "meanwhile"), [*itertools.product(DEEDS, MEANWHILE)])
def test_overtaken_with_its_update_under_way(visit, relay, killed_in_flight, name, meanwhile):
    """What another worker has acknowledged meanwhile stands, whatever arrives afterwards from a process long dead."""
    browser = visit(name)
    old = browser.cookie
    tokens = killed_in_flight(browser)
    assert browser.client.get(MEANWHILE[meanwhile]).status_code == 200
    record = browser.record()

    relay.deliver()
    browser.check_untouched(record)
    for cookie in (old, *map(browser.signed, tokens)):
        assert browser.seen_with(cookie) == {}
    if meanwhile == "log-out":
        assert record.keys() == TOMBSTONE
    else:
        assert browser.seen_with(browser.cookie) == record["data"]


def test_killed_while_it_ends_the_merged_session(visit, relay, halted):
    """The values are where they were asked for before the other session ends, however late that is."""
    browser = visit("merge")
    worker, command = halted(browser, "before", 4)
    assert command == UPDATE
    relay.hold()
    worker.go_on()
    relay.wait_held()
    worker.kill()

    browser.check_done(browser.token)
    assert browser.record(browser.other_sid)["data"] == GIFT
    relay.deliver()
    browser.check_done(browser.token)
    assert browser.record(browser.other_sid).keys() == TOMBSTONE


def two_tokens(browser, *, applied):
    """A cookie of an unanswered rotation that was stored or not, and the token in it that is the current one."""
    if not applied:
        return browser.signed(browser.token, new_token()), browser.token
    old = browser.token
    browser.client.get("/renew")
    current = browser.cookie.split(".")[1]
    return browser.signed(old, current), current


#: What is asked for with two tokens, and whether the second of them was stored.
TWO_TOKENS = [(name, applied) for name in DEEDS if name != "merge" for applied in (False, True)]
#: Every command of such a request, with its side; the second token is looked for where the first reads nothing.
POINTS = [
    (name, applied, (side, number))
    for name, applied in TWO_TOKENS
    for number in range(1, (3 if applied else 2) + 1)
    for side in ("before", "after")
]


@pytest.mark.soak
@pytest.mark.parametrize(("name", "applied", "point"), POINTS)
def test_killed_with_two_tokens(visit, halted, name, applied, point):
    """Before the commit that cookie goes on working; after it all is done, reached by the newest token alone."""
    browser = visit(name)
    cookie, current = two_tokens(browser, applied=applied)
    record = browser.record()
    commands = [FIND] * (2 if applied else 1) + [UPDATE]
    worker, command = halted(browser, *point, cookie=cookie)
    assert command == commands[point[1] - 1]
    worker.kill()

    if point == ("after", len(commands)):
        renewed = worker.tokens[-1] if worker.tokens else current
        browser.check_done(renewed)
        left = {} if renewed != current or browser.deed.after is None else browser.deed.after
        assert browser.seen_with(cookie) == left
    else:
        browser.check_untouched(record)
        assert browser.seen_with(cookie) == browser.deed.before


@pytest.mark.parametrize(("name", "applied"), TWO_TOKENS)
def test_a_log_out_before_the_commit_of_two_tokens(visit, halted, name, applied):
    """It stands, whatever the process that stood still before its update does afterwards."""
    browser = visit(name)
    cookie, _ = two_tokens(browser, applied=applied)
    worker, command = halted(browser, "before", 3 if applied else 2, cookie=cookie)
    assert command == UPDATE
    assert browser.client.get("/logout").status_code == 200
    record = browser.record()
    assert record.keys() == TOMBSTONE

    worker.go_on()
    assert worker.answer()["status"] == 200
    assert browser.record() == record
    assert browser.seen_with(cookie) == {}
