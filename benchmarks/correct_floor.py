"""The correct floor: sessions on MongoDB written by hand, with the guarantees that this library gives and nothing more.

A signed cookie, a hashed token, a time limit, an expiry, lazy loading, one update of just the changed keys that never
revives an ended session, majority writes, a new token at log-in, Flask's cookie hooks. Left out is what costs nothing
while all goes well (two requests of one browser at once, outages, damaged records), and what the benchmarks do not
use: permanent sessions, keys and values that BSON does not take, the database's clock.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
from collections import deque
from functools import cached_property

import bson
import pymongo
from flask.sessions import SessionInterface, SessionMixin
from pymongo.errors import AutoReconnect
from pymongo.write_concern import WriteConcern

_SECONDS, _IDLE, _TOUCH = 2.0, dt.timedelta(days=31), dt.timedelta(seconds=60)
_USER_KEY = "user_id"
_ATTRIBUTES = ("domain", "path", "secure", "httponly", "samesite", "partitioned")


class FloorSession(SessionMixin):
    """Loads its record when something is read; remembers what was written, and what can be changed in place."""

    permanent = False

    def __init__(self, floor, app, request):
        self.floor, self.app, self.request = floor, app, request
        self.loaded, self.record, self.values, self.written, self.lent = False, None, {}, set(), {}

    @cached_property
    def key(self):
        """The session's id and the hash of its token; ``None`` unless the cookie is ours."""
        return self.floor.verify(self.request.cookies.get(self.floor.get_cookie_name(self.app), ""))

    def load(self):
        if not self.loaded:
            self.loaded, self.record = True, self.floor.find(*self.key) if self.key else None
            self.values = {**(self.record["data"] if self.record else {}), **self.values}
        return self.values

    def __getitem__(self, name):
        value = self.values[name] if name in self.written else self.load()[name]
        if type(value) in (dict, list) and name not in self.lent:
            self.lent[name] = bson.encode({"": value})
        return value

    def __setitem__(self, name, value):
        self.values[name] = value
        self.written.add(name)

    def __delitem__(self, name):
        del self.load()[name]
        self.written.add(name)

    def __iter__(self):
        return iter(self.load())

    def __len__(self):
        return len(self.load())

    def changed(self):
        in_place = {name for name, was in self.lent.items() if bson.encode({"": self.values.get(name)}) != was}
        return self.written | in_place


class CorrectFloor(SessionInterface):
    """Opens a session without I/O and saves it with one command at most."""

    def __init__(self, secret, collection):
        self.collection, self.touches = collection, collection.with_options(write_concern=WriteConcern(w=1))
        self.database, self.idle = collection.database, deque()
        self.mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)

    def ask(self, call, *arguments, **options):
        """The driver's answer within the time limit, in its cheapest form: under a session that is used again."""
        try:
            session = self.idle.pop()
        except IndexError:
            session = self.database.client.start_session(causal_consistency=False)
        with pymongo.timeout(_SECONDS):
            answer = call(*arguments, session=session, **options)
        self.idle.append(session)
        return answer

    def signed(self, text):
        mac = self.mac.copy()
        mac.update(text.encode())
        return f"{text}.{mac.hexdigest()}"

    def verify(self, cookie):
        text = cookie.rpartition(".")[0]
        if not hmac.compare_digest(self.signed(text).encode(), cookie.encode()):
            return None
        sid, _, token = text.partition(".")
        return sid, _hash(token)

    def find(self, sid, hashed):
        """The record, if it lives and has this token. A command costs less than the driver's cursor."""
        command = {"find": self.collection.name, "filter": {"_id": sid}, "limit": 1, "singleBatch": True}
        options = {"codec_options": self.collection.codec_options}
        try:
            found = self.ask(self.database.command, command, **options)["cursor"]["firstBatch"]
        except AutoReconnect:
            found = self.ask(self.database.command, command, **options)["cursor"]["firstBatch"]
        lives = found and found[0]["expires_at"] > _now() and hmac.compare_digest(found[0]["token"], hashed)
        return found[0] if lives else None

    def open_session(self, app, request):
        return FloorSession(self, app, request)

    def save_session(self, app, session, response):
        if session.accessed:
            response.vary.add("Cookie")
        cookie = self.store(session, session.changed())
        if cookie is None:
            return
        name, attributes = self.get_cookie_name(app), {a: getattr(self, f"get_cookie_{a}")(app) for a in _ATTRIBUTES}
        if cookie:
            response.set_cookie(name, cookie, expires=self.get_expiration_time(app, session), **attributes)
        else:
            response.delete_cookie(name, **attributes)

    def store(self, session, changed):
        """Write what changed, or a due expiry; the cookie to send, ``""`` to delete it, ``None`` to leave it alone."""
        now = _now()
        if not changed and (session.record is None or session.record["touched_at"] > now - _TOUCH):
            return None
        if _USER_KEY in changed:
            session.load()
        if session.key is None or (session.loaded and session.record is None):
            return self.insert(session.values, now)
        if changed and session.loaded and not session.values:
            self.ask(self.collection.delete_one, {"_id": session.key[0], "token": session.key[1]})
            return ""
        if self.update(session, changed, now, token := secrets.token_urlsafe(16) if _USER_KEY in changed else None):
            return self.signed(f"{session.key[0]}.{token}") if token else None
        return None if session.loaded else self.insert(session.values, now)

    def update(self, session, changed, now, token):
        """Whether the session still lives, and has what *changed*; a new *token* is a log-in's, or a log-out's."""
        sets = {f"data.{name}": session.values[name] for name in changed if name in session.values}
        removed = {f"data.{name}": "" for name in changed if name not in session.values}
        if token:
            sets |= {"token": _hash(token), "user_id": str(session.values.get(_USER_KEY)), "authenticated_at": now}
        if token or not session.loaded or session.record["touched_at"] < now - _TOUCH:
            sets |= {"expires_at": now + _IDLE, "touched_at": now}
        alive = {"_id": session.key[0], "token": session.key[1], "expires_at": {"$gt": now}}
        update = {operator: fields for operator, fields in (("$set", sets), ("$unset", removed)) if fields}
        collection = self.collection if changed else self.touches
        return self.ask(collection.update_one, alive, update).matched_count > 0

    def insert(self, values, now):
        if not values:
            return None
        sid, token = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        dates = {"created_at": now, "touched_at": now, "expires_at": now + _IDLE}
        user = {"user_id": str(values[_USER_KEY]), "authenticated_at": now} if _USER_KEY in values else {}
        self.ask(self.collection.insert_one, {"_id": sid, "token": _hash(token), "data": values, **dates, **user})
        return self.signed(f"{sid}.{token}")


def _hash(token):
    return hashlib.sha256(token.encode()).digest()


def _now():
    return dt.datetime.now(dt.timezone.utc)
