"""The codec: what goes in comes out, equal and of the same type; what cannot is refused by name."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import enum
import math
import operator
import os
import pathlib
import re
import subprocess
import sys
import typing
import uuid
from decimal import Decimal
from zoneinfo import ZoneInfo

import bson
import pytest
from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, ObjectId, Regex, Timestamp
from flask import session
from flask.json.tag import TaggedJSONSerializer
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from mongoengine import EmbeddedDocument as BaseModel
from werkzeug.datastructures import MultiDict
from werkzeug.local import LocalProxy

import flask_mongo_session
from flask_mongo_session import UnstorableValue
from flask_mongo_session.document.codec import (
    IMMUTABLE,
    MAX_DEPTH,
    decode,
    differs,
    encode,
    field_name,
    key_name,
    same,
    size,
)
from flask_mongo_session.exceptions import DamagedDocument
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS

UTC = dt.timezone.utc
PACKAGE = str(pathlib.Path(flask_mongo_session.__file__).parent)
PLUS = dt.timezone(dt.timedelta(hours=5, minutes=45))
NOON = dt.datetime(2024, 7, 1, 12, tzinfo=UTC)
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
    assert field_name(Text(one)) == name
    assert type(field_name(Text(one))) is str
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
    __slots__ = ()


class Point(typing.NamedTuple):
    x: int


class Level(enum.IntEnum):
    LOW = 1


class Colour(str, enum.Enum):
    RED = "red"


class Plain(enum.Enum):
    ONE = 1


class OAuth2Token(dict):
    """As oauthlib's and Authlib's: a dictionary with attributes, and methods that it overrides."""

    def __init__(self, params):
        super().__init__(params)
        self.scope = "all"


class Lazy:
    """A translation that is looked up when it is shown, as Flask-Babel's."""

    def __str__(self):
        return "hello"

    def __html__(self):
        return str(self)


class LazyText:
    """The same, without markup: what is asked of it is asked of the text."""

    def __str__(self):
        return "hello"

    def __getattr__(self, name):
        return getattr(str(self), name)


@dataclasses.dataclass
class Address:
    street: str
    lines: list


class FakeDate(dt.date):
    """As freezegun's."""


class FakeDatetime(dt.datetime):
    """As freezegun's."""


# What is assigned, and what the next request reads.
LOOKALIKES = [
    (Text("x"), "x"),
    (Colour.RED, "red"),
    (Level.LOW, 1),
    (Int64(5), 5),
    (Code("f()"), "f()"),
    (type("Real", (float,), {})(1.5), 1.5),
    (type("Blob", (bytes,), {})(b"x"), b"x"),
    (Point(1), (1,)),
    (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (collections.defaultdict(list, a=[1]), {"a": [1]}),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (MultiDict([("a", "1"), ("a", "2")]), {"a": "1"}),
    (OAuth2Token({"access_token": "x", "expires_at": 1.5}), {"access_token": "x", "expires_at": 1.5}),
    (type("Rows", (list,), {})([Text("a")]), ["a"]),
    (Lazy(), Markup("hello")),
    (LazyText(), "hello"),
    (collections.UserString("x"), "x"),
    (type("Marked", (str,), {"__html__": lambda self: f"<{self}>"})("b"), Markup("<b>")),
    (LocalProxy(lambda: {"a": [1]}), {"a": [1]}),
    (LocalProxy(lambda: [1]), [1]),
    (Address("Main St", [Text("1")]), {"street": "Main St", "lines": ["1"]}),
    (type("Id", (uuid.UUID,), {})(int=5), uuid.UUID(int=5)),
    (type("Money", (Decimal,), {})("1.10"), Decimal("1.10")),
    (type("Money", (Decimal,), {})("NaN"), Decimal("NaN")),
    (FakeDatetime(2024, 2, 29, 1, 2, 3, 4000, tzinfo=UTC), dt.datetime(2024, 2, 29, 1, 2, 3, 4000, tzinfo=UTC)),
    (FakeDatetime(2024, 2, 29, 1, 2, 3, 4), dt.datetime(2024, 2, 29, 1, 2, 3, 4)),  # noqa: DTZ001
    (FakeDatetime(2024, 2, 29, tzinfo=PLUS), dt.datetime(2024, 2, 29, tzinfo=PLUS)),
    (FakeDate(2024, 2, 29), dt.date(2024, 2, 29)),
    (type("Clock", (dt.time,), {})(1, 2), dt.time(1, 2)),
    (type("Span", (dt.timedelta,), {})(1, 2), dt.timedelta(1, 2)),
    (type("Bag", (set,), {})({1}), {1}),
    (type("Bag", (frozenset,), {})({1}), frozenset({1})),
]


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": (v,)}, lambda v: {1: v}], ids="vltd")
@pytest.mark.parametrize(("value", "wanted"), LOOKALIKES, ids=lambda value: type(value).__name__)
def test_lookalikes_are_stored_as_their_base(value, wanted, wrap):
    """A subclass or look-alike comes back as its base type, and does not look changed in the meantime."""
    assert_identical(through_bson(wrap(value)), wrap(wanted))
    assert not differs(wrap(value), encode("key", wrap(value)))
    assert not differs(wrap(wanted), encode("key", wrap(value)))


_OURS_ALONE = (dt.date, dt.time, dt.timedelta, Decimal, set, frozenset, LazyText, collections.UserString)


@pytest.mark.parametrize(("value", "wanted"), LOOKALIKES, ids=lambda value: type(value).__name__)
def test_what_flask_takes(app, value, wanted):
    """Flask's own session takes the same and gives back the same, but for types of which only ours knows more."""
    if isinstance(value, _OURS_ALONE):
        return

    with app.app_context():
        serializer = TaggedJSONSerializer()
        assert serializer.loads(serializer.dumps({"key": value})) == {"key": wanted}


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (Text("a"), "a"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Markup("a"), Markup("a")),
        (FakeDate(2024, 2, 29), dt.date(2024, 2, 29)),
        (Point(1), (1,)),
    ],
    ids=ascii,
)
def test_keys_of_dictionaries(key, wanted):
    """Keys are stored as values are: by their base type, exactly."""
    assert_identical(through_bson([{"a": 1}, {"z": 0, key: 1}]), [{"a": 1}, {"z": 0, wanted: 1}])
    assert not differs({"z": 0, key: 1}, encode("key", {"z": 0, key: 1}))


