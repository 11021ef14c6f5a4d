"""Each rule of overlapping requests by itself: it holds, and leaving it out is found out.

A scenario drives sessions and the plain reference through the same steps; every difference is an AssertionError.
"""

from __future__ import annotations

import pytest
from interleaving import live
from machine import THIRD, Clients, run
from pymongo.errors import DuplicateKeyError

from flask_mongo_session.document import filters
from flask_mongo_session.document.standing import Standing, standing
from flask_mongo_session.session import overtaken, unit_of_work
from flask_mongo_session.session.draft import SessionDraft
from flask_mongo_session.session.plan import Step, plan
from flask_mongo_session.session.session import draft_of
from flask_mongo_session.session.unit_of_work import Outcome, UnitOfWork
from flask_mongo_session.session.values import TrackedValues
from flask_mongo_session.storage import repository
from flask_mongo_session.storage.repository import SessionRepository
from flask_mongo_session.web.interface import MongoSessionInterface

BROWSER = 0
SEVEN, EIGHT = 1, 0
#: The requests under way: the one that was opened first, and the last one.
SLOW, LAST = 0, -1


def visit(clients, *acts, client=BROWSER):
    """A whole request; acts are ``(act, value)`` or ``(act, key, value)``."""
    clients.visit(client, *map(_with_key, acts))


def use(clients, which, *acts):
    """The same in a request that is under way."""
    for act in map(_with_key, acts):
        clients.use(which, *act)


def _with_key(act):
    name, *key, value = act
    return name, *(key or ["a"]), value


LOG_IN, LOG_IN_8, LOG_OUT = ("log in", SEVEN), ("log in", EIGHT), ("log out", None)
READ, CLEAR, REGENERATE = ("read", None), ("clear", None), ("regenerate", None)


@pytest.fixture
def make_clients(make_app, stopped_clock):
    """Makes clients of a new application; the first browser has a session."""

    def make():
        clients = Clients(make_app(PERMANENT_SESSION_LIFETIME=1_000), stopped_clock)
        visit(clients, ("assign", "a", 1))
        return clients

    return make


# -- what requests do to each other: the rules -------------------------------------------------------------------------


def a_slow_write_meets_a_rotation(clients):
    """It is kept, although its token is not the current one any more."""
    clients.open(BROWSER)
    visit(clients, LOG_IN)
    use(clients, SLOW, ("assign", "b.c", 2), ("increment", None))
    clients.save(SLOW)
    visit(clients, READ)


def a_slow_write_meets_a_switch_of_user(clients):
    """It is dropped: it was meant for somebody else."""
    visit(clients, LOG_IN)
    clients.open(BROWSER)
    visit(clients, LOG_IN_8)
    use(clients, SLOW, ("assign", "b.c", 2))
    clients.save(SLOW)


def a_slow_write_meets_what_the_rotation_wrote(clients):
    """What the rotation wrote stays."""
    clients.open(BROWSER)
    visit(clients, LOG_IN, ("assign", "b.c", 1))
    use(clients, SLOW, ("assign", "b.c", 2), ("assign", "$d", 2))
    clients.save(SLOW)


def a_write_is_computed_from_nothing(clients):
    """A key that was looked at in an empty, overtaken session is not stored; others are."""
    visit(clients, ("change in place", 1))
    clients.open(BROWSER)
    visit(clients, REGENERATE)
    use(clients, SLOW, ("change in place", 2), ("assign", "b.c", 2))
    clients.save(SLOW)


def a_write_begins_after_the_rotation(clients):
    """A request that was sent with the old cookie after the rotation writes nowhere."""
    clients.keep_cookie(BROWSER)
    visit(clients, REGENERATE)
    clients.let_time_pass(5, swept=False)
    visit(clients, ("assign", "b.c", 2), client=THIRD)


def a_slow_log_out_meets_a_rotation(clients):
    """A log-out ends the session, whatever its token is by then."""
    clients.open(BROWSER)
    visit(clients, LOG_IN)
    use(clients, SLOW, CLEAR)
    clients.save(SLOW)
    visit(clients, READ)


def a_slow_log_out_sees_no_user(clients):
    """Taking out a user key that reads as absent is a log-out, too."""
    clients.open(BROWSER)
    visit(clients, LOG_IN)
    use(clients, SLOW, LOG_OUT)
    clients.save(SLOW)


def a_late_log_out_meets_a_log_in(clients):
    """Ten seconds after a log-in nobody ends it by the token before."""
    clients.keep_cookie(BROWSER)
    visit(clients, LOG_IN)
    clients.let_time_pass(11, swept=False)
    visit(clients, CLEAR, client=THIRD)


