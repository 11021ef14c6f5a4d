"""Subclasses and look-alikes of plain types, as the plain values that Flask's own session would make of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import types
import typing as t
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal

from markupsafe import Markup
from mongoengine.base import BaseDocument
from werkzeug.local import LocalProxy


class Real:
    """The types behind ``datetime.date`` and ``datetime.datetime``.

    freezegun exchanges both names in every module while time stands still, also before this module is imported; it
    does not look into classes.
    """

    datetime: type[dt.datetime]
    date: type[dt.date]
    datetime, date = (kind for kind in dt.datetime.__mro__ if kind.__module__ == "datetime")


class NotPlain(TypeError):
    """Flask's own session refuses the value, too."""


def plain(value: t.Any) -> t.Any:
    """*value* as its base type, by the rules and in the order of Flask's ``TaggedJSONSerializer``.

    Containers keep their items as they are. Raises :exc:`NotPlain` where there is no such type.
    """
    try:
        return _plain(value)
    except (TypeError, ValueError) as error:
        raise NotPlain from error


def way_out(value: t.Any) -> str:
    """What the author of the application can do about a value that is :exc:`NotPlain`."""
    for kind, advice in _WAYS_OUT:
        if isinstance(value, kind):
            return advice

    return "convert it to a plain type first, as vars(…) or a .to_dict() of its own does"


def _plain(value: t.Any) -> t.Any:
    for base, convert in _CONTAINERS:
        if isinstance(value, base):
            return convert(value)

    if callable(html := getattr(value, "__html__", None)):
        return Markup(html())  # noqa: S704 - the value says itself that it is markup

    # Not isinstance(): a LocalProxy passes that, but has not the memory of a text or a number.
    for base, convert in _SCALARS:
        if issubclass(type(value), base):
            return convert(value)

    for base, convert in _OTHERS:
        if isinstance(value, base):
            return convert(value)

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(getattr(value, "casefold", None), (types.MethodType, types.BuiltinMethodType)):
        return str(value)

    raise NotPlain


def _plain_datetime(value: dt.datetime) -> dt.datetime:
    date = (value.year, value.month, value.day)
    time = (value.hour, value.minute, value.second, value.microsecond)

    return Real.datetime(*date, *time, tzinfo=value.tzinfo, fold=value.fold)


def _plain_time(value: dt.time) -> dt.time:
    return dt.time(value.hour, value.minute, value.second, value.microsecond, tzinfo=value.tzinfo, fold=value.fold)


_Conversions = tuple[tuple[type, t.Callable[[t.Any], t.Any]], ...]

_CONTAINERS: _Conversions = (
    (dict, lambda value: dict(value.items())),
    (tuple, lambda value: (*value,)),
    (list, lambda value: [*value]),
    (bytes, lambda value: bytes(memoryview(value))),
)
_SCALARS: _Conversions = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)
_OTHERS: _Conversions = (
    (uuid.UUID, lambda value: uuid.UUID(int=value.int)),
    (Real.datetime, _plain_datetime),
    (Real.date, lambda value: Real.date(value.year, value.month, value.day)),
    (Decimal, lambda value: Decimal(value.as_tuple())),
    (dt.time, _plain_time),
    (dt.timedelta, lambda value: dt.timedelta(value.days, value.seconds, value.microseconds)),
    (set, lambda value: {*value}),
    (frozenset, lambda value: frozenset([*value])),
)

_WAYS_OUT: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (LocalProxy, "store what it stands for: ._get_current_object()"),
    (type, "a class cannot be stored; store its name"),
    ((types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType), "store its name"),
    (enum.Enum, "store its .value"),
    (BaseDocument, "store its id, or declare the key as a field that holds it"),
    ((bytearray, memoryview), "store bytes(…) of it"),
    (complex, "store str(…) of it"),
    (BaseException, "store str(…) of it"),
    (Mapping, "store dict(…) of it"),
    (Iterable, "store list(…) of it"),
)