class Thing:
    pass


class Model(BaseModel):
    pass


REFUSED = [
    (object(), "vars("),
    (Plain.ONE, ".value"),
    (Address, "its name"),
    (collections.deque(), "list("),
    (range(3), "list("),
    (iter([1]), "list("),
    (collections.UserDict(a=1), "dict("),
    (bytearray(b"x"), "bytes("),
    (1j, "str("),
    (ValueError("x"), "str("),
    (re.compile("secret"), "plain type"),
    (print, "its name"),
    (os, "its name"),
    (Thing(), "vars("),
    (Model(), "its id"),
    (LocalProxy(lambda: 5), "_get_current_object"),
    (DBRef("a", 1), "plain type"),
    (type("Bad", (), {"__html__": repr}), "its name"),
]


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda v: v, ""),
        (lambda v: [1, v], r" at basket\[1\]"),
        (lambda v: {"a": (1, v)}, r" at basket\.a\[1\]"),
        (lambda v: {1: v}, r" at basket\[…\]"),
        (lambda v: {"b": 1, "someone@example.org": [{"c": v}]}, r" at basket\[…\]\[0\]\.c"),
        (lambda v: Address("", [Point(v)]), r" at basket\.lines\[0\]\[0\]"),
    ],
    ids=["value", "list", "tuple", "number", "address", "dataclass"],
)
@pytest.mark.parametrize(("value", "way_out"), REFUSED, ids=lambda value: type(value).__name__)
def test_everything_else_is_refused_by_name(value, way_out, wrap, path):
    """A value that Flask refuses, too, raises TypeError naming key, path, type and a way out, never the value."""
    with pytest.raises(TypeError) as caught:
        encode("basket", wrap(value))

    assert isinstance(caught.value, UnstorableValue)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    assert re.fullmatch(
        rf"Session key 'basket' cannot hold a value of type {re.escape(kind)}{path}: .*{re.escape(way_out)}.*",
        str(caught.value),
    )
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_unstorable_keys_are_refused():
    """A dictionary's key, or an item of a set, that cannot be stored is refused like a value."""
    with pytest.raises(UnstorableValue, match=r"'key' cannot hold a value of type builtins\.object at key\[0\]\.a:"):
        encode("key", [{"a": {object(): 1}}])
    with pytest.raises(UnstorableValue, match=r"type builtins\.object at key\[0\]\.a\[…\]:"):
        encode("key", [{"a": {object()}}])


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
        DBRef("a", 1),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_damage_is_told_apart(stored):
    """What the encoder never makes is a damaged document, whatever is wrong with it."""
    with pytest.raises(DamagedDocument):
        decode(stored)


def test_endless_nesting_is_damage():
    """What no server stores ends in the same error, not in a crash."""
    for wrap in WRAPPERS[:2]:
        with pytest.raises(DamagedDocument):
            decode(nested(2000, wrap, 0))


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


#: As the driver reads dates fastest.
NAIVE = CODEC_OPTIONS.with_options(tz_aware=False, tzinfo=None)


def stored(value, options=CODEC_OPTIONS):
    """The encoded value as it comes back from a database."""
    return bson.decode(bson.encode({"": encode("key", value)}, codec_options=CODEC_OPTIONS), options)[""]


