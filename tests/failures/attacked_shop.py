"""An application with every feature on, and somebody who sends it whatever comes to mind."""

from __future__ import annotations

import json
import random
import re
import string
import typing as t
from collections import Counter
from urllib.parse import quote, quote_from_bytes

from flask import Flask, jsonify, redirect, request, session
from flask_admin import Admin
from flask_babel import Babel
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf import CSRFProtect
from mongoengine import DateTimeField, DictField, IntField, ListField, MapField, StringField

from flask_mongo_session import (
    InvalidFieldValue,
    MongoSession,
    SessionDocument,
    SessionTooLarge,
    UnstorableValue,
    fresh_session,
)
from flask_mongo_session.contrib.admin import SessionAdmin
from flask_mongo_session.contrib.devices import devices_blueprint
from flask_mongo_session.web.cookie import _signature


class AttackedSession(SessionDocument):
    theme = StringField(choices=("light", "dark"))
    name = StringField(max_length=20)
    visits = IntField(min_value=0, max_value=1000)
    tags = ListField(StringField(max_length=10), max_length=5)
    prefs = DictField()
    scores = MapField(IntField())
    seen_at = DateTimeField()
    meta: t.ClassVar = {"collection": "attacked", "indexes": ["theme"]}


class User(UserMixin):
    def __init__(self, name):
        self.id = name


def make_app(client, database, **config):
    """The application, on a database of the client's."""
    app = Flask("attacked")
    app.config.update(
        SECRET_KEY="a secret for tests only",
        SECRET_KEY_FALLBACKS=["an older secret"],
        SESSION_MONGODB=client,
        SESSION_MONGODB_DB=database,
        SESSION_CLEANUP_INTERVAL=0,
        SESSION_TRACK_DEVICE="truncated",
        SESSION_MAX_PER_USER=(3, "oldest"),
        SESSION_ENCRYPTION_KEYS=["11" * 32, "22" * 32],
        SESSION_IDLE_TIMEOUT=3600,
        SESSION_ABSOLUTE_LIFETIME=7200,
        SESSION_ANONYMOUS_LIFETIME=600,
        SESSION_MAX_SIZE=20_000,
        REMEMBER_COOKIE_DURATION=60,
    )
    app.config.update(config)
    sessions = MongoSession(app, model=AttackedSession)
    app.extensions["sessions"] = sessions
    csrf = CSRFProtect(app)
    LoginManager(app).user_loader(lambda name: User(name) if name else None)
    Babel(app)  # where it is installed, Flask-Admin wants it
    admin = Admin(app)
    admin.add_view(SessionAdmin(sessions, is_allowed=lambda: request.headers.get("X-Staff") == "yes"))
    app.register_blueprint(devices_blueprint(sessions), url_prefix="/devices")
    add_views(app, sessions, csrf)
    return app


def add_views(app, sessions, csrf):  # noqa: C901 - one small view after the other
    """What takes something from the client and hands it on."""
    for error in (UnstorableValue, InvalidFieldValue, SessionTooLarge):
        app.register_error_handler(error, lambda error: (type(error).__name__, 400))

    def view(rule, **options):
        def add(function):
            app.add_url_rule(rule, function.__name__, csrf.exempt(function), methods=["GET", "POST"], **options)
            return function

        return add

    @view("/json")
    def from_json():
        for key, value in (request.get_json(silent=True) or {}).items():
            session[key] = value
        return "stored"

    @view("/nested")
    def nested():
        session.setdefault("prefs", {}).update(request.get_json(silent=True) or {})
        session.setdefault("free", {}).update(request.get_json(silent=True) or {})
        return "stored"

    @view("/form")
    def from_form():
        session.update(request.form.to_dict())
        return "stored"

    @view("/blind")
    def blind():
        session.increment("visits")
        session.append("tags", "x", limit=5)
        return "counted"

    @view("/read")
    def read():
        key = request.args.get("key", "")
        return jsonify([key in session, str(session.get(key)), session.pop(request.args.get("pop", ""), None) is None])

    @view("/everything")
    def everything():
        return jsonify({key: str(value) for key, value in session.items()})

    @view("/login")
    def login():
        return str(login_user(User(request.values.get("user", "")), remember="remember" in request.values))

    @view("/user")
    def user():
        session["_user_id"] = (request.get_json(silent=True) or {}).get("user")
        return str(current_user.get_id())

    @view("/logout")
    def logout():
        return str(logout_user())

    @view("/clear")
    def clear():
        session.clear()
        return "cleared"

    @view("/begin-anew")
    def begin_anew():
        session.clear()
        session["then"] = request.args.get("then")
        return "cleared"

    @view("/renew")
    def renew():
        session.regenerate()
        session.permanent = "permanent" in request.args
        return "renewed"

    @view("/confirm")
    def confirm():
        session.confirm()
        return redirect("/fresh")

    @view("/fresh")
    @fresh_session(60, endpoint="confirm")
    def fresh():
        return "fresh"

    @view("/merge")
    def merge():
        session.merge(request.args.get("token"))
        return str(session.token is None)

    @view("/people")
    def people():
        who, sid = request.args.get("user", ""), request.args.get("sid", "")
        listed = [info.sid for info in sessions.of_user(who, limit=5)]
        return jsonify([listed, sessions.describe(sid) is None, len(sessions.export_user(who)["sessions"])])

    @view("/revoke")
    def revoke():
        who, sid = request.args.get("user", ""), request.args.get("sid", "")
        return jsonify([sessions.revoke(sid, who), sessions.revoke(sid), sessions.revoke_user(who, keep=sid or None)])

    @view("/erase")
    def erase():
        return str(sessions.erase_user(request.args.get("user", "")))


