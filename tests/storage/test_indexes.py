"""A model's indexes: made, switched, built behind the requests' back."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import ClassVar

import pytest
from mongoengine import ListField, StringField
from pymongo.errors import OperationFailure

from flask_mongo_session import Session, SessionDocument, SetupError
from flask_mongo_session.mongo.connection import Connection
from flask_mongo_session.storage.indexes import (
    NEVER_SECONDS,
    TTL_SECONDS,
    build_in_background,
    ensure_indexes,
    index_models,
)


class ShopSession(SessionDocument):
    cart = ListField(StringField())
    meta: ClassVar = {"collection": "sessions", "indexes": ["cart"]}


#: The fields that have an index of their own, but for the expiry's without an option that counts here.
INDEXED = ("expires_at", "user_id", "last_user_id", "touched_at", "ip", "user_agent")
OTHERS = {f"{name}_1": None for name in INDEXED[1:]}


def models(model=Session, *, ttl=False):
    return index_models(model.index_specs(), ttl=ttl)


def indexes(sessions):
    return {name: index.get("expireAfterSeconds") for name, index in sessions.index_information().items()}


def test_a_ttl_index_spares_tombstones():
    """It waits as long as an ended session leaves one, since the server does not tell them apart."""
    assert TTL_SECONDS == 900


def test_indexes_of_the_model(connection, sessions, commands):
    """The expiry's, the owner's, and those that the model declares; made once, then one command that does nothing."""
    ensure_indexes(connection, "sessions", models(ShopSession))
    information = sessions.index_information()
    assert set(information) == {"_id_", "cart_1"} | {f"{name}_1" for name in INDEXED}
    assert information["user_id_1"]["sparse"] is True

    commands.clear()
    ensure_indexes(connection, "sessions", models(ShopSession))
    assert commands.names == ["createIndexes"]


def test_ttl_both_ways(connection, sessions, commands):
    """Switching changes the index in place: from none to TTL, and back to one that waits for ever."""
    for ttl, seconds in (
        (False, None),
        (True, TTL_SECONDS),
        (False, NEVER_SECONDS),
        (False, NEVER_SECONDS),
        (True, TTL_SECONDS),
    ):
        ensure_indexes(connection, "sessions", models(ttl=ttl))
        assert indexes(sessions)["expires_at_1"] == seconds

    assert "collMod" in commands.names
    assert "dropIndexes" not in commands.names


def test_ttl_from_the_start(connection, sessions):
    """A TTL index on the expiry alone, when it is asked for at once."""
    ensure_indexes(connection, "sessions", models(ShopSession, ttl=True))

    assert indexes(sessions) == {
        "_id_": None,
        "expires_at_1": TTL_SECONDS,
        "cart_1": None,
        **OTHERS,
    }


def test_switching_with_other_indexes_missing(connection, sessions):
    """A conflict over the expiry's index does not keep the others from being made."""
    sessions.create_index("expires_at", name="by_hand", expireAfterSeconds=100)
    ensure_indexes(connection, "sessions", models(ShopSession, ttl=True))

    assert indexes(sessions) == {
        "_id_": None,
        "by_hand": TTL_SECONDS,
        "cart_1": None,
        **OTHERS,
    }


def test_conflict_over_another_index(connection, sessions):
    """An index that somebody made otherwise is left alone, and the expiry's is there all the same."""
    sessions.create_index("cart", unique=True, name="cart_1")
    with pytest.raises(OperationFailure):
        ensure_indexes(connection, "sessions", models(ShopSession))

    assert "expires_at_1" in indexes(sessions)
    assert indexes(sessions)["expires_at_1"] is None
    assert sessions.index_information()["cart_1"]["unique"] is True


@contextlib.contextmanager
def joined_threads():
    """Waits for the threads that were started meanwhile, not for those of other tests."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_background_failure_is_a_warning(connection, sessions, caplog):
    """An index that cannot be built is a warning that says why and names the command, and no more."""
    sessions.create_index("cart", unique=True, name="cart_1")
    with caplog.at_level(logging.WARNING), joined_threads():
        build_in_background(connection, "sessions", models(ShopSession))

    assert "IndexKeySpecsConflict" in caplog.text
    assert "flask sessions indexes" in caplog.text


def test_nothing_is_built_where_there_is_no_database(caplog):
    """An application that was set up without one hears of it at its first use, not by a thread that fails."""

    def nowhere():
        raise SetupError("There is no database.")

    with joined_threads():
        build_in_background(Connection(nowhere), "sessions", models())

    assert "There is no database." in caplog.text
