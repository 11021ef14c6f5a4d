"""What a record says to a cookie, row by row: live, overtaken, or nothing to do with it any more."""

from __future__ import annotations

import datetime as dt

import pytest
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from flask_mongo_session.document.standing import GRACE, Missing, Standing, damage_of, standing, why_gone
from flask_mongo_session.storage.repository import tombstone

LIVE, SUPERSEDED, GONE = Standing.LIVE, Standing.SUPERSEDED, Standing.GONE
NOW = dt.datetime(2026, 5, 4, 12, tzinfo=dt.timezone.utc)
SECOND, MILLISECOND = dt.timedelta(seconds=1), dt.timedelta(milliseconds=1)
OURS, OTHER = b"o" * 32, b"x" * 32


def record(**fields):
    """A live record whose current token is ours, changed by *fields*; ``...`` removes one."""
    whole = {"_id": "sid", "token": OURS, "data": {}, "expires_at": NOW + SECOND, **fields}
    return {name: value for name, value in whole.items() if value is not ...}


def ended(at):
    """A tombstone."""
    return {"_id": "sid", **tombstone(at)}


def rotated(at=NOW, token=OTHER, **fields):
    """A record whose token is another one now; *previous* says since when."""
    return record(token=token, previous={"token": OURS, "at": at, "keeps_writes": True, "wrote": []}, **fields)


def test_grace_is_ten_seconds():
    """What a browser may have sent before it heard of its new cookie."""
    assert dt.timedelta(seconds=10) == GRACE


TABLE = [
    # none, or damaged
    ("no record", None, NOW, GONE),
    ("an expiry that is no date", record(expires_at="tomorrow"), NOW, GONE),
    ("an expiry that Python has no date for", record(expires_at=DatetimeMS(2**60)), NOW, GONE),
    ("no expiry", record(expires_at=...), NOW, GONE),
    ("a deadline that is no date", record(deadline=1), NOW, GONE),
    ("data that is no document", record(data=[]), NOW, GONE),
    ("data that is null", record(data=None), NOW, GONE),
    ("no data at all is an empty session", record(data=...), NOW, LIVE),
    # a tombstone
    ("ended after the request began", ended(NOW + SECOND), NOW, SUPERSEDED),
    ("ended as the request began", ended(NOW), NOW, SUPERSEDED),
    ("ended ten seconds before", ended(NOW - GRACE), NOW, SUPERSEDED),
    ("ended longer before", ended(NOW - GRACE - MILLISECOND), NOW, GONE),
    ("ended, when nobody knows", {**ended(NOW), "ended_at": None}, NOW, GONE),
    ("ended, when is no date", {**ended(NOW), "ended_at": 5}, NOW, GONE),
    ("ended, whatever else it says", record(ended_at=NOW - 60 * SECOND), NOW, GONE),
    ("ended, though the token is ours", record(ended_at=NOW), NOW, SUPERSEDED),
    # expired
    ("expired a millisecond ago", record(expires_at=NOW - MILLISECOND), NOW, GONE),
    ("expires now", record(expires_at=NOW), NOW, GONE),
    ("expires in a millisecond", record(expires_at=NOW + MILLISECOND), NOW, LIVE),
    ("expired, however early the request began", record(expires_at=NOW), NOW - 3600 * SECOND, GONE),
    ("past its deadline", record(deadline=NOW), NOW, GONE),
    ("before its deadline", record(deadline=NOW + MILLISECOND), NOW, LIVE),
    ("expired and rotated", rotated(expires_at=NOW), NOW, GONE),
    # token == hash
    ("the token is ours", record(), NOW, LIVE),
    ("the token is ours, whenever the request began", record(), NOW - 3600 * SECOND, LIVE),
    ("the token is ours after a rotation", rotated(token=OURS), NOW, LIVE),
    # no readable previous.at
    ("another token, never rotated", record(token=OTHER), NOW, GONE),
    ("no token: the store's own", record(token=...), NOW, GONE),
    ("a token that is no binary", record(token="o" * 32), NOW, GONE),
    ("previous is no document", record(token=OTHER, previous=[NOW]), NOW, GONE),
    ("previous has no date", record(token=OTHER, previous={"token": OURS}), NOW, GONE),
    ("previous has something else for a date", rotated("now"), NOW, GONE),
    ("previous has a date that Python has not", rotated(DatetimeMS(2**60)), NOW, GONE),
    # any other token
    ("rotated after the request began", rotated(NOW + SECOND), NOW, SUPERSEDED),
    ("rotated as the request began", rotated(NOW), NOW, SUPERSEDED),
    ("rotated ten seconds before", rotated(NOW - GRACE), NOW, SUPERSEDED),
    ("rotated longer before", rotated(NOW - GRACE - MILLISECOND), NOW, GONE),
    ("rotated in the last year there is", rotated(dt.datetime.max.replace(tzinfo=dt.timezone.utc)), NOW, SUPERSEDED),
    ("neither the current token nor the previous one", {**rotated(), "previous": {"at": NOW}}, NOW, SUPERSEDED),
    ("the same, long ago", {**rotated(), "previous": {"at": NOW - 60 * SECOND}}, NOW, GONE),
]


