"""What the administration ends, what it asks before, and what the audit says afterwards."""

from __future__ import annotations

import datetime as dt
import html
import re
import threading

import bson
import pytest
from admin_site import AUDIT, FIREFOX, LIST, form_token, listed, logged_in, seed
from flask import redirect
from flask_login import LoginManager, UserMixin

from flask_mongo_session import session_destroyed
from flask_mongo_session.contrib.admin import ending

REVOKE, REVOKE_USER, REVOKE_ALL = (f"/admin/sessions/{name}" for name in ("revoke", "revoke-user", "revoke-all"))


def send(browser, path, **fields):
    """Post a form with its token; the page that comes back, whatever it is."""
    return browser.post(path, data={**fields, "csrf_token": form_token(browser.get(LIST).text)})


def answer(browser, page, **changes):
    """Say yes on a page that asks, with all that its form carries."""
    form = page[page.index('method="post"') :]
    fields = dict(re.findall(r'<input[^>]* name="([^"]+)" value="([^"]*)"', form)) | changes
    action = html.unescape(re.search(r'action="([^"]+)"', form)[1])
    return browser.post(
        action, data={name: html.unescape(value) for name, value in fields.items() if value is not None}
    )


def sid_of(browser):
    return browser.get("/ids").json["sid"]


# -- who is sent where ------------------------------------------------------------------------------------------------


def test_a_visitor_without_a_log_in_is_sent_to_it(site):
    """Where Flask-Login says where that is; whoever is logged in and has no right is refused."""
    manager = LoginManager(site)
    manager.user_loader(lambda _: UserMixin())
    manager.unauthorized_handler(lambda: redirect("/login"))

    for path in (LIST, AUDIT, REVOKE_ALL):
        assert site.test_client().get(path).location == "/login"
        assert logged_in(site, "ada").get(path).status_code == 403
    assert site.test_client().post(REVOKE).location == "/login"


# -- one's own session ------------------------------------------------------------------------------------------------


def test_ones_own_session_is_marked_and_ending_it_asks(protected):
    """In the list and in the details; nothing is ended before the answer, which ends all that was chosen."""
    root, ada = logged_in(protected, "root"), logged_in(protected, "ada")
    own, other = sid_of(root), sid_of(ada)
    assert root.get(LIST).text.count(">yours<") == 1
    assert ">yours<" in root.get(f"/admin/sessions/session?id={own}").text
    assert ">yours<" not in root.get(f"/admin/sessions/session?id={other}").text

    asked = send(root, REVOKE, session_id=[own, other])
    assert "End the session that you are using?" in asked.text
    assert (root.get("/who").text, ada.get("/who").text) == ("root", "ada")

    fields = re.findall(r'name="session_id" value="([^"]+)"', asked.text)
    token = form_token(asked.text)
    root.post(REVOKE, data={"session_id": fields, "confirmed": "1", "csrf_token": token})
    assert (root.get("/who").text, ada.get("/who").text) == ("None", "None")


def test_all_on_the_page_are_chosen_but_ones_own(site, root):
    """By a link, without JavaScript."""
    ids = seed(site, 3)
    link = re.search(r'href="([^"]+)">Choose all', root.get(LIST).text)[1].replace("&amp;", "&")

    page = root.get(link).text
    assert set(re.findall(r'value="([^"]+)" checked', page)) == set(ids)
    assert len(listed(page)) == 4
    assert "Choose none" in page


# -- a user's, everybody's --------------------------------------------------------------------------------------------


def test_ending_all_of_a_user_asks(protected):
    """The question says how many; yes ends them, and nobody else's."""
    root, ada, bob = (logged_in(protected, user) for user in ("root", "ada", "bob"))
    seed(protected, 2, "ada")

    asked = send(root, REVOKE_USER, user="ada")
    assert "End all sessions of ada?" in asked.text
    assert "3 sessions are live" in asked.text
    assert 'name="keep"' not in asked.text
    assert ada.get("/who").text == "ada"

    assert answer(root, asked.text).status_code == 303
    assert "3 sessions have been ended" in root.get(LIST).text
    assert [browser.get("/who").text for browser in (root, ada, bob)] == ["root", "None", "bob"]


@pytest.mark.parametrize("keep", [True, False])
def test_ending_all_of_ones_own_offers_to_keep_this_one(site, root, keep):
    """It is ticked from the start."""
    other = logged_in(site, "root")
    asked = send(root, REVOKE_USER, user="root").text
    assert re.search(r'name="keep" value="1" checked', asked)

    answer(root, asked, **({} if keep else {"keep": None}))
    assert other.get("/who").text == "None"
    assert root.get("/who").text == ("root" if keep else "None")


def test_ending_everything_asks_and_spares_the_one_who_does_it(protected):
    """A GET asks; yes logs everybody out, and the audit says who did it."""
    root, ada = logged_in(protected, "root"), logged_in(protected, "ada")
    seed(protected, 5, "bob")
    asked = root.get(REVOKE_ALL)
    assert "End all sessions of everybody?" in asked.text
    assert ada.get("/who").text == "ada"

    assert answer(root, asked.text).status_code == 303
    assert (root.get("/who").text, ada.get("/who").text) == ("root", "None")
    audit = root.get(AUDIT).text
    assert "ended everything" in audit
    assert "but 1 kept" in audit


