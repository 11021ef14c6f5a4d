"""Python values as BSON and back, without loss; session keys as field names and back.

BSON is used as it is where it is exact, so that data stays readable in mongosh and queryable; everything else becomes
a tagged document ``{"~t": kind, "v": payload}``. Stored text is only ever data: nothing here imports, calls or
evaluates what it reads.
"""

from __future__ import annotations

import datetime as dt
import re
import typing as t
import uuid
from decimal import Decimal

import bson
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from markupsafe import Markup

from flask_mongo_session.exceptions import DamagedDocument, UnstorableValue
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS

#: Deepest nesting of a value, in BSON levels; the server refuses documents a little beyond.
MAX_DEPTH = 90

#: No server stores a deeper one.
_MAX_STORED_DEPTH = 100
#: The field that says what a tagged document stands for.
TAG = "~t"
#: What BSON's widest integer holds.
INT64 = range(-(2**63), 2**63)
_UNSAFE_IN_KEY = re.compile("[%.\x00\ud800-\udfff]|^\\$")
_ESCAPED = re.compile("%([0-9a-f]{4})")

#: Types that BSON keeps exactly; checked by identity, since a subclass would come back as its base.
_EXACT = frozenset({type(None), bool, float, bytes, ObjectId, uuid.UUID, Decimal128, Regex, Timestamp})
#: Values that nobody can change in place, so they never need to be compared at the end of a request.
IMMUTABLE = _EXACT | {
    *(str, int, dt.datetime, dt.date, dt.time, dt.timedelta, Decimal, Markup, frozenset, Binary, DatetimeMS)
}
#: Encoded values of these types are stored alike when they are equal.
_COMPARABLE = frozenset({type(None), bool, int, str})
#: What decodes to itself.
_DECODED = _EXACT | {str, int, dt.datetime, Binary, DatetimeMS}
#: Kinds of binary data that the driver reads as another type: bytes, UUID.
_BINARY_READ_OTHERWISE = (0, 4)


def encode(key: str, value: t.Any) -> t.Any:
    """The BSON value for *value*; raises :exc:`UnstorableValue` (a TypeError) naming *key* and the type."""
    try:
        return _encode(value, 0)
    except _Unstorable as error:
        raise UnstorableValue(f"Session key {key!r} cannot hold {error}.") from None


def decode(value: t.Any) -> t.Any:
    """The Python value, in new containers; raises :exc:`DamagedDocument` for what :func:`encode` never makes."""
    if type(value) in _DECODED:
        return value

    try:
        return _decode(value, 0)
    except (ValueError, TypeError, AttributeError, KeyError, ArithmeticError) as error:
        raise DamagedDocument("A stored value is malformed.") from error


