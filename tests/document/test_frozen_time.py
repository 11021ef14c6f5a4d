"""Time that a test stops: dates are dates, whoever made them, and come back as the real ones."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import bson
import pytest
import time_machine
from freezegun import freeze_time
from mongoengine import ComplexDateTimeField, DateField, DateTimeField, ListField

from flask_mongo_session.document import codec
from flask_mongo_session.document.schema import Schema
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS

UTC = dt.timezone.utc
REAL = {"date": dt.date, "datetime": dt.datetime}
FIELDS = {
    "at": DateTimeField(db_field="at"),
    "day": DateField(db_field="day"),
    "exactly": ComplexDateTimeField(db_field="exactly"),
    "all": ListField(DateTimeField(), db_field="all"),
}
FREEZERS = [freeze_time, lambda moment: time_machine.travel(moment, tick=False)]


def stored(encoded):
    """The encoded value as it comes back from a database."""
    return bson.decode(bson.encode({"": encoded}, codec_options=CODEC_OPTIONS), CODEC_OPTIONS)[""]


def values():
    """Dates as an application makes them, now."""
    now = dt.datetime.now(UTC)
    return {
        "plain": now,
        "exact": now.replace(microsecond=1),
        "elsewhere": now.astimezone(dt.timezone(dt.timedelta(hours=5))),
        "naive": dt.datetime.now(),  # noqa: DTZ005 - a naive one is meant
        "day": dt.date.today(),  # noqa: DTZ011
        "nested": [{"at": (now, now.date())}],
        "keys": {now.date(): 1},
    }


def kinds(value):
    """The types of all dates in a value."""
    if isinstance(value, dict):
        return {kind for item in (*value, *value.values()) for kind in kinds(item)}
    if isinstance(value, (list, tuple)):
        return {kind for item in value for kind in kinds(item)}

    return {type(value)} if isinstance(value, dt.date) else set()


@pytest.mark.parametrize("freeze", FREEZERS, ids=["freezegun", "time-machine"])
def test_dates_of_a_stopped_clock(freeze):
    """What is stored while time stands still is true, equal and real, inside and after; untouched, it is no change."""
    with freeze("2030-01-02 03:04:05.678"):
        before = values()
        encoded = stored(codec.encode("key", before))
        assert codec.decode(encoded) == before
        assert not codec.differs(before, encoded)
        assert not codec.differs(codec.decode(encoded), encoded)
        assert kinds(codec.decode(encoded)) == set(REAL.values())

    after = codec.decode(encoded)
    assert after == before
    assert after["plain"] == dt.datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert kinds(after) == set(REAL.values())
    assert not codec.differs(after, encoded)
    assert not codec.differs(before, encoded)


@pytest.mark.parametrize("freeze", FREEZERS, ids=["freezegun", "time-machine"])
def test_what_was_stored_before(freeze):
    """What was stored before the clock was stopped is read, compared and spared while it stands."""
    before = values()
    encoded = stored(codec.encode("key", before))

    with freeze("2030-01-02"):
        answer = codec.decode(encoded)
        assert answer == before
        assert not codec.differs(answer, encoded)
        assert type(answer["plain"]) in codec.IMMUTABLE
        assert type(answer["day"]) in codec.IMMUTABLE
        assert codec.differs({**answer, "plain": dt.datetime.now(UTC)}, encoded)


@pytest.mark.parametrize("freeze", FREEZERS, ids=["freezegun", "time-machine"])
def test_declared_dates(freeze):
    """The same for declared fields of every kind of date."""
    schema = Schema(FIELDS)

    def put():
        now = dt.datetime.now(UTC)
        return {"at": now, "day": now.date(), "exactly": now.replace(tzinfo=None), "all": [now]}

    def check(values, encoded):
        for key, value in values.items():
            answer = schema.decode(key, encoded[key])
            assert answer == value
            assert not schema.differs(key, answer, encoded[key])
            assert not schema.differs(key, schema.keep(key, value, encoded[key]), encoded[key])

    with freeze("2020-05-06 07:08:09.123"):
        early = put()
        encoded_early = {key: stored(schema.encode(key, value)) for key, value in early.items()}
        check(early, encoded_early)
    check(early, encoded_early)

    late = {key: value for key, value in put().items() if key in ("day", "exactly")}
    encoded_late = {key: stored(schema.encode(key, value)) for key, value in late.items()}
    with freeze("2040-01-01"):
        check(early, encoded_early)
        check(late, encoded_late)


def test_imported_while_time_stands_still():
    """The package may be imported inside of a frozen block, as where a test makes its application in one."""
    program = """
import datetime as dt
from freezegun import freeze_time

with freeze_time("2030-01-02"):
    from flask_mongo_session.document import codec
    inside = dt.datetime.now(dt.timezone.utc)
    encoded = codec.encode("key", [inside, inside.date(), inside.replace(microsecond=1)])
    assert not codec.differs(codec.decode(encoded), encoded)

outside = dt.datetime.now(dt.timezone.utc)
for values in ([inside, inside.date()], [outside, outside.date()]):
    encoded = codec.encode("key", values)
    assert codec.decode(encoded) == values
    assert [type(value) for value in codec.decode(encoded)] == [dt.datetime, dt.date]
    assert type(values[0]) in codec.IMMUTABLE or values[0] is inside
"""
    subprocess.run([sys.executable, "-c", program], check=True)
