"""Sessions in Flask-Admin: who may, what is listed, what is ended, and how long it takes."""

from __future__ import annotations

import datetime as dt
import re

import bson
import pytest
from admin_site import LIST, OVERVIEW, form_token, listed, logged_in, seed
from flask_admin import Admin

from flask_mongo_session import Session
from flask_mongo_session.contrib.admin import SessionAdmin
from flask_mongo_session.contrib.admin.charts import bar_chart, short
from flask_mongo_session.contrib.admin.listing import PAGE
from flask_mongo_session.contrib.admin.query import STATES, Key

# -- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [LIST, OVERVIEW, "/admin/sessions/session?id=x"])
@pytest.mark.parametrize("user", [None, "ada"])
def test_only_whom_the_application_allows(site, path, user):
    """Strangers and users without the right are refused; the menu does not tell them either."""
    seed(site, 1, "somebody-else")
    browser = logged_in(site, user) if user else site.test_client()

    refused = browser.get(path)
    assert refused.status_code == 403
    assert "somebody-else" not in refused.text
    assert "/admin/sessions" not in browser.get("/admin/").text


@pytest.mark.parametrize("path", ["/admin/sessions/revoke", "/admin/sessions/revoke-user"])
def test_without_the_right_nothing_is_ended(site, path, sessions):
    """A posted form of somebody else changes nothing."""
    (sid,) = seed(site, 1)

    refused = logged_in(site, "ada").post(path, data={"session_id": sid, "user": "ada"})
    assert refused.status_code == 403
    assert sessions.count_documents({"user_id": "ada"}) == 2


def test_an_index_that_is_still_being_built_is_no_error(site, root, monkeypatch):
    """The server lists it already, and refuses to use it: the list is slower, and says so."""
    seed(site, 1)
    listing = "flask_mongo_session.contrib.admin.listing.indexed_fields"
    monkeypatch.setattr(listing, lambda _store: {"_id", "expires_at", "touched_at"})

    page = root.get(LIST)
    assert page.status_code == 200
    assert "index is missing" in page.text


@pytest.mark.parametrize("locale", [None, "de"])
def test_flask_babel_may_be_installed_and_not_set_up(site, root, locale):
    """Flask-Admin would fail; what an application sets up itself is left alone."""
    from flask_babel import Babel

    if locale:
        Babel(site, default_locale=locale)
    own = site.extensions.get("babel")
    assert root.get(LIST).status_code == site.test_client().get("/admin/").status_code == 200
    assert own in (None, site.extensions["babel"])


def test_nobody_may_unless_said_so(make_app):
    """Without `is_allowed` the view is closed."""
    app = make_app()
    Admin(app).add_view(SessionAdmin(app.extensions["sessions"]))

    assert app.test_client().get(LIST).status_code == 403


@pytest.mark.parametrize("path", [LIST, OVERVIEW, "/admin/sessions/session?id=none"])
@pytest.mark.parametrize("user", ["root", "ada"])
def test_nobody_keeps_or_frames_a_page(site, path, user):
    """Pages and refusals alike; the style sheet is nobody's secret."""
    browser = logged_in(site, user)
    headers = browser.get(path).headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    with browser.get("/admin/sessions/static/sessions.css") as style:
        assert style.status_code == 200
        assert "X-Frame-Options" not in style.headers


def test_the_applications_own_headers_win(site):
    """Also a policy that the application sets only where a response has none."""

    @site.after_request
    def own(response):
        response.headers.setdefault("Content-Security-Policy", "default-src 'self'")
        response.headers["X-Frame-Options"] = "SAMEORIGIN"
        return response

    headers = logged_in(site, "root").get(LIST).headers
    assert headers.getlist("Content-Security-Policy") == ["default-src 'self'"]
    assert headers.getlist("X-Frame-Options") == ["SAMEORIGIN"]
    assert headers["Cache-Control"] == "no-store"


# -- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_is_paged_by_key(site, root):
    """Every session is on exactly one page, also where many expire in the same millisecond; nothing is skipped over."""
    store = site.extensions["mongo_session"].store
    same = store.now() + dt.timedelta(hours=5)
    store.ensure_indexes()
    root_sid = root.get("/ids").json["sid"]
    wanted = {*seed(site, 60, expires_at=same), *seed(site, 45), root_sid}

    for arguments in ("order=latest", "order=soonest", "order=latest&q=user:ada"):
        seen, path = [], f"{LIST}?{arguments}"
        while path:
            page = root.get(path).text
            assert len(listed(page)) <= PAGE
            seen += listed(page)
            following = re.search(r'rel="next" href="([^"]+)"', page)
            path = following[1].replace("&amp;", "&") if following else None
        assert len(seen) == len(set(seen)), arguments
        assert set(seen) == (wanted if "q=user" not in arguments else wanted - {root_sid}), arguments