def decode_all(encoded: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """:func:`decode` for each value, at no cost for the plain ones."""
    return {key: value if type(value) in _DECODED else decode(value) for key, value in encoded.items()}


def same(one: t.Any, other: t.Any) -> bool:
    """Whether two encoded values are stored alike, telling ``1`` from ``True`` and ``1.0``."""
    kind = type(one)
    if kind is type(other) and kind in _COMPARABLE:
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
    if key.isidentifier():
        return key
    if key == "":
        return "%"

    return _UNSAFE_IN_KEY.sub(lambda match: f"%{ord(match[0]):04x}", key)


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


def is_unicode(text: str) -> bool:
    """Whether BSON can hold the text: without lone surrogates."""
    if text.isascii():
        return True

    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False

    return True


class _Unstorable(Exception):
    """What it cannot be, in words; the key is known further up."""


def _encode(value: t.Any, depth: int) -> t.Any:
    kind = type(value)

    if kind in _EXACT:
        return value
    if kind is str:
        return value if is_unicode(value) else _tagged("str", value.encode("utf-8", "surrogatepass"))
    if kind is int:
        return value if value in INT64 else _tagged("int", hex(value))
    if depth >= MAX_DEPTH:
        raise _Unstorable(f"values nested more than {MAX_DEPTH} levels deep (or in themselves)")

    encoder = _ENCODERS.get(kind)
    if encoder is None:
        raise _Unstorable(f"a value of type {kind.__module__}.{kind.__qualname__}: convert it to a plain type first")

    return encoder(value, depth + 1)


def _tagged(kind: str, payload: t.Any) -> dict[str, t.Any]:
    return {TAG: kind, "v": payload}


def _encode_list(value: t.Iterable[t.Any], depth: int) -> list[t.Any]:
    return [_encode(item, depth) for item in value]


def _encode_dict(value: dict[t.Any, t.Any], depth: int) -> dict[str, t.Any]:
    if all(type(key) is str and _is_plain_key(key) for key in value):
        return {key: _encode(item, depth) for key, item in value.items()}

    return _tagged("dict", [[_encode(key, depth + 2), _encode(item, depth + 2)] for key, item in value.items()])


def _is_plain_key(key: str) -> bool:
    return key not in ("", TAG) and key[0] != "$" and "." not in key and "\x00" not in key and is_unicode(key)


def _encode_set(value: t.Iterable[t.Any], depth: int) -> list[t.Any]:
    """In one order whatever the hash seed, or an untouched set would look changed."""
    return sorted(_encode_list(value, depth), key=lambda item: bson.encode({"": item}, codec_options=CODEC_OPTIONS))


def _encode_datetime(value: dt.datetime, _depth: int) -> t.Any:
    if value.microsecond % 1000 == 0 and value.utcoffset() == dt.timedelta(0):
        return value

    return _tagged("datetime", value.isoformat())


def _encode_binary(value: Binary, _depth: int) -> t.Any:
    if value.subtype not in _BINARY_READ_OTHERWISE:
        return value

    return _tagged("binary", [bytes(value), value.subtype])


_ENCODERS: dict[type, t.Callable[[t.Any, int], t.Any]] = {
    list: _encode_list,
    dict: _encode_dict,
    tuple: lambda value, depth: _tagged("tuple", _encode_list(value, depth + 1)),
    set: lambda value, depth: _tagged("set", _encode_set(value, depth + 1)),
    frozenset: lambda value, depth: _tagged("frozenset", _encode_set(value, depth + 1)),
    Markup: lambda value, depth: _tagged("markup", _encode(str(value), depth)),
    dt.datetime: _encode_datetime,
    dt.date: lambda value, _: _tagged("date", value.isoformat()),
    dt.time: lambda value, _: _tagged("time", value.isoformat()),
    dt.timedelta: lambda value, _: _tagged("timedelta", [value.days, value.seconds, value.microseconds]),
    Decimal: lambda value, _: _tagged("decimal", str(value)),
    Binary: _encode_binary,
    DatetimeMS: lambda value, _: _tagged("milliseconds", int(value)),
}


def _decode(value: t.Any, depth: int) -> t.Any:
    kind = type(value)

    if kind in _DECODED:
        return value
    if kind is Int64:
        return int(value)
    if depth >= _MAX_STORED_DEPTH:
        raise ValueError("nested too deep")
    if kind is list:
        return [item if type(item) in _DECODED else _decode(item, depth + 1) for item in value]
    if kind is not dict:
        raise TypeError("a type that is never written")
    if TAG not in value:
        return {key: item if type(item) in _DECODED else _decode(item, depth + 1) for key, item in value.items()}

    return _DECODERS[value[TAG]](_decode(value["v"], depth + 1))


_DECODERS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "str": lambda payload: payload.decode("utf-8", "surrogatepass"),
    "int": lambda payload: int(payload, 16),
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "markup": lambda payload: Markup(str(payload)),  # noqa: S704 - it was Markup when it was stored
    "datetime": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timedelta": lambda payload: dt.timedelta(*payload),
    "decimal": Decimal,
    "binary": lambda payload: Binary(*payload),
    "milliseconds": DatetimeMS,
}
