"""Any interleaving of several clients' requests does what a plain reference does; a broken store is found out."""

from __future__ import annotations

import datetime as dt

import pytest
from flask import request
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from interleaving import is_deletion, live, store_of
from reference import Reference, Request

from flask_mongo_session.session.tokens import session_id
from flask_mongo_session.storage import ending
from flask_mongo_session.storage import repository as commands

MOST_AT_ONCE = 4
WHICH = st.integers(0, 11)
KEYS = st.sampled_from(["a", "b.c", "$d"])
VALUES = st.one_of(st.integers(0, 2), st.sampled_from(["x", ""]), st.none())
# ruff: noqa: ARG005 - all acts are called alike

#: What a view may do: the same to a session and to the reference's request.
ACTS = {
    "read": lambda session, key, value: dict(session),
    "assign": lambda session, key, value: session.__setitem__(key, value),
    "remove": lambda session, key, value: session.pop(key, None),
    "remove all": lambda session, key, value: [session.pop(key) for key in list(session)],
    "change in place": lambda session, key, value: session.setdefault("list", []).append(value),
    "increment": lambda session, key, value: session.increment("n", 2),
    "append": lambda session, key, value: session.append("log", value, limit=3),
    "log in": lambda session, key, value: session.update(user_id="7" if value else "8"),
    "log out": lambda session, key, value: session.pop("user_id", None),
    "clear": lambda session, key, value: session.clear(),
    "destroy": lambda session, key, value: session.destroy(),
    "regenerate": lambda session, key, value: session.regenerate(),
}
EXPECTED = {
    "read": lambda request, key, value: request.values(),
    "assign": lambda request, key, value: request.set(key, value),
    "remove": lambda request, key, value: request.delete(key),
    "remove all": lambda request, key, value: [request.delete(key) for key in request.values()],
    "change in place": lambda request, key, value: request.extend("list", value),
    "increment": lambda request, key, value: request.add("n", 2),
    "append": lambda request, key, value: request.push("log", value),
    "log in": lambda request, key, value: request.set("user_id", "7" if value else "8"),
    "log out": lambda request, key, value: request.delete("user_id"),
    "clear": lambda request, key, value: request.clear(),
    "destroy": lambda request, key, value: request.clear(),
    "regenerate": lambda request, key, value: request.regenerate(),
}
#: How often each step is taken.
STEPS = [
    *["open"] * 5,
    *["save"] * 6,
    *["assign", "read", "increment", "log in", "regenerate"] * 2,
    *["let time pass", "set deadline", "merge"],
    *sorted(ACTS),
]


class Overlapping(RuleBasedStateMachine):
    """Two browsers, up to four requests under way, each opened, used and saved in steps of their own."""

    app = move_clock = None

    @initialize()
    def begin(self):
        self.store = store_of(self.app)
        self.store.collection.delete_many({})
        self.started = self.store.now()
        self.reference = Reference()
        self.open_requests = []
        #: For each browser its real cookie, and what the reference says it holds.
        self.jars = [(None, None), (None, None)]
        #: The reference's tokens, by the real ones.
        self.tokens = {}

        self.open(0)
        self.use(0, "assign", "a", 1)
        self.save(0)

    @rule(step=st.sampled_from(STEPS), chosen=WHICH, other=WHICH, key=KEYS, value=VALUES)
    def step(self, step, chosen, other, key, value):
        """One rule for all, since Hypothesis leaves some rules out of each run, and these are worth little alone."""
        if step == "let time pass":
            self.let_time_pass([5, 60, 400, 1_000][other % 4], swept=chosen % 2)
        elif not self.open_requests or (step == "open" and len(self.open_requests) < MOST_AT_ONCE):
            self.open(int(chosen == 0))
        elif step == "save":
            self.save(chosen)
        elif step == "set deadline":
            self.set_deadline(chosen, [100, 500, 5_000][other % 3])
        elif step == "merge" and self.tokens:
            self.merge(chosen, other)
        elif step in ACTS:
            self.use(chosen, step, key, value)

    # -- the life of a request ----------------------------------------------------------------------------------------

    def open(self, browser):
        cookie, ticket = self.jars[browser]
        headers = {"Cookie": f"session={cookie}"} if cookie else {}
        with self.app.test_request_context(headers=headers):
            session = self.app.session_interface.open_session(self.app, request)
        self.open_requests.append((browser, session, Request(self.reference, ticket)))

    def save(self, chosen):
        browser, session, expected = self.open_requests.pop(chosen % len(self.open_requests))
        response = self.app.response_class()
        with self.app.test_request_context():
            self.app.session_interface.save_session(self.app, session, response)

        self._compare_cookie(browser, response, expected.save())
        self._compare_database()

    def _compare_cookie(self, browser, response, ticket):
        lines = response.headers.getlist("Set-Cookie")
        if ticket is None:
            assert lines == []
            return

        (line,) = lines
        if ticket == "deleted":
            assert is_deletion(line)
            self.jars[browser] = (None, None)
            return

        cookie = line.partition(";")[0].partition("=")[2]
        real = self.app.session_interface.signer(self.app).read(cookie)
        assert self.tokens.setdefault(real.token, ticket.token) == ticket.token
        assert (real.deadline is None) == (ticket.deadline is None)
        self.jars[browser] = (cookie, ticket)

    def _compare_database(self):
        sids = {session_id(real): token for real, token in self.tokens.items()}
        found = {}
        for document in live(self.app):
            encoded = self.store._records.encoded(document)
            found[sids[document["_id"]]] = (self.store.schema.decode_all(encoded), document.get("user_id"))

        assert found == {token: (record.data, record.user) for token, record in self.reference.live().items()}

    # -- what a view does ---------------------------------------------------------------------------------------------

    def use(self, chosen, act, key, value):
        _, session, expected = self.open_requests[chosen % len(self.open_requests)]
        answer, right = ACTS[act](session, key, value), EXPECTED[act](expected, key, value)
        if act == "read":
            assert answer == right

    def set_deadline(self, chosen, seconds):
        _, session, expected = self.open_requests[chosen % len(self.open_requests)]
        session.deadline = self.started + dt.timedelta(seconds=self.reference.now + seconds)
        expected.set_deadline(self.reference.now + seconds)

    def merge(self, chosen, other):
        _, session, expected = self.open_requests[chosen % len(self.open_requests)]
        if expected.to_merge is None:
            real = list(self.tokens)[-1 - other % len(self.tokens)]
            session.merge(real)
            expected.merge(self.tokens[real])

    # -- time ---------------------------------------------------------------------------------------------------------

    def let_time_pass(self, seconds, swept):
        type(self).move_clock(seconds)
        self.reference.now += seconds
        if swept:
            self.store.delete_expired()
            self.reference.sweep()
            self._compare_database()


