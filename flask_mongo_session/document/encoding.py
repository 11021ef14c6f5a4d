"""Python values as BSON, without loss.

BSON is used as it is where it is exact, so that data stays readable in mongosh and queryable; everything else becomes
a tagged document ``{"~t": kind, "v": payload}``. Subclasses and look-alikes of plain types are stored as their base
type.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import bson
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from markupsafe import Markup

from flask_mongo_session.exceptions import UnstorableValue
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS

from .decoding import EXACT, TAG
from .lookalike import NotPlain, Real, plain, way_out

#: Deepest nesting of a value, in BSON levels; the server refuses documents a little beyond.
MAX_DEPTH = 90
#: What BSON's widest integer holds.
INT64 = range(-(2**63), 2**63)
#: Values that nobody can change in place, so they never need to be compared at the end of a request.
IMMUTABLE = EXACT | {
    *(str, int, Real.datetime, Real.date, dt.time, dt.timedelta, Decimal, Markup, frozenset, Binary, DatetimeMS)
}

_LEAST, _MOST = INT64[0], INT64[-1]
_STRINGS = frozenset({str})
#: Kinds of binary data that the driver reads as another type: bytes, UUID.
_BINARY_READ_OTHERWISE = (0, 4)
#: Longest key of a dictionary that a message repeats; a longer one may be content.
_LONGEST_NAME = 20


def encode(key: str, value: t.Any) -> t.Any:
    """The BSON value for *value*, in new containers.

    Subclasses and look-alikes of plain types are stored as their base type, as Flask's own session does it. Raises
    :exc:`UnstorableValue` (a TypeError) naming *key*, the path inside the value, the type, and a way out.
    """
    try:
        return _encode_fast(value)
    except _Unstorable as error:
        problem = error

    raise UnstorableValue(f"Session key {key!r} cannot hold {problem.explain(key, value)}.")


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
    """A value, or a part of one, that cannot be stored. Explained only when it is reported."""

    def __init__(self, part: t.Any) -> None:
        super().__init__()
        self.part = part

    def explain(self, key: str, value: t.Any) -> str:
        """Which part of *value*, where in it, and what to do about it; never what is in it."""
        kind = type(self.part)
        path = _path_to_unstorable(value)
        where = f" at {key}{path}" if path else ""

        return f"a value of type {kind.__module__}.{kind.__qualname__}{where}: {way_out(self.part)}"


class _TooDeep(_Unstorable):
    def explain(self, _key: str, _value: t.Any) -> str:
        return f"values nested more than {MAX_DEPTH} levels deep (or in themselves)"


#: Collects the keys of all dictionaries of a value, to be checked at once; None: check each dictionary by itself.
_Keys = list[t.Any] | None


def _encode_fast(value: t.Any) -> t.Any:
    """Takes all keys for plain ones, checks them together, and starts again with care where one is not."""
    if type(value) in EXACT:
        return value

    keys: list[t.Any] = []
    encoded = encode_part(value, 0, keys)

    return encoded if not keys or _are_plain_keys(keys) else encode_part(value, 0, None)


def encode_part(value: t.Any, depth: int, keys: _Keys = None) -> t.Any:
    """The BSON value of a value that lies *depth* levels deep in another one; raises what :func:`encode` explains."""
    kind = type(value)
    return value if kind in EXACT else _ENCODERS.get(kind, _encode_lookalike)(value, depth, keys)


def _tagged(kind: str, payload: t.Any) -> dict[str, t.Any]:
    return {TAG: kind, "v": payload}


def _encode_str(value: str, _depth: int, _keys: _Keys) -> t.Any:
    return value if is_unicode(value) else _tagged("str", value.encode("utf-8", "surrogatepass"))


def _encode_int(value: int, _depth: int, _keys: _Keys) -> t.Any:
    return value if _LEAST <= value <= _MOST else _tagged("int", hex(value))


def _encode_list(value: t.Iterable[t.Any], depth: int, keys: _Keys) -> list[t.Any]:
    if depth >= MAX_DEPTH:
        raise _TooDeep(value)

    depth += 1
    return [
        item
        if ((kind := type(item)) is str and item.isascii())
        or kind in EXACT
        or (kind is int and _LEAST <= item <= _MOST)
        else _ENCODERS.get(kind, _encode_lookalike)(item, depth, keys)
        for item in value
    ]


def _encode_dict(value: dict[t.Any, t.Any], depth: int, keys: _Keys) -> dict[str, t.Any]:
    if depth >= MAX_DEPTH:
        raise _TooDeep(value)
    if keys is not None:
        keys += value
    elif not _are_plain_keys(value):
        return _tagged("dict", [_encode_list(pair, depth + 2, None) for pair in value.items()])

    depth += 1
    encoded = value.copy()
    for key, item in value.items():
        kind = type(item)
        if kind is str:
            if not item.isascii():
                encoded[key] = _encode_str(item, depth, keys)
        elif kind is int:
            if not _LEAST <= item <= _MOST:
                encoded[key] = _encode_int(item, depth, keys)
        elif kind not in EXACT:
            encoded[key] = _ENCODERS.get(kind, _encode_lookalike)(item, depth, keys)

    return encoded


def _are_plain_keys(keys: t.Collection[t.Any]) -> bool:
    """Whether all of them are field names that MongoDB takes for nothing else."""
    try:
        text = "".join(keys)
    except TypeError:
        return False
    if "." in text or "$" in text or "\0" in text or TAG[0] in text:
        return _STRINGS.issuperset(map(type, keys)) and all(_is_plain_key(key) for key in keys)

    return all(keys) and _STRINGS.issuperset(map(type, keys)) and is_unicode(text)


def _is_plain_key(key: str) -> bool:
    return key not in ("", TAG) and key[0] != "$" and "." not in key and "\0" not in key and is_unicode(key)


def _encode_tuple(value: tuple[t.Any, ...], depth: int, keys: _Keys) -> dict[str, t.Any]:
    return _tagged("tuple", _encode_list(value, depth + 1, keys))


def _encode_set(value: t.Iterable[t.Any], depth: int) -> list[t.Any]:
    """In one order whatever the hash seed, or an untouched set would look changed."""
    encoded = _encode_list(value, depth + 1, None)
    return sorted(encoded, key=lambda item: bson.encode({"": item}, codec_options=CODEC_OPTIONS))


def _encode_datetime(value: dt.datetime, _depth: int, _keys: _Keys) -> t.Any:
    if value.microsecond % 1000 == 0 and value.utcoffset() == dt.timedelta(0):
        return value.replace(tzinfo=dt.timezone.utc)

    return _tagged("datetime", value.isoformat())


def _encode_binary(value: Binary, _depth: int, _keys: _Keys) -> t.Any:
    if value.subtype not in _BINARY_READ_OTHERWISE:
        return value

    return _tagged("binary", [bytes(value), value.subtype])


def _encode_lookalike(value: t.Any, depth: int, keys: _Keys) -> t.Any:
    """The types that are checked last, each by its base type."""
    try:
        base = plain(value)
    except NotPlain:
        raise _Unstorable(value) from None

    return encode_part(base, depth, keys)


_ENCODERS: dict[type, t.Callable[[t.Any, int, _Keys], t.Any]] = {
    str: _encode_str,
    int: _encode_int,
    list: _encode_list,
    dict: _encode_dict,
    tuple: _encode_tuple,
    set: lambda value, depth, _: _tagged("set", _encode_set(value, depth)),
    frozenset: lambda value, depth, _: _tagged("frozenset", _encode_set(value, depth)),
    Markup: lambda value, depth, _: _tagged("markup", encode_part(str(value), depth)),
    Real.datetime: _encode_datetime,
    Real.date: lambda value, *_: _tagged("date", value.isoformat()),
    dt.time: lambda value, *_: _tagged("time", value.isoformat()),
    dt.timedelta: lambda value, *_: _tagged("timedelta", [value.days, value.seconds, value.microseconds]),
    Decimal: lambda value, *_: _tagged("decimal", str(value)),
    Binary: _encode_binary,
    DatetimeMS: lambda value, *_: _tagged("milliseconds", int(value)),
}


def _path_to_unstorable(value: t.Any) -> str:
    """Where inside *value* the part lies that cannot be stored: ``[0].price``; ``""`` for *value* itself.

    Searches only after encoding has failed, so that encoding need not keep track.
    """
    for step, part in _parts(value):
        try:
            encode_part(part, 0)
        except _Unstorable:
            return step + _path_to_unstorable(part)

    return ""


def _parts(value: t.Any) -> t.Iterator[tuple[str, t.Any]]:
    """The items of a container, and how one gets there."""
    try:
        container = value if type(value) in _ENCODERS else plain(value)
    except NotPlain:
        return

    if isinstance(container, dict):
        yield from (("", key) for key in container)
        yield from ((step(key), item) for key, item in container.items())
    elif isinstance(container, (list, tuple)):
        yield from ((f"[{index}]", item) for index, item in enumerate(container))
    elif isinstance(container, (set, frozenset)):
        yield from (("[…]", item) for item in container)


def step(key: t.Any) -> str:
    """A dictionary's key as a step of a path. One that may be content itself, long or no identifier, is left out."""
    is_name = isinstance(key, str) and key.isidentifier() and len(key) <= _LONGEST_NAME
    return f".{key}" if is_name else "[…]"
