"""The session protocol (docs/explanation/two-requests.md): what becomes of requests that were overtaken by others."""

from __future__ import annotations

import pytest
from test_session import Desk

from flask_mongo_session.exceptions import SessionStoreUnavailable
from flask_mongo_session.session.session import draft_of
from flask_mongo_session.session.state import Phase, token_hash
from flask_mongo_session.session.unit_of_work import Outcome


@pytest.fixture
def desk(store):
    """Sessions on the store of :func:`app`."""
    return Desk(store)


def cart(desk):
    """A visitor with a cart who is not logged in; the token."""
    return desk.stored({"cart": ["mug"], "n": 1})


def logged_in(desk, user="ada"):
    """The same, logged in."""
    session = desk.open(cart(desk))
    session["user_id"] = user
    desk.save(session)
    return session.token


def rotated(desk, token):
    """Another tab's ``regenerate()``; the token from then on."""
    tab = desk.open(token)
    tab.regenerate()
    assert desk.save(tab) is Outcome.CURRENT
    return tab.token


def log_in(desk, token, user="ada"):
    """Another tab's log-in; the token from then on."""
    tab = desk.open(token)
    tab["user_id"] = user
    assert desk.save(tab) is Outcome.CURRENT
    return tab.token


# -- writes of a request that a rotation overtook ---------------------------------------------------------------------

WRITES = {
    "blind": (None, lambda s: s.__setitem__("late", 1), {"late": 1}),
    "read before": (lambda s: s["n"], lambda s: s.__setitem__("n", s["n"] + 1), {"n": 2}),
    "in place": (lambda s: s["cart"], lambda s: s["cart"].append("cup"), {"cart": ["mug", "cup"]}),
    "increment": (None, lambda s: s.increment("n", 5), {"n": 6}),
    "append": (None, lambda s: s.append("cart", "cup"), {"cart": ["mug", "cup"]}),
    "removed": (lambda s: s["n"], lambda s: s.pop("n"), {"n": None}),
}


