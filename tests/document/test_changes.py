"""What a request does, as data: update, pipeline and the replay on a copy come to the same."""

from __future__ import annotations

import datetime as dt

import bson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mongoengine import IntField
from pymongo.errors import WriteError

from flask_mongo_session.document.changes import (
    REMOVE,
    WIDE,
    Assign,
    Changes,
    Push,
    added,
    listed,
    pipeline_of,
    update_of,
)
from flask_mongo_session.document.codec import by_key, field_name
from flask_mongo_session.document.mapper import DocumentMapper
from flask_mongo_session.document.schema import Schema

START = {"n": 1, "x": 0.5, "items": [1, 2], "text": "a"}
PATH = Schema({}).path

_operations = st.lists(
    st.one_of(
        st.tuples(st.just("assign"), st.sampled_from(["n", "items", "text", "new"]), st.integers(0, 9)),
        st.tuples(st.just("remove"), st.sampled_from(["n", "x", "items", "text", "absent"])),
        st.tuples(st.just("add"), st.sampled_from(["n", "x", "fresh"]), st.integers(-5, 5)),
        st.tuples(
            st.just("append"), st.sampled_from(["items", "list"]), st.integers(0, 9), st.none() | st.integers(1, 3)
        ),
    ),
    max_size=6,
)


def recorded(operations):
    """The changes, leaving out what the session itself computes: additions to what this request wrote or removed."""
    changes = Changes()
    for name, key, *rest in operations:
        own = changes.get(key)
        if name in ("add", "append") and (own is REMOVE or isinstance(own, Assign)):
            continue
        getattr(changes, name)(key, *rest)

    return changes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_operations)
@pytest.mark.parametrize("make", [update_of, pipeline_of])
def test_replay_equals_update(sessions, make, operations):
    """Whatever was recorded: the server's update, one by one or as a pipeline, and the replay leave the same values."""
    changes = recorded(operations)
    copy = dict(START)
    changes.replay(copy)

    sessions.replace_one({"_id": 1}, {"data": dict(START), "old": 1}, upsert=True)
    sessions.update_one({"_id": 1}, make(changes, PATH, {"said": 5, "old": None}))

    assert sessions.find_one() == {"_id": 1, "data": copy, "said": 5}
    assert bool(changes) is bool(make(changes, PATH, {}))
    assert changes.names == {key for _, key, *_ in operations}


def test_one_operation_for_each_key():
    """A key has one pending operation, since an update may name a path only once; metadata is set, or removed."""
    changes = Changes()
    changes.add("a", 1)
    changes.add("a", 2)
    changes.append("b", 1, None)
    changes.append("b", 2, 5)
    changes.assign("c", 1)
    changes.remove("c")
    changes.remove("d")
    changes.assign("d", 1)

    assert update_of(changes, str, {"permanent": True, "deadline": None}) == {
        "$set": {"d": 1, "permanent": True},
        "$unset": {"c": "", "deadline": ""},
        "$inc": {"a": 3},
        "$push": {"b": {"$each": [1, 2], "$slice": -5}},
    }


@pytest.mark.parametrize("limits", [(None, None), (2, None), (2, 5), (5, 2), (None, 3), (3, 3, None, None)])
@pytest.mark.parametrize("make", [update_of, pipeline_of])
def test_each_append_keeps_its_own_bound(carry_out, make, limits):
    """Appends of one request come to what they would come to one after the other: none lifts the bound of another."""
    changes, wanted = Changes(), [1, 2, 3, 4]
    for number, limit in enumerate(limits):
        changes.append("v", number, limit)
        wanted = [*wanted, number][-(limit or 99) :]

    assert carry_out(make, {"v": [1, 2, 3, 4]}, changes)["v"] == wanted


def test_without():
    """The same changes but those of some keys; the changes themselves stay."""
    changes = Changes()
    changes.assign("a", 1)
    changes.remove("b")

    assert changes.without({"a"}) == {"b": REMOVE}
    assert changes.names == {"a", "b"}


