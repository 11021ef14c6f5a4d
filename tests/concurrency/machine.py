"""Drives sessions and the reference through the same steps, drawn by Hypothesis, and compares them."""

from __future__ import annotations

import datetime as dt

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from interleaving import is_deletion, store_of
from reference import DELETED, Reference, Request

from flask_mongo_session.mongo import clock
from flask_mongo_session.session.state import token_hash

MOST_AT_ONCE = 3
THIRD = 2
WHICH = st.integers(0, 11)
KEYS = st.sampled_from(["a", "b.c", "$d", "csrf_token"])
VALUES = st.one_of(st.integers(0, 2), st.sampled_from(["x", ""]), st.none())
# ruff: noqa: ARG005 - all acts are called alike

#: What a view may do: the same to a session and to the reference's request.
ACTS = {
    "read": lambda session, key, value: dict(session),
    "get": lambda session, key, value: session.get(key),
    "assign": lambda session, key, value: session.__setitem__(key, value),
    "remove": lambda session, key, value: session.pop(key, None),
    "remove all": lambda session, key, value: [session.pop(key, None) for key in list(session)],
    "change in place": lambda session, key, value: session.setdefault("list", []).append(value),
    "increment": lambda session, key, value: session.increment("n", 2),
    "append": lambda session, key, value: session.append("log", value, limit=3),
    "log in": lambda session, key, value: session.update(user_id="7" if value else "8"),
    "log out": lambda session, key, value: session.pop("user_id", None),
    "clear": lambda session, key, value: session.clear(),
    "destroy": lambda session, key, value: session.destroy(),
    "regenerate": lambda session, key, value: session.regenerate(),
    "confirm": lambda session, key, value: session.confirm(),
    "permanent": lambda session, key, value: setattr(session, "permanent", bool(value)),
}
EXPECTED = {
    "read": lambda request, key, value: request.values(),
    "get": lambda request, key, value: request.get(key),
    "assign": lambda request, key, value: request.set(key, value),
    "remove": lambda request, key, value: request.delete(key),
    "remove all": lambda request, key, value: request.delete_all(),
    "change in place": lambda request, key, value: request.extend("list", value),
    "increment": lambda request, key, value: request.add("n", 2),
    "append": lambda request, key, value: request.push("log", value),
    "log in": lambda request, key, value: request.set("user_id", "7" if value else "8"),
    "log out": lambda request, key, value: request.delete("user_id"),
    "clear": lambda request, key, value: request.clear(),
    "destroy": lambda request, key, value: request.clear(),
    "regenerate": lambda request, key, value: request.regenerate(),
    "confirm": lambda request, key, value: request.confirm(),
    "permanent": lambda request, key, value: request.set_permanent(bool(value)),
}
#: What is done in requests that overlap with nothing, between the steps of those that do.
QUICK = ["log in", "log out", "regenerate", "regenerate", "assign", "permanent"]
#: How often each step is taken.
STEPS = [
    *["open"] * 8,
    *["save"] * 10,
    *["quick request"] * 12,
    *["assign", "change in place"] * 5,
    *["read", "get", "let time pass"] * 3,
    *["deliver", "log in", "log out", "increment"] * 2,
    *["crash", "lose", "keep a cookie", "set deadline"],
    *sorted(ACTS),
]


class StoppedClock:
    """The database's clock and the boot clock, which move only when they are told to."""

    def __init__(self):
        self.seconds = 1_000_000

    def boottime(self):
        return float(self.seconds)

    def hello(self, client, answer=clock.hello):
        return {**answer(client), "localTime": self.date(0)}

    def date(self, seconds):
        """The date in so many seconds."""
        return dt.datetime.fromtimestamp(1_700_000_000 + self.seconds + seconds, dt.timezone.utc)


