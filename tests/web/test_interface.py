"""Between Flask and the session: cookies as configured, on setting and on deleting, and no command too many."""

from __future__ import annotations

import datetime as dt

import pytest
from flask import Flask, session, stream_with_context

from flask_mongo_session import session_rejected
from flask_mongo_session.session.state import CookieContent, token_hash
from flask_mongo_session.web.cookie import CookieSigner

MONTH = dt.timedelta(days=31)


def routes(app):
    """Views that use the session in each way there is."""

    def permanent():
        session.permanent = True
        session["n"] = 1
        return ""

    app.add_url_rule("/write", "w", lambda: session.update(n=1) or "")
    app.add_url_rule("/write/<int:n>", "wn", lambda n: session.update(n=n) or "")
    app.add_url_rule("/permanent", "p", permanent)
    app.add_url_rule("/count", "c", lambda: session.update(n=session.get("n", 0) + 1) or str(session["n"]))
    app.add_url_rule("/read", "r", lambda: str(session.get("n")))
    app.add_url_rule("/untouched", "u", lambda: "")
    app.add_url_rule("/clear", "d", lambda: session.clear() or "")
    return app


@pytest.fixture
def make(make_app):
    """An application with :func:`routes`, configured."""
    return lambda **config: routes(make_app(**config))


def cookie_of(response):
    """Name, value and attributes of the one cookie of the response; ``None`` without one."""
    headers = response.headers.getlist("Set-Cookie")
    assert len(headers) <= 1
    assert len(response.headers.getlist("Vary")) <= 1
    if not headers:
        return None

    (name, value), *attributes = (part.partition("=")[::2] for part in headers[0].split("; "))
    assert len(headers[0]) < 4096
    return name, value, dict(attributes)


def varies(response):
    return response.headers.get("Vary") == "Cookie"


CONFIGURATIONS = [
    {},
    {"SESSION_COOKIE_NAME": "sid"},
    {"SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_HTTPONLY": False},
    {"SESSION_COOKIE_SAMESITE": "Strict"},
    {"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_PARTITIONED": True, "SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_PATH": "/shop"},
    {"APPLICATION_ROOT": "/shop"},
    {"SESSION_COOKIE_DOMAIN": "example.org"},
    {
        "SESSION_COOKIE_NAME": "__Secure-s",
        "SESSION_COOKIE_DOMAIN": "example.org",
        "SESSION_COOKIE_PATH": "/",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_PARTITIONED": True,
    },
]


@pytest.mark.parametrize("path", ["/write", "/permanent"])
@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: "-".join(config).replace("SESSION_COOKIE_", ""))
def test_attributes_are_flasks(make, config, path):
    """In every configuration the cookie is set and deleted with what Flask's own would have, plus ``Max-Age``."""
    ours, flasks = make(**config), routes(Flask("plain"))
    flasks.config.update(config, SECRET_KEY="x")
    seen = []
    for app in (ours, flasks):
        browser = app.test_client()
        base = "https://example.org/" + app.config["APPLICATION_ROOT"].strip("/")
        name, value, attributes = cookie_of(browser.get(path, base_url=base))
        assert attributes.pop("Max-Age", str(int(MONTH.total_seconds()))) == str(int(MONTH.total_seconds()))
        assert bool(attributes.pop("Expires", None)) is (path == "/permanent")

        headers = [("Cookie", f"{name}={value}")]
        deleted = cookie_of(app.test_client(use_cookies=False).get("/clear", base_url=base, headers=headers))
        assert deleted[2].pop("Expires").endswith("1970 00:00:00 GMT")
        seen.append((name, attributes, deleted))

    assert seen[0] == seen[1]
    assert seen[0][2][2].pop("Max-Age") == "0"
    assert seen[0][2][2] == seen[0][1]


def test_max_age_beside_expires(make):
    """A permanent cookie says how long, too, since the browser's clock may be off; another says neither."""
    app = make(PERMANENT_SESSION_LIFETIME=500)

    _, _, attributes = cookie_of(app.test_client().get("/permanent"))
    assert attributes["Max-Age"] == "500"
    _, _, attributes = cookie_of(app.test_client().get("/write"))
    assert not {"Max-Age", "Expires"} & set(attributes)