def test_search_by_user_is_equality(site, root):
    """Neither a pattern nor an operator: `.*` is just a name that nobody has."""
    (ada,) = seed(site, 1, "ada")
    seed(site, 1, "ada2")

    assert listed(root.get(f"{LIST}?q=ada").text) == [ada]
    assert listed(root.get(f"{LIST}?q=user:.*").text) == []
    assert listed(root.get(f"{LIST}?q[$ne]=x&q=user:nobody").text) == []


def test_filter_by_state(site, root, move_clock):
    """Live ones, expired ones that were not swept, and those whose expiry is no date, or one that Python has not."""
    (live,) = seed(site, 1)
    (expired,) = seed(site, 1, expires_at=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc))
    damaged = [seed(site, 1, expires_at=value)[0] for value in ("soon", None, 7, {})]
    future, past = (seed(site, 1, expires_at=bson.DatetimeMS(ms))[0] for ms in (2**60, -(2**60)))
    root_sid = root.get("/ids").json["sid"]

    assert set(listed(root.get(LIST).text)) == {live, future, root_sid}
    assert listed(root.get(f"{LIST}?state=expired").text) == [expired, past]
    assert set(listed(root.get(f"{LIST}?state=damaged").text)) == {*damaged, future, past}
    assert live in listed(root.get(f"{LIST}?state=nonsense&order=no&after=what").text)


def test_ended_sessions_are_never_listed(site, root, sessions, move_clock):
    """Logged out or revoked, young or old: a tombstone is in no state's list, and has no details."""
    loser, leaver = logged_in(site, "ada"), logged_in(site, "ada")
    ended = [browser.get("/ids").json["sid"] for browser in (loser, leaver)]
    site.extensions["sessions"].revoke(ended[0])
    leaver.get("/logout")
    assert sessions.count_documents({"_id": {"$in": ended}, "ended_at": {"$ne": None}}) == 2

    for seconds in (0, 20 * 60):
        move_clock(seconds)
        for state in STATES:
            page = root.get(f"{LIST}?state={state}&q=user:ada").text
            assert listed(page) == [], state
            assert not set(ended) & set(listed(root.get(f"{LIST}?state={state}").text)), state
        assert {root.get(f"/admin/sessions/session?id={sid}").status_code for sid in ended} == {404}


