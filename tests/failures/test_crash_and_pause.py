"""An application that is killed or paused before or after any of its commands: no session is half of anything."""

from __future__ import annotations

import datetime as dt
import itertools
import time
import typing as t

import pytest
from halting import Nursery
from plain_shop import add_views

from flask_mongo_session.document.filters import TOMBSTONE_LIFE
from flask_mongo_session.session.state import CookieContent, token_hash
from flask_mongo_session.storage.repository import tombstone

#: Seconds for one operation, and for which a paused process stands still.
LIMIT, PAUSE = 2.0, 20.0
FIND, UPDATE = "find", "update"
#: What every browser has in its session, what the session that is merged holds, and who logs in.
CART, GIFT, SEVEN = {"cart": "book"}, {"gift": "wrapped"}, {"user_id": "7"}
#: Fields of every record, and those that come with a user.
FIELDS = {"_id", "token", "data", "created_at", "touched_at", "expires_at"}
USER_FIELDS = {"user_id", "authenticated_at"}


class Deed(t.NamedTuple):
    """A request, and what it means."""

    path: str
    #: Its commands, and the number of the one that makes it true.
    commands: list[str]
    commit: int
    #: What the session holds before it and afterwards; ``None``: it has ended.
    before: dict[str, str]
    after: dict[str, str] | None
    rotates: bool = True
    #: Who is logged in to the session that is merged, if any.
    merged: str | None = None

    @property
    def logs_out(self):
        """Whether a user leaves, with nobody following."""
        return "user_id" in self.before and "user_id" not in (self.after or {})


TWO, FOUR = [FIND, UPDATE], [FIND, FIND, UPDATE, UPDATE]
DEEDS = {
    "log-in": Deed("/login/7", TWO, 2, CART, CART | SEVEN),
    "regenerate": Deed("/renew", TWO, 2, CART | SEVEN, CART | SEVEN),
    "log-out": Deed("/logout", [UPDATE], 1, CART | SEVEN, None, rotates=False),
    "user key removed": Deed("/leave", TWO, 2, CART | SEVEN, CART),
    "switch of user": Deed("/login/8", TWO, 2, CART | SEVEN, {"user_id": "8"}),
    "merge": Deed("/merge", FOUR, 3, CART, CART | GIFT, rotates=False),
    "merge of a user": Deed("/merge", FOUR, 3, CART, CART | GIFT | SEVEN, merged="7"),
}


class Point(t.NamedTuple):
    """A moment in a request: before or after one of its commands."""

    side: str
    number: int

    def has(self, number):
        """Whether the command with that number has been carried out."""
        return self.number > number or (self.number == number and self.side == "after")


def points_of(deed):
    return [Point(side, number + 1) for number in range(len(deed.commands)) for side in ("before", "after")]


EVERY_POINT = [(deed, point) for deed in DEEDS.values() for point in points_of(deed)]
NAMES = [f"{name}, {point.side} {point.number}" for name, deed in DEEDS.items() for point in points_of(deed)]


