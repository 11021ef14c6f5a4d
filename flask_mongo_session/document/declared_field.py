"""A MongoEngine field as a session key: what is allowed, how it is stored, what is handed out, what was changed."""

from __future__ import annotations

import copy
import typing as t

from bson import DBRef
from bson.errors import BSONError
from mongoengine import EmbeddedDocument
from mongoengine.base import BaseField
from mongoengine.errors import MongoEngineException
from mongoengine.fields import (
    EmbeddedDocumentField,
    FloatField,
    GenericEmbeddedDocumentField,
    GenericLazyReferenceField,
    IntField,
    LazyReferenceField,
    ListField,
    ObjectIdField,
    SortedListField,
)

from flask_mongo_session.exceptions import DamagedDocument, InvalidFieldValue

from . import codec
from .refusal import describe

#: What checking and converting a value raises when the value is wrong; a validator may be of the application's own.
_REFUSALS = (
    *(
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        LookupError,
        AssertionError,
        RecursionError,
        ReferenceError,
    ),
    *(BSONError, MongoEngineException),
)
_NUMBERS = (IntField, FloatField)
_REFERENCES = (LazyReferenceField, GenericLazyReferenceField)
#: Where an embedded document keeps what loading filled in: by field name in the database, the default encoded.
_FILLED_IN = "_filled_in"


class DeclaredField:
    """One declared key. *Encoded* is what the field's ``to_mongo`` gives, as the driver would read it."""

    def __init__(self, key: str, field: BaseField) -> None:
        self.key = key
        self.field = field
        self.db_field: str = field.db_field
        self._has_references = _holds(field, _REFERENCES)
        self._has_ids = _holds(field, (ObjectIdField, LazyReferenceField))
        self._has_embedded = _holds(field, (EmbeddedDocumentField, GenericEmbeddedDocumentField))

    def encode(self, value: t.Any) -> t.Any:
        """Validate and convert *value*; raises :exc:`InvalidFieldValue` naming key, field and rule, never the value."""
        if value is None:
            return None

        try:
            self.field._validate(value)  # noqa: SLF001 - MongoEngine's own check of choices and validators
            raw = self._raw(value)
        except _REFUSALS as error:
            refusal = self._error(describe(self.key, self.field, value, error))
        else:
            if not _is_too_deep(raw):
                return raw
            refusal = self._error(f"nests values more than {codec.MAX_DEPTH} levels deep")

        # Raised out here, it does not carry along the error that quotes the value.
        raise refusal

    def encode_item(self, value: t.Any, limit: int | None) -> t.Any:
        """The same for one item, to be appended in the database to a list that nobody has read."""
        if not isinstance(self.field, ListField):
            raise self._error("is no list to append to")
        if default := self.default():
            raise self._error(f"starts as a list of {len(default)}, which appending cannot know; assign a list first")
        if isinstance(self.field, SortedListField):
            raise self._error("keeps its items in order, which appending does not; assign the whole list")
        if self.field.validation is not None:
            raise self._error("is validated as a whole, which appending cannot do; assign the whole list")

        longest = self.field.max_length
        if longest is not None and (limit is None or limit > longest):
            raise self._error(
                f"holds at most {longest} items, which appending cannot count; append with limit={longest}"
            )

        return self.encode([value])[0]

    def check_number(self, by: float) -> None:
        """Raise :exc:`InvalidFieldValue` unless the field can be incremented in the database, and by that much."""
        if not isinstance(self.field, _NUMBERS):
            raise self._error("is no number that could be incremented")
        if not isinstance(by, int) and not isinstance(self.field, FloatField):
            raise self._error("holds whole numbers and cannot grow by a fraction")
        if self.default():
            raise self._error("starts at a default that an increment cannot know; let it start at 0")

    def default(self) -> t.Any:
        """A default that nobody else has, or ``None``."""
        default = self.field.default
        if callable(default):
            default = default()

        # A reference cannot be changed in place, and its copy would be another kind of reference.
        is_constant = type(default) in codec.IMMUTABLE or isinstance(default, DBRef)
        return default if is_constant else copy.deepcopy(default)

    def load(self, encoded: t.Any) -> t.Any:
        """What is handed out: a value of its own, whatever the field does; as it is stored where that fails."""
        if encoded is None:
            return None

        try:
            return self._converted(encoded)
        except Exception:  # noqa: BLE001 - a field of the application's own, on data of another model
            return codec.fresh(encoded)

    def adopt(self, free: t.Any) -> t.Any:
        """*free*, stored when the key was free-form, as the field would have encoded it; as it is, where it cannot."""
        try:
            return self._raw(codec.decode(free))
        except (*_REFUSALS, DamagedDocument):
            return free

    def snapshot(self, value: t.Any) -> t.Any:
        """*value* encoded, not validated; where that fails a copy that equals it."""
        image = self._image(value)
        return copy.deepcopy(value) if image is _NO_IMAGE else image

    def differs(self, value: t.Any, encoded: t.Any) -> bool:
        """Whether *value* was changed since :meth:`load` made it of *encoded*."""
        if value is None or encoded is None:
            return value is not encoded

        before = self.load(encoded)
        image, image_before = self._image(value), self._image(before)
        if image is _NO_IMAGE and image_before is _NO_IMAGE:
            # Two values that were just loaded are equal, unless their type knows no equality.
            return bool(before == self.load(encoded) != value)
        if image is _NO_IMAGE or image_before is _NO_IMAGE:
            return True

        if self._has_embedded:
            _leave_out_defaults(value, image)
            _leave_out_defaults(before, image_before)
        return not codec.same(image, image_before)

    def _converted(self, encoded: t.Any) -> t.Any:
        if self._has_ids and _holds_none(encoded):
            raise ValueError("ObjectId(None) is a new id each time")

        value = self.field.to_python(codec.fresh(encoded))
        if self._has_references:
            value = _with_references(self.field, value)
        if self._has_embedded:
            _note_defaults(value, encoded)

        return value

    def _raw(self, value: t.Any) -> t.Any:
        return codec.as_stored(self.field.to_mongo(value))

    def _image(self, value: t.Any) -> t.Any:
        """What is compared: the value encoded; as plain BSON where the field cannot (it may be of another model)."""
        for to_mongo in (self.field.to_mongo, _unchanged):
            try:
                image = codec.as_stored(to_mongo(value))
            except Exception:  # noqa: BLE001, S112 - a field of the application's own, on data of another model
                continue
            if image is not None:
                return image

        return _NO_IMAGE

    def _error(self, rule: str) -> InvalidFieldValue:
        field = type(self.field).__name__
        return InvalidFieldValue(f"Session key {self.key!r} ({field}) {rule}.", field_name=self.key)


