"""The one search field: what a text means, what it finds, and how few records are looked at for it."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from admin_site import CHROME, FIREFOX, IPHONE, LIST, found, listed, logged_in, meaning, seed
from flask import session
from flask_admin import Admin

from flask_mongo_session.contrib.admin import SessionAdmin, listing, naming, search
from flask_mongo_session.contrib.admin.addresses import network_of, prefix_of
from flask_mongo_session.contrib.admin.listing import PAGE, fetch
from flask_mongo_session.contrib.admin.query import ORDERS, Query
from flask_mongo_session.contrib.admin.search import Search, understand
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS

NAMES = {"1": "Ada Lovelace", "2": "Ada Byron", "3": "Bela Bartók"}


@pytest.fixture
def labelled(make_app):
    """An application with the hooks: the calls of both are kept."""
    app = make_app()
    app.calls = []

    def user_label(ids):
        app.calls.append(sorted(ids))
        return {user: NAMES[user] for user in ids if user in NAMES}

    view = SessionAdmin(
        app.extensions["sessions"],
        is_allowed=lambda: session.get("user_id") == "root",
        user_label=user_label,
        find_user=lambda text: [int(user) for user, name in NAMES.items() if text.lower() in name.lower()],
    )
    Admin(app).add_view(view)

    @app.get("/login/<user>")
    def login(user):
        session["user_id"] = user
        return user

    return app


# -- devices ----------------------------------------------------------------------------------------------------------


def test_a_device_is_found_as_the_column_shows_it(site, root):
    """Every browser's header says Safari; what finds a session is the name that the list shows of it."""
    (iphone,) = seed(site, 1, user_agent=IPHONE)
    (chrome,) = seed(site, 1, user_agent=CHROME)
    (firefox,) = seed(site, 1, user_agent=FIREFOX)

    assert found(root, "Safari on iPhone") == [iphone]
    assert found(root, "safari") == [iphone]
    assert found(root, "chrome on windows") == [chrome]
    assert found(root, "LINUX") == [firefox]
    assert found(root, "AppleWebKit") == []
    assert found(root, "device:.*") == []


def test_versions_are_named_once(site, root, monkeypatch):
    """Headers that differ in their digits alone cost one parse, and all of them are found."""
    naming._names.clear()
    parsed = []
    monkeypatch.setattr(naming, "device_name", lambda header: parsed.append(header) or "Firefox on Linux")
    ids = [seed(site, 1, user_agent=FIREFOX.replace("131", str(version)))[0] for version in range(100, 120)]

    page = root.get(f"{LIST}?q=Firefox on Linux").text
    assert set(listed(page)) == set(ids)
    assert len(parsed) == 1 + 1  # and one to load the parser
    naming._names.clear()


def test_a_flood_of_headers_does_not_hold_up_a_search(site, root, monkeypatch):
    """What there is no time to parse, or too many different ones, is said on the page; searching again goes on."""
    naming._names.clear()
    monkeypatch.setattr(naming, "_PARSING_SECONDS", -1)
    monkeypatch.setattr(naming, "_LEAST_PARSED", 0)
    seed(site, 1, user_agent=FIREFOX)
    assert "too many different ones" in root.get(f"{LIST}?q=firefox").text

    monkeypatch.setattr(naming, "_PARSING_SECONDS", 5)
    assert "too many different ones" not in root.get(f"{LIST}?q=firefox").text
    monkeypatch.setitem(search.DISTINCT, "user_agent", 1)
    seed(site, 1, user_agent=CHROME)
    assert "too many different ones" in root.get(f"{LIST}?q=firefox").text
    naming._names.clear()


# -- addresses --------------------------------------------------------------------------------------------------------

ADDRESSES = ["198.51.100.7", "198.51.100.70", "198.51.7.1", "198.5.100.7", "::ffff:203.0.113.9", "192.0.2.0/24"]
ADDRESSES += [
    "2001:db8:0:1::7",
    "2001:db8::7",
    "2001:db8:12:1::1",
    "2001:db8:120:1::1",
    "::1",
    "2001:db8:7::/48",
    "garbage",
]