#: Pages that write nothing for somebody who has no session.
READING = [
    *("/read", "/everything", "/logout", "/clear", "/renew", "/confirm", "/fresh", "/merge", "/people", "/revoke"),
    *("/devices/", "/devices/end", "/devices/end-others", "/devices/not-me", "/nowhere", "/static/none.css", "/erase"),
]
WRITING = ["/json", "/nested", "/form", "/blind", "/login", "/user", "/begin-anew"]
STAFF = [
    f"/admin/sessions/{page}"
    for page in ("", "overview", "session", "audit", "export.csv", "export.json", "revoke", "revoke-user", "revoke-all")
]
ODD = [
    *("", "0", "-1", "$where", "a.b", "%", "%00", "~t", "data", "_id", "expires_at", "token", "_fresh", "_user_id"),
    *("\x00", "\ud800", "\udfff\ud800", "\U0010ffff", "é" * 30, " ", "\r\n", "a\tb", "__proto__", "constructor"),
    *("null", "true", "[]", "{}", "NaN", "1e999", "9" * 400, "0x10", "١٢٣", "' or 1=1", "<script>", "../../etc", "."),
    *("theme", "name", "visits", "tags", "prefs", "scores", "seen_at", "user_id", "_cls"),
    *("previous", "deadline", "ended_at", "permanent", "2020-01-01T00:00:00", "9999-12-31T23:59:59.999999+14:00"),
]