_NO_IMAGE: t.Final = object()


def _unchanged(value: t.Any) -> t.Any:
    return value


def _is_too_deep(raw: t.Any) -> bool:
    level = [raw]
    for _ in range(codec.MAX_DEPTH):
        level = [part for item in level if type(item) in (list, dict) for part in _items(item)]
        if not level:
            return False

    return True


def _items(raw: dict[str, t.Any] | list[t.Any]) -> t.Iterable[t.Any]:
    return raw.values() if isinstance(raw, dict) else raw


def _holds(field: BaseField, kinds: tuple[type[BaseField], ...]) -> bool:
    """Whether the field, or the items of its lists and dictionaries, are of one of these kinds."""
    inner = getattr(field, "field", None)
    return isinstance(field, kinds) or (isinstance(inner, BaseField) and _holds(inner, kinds))


def _holds_none(encoded: t.Any) -> bool:
    return encoded is None or (type(encoded) in (list, dict) and any(map(_holds_none, _items(encoded))))


def _with_references(field: BaseField, value: t.Any) -> t.Any:
    """Lazy references where ``to_python`` leaves the stored form: MongoEngine makes them when a document is asked."""
    if isinstance(field, _REFERENCES):
        return field.build_lazyref(value) if isinstance(value, (DBRef, dict)) else value
    if isinstance(value, dict):
        return {key: _with_references(field.field, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_references(field.field, item) for item in value]

    return value


def _note_defaults(value: t.Any, encoded: t.Any) -> None:
    """Note in each embedded document which fields loading filled in: a default may be another one each time."""
    for document, stored in _embedded(value, encoded):
        filled_in = {}
        for name, field in document._fields.items():
            if field.db_field not in stored and (default := _part(document, name)) is not None:
                filled_in[field.db_field] = codec.as_stored(field.to_mongo(default))
        if filled_in:
            setattr(document, _FILLED_IN, filled_in)


def _leave_out_defaults(value: t.Any, image: t.Any) -> None:
    """Remove from *image* what loading filled in, unless it was changed since."""
    for document, part in _embedded(value, image):
        for name, default in getattr(document, _FILLED_IN, {}).items():
            if name in part and codec.same(part[name], default):
                del part[name]


def _embedded(value: t.Any, image: t.Any) -> t.Iterator[tuple[EmbeddedDocument, dict[str, t.Any]]]:
    """The embedded documents in *value*, each with the part of its encoded *image* that belongs to it."""
    if isinstance(value, EmbeddedDocument):
        if type(image) is dict:
            yield value, image
            for name, field in value._fields.items():
                yield from _embedded(_part(value, name), image.get(field.db_field))
    elif isinstance(value, dict) and type(image) is dict:
        for key, part in image.items():
            yield from _embedded(value.get(key), part)
    elif isinstance(value, list) and type(image) is list:
        for item, part in zip(value, image, strict=False):
            yield from _embedded(item, part)


def _part(document: EmbeddedDocument, name: str) -> t.Any:
    """The value of a field, without what MongoEngine does on access."""
    return document._data.get(name)  # noqa: SLF001
