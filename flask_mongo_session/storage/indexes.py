"""The indexes that a model wants: created, switched, built in the background."""

from __future__ import annotations

import logging
import threading
import time
import typing as t
import weakref

import pymongo
from pymongo import IndexModel
from pymongo.errors import ConfigurationError, ConnectionFailure, InvalidOperation, OperationFailure, PyMongoError

from flask_mongo_session.document.filters import TOMBSTONE_LIFE
from flask_mongo_session.exceptions import SetupError
from flask_mongo_session.mongo.connection import Connection
from flask_mongo_session.mongo.reason import reason

log = logging.getLogger(__name__)

#: A TTL index cannot be taken back by ``collMod``, only be told to wait for ever: 68 years, the most the server
#: accepts.
NEVER_SECONDS = 2**31 - 1
#: Seconds after the expiry at which a TTL index removes a record.
TTL_SECONDS = int(TOMBSTONE_LIFE.total_seconds())

#: Building indexes is tried so often while nobody answers, with so many seconds in between.
_BUILD_ATTEMPTS, _BUILD_PAUSE = 20, 30.0
_INDEX_CONFLICTS = (85, 86)  # IndexOptionsConflict, IndexKeySpecsConflict


def index_models(specs: t.Iterable[t.Mapping[str, t.Any]], *, ttl: bool) -> list[IndexModel]:
    """The model's indexes, from what MongoEngine made of its ``meta``; with *ttl* the expiry's is a TTL index.

    It removes a record as late as a tombstone may go: the server does not tell them apart.
    """
    models = []
    for spec in specs:
        options = {name: value for name, value in spec.items() if name not in ("fields", "cls")}
        if ttl and spec["fields"] == [("expires_at", 1)]:
            options["expireAfterSeconds"] = TTL_SECONDS
        models.append(IndexModel(spec["fields"], **options))

    return models


def ensure_indexes(connection: Connection, collection: str, models: list[IndexModel]) -> None:
    """Create the indexes that are missing; one cheap command when none is. No time limit: a build may take minutes.

    Switching ``SESSION_TTL_INDEX`` changes the index in place through ``collMod``.
    """
    target = connection.collection(collection)

    with pymongo.timeout(None):
        try:
            target.create_indexes(models)
        except OperationFailure as error:
            if error.code not in _INDEX_CONFLICTS:
                raise
            _create_one_by_one(target, models)


def _create_one_by_one(collection: t.Any, models: list[IndexModel]) -> None:
    """A conflict over one index must not keep the others from being made; raises it when they are."""
    conflict = None
    for model in models:
        try:
            collection.create_indexes([model])
        except OperationFailure as error:
            if tuple(model.document["key"]) == ("expires_at",):
                _switch_ttl(collection, ttl="expireAfterSeconds" in model.document)
            else:
                conflict = error

    if conflict:
        raise conflict


def _switch_ttl(collection: t.Any, *, ttl: bool) -> None:
    """Turn the index on the expiry into a TTL index (MongoDB 5.1+ does so in place), or make it wait for ever."""
    index = {"keyPattern": {"expires_at": 1}, "expireAfterSeconds": TTL_SECONDS if ttl else NEVER_SECONDS}
    try:
        collection.database.command("collMod", collection.name, index=index)
    except OperationFailure:
        collection.drop_index([("expires_at", 1)])
        collection.create_index([("expires_at", 1)], **({"expireAfterSeconds": TTL_SECONDS} if ttl else {}))


def are_gone(connection: Connection, collection: str, models: list[IndexModel]) -> bool:
    """Whether none of the indexes is there: the collection was dropped, or never had them; one cheap command."""
    with connection.background_operation():
        present = {tuple(index["key"].items()) for index in connection.collection(collection).list_indexes()}

    return present.isdisjoint(tuple(model.document["key"].items()) for model in models)


def build_in_background(connection: Connection, collection: str, models: list[IndexModel]) -> None:
    """Build on a thread of its own; a failure is a warning, since sessions work without, only slower to sweep."""
    reference = weakref.ref(connection)

    def build() -> None:
        for attempt in range(_BUILD_ATTEMPTS):
            if not _try_to_build(reference(), collection, models, warn=not attempt):
                return
            time.sleep(_BUILD_PAUSE)

    threading.Thread(target=build, name="mongo-session-indexes", daemon=True).start()


def _try_to_build(connection: Connection | None, collection: str, models: list[IndexModel], *, warn: bool) -> bool:
    """Whether another try makes sense: when nobody answered, and somebody still holds the connection."""
    if connection is None:
        return False

    try:
        ensure_indexes(connection, collection, models)
    except (PyMongoError, SetupError) as error:
        ending = isinstance(error, InvalidOperation) or not threading.main_thread().is_alive()
        if warn and not ending:  # closed client, embedded server on its way out: nobody has to do anything
            why = str(error).rstrip(".") if isinstance(error, SetupError) else reason(error)
            log.warning(
                "Could not create indexes on %r: %s. Once that is mended, run 'flask sessions indexes'.",
                collection,
                why,
            )
        return isinstance(error, (ConnectionFailure, ConfigurationError))

    return False
