"""New devices: what counts as one, the mark on the page, "that was not me", and the hook at a log-in."""

from __future__ import annotations

import datetime as dt
import logging
import re

import pytest
from flask import session

from flask_mongo_session import ConfigurationError, SessionInfo, TooManySessions
from flask_mongo_session.contrib.devices import devices_blueprint
from flask_mongo_session.contrib.devices.device import is_new
from flask_mongo_session.contrib.devices.places import network_of, place_of

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
NEWER_FIREFOX = FIREFOX.replace("131", "140")
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)
HOME, SAME_STREET, ABROAD = "198.51.100.7", "198.51.100.99", "203.0.113.9"
NOON = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)


@pytest.fixture
def make_site(make_app):
    """Makes applications with the device page and its hooks."""

    def make(*, config=None, **options):
        app = make_app(**{"SESSION_TRACK_DEVICE": True, **(config or {})})
        app.register_blueprint(devices_blueprint(app.extensions["sessions"], **options), url_prefix="/devices")

        @app.get("/login/<user>")
        def login(user):
            session["user_id"] = user
            return user

        @app.get("/visit")
        def visit():
            session["seen"] = True
            return "welcome"

        @app.get("/again")
        def again():
            session.confirm()
            return "still you"

        @app.get("/who")
        def who():
            return str(session.get("user_id"))

        return app

    return make


class Browser:
    """One browser at one address."""

    def __init__(self, app, user=None, agent=FIREFOX, ip=HOME):
        self.client = app.test_client()
        self.device = {"headers": {"User-Agent": agent}, "environ_base": {"REMOTE_ADDR": ip}}
        if user:
            self.get(f"/login/{user}")

    def get(self, path):
        return self.client.get(path, **self.device)

    @property
    def who(self):
        return self.get("/who").text

    def page(self):
        return self.get("/devices/").text

    def not_me(self, sid=None):
        """Press "That was not me" on the page's first other device, or send the form with *sid*."""
        page = self.page()
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        found = re.search(r'name="session_id" value="([^"]+)"', page)
        fields = {"csrf_token": token[1] if token else "", "session_id": sid or found[1]}
        return self.client.post("/devices/not-me", data=fields, **self.device)


def marks(page):
    """Each device of a page with its mark."""
    found = re.findall(r"<h2[^>]*>([^<]+)</h2>\s*<p>(?:<strong[^>]*>([^<]+)</strong>)?", page)
    return [(name, mark or None) for name, mark in found]


# --- What counts as new


def info(sid, hours, agent=FIREFOX, ip=HOME, **fields):
    at = NOON + dt.timedelta(hours=hours)
    return SessionInfo(sid, expires_at=NOON, user_agent=agent, ip=ip, **{"created_at": at, **fields})


@pytest.mark.parametrize(
    ("earlier", "new"),
    [
        ([], True),
        ([info("other", -1)], False),
        ([info("other", -1, agent=NEWER_FIREFOX, ip=SAME_STREET)], False),
        ([info("other", -1, ip=ABROAD)], True),
        ([info("other", -1, agent=IPHONE)], True),
        ([info("other", +1)], True),
        ([info("a", 0)], False),
        ([info("z", 0)], True),
        ([info("other", -1, ip=ABROAD), info("third", -2, agent=IPHONE)], True),
        ([info("other", -1, authenticated_at=NOON + dt.timedelta(hours=2))], True),
    ],
    ids=["alone", "same", "updated", "abroad", "other browser", "later", "tie", "tie lost", "halves", "log-in counts"],
)
def test_a_device_is_new_that_no_earlier_session_knows(earlier, new):
    """Known is: an earlier session of the same browser and system in the same network."""
    asked = info("me", 0)

    assert is_new(asked, [asked, *earlier]) is new