def run(app, move_clock, examples, **options):
    """Without shrinking, which would run for minutes: the steps that led to a difference are printed as they were."""
    machine = type("Machine", (Overlapping,), {"app": app, "move_clock": staticmethod(move_clock)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            report_multiple_bugs=False,
            **options,
        ),
    )


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(40, id="everyday"),
        pytest.param(500, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
    ],
)
def test_overlapping_requests_do_what_the_reference_does(make_app, move_clock, examples):
    """Reads, answers, cookies and what is stored: no difference, however the requests interleave."""
    run(make_app(PERMANENT_SESSION_LIFETIME=1_000), move_clock, examples)


def upsert(store, monkeypatch):
    """A change creates what it does not find."""
    collection = type(store.collection)

    def update_one(self, chosen, update, **options):
        return original(self, {"_id": chosen["_id"]}, update, **{**options, "upsert": True})

    original = collection.update_one
    monkeypatch.setattr(collection, "update_one", update_one)


def forget_expiry(store, monkeypatch):
    """A change and a rotation do not ask whether the session has expired."""
    for module in (commands, ending):
        monkeypatch.setattr(module, "alive", lambda sid, now: {"_id": sid, "ended": None})


def write_whole(store, monkeypatch):
    """A change writes all that the request knows, as most session libraries do."""
    change = store.change

    def change_all(sid, changes, known, frame, **options):
        found = store.collection.find_one({"_id": sid, "ended": None})
        stored = change(sid, changes, known, frame, **options)
        if stored and found:
            kept = {f"data.{name}": value for name, value in found["data"].items()}
            store.collection.update_one({"_id": sid}, {"$set": stale.get(sid, kept)} if kept else {"$set": {"x": 1}})
            stale[sid] = kept
        return stored

    stale = {}
    monkeypatch.setattr(store, "change", change_all)


def forget_the_trail(store, monkeypatch):
    """A log-out does not follow a rotation."""
    monkeypatch.setattr(store, "follow", lambda mark, reason: False)


def leave_no_mark(store, monkeypatch):
    """A rotation deletes the old record."""
    retire = store.retire

    def retire_and_delete(sid, *arguments):
        latest = retire(sid, *arguments)
        store.collection.delete_one({"_id": sid, "ended": {"$ne": None}})
        return latest

    monkeypatch.setattr(store, "retire", retire_and_delete)


@pytest.mark.parametrize("sabotage", [upsert, forget_expiry, write_whole, forget_the_trail, leave_no_mark])
def test_a_broken_store_is_found_out(make_app, move_clock, monkeypatch, sabotage):
    """The machine can tell: each of these mistakes of real session libraries makes it fail."""
    app = make_app(PERMANENT_SESSION_LIFETIME=1_000)
    sabotage(store_of(app), monkeypatch)

    with pytest.raises(BaseException) as caught:
        run(app, move_clock, 150, derandomize=True)
    assert isinstance(caught.value, (AssertionError, KeyError, ValueError)), caught.value