class Story:
    """A browser with a session, and a process that stands still at a point of that browser's request."""

    def __init__(self, app, sessions, deed, point):
        self.app, self.deed, self.point, self._sessions = app, deed, point, sessions
        self.browser = app.test_client()
        self.browser.get("/write/cart/book")
        if "user_id" in deed.before:
            self.browser.get("/login/7")
        self.cookie = self.browser.get_cookie("session").value
        self.sid, self.token = self.cookie.split(".")[:2]
        self.path, self.other_cookie = deed.path, None
        if deed.path == "/merge":
            self._give_away(app.test_client(), deed.merged)
        self.record, self.other = self.read()

    def _give_away(self, other, user):
        other.get("/write/gift/wrapped")
        if user:
            other.get(f"/login/{user}")
        self.other_cookie = other.get_cookie("session").value
        self.path = f"/merge/{other.get('/token').text}"

    def read(self):
        """The browser's record and that of the session to be merged, as they are stored now."""
        other = self.other_cookie and self._sessions.find_one({"_id": self.other_cookie.partition(".")[0]})
        return self._sessions.find_one({"_id": self.sid}), other

    def seen_with(self, cookie):
        """All that a browser with this cookie finds in its session."""
        self.browser.delete_cookie("session")
        if cookie:
            self.browser.set_cookie("session", cookie)
        response = self.browser.get("/all")
        assert response.status_code == 200
        return response.json

    def cookie_with(self, token):
        """The cookie that the browser would have got for a token."""
        return self.app.session_interface.signer(self.app).sign(CookieContent(self.sid, token))

    # -- what has to be -----------------------------------------------------------------------------------------------

    def check_nothing_happened(self):
        """Both records are as they were, byte for byte, and the browser's cookie works."""
        assert self.read() == (self.record, self.other)
        assert self.seen_with(self.cookie) == self.deed.before
        if self.other_cookie:
            assert self.seen_with(self.other_cookie) == GIFT | (SEVEN if self.deed.merged else {})

    def check_done(self, tokens):
        """The record is what was asked for, whole, and reached by the new token alone."""
        record, after = self.read()[0], self.deed.after
        if after is None:
            check_tombstone(record)
            assert self.seen_with(self.cookie) == {}
            return

        check_whole(record, rotated=self.deed.rotates or "previous" in self.record)
        assert record["data"] == after
        assert len(tokens) == (1 if self.deed.rotates else 0)
        current = tokens[-1] if self.deed.rotates else self.token
        assert record["token"] == token_hash(current)
        assert self.seen_with(self.cookie_with(current)) == after
        if self.deed.rotates:
            assert record["previous"]["token"] == token_hash(self.token)
            assert self.seen_with(self.cookie) == {}

    def check_other(self, *, ended):
        """The session that is merged goes on until it has ended."""
        other = self.read()[1]
        if other is not None and ended:
            check_tombstone(other)
        else:
            assert other == self.other


def check_tombstone(record):
    assert record.keys() == {"_id", "ended_at", "expires_at"}


