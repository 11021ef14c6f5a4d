"""The codec: what goes in comes out, equal and of the same type; what cannot is refused by name."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import math
import operator
import os
import re
import subprocess
import sys
import typing
import uuid
from decimal import Decimal
from zoneinfo import ZoneInfo

import bson
import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, ObjectId, Regex, Timestamp
from flask import session
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from flask_mongo_session import UnstorableValue
from flask_mongo_session.document.codec import (
    CODEC_OPTIONS,
    IMMUTABLE,
    MAX_DEPTH,
    decode,
    encode,
    field_name,
    key_name,
    same,
    size,
)
from flask_mongo_session.exceptions import DamagedDocument

UTC = dt.timezone.utc
PLUS = dt.timezone(dt.timedelta(hours=5, minutes=45))
ODD = dt.timezone(dt.timedelta(hours=-1, minutes=-2, seconds=-3, microseconds=-4))

VALUES = [
    None,
    True,
    False,
    *(0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**70, -(2**70)),
    *(0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324),
    *("", "text", "grün 🍀", "a\0b", "\ud800", "$set", "~t"),
    *(b"", b"\0\xff"),
    *([], [1, "two", [3.0]], [[]], [None]),
    *({}, {"a": 1}, {1: "int"}, {"1": 1, 1: 2}, {"$set": 1}, {"a.b": 1}, {"": 1}, {"a\0b": 1}, {"~t": "set", "v": []}),
    {None: 1, (1, 2): [2], b"b": {}, "\udfff": 3, 1.5: 4, dt.date(2024, 2, 29): 5},
    *((), (1,), ((),), ([],)),
    *(set(), {1, "1", 1.5, None}, {(1, frozenset({2}))}),
    *(frozenset(), frozenset({"x", b"x"})),
    *(Markup(""), Markup("<b>&amp;</b>"), Markup("\ud800")),
    dt.datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=UTC),
    dt.datetime(2024, 2, 29, 12, 30, 15, 250_001, tzinfo=UTC),
    dt.datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001 - a naive one is meant
    dt.datetime(2024, 2, 29, 12, 30, 1, 1),  # noqa: DTZ001
    dt.datetime(2024, 2, 29, 12, tzinfo=PLUS),
    dt.datetime(2024, 2, 29, 12, tzinfo=ODD),
    dt.datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
    *(dt.datetime.min, dt.datetime.max),  # noqa: DTZ901
    *(dt.datetime.min.replace(tzinfo=UTC), dt.datetime.max.replace(tzinfo=UTC)),
    *(dt.date.min, dt.date.max),
    *(dt.time(), dt.time(23, 59, 59, 999_999), dt.time(1, tzinfo=PLUS)),
    *(dt.timedelta(), dt.timedelta.min, dt.timedelta.max, dt.timedelta(days=-1, microseconds=1)),
    *(uuid.UUID(int=0), uuid.UUID("12345678-1234-4234-8234-123456789abc")),
    *(Decimal(0), Decimal("-1.10"), Decimal("1E+400"), Decimal("NaN"), Decimal("-Infinity"), Decimal("0." + "3" * 60)),
    *(ObjectId("0123456789abcdef01234567"), Decimal128("1.10"), Timestamp(1, 2), Regex("a", "i")),
    *(Binary(b"x"), Binary(b"x" * 16, 4), Binary(b"x", 4), Binary(b"x" * 16, 3)),
    *(Binary(b"x", 2), Binary(b"x", 128)),
    *(DatetimeMS(0), DatetimeMS(2**62)),
    {"deep": [({"set": {(1, frozenset({Markup("x")}))}, 3: Decimal(1)}, {"a": [b"", (2**70, uuid.UUID(int=1))]})]},
]


def through_bson(value):
    """The value as it comes back from a database."""
    return decode(bson.decode(bson.encode({"": encode("key", value)}, codec_options=CODEC_OPTIONS), CODEC_OPTIONS)[""])


def assert_identical(one, other):
    """Equal in value and in type, all the way down; NaN is itself here, and -0.0 is not 0.0."""
    assert type(one) is type(other)

    if isinstance(one, dict):
        assert len(one) == len(other)
        for (key, value), (other_key, other_value) in zip(one.items(), other.items(), strict=True):
            assert_identical(key, other_key)
            assert_identical(value, other_value)
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for item, other_item in zip(one, other, strict=True):
            assert_identical(item, other_item)
    elif isinstance(one, (set, frozenset)):
        assert sorted(map(described, one)) == sorted(map(described, other))
    elif isinstance(one, dt.datetime):
        assert (one, one.utcoffset()) == (other, other.utcoffset())
    elif isinstance(one, (float, Decimal)):
        assert repr(one) == repr(other)
    else:
        assert one == other


def described(value):
    """A text that tells equal values of different types apart."""
    inner = sorted(map(described, value)) if isinstance(value, (tuple, frozenset)) else repr(value)
    return f"{type(value).__name__}:{inner}"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_round_trip(value):
    """Every kind of value comes back equal and of the same type."""
    assert_identical(through_bson(value), value)


def test_round_trip_through_the_server(app):
    """The same for all of them at once in one session on a real server, read by a second request."""

    @app.get("/put")
    def put():
        session.update({str(number): value for number, value in enumerate(VALUES)})
        return "ok"

    @app.get("/check")
    def check():
        for number, value in enumerate(VALUES):
            assert_identical(session[str(number)], value)
        return "same"

    browser = app.test_client()
    browser.get("/put")

    assert browser.get("/check").text == "same"


_keys = st.text(st.characters(), max_size=8)
_unfold = operator.methodcaller("replace", fold=0)  # equality does not look at it
_dates = st.datetimes(timezones=st.none() | st.just(UTC) | st.just(PLUS)).map(_unfold)
_times = st.times().map(_unfold)
_hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()) | st.binary()
    | st.decimals(allow_nan=False) | _dates | st.dates() | _times | st.timedeltas() | st.uuids()
    | st.text().map(Markup),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_values = st.recursive(
    _hashable | st.sets(_hashable, max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_hashable, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=150, deadline=None)
@given(_values)
def test_any_value_round_trips(value):
    """The property behind the list, for whatever Hypothesis thinks of."""
    assert_identical(through_bson(value), value)


@settings(max_examples=300, deadline=None)
@given(_keys, _keys)
def test_any_text_is_a_key(one, other):
    """Key and field name translate back and forth; a field name is neither a path nor an operator; none collide."""
    name = field_name(one)

    assert key_name(name) == one
    assert name
    assert "." not in name
    assert not name.startswith("$")
    bson.encode({name: 1})
    assert (field_name(other) == name) is (other == one)


@pytest.mark.parametrize("key", ["a.b", "$set", "", "a\0b", "%", "%0025", "~t", "_id", "data", "token", "\ud800", "0"])
def test_odd_keys_on_the_server(app, key):
    """Keys that MongoDB would take for a path, an operator or an error are just keys: set, read and removed."""

    @app.get("/set")
    def put():
        session["other"], session[key] = 1, "value"
        return ""

    @app.get("/get")
    def get():
        return str(session.pop(key))

    @app.get("/in")
    def contains():
        return str([key in session, "other" in session])

    browser = app.test_client()
    browser.get("/set")

    assert browser.get("/get").text == "value"
    assert browser.get("/in").text == "[False, True]"


class Text(str):
    """A subclass comes back as its base: refused."""

    __slots__ = ()


class Point(typing.NamedTuple):
    x: int


class Colour(enum.IntEnum):
    RED = 1


REFUSED = [
    object(),
    Text("x"),
    Colour.RED,
    collections.OrderedDict(a=1),
    collections.defaultdict(list),
    Point(1),
    collections.deque(),
    bytearray(b"x"),
    1j,
    re.compile("a"),
    Int64(1),
    Code("f()"),
    range(3),
    print,
    ValueError("x"),
]


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": (v,)}, lambda v: {1: v}], ids="vltd")
@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_everything_else_is_refused_by_name(value, wrap):
    """A value that could not come back raises TypeError naming key and type, never the value."""
    with pytest.raises(TypeError) as caught:
        encode("basket", wrap(value))

    assert isinstance(caught.value, UnstorableValue)
    assert "'basket'" in str(caught.value)
    assert type(value).__qualname__ in str(caught.value)


def test_refused_at_assignment(app):
    """The view that assigns it gets the error; the session keeps what it had."""
    with app.test_request_context():
        session["key"] = 1
        with pytest.raises(TypeError, match=r"'key'.*builtins\.object"):
            session["key"] = object()

        assert session["key"] == 1


def nested(levels, wrap, core):
    for _ in range(levels):
        core = wrap(core)
    return core


WRAPPERS = [lambda v: [v], lambda v: {"a": v}, lambda v: {1: v}, lambda v: (v,), lambda v: {"k": [v]}]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=["list", "dict", "tagged dict", "tuple", "mixed"])
@pytest.mark.parametrize("core", [0, 2**70, "\ud800", [], (), {1: 2}, {(1,): {2}}, Markup("x")], ids=ascii)
def test_what_nests_deeply_is_stored_whole_or_refused(sessions, wrap, core):
    """At every depth around the limit: refused by name, or accepted by the server and read back unharmed."""
    outcomes = set()
    for levels in [*range(MAX_DEPTH // 4 - 2, MAX_DEPTH // 2 + 3), *range(MAX_DEPTH - 8, MAX_DEPTH + 3)]:
        value = nested(levels, wrap, core)
        try:
            encoded = encode("deep", value)
        except UnstorableValue:
            outcomes.add("refused")
        else:
            document = {"data": {"deep": encoded}}
            assert decode(bson.decode(bson.encode(document), CODEC_OPTIONS)["data"]["deep"]) == value
            deepest = document
            outcomes.add("stored")

    assert outcomes == {"refused", "stored"}
    sessions.insert_one(deepest)


def test_what_contains_itself_is_refused():
    """A list, a dictionary in themselves: an error, not a crash."""
    loop = []
    loop.append(loop)
    knot = {}
    knot["a"] = [knot, knot]

    for value in (loop, knot):
        with pytest.raises(TypeError, match="nested more than"):
            encode("key", value)


@pytest.mark.parametrize(
    "stored",
    [
        {"~t": "pickle", "v": b"cos\nsystem\n"},
        {"~t": "set"},
        {"~t": "set", "v": 3},
        {"~t": "set", "v": [[]]},
        {"~t": "date", "v": "yesterday"},
        {"~t": "decimal", "v": "one"},
        {"~t": "int", "v": "zz"},
        {"~t": "str", "v": "text"},
        {"~t": "timedelta", "v": [10**18, 0, 0]},
        {"~t": "dict", "v": [1]},
        {"~t": ["set"], "v": []},
        {"~t": None, "v": None},
        Code("f()"),
        nested(200, lambda v: [v], 0),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_damage_is_told_apart(stored):
    """What the encoder never makes is a damaged document, whatever is wrong with it."""
    with pytest.raises(DamagedDocument):
        decode(stored)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, True, False),
        (1, 1.0, False),
        (0.0, -0.0, False),
        (math.nan, math.nan, True),
        ([1, {"a": None}], [1, {"a": None}], True),
        ("a", b"a", False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
    ],
)
def test_same_compares_as_stored(one, other, alike):
    """Telling changed from unchanged goes by what is stored, not by Python's equality."""
    assert same(encode("k", one), encode("k", other)) is alike


def test_sets_are_stored_alike_whatever_the_hash_seed():
    """An untouched set must not look changed in another process, or every read would become a write."""
    program = (
        "import bson; from flask_mongo_session.document.codec import encode;"
        "values = ({'b', 'a', 'c', 1, None, b'x', (1, 'y')}, frozenset('hello world'));"
        "print(bson.encode({'': encode('k', values)}).hex())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }

    assert len(printed) == 1


def test_plain_values_stay_readable():
    """What BSON holds exactly is stored as it is, to be read in mongosh and queried."""
    plain = {"n": 1, "t": "x", "l": [1.5, None, True], "d": dt.datetime(2024, 1, 1, tzinfo=UTC), "o": ObjectId()}

    assert encode("key", plain) == plain


def test_mutable_types_are_compared():
    """Only what nobody can change in place is spared the comparison at the end of a request."""
    assert not IMMUTABLE & {list, dict, set, bytearray, tuple}


def test_size_is_that_of_the_document():
    """The size of a document is what BSON makes of it."""
    assert size({"a": "b"}) == len(bson.encode({"a": "b"}))
