"""A log-out, a rotation, a revocation, a sweep while other requests are under way: none of these undoes it."""

from __future__ import annotations

import datetime as dt
import random

import pytest
from interleaving import SECRET, USER, in_order, live, store_of

from flask_mongo_session.document import filters
from flask_mongo_session.session.state import CookieContent, token_hash

ROUNDS = 15
SOAK_ROUNDS = 100

#: What slow requests do, with whether the session's data is read before.
SLOW = {
    "reading": "/read/secret",
    "writing what it read": "/change/secret/late",
    "writing blind": "/write/late/1",
    "incrementing": "/increment/n",
    "appending": "/append/log/late",
    "changing in place": "/nested/late",
    "taking a key out": "/pop/other",
    "taking all keys out": "/empty",
    "moving the deadline": "/deadline/3600",
    "becoming permanent": "/permanent",
    "not looking": "/untouched",
    "regenerating": "/regenerate",
}
ENDINGS = {
    "log-out": "/logout",
    "log-out by taking the user out": "/logout-user",
}


def sid_of(cookie):
    return cookie.partition(".")[0]


class History:
    """One logged-in session and everything that requests then do to it at once."""

    def __init__(self, app, browse):
        self.app, self.browse = app, browse
        store_of(app).collection.delete_many({})
        self.browser = browse(app)
        self.browser.get("/start")
        self.cookie = self.browser.cookie
        self.browser.brought.clear()

    def request(self, path):
        return lambda: self.browser.get(path, cookie=self.cookie).status_code

    def check_nobody_is_logged_in(self):
        """Neither in the database nor by any cookie that was ever handed out."""
        assert [document for document in live(self.app) if document.get("user_id")] == []
        for cookie in {self.cookie, *self.browser.brought}:
            assert self.who(cookie) == "None"

    def check_data_is_gone(self):
        assert SECRET not in str(live(self.app))

    def check_old_cookie_is_nobody(self):
        assert self.browse(self.app).get("/all", cookie=self.cookie).json == {}

    def who(self, cookie):
        return self.browse(self.app).get("/whoami", cookie=cookie).text


@pytest.fixture
def history(web, browse):
    """Makes sessions to end while they are in use; touches are always due."""
    return lambda: History(web, browse)


@pytest.fixture
def web(make_web):
    """Each use is a touch."""
    return make_web(SESSION_TOUCH_INTERVAL=0)