@pytest.mark.parametrize("options", [CODEC_OPTIONS, NAIVE], ids=["aware", "naive"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_untouched_never_differs(value, options):
    """What was read, or assigned, and not changed since is found to be the same, whatever it is."""
    for encoded in (encode("key", value), stored(value, options)):
        assert_identical(decode(encoded), value)
        assert not differs(decode(encoded), encoded)
        assert not differs(copy.deepcopy(decode(encoded)), encoded)
        assert not differs(value, encoded)


def containers(value):
    """The ids of all lists, dictionaries and sets in a value."""
    if isinstance(value, dict):
        return {id(value)}.union(*map(containers, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union([id(value)] if isinstance(value, list) else [], *map(containers, value))

    return {id(value)} if isinstance(value, set) else set()


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_encoded_and_value_share_nothing(value):
    """What the application changes is never what it is compared with."""
    encoded = encode("key", value)

    assert not containers(encoded) & containers(value)
    assert not containers(encoded) & containers(decode(encoded))


@pytest.mark.parametrize("options", [CODEC_OPTIONS, NAIVE], ids=["aware", "naive"])
def test_no_call_for_each_scalar(options):
    """Decoding calls Python functions for containers, never for what is in them, dates included."""
    encoded = stored([{"at": NOON, "n": number, "x": 0.5, "all": [NOON] * 5} for number in range(50)], options)
    calls = collections.Counter()

    def count(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        decode(encoded)
    finally:
        sys.setprofile(None)

    # Before Python 3.12 a comprehension is a call, too.
    calls.pop("<listcomp>", None)
    assert calls == {"decode": 1, "_read_list": 51, "_read_dict": 50}


BERLIN = ZoneInfo("Europe/Berlin")


class Unknown:
    """A type that nobody stores."""

    def __repr__(self):
        return "<unknown>"


UNKNOWN = Unknown()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (1.0, True),
        (0, False),
        (0, None),
        (math.nan, 0.0),
        ("a", b"a"),
        ("a", Markup("a")),
        (2**63, 2**63 - 1),
        (2**70, 2**70 + 1),
        ([1], (1,)),
        ({1}, {1, 2}),
        ({1}, frozenset({1})),
        ([1, 2], [2, 1]),
        ([], {}),
        ([1], []),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {"b": 1}),
        ({1: 2}, {"1": 2}),
        ({1: 2}, {True: 2}),
        ({1: 2}, {1: 3}),
        ({1: 2}, {1: 2, 3: 4}),
        ({"a": 1}, {Markup("a"): 1}),
        ((1, [2]), (1, [3])),
        (NOON, NOON.astimezone(BERLIN)),
        (NOON, NOON.replace(tzinfo=None)),
        (NOON, NOON.replace(microsecond=1)),
        (NOON, NOON.replace(microsecond=1000)),
        (NOON.astimezone(BERLIN), NOON),
        (dt.date(2024, 1, 1), dt.datetime(2024, 1, 1)),  # noqa: DTZ001
        (Decimal(1), Decimal("1.0")),
        (Decimal(1), 1),
        (b"a", Binary(b"a", 3)),
        (uuid.UUID(int=1), uuid.UUID(int=2)),
        (1, UNKNOWN),
        ([1], [UNKNOWN]),
        ({"a": 1}, {"a": UNKNOWN}),
        (DatetimeMS(5), 5),
    ],
    ids=ascii,
)
def test_changes_are_seen(before, after):
    """What would be stored otherwise differs, at the top and nested, whatever Python's equality says."""
    for wrap in (lambda v: v, lambda v: [v], lambda v: {"a": v}, lambda v: {5: v}, lambda v: (v,)):
        for encoded in (encode("key", wrap(before)), stored(wrap(before)), stored(wrap(before), NAIVE)):
            assert differs(wrap(after), encoded)


def test_other_widths_of_an_integer_are_no_change():
    """What the database computed, or another program stored, is not written back only to be narrower."""
    encoded = {"a": Int64(5), "b": [Int64(2**40)]}

    assert_identical(decode(encoded), {"a": 5, "b": [2**40]})
    assert not differs(decode(encoded), encoded)
    assert same(5, Int64(5))
    assert differs({"a": 6, "b": [2**40]}, encoded)


def test_what_cannot_be_compared_differs():
    """Whatever a value's own methods raise, the comparison only says that it cannot tell."""

    class Rude(dict):
        def items(self):
            raise RuntimeError

    assert differs(Rude(a=1), {"a": 1})
    assert differs([1], {"~t": "nonsense", "v": [1]})
    assert differs((1,), {"~t": "tuple"})


@st.composite
def _mutations(draw):
    """A value, and the same after one random place in it was given another value."""
    value = draw(_values)
    changed = copy.deepcopy(value)
    place, steps = changed, draw(st.integers(1, 3))
    for _ in range(steps):
        if not isinstance(place, (list, dict)) or not place:
            break
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not isinstance(inner, (list, dict)) or not inner or draw(st.booleans()):
            place[key] = draw(_values | st.just(inner) | st.sampled_from([0, 0.0, -0.0, False, "", None, math.nan]))
            break
        place = inner

    return value, changed


@settings(max_examples=400, deadline=None)
@given(_mutations())
def test_differs_is_what_comparing_the_encodings_says(values):
    """Walking both says what encoding both says, over random changes."""
    before, after = values
    for encoded in (encode("key", before), stored(before), stored(before, NAIVE)):
        assert not differs(decode(encoded), encoded)
        assert differs(after, encoded) is not same(encode("key", after), encoded)


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
