"""How much longer changes make a record, at most: known without encoding what is simple."""

from __future__ import annotations

import pytest
from bson.int64 import Int64
from bson.objectid import ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mongoengine import StringField

from flask_mongo_session.document import codec
from flask_mongo_session.document.changes import Changes
from flask_mongo_session.document.mapper import DocumentMapper
from flask_mongo_session.document.schema import Schema
from flask_mongo_session.encryption import Sealer

#: A field stored under a name that is longer than its key.
LONG = Schema({"d": StringField(db_field="d" * 120)})
MAPPERS = {
    "plain": DocumentMapper(Schema({})),
    "declared": DocumentMapper(LONG),
    "encrypted": DocumentMapper(Schema({}, sealed=True), sealer=Sealer([bytes(32)])),
}

_keys = st.sampled_from(["a", "d", "", "%", "a.b", "$set", "\x00\x00", "\ud800", "é", "𝄞" * 9]) | st.text(max_size=20)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.text(max_size=200).filter(codec.is_unicode),
    st.binary(max_size=200),
    st.builds(ObjectId),
    st.datetimes().map(lambda at: at.replace(microsecond=0)),
)
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.just("k"), inner))
_operations = st.lists(
    st.tuples(st.just("assign"), _keys, _values)
    | st.tuples(st.just("remove"), _keys)
    | st.tuples(st.just("append"), _keys, _values, st.none() | st.integers(1, 3)),
    max_size=4,
)


def stored_size(mapper, encoded):
    return codec.size(mapper.document("s" * 22, encoded, {}))


@settings(max_examples=300, deadline=None)
@example({"a": [1] * 12_345}, [("append", "a", 1, None)] * 40)
@example({"a": Int64(1)}, [("assign", "a", 1)])
@example({"a": 1}, [("assign", "a", 1 << 40)])
@example({}, [("assign", "a", "𝄞" * 200)])
@given(st.dictionaries(_keys, _values, max_size=4), _operations)
@pytest.mark.parametrize("kind", MAPPERS)
def test_growth_is_never_more(kind, before, operations):
    """Whatever is stored, and whatever is done to it, the record grows by no more bytes than the mapper says."""
    mapper, changes = MAPPERS[kind], Changes()
    for name, key, *rest in operations:
        if name != "append" or (kind != "encrypted" and isinstance(before.get(key, []), list)):
            getattr(changes, name)(key, *rest)
    try:
        changes.replay(after := dict(before))
    except TypeError:  # an append to what was assigned
        return

    stored = mapper.gather(mapper.document("s" * 22, before, {}))
    assert stored_size(mapper, after) - stored_size(mapper, before) <= mapper.growth(changes, stored)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (True, False), (0.5, -0.0), (None, None), (1, -(1 << 31))])
def test_what_is_exchanged_for_the_same_kind_does_not_grow(before, after):
    """Then nobody has to weigh the record."""
    changes = Changes()
    changes.assign("a", after)

    assert MAPPERS["plain"].growth(changes, {"a": before}) == 0
    assert MAPPERS["plain"].growth(changes, {}) > 0