def test_cookie_never_outlives_the_deadline(make):
    """A permanent cookie ends with the session's deadline."""
    app = make(SESSION_ABSOLUTE_LIFETIME=100, SESSION_PERMANENT=True)
    _, _, attributes = cookie_of(app.test_client().get("/write"))

    assert 98 <= int(attributes["Max-Age"]) <= 100


def test_session_permanent(make):
    """``SESSION_PERMANENT`` is what new sessions start as; an existing one stays what it is."""
    app = make(SESSION_PERMANENT=True)
    browser = app.test_client()

    assert "Max-Age" in cookie_of(browser.get("/write"))[2]
    other = make().test_client()
    other.set_cookie("session", browser.get_cookie("session").value)
    assert "Max-Age" in cookie_of(other.get("/count"))[2]


def test_empty_sessions_are_not_stored(make, sessions):
    """Reading, clearing and making permanent an empty session stores nothing; no cookie is set."""
    app = make()
    app.add_url_rule("/", "permanent only", lambda: setattr(session, "permanent", True) or "")
    for path in ("/read", "/untouched", "/"):
        assert cookie_of(app.test_client().get(path)) is None

    assert sessions.count_documents({}) == 0


@pytest.mark.parametrize(
    ("path", "wanted"), [("/read", True), ("/write", True), ("/clear", True), ("/untouched", False)]
)
def test_vary(make, path, wanted):
    """Who looked at the session depends on the cookie; who did not does not."""
    assert varies(make().test_client().get(path)) is wanted


def test_vary_is_added_to(make):
    """What the view varies on stays, in one header."""
    app = make()

    @app.after_request
    def language(response):
        response.vary.add("Accept-Language")
        return response

    response = app.test_client().get("/write")
    assert cookie_of(response)
    assert {part.strip() for part in response.headers["Vary"].split(",")} == {"Accept-Language", "Cookie"}


def test_secret_key_is_rotated(make):
    """A change brings a cookie under the new key; nobody is logged out while the old one is among the fallbacks."""
    app = make()
    browser = app.test_client()
    browser.get("/write/7")
    old, app.secret_key = app.secret_key, "new"
    app.config["SECRET_KEY_FALLBACKS"] = [old]

    assert browser.get("/read").text == "7"
    value = cookie_of(browser.get("/count"))[1]
    app.config["SECRET_KEY_FALLBACKS"] = None
    assert CookieSigner("new").read(value)
    assert browser.get("/read").text == "8"

    app.secret_key = "newer"
    response = browser.get("/read")
    assert (response.text, cookie_of(response)) == ("None", None)


def test_null_session(make, commands):
    """Without a secret key Flask's own null session explains; reading works."""
    app = make(SECRET_KEY=None)
    app.testing = False

    @app.get("/why")
    def why():
        with pytest.raises(RuntimeError, match="secret key"):
            session["n"] = 1
        return ""

    assert app.test_client().get("/read").text == "None"
    assert app.test_client().get("/why").status_code == 200
    assert commands.names == []


def test_reader_of_the_database_is_nobody(make, sessions, commands):
    """Whoever copies an id, or all of a document, into a cookie is nobody; even with the secret key."""
    app = make()
    owner = app.test_client()
    owner.get("/write/7")
    document, real = sessions.find_one(), owner.get_cookie("session").value
    sid, token, extras, signature = real.split(".")
    assert (document["_id"], document["token"]) == (sid, token_hash(token))
    assert token not in str(document)

    hashed = document["token"].hex()
    signed = CookieSigner(app.secret_key).sign(CookieContent(sid, hashed))
    for value in (sid, f"{sid}.{hashed}.{extras}.{signature}", f"{sid}.{token}.s.x", f"{sid}.{token}", token, signed):
        thief = app.test_client()
        thief.set_cookie("session", value)
        commands.clear()
        response = thief.get("/read")
        assert (response.text, cookie_of(response)) == ("None", None)
        assert commands.names == (["find"] if value == signed else [])
    assert owner.get("/read").text == "7"


