"""Requests that overlap exactly as told: each stops before every command that it sends, and goes on when it is let.

No test in here sleeps or hopes: which request comes next is drawn, so a seed tells a whole history.
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from dataclasses import dataclass, field

from flask import Flask, current_app, request, session
from pymongo import monitoring
from werkzeug.http import parse_cookie, parse_date

#: Seconds after which a request that neither stops nor ends is taken for stuck.
PATIENCE = 20
SECRET = "what only the logged-in session holds"
USER = "7"


class Interleaver(monitoring.CommandListener):
    """Lets one of several requests go on at a time, from one command to the next."""

    def __init__(self):
        self._workers = {}
        self._turn = threading.Condition()

    def started(self, event):
        worker = self._workers.get(threading.get_ident())
        if worker is not None and event.command_name not in ("hello", "saslContinue"):
            worker.stop(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass

    def run(self, requests, choose):
        """Run all *requests* (callables that may ``stop``) to their ends; *choose* picks the next of those that wait.

        Returns what each returned, in their order; raises what one of them raised.
        """
        workers = [_Worker(self, request, self._turn, number) for number, request in enumerate(requests)]
        for worker in workers:
            worker.start()
        while waiting := self._all_stopped(workers):
            chosen = choose(waiting)
            with self._turn:
                chosen.point = None
                self._turn.notify_all()
        for worker in workers:
            worker.join(PATIENCE)
            if worker.error is not None:
                raise worker.error

        return [worker.result for worker in workers]

    def stop(self, point):
        """Stop the request that asks, until it is chosen."""
        self._workers[threading.get_ident()].stop(point)

    def _all_stopped(self, workers):
        with self._turn:
            settled = self._turn.wait_for(
                lambda: all(worker.point is not None or worker.done for worker in workers), PATIENCE
            )
            assert settled, f"stuck: {[(worker.request, worker.point, worker.done) for worker in workers]}"
            return [worker for worker in workers if not worker.done]


class _Worker(threading.Thread):
    def __init__(self, interleaver, request, turn, number):
        super().__init__(daemon=True)
        self.interleaver, self.request, self.turn, self.number = interleaver, request, turn, number
        self.point, self.done, self.error, self.result = None, False, None, None

    def run(self):
        self.interleaver._workers[threading.get_ident()] = self
        try:
            self.stop("begin")
            self.result = self.request()
        except BaseException as error:
            self.error = error
        finally:
            del self.interleaver._workers[threading.get_ident()]
            with self.turn:
                self.done = True
                self.turn.notify_all()

    def stop(self, point):
        with self.turn:
            self.point = point
            self.turn.notify_all()
            assert self.turn.wait_for(lambda: self.point is None, PATIENCE), f"never chosen at {point}"


def schedules(requests_commands):
    """Every order in which requests of so many steps each can overlap, as lists of indices."""
    steps = [index for index, count in enumerate(requests_commands) for _ in range(count)]
    return sorted(set(itertools.permutations(steps)))


@dataclass
class Browser:
    """A browser's cookie jar: a request takes the cookie of when it is sent, a response brings one when it arrives."""

    app: Flask
    interleaver: Interleaver | None = None
    cookie: str | None = None
    #: Every cookie that any response brought.
    brought: list = field(default_factory=list)
    deletions: int = 0

    def get(self, path, *, cookie=None, late=False):
        """Send a request; its response arrives at once, or *late*: when it is chosen once more."""
        sent = cookie or self.cookie
        headers = {"Cookie": f"session={sent}"} if sent else {}
        http = self.app.test_client(use_cookies=False)
        response = http.get(path, headers=headers)
        if late:
            self.interleaver.stop("arrive")
        self._arrive(response)
        return response

    def _arrive(self, response):
        lines = response.headers.getlist("Set-Cookie")
        assert len(lines) <= 1, lines
        for line in lines:
            value = parse_cookie(line.partition(";")[0]).get("session")
            if is_deletion(line):
                self.cookie = None
                self.deletions += 1
            else:
                self.cookie = value
                self.brought.append(value)


def is_deletion(line):
    """Whether a ``Set-Cookie`` takes the cookie away; fails where it would linger."""
    attributes = dict(part.strip().partition("=")[::2] for part in line.split(";")[1:])
    if attributes.get("Max-Age") != "0":
        return False

    assert parse_date(attributes["Expires"]).year == 1970
    return True