def check_whole(record, *, rotated):
    """Everything of a session is there and nothing else; a user with all that belongs to one, or not at all."""
    user = record["data"].get("user_id")
    left = {"last_user_id"} if rotated and user is None and "last_user_id" in record else set()
    assert record.keys() == FIELDS | ({"previous"} if rotated else set()) | (USER_FIELDS if user else left)
    assert record.get("user_id") == user
    assert record["created_at"] <= record["touched_at"] < record["expires_at"]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    """Makes processes."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture
def app(make_app):
    """What browsers talk to otherwise: another worker of the same application."""
    app = make_app(SESSION_MONGODB_TIMEOUT=LIMIT, TESTING=False)
    add_views(app)
    return app


@pytest.fixture
def stand(nursery, mongo_server, app, sessions):
    """Makes stories whose processes stand still."""
    names = ("SECRET_KEY", "SESSION_MONGODB_DB", "SESSION_MONGODB_TIMEOUT", "SESSION_CLEANUP_INTERVAL")
    config = {**{name: app.config[name] for name in names}, "SESSION_AUTO_INDEX": False}
    workers = []

    def begin(deed, point):
        story = Story(app, sessions, deed, point)
        job = {"uri": mongo_server.uri, "config": config, "cookie": story.cookie, "path": story.path}
        story.worker = nursery.start(**job, halt=point)
        workers.append(story.worker)
        assert story.worker.wait_halted() == deed.commands[point.number - 1]
        return story

    yield begin
    for worker in workers:
        worker.close()


@pytest.mark.parametrize("name", DEEDS)
def test_each_deed_takes_these_commands(stand, name):
    """What is killed and paused below is all that there is to a request: no point is left out."""
    deed = DEEDS[name]
    story = stand(deed, Point("before", 1))
    story.worker.go_on()
    answer = story.worker.answer()

    assert (answer["status"], answer["commands"]) == (200, deed.commands)
    assert (answer["cookie"] is None) == (deed.after is None)
    story.check_done(story.worker.tokens)
    story.check_other(ended=True)


@pytest.mark.parametrize(("deed", "point"), EVERY_POINT, ids=NAMES)
def test_killed(stand, sessions, deed, point):
    """``kill -9``: before the commit nothing happened, after it all is done; then the user logs in again, at worst."""
    story = stand(deed, point)
    count = sessions.count_documents({})
    story.worker.kill()

    if point.has(deed.commit):
        story.check_done(story.worker.tokens)
        story.check_other(ended=point.has(4))
    else:
        story.check_nothing_happened()
    assert sessions.count_documents({}) == count

    browser = story.app.test_client()
    browser.set_cookie("session", story.cookie)
    assert browser.get("/login/9").status_code == 200
    assert browser.get("/read/user_id").text == "9"


def log_out(story):
    """The browser logs out in another tab, and is told that it did."""
    assert story.browser.get("/logout").status_code == 200
    check_tombstone(story.read()[0])


def check_after_log_out(story, answer):
    """The session stays ended; only a log-in that was not yet stored becomes a session of its own, without the data."""
    check_tombstone(story.read()[0])
    assert story.seen_with(story.cookie) == {}
    if story.point.has(story.deed.commit):
        assert story.seen_with(answer["cookie"]) == {}
        return

    before, after = story.deed.before, story.deed.after or {}
    logs_in = answer["status"] == 200 and after.get("user_id") not in (None, before.get("user_id"))
    own = {key: value for key, value in after.items() if key not in CART}
    assert story.seen_with(answer["cookie"]) == (own if logs_in else {})
    story.check_other(ended=logs_in)


def check_after_too_long(story, answer):
    """The time was up: a command that nobody waited for was carried out or not, and the answer's cookie works."""
    assert answer["status"] in {200, 503}
    happened = story.read()[0] != story.record
    if happened:
        story.check_done(story.worker.tokens)
        story.check_other(ended=story.read()[1] != story.other)
    else:
        story.check_nothing_happened()

    assert happened or answer["status"] == 503
    cleared = answer["status"] == 503 and story.deed.logs_out
    assert (answer["cookie"] is None) == (cleared or story.deed.after is None)
    wanted = story.deed.after if happened else story.deed.before
    assert story.seen_with(answer["cookie"]) == (wanted if answer["cookie"] else {})


@pytest.mark.soak
@pytest.mark.parametrize(("deed", "point"), EVERY_POINT, ids=NAMES)
def test_a_log_out_while_it_is_paused(stand, deed, point):
    """Stopped for a moment, in which the browser logs out: that stands, whatever the process does afterwards."""
    story = stand(deed, point)
    story.worker.pause()
    log_out(story)
    story.worker.resume()
    story.worker.go_on()

    answer = story.worker.answer()
    assert answer["status"] == 200
    check_after_log_out(story, answer)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_paused_for_long(stand, app, sessions):
    """Stopped at every point for 20 s, side by side, while browsers log out or do nothing, and a sweep runs.

    When they go on, an acknowledged log-out stands, what was asked for is done as a whole or not at all, and each
    answer brings a cookie that works.
    """
    store = app.extensions["mongo_session"].store
    stories = []
    for (deed, point), logged_out in itertools.product(EVERY_POINT, (False, True)):
        story = stand(deed, point)
        story.worker.pause()
        if logged_out:
            log_out(story)
        stories.append((story, logged_out))

    time.sleep(PAUSE / 2)
    sessions.insert_one({"_id": "expired", "data": {}, "expires_at": store.now() - dt.timedelta(hours=1)})
    sessions.insert_one({"_id": "ended", **tombstone(store.now() - TOMBSTONE_LIFE)})
    assert store.delete_expired() == 2
    time.sleep(PAUSE / 2)

    for story, _ in stories:
        story.worker.resume()
        story.worker.go_on()
    for story, logged_out in stories:
        check = check_after_log_out if logged_out else check_after_too_long
        check(story, story.worker.answer())