everyday_and_soak = pytest.mark.parametrize(
    "count",
    [
        pytest.param(ROUNDS, id="everyday"),
        pytest.param(SOAK_ROUNDS, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)


def some_slow(chance, most=3):
    return [SLOW[name] for name in chance.sample(sorted(SLOW), chance.randint(1, most))]


@everyday_and_soak
def test_a_log_out_stands_whatever_else_is_under_way(history, interleaver, count):
    """After a log-out no request that overlapped it brings the user back, in whatever order they came."""
    for seed in range(count):
        chance, one = random.Random(seed), history()
        ending = chance.choice(sorted(ENDINGS.values()))
        paths = [*some_slow(chance), ending]

        codes = interleaver.run([one.request(path) for path in paths], chance.choice)

        assert codes[-1] == 200, (seed, paths)
        assert {*codes} <= {200, 503}, (seed, paths)  # who was overtaken twice, by changes of the deadline, is told so
        one.check_nobody_is_logged_in()
        one.check_old_cookie_is_nobody()
        if ending == "/logout":
            one.check_data_is_gone()


@everyday_and_soak
def test_two_log_outs_and_two_rotations_at_once_leave_nobody_logged_in(history, interleaver, count):
    """However rotations follow each other, every log-out ends the session that they made."""
    for seed in range(count):
        chance, one = random.Random(seed), history()
        paths = [
            "/regenerate",
            "/regenerate",
            "/logout",
            chance.choice(["/logout", "/logout-user"]),
            *some_slow(chance, 1),
        ]

        interleaver.run([one.request(path) for path in paths], chance.choice)

        one.check_nobody_is_logged_in()
        one.check_data_is_gone()


@everyday_and_soak
def test_a_revocation_finds_the_session_wherever_it_is(web, history, interleaver, count):
    """Revoking ends a session in the middle of a rotation too, and one that slow requests are writing to."""
    extension = web.extensions["sessions"]
    for seed in range(count):
        chance, one = random.Random(seed), history()
        revoke = chance.choice(
            [
                lambda: extension.revoke_user(USER),
                lambda cookie=one.cookie: extension.revoke(sid_of(cookie)),
            ]
        )

        interleaver.run([revoke, *map(one.request, ["/regenerate", *some_slow(chance)])], chance.choice)

        one.check_nobody_is_logged_in()
        one.check_data_is_gone()


@everyday_and_soak
def test_a_swept_session_stays_away(make_web, browse, interleaver, move_clock, count):
    """A session that expired is gone for requests that began before the sweep and go on after it."""
    app = make_web(SESSION_TOUCH_INTERVAL=0, SESSION_IDLE_TIMEOUT=10)
    store = store_of(app)
    for seed in range(count):
        chance, one = random.Random(seed), History(app, browse)

        def expire_and_sweep():
            move_clock(11)
            interleaver.stop("expired")
            return store.delete_expired()

        interleaver.run([expire_and_sweep, *map(one.request, some_slow(chance))], chance.choice)
        move_clock(11)

        one.check_nobody_is_logged_in()
        one.check_data_is_gone()


@everyday_and_soak
def test_a_rotation_leaves_one_session_with_the_data_and_one_cookie_that_works(web, history, interleaver, count):
    """A regenerated session goes on under one new token with what was there; the token from before reads nothing."""
    for seed in range(count):
        chance, one = random.Random(seed), history()
        slow = [name for name in SLOW if name not in ("taking all keys out", "regenerating")]
        paths = ["/regenerate", *(SLOW[name] for name in chance.sample(slow, 3))]

        interleaver.run([one.request(path) for path in paths], chance.choice)

        mine = [document for document in live(web) if document.get("user_id") == USER]
        assert len(mine) == 1, (seed, paths)
        assert mine[0]["data"]["secret"] in (SECRET, "late")
        one.check_old_cookie_is_nobody()
        assert [cookie for cookie in set(one.browser.brought) if one.who(cookie) == USER], (seed, paths)


def test_every_order_of_a_log_out_and_a_rotation(history, interleaver):
    """All ways in which their commands can mix, one by one: nobody stays logged in."""
    tried = set()
    for mask in range(2**5):
        one, order = history(), []

        def choose(waiting, mask=mask, order=order):
            chosen = waiting[-1] if mask >> len(order) & 1 else waiting[0]
            order.append(f"{waiting.index(chosen)} of {len(waiting)}: {chosen.point}")
            return chosen

        interleaver.run([one.request("/regenerate"), one.request("/logout")], choose)

        tried.add(tuple(order))
        one.check_nobody_is_logged_in()
        one.check_data_is_gone()
    assert len(tried) >= 6, "different orders"


# -- single windows, each held open ------------------------------------------------------------------------------------


def test_taking_the_user_out_right_after_a_rotation_is_a_log_out_too(history):
    """The request was overtaken and sees no user, but its intention is plain."""
    one = history()
    one.request("/regenerate")()

    one.request("/logout-user")()

    one.check_nobody_is_logged_in()
    one.check_data_is_gone()


def test_a_log_out_with_a_token_from_before_two_rotations(history):
    """It was sent before the browser knew, so it ends what became of the session."""
    one = history()
    for _ in range(2):
        one.browser.get("/regenerate")

    one.request("/logout")()

    one.check_nobody_is_logged_in()
    one.check_data_is_gone()


def test_an_old_token_cannot_log_out_after_a_log_in(web, browse, move_clock):
    """Somebody who planted or stole a token reads nothing by it, and ends nothing once ten seconds have passed."""
    browser, thief = browse(web), browse(web)
    browser.get("/write/other/1")
    planted = browser.cookie
    browser.get(f"/login/{USER}")
    move_clock(11)

    for path in ("/all", "/write/x/1", "/pop/other", "/regenerate", "/empty", "/logout-user", "/logout"):
        thief.cookie = None
        assert thief.get(path, cookie=planted).status_code == 200

    assert browser.get("/all").json == {"other": "1", "user_id": USER}


def test_the_token_before_a_rotation_can_still_log_out(history, move_clock):
    """However late: whoever wants to leave, leaves, unless somebody has logged in since."""
    one = history()
    one.browser.get("/regenerate")
    move_clock(3600)

    one.request("/logout")()

    one.check_nobody_is_logged_in()
    one.check_data_is_gone()


@pytest.mark.parametrize("room", range(0, 400, 40))
def test_a_session_near_its_size_limit_survives_a_rotation(make_web, browse, room):
    """What a rotation adds beside the values is no growth."""
    web = make_web(SESSION_MAX_SIZE=2_048)
    browser = browse(web)
    browser.get("/start")
    value = "x" * (1_700 - room)
    assert browser.get(f"/change/big/{value}").status_code == 200

    for _ in range(3):
        assert browser.get("/regenerate").status_code == 200

    assert browser.get("/read/big").text == value


def test_a_tombstone_is_never_written_to(web, history):
    """Not even by a request that took the time long before the end."""
    one = history()
    one.request("/logout")()
    store, (sid, token, *_) = store_of(web), one.cookie.split(".")
    tombstone = store.collection.find_one({"_id": sid})
    chosen = filters.one_live(sid, token_hash(token), store.now() - dt.timedelta(hours=1))

    assert not store.repository.update(chosen, {"$set": {"data.late": 1}})
    assert not store.repository.touch(chosen, {"expires_at": store.now()}, confirmed=True)
    assert store.collection.find_one({"_id": sid}) == tombstone


def test_a_log_out_stands_although_what_came_after_it_could_not_be_stored(web, history):
    """The session is ended first; the error is about the new one."""
    one = history()
    web.config["PROPAGATE_EXCEPTIONS"] = False

    assert one.request("/logout-then-fail")() == 500

    one.check_nobody_is_logged_in()
    one.check_data_is_gone()


def test_nothing_is_lost_when_the_session_to_merge_into_has_just_ended(web, browse, history, interleaver):
    """What was to be taken over stays where it was."""
    one, other = history(), browse(web)
    other.get("/write/mine/precious")
    token = other.get("/token").json["token"]

    interleaver.run([one.request(f"/merge/{token}"), one.request("/logout")], in_order(0, 0, 0, 1, 1, 1))

    assert other.get("/all").json == {"mine": "precious"}
    one.check_nobody_is_logged_in()


def test_a_key_added_meanwhile_survives_the_emptying(web, browse, interleaver):
    """Emptied is ended, unless another request has just put something in; with a user in it, it is a log-out."""
    browser = browse(web)
    browser.get("/write/other/1")
    ask = [lambda path=path: browser.get(path, cookie=browser.cookie) for path in ("/empty", "/write/late/1")]

    interleaver.run(ask, in_order(0, 0, 1, 1))

    assert [document["data"] for document in live(web)] == [{"late": "1"}]


def test_a_read_id_from_the_database_is_nobody(web, history):
    """Who copies an ``_id`` or a hash into a cookie, as it is or in the cookie's form, has no session."""
    one = history()
    sid, token, extras, signature = one.cookie.split(".")
    (document,) = live(web)
    assert document["_id"] == sid
    assert token not in str(document)

    hashed = document["token"].hex()
    for forged in (sid, f"{sid}.{hashed}.{extras}.{signature}", f"{sid}.{token}.{extras}.", f"{sid}.{token}.{extras}"):
        assert one.who(forged) == "None"
    signed = web.session_interface.signer(web).sign(CookieContent(sid, hashed))
    assert one.who(signed) == "None", "not even with the secret key: a hash is no token"
