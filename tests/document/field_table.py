"""Every MongoEngine field that a session may declare, with values to assign, to change, and to refuse: one table.

``ROWS`` are the fields, ``WRAPPINGS`` the ways to nest one in another; ``declared(row, wrapping)`` is a model.
"""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

from bson import ObjectId
from mongoengine import (
    BinaryField,
    BooleanField,
    ComplexDateTimeField,
    DateField,
    DateTimeField,
    Decimal128Field,
    DecimalField,
    DictField,
    Document,
    EmailField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    EnumField,
    FloatField,
    GenericEmbeddedDocumentField,
    GenericLazyReferenceField,
    GeoPointField,
    IntField,
    LazyReferenceField,
    LineStringField,
    ListField,
    LongField,
    MapField,
    MultiLineStringField,
    MultiPointField,
    MultiPolygonField,
    ObjectIdField,
    PointField,
    PolygonField,
    SortedListField,
    StringField,
    URLField,
    UUIDField,
)
from mongoengine.base import BaseField, LazyReference

from flask_mongo_session import SessionDocument

UTC = dt.timezone.utc
NOON = dt.datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=UTC)
OID = ObjectId("0123456789abcdef01234567")
OTHER_OID = ObjectId("76543210fedcba9876543210")
_numbers = itertools.count()


class TableProduct(Document):
    meta: ClassVar = {"collection": "products", "auto_create_index": False}


class TableItem(EmbeddedDocument):
    name = StringField(max_length=10)
    count = IntField(min_value=1)
    tags = ListField(StringField())
    #: Another default for each item that does not have it stored.
    number = IntField(default=lambda: next(_numbers))


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Crate:
    """What a field of an application's own makes of a stored document: it holds on to the very object."""

    def __init__(self, content):
        self.content = content

    def __eq__(self, other):
        return isinstance(other, Crate) and self.content == other.content

    __hash__ = None


class CrateField(BaseField):
    """Converts without copying, as a field may."""

    def to_python(self, value):
        return value if isinstance(value, Crate) else Crate(value)

    def to_mongo(self, value):
        return value.content

    def validate(self, value):
        if not isinstance(value, Crate):
            self.error(f"{value!r} is no crate")


class Row(NamedTuple):
    """One field: how it is made, and values of it."""

    name: str
    make: Callable[..., BaseField]
    value: Any
    other: Any
    #: What the field does not allow.
    refused: Any
    #: What is answered after *value* was assigned; the value itself unless the field converts it.
    answer: Any = ...
    #: Changes an answer in place, and what it is then.
    change: Callable[[Any], Any] | None = None
    changed: Any = None
    #: An item to append, a number to add.
    item: Any = ...
    by: Any = ...

    @property
    def wanted(self):
        """What is answered after the value was assigned."""
        return self.value if self.answer is ... else self.answer


def _rename(item):
    item.name = "new"


def _item(name):
    return TableItem(name=name, count=1, tags=["a"], number=7)


