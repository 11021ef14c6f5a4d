"""A session with declared and free-form keys behaves as a dictionary would, whatever is done to it, in any request."""

from __future__ import annotations

import copy
import datetime as dt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mongoengine import DictField, FloatField, IntField, ListField, StringField

from flask_mongo_session import MongoSessionStore, ServerSideSession, SessionDocument
from flask_mongo_session.mongo import clock
from flask_mongo_session.session.context import SessionContext
from flask_mongo_session.session.lifetime import Policy
from flask_mongo_session.session.session import draft_of
from flask_mongo_session.session.state import CookieContent, Phase
from flask_mongo_session.session.unit_of_work import UnitOfWork

UTC = dt.timezone.utc
DECLARED = ("theme", "count", "total", "cart", "seen", "settings")
DEFAULTS = {"theme": "light", "count": 0, "cart": [1], "seen": [], "settings": {"a": [1]}}


class DictionarySession(SessionDocument):
    theme = StringField(default="light")
    count = IntField(default=0)
    total = FloatField()
    cart = ListField(IntField(), default=lambda: [1])
    seen = ListField(StringField())
    settings = DictField(default={"a": [1]})
    meta = {"collection": "sessions"}  # noqa: RUF012 - MongoEngine's convention


ANYTHING = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=4)),
        *(
            st.binary(max_size=4),
            st.dates(),
            st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0)),
            st.decimals(allow_nan=False),
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
#: Their sums are exact: increments of one request are added up before they are added to what is stored.
QUARTERS = st.integers(-36, 36).map(lambda number: number / 4)
VALUES = {
    "theme": st.sampled_from(["light", "dark"]),
    "count": st.integers(-5, 5),
    "total": QUARTERS,
    "cart": st.lists(st.integers(0, 9), max_size=4),
    "seen": st.lists(st.text(max_size=3), max_size=4),
    "settings": st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 9), max_size=3), max_size=3),
    "": ANYTHING,
    "free.form": ANYTHING,
    "$set": ANYTHING,
    "list": st.lists(ANYTHING, max_size=4),
    "number": st.integers(-5, 5) | QUARTERS,
    "10": ANYTHING,
    "9": ANYTHING,
}
KEYS = st.sampled_from([*VALUES])
ITEMS = {"seen": st.text(max_size=3), "list": ANYTHING, "cart": st.integers(0, 9)}
#: Those with a default are refused unless the request itself knows the value.
BLIND = ("seen", "list")


def pairs(keys=KEYS):
    return keys.flatmap(lambda key: st.tuples(st.just(key), VALUES[key]))


@st.composite
def several(draw):
    return dict(draw(st.lists(pairs(), max_size=3)))


OPERATIONS = st.one_of(
    *[st.just(("next request",))] * 2,
    st.tuples(st.just("assign"), pairs()),
    st.tuples(st.just("update"), several()),
    st.tuples(st.just("|="), several()),
    st.tuples(st.just("setdefault"), pairs()),
    st.tuples(st.just("change"), KEYS, st.integers(0, 9)),
    st.tuples(st.just("change"), st.sampled_from(["cart", "settings", "list", "seen"]), st.integers(0, 9)),
    st.tuples(st.just("append"), st.sampled_from(BLIND).flatmap(lambda key: st.tuples(st.just(key), ITEMS[key]))),
    st.tuples(st.just("append"), st.just(("list", 0)), st.integers(1, 3)),
    st.tuples(st.just("increment"), st.sampled_from(["count", "total", "number"]), st.integers(-3, 3)),
    *(st.tuples(st.just(name), KEYS) for name in ("pop", "del", "get", "[]", "in", "popitem")),
    *(st.tuples(st.just(name)) for name in ("iterate", "len", "copy", "|", "items")),
)


class Dictionary(dict):
    """What the session is compared with: a dictionary that answers with defaults, each request with its own copies.

    A stored key that is removed and assigned again keeps its place, and declared keys have none: they come last here.
    """

    def __init__(self, stored=()):
        self.handed_out, self.stored = {}, stored

    def __iter__(self):
        in_place = dict.fromkeys(key for key in (*self.stored, *super().__iter__()) if key in self)
        return iter([key for key in in_place if key not in DECLARED] + [key for key in in_place if key in DECLARED])

    def __missing__(self, key):
        return self.handed_out.setdefault(key, copy.deepcopy(DEFAULTS[key]))

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.handed_out.pop(key, None)

    def update(self, other):
        for key, value in other.items():
            self[key] = value

    def __ior__(self, other):
        self.update(other)
        return self

    def get(self, key, default=None):
        try:
            return self[key]
        except KeyError:
            return default

    def settle(self):
        """A default that was changed in place is a value."""
        for key, value in list(self.handed_out.items()):
            if value != DEFAULTS[key]:
                self[key] = value

    def reloaded(self):
        """The same in another request."""
        other = Dictionary([*self])
        other.update(copy.deepcopy({**self}))
        return other


def deed_of(operation):
    """What is done, to a session or to the dictionary; its answer."""
    name, *arguments = operation
    return lambda mapping: DEEDS[name](mapping, *copy.deepcopy(arguments))


