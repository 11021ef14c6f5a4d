"""What a finished request owes, as a table: every phase by every intent. No database, no cookie."""

from __future__ import annotations

import itertools

import pytest

from flask_mongo_session.session.plan import Step, UserChange, Wishes, plan
from flask_mongo_session.session.state import Phase

LIVE = (Phase.UNREAD, Phase.LOADED)
NOTHING, TOUCH, CREATE, UPDATE, MERGE, ROTATE, END, END_EMPTIED = Step

LOGIN = {"changed": True, "written": True, "user": UserChange.LOGIN, "user_after": "ada"}
LOGOUT = {"changed": True, "user": UserChange.LOGOUT, "user_before": "ada"}
SWITCH = {**LOGIN, "user": UserChange.SWITCH, "user_before": "bob", "rotate": True, "whole": True}
CLEARED = {"cleared": True, "rotate": True, "whole": True}

#: What a request wants: of a new session; of a live one; of one that is gone, never seen or seen alive before; of one
#: that a rotation or a log-out overtook.
TABLE = {
    "nothing": ({}, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING),
    "read it, and a touch is due": ({"touch": True}, NOTHING, TOUCH, NOTHING, NOTHING, NOTHING),
    "write keys": ({"changed": True, "written": True}, CREATE, UPDATE, CREATE, NOTHING, MERGE),
    "write, and a touch is due": (
        {"changed": True, "written": True, "touch": True},
        CREATE,
        UPDATE,
        CREATE,
        NOTHING,
        MERGE,
    ),
    "remove keys": ({"changed": True}, NOTHING, UPDATE, NOTHING, NOTHING, MERGE),
    "remove the last keys": ({"changed": True, "emptied": True}, NOTHING, END_EMPTIED, NOTHING, NOTHING, MERGE),
    "be permanent": ({"changed": True}, NOTHING, UPDATE, NOTHING, NOTHING, MERGE),
    "clear": ({**CLEARED}, NOTHING, END, END, END, END),
    "clear, then write": ({**CLEARED, "changed": True, "written": True}, CREATE, ROTATE, END, END, END),
    "clear, then remove": ({**CLEARED, "changed": True}, NOTHING, END, END, END, END),
    "clear, then log in": ({**LOGIN, **CLEARED}, CREATE, ROTATE, CREATE, CREATE, CREATE),
    "clear, then log in as another": ({**SWITCH, **CLEARED}, CREATE, ROTATE, CREATE, CREATE, CREATE),
    "clear, then log in by a cookie": (
        {**LOGIN, **CLEARED, "remembered": True},
        CREATE,
        ROTATE,
        CREATE,
        CREATE,
        NOTHING,
    ),
    "log in": (LOGIN, CREATE, ROTATE, CREATE, CREATE, CREATE),
    "log in by a remember-me cookie": ({**LOGIN, "remembered": True}, CREATE, ROTATE, CREATE, CREATE, NOTHING),
    "log in as another": (SWITCH, CREATE, ROTATE, CREATE, CREATE, CREATE),
    "log out": (LOGOUT, NOTHING, ROTATE, END, END, END),
    "log out, then write": ({**LOGOUT, "written": True}, CREATE, ROTATE, END, END, END),
    "log out with nothing left": ({**LOGOUT, "emptied": True}, NOTHING, END, END, END, END),
    "regenerate": ({"rotate": True}, NOTHING, ROTATE, NOTHING, NOTHING, NOTHING),
    "regenerate and write": (
        {"rotate": True, "changed": True, "written": True},
        CREATE,
        ROTATE,
        CREATE,
        NOTHING,
        MERGE,
    ),
}

#: A log-out where no user is to be seen; of a session that is live there is one to be seen, or none to log out.
DISMISSED = {
    "log out": ({"dismissed": True}, END),
    "log out, then write": ({"dismissed": True, "changed": True, "written": True}, END),
    "log out, then log in": ({"dismissed": True, **LOGIN}, CREATE),
}


@pytest.mark.parametrize("name", TABLE)
def test_new(name):
    """Without a session one is made for what was written; an empty one is never stored."""
    wishes, new, *_ = TABLE[name]
    assert plan(Phase.NEW, Wishes(**wishes), was_loaded=False) is new


@pytest.mark.parametrize("phase", LIVE)
@pytest.mark.parametrize("name", TABLE)
def test_live(phase, name):
    """One command, the same whether the record was read or is only thought to be there."""
    wishes, _, live, *_ = TABLE[name]
    assert plan(phase, Wishes(**wishes), was_loaded=phase is Phase.LOADED) is live