def a_late_log_out_meets_a_switch_of_user(clients):
    """Nor ten seconds after somebody else logged in."""
    visit(clients, LOG_IN)
    clients.keep_cookie(BROWSER)
    visit(clients, LOG_IN_8)
    clients.let_time_pass(11, swept=False)
    visit(clients, CLEAR, client=THIRD)


def a_late_log_out_meets_a_rotation(clients):
    """It ends the session, however late, unless the rotation was a log-in."""
    clients.keep_cookie(BROWSER)
    visit(clients, REGENERATE)
    clients.let_time_pass(60, swept=False)
    visit(clients, CLEAR, client=THIRD)


def a_write_meets_a_log_out(clients):
    """It revives nothing, and sends no cookie over the log-out's, also when it is as slow as minutes."""
    clients.open(BROWSER)
    use(clients, SLOW, ("assign", "b.c", 2))
    visit(clients, CLEAR)
    clients.let_time_pass(400, swept=True)
    clients.save(SLOW)


def a_write_begins_long_after_a_log_out(clients):
    """It is a new session's."""
    clients.keep_cookie(BROWSER)
    visit(clients, CLEAR)
    clients.let_time_pass(11, swept=True)
    visit(clients, ("assign", "b.c", 2), client=THIRD)


def a_double_click_on_log_in(clients):
    """The slower log-in is a session of its own, with the cart that it had loaded."""
    clients.open(BROWSER)
    use(clients, SLOW, READ)
    visit(clients, LOG_IN)
    use(clients, SLOW, LOG_IN)
    clients.save(SLOW)
    clients.deliver(LAST)
    visit(clients, READ)


def one_user_follows_another(clients):
    """Also with nobody in between nothing of the first reaches the second."""
    visit(clients, LOG_IN)
    visit(clients, LOG_OUT)
    visit(clients, LOG_IN_8)
    visit(clients, READ)


def a_form_token_is_planted(clients):
    """At a log-in it goes."""
    visit(clients, ("assign", "csrf_token", "x"))
    visit(clients, LOG_IN)
    visit(clients, READ)


def a_blind_write_meets_an_expired_session(clients):
    """It begins a new one."""
    clients.let_time_pass(1_000, swept=False)
    visit(clients, ("assign", "b.c", 2))


def a_read_write_meets_an_expired_session(clients):
    """What was computed from it is dropped, and the record is not revived."""
    clients.open(BROWSER)
    use(clients, SLOW, READ, ("assign", "b.c", 2))
    clients.let_time_pass(1_000, swept=True)
    clients.save(SLOW)


def an_old_cookie_writes(clients):
    """With the token before the last one, it changes nothing of the session."""
    clients.keep_cookie(BROWSER)
    visit(clients, REGENERATE)
    visit(clients, REGENERATE)
    clients.let_time_pass(60, swept=False)
    visit(clients, ("assign", "b.c", 2), client=THIRD)


def a_page_without_session(clients):
    """It is not touched, whatever is due."""
    clients.let_time_pass(60, swept=False)
    visit(clients)


def a_slow_read_of_a_permanent_session(clients):
    """It does not know that its token is the current one: no cookie."""
    visit(clients, ("permanent", True))
    clients.open(BROWSER)
    use(clients, SLOW, READ)
    clients.let_time_pass(5, swept=False)
    clients.save(SLOW)


def all_keys_go_one_by_one(clients):
    """A key that was added meanwhile keeps the session alive."""
    clients.open(BROWSER)
    use(clients, SLOW, ("remove all", None))
    visit(clients, ("assign", "b.c", 2))
    clients.save(SLOW)


def a_session_is_replaced(clients):
    """After ``clear()`` what is written shares nothing with what was there."""
    clients.open(BROWSER)
    use(clients, SLOW, CLEAR, ("assign", "b.c", 2))
    visit(clients, ("assign", "$d", 2))
    clients.save(SLOW)
    clients.deliver(LAST)
    visit(clients, READ)


# -- the rules left out ------------------------------------------------------------------------------------------------

# ruff: noqa: ARG005 - what is put in a function's place is called as it is


def merge_nothing(monkeypatch):
    """Writes that a rotation overtook are dropped."""
    monkeypatch.setattr(unit_of_work, "merge_writes", lambda draft, repository: None)


def ignore_keeps_writes(monkeypatch):
    """They are kept whatever the rotation was."""

    def update(self, chosen, *arguments, **options):
        chosen = {name: value for name, value in chosen.items() if name != "previous.keeps_writes"}
        return original(self, chosen, *arguments, **options)

    original = SessionRepository.update
    monkeypatch.setattr(SessionRepository, "update", update)
    monkeypatch.setattr(overtaken, "_keeps", lambda previous, token, began: previous is not None)


