"""What a request does, as data: the update sent and the replay on a copy come to the same."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_mongo_session.document.changes import UNSET, Changes, added, listed
from flask_mongo_session.document.schema import Schema

START = {"n": 1, "x": 0.5, "items": [1, 2], "text": "a"}
SCHEMA = Schema({})

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
        if name in ("add", "append") and (key in changes.assigned or key in changes.removed):
            continue
        getattr(changes, name)(key, *rest)

    return changes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_operations)
def test_replay_equals_update(sessions, operations):
    """Whatever was recorded: the server's update and the replay leave the same values."""
    changes = recorded(operations)
    copy = dict(START)
    changes.replay(copy)

    sessions.replace_one({"_id": 1}, {"data": dict(START)}, upsert=True)
    if update := changes.update_of(SCHEMA.path):
        sessions.update_one({"_id": 1}, update)

    assert sessions.find_one()["data"] == copy
    assert bool(changes) is bool(update)
    assert changes.keys == {path.removeprefix("data.") for paths in update.values() for path in paths}


def test_one_operation_for_each_key():
    """A key has one pending operation, since an update may name a path only once."""
    changes = Changes()
    changes.add("a", 1)
    changes.add("a", 2)
    changes.append("b", 1, None)
    changes.append("b", 2, 5)
    changes.assign("c", 1)
    changes.remove("c")
    changes.remove("d")
    changes.assign("d", 1)

    assert changes.update_of(str) == {
        "$set": {"d": 1},
        "$unset": {"c": ""},
        "$inc": {"a": 3},
        "$push": {"b": {"$each": [1, 2], "$slice": -5}},
    }
    assert "a" in changes
    changes.discard("a")
    assert "a" not in changes


@pytest.mark.parametrize("field", ["permanent", "deadline", "user_id", "authenticated_at"])
def test_none_is_a_change(field):
    """Taking something away is a change; saying nothing is none."""
    changes = Changes()
    assert not changes

    setattr(changes, field, None)
    assert changes
    assert repr(UNSET) == "UNSET"


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
    changes = Changes()
    changes.append("items", 2, None)
    changes.replay(copy := dict(stored))

    assert (stored, copy) == ({"items": [1]}, {"items": [1, 2]})