@pytest.mark.parametrize("how", [rotated, log_in], ids=["regenerate", "log-in"])
@pytest.mark.parametrize("passed", [0, 5, 9], ids="after {} s".format)
@pytest.mark.parametrize("name", WRITES)
def test_what_was_answered_with_success_is_kept(desk, move_clock, *, name, passed, how):
    """A request that began before the rotation writes into the session that it became, slow or not; no cookie."""
    before, write, wanted = WRITES[name]
    token = cart(desk)
    slow = desk.open(token)
    if before:
        before(slow)
    new = how(desk, token)
    move_clock(passed)
    write(slow)

    assert desk.save(slow) is Outcome.UNKNOWN
    data = desk.data(new)
    assert {key: data.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("seconds", [11, 3000])
def test_however_slow_a_request_is(desk, move_clock, seconds):
    """What it had loaded before the rotation it still writes back: what counts is when it began."""
    token = cart(desk)
    slow = desk.open(token)
    assert slow["n"] == 1
    new = rotated(desk, token)
    move_clock(seconds)
    slow["late"] = 1

    assert desk.save(slow) is Outcome.UNKNOWN
    assert desk.data(new)["late"] == 1


def test_what_was_computed_from_emptiness_overwrites_nothing(desk):
    """A request that loads after the rotation finds nothing; what it computes from that is not written, the rest is."""
    token = cart(desk)
    slow = desk.open(token)
    new = rotated(desk, token)
    slow["n"] = slow.get("n", 0) + 1
    slow["other"] = 1

    assert desk.save(slow) is Outcome.UNKNOWN
    assert desk.data(new) == {"cart": ["mug"], "n": 1, "other": 1}


def test_looking_at_all_keys_leaves_nothing_to_write(desk):
    """Iterating over an empty session is looking at every key."""
    token = cart(desk)
    slow = desk.open(token)
    new = rotated(desk, token)
    slow.update(n=len(slow), other=1)

    desk.save(slow)
    assert desk.data(new) == {"cart": ["mug"], "n": 1}


def test_what_the_log_in_wrote_wins(desk):
    """An older request does not write over it, nor brings a planted form token back, nor touches the user."""
    token = cart(desk)
    slow = desk.open(token)
    assert slow["n"] == 1
    tab = desk.open(token)
    tab.update(user_id="ada", greeting="welcome")
    desk.save(tab)
    slow.update(greeting="old", csrf_token="planted", late=1)

    desk.save(slow)
    assert desk.data(tab) == {"cart": ["mug"], "n": 1, "user_id": "ada", "greeting": "welcome", "late": 1}


def test_a_request_that_began_after_the_rotation_writes_nothing(desk, move_clock):
    """With the old token, within the grace: it is no request that was under way."""
    token = cart(desk)
    new = rotated(desk, token)
    move_clock(1)
    late = desk.open(token)
    late["late"] = 1

    assert desk.save(late) is Outcome.UNKNOWN
    assert "late" not in desk.data(new)


def test_the_holder_of_an_old_token_begins_anew_after_the_grace(desk, move_clock):
    """It is an unknown session: what is written becomes another one."""
    token = cart(desk)
    new = rotated(desk, token)
    move_clock(11)
    late = desk.open(token)
    late["late"] = 1

    assert desk.save(late) is Outcome.CURRENT
    assert late.sid != new.partition(".")[0]
    assert desk.data(late) == {"late": 1}
    assert "late" not in desk.data(new)


def test_after_a_confirmation_nothing_under_way_counts(desk):
    """``confirm()`` is a promise about who is there now."""
    token = logged_in(desk)
    slow = desk.open(token)
    assert slow["n"] == 1
    tab = desk.open(token)
    tab.confirm()
    desk.save(tab)
    slow["late"] = 1

    assert desk.save(slow) is Outcome.UNKNOWN
    assert "late" not in desk.data(tab)


def test_a_rotation_that_wrote_very_much_keeps_no_writes(desk):
    """Beyond a hundred keys it does not remember which."""
    token = cart(desk)
    slow = desk.open(token)
    assert slow["n"] == 1
    tab = desk.open(token)
    tab.regenerate()
    tab.update({f"k{number}": number for number in range(101)})
    desk.save(tab)
    slow["late"] = 1

    assert desk.save(slow) is Outcome.UNKNOWN
    assert "late" not in desk.data(tab)
    assert desk.data(tab)["k100"] == 100


# -- log-ins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
def test_a_double_clicked_log_in_keeps_the_cart(desk, order):
    """Both were loaded before the first finished; each has the cart and works, whichever answer comes last."""
    token = cart(desk)
    clicks = [desk.open(token) for _ in range(2)]
    for click in clicks:
        click["user_id"] = "ada"
    outcomes = [desk.save(clicks[number]) for number in order]

    assert outcomes == [Outcome.CURRENT] * 2
    for click in clicks:
        assert desk.data(click) == {"cart": ["mug"], "n": 1, "user_id": "ada"}
    assert clicks[0].sid != clicks[1].sid


@pytest.mark.parametrize("second_reads", [True, False])
def test_two_users_at_once_share_nothing(desk, second_reads):
    """The later one has the cart, which was nobody's, and nothing that the other one did."""
    token = cart(desk)
    one, other = desk.open(token), desk.open(token)
    if second_reads:
        assert other["cart"]
    one.update(user_id="ada", secret="ada's")
    desk.save(one)
    other["user_id"] = "bob"

    desk.save(other)
    assert "secret" not in desk.data(other)
    assert desk.data(other)["user_id"] == "bob"
    assert desk.data(one) == {"cart": ["mug"], "n": 1, "user_id": "ada", "secret": "ada's"}


@pytest.mark.parametrize("between", ["nobody", "log-out"])
def test_one_user_after_the_other_shares_nothing(desk, between):
    """Directly or with nobody in between: the second finds nothing of the first, nor do writes under way bring it."""
    token = logged_in(desk)
    slow = desk.open(token)
    assert slow["cart"]
    if between == "log-out":
        tab = desk.open(token)
        tab.pop("user_id")
        desk.save(tab)
        token = tab.token
        assert desk.data(token) == {"cart": ["mug"], "n": 1}
    new = log_in(desk, token, "bob")
    slow["late"] = "ada's"

    assert desk.save(slow) is Outcome.UNKNOWN
    assert desk.data(new) == {"user_id": "bob"}


def test_what_is_written_after_the_switch_stays(desk):
    """The switch acts where the user key is assigned: as ``clear()`` that keeps the key and what comes later."""
    session = desk.open(logged_in(desk))
    session["before"] = 1
    session["user_id"] = "bob"
    session["after"] = 1
    assert dict(session) == {"user_id": "bob", "after": 1}

    desk.save(session)
    assert desk.data(session) == {"user_id": "bob", "after": 1}


def test_the_same_user_again_keeps_everything(desk):
    """Logged out by removing the key, then logged in again: their session goes on."""
    session = desk.open(logged_in(desk))
    session.pop("user_id")
    desk.save(session)
    token = log_in(desk, session.token)

    assert desk.data(token) == {"cart": ["mug"], "n": 1, "user_id": "ada"}


def test_a_log_in_by_a_remember_cookie_undoes_no_log_out(desk):
    """Overtaken by a log-out, it holds for its own request only: nothing is stored."""
    token = logged_in(desk)
    slow = desk.open(token)
    tab = desk.open(token)
    tab.clear()
    desk.save(tab)
    assert slow.get("user_id") is None
    slow.update(user_id="ada", _fresh=False)

    assert desk.save(slow) is Outcome.UNKNOWN
    assert desk.store.all() == {}


# -- log-outs ---------------------------------------------------------------------------------------------------------

LOG_OUTS = {"clear": lambda s: s.clear(), "destroy": lambda s: s.destroy(), "pop": lambda s: s.pop("user_id", None)}


@pytest.mark.parametrize("rotations", [1, 3])
@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("name", LOG_OUTS)
def test_a_log_out_wins_over_rotations(desk, *, name, loaded, rotations):
    """Whatever the session's token is by then; what is left of it belongs to nobody."""
    token = logged_in(desk)
    leaving = desk.open(token)
    if loaded:
        assert leaving["user_id"] == "ada"
    for _ in range(rotations):
        token = rotated(desk, token)
    LOG_OUTS[name](leaving)

    assert desk.save(leaving) is Outcome.ENDED
    assert desk.data(token) == {}
    assert desk.store.all() == {}


def test_clearing_and_writing_after_a_rotation_ends_and_drops(desk):
    """The answer of a request that was overtaken brings no cookie, so what it wrote would be lost anyway."""
    token = logged_in(desk)
    leaving = desk.open(token)
    assert leaving["user_id"]
    new = rotated(desk, token)
    leaving.clear()
    leaving["flash"] = "bye"

    assert desk.save(leaving) is Outcome.ENDED
    assert desk.data(new) == {}
    assert desk.store.all() == {}


def test_a_tombstone_stops_everything(desk):
    """Writes and rotations of requests under way find an ended session, and nothing begins anew."""
    token = logged_in(desk)
    under_way = [desk.open(token) for _ in range(4)]
    assert under_way[0]["user_id"] == under_way[2]["user_id"] == "ada"
    ending = desk.open(token)
    ending.clear()
    desk.save(ending)
    under_way[0]["late"] = 1
    under_way[1]["late"] = 1
    under_way[2].regenerate()
    under_way[3].increment("n")

    assert [desk.save(session) for session in under_way] == [Outcome.UNKNOWN] * 4
    assert desk.store.all() == {}


# -- merging ----------------------------------------------------------------------------------------------------------


def test_a_failure_at_the_end_of_a_merge_loses_nothing(desk, monkeypatch):
    """Once the own save is confirmed, what follows fails no answer: the other session goes on."""
    mine, other = cart(desk), desk.stored({"theirs": 1})
    session = desk.open(mine)
    session.merge(other)
    end = type(desk.store.repository).end

    def fail(repository, chosen, ended_at):
        raise SessionStoreUnavailable

    monkeypatch.setattr(type(desk.store.repository), "end", fail)
    assert desk.save(session) is Outcome.CURRENT
    monkeypatch.setattr(type(desk.store.repository), "end", end)

    assert desk.data(mine) == {"cart": ["mug"], "n": 1, "theirs": 1}
    assert desk.data(other) == {"theirs": 1}


def test_what_is_written_to_the_other_until_its_end_is_kept(desk):
    """A write acknowledged between the look and the end comes along."""
    mine, other = cart(desk), desk.stored({"theirs": 1, "list": [1]})
    session = desk.open(mine)
    session.merge(other)
    tab = desk.open(other)
    tab["late"] = 2
    tab["list"].append(2)
    desk.save(tab)

    assert desk.save(session) is Outcome.CURRENT
    assert desk.data(mine) == {"cart": ["mug"], "n": 1, "theirs": 1, "list": [1, 2], "late": 2}
    assert desk.data(other) == {}


@pytest.mark.parametrize("mine", [None, "bob"])
def test_whose_session_a_merge_is(desk, sessions, mine):
    """The other's user is taken where nobody is logged in, with the time of their log-in; else nothing of it."""
    other = logged_in(desk)
    before = sessions.find_one({"user_id": "ada"})["authenticated_at"]
    token = cart(desk) if mine is None else logged_in(desk, mine)
    session = desk.open(token)
    session.merge(other)
    assert not (session.fresh(10**6) and mine is None)
    desk.save(session)

    user = mine or "ada"
    assert desk.data(session)["user_id"] == user
    stored = sessions.find_one({"token": token_hash(session.token.partition(".")[2])})
    assert stored["user_id"] == user
    assert (stored["authenticated_at"] == before) is (mine is None)
    assert (session.token == token) is (mine is not None)


def test_merging_makes_nothing_fresh(desk):
    """Flask-Login's flag of the other session is not taken without its user."""
    other = desk.stored({"user_id": "ada", "_fresh": True})
    session = desk.open(desk.stored({"user_id": "bob", "_fresh": False}))
    session.merge(other)
    desk.save(session)

    assert desk.data(session)["_fresh"] is False
    assert not desk.open(session.token).fresh(10**6)


# -- a cookie with two tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [True, False])
def test_a_cookie_with_both_tokens_works_either_way(desk, applied):
    """Whichever the database knows is used; it loads first even for a blind write, and one token is left."""
    token = cart(desk)
    sid = token.partition(".")[0]
    new = rotated(desk, token).split(".")[1] if applied else "never-stored"
    session = desk.open(token)
    draft_of(session).opened().cookie.pending = new
    session["blind"] = 1

    assert desk.save(session) is Outcome.CURRENT
    assert session.token.startswith(f"{sid}.")
    assert (session.token == f"{sid}.{new}") is applied
    assert session.token != token
    assert draft_of(session).state.cookie.pending is None
    assert desk.data(session)["blind"] == 1


def test_a_cookie_with_both_tokens_of_a_session_that_is_gone(desk):
    """Then it is as unknown as any other."""
    session = desk.open("no-such-id.secret")
    draft_of(session).opened().cookie.pending = "other"

    assert session.get("n") is None
    assert draft_of(session).state.phase is Phase.GONE
