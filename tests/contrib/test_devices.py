"""The device page: where am I logged in, and out with what I do not know."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys

import pytest
from flask import session
from flask_login import LoginManager
from flask_wtf import CSRFProtect

from flask_mongo_session.contrib.devices import devices_blueprint
from flask_mongo_session.contrib.devices.names import device_name, time_ago

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)
MADE_UP = "A" * 43


@pytest.fixture(params=["own", "flask-wtf"])
def site(request, make_app):
    """An application with the device page, once with our own protection against forgery, once with Flask-WTF's."""
    app = make_app(SESSION_TRACK_DEVICE=True)
    if request.param == "flask-wtf":
        CSRFProtect(app)
    app.register_blueprint(devices_blueprint(app.extensions["sessions"]), url_prefix="/devices")

    @app.get("/login/<user>")
    def login(user):
        session["user_id"] = user
        return user

    @app.get("/who")
    def who():
        return str(session.get("user_id"))

    @app.get("/ids")
    def ids():
        return {"sid": session.sid, "token": session.token}

    return app


class Browser:
    """One browser of one user."""

    def __init__(self, app, user="ada", agent=FIREFOX, ip="198.51.100.7"):
        self.client = app.test_client()
        self.with_device = {"headers": {"User-Agent": agent}, "environ_base": {"REMOTE_ADDR": ip}}
        if user:
            self.get(f"/login/{user}")
            self.sid, self.token = self.get("/ids").json["sid"], self.get("/ids").json["token"]

    def get(self, path):
        return self.client.get(path, **self.with_device)

    def page(self):
        return self.get("/devices/").text

    def post(self, path, *, token=None, **fields):
        """Post a form of the page; with a forged *token* when given."""
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.page())
        fields["csrf_token"] = (found[1] if found else "") if token is None else token
        return self.client.post(path, data=fields, **self.with_device)

    @property
    def who(self):
        return self.get("/who").text


def test_the_page_lists_the_users_devices(site):
    """Name, network and time of each, this one marked and without a button; nobody else's."""
    here, phone = Browser(site), Browser(site, agent=IPHONE, ip="203.0.113.9")
    bob = Browser(site, "bob")

    page = here.page()
    assert re.findall(r"<h2[^>]*>([^<]+)</h2>", page) == ["Firefox on Linux", "Safari on iPhone"]
    assert page.count("This device") == 1
    assert "203.0.113.0/24" in page
    assert "203.0.113.9" not in page
    assert "just now" in page
    assert f'value="{phone.sid}"' in page
    assert here.sid not in page
    assert bob.sid not in page


def test_no_token_is_in_the_page(site):
    """The secrets of the cookies, this one's and the others', stay in the cookies."""
    here, other = Browser(site), Browser(site)
    page = here.page()

    for browser in (here, other):
        assert browser.token not in page
        assert browser.token.partition(".")[2] not in page


@pytest.mark.parametrize("user", ["ada", None])
def test_nobody_keeps_or_frames_the_page(site, user):
    """Nor the refusal of who is not logged in; the style sheet is nobody's secret."""
    browser = Browser(site, user)

    headers = browser.get("/devices/").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "X-Frame-Options" not in browser.get("/who").headers
    with browser.get("/devices/static/devices.css") as style:
        assert "X-Frame-Options" not in style.headers


def test_the_applications_own_headers_win(site):
    """Also a policy that the application sets only where a response has none."""

    @site.after_request
    def own(response):
        response.headers.setdefault("Content-Security-Policy", "default-src 'self'")
        response.headers["X-Frame-Options"] = "SAMEORIGIN"
        return response

    headers = Browser(site).get("/devices/").headers
    assert headers.getlist("Content-Security-Policy") == ["default-src 'self'"]
    assert headers.getlist("X-Frame-Options") == ["SAMEORIGIN"]
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("others", [500, pytest.param(100_000, marks=pytest.mark.soak)])
def test_the_page_is_one_indexed_query(site, commands, database, others):
    """Beside the session itself, one find through the index on the user."""
    store = site.extensions["mongo_session"].store
    store.ensure_indexes()
    here = Browser(site)
    here.page()
    now = store.now()
    base = {"data": {}, "created_at": now, "touched_at": now, "expires_at": now + dt.timedelta(hours=1)}
    for start in range(0, others, 10_000):
        part = range(start, min(start + 10_000, others))
        store.collection.insert_many([{**base, "_id": f"other-{i}", "user_id": f"user-{i % 50}"} for i in part])
    commands.clear()
    database.command("profile", 2)
    here.page()
    database.command("profile", 0)

    assert [name for name in commands.names if name != "profile"] == ["find", "find"]
    finds = list(database["system.profile"].find({"command.find": "sessions"}))
    assert [found["docsExamined"] for found in finds] == [1, 1]


def test_ending_one_logs_that_device_out(site):
    """Only that one, at its next request; the page says so."""
    here, phone, tablet = Browser(site), Browser(site, agent=IPHONE), Browser(site)

    response = here.post("/devices/end", session_id=phone.sid)
    assert (response.status_code, response.headers["Location"]) == (303, "/devices/")
    assert "has been ended" in here.page()
    assert [here.who, phone.who, tablet.who] == ["ada", "None", "ada"]


def test_ending_all_others_keeps_this_one(site):
    """Every other device of the user, nobody else's."""
    here, phone, bob = Browser(site), Browser(site), Browser(site, "bob")

    here.post("/devices/end-others")
    assert [here.who, phone.who, bob.who] == ["ada", "None", "bob"]
    assert "Log out all other devices" not in here.page()


