"""Declared fields of every kind, by the table in ``field_table``: nothing is lost or shared, nobody locked out."""

from __future__ import annotations

import copy
import itertools
import re

import bson
import mongoengine.fields
import pytest
from bson import DBRef, ObjectId
from field_table import NOON, ROWS, WRAPPINGS, Crate, Size, TableItem, declared
from mongoengine import (
    EmbeddedDocument,
    EmbeddedDocumentField,
    EnumField,
    IntField,
    ListField,
    StringField,
    ValidationError,
)
from mongoengine.base import BaseField, GeoJsonBaseField, LazyReference

from flask_mongo_session import InvalidFieldValue
from flask_mongo_session.document import codec
from flask_mongo_session.document.schema import Schema
from flask_mongo_session.exceptions import DamagedDocument
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS

#: What another model, or another program, may have left behind.
STRANGE = [
    *(5, 2**40, 1.5, "text", "", True, b"bytes", NOON, ObjectId(), None),
    *([], {}, [1, {"a": [2]}], {"a": {"b": [1]}}, {"_cls": "Nobody", "name": 1}, {"_cls": 3}),
    {"name": ["a"], "unknown": 1},
    DBRef("products", 1),
]

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
each_mutable_row = pytest.mark.parametrize("row", [row for row in ROWS if row.change], ids=lambda row: row.name)
each_wrapping = pytest.mark.parametrize("wrapping", WRAPPINGS, ids=lambda wrapping: wrapping.name)


def reloaded(schema, encoded, *schemas):
    """The encoded value of ``field`` after it went to the database, by *schema*, and came back, by the last schema."""
    document = bson.decode(bson.encode(schema.split({"field": encoded}), codec_options=CODEC_OPTIONS), CODEC_OPTIONS)
    return (schemas or (schema,))[-1].gather(document)["field"]


