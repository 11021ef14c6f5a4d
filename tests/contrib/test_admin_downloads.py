"""A list as a file: all pages of it, in constant memory, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import tracemalloc

import pytest
from admin_site import CHROME, IPHONE, logged_in, seed

from flask_mongo_session import SessionStoreUnavailable
from flask_mongo_session.contrib.admin import downloads, listing
from flask_mongo_session.contrib.admin.query import Query
from flask_mongo_session.contrib.admin.search import Search

CSV, JSON = "/admin/sessions/export.csv", "/admin/sessions/export.json"


def rows(answer):
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_all_pages_of_a_filtered_list(site, root):
    """What the list finds, in its order, with what it shows, and no more."""
    wanted = seed(site, 120, "ada", user_agent=IPHONE, ip="198.51.100.7")
    seed(site, 5, "bob", user_agent=CHROME)
    arguments = {"q": "Safari on iPhone", "order": "soonest"}

    as_csv = root.get(CSV, query_string=arguments)
    as_json = root.get(JSON, query_string=arguments)
    assert [row["sid"].lstrip("'") for row in rows(as_csv)] == wanted
    assert [row["sid"] for row in as_json.json] == wanted
    first = as_json.json[0]
    assert (first["user_id"], first["device"], first["ip"]) == ("ada", "Safari on iPhone", "198.51.100.7")
    assert dt.datetime.fromisoformat(first["expires_at"]).tzinfo is not None
    assert "data" not in first
    assert "token" not in first


def test_an_empty_list_is_a_file_too(root):
    """With its head, and as an empty array."""
    assert rows(root.get(f"{CSV}?q=user:nobody")) == []
    assert root.get(f"{CSV}?q=user:nobody").text.startswith("sid,user_id,")
    assert root.get(f"{JSON}?q=user:nobody").json == []


def test_nobody_keeps_it_and_nobody_else_gets_it(site, root):
    """It is personal data."""
    answer = root.get(CSV)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="sessions.csv"'
    assert answer.mimetype == "text/csv"
    assert root.get("/admin/sessions/export.xlsx").status_code == 404
    assert logged_in(site, "ada").get(JSON).status_code == 403


EVIL = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "\uff1d1", '=HYPERLINK("http://evil.example")']


@pytest.mark.parametrize("text", EVIL)
def test_a_spreadsheet_runs_nothing(site, root, text):
    """What strangers send, as header, user id or session id, is text to a spreadsheet; JSON has it as it is."""
    store = site.extensions["mongo_session"].store
    later = store.now() + dt.timedelta(days=99)
    store.collection.insert_one({"_id": text, "user_id": text, "user_agent": text, "expires_at": later})

    first = rows(root.get(CSV))[0]
    assert {name: first[name] for name in ("sid", "user_id", "user_agent")} == dict.fromkeys(
        ("sid", "user_id", "user_agent"), f"'{text}"
    )
    assert root.get(JSON).json[0]["sid"] == text


def test_it_is_streamed(site):
    """Batch after batch, each with one call of the hook for its users."""
    ours, asked = site.extensions["sessions"], []
    seed(site, 1_200)
    batches = listing.export(ours.store, Query(), Search())
    text = downloads._json(downloads._records(site, batches, lambda users: asked.append(len(list(users))) or {}))
    began = next(text)
    assert asked == [500]
    assert len(json.loads(began + "".join(text))) == 1_200
    assert asked == [500, 500, 200]


def test_a_database_that_is_away_is_a_503_and_no_half_file(site, root, monkeypatch):
    """The first batch is there before the answer begins."""

    def away(*_, **__):
        raise SessionStoreUnavailable

    monkeypatch.setattr(listing, "_find", away)
    assert root.get(CSV).status_code == 503


@pytest.mark.soak
def test_memory_is_constant(site):
    """Thirty thousand sessions take no more of it than three thousand."""
    store, peaks = site.extensions["mongo_session"].store, []
    for count in (3_000, 27_000):
        seed(site, count, user_agent=IPHONE)
        text = downloads._csv(downloads._records(site, listing.export(store, Query(), Search()), lambda _: {}))
        tracemalloc.start()
        size = sum(len(part) for part in text)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert size > count * 100
    assert peaks[1] < peaks[0] * 1.5