@pytest.mark.parametrize(
    ("text", "finds"),
    [
        ("198.51.100.7", ["198.51.100.7"]),
        ("198.51.100.0/24", ["198.51.100.7", "198.51.100.70"]),
        ("198.51.100.9/24", ["198.51.100.7", "198.51.100.70"]),
        ("198.51.100.0/26", ["198.51.100.7"]),
        ("198.51.0.0/16", ["198.51.100.7", "198.51.100.70", "198.51.7.1"]),
        ("198.51.0.0/20", ["198.51.7.1"]),
        ("198.0.0.0/8", ["198.51.100.7", "198.51.100.70", "198.51.7.1", "198.5.100.7"]),
        ("198.51.", ["198.51.100.7", "198.51.100.70", "198.51.7.1"]),
        ("203.0.113.9", ["::ffff:203.0.113.9"]),
        ("192.0.2.77", ["192.0.2.0/24"]),
        ("192.0.2.0/28", ["192.0.2.0/24"]),
        ("2001:DB8:0:1:0::7", ["2001:db8:0:1::7"]),
        ("2001:db8::/32", [*ADDRESSES[6:10], "2001:db8:7::/48"]),
        ("2001:db8::/48", ["2001:db8:0:1::7", "2001:db8::7"]),
        ("2001:db8:12::/48", ["2001:db8:12:1::1"]),
        ("2001:db8:7:1::5", ["2001:db8:7::/48"]),
        ("2001:db8:100::/40", ["2001:db8:120:1::1"]),
        ("2001:db8:", [*ADDRESSES[6:10], "2001:db8:7::/48"]),
        ("::1", ["::1"]),
        ("::/0", ["::ffff:203.0.113.9", *ADDRESSES[6:12]]),
    ],
)
def test_addresses_and_networks(site, root, text, finds):
    """By the bits, not by the text: /20 is no prefix of it, `::` stands for zeros, and a kept network counts."""
    ids = {seed(site, 1, ip=ip)[0]: ip for ip in ADDRESSES}

    page = root.get(LIST, query_string={"q": text}).text
    assert sorted(ids[sid] for sid in listed(page)) == sorted(finds)
    assert meaning(page) == "address"


@pytest.mark.parametrize(
    ("network", "prefix"),
    [
        ("0.0.0.0/0", ("", False)),
        ("10.0.0.0/8", ("10.", True)),
        ("10.16.0.0/12", ("10.", False)),
        ("2001:db8:1::/48", ("2001:db8:1:", True)),
        ("2001:db8:0::/48", ("2001:db8:", False)),
        ("2001:db8:0012::/44", ("2001:db8:", False)),
    ],
)
def test_a_network_is_a_range_of_text_where_it_can_be(network, prefix):
    """An octet's or a group's border, and no zeros that may be left out."""
    assert prefix_of(network_of(network)) == prefix


# -- users and sessions -----------------------------------------------------------------------------------------------


def test_a_session_is_found_by_its_id_and_by_what_the_list_shows_of_it(site, root):
    """Whole, shortened with or without the dots, and with the apostrophe that the CSV puts before a dash."""
    (sid,) = seed(site, 1)
    store = site.extensions["mongo_session"].store
    store.collection.insert_one({"_id": "-dash-", "expires_at": store.now() + dt.timedelta(hours=1)})
    seed(site, 3)

    assert f"{sid[:8]}…" in root.get(LIST).text
    for text in (sid, sid[:8], f"{sid[:8]}…", f"session:{sid[:3]}"):
        assert found(root, text) == [sid], text
    assert found(root, "'-dash-") == ["-dash-"]