def test_foreign_made_up_and_expired_ids_are_all_the_same(site, move_clock, sessions):
    """Refused with one answer that tells nothing; nothing is changed."""
    old, bob, here, _ = Browser(site), Browser(site, "bob"), Browser(site), Browser(site)
    sessions.update_one({"_id": old.sid}, {"$set": {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)}})
    before = {found["_id"]: found for found in sessions.find({"_id": {"$ne": here.sid}})}

    answers = [here.post("/devices/end", session_id=sid) for sid in (bob.sid, old.sid, MADE_UP, "", here.sid)]
    assert {answer.status_code for answer in answers} == {404}
    assert len({re.sub(r"\bvalue=\"[^\"]+\"", "", answer.text) for answer in answers}) == 1
    assert {found["_id"]: found for found in sessions.find({"_id": {"$ne": here.sid}})} == before
    assert [bob.who, here.who] == ["bob", "ada"]


@pytest.mark.parametrize("path", ["/devices/end", "/devices/end-others", "/devices/not-me"])
@pytest.mark.parametrize("token", ["", "forged", "é"])
def test_without_the_forms_token_nothing_happens(site, path, token):
    """A form that another site posts is refused."""
    here, phone = Browser(site), Browser(site)

    assert here.post(path, session_id=phone.sid, token=token).status_code == 400
    assert phone.who == "ada"


def test_another_sessions_form_token_is_no_good(site):
    """The form's token belongs to one session."""
    here, mallory = Browser(site), Browser(site, "mallory")
    phone = Browser(site)
    token = re.search(r'name="csrf_token" value="([^"]+)"', mallory.page())

    stolen = token[1] if token else "none"
    assert here.post("/devices/end", session_id=phone.sid, token=stolen).status_code == 400
    assert phone.who == "ada"


def test_get_changes_nothing(site):
    """The addresses that end sessions take a POST only."""
    here, phone = Browser(site), Browser(site)

    assert here.get("/devices/end").status_code == 405
    assert here.get("/devices/end-others").status_code == 405
    assert here.get("/devices/not-me").status_code == 405
    assert phone.who == "ada"


def test_strangers_see_nothing(site):
    """A 401 for whoever is not logged in, also to the forms' addresses; the style sheet is nobody's secret."""
    stranger = Browser(site, user=None)

    assert stranger.get("/devices/").status_code == 401
    assert stranger.client.post("/devices/end-others").status_code in (400, 401)
    with stranger.get("/devices/static/devices.css") as style:
        assert style.status_code == 200


def test_flask_login_sends_strangers_to_the_log_in(site):
    """Where Flask-Login is set up its own answer is used."""
    manager = LoginManager(site)
    manager.login_view = "login_page"
    manager.user_loader(lambda _: None)
    site.add_url_rule("/login", "login_page", lambda: "log in")

    response = Browser(site, user=None).get("/devices/")
    assert response.headers["Location"].startswith("/login?next=")


def test_the_templates_can_be_replaced(make_app, tmp_path):
    """The application's own template of the same name wins; texts can be given."""
    folder = tmp_path / "mongo_session" / "devices"
    folder.mkdir(parents=True)
    (folder / "base.html").write_text("<header>Ours</header>{% block content %}{% endblock %}")
    app = make_app()
    app.jinja_loader.searchpath.insert(0, str(tmp_path))
    blueprint = devices_blueprint(app.extensions["sessions"], name="mine", messages={"gone": "Vanished!"})
    app.register_blueprint(blueprint, url_prefix="/devices")
    app.add_url_rule("/login/<user>", "login", view_func=lambda user: session.update(user_id=user) or user)
    app.add_url_rule("/ids", "ids", view_func=lambda: {"sid": session.sid, "token": session.token})
    here = Browser(app)

    assert "<header>Ours</header>" in here.page()
    Browser(app)
    assert "Vanished!" in here.post("/devices/end", session_id=MADE_UP).text


def test_what_a_browser_sends_is_escaped(site):
    """A user agent is a stranger's text."""
    here, _ = Browser(site), Browser(site, agent="<script>alert(1)</script>/1.0")

    assert "<script" not in here.page()


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (IPHONE, "Safari on iPhone"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17 Safari/605",
            "Safari on macOS",
        ),
        ("curl/8.1", "curl"),
        ("", "Unknown device"),
        (None, "Unknown device"),
        ("x" * 512, "Unknown device"),
    ],
)
def test_devices_have_names(agent, name):
    """Browser and system as people call them."""
    assert device_name(agent) == name


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "just now"),
        (-5, "just now"),
        (60, "1 minute ago"),
        (150, "2 minutes ago"),
        (7300, "2 hours ago"),
        (86400, "1 day ago"),
        (864000, "10 days ago"),
        (None, "some time ago"),
    ],
)
def test_times_are_said_as_people_say_them(seconds, said):
    """In the largest whole unit."""
    now = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)

    assert time_ago(None if seconds is None else now - dt.timedelta(seconds=seconds), now) == said


@pytest.mark.parametrize(
    ("missing", "program", "told"),
    [
        ("ua_parser", "import flask_mongo_session.contrib.devices", "flask-mongoengine-session[devices]"),
        ("flask_admin", "import flask_mongo_session.contrib.admin", "flask-mongoengine-session[admin]"),
        ("ua_parser", "from flask_mongo_session.contrib import admin; print(admin.device_name('curl/8'))", "curl/8"),
    ],
)
def test_without_the_extra_one_is_told_what_to_install(missing, program, told):
    """A part whose package is missing names it; the administration does without names of devices."""
    program = f"import sys; sys.modules[{missing!r}] = None; {program}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert told in done.stdout + done.stderr
