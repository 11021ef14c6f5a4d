"""What is stored about a person, in plain words and numbers: to show, to hand out, to erase."""

from __future__ import annotations

import base64
import datetime as dt
import math
import typing as t
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from bson.errors import BSONError

from flask_mongo_session.document.record import Document
from flask_mongo_session.exceptions import DamagedDocument
from flask_mongo_session.storage.ending import EndingCommands
from flask_mongo_session.storage.repository import is_id
from flask_mongo_session.storage.user_sessions import SessionInfo, UserSessions, user_key

#: Stands for a value that is not to be seen.
MASK = "•••"

Description = dict[str, t.Any]


def describe(store: EndingCommands, sid: str, hidden: t.Collection[str] = ()) -> Description | None:
    """One stored session with its data, values of *hidden* keys masked; ``None`` when there is none."""
    if not is_id(sid):
        return None

    try:
        with store.operation():
            document = store.collection.find_one({"_id": sid, "ended": None})
    except BSONError:
        return {"sid": sid, "damaged": "Its BSON is malformed.", "data": {}}

    return None if document is None else _description(store, document, hidden)


def export_user(store: EndingCommands, user_id: t.Any) -> Description:
    """All that is stored under the user's name, what has expired and was not swept as well; no token, JSON throughout.

    Raises :exc:`TypeError` for nobody.
    """
    user = user_key(user_id)
    with store.operation():
        exported_at = store.connection.now()
        documents = list(store.collection.find({"user_id": user, "ended": None}, sort=[("_id", 1)]))

    return {
        "user_id": user,
        "exported_at": plain(exported_at),
        "sessions": [_description(store, document, ()) for document in documents],
    }


def erase_user(store: EndingCommands, user_id: t.Any) -> int:
    """End and remove all sessions of the user, expired ones and traces of rotations too; how many were alive."""
    owners = UserSessions(store)
    count = owners.end_all(user_id)
    owners.forget_marks(user_id)

    return count


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


def _description(store: EndingCommands, document: Document, hidden: t.Collection[str]) -> Description:
    info = {name: plain(value) for name, value in SessionInfo.of(document)._asdict().items() if value is not None}
    try:
        data = _data(store, document)
    except DamagedDocument as error:
        return {**info, "damaged": str(error), "data": {}}

    return {**info, "data": {key: MASK if key in hidden else value for key, value in data.items()}}


def _data(store: EndingCommands, document: Document) -> dict[str, t.Any]:
    """Free-form keys as the application sees them, declared ones as they are stored: fields may make anything of it."""
    records, schema = store._records, store.schema  # noqa: SLF001 - the one reader of what the store wrote
    encoded = records.encoded(document)

    return {
        key: plain(value if key in schema.declared else schema.decode(key, value)) for key, value in encoded.items()
    }
