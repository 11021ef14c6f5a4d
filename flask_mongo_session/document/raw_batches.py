"""Raw batches of documents, as the driver hands them out undecoded: the short way through those of plain values."""

from __future__ import annotations

import contextlib
import typing as t

import bson
from bson.code import Code
from bson.codec_options import TypeDecoder, TypeRegistry
from bson.dbref import DBRef
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey

from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS

from .codec import TAG

_TAG_IN_BSON = TAG.encode() + b"\0"


class _NotPlain(Exception):
    """A value of a type that is never written."""


class _Integers(TypeDecoder):
    """An integer over 32 bit, which the driver reads as a type of its own."""

    bson_type = Int64

    def transform_bson(self, value: Int64) -> int:
        return int(value)


class _Refused(TypeDecoder):
    """A type that is never written."""

    bson_type: t.Any = None

    def __init__(self, bson_type: type) -> None:
        self.bson_type = bson_type

    def transform_bson(self, _value: t.Any) -> t.Any:
        raise _NotPlain


_PLAIN_OPTIONS = CODEC_OPTIONS.with_options(
    type_registry=TypeRegistry([_Integers(), *map(_Refused, (Code, DBRef, MinKey, MaxKey))])
)


def plain_documents(batch: bytes) -> list[dict[str, t.Any]] | None:
    """The documents of a raw batch, where every value in it decodes to itself; ``None`` where one may not.

    What decoding each value would find out by walking through it, the driver's decoder finds out on its way.
    """
    if _TAG_IN_BSON in batch:
        return None

    try:
        return bson.decode_all(batch, _PLAIN_OPTIONS)
    except (bson.errors.BSONError, _NotPlain):
        return None


def documents(batch: bytes) -> t.Iterable[dict[str, t.Any]]:
    """The documents of a raw batch; one that is malformed does not take its neighbours along."""
    try:
        return bson.decode_all(batch, CODEC_OPTIONS)
    except bson.errors.BSONError:
        return _well_formed(batch)


def _well_formed(batch: bytes) -> t.Iterator[dict[str, t.Any]]:
    start = 0
    while start < len(batch):
        end = start + int.from_bytes(batch[start : start + 4], "little")
        with contextlib.suppress(bson.errors.BSONError):
            yield bson.decode(batch[start:end], CODEC_OPTIONS)
        start = end