def test_an_id_is_for_life_a_token_is_not(make, sessions):
    """A rotation changes the token inside of the record; the session id stays, in the cookie and in the database."""
    app = make()
    app.add_url_rule("/regenerate", "regenerate", lambda: session.regenerate() or "")
    app.add_url_rule("/login", "login", lambda: session.update(user_id=1) or "")
    browser = app.test_client()
    browser.get("/write/7")
    seen = [browser.get_cookie("session").value.split(".")[:2]]
    for path in ("/regenerate", "/login"):
        browser.get(path)
        seen.append(browser.get_cookie("session").value.split(".")[:2])

    assert len({sid for sid, _ in seen}) == 1
    assert len({token for _, token in seen}) == 3
    (document,) = sessions.find()
    assert (document["_id"], document["token"]) == (seen[-1][0], token_hash(seen[-1][1]))
    assert document["previous"]["token"] == token_hash(seen[-2][1])
    assert browser.get("/read").text == "7"


# -- when a cookie goes out, and when the expiry moves ----------------------------------------------------------------

#: Started as, SESSION_REFRESH_EACH_REQUEST, seconds passed, view: whether a cookie goes out, Vary, the commands.
REFRESHES = [
    ("/write", True, 0, "/untouched", False, False, []),
    ("/write", True, 61, "/untouched", False, False, []),
    ("/write", True, -7200, "/untouched", False, False, []),
    ("/write", True, 0, "/read", False, True, ["find"]),
    ("/write", True, 61, "/read", False, True, ["find", "update"]),
    ("/write", True, -7200, "/read", False, True, ["find", "update"]),
    ("/write", True, 0, "/count", False, True, ["find", "update"]),
    ("/write", True, 61, "/count", False, True, ["find", "update"]),
    ("/write", True, 61, "/write", False, True, ["update"]),
    ("/write", False, 0, "/count", False, True, ["find", "update"]),
    ("/write", False, 61, "/count", False, True, ["find", "update"]),
    ("/write", False, 61, "/read", False, True, ["find"]),
    ("/permanent", True, 0, "/untouched", False, True, []),
    ("/permanent", True, 61, "/untouched", False, True, []),
    ("/permanent", True, 0, "/read", True, True, ["find"]),
    ("/permanent", True, 61, "/read", True, True, ["find", "update"]),
    ("/permanent", True, 0, "/permanent", True, True, ["update"]),
    ("/permanent", False, 0, "/untouched", False, False, []),
    ("/permanent", False, 61, "/read", False, True, ["find"]),
    ("/permanent", False, 61, "/count", True, True, ["find", "update"]),
]


@pytest.mark.parametrize(("start", "refresh", "passed", "path", "cookie", "vary", "sent"), REFRESHES)
def test_refresh(make, move_clock, commands, *, start, refresh, passed, path, cookie, vary, sent):
    """A cookie goes out, and the expiry moves, exactly when the rules say so; never on a page without session."""
    app = make(SESSION_REFRESH_EACH_REQUEST=refresh)
    browser = app.test_client()
    browser.get(start)
    move_clock(passed)
    commands.clear()
    response = browser.get(path)

    assert bool(cookie_of(response)) is cookie
    assert varies(response) is vary
    assert commands.names == sent


def test_a_permanent_cookie_is_refreshed_by_what_was_read_just_now(make, move_clock, commands):
    """A load says for a tenth of a second that its token is current; later the refresh waits for a touch."""
    app = make()
    seconds = {}

    @app.get("/slow")
    def slow():
        session.get("n")
        move_clock(seconds["passed"])
        return ""

    browser = app.test_client()
    browser.get("/permanent")
    for passed, refreshed in [(0.05, True), (0.2, False), (60, False)]:
        seconds["passed"] = passed
        assert bool(cookie_of(browser.get("/slow"))) is refreshed, passed

    commands.clear()
    assert cookie_of(browser.get("/read"))
    assert commands.names == ["find", "update"]


def test_cookie_stays_the_same_as_long_as_the_token_lives(make, move_clock):
    """Nothing in its text moves with time, so that parallel answers do not fight over it."""
    browser = make(SESSION_ABSOLUTE_LIFETIME=10_000).test_client()
    values = set()
    for seconds in (0, 20, 61, 3600):
        move_clock(seconds)
        browser.get("/count")
        values.add(browser.get_cookie("session").value)

    assert len(values) == 1