@pytest.mark.parametrize("value", [{"$gt": ""}, "$data.n", {"$literal": 1}, ["$$ROOT"], {"a": {"$add": [1, 2]}}])
def test_a_pipeline_takes_values_for_values(sessions, value):
    """Nothing of a value acts as an operator or a path, not even in the language of pipelines."""
    changes = Changes()
    changes.assign("v", value)
    changes.append("l", value, None)
    sessions.insert_one({"_id": 1, "data": {"n": 7}})
    sessions.update_one({"_id": 1}, pipeline_of(changes, lambda key: f"data.{key}", {"said": "$data.n"}))

    assert sessions.find_one() == {"_id": 1, "data": {"n": 7, "v": value, "l": [value]}, "said": "$data.n"}


def test_a_pipeline_sets_a_declared_document_whole(sessions):
    """In a pipeline ``$set`` of a document merges; a field's value is replaced."""
    changes = Changes()
    changes.assign("field", {"b": 2})
    sessions.insert_one({"_id": 1, "field": {"a": 1}, "data": {}})
    sessions.update_one({"_id": 1}, pipeline_of(changes, str, {}))

    assert sessions.find_one()["field"] == {"b": 2}


def filler(count=WIDE + 1):
    """More keys than an update names one by one, so that the mapper makes a pipeline."""
    return {f"filler{number}": number for number in range(count)}


@pytest.fixture
def carry_out(sessions):
    """What one record holds under ``v`` after changes made one by one or as a pipeline; ``"refused"`` for an error."""

    def carry_out(make, stored, changes, path=PATH):
        sessions.replace_one({"_id": 1}, {"data": dict(stored)}, upsert=True)
        try:
            sessions.update_one({"_id": 1}, make(changes, path, {}))
        except WriteError:
            assert typed(sessions.find_one()["data"]) == typed(stored)
            return "refused"

        return sessions.find_one()["data"]

    return carry_out


@pytest.fixture
def server_seconds(sessions):
    """How long the server says that it worked on the update of a call, the best of three."""

    def server_seconds(call):
        database = sessions.database
        for _ in range(3):
            database.command("profile", 2)
            call()
            database.command("profile", 0)
        entries = database["system.profile"].find({"op": "update"}, {"millis": True})
        return min(entry["millis"] for entry in entries) / 1000

    return server_seconds


def typed(data):
    """Values with their types, as BSON tells them apart."""
    return {name: bson.encode({"": value}) for name, value in data.items()} if isinstance(data, dict) else data


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_operations)
def test_more_than_a_hundred_keys(carry_out, operations):
    """The mapper's pipeline and an update with one operation for each key leave the same record, types included."""
    changes = recorded([*operations, *(("assign", key, value) for key, value in filler().items())])
    mapper = DocumentMapper(Schema({}))
    assert isinstance(mapper.update("sid", changes, {}), list)

    wide = carry_out(lambda changes, *_: mapper.update("sid", changes, {}), START, changes)
    assert typed(wide) == typed(carry_out(update_of, START, changes))
    assert filler().items() <= wide.items()


def test_a_hundred_keys_go_one_by_one():
    """A pipeline begins where its price is worth it, and however many keys one update names."""
    changes = Changes({key: Assign(1) for key in filler(WIDE)})
    mapper, stored = DocumentMapper(Schema({})), filler()
    assert isinstance(mapper.update("sid", changes, {}, stored), dict)
    changes.assign("one more", 1)
    assert isinstance(mapper.update("sid", changes, {}, stored), list)