@pytest.mark.parametrize(("found", "began", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_first_row_that_fits(found, began, wanted):
    """None or damaged, a tombstone, expired, the current token, no date of a rotation, any other token."""
    assert standing(found, OURS, began, NOW) is wanted


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (ended(NOW - GRACE), SUPERSEDED),
        (ended(NOW - GRACE - MILLISECOND), GONE),
        (rotated(NOW - GRACE), SUPERSEDED),
        (rotated(NOW - GRACE - MILLISECOND), GONE),
        (record(), LIVE),
    ],
)
def test_an_unknown_beginning_counts_as_now(found, wanted):
    """Before the database's clock was ever read, nobody can say when a request began."""
    assert standing(found, OURS, None, NOW) is wanted


@pytest.mark.parametrize("make", [ended, rotated])
def test_a_slow_request_is_recognised_however_slow_it_is(make):
    """What counts is when it began, not when it looks."""
    looked = NOW + dt.timedelta(minutes=14)
    found = make(NOW + SECOND)
    if "token" in found:
        found["expires_at"] = looked + SECOND

    assert standing(found, OURS, NOW, looked) is SUPERSEDED
    assert standing(found, OURS, looked, looked) is GONE


def test_a_revocation_counts_as_ten_seconds_old():
    """A revoked visitor who asks again hears that there is nothing: a log-in page can store its form token."""
    revoked = ended(NOW - GRACE)

    assert standing(revoked, OURS, NOW - MILLISECOND, NOW) is SUPERSEDED
    assert standing(revoked, OURS, NOW + MILLISECOND, NOW + SECOND) is GONE


_moments = st.integers(-40_000, 40_000).map(lambda ms: NOW + ms * MILLISECOND)


@given(at=_moments, began=_moments, earlier=_moments)
@pytest.mark.parametrize("make", [ended, rotated])
def test_who_began_earlier_is_overtaken_too(make, at, began, earlier):
    """Of two requests with one token, the earlier is never told less than the later: GONE only ever follows."""
    began, earlier = max(began, earlier), min(began, earlier)
    found = make(at)
    if standing(found, OURS, began, NOW) is SUPERSEDED:
        assert standing(found, OURS, earlier, NOW) is SUPERSEDED


@given(began=_moments | st.none(), expires_at=_moments, at=_moments | st.none(), current=st.booleans())
def test_live_is_the_current_token_of_what_has_not_expired(began, expires_at, at, current):
    """And nothing else is, whenever it began and whatever was rotated."""
    previous = ... if at is None else {"token": OTHER, "at": at}
    found = record(token=OURS if current else OTHER, expires_at=expires_at, previous=previous)

    assert (standing(found, OURS, began, NOW) is LIVE) == (current and expires_at > NOW)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (None, Missing.UNKNOWN),
        (ended(NOW), Missing.UNKNOWN),
        ({**ended(NOW), "ended_at": "never"}, Missing.UNKNOWN),
        (record(), Missing.UNKNOWN),
        (record(token=OTHER), Missing.UNKNOWN),
        (rotated(NOW - 60 * SECOND), Missing.UNKNOWN),
        (record(expires_at=NOW), Missing.EXPIRED),
        (record(deadline=NOW), Missing.EXPIRED),
        (record(deadline=NOW + MILLISECOND), Missing.UNKNOWN),
        (record(expires_at=1), Missing.DAMAGED),
        (record(deadline="never"), Missing.DAMAGED),
        (record(data=5), Missing.DAMAGED),
        (record(expires_at=NOW, data=5), Missing.DAMAGED),
    ],
)
def test_why_it_is_gone(found, wanted):
    """What signals and the log are told; an ended session is as unknown as one that never was."""
    assert why_gone(found, NOW) is wanted


def test_damage_is_named_without_its_contents():
    """The field, never what stands in it."""
    assert damage_of(record()) is None
    for field in ("expires_at", "deadline", "data"):
        message = damage_of(record(**{field: "a secret"}))
        assert message
        assert "secret" not in message