def store_of(app):
    return app.extensions["mongo_session"].store


def live(app):
    """The documents that are sessions now."""
    store = store_of(app)
    return list(store.collection.find({"expires_at": {"$gt": store.now()}, "ended_at": None}))


def add_views(app, interleaver):
    """Views to overlap: one for everything that a request may do to its session.

    With ``?begun`` it waits before it does that, with ``?slow`` after it.
    """
    app.extensions["interleaver"] = interleaver
    for number, (rule, act) in enumerate(ACTS.items()):

        def view(act=act, **arguments):
            if "begun" in request.args:
                app.extensions["interleaver"].stop("view")
            answer = act(**arguments)
            if "slow" in request.args:
                app.extensions["interleaver"].stop("view")
            return answer if isinstance(answer, dict) else str(answer)

        app.add_url_rule(rule, f"view_{number}", view)

    return app


def _start():
    session.update(user_id=USER, secret=SECRET, other="1")


def _change(key, value):
    before = session.get("secret")
    session[key] = value
    return before


def _count(key, *, waits):
    """Read, and write what follows from it, at once or a long time later."""
    before = session.get("n", 0)
    if waits:
        current_app.extensions["interleaver"].stop("view")
    session.update({"n": before + 1, key: before})


def _mark(value):
    """Write what is meant for the user whom this request sees."""
    user = session.get("user_id")
    session[f"mark_{value}"] = user
    return user


def _sign_in(user):
    """As ``/login``, with something that is the user's own."""
    session["user_id"] = user
    session["owner"] = user


def _sign_in_anew(user):
    """As Flask's tutorial does it."""
    session.clear()
    _sign_in(user)


def _nested(value):
    session.setdefault("list", []).append(value)


def _empty():
    for key in list(session):
        session.pop(key)


def _set_deadline(seconds):
    session.deadline = store_of(current_app).now() + dt.timedelta(seconds=seconds)


def _log_in_anew(user):
    """As Flask's tutorial does it."""
    session.clear()
    session["user_id"] = user


def _log_out_then_fail():
    session.clear()
    session["list"] = []
    session["list"].append(object())


# ruff: noqa: PLW0108 - outside of a request there is no bound method to name
ACTS = {
    "/start": _start,
    "/untouched": lambda: "nothing",
    "/whoami": lambda: session.get("user_id"),
    "/all": lambda: dict(session),
    "/token": lambda: {"token": session.token, "sid": session.sid},
    "/read/<key>": lambda key: session.get(key),
    "/write/<key>/<value>": lambda key, value: session.update({key: value}),
    "/change/<key>/<value>": _change,
    "/count/<key>": lambda key: _count(key, waits=False),
    "/count-late/<key>": lambda key: _count(key, waits=True),
    "/mark/<value>": _mark,
    "/nested/<value>": _nested,
    "/increment/<key>": lambda key: session.increment(key),
    "/append/<key>/<value>": lambda key, value: session.append(key, value, limit=5),
    "/append-all/<key>/<value>": lambda key, value: session.append(key, value),
    "/pop/<key>": lambda key: session.pop(key, None),
    "/empty": _empty,
    "/permanent": lambda: setattr(session, "permanent", True),
    "/deadline/<int:seconds>": _set_deadline,
    "/regenerate": lambda: session.regenerate(),
    "/confirm": lambda: session.confirm(),
    "/login/<user>": lambda user: session.update(user_id=user),
    "/login-anew/<user>": _log_in_anew,
    "/sign-in/<user>": _sign_in,
    "/sign-in-anew/<user>": _sign_in_anew,
    "/remembered/<user>": lambda user: session.update(_fresh=False, user_id=user),
    "/logout": lambda: session.clear(),
    "/clear-and-write/<key>": lambda key: (session.clear(), session.update({key: 1}))[0],
    "/logout-user": lambda: session.pop("user_id", None),
    "/logout-then-fail": _log_out_then_fail,
    "/merge/<token>": lambda token: session.merge(token),
}


def in_order(*turns):
    """Chooses by a script of the requests' numbers, one for each step; then whoever waits first."""
    turns = list(turns)
    seen = []

    def choose(waiting):
        seen.extend(worker for worker in waiting if worker not in seen)
        while turns:
            wanted = seen[turns.pop(0)]
            if wanted in waiting:
                return wanted
        return waiting[0]

    return choose