NAMES = st.text(max_size=2) | st.sampled_from(["9", "10", "a", "B", "_id", "a.b", "a-b", "$a"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(NAMES, st.sampled_from(["assign", "add", "append", "remove"]), max_size=5),
    st.lists(NAMES, max_size=3, unique=True),
    st.sampled_from([0, WIDE + 1]),
)
@example({"b": "add", "c": "append", "a": "assign"}, ["z"], 0)
@example({"10": "assign", "9": "assign"}, [], 0)
@example({"b": "add", "a": "assign"}, [], WIDE + 1)
def test_new_keys_keep_their_order(carry_out, kinds, stored, more):
    """They follow those that are stored, in the order in which they came, whether the request knows those or not."""
    changes = Changes()
    for key, kind in {**kinds, **dict.fromkeys(filler(more), "assign")}.items():
        arguments = {"assign": (1,), "add": (1,), "append": (1, None), "remove": ()}
        getattr(changes, kind)(key, *arguments[kind])
    before = {field_name(key): [] if kinds.get(key) == "append" else 0 for key in stored}
    wanted = [key for key in dict.fromkeys([*stored, *changes]) if kinds.get(key) != "remove"]

    mapper = DocumentMapper(Schema({}))
    for known in ([], stored):
        update = mapper.update("sid", changes, {}, known)
        assert not update or [*by_key(carry_out(lambda *_, update=update: update, before, changes))] == wanted


@pytest.mark.parametrize(
    ("keys", "stored", "fields", "form"),
    [
        (["b"], [], {}, dict),
        (["a", "b"], [], {}, dict),
        (["b", "a"], [], {}, list),
        (["b", "a"], ["b"], {}, dict),
        (["9", "10"], [], {}, list),
        (["b", "a"], [], {"a": IntField(db_field="a")}, dict),
    ],
)
def test_a_pipeline_only_where_the_order_asks_for_it(keys, stored, fields, form):
    """The everyday update names its keys one by one. Declared keys have no order."""
    mapper = DocumentMapper(Schema(fields))
    changes = Changes({**dict.fromkeys(keys, Assign(1)), "_removed": REMOVE})

    assert isinstance(mapper.update("sid", changes, {}, stored), form)


STORED = {
    "int": 5,
    "the largest of 32 bits": 2**31 - 1,
    "long": 2**40,
    "the largest of 64 bits": 2**63 - 1,
    "the smallest of 64 bits": -(2**63),
    "double": 0.5,
    "a double beyond 64 bits": 1e300,
    "nan": float("nan"),
    "infinity": float("inf"),
    "text": "5",
    "bool": True,
    "null": None,
    "date": dt.datetime(2020, 1, 1),  # noqa: DTZ001 - as a plain client reads it
    "bytes": b"5",
    "list": [1, 2, 3],
    "no items": [],
    "document": {"a": 1},
}
ACTS = {
    "+ 1": lambda changes: changes.add("v", 1),
    "- 1": lambda changes: changes.add("v", -1),
    "+ 2 ** 62": lambda changes: changes.add("v", 2**62),
    "+ 0.25": lambda changes: changes.add("v", 0.25),
    "append": lambda changes: changes.append("v", 9, None),
    "append, keep two": lambda changes: changes.append("v", 9, 2),
    "append a document": lambda changes: changes.append("v", {"$add": ["$v", 1]}, None),
    "remove": lambda changes: changes.remove("v"),
    "assign": lambda changes: changes.assign("v", {"b": [1]}),
}


@pytest.mark.parametrize("stored", [{}, *({"v": value} for value in STORED.values())], ids=["absent", *STORED])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_one_by_one_and_wide_agree(carry_out, act, stored):
    """Whatever is stored: the same value of the same type, or both refuse and nothing changes."""
    changes = Changes()
    act(changes)

    assert typed(carry_out(pipeline_of, stored, changes)) == typed(carry_out(update_of, stored, changes))


@pytest.mark.parametrize(
    ("stored", "act"),
    [
        ("x", "+ 1"),
        (True, "+ 1"),
        (None, "+ 1"),
        (dt.datetime(2020, 1, 1), "+ 1"),  # noqa: DTZ001
        (2**63 - 1, "+ 1"),
        (-(2**63), "- 1"),
        (1, "append"),
        ({"a": 1}, "append"),
        (None, "append, keep two"),
    ],
)
@pytest.mark.parametrize("make", [update_of, pipeline_of])
def test_what_cannot_be_computed_is_refused(carry_out, make, stored, act):
    """No number, no list, beyond 64 bits: the server refuses, in a pipeline too, and none of the changes is made."""
    changes = Changes({key: Assign(1) for key in filler()})
    ACTS[act](changes)

    assert carry_out(make, {"v": stored}, changes) == "refused"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=4), st.sampled_from(["assign", "add", "append", "remove"]), max_size=8))