_LINE = [[1.0, 2.0], [3.0, 4.0]]
_RING = [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
_GARBAGE = ["secret", "content"]


def _geo(name, field, coordinates, changed):
    """A GeoJSON field, which is answered as the document that is stored."""

    def change(value):
        value["coordinates"].append(value["coordinates"][-1])

    if name == "Point":

        def change(value):
            value["coordinates"][0] = 9.0

    return Row(
        f"{name}Field",
        lambda **options: field(auto_index=False, **options),
        coordinates,
        {"type": name, "coordinates": changed},
        "secret text",
        answer={"type": name, "coordinates": coordinates},
        change=change,
        changed={"type": name, "coordinates": changed},
    )


ROWS = [
    Row("StringField", lambda **o: StringField(max_length=5, **o), "hello", "world", "secret text"),
    Row("StringField matching", lambda **o: StringField(regex="^[a-z]+$", **o), "hello", "world", "5ecret text"),
    Row("URLField", URLField, "https://example.org/", "https://example.com/", "https//secret text"),
    Row("EmailField", EmailField, "a@example.org", "b@example.org", "secret text"),
    Row("IntField", lambda **o: IntField(max_value=10, **o), 3, 4, 6_660_666, by=2),
    Row("LongField", LongField, 2**40, 5, "secret text", by=2**40),
    Row("FloatField", FloatField, 1.5, -0.0, "secret text", by=0.5),
    Row("DecimalField", DecimalField, Decimal("1.239"), Decimal("0.50"), "secret text", answer=Decimal("1.24")),
    Row(
        "DecimalField as text",
        lambda **o: DecimalField(force_string=True, precision=3, **o),
        Decimal("1.230"),
        Decimal("0.500"),
        "secret text",
    ),
    Row("Decimal128Field", Decimal128Field, Decimal("1.2345678901"), Decimal(7), "secret text"),
    Row("BooleanField", BooleanField, True, False, "secret text"),
    Row("DateTimeField", DateTimeField, NOON, NOON.replace(year=2000), "secret text"),
    Row("DateField", DateField, dt.date(2024, 2, 29), dt.date(2000, 1, 1), "secret text"),
    Row(
        "ComplexDateTimeField",
        ComplexDateTimeField,
        dt.datetime(2024, 1, 1, 1, 1, 1, 123_456),  # noqa: DTZ001 - it knows no time zone
        dt.datetime(2000, 1, 1, 1, 1, 1, 1),  # noqa: DTZ001
        "secret text",
    ),
    Row("BinaryField", lambda **o: BinaryField(max_bytes=4, **o), b"\0\xff", b"abc", b"secret text"),
    Row("UUIDField", UUIDField, uuid.UUID(int=5), uuid.UUID(int=6), "secret text"),
    Row("UUIDField as text", lambda **o: UUIDField(binary=False, **o), uuid.UUID(int=5), uuid.UUID(int=6), "secret"),
    Row("ObjectIdField", ObjectIdField, str(OID), OTHER_OID, "secret text", answer=OID),
    Row("EnumField", lambda **o: EnumField(Size, **o), Size.LARGE, Size.SMALL, "secret text"),
    Row(
        "LazyReferenceField",
        lambda **o: LazyReferenceField(TableProduct, **o),
        OID,
        OTHER_OID,
        "secret text",
        answer=LazyReference(TableProduct, OID),
    ),
    Row(
        "LazyReferenceField as DBRef",
        lambda **o: LazyReferenceField(TableProduct, dbref=True, **o),
        TableProduct(id=OID),
        OTHER_OID,
        "secret text",
        answer=LazyReference(TableProduct, OID),
    ),
    Row(
        "GenericLazyReferenceField",
        GenericLazyReferenceField,
        TableProduct(id=OID),
        TableProduct(id=OTHER_OID),
        "secret text",
        answer=LazyReference(TableProduct, OID),
    ),
    Row(
        "ListField",
        lambda **o: ListField(StringField(max_length=3), **o),
        ["a", "b"],
        ["c"],
        ["secret text"],
        change=lambda value: value.append("c"),
        changed=["a", "b", "c"],
        item="d",
    ),
    Row(
        "ListField of anything",
        ListField,
        [1, "a", {"b": [2]}],
        [2],
        [object()],
        change=lambda value: value[2]["b"].append(3),
        changed=[1, "a", {"b": [2, 3]}],
        item={"c": 1},
    ),
    Row(
        "SortedListField",
        lambda **o: SortedListField(IntField(), **o),
        [3, 1, 2],
        [5],
        ["secret text"],
        answer=[1, 2, 3],
        change=lambda value: value.append(0),
        changed=[0, 1, 2, 3],
    ),
    Row(
        "EmbeddedDocumentField",
        lambda **o: EmbeddedDocumentField(TableItem, **o),
        _item("a"),
        _item("b"),
        _item("secret text"),
        change=_rename,
        changed=_item("new"),
    ),
    Row(
        "GenericEmbeddedDocumentField",
        lambda **o: GenericEmbeddedDocumentField(choices=(TableItem,), **o),
        _item("a"),
        _item("b"),
        _item("secret text"),
        change=_rename,
        changed=_item("new"),
    ),
    Row(
        "EmbeddedDocumentListField",
        lambda **o: EmbeddedDocumentListField(TableItem, **o),
        [_item("a"), _item("b")],
        [_item("c")],
        [_item("a"), _item("secret text")],
        change=lambda value: _rename(value[1]),
        changed=[_item("a"), _item("new")],
        item=_item("d"),
    ),
    Row(
        "DictField",
        DictField,
        {"a": [1, {"b": 2}]},
        {"c": 1},
        {"a": object()},
        change=lambda value: value["a"][1].update(b=3),
        changed={"a": [1, {"b": 3}]},
    ),
    Row(
        "MapField",
        lambda **o: MapField(IntField(), **o),
        {"a": 1},
        {"b": 2},
        {"a": "secret text"},
        change=lambda value: value.update(a=2),
        changed={"a": 2},
    ),
    Row(
        "GeoPointField",
        GeoPointField,
        [1.5, 2.5],
        [0.0, 1.0],
        _GARBAGE,
        change=lambda value: value.reverse(),
        changed=[2.5, 1.5],
    ),
    _geo("Point", PointField, [1.0, 2.0], [9.0, 2.0]),
    _geo("LineString", LineStringField, _LINE, [*_LINE, _LINE[-1]]),
    _geo("Polygon", PolygonField, [_RING], [_RING, _RING]),
    _geo("MultiPoint", MultiPointField, _LINE, [*_LINE, _LINE[-1]]),
    _geo("MultiLineString", MultiLineStringField, [_LINE], [_LINE, _LINE]),
    _geo("MultiPolygon", MultiPolygonField, [[_RING]], [[_RING], [_RING]]),
    Row(
        "a field of one's own",
        CrateField,
        Crate({"a": [1]}),
        Crate({"b": 2}),
        "secret text",
        change=lambda value: value.content["a"].append(2),
        changed=Crate({"a": [1, 2]}),
    ),
]


class Wrapping(NamedTuple):
    """A way to declare a field inside of another one: the field, a value in it, and the part of that."""

    name: str
    make: Callable[[Row, dict[str, Any]], BaseField]
    put: Callable[[Row, Any], Any]
    get: Callable[[Any], Any]

    def spoil(self, row, value):
        """As ``put``, for a value that an embedded document would convert before anybody checks it."""
        container = self.put(row, None)
        if isinstance(container, EmbeddedDocument):
            container._data["part"] = value
            return container

        return self.put(row, value)


_holders: dict[str, type[EmbeddedDocument]] = {}


def holder(row, options=None):
    """The embedded document that holds a field of this row."""
    if options:
        return type("TightHolder", (EmbeddedDocument,), {"part": row.make(**options), "meta": {"strict": False}})
    if row.name not in _holders:
        _holders[row.name] = type(f"Holder{len(_holders)}", (EmbeddedDocument,), {"part": row.make()})

    return _holders[row.name]


WRAPPINGS = [
    Wrapping("as it is", lambda row, o: row.make(**o), lambda _, value: value, lambda value: value),
    Wrapping("List", lambda row, o: ListField(row.make(**o)), lambda _, value: [value], lambda value: value[0]),
    Wrapping("Map", lambda row, o: MapField(row.make(**o)), lambda _, value: {"k": value}, lambda value: value["k"]),
    Wrapping("Dict", lambda row, o: DictField(row.make(**o)), lambda _, value: {"k": value}, lambda value: value["k"]),
    Wrapping(
        "Embedded",
        lambda row, o: EmbeddedDocumentField(holder(row, o)),
        lambda row, value: holder(row)(part=value),
        lambda value: value.part,
    ),
]


def declared(row, wrapping=WRAPPINGS[0], *, outer=None, **options):
    """A model with the key ``field``: the row's field, made with *options*, in the wrapping; ``free`` is no field."""
    field = wrapping.make(row, options)
    for name, value in (outer or {}).items():
        setattr(field, name, value)

    return type("TableSession", (SessionDocument,), {"field": field, "meta": {"collection": "sessions"}})