@pytest.mark.parametrize(
    ("state", "expires_at"),
    [
        ("live", bson.DatetimeMS(2**60)),
        ("expired", dt.datetime(1960, 1, 1, tzinfo=dt.timezone.utc)),
        ("expired", bson.DatetimeMS(-(2**60))),
    ],
)
def test_odd_dates_do_not_end_the_paging(site, root, state, expires_at):
    """Dates before 1970, and those that Python has no date for: every session is on exactly one page all the same."""
    wanted = set(seed(site, PAGE + 10, expires_at=expires_at))

    seen, path = [], f"{LIST}?state={state}&q=user:ada"
    while path and len(seen) <= 2 * len(wanted):
        page = root.get(path).text
        seen += listed(page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == len(set(seen))
    assert set(seen) == wanted


@pytest.mark.parametrize("key", [Key(1_700_000_000_000, 3), Key(-1, 1), Key(-(2**60), 7), Key(2**60, 0)])
def test_a_key_survives_an_address(key):
    """What one page says of its end is what the next one begins with."""
    assert Key.unpack(key.pack()) == key


MADE_UP = [
    "",
    "1",
    "a-b",
    "-",
    "9" * 40 + "-1",
    "1-2-3",
    "1-" + "9" * 40,
    f"{2**63}-1",
    f"1-{2**31}",
    "1--1",
    "None-1",
    "9" * 5000,
]


@pytest.mark.parametrize("text", MADE_UP)
def test_a_made_up_key_begins_at_the_first_page(text):
    """What is in an address is a stranger's text."""
    assert Key.unpack(text) is None


@pytest.mark.parametrize("state", STATES)
def test_what_an_address_says_is_no_fault_of_ours(site, root, state):
    """Made-up keys and users give a page, found or not, never a 500, and never count against the database."""
    site.testing = False
    texts = [
        *MADE_UP,
        f"{2**62}-1000000",
        f"-{2**62}-5",
        "\0",
        "session:",
        "address:\0",
        "::/0",
        "0.0.0.0/0",
        "…",
        "%ED%A0%80",
        "%FF",
        "\N{SNOWMAN}",
        "$where",
        "a.b",
    ]

    for text in texts:
        for name in ("after", "q", "state", "order", "since", "until"):
            address = {"state": state, name: text}
            assert root.get(LIST, query_string=address).status_code == 200, address
    for escaped in ("%ED%A0%80", "%FF", "%00"):
        assert root.get(f"{LIST}?q={escaped}&after={escaped}&state={state}").status_code == 200
        assert root.get(f"/admin/sessions/session?id={escaped}").status_code == 404
    assert site.extensions["mongo_session"].store.connection.known_to_be_away is False


@pytest.mark.parametrize("user", ["", " ", "\0", "nobody", "%ED%A0%80"])
def test_nobody_has_no_session_to_be_ended(site, root, user, sessions):
    """No user id that a form can bring, the empty one included, ends anything or breaks the page."""
    site.testing = False
    sessions.insert_one({"_id": "empty", "user_id": "", "expires_at": dt.datetime(2100, 1, 1, tzinfo=dt.timezone.utc)})
    token = form_token(root.get(LIST).text)

    answer = root.post("/admin/sessions/revoke-user", data={"user": user, "csrf_token": token})
    assert answer.status_code == 404
    assert "That user has no session." in answer.text
    assert sessions.count_documents({"ended_at": {"$ne": None}}) == 0


def test_damaged_documents_do_not_break_a_page(site, root, sessions):
    """Wrong types in every field, foreign ids: listed or left out, never an error; details say what is wrong."""
    later = dt.datetime(2100, 1, 1, tzinfo=dt.timezone.utc)
    sessions.insert_many(
        [
            {"_id": bson.ObjectId(), "expires_at": later},
            {"_id": 7, "expires_at": later, "data": [1], "user_id": {"a": 1}, "ip": 9, "user_agent": []},
            {"_id": "broken", "expires_at": later, "data": "text", "touched_at": "x", "permanent": 3},
            {"_id": "far", "expires_at": bson.DatetimeMS(2**60), "data": {"a": bson.Decimal128("1")}},
        ]
    )

    page = root.get(LIST)
    assert page.status_code == 200
    assert "broken" in listed(page.text)
    assert 'name="record" value="7"' in page.text
    assert root.get("/admin/sessions/session?id=broken").text.count("This record is damaged") == 1
    assert root.get("/admin/sessions/session?id=far").status_code == 200
    assert root.get(OVERVIEW).status_code == 200


def test_what_strangers_send_is_escaped(site, root):
    """User agents, user ids and values are text in the page."""
    evil = "<script>alert(1)</script>"
    (sid,) = seed(site, 1, evil, user_agent=evil, ip=evil, data={evil: evil})

    for path in (LIST, f"{LIST}?q={evil}", f"{LIST}?q=user:{evil}", f"/admin/sessions/session?id={sid}"):
        assert evil not in root.get(path).text


# -- details and ending -----------------------------------------------------------------------------------------------


def test_details_mask_hidden_keys_and_show_no_token(site, root):
    """The data is there, values of SESSION_ADMIN_HIDE keys and tokens are not."""
    browser = logged_in(site, "ada")
    ids = browser.get("/ids").json

    page = root.get(f"/admin/sessions/session?id={ids['sid']}").text
    assert "ada" in page
    assert "•••" in page
    assert "4111 1111" not in page
    assert ids["token"] not in page
    assert root.get("/admin/sessions/session?id=made-up").status_code == 404


def test_a_hidden_key_is_masked_wherever_it_stands(site, root):
    """Also deep inside a value that is shown."""
    browser = logged_in(site, "ada")

    page = root.get(f"/admin/sessions/session?id={browser.get('/ids').json['sid']}").text
    assert "Kiosk" in page
    assert "4222" not in page


def test_chosen_sessions_are_ended(protected):
    """One or many, through the store, so that it is announced and rotations are followed; the others stay."""
    root = logged_in(protected, "root")
    browsers = [logged_in(protected, "ada") for _ in range(3)]
    chosen = [browser.get("/ids").json["sid"] for browser in browsers[:2]]

    token = form_token(root.get(LIST).text)
    answer = root.post("/admin/sessions/revoke", data={"session_id": chosen, "csrf_token": token})
    assert answer.status_code == 303
    assert "2 sessions have been ended" in root.get(LIST).text
    assert [browser.get("/who").text for browser in browsers] == ["None", "None", "ada"]


def test_all_sessions_of_a_user_are_ended(protected):
    """From the list of that user."""
    root = logged_in(protected, "root")
    ada, bob = logged_in(protected, "ada"), logged_in(protected, "bob")

    token = form_token(root.get(f"{LIST}?q=user:ada").text)
    answer = root.post("/admin/sessions/revoke-user", data={"user": "ada", "confirmed": "1", "csrf_token": token})
    assert answer.status_code == 303
    assert [browser.get("/who").text for browser in (ada, bob)] == ["None", "bob"]


@pytest.mark.parametrize("path", ["/admin/sessions/revoke", "/admin/sessions/revoke-user"])
@pytest.mark.parametrize("token", ["", "forged"])
def test_without_the_forms_token_nothing_is_ended(protected, path, token):
    """A form that another site posts is refused."""
    root, ada = logged_in(protected, "root"), logged_in(protected, "ada")
    sid = ada.get("/ids").json["sid"]

    refused = root.post(path, data={"session_id": sid, "user": "ada", "csrf_token": token})
    assert refused.status_code == 400
    assert ada.get("/who").text == "ada"


def test_made_up_and_expired_ids_end_nothing(site, root, sessions):
    """They are told as not active any more; nothing is changed."""
    (expired,) = seed(site, 1, expires_at=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc))
    token = form_token(root.get(LIST).text)
    before = sessions.count_documents({})

    for fields in ({"session_id": ["made-up", expired]}, {}, {"session_id": ""}):
        assert root.post("/admin/sessions/revoke", data={**fields, "csrf_token": token}).status_code == 404
    assert root.post("/admin/sessions/revoke-user", data={"user": "", "csrf_token": token}).status_code == 404
    assert sessions.count_documents({}) == before