@example(
    {"": "add", "0": "append", "a.b": "add", "$a": "append", "%": "assign", "$": "remove", "é": "add", "\0": "add"}
)
def test_any_text_is_a_key(carry_out, kinds):
    """Dots, dollars, digits, nothing at all: no key is a path or an operator, in neither form."""
    changes, stored = Changes(), {}
    for key, kind in kinds.items():
        arguments = {"assign": (1,), "add": (1,), "append": (1, 3), "remove": ()}
        getattr(changes, kind)(key, *arguments[kind])
        stored[field_name(key)] = [0] if kind == "append" else 0
    wanted = {key: value for key, value in by_key(stored).items() if kinds[key] != "remove"}
    for key in wanted:
        wanted[key] = [0, 1] if kinds[key] == "append" else 1

    for make in (update_of, pipeline_of):
        if changes:
            assert by_key(carry_out(make, stored, changes)) == wanted


def test_thirty_thousand_keys(sessions, server_seconds):
    """A wide update costs the server no more than its size asks for: well under a second, where one by one takes 7."""
    changes = Changes({f"key{number}": Assign(number) for number in range(30_000)})
    changes.add("n", 1)
    sessions.insert_one({"_id": 1, "data": {"kept": 1, "n": 1}})
    update = DocumentMapper(Schema({})).update("sid", changes, {})

    assert server_seconds(lambda: sessions.update_one({"_id": 1}, update)) < 0.5
    stored = sessions.find_one()["data"]
    assert len(stored) == 30_002
    assert (stored["kept"], stored["key29999"]) == (1, 29_999)


def test_four_thousand_keys_computed(sessions, server_seconds):
    """The same for numbers and lists that the database computes, most of them not there yet, beside many others."""
    changes = Changes()
    for number in range(2_000):
        changes.add(f"n{number}", 1)
        changes.append(f"list{number}", number, 3)
    sessions.insert_one({"_id": 1, "data": {f"other{number}": 1 for number in range(10_000)} | {"n7": 1}})
    update = DocumentMapper(Schema({})).update("sid", changes, {})

    assert server_seconds(lambda: sessions.update_one({"_id": 1}, update)) < 1.5
    stored = sessions.find_one()["data"]
    assert len(stored) == 14_000
    assert (stored["n7"], stored["n8"], stored["list8"]) == (4, 3, [8, 8, 8])


@pytest.mark.parametrize("value", ["1", True, None, [1], {}])
def test_no_number_is_incremented(value):
    """What is no number is not added to; the key and the type are named, not the value."""
    with pytest.raises(TypeError, match=rf"'key'.*{type(value).__name__}"):
        added("key", value, 1)


@pytest.mark.parametrize("value", ["12", 1, None, {"a": 1}])
def test_no_list_is_appended_to(value):
    """What is no list is not appended to."""
    with pytest.raises(TypeError, match=rf"'key'.*{type(value).__name__}"):
        listed("key", value)


def test_replay_leaves_the_stored_list_alone():
    """The copy that was read must not change with the replay, or a later comparison finds nothing."""
    stored = {"items": [1]}
    changes = Changes({"items": Push([2])})
    changes.replay(copy := dict(stored))

    assert (stored, copy) == ({"items": [1]}, {"items": [1, 2]})