class Attacker:
    """Sends requests, keeps the cookies and ids that it is given, and mixes them with everything else."""

    def __init__(self, app, seed):
        self.app = app
        self.chance = random.Random(seed)
        self.client = app.test_client(use_cookies=False)
        self.cookies, self.sids, self.tokens, self.forms = [], [], [], []
        self.codes = Counter()
        self.last = None

    # -- what it sends ---------------------------------------------------------------------------------------------

    def text(self):
        chance = self.chance
        kind = chance.random()
        if kind < 0.45:
            return chance.choice(ODD)
        if kind < 0.6 and self.sids:
            return chance.choice(self.sids)
        if kind < 0.7 and self.tokens:
            return chance.choice(self.tokens)
        if kind < 0.8:
            return chance.choice(["ada", "bob", "root", "7"])
        if kind < 0.85:
            return "x" * chance.choice([1, 100, 1_000, 30_000])
        return "".join(chr(chance.choice([chance.randrange(128), chance.randrange(0x110000)])) for _ in range(5))

    def value(self, depth=0):
        chance = self.chance
        kind = chance.randrange(12)
        if kind == 0 and not depth:
            return self.deep(chance.choice([5, 60, 120, 400]))
        if kind < 4 and depth < 4:
            return [self.value(depth + 1) for _ in range(chance.randrange(4))]
        if kind < 8 and depth < 4:
            return {self.text(): self.value(depth + 1) for _ in range(chance.randrange(4))}
        numbers = [0, -1, 2**31, 2**63 - 1, 2**63, -(2**70), 10**300, 0.1, float("inf"), float("nan"), -0.0]
        return chance.choice([self.text(), None, True, False, *numbers, {"$gt": ""}, {"~t": "date", "v": "x"}])

    def deep(self, depth):
        value = self.text()
        for level in range(depth):
            value = [value] if level % 2 else {"a": value}
        return value

    def cookie(self):
        chance, kind = self.chance, self.chance.random()
        if kind < 0.1:
            return None
        if kind < 0.6 and self.cookies:
            return f"session={chance.choice([self.cookies[-1], chance.choice(self.cookies)])}"
        if kind < 0.8 and self.cookies:
            return f"session={self.mangled(chance.choice(self.cookies))}"
        if kind < 0.9 and self.cookies:
            first, last = self.mangled("x"), chance.choice(self.cookies)
            return f"session={first}; remember_token={self.remembered()}; session={last}"
        return chance.choice([f"session={self.raw()}", self.raw(), "session", "session=;;;", f'session="{self.raw()}"'])

    def mangled(self, cookie):
        chance, parts = self.chance, cookie.split(".")
        how = chance.randrange(5)
        if how == 0:
            at = chance.randrange(len(cookie) + 1)
            return cookie[:at] + chance.choice(string.printable[:94]) + cookie[at + 1 :]
        if how == 1:
            chance.shuffle(parts)
            return ".".join(parts)
        if how == 2 and self.cookies:
            return ".".join([*parts[:-1], *chance.choice(self.cookies).split(".")[-1:]])
        if how == 3:
            return self.signed()
        return cookie + chance.choice([".", "=", " ", "%", '"', "A" * 600])

    def signed(self):
        """With our signature, as somebody with the secret key could make it."""
        sid, token = (self.chance.choice([*self.sids, "x", "%", "-", "a" * 30]) for _ in range(2))
        extras = self.chance.choice(["s", "p", "p0", "sffffffffff", "p-1", "", "q", "pzz", "p" + "f" * 20])
        text = ".".join([sid, token, *self.chance.choice([[], ["x"], ["x", "y"]]), extras])
        return f"{text}.{_signature(self.app.session_interface.signer(self.app)._keys[0], text)}"

    def remembered(self):
        """For Flask-Login, which fails by itself over anything but ASCII."""
        return self.raw().encode("ascii", "ignore").decode()

    def raw(self):
        return "".join(chr(self.chance.choice([*range(32, 127), *range(160, 256)])) for _ in range(12))

    # -- how it sends it -------------------------------------------------------------------------------------------

    def arguments(self):
        names = ["key", "pop", "user", "sid", "token", "then", "after", "state", "order", "permanent", "next"]
        names += ["q", "id", "since", "until", "before", "actor", "all"]
        chosen = self.chance.sample(names, self.chance.randrange(5))
        return "&".join(f"{name}={self.quoted(self.page_key() if name == 'after' else self.text())}" for name in chosen)

    def quoted(self, text):
        if self.chance.random() < 0.1:
            return quote_from_bytes(self.chance.randbytes(4))
        return quote(text, safe="", errors="surrogatepass")

    def page_key(self):
        number = self.chance.choice([0, 1, -1, 10**12, 10**18, -(10**18), 10**30, self.text()])
        return f"{number}-{self.chance.choice([0, 5, -5, 10**6, 10**9, 'x'])}"

    def body(self):
        kind = self.chance.randrange(4)
        if kind == 0:
            return {
                "data": json.dumps({self.text(): self.value() for _ in range(3)}),
                "content_type": "application/json",
            }
        if kind == 1:
            return {"data": json.dumps({"user": self.value()}), "content_type": "application/json"}
        if kind == 2:
            fields = {
                "user": self.text(),
                "session_id": self.text(),
                "csrf_token": self.form(),
                self.text(): self.text(),
            }
            fields |= {name: "1" for name in ("confirmed", "keep") if self.chance.random() < 0.5}
            data = "&".join(f"{self.quoted(name)}={self.quoted(value)}" for name, value in fields.items())
            return {"data": data, "content_type": "application/x-www-form-urlencoded"}
        return {
            "data": self.chance.randbytes(20),
            "content_type": self.chance.choice(["application/json", "text/plain"]),
        }

    def form(self):
        return self.chance.choice([*self.forms[-5:], self.text()])

    def step(self, paths=None, cookie=..., *, staff=True):
        """One request; its status."""
        chance = self.chance
        path = chance.choice(paths or [*READING, *WRITING, *STAFF])
        headers = {"User-Agent": self.raw() * chance.choice([1, 60])}
        if staff and path in STAFF:
            headers["X-Staff"] = "yes"
        cookie = self.cookie() if cookie is ... else cookie
        if cookie is not None:
            headers["Cookie"] = cookie
        method = chance.choice(["GET", "POST", "POST", "HEAD"])
        options = self.body() if method == "POST" else {}
        address = chance.choice(["127.0.0.1", "2001:db8::1%eth0", "unknown", "", "999.1.1.1", "::ffff:1.2.3.4"])
        self.last = f"{method} {path}?{self.arguments()}"
        self.last, url = (self.last, cookie, options), self.last.partition(" ")[2]
        response = self.client.open(
            url, method=method, headers=headers, environ_overrides={"REMOTE_ADDR": address}, **options
        )
        self.learn(response)
        self.codes[response.status_code] += 1
        return response.status_code

    def learn(self, response):
        for header in response.headers.getlist("Set-Cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            if name == "session" and value:
                self.cookies = [*self.cookies[-30:], value]
                self.sids = [*self.sids[-30:], value.split(".")[0]]
                self.tokens = [*self.tokens[-30:], ".".join(value.split(".")[:2])]
        if response.mimetype == "text/html":
            self.forms += re.findall(r'name="csrf_token" value="([^"]+)"', response.text)
        response.close()