def test_what_takes_long_goes_on_without_the_page(site, root, monkeypatch):
    """A server that ends slow answers must not end the revocation; the visitor is sent to the audit."""
    started, goes_on, done = threading.Event(), threading.Event(), threading.Event()

    def slowly(self, keep=None, **_):
        started.set()
        assert goes_on.wait(30)
        done.set()
        raise RuntimeError("in the end it fails")

    monkeypatch.setattr(type(site.extensions["sessions"]), "revoke_all", slowly)
    monkeypatch.setattr(ending, "_WAIT_SECONDS", 0.01)
    failed = answer(root, root.get(REVOKE_ALL).text)
    assert started.wait(30)
    goes_on.set()

    assert failed.location == AUDIT
    assert "the audit says when that is done" in root.get(AUDIT).text
    assert done.wait(30)


@pytest.mark.parametrize("path", [REVOKE, REVOKE_USER, REVOKE_ALL])
@pytest.mark.parametrize("fields", [{}, {"confirmed": "1"}])
def test_no_other_site_can_ask_or_answer(protected, path, fields):
    """Neither step is taken without the form's token."""
    root, ada = logged_in(protected, "root"), logged_in(protected, "ada")

    refused = root.post(path, data={**fields, "session_id": sid_of(ada), "user": "ada", "csrf_token": "forged"})
    assert refused.status_code == 400
    assert (root.get("/who").text, ada.get("/who").text) == ("root", "ada")


# -- records that are no sessions -------------------------------------------------------------------------------------

LATER = dt.datetime(2100, 1, 1, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    "record",
    [
        {"_id": "no-date", "expires_at": "soon"},
        {"_id": "never", "data": {}},
        {"_id": "far", "expires_at": bson.DatetimeMS(-(2**60))},
        {"_id": bson.ObjectId(), "expires_at": LATER},
        {"_id": 7, "expires_at": LATER},
        {"_id": {"a": [1]}, "expires_at": LATER},
        {"_id": "two\r\nlines", "expires_at": LATER},
        {"_id": "two\nlines", "expires_at": None},
        {"_id": "broken", "expires_at": LATER, "data": "text"},
    ],
    ids=lambda record: repr(record["_id"]).partition("(")[0],
)
def test_damaged_records_can_be_ended(site, root, sessions, record):
    """Without a date, under an id that is no text, with data that is none: it is gone, announced and audited."""
    sessions.insert_one(record)
    kept = seed(site, 2)
    heard = []
    page = next(
        page
        for page in (root.get(f"{LIST}?state={state}").text for state in ("live", "damaged"))
        if re.search(r'name="record"', page) or str(record["_id"]) in listed(page)
    )
    found = re.findall(r'name="(record|session_id)" value="([^"]+)"', page)
    name, value = next(pair for pair in found if pair[1] not in kept and pair[1] != sid_of(root))

    with session_destroyed.connected_to(lambda _, **told: heard.append(told["sid"]), site):
        ended = send(root, REVOKE, **{name: value.replace("&#34;", '"')})
    assert ended.status_code == 303
    assert sessions.find_one({"_id": {"$eq": record["_id"]}}).keys() == {"_id", "ended_at", "expires_at"}
    assert heard == [str(record["_id"])]
    (written,) = site.extensions["sessions"].audit(session_id=str(record["_id"]))
    assert (written.actor, written.action, written.ended) == ("root", "revoke", 1)


@pytest.mark.parametrize(
    "value", ["", "{", "[", '{"$gt": ""}', '{"$regex": ".*"}', '{"$date": 1e400}', "nul", "[" * 5000]
)
def test_a_made_up_record_ends_nothing(site, root, sessions, value):
    """What a form says is a value, never an operator; nonsense is left out."""
    seed(site, 2)
    assert send(root, REVOKE, record=value).status_code == 404
    assert sessions.count_documents({"ended_at": {"$ne": None}}) == 0


@pytest.mark.parametrize("sid", ["a/b", "//", "..", "a?b=c#d", "%2F", "é\N{SNOWMAN}", " ", "a\nb"])
def test_any_text_is_an_id_with_details(site, root, sid):
    """As a bare store allows it: the list leads there, and from there it is ended."""
    store = site.extensions["mongo_session"].store
    store.commit(sid, {"cart": "of " + "clay"}, LATER)

    links = re.findall(r'href="([^"]+session\?id=[^"]+)"', root.get(LIST).text)
    pages = [root.get(link).text for link in links]
    (page,) = [page for page in pages if "of clay" in page]
    assert answer(root, page).status_code == 303
    assert store.find(sid) is None


# -- the audit --------------------------------------------------------------------------------------------------------


def test_the_audit_says_who_ended_what(site, root, monkeypatch):
    """Who, what, whose, how many, from where; by actor and by user, page by page."""
    logged_in(site, "ada"), logged_in(site, "bob")
    ours = site.extensions["sessions"]
    answer(root, send(root, REVOKE_USER, user="ada").text)
    ours.revoke_user("bob", actor="night job")

    page = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", root.get(AUDIT).text))
    assert re.search(r"root ended all of a user ada 1 127.0.0.0/24 request", page), page
    assert "night job ended all of a user bob 1" in page
    assert "night job" not in root.get(f"{AUDIT}?actor=root").text
    assert "night job" in root.get(f"{AUDIT}?user=bob").text

    for number in range(60):
        ours.store.audit.write("revoke", ending.current_actor("somebody"), sid=f"session-{number}", ended=1)
    first = root.get(AUDIT).text
    second = root.get(re.search(r'rel="next" href="([^"]+)"', first)[1].replace("&amp;", "&")).text
    assert (first.count("ended a session"), second.count("ended a session")) == (50, 10)
    assert root.get(f"{AUDIT}?before=\0&actor=%FF&user=%ED%A0%80").status_code == 200


def test_nothing_of_the_audit_is_markup(site, root):
    """Names are text."""
    site.extensions["sessions"].revoke_user("<b>", actor="<script>")
    assert "<script>" not in root.get(AUDIT).text
    assert FIREFOX not in root.get(AUDIT).text