class Clients:
    """Two browsers, and a third party that keeps a cookie of theirs; each step is compared with the reference.

    Requests are opened, used and saved in steps of their own, and their answers arrive in another one. A step that
    differs from the reference is an :exc:`AssertionError`.
    """

    def __init__(self, app, stopped_clock):
        self.app, self.clock, self.store = app, stopped_clock, store_of(app)
        self.store.collection.delete_many({})
        self.reference = Reference()
        self.open_requests = []
        #: For each client its real cookie, and what the reference says that it holds.
        self.jars = [(None, None)] * 3
        #: Answers on their way: whose they are, and the cookies that they bring.
        self.answers = []
        #: The reference's numbers of sessions and tokens, by the real ones.
        self.numbers = {}

    # -- the life of a request ----------------------------------------------------------------------------------------

    def open(self, client):
        cookie, content = self.jars[client]
        headers = {"Cookie": f"session={cookie}"} if cookie else {}
        with self.app.test_request_context(headers=headers) as context:
            session = self.app.session_interface.open_session(self.app, context.request)
        self.open_requests.append((client, session, Request(self.reference, content)))

    def save(self, chosen):
        client, session, expected = self.open_requests.pop(chosen % len(self.open_requests))
        response = self.app.response_class()
        with self.app.test_request_context():
            self.app.session_interface.save_session(self.app, session, response)

        assert response.status_code == 200
        self._compare_cookie(client, response, expected.save())
        self._compare_database()

    def crash(self, chosen):
        """The worker dies before it saves."""
        self.open_requests.pop(chosen % len(self.open_requests))

    def deliver(self, chosen):
        """An answer arrives, and with it its cookie."""
        if self.answers:
            client, jar = self.answers.pop(chosen % len(self.answers))
            self.jars[client] = jar

    def lose(self, chosen):
        """An answer never arrives."""
        if self.answers:
            self.answers.pop(chosen % len(self.answers))

    def visit(self, client, *acts):
        """A request from its beginning to its answer, with acts as :meth:`use` takes them."""
        self.open(client)
        for act in acts:
            self.use(-1, *act)
        self.save(-1)
        self.deliver(-1)

    def keep_cookie(self, client):
        """The third party notes what a browser holds now."""
        self.jars[THIRD] = self.jars[client]

    def _compare_cookie(self, client, response, content):
        lines = response.headers.getlist("Set-Cookie")
        if content is None:
            assert lines == [], "a cookie that should not be sent"
            return

        assert lines, f"no cookie, where there should be {content}"
        (line,) = lines
        cookie, jar = line.partition(";")[0].partition("=")[2], (None, None)
        assert bool(cookie) == (content != DELETED), f"another cookie than {content}"
        if content == DELETED:
            assert is_deletion(line)
        else:
            real = self.app.session_interface.signer(self.app).read(cookie)
            assert self.numbers.setdefault(real.sid, content.sid) == content.sid
            assert self.numbers.setdefault(token_hash(real.token), content.token) == content.token
            says = (real.permanent, real.deadline)
            assert says == (content.permanent, self._milliseconds(content.deadline)), (says, content)
            jar = (cookie, content)
        if client != THIRD:
            self.answers.append((client, jar))

    def _milliseconds(self, seconds):
        return None if seconds is None else int(self._date(seconds).timestamp()) * 1_000

    def _date(self, seconds):
        return None if seconds is None else self.clock.date(seconds - self.reference.now)

    def _compare_database(self):
        stored = {self.numbers[document["_id"]]: document for document in self.store.collection.find()}
        found = {sid: self._seen(document) for sid, document in stored.items()}
        right = {sid: self._expected(record) for sid, record in self.reference.records.items()}
        assert found == right, _difference(found, right)

    def _seen(self, document):
        """What a document says, with the reference's numbers."""
        mapper, names = self.store.repository.mapper, ("touched_at", "expires_at", "deadline", "ended_at")
        previous = document.get("previous")
        if previous is not None:
            previous = (
                self.numbers[previous["token"]],
                previous["at"],
                previous["keeps_writes"],
                previous.get("login", False),
                set(previous["wrote"]),
            )
        return {
            "token": self.numbers.get(document.get("token")),
            "data": mapper.stored(document).data,
            "user": (document.get("user_id"), document.get("last_user_id")),
            "dates": [document.get(name) for name in names],
            "permanent": document.get("permanent", False),
            "previous": previous,
        }

    def _expected(self, record):
        ended, previous = record.ended_at is not None, record.previous
        dates = (None if ended else record.touched, record.expires, record.deadline, record.ended_at)
        if previous is not None:
            at = self._date(previous.at)
            previous = (previous.token, at, previous.keeps_writes, previous.login, previous.wrote)
        return {
            "token": record.token,
            "data": record.data,
            "user": (record.user, record.last_user),
            "dates": [self._date(date) for date in dates],
            "permanent": record.permanent,
            "previous": previous,
        }

    # -- what a view does ---------------------------------------------------------------------------------------------

    def use(self, chosen, act, key, value):
        _, session, expected = self.open_requests[chosen % len(self.open_requests)]
        answer, right = ACTS[act](session, key, value), EXPECTED[act](expected, key, value)
        if act in {"read", "get"}:
            assert answer == right, (answer, right)

    def set_deadline(self, chosen, seconds):
        _, session, expected = self.open_requests[chosen % len(self.open_requests)]
        session.deadline = self.clock.date(seconds)
        expected.set_deadline(self.reference.now + seconds)

    # -- time ---------------------------------------------------------------------------------------------------------

    def let_time_pass(self, seconds, swept):
        self.clock.seconds += seconds
        self.reference.now += seconds
        if swept:
            self.store.delete_expired()
            self.reference.sweep()
            self._compare_database()