@pytest.mark.parametrize(
    ("config", "interval"),
    [
        ({}, 60),
        ({"SESSION_TOUCH_INTERVAL": 5}, 5),
        ({"SESSION_IDLE_TIMEOUT": 100}, 10),
        ({"PERMANENT_SESSION_LIFETIME": 200}, 20),
    ],
)
def test_touches_are_throttled(make, move_clock, commands, sessions, *, config, interval):
    """The expiry is moved once in the interval, a tenth of the idle time at most; then it is now plus the idle time."""
    app = make(**config)
    browser = app.test_client()
    browser.get("/write")
    idle = app.session_interface.config.idle_timeout or app.permanent_session_lifetime
    commands.clear()
    for _ in range(6):
        move_clock(interval / 3 + 0.01)
        browser.get("/read")

    assert commands.names.count("update") == 2
    document = sessions.find_one()
    assert document["expires_at"] - document["touched_at"] == idle


@pytest.mark.parametrize(("permanent", "concern"), [(False, 1), (True, "majority")])
def test_a_touch_is_confirmed_where_a_cookie_depends_on_it(make, move_clock, commands, *, permanent, concern):
    """Best effort otherwise: nobody waits for a majority to read a page."""
    browser = make(SESSION_PERMANENT=permanent).test_client()
    browser.get("/write")
    move_clock(61)
    commands.clear()
    browser.get("/read")

    assert commands.names == ["find", "update"]
    assert commands.sent[1]["writeConcern"] == {"w": concern}


def test_a_change_moves_the_expiry_when_a_touch_is_due(make, move_clock, sessions):
    """Not each time; a write that did not read always does, since it cannot know."""
    browser = make().test_client()
    browser.get("/write")
    began = sessions.find_one()["touched_at"]
    move_clock(30)
    browser.get("/count")
    assert sessions.find_one()["touched_at"] == began
    move_clock(31)
    browser.get("/count")
    assert sessions.find_one()["touched_at"] > began
    moved = sessions.find_one()["touched_at"]
    move_clock(1)
    browser.get("/write/9")
    assert sessions.find_one()["touched_at"] > moved


def test_idle_timeout(make, move_clock):
    """Used in time a session goes on; not used for the idle time it is over."""
    browser = make(SESSION_IDLE_TIMEOUT=100).test_client()
    browser.get("/write/7")
    for _ in range(4):
        move_clock(80)
        assert browser.get("/read").text == "7"
    move_clock(80)
    browser.get("/untouched")
    move_clock(21)
    assert browser.get("/read").text == "None", "a page without session is no use of it"
    browser.get("/write/7")
    move_clock(101)
    assert browser.get("/read").text == "None"


@pytest.mark.parametrize(("path", "again"), [("/read", True), ("/write/8", True), ("/untouched", False)])
def test_anonymous_lifetime(make, move_clock, path, again):
    """A session of nobody that is not used again is over soon; one that is lives as long as any other."""
    app = make(SESSION_IDLE_TIMEOUT=1_000, SESSION_ANONYMOUS_LIFETIME=100)
    browser, customer = app.test_client(), app.test_client()
    browser.get("/write/7")
    with customer.session_transaction() as opened:
        opened["user_id"] = "7"

    move_clock(20)
    browser.get(path)
    move_clock(90)
    assert (browser.get("/read").text != "None") is again
    with customer.session_transaction() as opened:
        assert opened["user_id"] == "7"


def test_logging_in_ends_the_anonymous_lifetime(make, move_clock):
    """From then on it is somebody's."""
    browser = make(SESSION_IDLE_TIMEOUT=1_000, SESSION_ANONYMOUS_LIFETIME=100).test_client()
    browser.get("/write/7")
    with browser.session_transaction() as opened:
        opened["user_id"] = "7"

    move_clock(900)
    assert browser.get("/read").text == "7"


def test_absolute_lifetime(make, move_clock):
    """However much it is used, a session ends with its absolute lifetime, also by writes that never read."""
    browser = make(SESSION_IDLE_TIMEOUT=100, SESSION_ABSOLUTE_LIFETIME=150).test_client()
    browser.get("/write/7")
    move_clock(80)
    browser.get("/write/8")
    move_clock(65)
    assert browser.get("/read").text == "8"
    move_clock(6)
    assert browser.get("/read").text == "None"