def ignore_when_it_began(monkeypatch):
    """They are kept of requests that began after the rotation, too."""

    def keeps(previous, token, began):
        return original(previous, token, previous and previous["at"])

    original = overtaken._keeps
    monkeypatch.setattr(overtaken, "_keeps", keeps)


def ignore_what_the_rotation_wrote(monkeypatch):
    """They are kept over what the rotation wrote."""

    def merge(draft, repository):
        draft.state.record.get("previous", {})["wrote"] = []
        original(draft, repository)

    original = unit_of_work.merge_writes
    monkeypatch.setattr(unit_of_work, "merge_writes", merge)


def ignore_what_was_looked_at(monkeypatch):
    """They are kept although they were computed from nothing."""

    def merge(draft, repository):
        draft.values.looked_at = set()
        original(draft, repository)

    original = unit_of_work.merge_writes
    monkeypatch.setattr(unit_of_work, "merge_writes", merge)


def end_nothing_overtaken(monkeypatch):
    """A log-out does not follow a rotation."""
    monkeypatch.setattr(unit_of_work, "end_overtaken", lambda draft, repository, now: False)


def end_whatever_was_overtaken(monkeypatch):
    """A log-out ends what a log-in made, however late it is."""

    def end(draft, repository, now):
        return repository.end({"_id": draft.state.cookie.sid, "ended_at": None}, now)

    monkeypatch.setattr(unit_of_work, "end_overtaken", end)


def dismiss_nobody(monkeypatch):
    """Taking out a user who is not to be seen is no log-out."""
    monkeypatch.setattr(SessionDraft, "dismiss_user", lambda draft: None)


def never_superseded(monkeypatch):
    """An old token is an unknown one."""
    monkeypatch.setattr(repository, "standing", lambda *known: _only_live(standing(*known)))


def forget_the_ended(monkeypatch):
    """A tombstone says no more than nothing."""

    def judge(record, *known):
        return Standing.GONE if record and "ended_at" in record else standing(record, *known)

    monkeypatch.setattr(repository, "standing", judge)


def never_forget_the_ended(monkeypatch):
    """A tombstone speaks to requests that began long after it, too."""

    def judge(record, *known):
        return Standing.SUPERSEDED if record and "ended_at" in record else standing(record, *known)

    monkeypatch.setattr(repository, "standing", judge)


def _only_live(judged):
    return judged if judged is Standing.LIVE else Standing.GONE


def copy_nothing(monkeypatch):
    """A log-in that was overtaken begins with nothing."""
    monkeypatch.setattr(UnitOfWork, "_may_copy", lambda work, wishes: False)


def forget_the_last_user(monkeypatch):
    """Nobody knows whose session it was before."""

    def prepare_for(draft, user):
        (draft.state.loaded or {}).pop("last_user_id", None)
        original(draft, user)

    original = SessionDraft._prepare_for
    monkeypatch.setattr(SessionDraft, "_prepare_for", prepare_for)


def forbid_nothing(monkeypatch):
    """A form token survives the log-in."""
    monkeypatch.setattr(TrackedValues, "forbid", lambda values, key: None)


def ignore_the_token(monkeypatch):
    """A change asks for the session's id alone."""
    monkeypatch.setattr(filters, "one_live", lambda sid, token, now: {"_id": sid, **filters.live(now)})


def ignore_the_expiry(monkeypatch):
    """A change does not ask whether the session has expired."""
    monkeypatch.setattr(filters, "one_live", lambda sid, token, now: {"_id": sid, "token": token})


def upsert(monkeypatch):
    """A change creates what it does not find."""

    def update(self, chosen, update, **options):
        chosen = {name: value for name, value in chosen.items() if name != "$expr"}  # no upsert takes it
        try:
            self.collection.update_one(chosen, update, upsert=True)
        except DuplicateKeyError:
            return False
        return True

    monkeypatch.setattr(SessionRepository, "update", update)


def touch_whatever_was_opened(monkeypatch):
    """A page without session reads it, to keep it alive."""

    def save(self, app, session, response):
        draft_of(session).load()
        original(self, app, session, response)

    original = MongoSessionInterface.save_session
    monkeypatch.setattr(MongoSessionInterface, "save_session", save)


def refresh_whatever_was_read(monkeypatch):
    """A permanent cookie is renewed by each read, however long ago."""

    def used(work, state):
        outcome = original(work, state)
        return Outcome.CURRENT if state.record and state.record.get("permanent") else outcome

    original = UnitOfWork._used
    monkeypatch.setattr(UnitOfWork, "_used", used)