def test_without_tracking_nothing_is_new():
    """Nothing is known that could differ."""
    asked = info("me", 0, agent=None, ip=None)

    assert is_new(asked, [asked]) is False


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:db8:1::/48", "2001:db8:1::/48"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("fe80::1%eth0", "fe80::/48"),
        ("not an address", None),
        ("", None),
        (None, None),
    ],
)
def test_a_place_is_a_network(address, network):
    """Twenty-four bits of an IPv4 address, forty-eight of an IPv6 address; a kept network stays one."""
    assert network_of(address) == network


def test_a_hook_that_fails_is_no_place(caplog):
    """It is logged, and asked only about an address."""
    asked = []
    assert place_of(HOME, lambda ip: asked.append(ip) or "Lisbon") == "Lisbon"
    assert place_of(None, asked.append) is None
    assert place_of(HOME, lambda _: 1 / 0) is None
    assert asked == [HOME]
    assert "ZeroDivisionError" in caplog.text


# --- The page


def test_new_devices_are_marked(make_site, move_clock):
    """One that came later from elsewhere, for a week; never the one that looks, nor one that is known."""
    site = make_site(place=lambda ip: "<Porto>" if ip == ABROAD else None)
    here, phone = Browser(site, "ada"), Browser(site, "ada", agent=IPHONE)
    Browser(site, "ada", agent=NEWER_FIREFOX, ip=SAME_STREET)
    Browser(site, "ada", ip=ABROAD)

    page = here.page()
    assert sorted(marks(page), key=str) == [
        ("Firefox on Linux", "New"),
        ("Firefox on Linux", "This device"),
        ("Firefox on Linux", None),
        ("Safari on iPhone", "New"),
    ]
    assert "&lt;Porto&gt; (203.0.113.0/24)" in page
    assert [mark for _, mark in marks(phone.page())].count("New") == 2  # here too: nothing came before it

    move_clock(7 * 86400 + 60)
    assert "New" not in {mark for _, mark in marks(here.page())}


def test_that_was_not_me(make_site):
    """Ends that one and all others but this one, nobody else's; the application is told, with the device."""
    told = []
    site = make_site(on_not_me=lambda user_id, device: told.append((user_id, device)))
    here, phone, stranger = Browser(site, "ada"), Browser(site, "ada", IPHONE), Browser(site, "ada", ip=ABROAD)
    bob = Browser(site, "bob")

    response = here.not_me()
    assert (response.status_code, response.headers["Location"]) == (303, "/devices/")
    assert [here.who, phone.who, stranger.who, bob.who] == ["ada", "None", "None", "bob"]
    assert "change your password" in here.page()
    ((user_id, device),) = told
    assert (user_id, device.name, device.network) == ("ada", "Firefox on Linux", "203.0.113.0/24")


def test_the_application_may_answer(make_site):
    """What its hook returns is the answer: the page for another password, for example."""
    site = make_site(on_not_me=lambda *_: ("a new password, please", 200))
    here, _ = Browser(site, "ada"), Browser(site, "ada", IPHONE)

    assert here.not_me().text == "a new password, please"


@pytest.mark.parametrize("sid", ["A" * 22, "$ne", "bob's"])
def test_that_was_not_me_about_a_session_that_is_gone(make_site, sid):
    """Whoever was there may have left: all others end all the same; a foreign id tells and harms nothing."""
    told = []
    site = make_site(on_not_me=lambda _, device: told.append(device))
    here, phone, bob = Browser(site, "ada"), Browser(site, "ada", IPHONE), Browser(site, "bob")
    if sid == "bob's":
        sid = site.extensions["sessions"].of_user("bob")[0].sid

    assert here.not_me(sid).status_code == 303
    assert [here.who, phone.who, bob.who] == ["ada", "None", "bob"]
    assert told == [None]