@pytest.mark.parametrize("start", ["/write", "/permanent"])
@pytest.mark.parametrize(("path", "text"), [("/read", "None"), ("/count", "1"), ("/untouched", "")])
@pytest.mark.parametrize("why", ["deleted", "expired"])
def test_vanished(make, move_clock, sessions, *, start, path, text, why):
    """A session that is found gone: an empty one; its cookie is neither deleted nor renewed, it does not come back."""
    browser = make(SESSION_IDLE_TIMEOUT=100).test_client()
    browser.get(start)
    first = browser.get_cookie("session").value
    if why == "deleted":
        sessions.delete_many({})
    move_clock(101)
    response = browser.get(path)

    assert response.text == text
    if path == "/count":
        assert cookie_of(response)[1].partition(".")[0] != first.partition(".")[0], "another session"
    else:
        assert cookie_of(response) is None


def test_vanished_while_in_use(make, sessions):
    """Loaded, ended elsewhere, changed: dropped, and no cookie. Written without reading: a new one with just that."""
    app = make()

    def slow(*, read):
        before = session.get("n") if read else None
        sessions.delete_many({})
        session["other"] = before
        return ""

    app.add_url_rule("/slow", "slow", lambda: slow(read=True))
    app.add_url_rule("/blind", "blind", lambda: slow(read=False))
    browser = app.test_client()
    browser.get("/permanent")
    assert cookie_of(browser.get("/slow")) is None
    assert sessions.count_documents({}) == 0

    browser.get("/write")
    before = browser.get_cookie("session").value
    assert cookie_of(browser.get("/blind"))[1].partition(".")[0] != before.partition(".")[0]
    assert sessions.find_one()["data"] == {"other": None}


@pytest.mark.parametrize(
    "damage", [{"data": 5}, {"expires_at": "x"}, {"data": {"n": {"~t": "pickle"}}}, {"deadline": 1}]
)
def test_damaged(make, sessions, damage):
    """A damaged document is an empty session; the next write starts a new one."""
    browser = make().test_client()
    browser.get("/write/7")
    sessions.update_one({}, {"$set": damage})

    assert browser.get("/read").text == "None"
    assert [browser.get("/count").text for _ in range(2)] == ["1", "2"]


def test_deleting_keys_until_none_is_left(make, sessions):
    """A session that was emptied key by key ends, with its cookie."""
    app = make()
    app.add_url_rule("/pop", "pop", lambda: str(session.pop("n")))
    browser = app.test_client()
    browser.get("/write")
    response = browser.get("/pop")

    assert cookie_of(response)[2]["Max-Age"] == "0"
    assert sessions.count_documents({"ended_at": None}) == 0
    assert browser.get_cookie("session") is None


def test_session_transaction(make, sessions):
    """Flask's test helper sets, reads and clears, outside of every context; an error inside saves nothing."""
    app = make()
    browser = app.test_client()
    with browser.session_transaction() as opened:
        opened["n"] = 7
    assert browser.get("/read").text == "7"

    browser.get("/count")
    with browser.session_transaction() as opened:
        assert opened["n"] == 8
        opened.permanent = True
    assert "n" in sessions.find_one()["data"]
    assert browser.get_cookie("session").max_age

    def fails():
        with browser.session_transaction() as opened:
            opened["n"] = 9
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    assert browser.get("/read").text == "8"

    with browser.session_transaction() as opened:
        opened.clear()
    assert browser.get_cookie("session") is None
    assert sessions.count_documents({"ended_at": None}) == 0


def test_streamed_response(make, commands):
    """A stream reads the session, also for the first time; what the view wrote is saved before it begins."""
    app = make()

    def stream():
        yield "a"
        yield str(session.get("n"))

    app.add_url_rule("/stream", "stream", lambda: app.response_class(stream_with_context(stream())))
    browser = app.test_client()
    browser.get("/write/7")
    commands.clear()

    assert browser.get("/stream").text == "a7"
    assert commands.names == ["find"]