def end_whatever_was_emptied(monkeypatch):
    """A session that was emptied ends, whatever was added meanwhile."""
    monkeypatch.setattr(UnitOfWork, "_end_emptied", UnitOfWork._end)


def rotate_nothing(monkeypatch):
    """The token stays."""

    def decide(*known, **more):
        step = plan(*known, **more)
        return Step.UPDATE if step is Step.ROTATE else step

    monkeypatch.setattr(unit_of_work, "plan", decide)


RULES = [
    (a_slow_write_meets_a_rotation, merge_nothing),
    (a_slow_write_meets_a_rotation, never_superseded),
    (a_slow_write_meets_a_switch_of_user, ignore_keeps_writes),
    (a_slow_write_meets_what_the_rotation_wrote, ignore_what_the_rotation_wrote),
    (a_write_is_computed_from_nothing, ignore_what_was_looked_at),
    (a_write_begins_after_the_rotation, ignore_when_it_began),
    (a_slow_log_out_meets_a_rotation, end_nothing_overtaken),
    (a_slow_log_out_sees_no_user, dismiss_nobody),
    (a_late_log_out_meets_a_log_in, end_whatever_was_overtaken),
    (a_late_log_out_meets_a_switch_of_user, end_whatever_was_overtaken),
    (a_late_log_out_meets_a_rotation, end_nothing_overtaken),
    (a_write_meets_a_log_out, forget_the_ended),
    (a_write_begins_long_after_a_log_out, never_forget_the_ended),
    (a_double_click_on_log_in, copy_nothing),
    (one_user_follows_another, forget_the_last_user),
    (a_form_token_is_planted, forbid_nothing),
    (a_blind_write_meets_an_expired_session, ignore_the_expiry),
    (a_read_write_meets_an_expired_session, upsert),
    (an_old_cookie_writes, ignore_the_token),
    (a_page_without_session, touch_whatever_was_opened),
    (a_slow_read_of_a_permanent_session, refresh_whatever_was_read),
    (all_keys_go_one_by_one, end_whatever_was_emptied),
    (a_session_is_replaced, rotate_nothing),
]


def _name(function):
    return function.__name__


@pytest.mark.parametrize("scenario", dict.fromkeys(scenario for scenario, _ in RULES), ids=_name)
def test_the_rule_holds(make_clients, scenario):
    """Sessions do in each scenario what the reference does."""
    scenario(make_clients())


@pytest.mark.parametrize(("scenario", "left_out"), RULES, ids=_name)
def test_a_rule_left_out_is_found_out(make_clients, monkeypatch, scenario, left_out):
    """Each rule is needed: without it the scenario goes another way, and that is seen."""
    clients = make_clients()
    left_out(monkeypatch)

    with pytest.raises((AssertionError, KeyError)):
        scenario(clients)


#: What 150 runs come upon. The other rules need a more particular order of steps.
FOUND_SOON = [
    dismiss_nobody,
    end_nothing_overtaken,
    forbid_nothing,
    forget_the_ended,
    ignore_the_expiry,
    ignore_the_token,
    merge_nothing,
    never_superseded,
    rotate_nothing,
    touch_whatever_was_opened,
]


@pytest.mark.soak
@pytest.mark.parametrize("left_out", FOUND_SOON, ids=_name)
def test_the_machine_finds_it_by_itself(make_app, stopped_clock, monkeypatch, left_out):
    """Any interleaving is enough: nobody has to know where to look."""
    app = make_app(PERMANENT_SESSION_LIFETIME=1_000)
    left_out(monkeypatch)

    with pytest.raises(BaseException) as caught:
        run(app, stopped_clock, 150, derandomize=True)
    assert isinstance(caught.value, (AssertionError, KeyError)), caught.value


@pytest.mark.parametrize("cleared", [False, True], ids=["overtaken by a rotation", "by a log-out"])
def test_computing_twice_around_a_read(make_clients, cleared):
    """A request that was overtaken sees all that it did itself, and its log-in begins with all of it."""
    clients = make_clients()
    clients.open(BROWSER)
    visit(clients, CLEAR if cleared else REGENERATE)

    for _ in range(2):
        use(clients, SLOW, ("increment", None), ("append", 1), READ)
    use(clients, SLOW, LOG_IN)
    clients.save(SLOW)
    clients.deliver(LAST)
    visit(clients, READ)


# -- what users are told -----------------------------------------------------------------------------------------------


def test_clearing_and_logging_in_as_the_same_user(web, browse):
    """Flask's tutorial logs in this way; whoever does it twice is found by their user id."""
    browser = browse(web)
    browser.get("/login-anew/7")
    browser.get("/login-anew/7")

    assert [document["user_id"] for document in live(web)] == ["7"]
    assert browser.get("/whoami").text == "7"
