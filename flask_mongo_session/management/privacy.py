"""What is stored about a person, in plain words and numbers: to show, to hand out, to erase."""

from __future__ import annotations

import base64
import datetime as dt
import math
import typing as t
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from bson.errors import BSONError

from flask_mongo_session.document import filters
from flask_mongo_session.document.record import Document, SessionInfo, user_text
from flask_mongo_session.exceptions import DamagedDocument
from flask_mongo_session.mongo.operation import Operation
from flask_mongo_session.storage.repository import SessionRepository, is_id

#: Stands for a value that is not to be seen.
MASK = "•••"

Description = dict[str, t.Any]


def describe(repository: SessionRepository, sid: str, hidden: t.Collection[str] = ()) -> Description | None:
    """One stored session with its data, values of *hidden* keys masked; ``None`` when there is none."""
    if not is_id(sid):
        return None

    try:
        with Operation(repository.connection):
            document = repository.collection.find_one({"_id": sid, **filters.not_ended()})
    except BSONError:
        return {"sid": sid, "damaged": "Its BSON is malformed.", "data": {}}

    return None if document is None else _description(repository, document, hidden)


def check_user(user_id: t.Any) -> None:
    """Raise :exc:`TypeError` where a mistake of the caller's names nobody."""
    if user_id is None:
        raise TypeError("user_id names nobody; give the value that was stored at log-in (text, int, ObjectId …).")


def export_user(repository: SessionRepository, user_id: t.Any) -> Description:
    """All that is stored under the user's name, what has expired and was not swept as well; no token, JSON throughout.

    With what a user who logged out left behind, as far as it is kept. Raises :exc:`TypeError` for nobody.
    """
    check_user(user_id)
    user = user_text(user_id)
    chosen = {"$or": [{"user_id": user}, {"last_user_id": user}], **filters.not_ended()}
    with Operation(repository.connection):
        exported_at = repository.connection.now()
        documents = [] if user is None else list(repository.collection.find(chosen, sort=[("_id", 1)]))

    return {
        "user_id": user,
        "exported_at": plain(exported_at),
        "sessions": [_description(repository, document, ()) for document in documents],
    }


def plain(value: t.Any) -> t.Any:
    """*value* as JSON knows it: dates in ISO 8601, bytes in base64, collections as lists, anything else as text."""
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)

    return str(value)


_CONVERSIONS: tuple[tuple[tuple[type, ...], t.Callable[[t.Any], t.Any]], ...] = (
    ((type(None), bool, int), lambda value: value),
    ((float,), lambda value: value if math.isfinite(value) else str(value)),
    ((dt.datetime,), dt.datetime.isoformat),
    ((Mapping,), lambda value: {str(key): plain(item) for key, item in value.items()}),
    ((list, tuple), lambda value: [plain(item) for item in value]),
    ((AbstractSet,), lambda value: sorted((plain(item) for item in value), key=repr)),
    ((bytes, bytearray), lambda value: base64.b64encode(value).decode("ascii")),
)


def _description(repository: SessionRepository, document: Document, hidden: t.Collection[str]) -> Description:
    info = {name: plain(value) for name, value in SessionInfo.of(document)._asdict().items() if value is not None}
    try:
        data = _data(repository, document)
    except DamagedDocument as error:
        return {**info, "damaged": str(error), "data": {}}

    return {**info, "data": masked(data, hidden)}


def masked(value: t.Any, hidden: t.Collection[str]) -> t.Any:
    """*value* as JSON has it, with the values of *hidden* keys masked at any depth."""
    if isinstance(value, dict):
        return {key: MASK if key in hidden else masked(item, hidden) for key, item in value.items()}

    return [masked(item, hidden) for item in value] if isinstance(value, list) else value


def _data(repository: SessionRepository, document: Document) -> dict[str, t.Any]:
    """Free-form keys as the application sees them, declared ones as they are stored: fields may make anything of it."""
    mapper, sid = repository.mapper, document["_id"]
    if type(document.get("data", {})) is not dict:
        raise DamagedDocument("The stored data is no document.")

    encoded = {key: mapper.open(sid, key, value) for key, value in mapper.gather(document).items()}
    declared = mapper.schema.declared
    return {key: plain(value if key in declared else mapper.decode(key, value)) for key, value in encoded.items()}