def test_this_one_was_me(make_site):
    """Whoever claims not to be here is told that there is no such session."""
    site = make_site(on_not_me=lambda *_: pytest.fail("told"))
    here, phone = Browser(site, "ada"), Browser(site, "ada", IPHONE)
    sid = next(one.sid for one in site.extensions["sessions"].of_user("ada") if one.user_agent == FIREFOX)

    assert here.not_me(sid).status_code == 404
    assert phone.who == "ada"


# --- The hook at a log-in


@pytest.fixture
def told():
    """What the hook was told."""
    return []


def test_a_log_in_from_a_new_device_is_told_once(make_site, told, sessions):
    """After it is stored; not again at the next pages, nor for a device that is known."""

    def hook(login):
        assert sessions.find_one({"_id": login.device.sid})["user_id"] == "ada"
        told.append((login.user_id, login.device.name, login.device.network, login.others))

    site = make_site(on_new_login=hook)
    first = Browser(site, "ada")
    first.get("/visit")
    Browser(site, "ada", ip=SAME_STREET)
    phone = Browser(site, agent=IPHONE, ip=ABROAD)
    phone.get("/visit")  # a session of nobody, which goes on with the user
    phone.get("/login/ada")
    phone.get("/again")
    phone.get("/login/ada")

    assert told == [
        ("ada", "Firefox on Linux", "198.51.100.0/24", 0),
        ("ada", "Safari on iPhone", "203.0.113.0/24", 2),
    ]


def test_a_switch_of_user_is_a_log_in(make_site, told):
    """The next user at the same browser is told of by their own sessions."""
    site = make_site(on_new_login=lambda login: told.append((login.user_id, login.others)))
    browser = Browser(site, "ada")
    browser.get("/login/bob")

    assert told == [("ada", 0), ("bob", 0)]


def test_a_failing_hook_fails_no_log_in(make_site, caplog):
    """It is logged; the answer is the view's, and the user is logged in."""

    def broken(login):
        raise ConnectionRefusedError("no mail today")

    site = make_site(on_new_login=broken)
    browser = Browser(site)
    answer = browser.get("/login/ada")

    assert (answer.status_code, answer.text) == (200, "ada")
    assert browser.who == "ada"
    assert "no mail today" in caplog.text
    assert HOME not in "".join(one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING)


def test_a_log_in_that_was_refused_is_not_told(make_site, told):
    """Where a user may have one session and the second is refused, nobody logged in."""
    site = make_site(on_new_login=told.append, config={"SESSION_MAX_PER_USER": (1, "refuse")})
    site.register_error_handler(TooManySessions, lambda _: ("too many", 403))
    Browser(site, "ada")
    second = Browser(site, agent=IPHONE)

    assert second.get("/login/ada").status_code == 403
    assert [login.others for login in told] == [0]


def test_a_lost_database_after_the_log_in_fails_nothing(make_site, told, monkeypatch, caplog):
    """The comparison fails; the answer was made already."""
    from flask_mongo_session import MongoSession, SessionStoreUnavailable

    site = make_site(on_new_login=told.append)

    def away(*_args, **_options):
        raise SessionStoreUnavailable

    monkeypatch.setattr(MongoSession, "of_user", away)
    assert Browser(site).get("/login/ada").text == "ada"
    assert told == []
    assert "could not be told" in caplog.text


def test_the_hook_needs_tracking(make_site):
    """Registering the page says which key to set."""
    with pytest.raises(ConfigurationError, match="SESSION_TRACK_DEVICE"):
        make_site(on_new_login=print, config={"SESSION_TRACK_DEVICE": False})


def test_truncated_addresses_are_enough(make_site, told):
    """The network alone tells a new device as well."""
    site = make_site(
        on_new_login=lambda login: told.append(login.device.network), config={"SESSION_TRACK_DEVICE": "truncated"}
    )
    Browser(site, "ada")
    Browser(site, "ada", ip=SAME_STREET)
    Browser(site, "ada", ip=ABROAD)

    assert told == ["198.51.100.0/24", "203.0.113.0/24"]