@pytest.mark.parametrize("name", TABLE)
def test_gone(name):
    """As if the id had been unknown; what was computed from a session that is over is dropped, a log-in never is."""
    wishes, _, _, unseen, seen, _ = TABLE[name]
    assert plan(Phase.GONE, Wishes(**wishes), was_loaded=False) is unseen
    assert plan(Phase.GONE, Wishes(**wishes), was_loaded=True) is seen


@pytest.mark.parametrize("was_loaded", [False, True])
@pytest.mark.parametrize("name", TABLE)
def test_superseded(name, was_loaded):
    """Writes go where the session went, log-outs win, log-ins get a session of their own, a rotation is satisfied."""
    wishes, *_, superseded = TABLE[name]
    assert plan(Phase.SUPERSEDED, Wishes(**wishes), was_loaded=was_loaded) is superseded


@pytest.mark.parametrize("phase", [Phase.GONE, Phase.SUPERSEDED])
@pytest.mark.parametrize("name", DISMISSED)
def test_a_log_out_that_saw_no_user(phase, name):
    """It is one all the same, unless somebody logs in after it."""
    wishes, wanted = DISMISSED[name]
    assert plan(phase, Wishes(**wishes), was_loaded=False) is wanted


def test_failed():
    """Of a session that could not be read nothing is saved."""
    for wishes, *_ in TABLE.values():
        assert plan(Phase.FAILED, Wishes(**wishes), was_loaded=False) is NOTHING


FLAGS = ("changed", "written", "cleared", "dismissed", "emptied", "rotate", "whole", "remembered", "touch")


def everything():
    """Every phase with every combination of wishes, possible or not, and its step."""
    for phase, was_loaded, user in itertools.product(Phase, (False, True), UserChange):
        for flags in itertools.product((False, True), repeat=len(FLAGS)):
            wishes = Wishes(**dict(zip(FLAGS, flags, strict=True)), user=user)
            yield phase, wishes, plan(phase, wishes, was_loaded=was_loaded)


def test_what_no_wish_can_bring_about():
    """A session that is not the cookie's is never updated, rotated or touched, a live one never doubled."""
    for phase, wishes, step in everything():
        if phase in LIVE:
            assert step not in (CREATE, MERGE), wishes
        else:
            assert step not in (UPDATE, ROTATE, TOUCH, END_EMPTIED), (phase, wishes)
        if step is MERGE:
            assert phase is Phase.SUPERSEDED, wishes
        if phase in (Phase.NEW, Phase.FAILED):
            assert step is not END, wishes


def test_a_log_out_is_never_a_mere_write():
    """Whatever else the request wants: the session ends, or goes on under another token, and nothing is merged."""
    for phase, wishes, step in everything():
        if phase in (Phase.GONE, Phase.SUPERSEDED) and wishes.logs_out:
            assert step is END, (phase, wishes)
        if phase in LIVE and (wishes.user is UserChange.LOGOUT or wishes.cleared):
            assert step in (END, ROTATE, END_EMPTIED), wishes


def test_a_log_in_is_never_lost():
    """But by a remember-me cookie, where a rotation or a log-out overtook the request."""
    for phase, wishes, step in everything():
        if not wishes.logs_in or not wishes.written or wishes.emptied or phase is Phase.FAILED:
            continue
        if phase is Phase.SUPERSEDED and wishes.remembered:
            assert step is NOTHING, wishes
        else:
            assert step is (ROTATE if phase in LIVE else CREATE), (phase, wishes)


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (None, None, UserChange.NONE),
        ("ada", "ada", UserChange.NONE),
        (None, "ada", UserChange.LOGIN),
        ("ada", None, UserChange.LOGOUT),
        ("ada", "bob", UserChange.SWITCH),
    ],
)
def test_what_happened_to_the_user(before, after, change):
    """From whoever was logged in to whoever is; ``None`` is nobody."""
    assert UserChange.between(before, after) is change


def test_who_logs_in_does_not_log_out():
    """After ``clear()``, too, as in Flask's tutorial: one request is one of the two."""
    assert Wishes(**LOGIN, **CLEARED).logs_in
    assert not Wishes(**LOGIN, **CLEARED).logs_out
    assert Wishes(**CLEARED).logs_out
    assert Wishes(**LOGOUT).logs_out
    assert Wishes(dismissed=True).logs_out
    assert not Wishes(changed=True, written=True, rotate=True).logs_out
