"""Where a session key lives in the document, and as what: declared fields on top, others under ``data``."""

from __future__ import annotations

import logging
import typing as t

import bson
from mongoengine.base import BaseField
from mongoengine.errors import ValidationError
from mongoengine.fields import FloatField, IntField, ListField

from flask_mongo_session.exceptions import DamagedDocument, InvalidFieldValue, UnstorableValue

from . import codec

log = logging.getLogger(__name__)

_NUMBERS = (IntField, FloatField)


class DeclaredField:
    """A MongoEngine field as a session key: it says what is allowed, how it is stored, what absence means."""

    def __init__(self, key: str, field: BaseField) -> None:
        self.key = key
        self.field = field
        self.db_field: str = field.db_field
        self.load: t.Callable[[t.Any], t.Any] = field.to_python

    def encode(self, value: t.Any) -> t.Any:
        """Validate and convert *value*; raises :exc:`InvalidFieldValue` naming key, field and rule."""
        if value is None:
            return None

        return self._checked(self.field, value)

    def encode_item(self, value: t.Any) -> t.Any:
        """The same for one item of a declared list."""
        if not isinstance(self.field, ListField):
            raise self._error("is no list to append to")
        if self._starts_with(default := self.default()):
            raise self._error(f"starts as a list of {len(default)}, which appending cannot know; assign a list first")
        if self.field.field is None:
            return codec.encode(self.key, value)

        return self._checked(self.field.field, value)

    def check_number(self, by: float) -> None:
        """Raise :exc:`InvalidFieldValue` unless the field can be incremented in the database, and by that much."""
        if not isinstance(self.field, _NUMBERS):
            raise self._error("is no number that could be incremented")
        if not isinstance(by, int) and not isinstance(self.field, FloatField):
            raise self._error("holds whole numbers and cannot grow by a fraction")
        if self._starts_with(self.default()):
            raise self._error(f"starts at {self.default()!r}, which an increment cannot know; let it start at 0")

    def default(self) -> t.Any:
        """A fresh default, or ``None``."""
        default = self.field.default
        return default() if callable(default) else default

    def _starts_with(self, default: t.Any) -> bool:
        return bool(default)

    def _checked(self, field: BaseField, value: t.Any) -> t.Any:
        try:
            field._validate(value)  # noqa: SLF001 - MongoEngine's own check of choices and validators
            raw = codec.as_stored(field.to_mongo(value))
        except ValidationError as error:
            raise self._error(f"refused the value: {error.message}") from error
        except (TypeError, ValueError, AttributeError, OverflowError, bson.errors.BSONError) as error:
            raise self._error(f"cannot store a {type(value).__name__}") from error

        return raw

    def _error(self, rule: str) -> InvalidFieldValue:
        field = type(self.field).__name__
        return InvalidFieldValue(f"Session key {self.key!r} ({field}) {rule}.", field_name=self.key)


class Schema:
    """All that a session has to know of its model."""

    def __init__(self, fields: t.Mapping[str, BaseField], *, sealed: bool = False) -> None:
        self.declared = {key: DeclaredField(key, field) for key, field in fields.items()}
        #: Whether the values under ``data`` are encrypted, so that the database cannot compute with them.
        self.sealed = sealed

    def path(self, key: str) -> str:
        """The field that holds *key*, as a path of an update."""
        declared = self.declared.get(key)
        return declared.db_field if declared else f"data.{codec.field_name(key)}"

    def encode(self, key: str, value: t.Any) -> t.Any:
        """*value* as it is stored; raises :exc:`UnstorableValue` or :exc:`InvalidFieldValue`."""
        if not isinstance(key, str):
            raise UnstorableValue(f"Session keys are text, not {type(key).__name__}.")

        declared = self.declared.get(key)
        return declared.encode(value) if declared else codec.encode(key, value)

    def keep(self, key: str, value: t.Any, encoded: t.Any) -> t.Any:
        """What the session answers with after *value* was assigned: what a field makes of it, else the very object."""
        declared = self.declared.get(key)
        return declared.load(encoded) if declared and encoded is not None else value

    def encode_item(self, key: str, value: t.Any) -> t.Any:
        """An item to append to *key*, as it is stored."""
        declared = self.declared.get(key)
        return declared.encode_item(value) if declared else codec.encode(key, value)

    def check_number(self, key: str, by: float) -> None:
        """Raise :exc:`InvalidFieldValue` when *key* is declared as something that cannot be incremented by *by*."""
        if declared := self.declared.get(key):
            declared.check_number(by)

    def decode(self, key: str, encoded: t.Any) -> t.Any:
        """The Python value; raises :exc:`DamagedDocument`."""
        declared = self.declared.get(key)
        if declared is None:
            return codec.decode(encoded)
        if encoded is None:
            return None

        try:
            return declared.load(encoded)
        except Exception as error:
            raise DamagedDocument(f"The stored value of {key!r} does not fit its field.") from error

    def default(self, key: str) -> t.Any:
        """The declared default of *key*; raises :exc:`KeyError` where there is none."""
        declared = self.declared.get(key)
        default = declared.default() if declared else None
        if default is None:
            raise KeyError(key)

        return default

    def split(self, encoded: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The document's part that holds these keys."""
        document: dict[str, t.Any] = {"data": {}}
        for key, value in encoded.items():
            if declared := self.declared.get(key):
                document[declared.db_field] = value
            else:
                document["data"][codec.field_name(key)] = value

        return document

    def gather(self, document: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The encoded values by key; the reverse of :meth:`split`. Raises :exc:`DamagedDocument`."""
        data = document.get("data", {})
        if type(data) is not dict:
            raise DamagedDocument("The stored data is no document.")

        encoded = codec.by_key(data)
        for key, declared in self.declared.items():
            if declared.db_field in document:
                encoded[key] = document[declared.db_field]

        return encoded

    def decode_all(self, encoded: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """All values, decoded; raises :exc:`DamagedDocument`. A declared value that no longer fits is left out."""
        if not self.declared:
            return codec.decode_all(encoded)

        values = {}
        for key, value in encoded.items():
            try:
                values[key] = self.decode(key, value)
            except DamagedDocument:
                if key not in self.declared:
                    raise
                log.warning("The stored value of session key %r does not fit its field any more; ignored.", key)

        return values
