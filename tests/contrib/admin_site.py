"""What the tests of the administration have in common."""

from __future__ import annotations

import datetime as dt
import re

from flask_mongo_session import new_session_id

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)
LIST, OVERVIEW, AUDIT = "/admin/sessions/", "/admin/sessions/overview", "/admin/sessions/audit"


def logged_in(app, user):
    browser = app.test_client()
    browser.get(f"/login/{user}")
    return browser


def form_token(page):
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    return found[1] if found else ""


def seed(app, count, user="ada", **fields):
    """Live sessions straight into the collection; their ids."""
    store = app.extensions["mongo_session"].store
    now = store.now()
    ids = [new_session_id() for _ in range(count)]
    base = {"created_at": now, "touched_at": now, "data": {}, "user_id": user}
    store.collection.insert_many(
        [{**base, "_id": sid, "expires_at": now + dt.timedelta(seconds=60 + i), **fields} for i, sid in enumerate(ids)]
    )
    return ids


def listed(page):
    return re.findall(r'name="session_id" value="([^"]+)"', page)


def found(browser, q, **arguments):
    """The ids that a search finds."""
    return listed(browser.get(LIST, query_string={"q": q, **arguments}).text)


def meaning(page):
    """What the search field was taken for."""
    said = re.search(r"Understood as: <strong>(\w+)</strong>", page)
    return said[1] if said else None
