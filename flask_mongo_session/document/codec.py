"""Python values as BSON and back, compared; session keys as field names and back.

An *encoded* value consists of what BSON holds. It shares no list and no dictionary with the value that it was made
of, nor with what is made of it. Dates in it are in UTC, aware or (as the driver reads them faster) naive. Stored text
is only ever data: nothing here imports, calls or evaluates what it reads.

Loops test types in place and find functions by type: a call more for each item would double the time.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
import typing as t
import uuid
from operator import is_

import bson
from bson.int64 import Int64
from bson.objectid import ObjectId

from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS

from .decoding import DATETIMES, TAG, aware, decode, decode_all, fresh
from .encoding import IMMUTABLE, INT64, MAX_DEPTH, encode, encode_part, is_unicode, step
from .lookalike import Real

__all__ = [
    "IMMUTABLE",
    "INT64",
    "MAX_DEPTH",
    "TAG",
    "as_stored",
    "by_key",
    "decode",
    "decode_all",
    "differs",
    "encode",
    "field_name",
    "fresh",
    "is_unicode",
    "key_name",
    "same",
    "size",
    "step",
]

_UNSAFE_IN_KEY = re.compile("[%.\x00\ud800-\udfff]|^\\$")
_ESCAPED = re.compile("%([0-9a-f]{4})")

#: Values of these types, of the same type as the encoded one, are stored alike when they are equal.
_COMPARABLE = frozenset({type(None), bool, int, str, bytes, ObjectId, uuid.UUID})
_INTEGERS = frozenset({int, Int64})
_bits = struct.Struct("<d").pack


def differs(value: t.Any, encoded: t.Any) -> bool:
    """Whether *value* would be stored otherwise than as *encoded*.

    Walks both. The order of a dictionary counts, ``1``, ``1.0`` and ``True`` differ, so do ``0.0`` and ``-0.0``; NaN
    equals NaN, and an integer equals the same integer of another width. True where that cannot be told, as of what
    cannot be stored. What :func:`decode` made of *encoded* never differs from it, unless it was changed.
    """
    try:
        return _differs(value, encoded)
    except Exception:  # noqa: BLE001 - a value's own methods may raise anything; encoding it will tell
        return True


def same(one: t.Any, other: t.Any) -> bool:
    """Whether two encoded values are stored alike, telling ``1`` from ``True`` and ``1.0``."""
    kind = type(one)
    if kind is type(other) and kind in _COMPARABLE:
        return t.cast("bool", one == other)
    if kind in _INTEGERS and type(other) in _INTEGERS:
        return t.cast("bool", one == other)

    return one is other or bson.encode({"": one}, codec_options=CODEC_OPTIONS) == bson.encode(
        {"": other}, codec_options=CODEC_OPTIONS
    )


def as_stored(value: t.Any) -> t.Any:
    """A BSON value as the next reader gets it: bytes for plain binary, aware dates in milliseconds."""
    return bson.decode(bson.encode({"": value}, codec_options=CODEC_OPTIONS), CODEC_OPTIONS)[""]


def size(document: dict[str, t.Any]) -> int:
    """Bytes that the encoded *document* takes."""
    return len(bson.encode(document, codec_options=CODEC_OPTIONS))


def field_name(key: str) -> str:
    """The field of ``data`` that holds session key *key*: any string, as a name that is no path and no operator."""
    name = str.__str__(key)  # the text of an enumeration's member, which shows as something else
    if name.isidentifier():
        return name
    if name == "":
        return "%"

    return _UNSAFE_IN_KEY.sub(lambda match: f"%{ord(match[0]):04x}", name)


def key_name(field: str) -> str:
    """The session key that :func:`field_name` turned into *field*."""
    if "%" not in field:
        return field
    if field == "%":
        return ""

    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), field)


def by_key(data: dict[str, t.Any]) -> dict[str, t.Any]:
    """A copy of stored *data* by session key; hardly ever is there one to translate."""
    if "%" not in "".join(data):
        return dict(data)

    return {key_name(field): value for field, value in data.items()}


def _differs(value: t.Any, encoded: t.Any) -> bool:
    """What is the same object in both was handed on by decoding, and cannot be changed in place."""
    return value is not encoded and _COMPARERS.get(type(value), _encodings_differ)(value, encoded)


def _encodings_differ(value: t.Any, encoded: t.Any) -> bool:
    """For what is rare: encodes this part of the value."""
    return not same(encode_part(value, 0), encoded)


def _scalars_differ(value: t.Any, encoded: t.Any) -> bool:
    return value != encoded if type(value) is type(encoded) else _encodings_differ(value, encoded)


def _integers_differ(value: int, encoded: t.Any) -> bool:
    return value != encoded if type(encoded) in _INTEGERS else _encodings_differ(value, encoded)


def _floats_differ(value: float, encoded: t.Any) -> bool:
    return type(encoded) is not float or _bits(value) != _bits(encoded)


def _datetimes_differ(value: dt.datetime, encoded: t.Any) -> bool:
    if value.tzinfo is dt.timezone.utc and type(encoded) in DATETIMES:
        return value != aware(encoded)

    return _encodings_differ(value, encoded)


def _lists_differ(value: t.Sequence[t.Any], encoded: t.Any) -> bool:
    if type(encoded) is not list or len(value) != len(encoded):
        return True
    if all(map(is_, value, encoded)):
        return False

    for item, stored in zip(value, encoded, strict=True):
        if item is not stored and _COMPARERS.get(type(item), _encodings_differ)(item, stored):
            return True

    return False


def _tuples_differ(value: tuple[t.Any, ...], encoded: t.Any) -> bool:
    return type(encoded) is not dict or encoded.get(TAG) != "tuple" or _lists_differ(value, encoded["v"])


def _dicts_differ(value: dict[t.Any, t.Any], encoded: t.Any) -> bool:
    if type(encoded) is not dict:
        return True
    if TAG in encoded:
        return encoded[TAG] != "dict" or _pairs_differ(value, encoded["v"])
    if len(value) != len(encoded):
        return True

    for (key, item), (name, stored) in zip(value.items(), encoded.items(), strict=True):
        if key is not name and (type(key) is not str or key != name):
            return True
        if item is not stored and _COMPARERS.get(type(item), _encodings_differ)(item, stored):
            return True

    return False


def _pairs_differ(value: dict[t.Any, t.Any], encoded: list[list[t.Any]]) -> bool:
    return len(value) != len(encoded) or any(map(_lists_differ, value.items(), encoded))


_COMPARERS: dict[type, t.Callable[[t.Any, t.Any], bool]] = {
    **dict.fromkeys(_COMPARABLE, _scalars_differ),
    int: _integers_differ,
    float: _floats_differ,
    Real.datetime: _datetimes_differ,
    list: _lists_differ,
    tuple: _tuples_differ,
    dict: _dicts_differ,
}