def change(mapping, key, number):
    """In place: whatever the value allows, at its outside or one level deeper."""
    value = mapping.get(key)
    inner = next((one for one in value.values() if isinstance(one, list)), None) if isinstance(value, dict) else None
    if inner is not None:
        inner.append(number)
    elif isinstance(value, dict):
        value["abc"[number % 3]] = [number]
    elif isinstance(value, list) and value and number % 2:
        value.pop()
    elif isinstance(value, list):
        value.append("x" if key == "seen" else number)


def append(mapping, key_and_item, limit=None):
    key, item = key_and_item
    if isinstance(mapping, dict):
        longer = [*dict.get(mapping, key, []), item]
        mapping[key] = longer if limit is None else longer[-limit:]
    else:
        mapping.append(key, item, limit)


def increment(mapping, key, by):
    if isinstance(mapping, dict):
        mapping[key] = dict.get(mapping, key, 0.0 if key == "total" else 0) + by
    else:
        mapping.increment(key, by)


def popitem(mapping, key):
    return mapping.pop(key, "nothing"), mapping.pop(key, "nothing")


def settled(mapping):
    """A dictionary, its changed defaults in it."""
    if isinstance(mapping, Dictionary):
        mapping.settle()
    return mapping


def items_of(mapping):
    """Keys with their values."""
    return sorted(map(repr, mapping.items()))


def free_keys(mapping):
    """The free-form keys in their order, and how many there are of all."""
    return [key for key in mapping if key not in DECLARED], len(mapping)


DEEDS = {
    "assign": lambda mapping, pair: mapping.__setitem__(*pair),
    "update": lambda mapping, other: mapping.update(other),
    "|=": lambda mapping, other: (mapping.__ior__(other), None)[1],
    "setdefault": lambda mapping, pair: settled(mapping).setdefault(*pair),
    "change": change,
    "append": lambda mapping, *arguments: append(settled(mapping), *arguments),
    "increment": increment,
    "pop": lambda mapping, key: settled(mapping).pop(key),
    "popitem": lambda mapping, key: popitem(settled(mapping), key),
    "del": lambda mapping, key: settled(mapping).__delitem__(key),
    "get": lambda mapping, key: mapping.get(key, "nothing"),
    "[]": lambda mapping, key: mapping[key],
    "in": lambda mapping, key: key in settled(mapping),
    "iterate": lambda mapping: free_keys(settled(mapping)),
    "len": lambda mapping: len(settled(mapping)),
    "copy": lambda mapping: items_of(settled(mapping).copy()),
    "|": lambda mapping: items_of({"n": 0} | (settled(mapping) | {"m": 1})),
    "items": lambda mapping: items_of(settled(mapping)),
}


def answer(deed, mapping):
    """What it answers, as text that tells types and orders apart, or the error."""
    try:
        return repr(copy.deepcopy(deed(mapping)))
    except KeyError as error:
        return repr(error)


class Visits:
    """Requests of one visitor: opened and saved as the interface does."""

    def __init__(self, store):
        self.store, self.token = store, None
        self.context = SessionContext(store.repository.mapper, store.connection.clock.estimate, ("user_id",))
        self.open()

    def open(self):
        self.reading = clock.boottime()
        self.session = ServerSideSession(self.context, self)

    def save(self):
        UnitOfWork(draft_of(self.session), self.store.repository, Policy(dt.timedelta(hours=1))).save()
        state = draft_of(self.session).state
        alive = state.cookie is not None and state.phase is not Phase.GONE
        self.token = f"{state.cookie.sid}.{state.cookie.token}" if alive else None

    # What a session asks of its request.

    over = static = False

    def cookie(self):
        return CookieContent(*self.token.split(".")) if self.token else None

    def find(self, sid, token):
        return self.store.repository.find(sid, token, self.reading)

    def loaded(self, found):
        pass

    @property
    def began(self):
        return self.store.connection.clock.at(self.reading)


@pytest.fixture
def store(database):
    """A bare store of the model."""
    store = MongoSessionStore(DictionarySession, database=database, cleanup_interval=0)
    yield store
    store.stop_cleanup()


def compare(store, operations):
    """Do all of them to a session and to a dictionary; they answer alike, and hold the same in the end."""
    visits, model = Visits(store), Dictionary()
    for operation in [*operations, ("next request",), ("copy",), ("iterate",)]:
        if operation[0] == "next request":
            model.settle()
            visits.save()
            visits.open()
            model = model.reloaded()
            continue
        deed = deed_of(operation)
        assert answer(deed, visits.session) == answer(deed, model), operation


def checked(examples, least, most):
    """The property, so many times, with that many operations at a time."""
    quiet = {"deadline": None, "suppress_health_check": [*HealthCheck], "database": None, "report_multiple_bugs": False}
    return lambda test: settings(max_examples=examples, **quiet)(
        given(st.lists(OPERATIONS, min_size=least, max_size=most))(test)
    )


@checked(40, 0, 40)
def test_any_operations(store, operations):
    """In place, defaults, append, increment, pop, del, update, ``|=``, order, over requests: as a dictionary."""
    compare(store, operations)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_thousand_operations(store):
    """The same, until twenty thousand operations were compared."""
    done = 0

    @checked(100, 30, 60)
    def compare_and_count(operations):
        nonlocal done
        done += len(operations)
        compare(store, operations)

    while done < 20_000:
        compare_and_count()
    assert done >= 20_000