def test_policies_can_be_overridden(make):
    """Flask's policy methods decide, wherever they decide in Flask."""
    app = make()

    class Own(type(app.session_interface)):
        def get_cookie_name(self, app):
            return "own"

        def get_cookie_path(self, app):
            return "/own"

        def should_set_cookie(self, app, session):
            return session.get("n") != 13

    app.session_interface.__class__ = Own
    browser = app.test_client()
    name, value, attributes = cookie_of(browser.get("/write/1"))
    assert (name, attributes["Path"]) == ("own", "/own")
    assert cookie_of(browser.get("/write/13")) is None
    response = app.test_client(use_cookies=False).get("/clear", headers=[("Cookie", f"own={value}")])
    assert cookie_of(response)[::2] == (
        "own",
        {**attributes, "Max-Age": "0", "Expires": "Thu, 01 Jan 1970 00:00:00 GMT"},
    )


def test_error_in_a_view_keeps_what_was_written(make):
    """As with Flask's own sessions: a 500 still saves the session."""
    app = make(PROPAGATE_EXCEPTIONS=False)
    app.add_url_rule("/fail", "fail", lambda: session.update(n=5) or 1 / 0)
    browser = app.test_client()

    assert browser.get("/fail").status_code == 500
    assert browser.get("/read").text == "5"


def claiming(**claims):
    """A cookie of somebody else's that claims to be ours."""
    return CookieSigner("another key").sign(CookieContent("s" * 22, "x" * 43, **claims))


def send(app, path, cookie):
    browser = app.test_client()
    browser.set_cookie("session", cookie)
    return browser.get(path)


def test_an_untouched_page_checks_no_signature(make, monkeypatch):
    """It would decide nothing there, and costs more than all else; the next page that uses the session checks it."""
    app = make()
    browser = app.test_client()
    browser.get("/write")
    checked = []
    read = CookieSigner.read
    monkeypatch.setattr(CookieSigner, "read", lambda self, value: checked.append(value) or read(self, value))

    assert browser.get("/untouched").status_code == 200
    assert checked == []
    assert browser.get("/read").text == "1"
    assert len(checked) == 1


@pytest.mark.parametrize("deadline", [None, 0, 10**12])
@pytest.mark.parametrize("permanent", [False, True])
def test_a_claim_without_our_signature_gets_nothing(make, commands, deadline, permanent):
    """Whatever it says: no command, no cookie, no session."""
    app = make()
    cookie = claiming(deadline=deadline, permanent=permanent)
    commands.clear()

    for path in ("/untouched", "/read", "/clear"):
        response = send(app, path, cookie)
        assert cookie_of(response) is None
    assert commands.names == []


def test_whoever_counts_forged_cookies_hears_of_all(make):
    """A receiver of ``session_rejected`` is told on pages, too, that do not use the session."""
    app, heard = make(), []

    def receiver(_app, reason, **_arguments):
        heard.append(reason)

    send(app, "/untouched", claiming())
    with session_rejected.connected_to(receiver):
        send(app, "/untouched", claiming())

    assert heard == ["forged"]


def test_an_unchanged_cookie_is_sent_again_with_new_attributes(make):
    """The text alone would say that nothing changed; the next write brings what the configuration says now."""
    app = make()
    browser = app.test_client()
    browser.get("/write")
    assert cookie_of(browser.get("/count")) is None
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"

    assert cookie_of(browser.get("/read")) is None
    assert cookie_of(browser.get("/count"))[2]["SameSite"] == "Lax"
    assert cookie_of(browser.get("/count")) is None


@pytest.mark.parametrize("lifetime", [MONTH * 12 * 9_000, dt.timedelta.max])
def test_the_longest_lifetime(make, sessions, lifetime):
    """A lifetime, or a deadline, up to the end of Python's calendar is stored as that, not an error."""
    app = make(PERMANENT_SESSION_LIFETIME=lifetime)
    app.add_url_rule("/last", "last", lambda: setattr(session, "deadline", LAST_DAY) or "")
    browser = app.test_client()

    assert cookie_of(browser.get("/permanent"))
    assert browser.get("/last").status_code == 200
    assert browser.get("/count").text == "2"
    assert sessions.find_one()["deadline"].year == 9999


LAST_DAY = dt.datetime(9999, 12, 31, 23, 59, tzinfo=dt.timezone.utc)