def test_users_have_labels_and_are_found_by_them(labelled):
    """The page asks for all its users in one call; a label finds its user's sessions, and so does the id."""
    root = logged_in(labelled, "root")
    (one,), (two,) = seed(labelled, 1, "1"), seed(labelled, 1, "2")
    seed(labelled, 1, "3")
    seed(labelled, 1, "nameless")

    page = root.get(LIST).text
    assert labelled.calls == [["1", "2", "3", "nameless", "root"]]
    assert "Ada Lovelace" in page
    assert "nameless" in page
    assert found(root, "Lovelace") == [one]
    assert set(found(root, "ada")) == {one, two}
    assert found(root, "1") == [one]
    assert "All sessions of Ada Lovelace" in root.get(f"/admin/sessions/session?id={one}").text


def test_the_first_meaning_that_finds_something_counts(labelled):
    """And the page says which one it was, with links to the others."""
    root = logged_in(labelled, "root")
    (by_id,) = seed(labelled, 1, "firefox")
    (by_device,) = seed(labelled, 1, "x", user_agent=FIREFOX)

    page = root.get(f"{LIST}?q=firefox").text
    assert (meaning(page), listed(page)) == ("user", [by_id])
    device = re.search(r'href="([^"]+q=device:firefox[^"]*)"', page.replace("%3A", ":"))[1].replace("&amp;", "&")
    assert listed(root.get(device).text) == [by_device]
    assert meaning(root.get(f"{LIST}?q=nothing").text) == "device"


# -- orders and times -------------------------------------------------------------------------------------------------


def test_sorted_by_expiry_or_activity(site, root):
    """Each in both directions."""
    now = site.extensions["mongo_session"].store.now()
    minutes = [(3, 1), (1, 2), (2, 3)]
    ids = [
        seed(site, 1, touched_at=now - dt.timedelta(minutes=active), expires_at=now + dt.timedelta(minutes=left))[0]
        for active, left in minutes
    ]
    by_expiry, by_activity = ids, [ids[1], ids[2], ids[0]]

    for order, expected in (
        ("latest", by_expiry[::-1]),
        ("soonest", by_expiry),
        ("recent", by_activity),
        ("idle", by_activity[::-1]),
    ):
        assert found(root, "user:ada", order=order) == expected, order
        assert [sid for sid in listed(root.get(f"{LIST}?order={order}").text) if sid in ids] == expected, order


