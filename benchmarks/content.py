"""What the measured sessions hold, and how raw PyMongo stores one."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import typing as t

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

LIFETIME = dt.timedelta(days=31)

#: What a visitor's session holds: a few texts, numbers and a cart.
CONTENT: dict[str, t.Any] = {
    "n": 0,
    "csrf_token": "IjFkNGNmYjk3ZmU2YzUyMTQwMWY3NTk4OGY1NzE1MmU0",
    "theme": "dark",
    "language": "de",
    "newsletter": True,
    "last_search": "shoes, brown, size 43",
    "rebate": 0.15,
    "cart": [1007, 1043, 2311],
    "seen": [{"id": 1007, "times": 3}, {"id": 2311, "times": 1}],
}

#: What raw collections get too: keeping these up to date is a part of a write.
INDEXES = [IndexModel("expires_at"), IndexModel("user_id", sparse=True), IndexModel("last_user_id", sparse=True)]

_CODEC_OPTIONS: CodecOptions[dict[str, t.Any]] = CodecOptions(
    tz_aware=True, uuid_representation=UuidRepresentation.STANDARD
)


def content_of(size: int) -> dict[str, t.Any]:
    """:data:`CONTENT` and one list of orders that brings it to about *size* bytes: the worst case of a nested value."""
    order = {"id": 0, "name": "shoes, brown, size 43", "price": 79.9, "count": 1}
    one = len(bson.encode({"1000": order})) - len(bson.encode({}))
    count = max((size - len(bson.encode(CONTENT))) // one, 1)
    return {**CONTENT, "orders": [{**order, "id": number} for number in range(count)]}


def collection_of(database: Database[t.Any], name: str) -> Collection[dict[str, t.Any]]:
    """The collection for raw calls: majority writes, aware dates in the driver's own (cheapest) timezone."""
    return database.get_collection(
        name, codec_options=_CODEC_OPTIONS, write_concern=WriteConcern(w="majority", wtimeout=2000)
    )


def now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def document_of(
    sid: str, content: dict[str, t.Any], *, token: bytes | None = None, expires_at: dt.datetime | None = None
) -> dict[str, t.Any]:
    """A session's record, as our store writes it; a browser's has the hash of a *token*."""
    moment = now()
    record = {
        "_id": sid,
        "data": {**content},
        "created_at": moment,
        "expires_at": expires_at or moment + LIFETIME,
        "touched_at": moment,
    }
    return record if token is None else {**record, "token": token}


def new_id() -> str:
    return secrets.token_urlsafe(16)


def new_token() -> bytes:
    """What a record keeps of a new secret."""
    return hashlib.sha256(secrets.token_urlsafe(16).encode()).digest()


def stored(collection: Collection[dict[str, t.Any]], content: dict[str, t.Any], *, token: bytes | None = None) -> str:
    """Store a session as raw PyMongo would; its id."""
    sid = new_id()
    collection.insert_one(document_of(sid, content, token=token))
    return sid
