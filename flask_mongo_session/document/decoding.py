"""BSON as Python values: the reverse of :mod:`.encoding`."""

from __future__ import annotations

import datetime as dt
import typing as t
import uuid
from decimal import Decimal

from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from markupsafe import Markup

from flask_mongo_session.exceptions import DamagedDocument

from .lookalike import Real

#: The field that says what a tagged document stands for.
TAG = "~t"
#: Types that BSON keeps exactly; checked by identity, since a subclass comes back as its base.
EXACT = frozenset({type(None), bool, float, bytes, ObjectId, uuid.UUID, Decimal128, Regex, Timestamp})
#: Encoded values of these types decode to themselves.
_DECODED = EXACT | {str, int, Binary, DatetimeMS}
DATETIMES = frozenset({Real.datetime})
_UTC = dt.timezone.utc


def decode(encoded: t.Any) -> t.Any:
    """The Python value, in new containers; raises :exc:`DamagedDocument` for what :func:`encode` never makes."""
    if type(encoded) in _DECODED:
        return encoded

    try:
        return _READERS[type(encoded)](encoded)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError):
        pass

    raise DamagedDocument("A stored value is malformed.")


def decode_all(encoded: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """:func:`decode` for each value, at no cost for the plain ones."""
    return {key: value if type(value) in _DECODED else decode(value) for key, value in encoded.items()}


def fresh(raw: t.Any) -> t.Any:
    """A BSON value in new containers, its dates aware; nothing tagged is decoded."""
    return _COPIERS[type(raw)](raw) if type(raw) in _COPIERS else raw


def aware(encoded: dt.datetime) -> dt.datetime:
    """The date in UTC; without a time zone it is the driver's, who means UTC."""
    # combine() takes a fifth of the time of replace().
    return encoded if encoded.tzinfo is not None else encoded.combine(encoded, encoded.time(), _UTC)


def _read_list(encoded: list[t.Any]) -> list[t.Any]:
    if _DECODED.issuperset(map(type, encoded)):
        return encoded[:]

    # Dates as in aware(), without a call for each.
    return [
        item
        if (kind := type(item)) in _DECODED
        else (item if item.tzinfo is not None else item.combine(item, item.time(), _UTC))
        if kind in DATETIMES
        else _READERS[kind](item)
        for item in encoded
    ]


def _read_dict(encoded: dict[str, t.Any]) -> t.Any:
    if TAG in encoded:
        payload = encoded["v"]
        return _DECODERS[encoded[TAG]](payload if type(payload) in _DECODED else _READERS[type(payload)](payload))

    value = encoded.copy()
    for key, item in encoded.items():
        if (kind := type(item)) in _DECODED:
            continue
        if kind not in DATETIMES:
            value[key] = _READERS[kind](item)
        elif item.tzinfo is None:
            value[key] = item.combine(item, item.time(), _UTC)

    return value


def _copy_list(raw: list[t.Any]) -> list[t.Any]:
    return [_COPIERS[kind](item) if (kind := type(item)) in _COPIERS else item for item in raw]


def _copy_dict(raw: dict[str, t.Any]) -> dict[str, t.Any]:
    return {key: _COPIERS[kind](item) if (kind := type(item)) in _COPIERS else item for key, item in raw.items()}


#: By type, what copies a BSON value that somebody could change in place, or that is a date without time zone.
_COPIERS: dict[type, t.Callable[[t.Any], t.Any]] = {list: _copy_list, dict: _copy_dict, Real.datetime: aware}

#: By type, what reads an encoded value that does not decode to itself.
_READERS: dict[type, t.Callable[[t.Any], t.Any]] = {
    list: _read_list,
    dict: _read_dict,
    Int64: int,
    Real.datetime: aware,
}

_DECODERS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "str": lambda payload: payload.decode("utf-8", "surrogatepass"),
    "int": lambda payload: int(payload, 16),
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "markup": lambda payload: Markup(str(payload)),  # noqa: S704 - it was Markup when it was stored
    "datetime": Real.datetime.fromisoformat,
    "date": Real.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timedelta": lambda payload: dt.timedelta(*payload),
    "decimal": Decimal,
    "binary": lambda payload: Binary(*payload),
    "milliseconds": DatetimeMS,
}