def test_active_since_and_until(site, root):
    """The last activity lies in the span; times are UTC; what is no time is left out."""
    now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
    ids = [seed(site, 1, touched_at=now - dt.timedelta(hours=hours))[0] for hours in (1, 2, 3)]
    text = [(now - dt.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S") for hours in (1, 2, 3)]

    for order in ORDERS:
        assert set(found(root, "user:ada", since=text[1], order=order)) == set(ids[:2])
        assert found(root, "user:ada", since=text[1], until=text[0], order=order) == [ids[1]]
        assert found(root, "", until=text[1], order=order) == [ids[2]]
        assert set(found(root, "user:ada", since="yesterday", until="9" * 99)) == set(ids)


@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize("narrow", [True, False])
def test_every_match_is_on_one_page_whatever_lies_between(site, monkeypatch, order, narrow):
    """Found by its own index or by walking along the order's in windows, many at the same instant included."""
    if not narrow:
        monkeypatch.setattr(listing, "NARROW", 1)
        monkeypatch.setattr(listing, "SCAN", 60)
    store = site.extensions["mongo_session"].store
    store.ensure_indexes()
    now = store.now()
    same = {"expires_at": now + dt.timedelta(hours=2), "touched_at": now - dt.timedelta(hours=1)}
    wanted = {*seed(site, 70, ip="198.51.100.7", **same), *seed(site, 20, ip="198.51.100.7")}
    seed(site, 150, ip="203.0.113.1", **same)
    for minute in range(9):
        seed(site, 9, ip="203.0.113.1", touched_at=now - dt.timedelta(minutes=minute))

    seen, query, pages = [], Query("198.51.100.7", order=order), 0
    while query is not None and pages < 50:
        page = fetch(store, query, understand(store, query.q))
        seen += [row.info.sid for row in page.rows]
        query, pages = page.next and Query("198.51.100.7", order=order, after=page.next), pages + 1
        assert len(page.rows) <= PAGE
        assert not page.slow
    assert len(seen) == len(set(seen))
    assert set(seen) == wanted


def test_without_indexes_everything_is_found_and_the_page_says_what_is_missing(site, root):
    """A new application's first minutes, or `SESSION_AUTO_INDEX = False`."""
    site.extensions["mongo_session"].store.collection.drop_indexes()
    (sid,) = seed(site, 1, ip="198.51.100.7", user_agent=FIREFOX)

    for text in ("198.51.100.0/24", "firefox", "ada", ""):
        page = root.get(LIST, query_string={"q": text}).text
        assert sid in listed(page)
        assert "flask sessions indexes" in page


PATHS = [
    *("", "q=user:user-7", "q=firefox", "q=nosuch", "q=rare", "q=198.51.0.0/16", "q=198.51.0.0/20", "q=10.9.9.9"),
    *("order=recent", "order=idle&q=firefox", "order=soonest", "state=expired", "state=damaged", "q=session:s"),
    *("since=2000-01-01T00:00", "until=2000-01-01T00:00", "q=firefox&since=2000-01-01T00:00&order=recent"),
]


def check_plans(app, root, paths):
    """Every command of every page goes along an index and looks at a bounded number of keys."""
    database = app.extensions["mongo_session"].store.collection.database
    profile = database["system.profile"].with_options(CODEC_OPTIONS)
    for path in paths:
        database.command("profile", 2)
        page = root.get(f"{LIST}?{path}")
        database.command("profile", 0)
        assert page.status_code == 200
        commands = list(profile.find({"ns": re.compile(r"\.sessions$"), "keysExamined": {"$exists": True}}))
        assert commands
        for command in commands:
            assert not re.search("COLLSCAN", command["planSummary"]), (path, command["command"])
            examined = max(command["keysExamined"], command["docsExamined"])
            assert examined <= 2 * listing.SCAN + PAGE, (path, command["command"], examined)
        profile.drop()


def fill(app, count):
    """Sessions of many users on several devices, some expired."""
    store = app.extensions["mongo_session"].store
    store.ensure_indexes()
    for start in range(0, count, 10_000):
        now, part = store.now(), range(start, min(start + 10_000, count))
        store.collection.insert_many(
            [
                {
                    "_id": f"session-{i}",
                    "data": {"cart": ["x" * (i % 500)]},
                    "user_id": f"user-{i % max(count // 3, 1)}",
                    "user_agent": "Rare/1.0" if i % 40_000 == 7 else (FIREFOX if i % 3 else IPHONE),
                    "ip": f"198.51.{i % 50}.{i % 250}",
                    "created_at": now - dt.timedelta(seconds=i % 90_000),
                    "touched_at": now - dt.timedelta(seconds=i % 9_000),
                    "expires_at": now + dt.timedelta(seconds=i % 90_000 - 600),
                }
                for i in part
            ],
            ordered=False,
        )


def test_every_search_goes_along_an_index(site, root, monkeypatch):
    """With limits so small that a few hundred sessions are many."""
    monkeypatch.setattr(listing, "NARROW", 40)
    monkeypatch.setattr(listing, "SCAN", 100)
    fill(site, 600)

    check_plans(site, root, PATHS)


@pytest.mark.soak
def test_every_search_goes_along_an_index_at_a_hundred_thousand(site, root):
    """The same with the real limits: what a page costs does not grow with the number of sessions."""
    fill(site, 100_000)

    check_plans(site, root, PATHS)


def test_a_search_for_nothing_is_the_list():
    """No text, no condition."""
    assert understand(None, "") == Search()