def containers(value):
    """The ids of all objects in a value that could be changed in place."""
    if isinstance(value, EmbeddedDocument):
        return {id(value)}.union(*(containers(value._data[name]) for name in value._data))
    if isinstance(value, Crate):
        return {id(value)} | containers(value.content)
    if isinstance(value, dict):
        return {id(value)}.union(*map(containers, value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*map(containers, value))

    return set()


def test_the_table_is_complete():
    """The table holds every field that MongoEngine has, but those that a session refuses."""
    refused = {"DynamicField", "ReferenceField", "CachedReferenceField", "GenericReferenceField"}
    refused |= {"FileField", "ImageField", "SequenceField"}
    known = {
        name
        for name in mongoengine.fields.__all__
        if isinstance(kind := getattr(mongoengine.fields, name), type) and issubclass(kind, BaseField)
    }

    assert known - refused - {BaseField.__name__, GeoJsonBaseField.__name__} <= {
        type(row.make()).__name__ for row in ROWS
    }


@each_wrapping
@each_row
def test_assigned_and_read(row, wrapping):
    """The answer is what the field makes of the value, at once and after a reload; untouched, it never differs."""
    schema = declared(row, wrapping).schema()
    value = wrapping.put(row, copy.deepcopy(row.value))
    encoded = schema.encode("field", value)

    for again in (encoded, reloaded(schema, encoded)):
        kept, answer = schema.keep("field", value, again), schema.decode("field", again)
        for one in (kept, answer):
            assert wrapping.get(one) == row.wanted
            assert isinstance(wrapping.get(one), type(row.wanted))
            assert not schema.differs("field", one, again)
        assert not (containers(kept) | containers(answer)) & containers(again)
        assert not containers(kept) & containers(answer)
    assert codec.same(encoded, reloaded(schema, encoded))


@each_wrapping
@each_row
def test_stored_as_mongoengine_would(row, wrapping):
    """Queries by the field, and admin views, find what they would have stored themselves."""
    model = declared(row, wrapping)
    value = wrapping.put(row, copy.deepcopy(row.value))

    assert codec.same(model.schema().encode("field", value), codec.as_stored(model(field=value).to_mongo()["field"]))


@each_wrapping
@each_mutable_row
def test_changed_in_place(row, wrapping):
    """What was changed in place differs, is stored, and changed nothing but itself."""
    schema = declared(row, wrapping).schema()
    encoded = reloaded(schema, schema.encode("field", wrapping.put(row, copy.deepcopy(row.value))))
    bystander, answer = schema.decode("field", encoded), schema.decode("field", encoded)
    row.change(wrapping.get(answer))

    assert schema.differs("field", answer, encoded)
    stored = reloaded(schema, schema.encode("field", answer))
    assert wrapping.get(schema.decode("field", stored)) == row.changed
    assert not schema.differs("field", answer, stored)
    assert wrapping.get(bystander) == wrapping.get(schema.decode("field", encoded)) == row.wanted


@each_wrapping
@each_row
def test_replaced(row, wrapping):
    """Another value differs; the same value, assigned again, does not."""
    schema = declared(row, wrapping).schema()
    encoded = schema.encode("field", wrapping.put(row, copy.deepcopy(row.value)))
    other = schema.encode("field", wrapping.put(row, copy.deepcopy(row.other)))

    assert schema.differs("field", schema.decode("field", other), encoded)
    assert not schema.differs("field", wrapping.put(row, copy.deepcopy(row.value)), encoded)
    assert schema.differs("field", None, encoded)
    assert not schema.differs("field", None, None)
    assert schema.encode("field", None) is schema.decode("field", None) is None


@each_wrapping
@each_row
def test_refused_without_the_value(row, wrapping):
    """The message names key and field, never the value; nor does an error that it carries along."""
    with pytest.raises(InvalidFieldValue) as caught:
        declared(row, wrapping).schema().encode("field", wrapping.spoil(row, copy.deepcopy(row.refused)))

    assert str(caught.value).startswith("Session key 'field' (")
    assert " refused a value of type " in str(caught.value)
    for secret in ("ecret", "content", "6660666"):
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert caught.value.field_name == "field"


@each_wrapping
@each_row
def test_a_tightened_validator_locks_nobody_out(row, wrapping):
    """A value that its field would refuse today is read, and untouched it is not validated; assigned, it is."""

    def refuse(value):
        raise ValidationError(f"never {value!r}")

    schema = declared(row, wrapping).schema()
    encoded = reloaded(schema, schema.encode("field", wrapping.put(row, copy.deepcopy(row.value))))
    tight = declared(row, wrapping, outer={"validation": refuse}).schema()

    answer = tight.decode("field", encoded)
    assert wrapping.get(answer) == row.wanted
    assert not tight.differs("field", answer, encoded)
    with pytest.raises(InvalidFieldValue, match="refuse"):
        tight.encode("field", answer)


@each_wrapping
@each_row
def test_what_does_not_fit_is_handed_out(row, wrapping):
    """Whatever is stored is read without an error, differs only once it is changed, and shares nothing."""
    schema = declared(row, wrapping).schema()
    is_embedded = wrapping.name == "Embedded"
    nested = [{"part": strange} if is_embedded else wrapping.put(row, strange) for strange in STRANGE]

    for stored in (*STRANGE, *nested):
        before = copy.deepcopy(stored)
        answer = schema.decode("field", stored)
        assert not schema.differs("field", answer, stored)
        assert not containers(answer) & containers(stored)
        if type(answer) is dict:
            answer["changed"] = 1
        elif type(answer) is list:
            answer.append("changed")
        else:
            continue
        assert schema.differs("field", answer, stored)
        assert stored == before


@each_row
def test_defaults(row):
    """A default is the field's, constant or callable; each visitor has a copy; it differs once it was changed."""
    for default in (row.wanted, lambda: row.wanted):
        schema = declared(row, default=default).schema()
        mine, yours = schema.default("field"), schema.default("field")
        assert mine == yours == row.wanted
        assert not containers(mine) & (containers(yours) | containers(row.wanted))

        snapshot = schema.snapshot("field", mine)
        assert not schema.differs("field", mine, snapshot)
        if row.change:
            row.change(mine)
            assert schema.differs("field", mine, snapshot)
            assert yours == schema.default("field") == row.wanted


@each_row
def test_a_varying_default_is_not_a_change(row):
    """A default that is another one at each call does not look changed."""
    alternating = itertools.cycle([row.value, row.other])
    schema = declared(row, default=lambda: copy.deepcopy(next(alternating))).schema()

    default = schema.default("field")
    snapshot = schema.snapshot("field", default)
    schema.default("field")
    assert not schema.differs("field", default, snapshot)


def test_defaults_inside_of_embedded_documents():
    """What loading fills into an embedded document, another each time, is no change; what is assigned there is."""
    schema = declared_item()
    stored = {"name": "a", "tags": []}

    answer = schema.decode("field", stored)
    assert answer.number is not None
    assert not schema.differs("field", answer, stored)

    answer.number = 99
    assert schema.differs("field", answer, stored)
    answer = schema.decode("field", stored)
    answer.tags.append("b")
    assert schema.differs("field", answer, stored)
    assert schema.differs("field", TableItem(name="a", number=99), stored)


def test_a_document_of_ones_own_replaces_a_stored_one():
    """An embedded document that the view made is compared whole, also where its defaults were not stored."""
    schema = Schema({"field": ListField(EmbeddedDocumentField(TableItem))})
    stored = [{"name": "a", "tags": []}]
    answer = schema.decode("field", stored)
    answer[0] = TableItem(name="a")

    assert schema.differs("field", answer, stored)


def declared_item():
    row = next(row for row in ROWS if row.name == "EmbeddedDocumentField")
    return declared(row).schema()


@each_row
def test_no_default(row):
    """Without a default there is none, whatever MongoEngine thinks."""
    schema = declared(row, default=None).schema()
    for key in ("field", "free"):
        with pytest.raises(KeyError):
            schema.default(key)


@each_row
def test_removed_and_restored(row):
    """A field that the model lost is not seen; restored, it is what it was, unless it was written in between."""
    schema, without = declared(row).schema(), Schema({})
    encoded = schema.encode("field", copy.deepcopy(row.value))
    document = schema.split({"field": encoded, "free": 1})

    assert without.gather(document) == {"free": 1}
    assert schema.decode("field", schema.gather(document)["field"]) == row.wanted

    document["data"]["field"] = schema.encode("field", copy.deepcopy(row.other))
    assert not schema.differs(
        "field",
        schema.decode("field", schema.gather(document)["field"]),
        schema.encode("field", copy.deepcopy(row.other)),
    )


@each_row
def test_declared_later(row):
    """A free-form key that becomes declared is read from where it lies, converted, and no change by itself."""
    schema = declared(row).schema()
    try:
        free = codec.encode("field", row.value)
    except TypeError:
        free = schema.encode("field", row.value)
    document = codec.as_stored({"data": {"field": free, "free": 1}})

    found = schema.gather(document)
    answer = schema.decode("field", found["field"])
    assert answer == row.wanted
    assert not schema.differs("field", answer, found["field"])
    assert schema.stale_paths(["free", "field", "other"]) == ["data.field"]
    assert schema.split(found) == {"data": {"free": 1}, "field": found["field"]}


def test_declared_later_where_values_are_encrypted():
    """What lies encrypted under ``data`` is decrypted before its field converts it, or counts as absent."""

    def unseal(field, sealed):
        if sealed != b"sealed":
            raise DamagedDocument("wrong key")
        return codec.encode(field, (1, 2))

    schema = Schema({"a.b": ListField(IntField(), db_field="numbers")}, sealed=True)
    document = {"data": {"a%002eb": b"sealed"}, "numbers": [3]}

    assert schema.gather(document, unseal) == {"a.b": [1, 2]}
    assert schema.gather(document) == {"a.b": [3]}
    assert schema.gather({**document, "data": {"a%002eb": b"other"}}, unseal) == {"a.b": [3]}
    assert schema.gather({"data": {"a%002eb": b"other"}}, unseal) == {}
    assert schema.stale_paths(["a.b"]) == ["data.a%002eb"]


@each_row
def test_append(row):
    """An item is stored as the list would store it; what cannot be appended to says so."""
    schema = declared(row).schema()
    if row.item is ...:
        with pytest.raises(InvalidFieldValue, match="'field'"):
            schema.encode_item("field", "secret")
        return

    assert codec.same([schema.encode_item("field", row.item)], schema.encode("field", [row.item]))
    with pytest.raises(InvalidFieldValue, match="'field'") as caught:
        schema.encode_item("field", row.refused[-1])
    assert "secret" not in str(caught.value)


@each_row
def test_append_keeps_max_length(row):
    """What would go past ``max_length`` unseen is refused, unless the append itself bounds the list."""
    if row.item is ...:
        return

    schema = declared(row, max_length=3).schema()
    for limit in (None, 4):
        with pytest.raises(InvalidFieldValue, match=r"at most 3 items.*limit=3"):
            schema.encode_item("field", row.item, limit)
    for limit in (3, 1):
        assert schema.encode_item("field", row.item, limit) is not None


def test_append_where_the_whole_list_matters():
    """A list that starts full, is sorted or validated as a whole cannot be appended to unseen."""
    for field, why in [
        (ListField(IntField(), default=lambda: [1]), "starts as a list of 1"),
        (ListField(IntField(), validation=lambda _: None), "validated as a whole"),
        (mongoengine.SortedListField(IntField()), "in order"),
    ]:
        with pytest.raises(InvalidFieldValue, match=why):
            Schema({"field": field}).encode_item("field", 1)


@each_row
def test_increment(row):
    """Numbers that the database can add to may be incremented; all else says so."""
    schema = declared(row).schema()
    if row.by is ...:
        with pytest.raises(InvalidFieldValue, match="no number"):
            schema.check_number("field", 1)
        return

    schema.check_number("field", row.by)
    with pytest.raises(InvalidFieldValue, match="default that an increment cannot know"):
        declared(row, default=5).schema().check_number("field", 1)
    if isinstance(row.by, int):
        with pytest.raises(InvalidFieldValue, match="fraction"):
            schema.check_number("field", 0.5)


def test_rules_are_named():
    """A message says which rule was broken, where in the value, and by what type of value."""
    schema = Schema(
        {
            "theme": StringField(choices=("light", "dark")),
            "count": IntField(min_value=0, max_value=9),
            "basket": ListField(EmbeddedDocumentField(TableItem)),
            "even": IntField(validation=check_even),
            "size": EnumField(Size),
            "named": StringField(choices=[("a", "An A"), ("b", "A B")]),
            "short": StringField(min_length=1, regex="^[a-z]$"),
            "long": StringField(choices=[f"choice number {number}" for number in range(100)]),
            "link": mongoengine.URLField(schemes=["https"]),
            "clean": EmbeddedDocumentField(Clean),
            "picked": mongoengine.GenericEmbeddedDocumentField(choices=(TableItem,)),
        }
    )
    for key, value, message in [
        ("theme", "purple", "'theme' (StringField) refused str: it must be one of 'light', 'dark'."),
        ("count", "ten", "'count' (IntField) refused str: it must be at least 0, at most 9."),
        (
            "basket",
            [TableItem(), TableItem(name="much too long")],
            "'basket' (ListField) refused str at basket[1].name (StringField): it must be at most 10 long.",
        ),
        ("size", "m", "'size' (EnumField) refused str: it must be one of Size.SMALL, Size.LARGE."),
        ("named", "c", "'named' (StringField) refused str: it must be one of 'a', 'b'."),
        ("short", "", "'short' (StringField) refused str: it must be at least 1 long, matched by '^[a-z]$'."),
        ("link", "ftp://secret", "'link' (URLField) refused str: it must be of one of the schemes 'https'."),
        ("picked", 3, "'picked' (GenericEmbeddedDocumentField) refused int: it must be one of TableItem."),
        ("even", 3, "'even' (IntField) refused int: it must be accepted by check_even."),
        ("even", "3", "'even' (IntField) refused str with TypeError: it must be accepted by check_even."),
        ("clean", Clean(), f"'clean' (EmbeddedDocumentField) refused {__name__}.Clean."),
    ]:
        with pytest.raises(InvalidFieldValue) as caught:
            schema.encode(key, value)
        assert re.sub("a value of type (builtins.)?", "", str(caught.value)) == f"Session key {message}"

    with pytest.raises(InvalidFieldValue, match=r"'choice number 0', .*…\.$") as caught:
        schema.encode("long", "none of them")
    assert len(str(caught.value)) < 400


class Clean(EmbeddedDocument):
    def clean(self):
        raise ValidationError("secret")


def check_even(value):
    if value % 2:
        raise ValidationError(f"{value} is odd")


def test_too_deep_for_the_server():
    """A client that nests a declared dictionary endlessly gets a refusal, whoever notices first."""
    deep = {}
    for _ in range(codec.MAX_DEPTH):
        deep = {"a": deep}
    endless = {}
    for _ in range(5000):
        endless = {"a": endless}
    schema = Schema({"field": mongoengine.DictField(), "items": ListField()})

    for key, value in (("field", deep), ("items", [deep]), ("field", endless), ("items", [endless])):
        with pytest.raises(InvalidFieldValue, match=r"'(field|items)'"):
            schema.encode(key, value)
    assert schema.encode("field", deep["a"]["a"]) == deep["a"]["a"]


def test_lazy_references_wherever_they_lie():
    """A reference is answered as one that follows itself only when it is asked to, nested ones too."""
    row = next(row for row in ROWS if row.name == "GenericLazyReferenceField")
    for wrapping in WRAPPINGS:
        schema = declared(row, wrapping).schema()
        encoded = schema.encode("field", wrapping.put(row, row.value))
        assert isinstance(wrapping.get(schema.decode("field", encoded)), LazyReference)