def test_there_is_no_creating_editing_or_ending_by_get(root):
    """None of Flask-Admin's model pages exists; the addresses that end take a POST only."""
    for path in ("new/", "edit/", "delete/", "action/", "ajax/update/"):
        assert root.get(LIST + path).status_code == 404
        assert root.post(LIST + path).status_code == 404
    assert root.get("/admin/sessions/revoke").status_code == 405


# -- the overview -----------------------------------------------------------------------------------------------------


def test_the_overview_draws(site, root):
    """Figures and four pictures, drawn on the server, each of which says in words what it shows."""
    seed(site, 5)

    page = root.get(OVERVIEW).text
    pictures = re.findall(r'<svg class="chart"[^>]* role="img" aria-label="([^"]+)"', page)
    assert [words.partition(":")[0] for words in pictures] == [
        "Sessions created per hour",
        "Sessions expiring per hour",
        "Sessions by size",
        "Users by number of sessions",
    ]
    assert "6 in all" in pictures[0]
    assert re.search(r"<dt>Live now</dt><dd>6</dd>", page)


def test_charts_of_nothing_and_of_markup():
    """An empty series is a chart, too; names are escaped."""
    assert "none" in bar_chart([(str(i), 0) for i in range(24)], "Sessions")
    assert "<b>" not in bar_chart([("<b>", 1)], "<b>")
    assert "&lt;b&gt;" in bar_chart([("<b>", 1)], "x")


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (9_999, "9,999"), (10_000, "10 k"), (12_345, "12.3 k"), (3_400_000, "3.4 M")]
)
def test_counts_are_short(value, said):
    """They fit over a bar."""
    assert short(value) == said


# -- queries ----------------------------------------------------------------------------------------------------------


def test_a_model_query_in_a_view_of_flask_admin(make_app):
    """Any view of Flask-Admin may ask the model, as the documentation shows it."""
    from flask_admin import BaseView, expose

    class Report(BaseView):
        @expose("/")
        def index(self):
            return {"live": Session.objects.live().count(), "ada": Session.objects.of_user("ada").count()}

    app = make_app()
    Admin(app).add_view(Report(name="Report", endpoint="report"))
    seed(app, 2)
    seed(app, 1, "bob")

    assert app.test_client().get("/admin/report/").json == {"live": 3, "ada": 2}
