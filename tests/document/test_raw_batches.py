"""Raw batches: the short way gives what the long one gives, or says that it cannot."""

from __future__ import annotations

import uuid

import bson
import pytest
from bson import Code, DBRef, Int64, MaxKey, MinKey, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_mongo_session.document.codec import CODEC_OPTIONS, decode, encode
from flask_mongo_session.document.raw_batches import documents, plain_documents

_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.uuids()
) | st.tuples(st.integers())
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


def batch_of(*values):
    """Documents as a server sends them, encoded one after the other."""
    return b"".join(bson.encode({"v": encode("key", value)}, codec_options=CODEC_OPTIONS) for value in values)


@settings(max_examples=200, deadline=None)
@given(st.lists(_values, max_size=4))
def test_a_plain_batch_reads_as_its_documents_do(values):
    """Whatever it says is plain decodes to the same, type by type, as walking through each value."""
    plain, walked = plain_documents(batch_of(*values)), documents(batch_of(*values))

    if plain is not None:
        assert repr([document["v"] for document in plain]) == repr([decode(document["v"]) for document in walked])


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 2**31, [2**40, {"a": [-(2**63)]}], 1.5, "100 %", b"x", ObjectId(b"x" * 12), uuid.UUID(int=7), {}],
    ids=repr,
)
def test_what_is_plain(value):
    """Values that BSON keeps as they are, integers of all sizes too."""
    (document,) = plain_documents(batch_of(value))

    assert repr(document["v"]) == repr(value)
    assert type(plain_documents(bson.encode({"v": Int64(5)}))[0]["v"]) is int


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [{"a": value}]], ids=["bare", "nested"])
@pytest.mark.parametrize(
    "value",
    [{"~t": "tuple", "v": [1]}, Code("f()"), Code("f()", {"a": 1}), DBRef("users", 1), MinKey(), MaxKey()],
    ids=repr,
)
def test_what_wants_a_second_look(value, wrap):
    """Tagged values, and types that are never written, wherever they are: the whole batch is walked through."""
    assert plain_documents(batch_of(1) + bson.encode({"v": wrap(value)})) is None


def test_a_malformed_document_harms_no_other():
    """It is left out; its neighbours are read."""
    broken = bytearray(batch_of("ab"))
    broken[-3] = 0xFF  # no UTF-8
    batch = batch_of(1) + bytes(broken) + batch_of(2)

    assert plain_documents(batch) is None
    assert [document["v"] for document in documents(batch)] == [1, 2]
