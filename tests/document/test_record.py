"""A record as people get to see it: without what is in it, and whatever is damaged counts as absent."""

from __future__ import annotations

import datetime as dt
import enum

import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from flask_mongo_session.document.mapper import DocumentMapper
from flask_mongo_session.document.record import METADATA, SessionInfo, StoredSession, user_of, user_text
from flask_mongo_session.document.schema import Schema

NOW = dt.datetime(2026, 5, 4, 12, tzinfo=dt.timezone.utc)
DATES = ("created_at", "touched_at", "authenticated_at", "deadline")
FULL = {
    "_id": "sid",
    "token": b"t" * 32,
    "previous": {"token": b"p" * 32, "at": NOW, "keeps_writes": True, "wrote": []},
    "data": {"cart": ["mug"]},
    "expires_at": NOW,
    **dict.fromkeys(DATES, NOW),
    "permanent": True,
    "user_id": "ada",
    "last_user_id": "bob",
    "ip": "192.0.2.1",
    "user_agent": "Browser/1",
}


def stored(document):
    return StoredSession(document, DocumentMapper(Schema({})))


def test_info_holds_the_metadata_and_nothing_secret():
    """Each field that people may see is in it, by its own name; neither token nor values are."""
    info = SessionInfo.of(FULL)

    assert info.sid == "sid"
    assert {name: getattr(info, name) for name in METADATA} == {name: FULL[name] for name in METADATA}
    assert not {"token", "previous", "data"} & set(info._fields)


@pytest.mark.parametrize("wrong", [None, [], {}, "", 7, "yes", DatetimeMS(2**60)], ids=repr)
def test_a_field_of_the_wrong_type_counts_as_absent(wrong):
    """Whatever somebody wrote there, the rest is told, and the types are those that the class declares."""
    document = {"_id": "sid", **dict.fromkeys(METADATA, wrong)}
    info = SessionInfo.of(document)

    assert (info.sid, info.permanent) == ("sid", False)
    assert [getattr(info, name) for name in DATES] == [None] * len(DATES)
    assert isinstance(info.expires_at, dt.datetime)
    for name in ("user_id", "ip", "user_agent"):
        assert getattr(info, name) == (wrong if isinstance(wrong, str) else None)


def test_an_id_that_is_no_text_is_shown_as_one():
    """A foreign document in the collection does not break a listing."""
    number = ObjectId()
    assert SessionInfo.of({"_id": number}).sid == str(number)


def test_a_stored_session_answers_by_name():
    """What the store finds: values decoded, metadata as attributes."""
    found = stored(FULL)

    assert (found.sid, found.data, found.info) == ("sid", {"cart": ["mug"]}, SessionInfo.of(FULL))
    assert [getattr(found, name) for name in METADATA] == [FULL[name] for name in METADATA]


def test_its_repr_counts_and_shows_nothing():
    """Neither contents nor token nor user."""
    assert repr(stored(FULL)) == f"<StoredSession sid expires_at={NOW.isoformat()} keys=1>"


def test_a_bare_record_is_enough():
    """Without metadata, as somebody else may have written it."""
    found = stored({"_id": "sid", "expires_at": NOW})

    assert (found.data, found.permanent, found.deadline, found.user_id) == ({}, False, None, None)


@pytest.mark.parametrize(
    ("user", "text"),
    [
        (None, None),
        ("", None),
        ("ada", "ada"),
        (7, "7"),
        (0, "0"),
        (False, "False"),
        (ObjectId("0" * 24), "0" * 24),
        ("é", "é"),
        ("\ud800", "\\ud800"),
        ({"$ne": None}, "{'$ne': None}"),
        (enum.Enum("User", {"ADA": "ada"}, type=str).ADA, "ada"),
        (enum.Enum("User", {"ADA": 7}, type=int).ADA, "7"),
    ],
    ids=ascii,
)
def test_the_text_that_names_a_user(user, text):
    """``str()`` of what is stored as the key; ``None`` and the empty text are nobody; always text that BSON takes."""
    assert user_text(user) == text


@pytest.mark.parametrize(
    ("values", "user"),
    [
        ({}, None),
        ({"user_id": 7}, "7"),
        ({"_user_id": "8", "user_id": 7}, "8"),
        ({"_user_id": None, "user_id": 7}, "7"),
        ({"_user_id": "", "user_id": 7}, None),
        ({"other": 1}, None),
    ],
)
def test_the_first_user_key_counts(values, user):
    """In the order of the configuration; ``None`` counts as absent."""
    assert user_of(values, ("_user_id", "user_id")) == user