def _difference(found, right):
    """What is stored, and should be, where that is not the same."""
    every = [(sid, found.get(sid, {}), right.get(sid, {})) for sid in sorted({*found, *right})]
    return "\n".join(
        f"{sid} {name}: {stored.get(name)} instead of {expected.get(name)}"
        for sid, stored, expected in every
        for name in sorted({*stored, *expected})
        if stored.get(name) != expected.get(name)
    )


class Overlapping(RuleBasedStateMachine):
    """Up to three requests under way, answers that arrive late, in any order or not at all, requests that never end."""

    app = clock = None

    @initialize()
    def begin(self):
        """The first browser has a session."""
        self.clients = clients = Clients(self.app, self.clock)
        clients.visit(0, ("assign", "a", 1))

    @rule(step=st.sampled_from(STEPS), chosen=WHICH, other=WHICH, key=KEYS, value=VALUES)
    def step(self, step, chosen, other, key, value):
        """One rule for all, since Hypothesis leaves some rules out of each run, and these are worth little alone."""
        take_step(self.clients, step, chosen, other, key, value)


def take_step(clients, step, chosen, other, key, value):  # noqa: PLR0917 - whatever Hypothesis drew
    """Take one step; *chosen* and *other* say which request, answer, client or time it is about."""
    under_way = clients.open_requests
    if step == "let time pass":
        clients.let_time_pass([5, 5, 5, 11, 11, 60, 400, 1_000][(chosen + other) % 8], swept=chosen % 2)
    elif step in {"deliver", "lose"}:
        (clients.deliver if step == "deliver" else clients.lose)(chosen)
    elif step == "keep a cookie":
        clients.keep_cookie(chosen % 2)
    elif step == "quick request":
        clients.visit([0, 0, 0, 1, THIRD][chosen % 5], (QUICK[other % len(QUICK)], key, value))
    elif not under_way or (step == "open" and len(under_way) < MOST_AT_ONCE):
        clients.open([0, 0, 0, 1, THIRD][chosen % 5])
    elif step == "save":
        clients.save(chosen)
    elif step == "crash":
        clients.crash(chosen)
    elif step == "set deadline":
        clients.set_deadline(chosen, [100, 500, 5_000][other % 3])
    elif step in ACTS:
        clients.use(chosen, step, key, value)


def run(app, stopped_clock, examples, **options):
    """Without shrinking, which would run for minutes: the steps that led to a difference are printed as they were."""
    machine = type("Machine", (Overlapping,), {"app": app, "clock": stopped_clock})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            report_multiple_bugs=False,
            **options,
        ),
    )
