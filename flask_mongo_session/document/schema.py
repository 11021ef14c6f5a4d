"""Where a session key lives in the document, and as what: declared fields on top, others under ``data``."""

from __future__ import annotations

import typing as t

from flask_mongo_session.exceptions import DamagedDocument, UnstorableValue

from . import codec
from .declared_field import DeclaredField

if t.TYPE_CHECKING:
    from mongoengine.base import BaseField

#: Decrypts what a field of ``data`` holds, given its name; raises :exc:`DamagedDocument`.
Unseal = t.Callable[[str, t.Any], t.Any]

_ABSENT: t.Final = object()


class Schema:
    """All that a session has to know of its model.

    *Encoded* is what the database holds of a key: for a free-form key what :mod:`.codec` makes of its value, for a
    declared one what its field makes of it. It is never handed out; what is handed out never shares a list or a
    dictionary with it.
    """

    def __init__(self, fields: t.Mapping[str, BaseField], *, sealed: bool = False) -> None:
        self.declared = {key: DeclaredField(key, field) for key, field in fields.items()}
        #: Whether the values under ``data`` are encrypted, so that the database cannot compute with them.
        self.sealed = sealed

    def path(self, key: str) -> str:
        """The field that holds *key*, as a path of an update."""
        if self.declared and (declared := self.declared.get(key)) is not None:
            return declared.db_field

        return "data." + key if key.isidentifier() else _free_path(key)

    def stale_paths(self, keys: t.Iterable[str]) -> list[str]:
        """The paths to remove whenever one of *keys* is written or removed: where declared ones lay as free-form keys.

        What lies there has precedence (see :meth:`gather`), so that every write must remove it, seen or not.
        """
        return [_free_path(key) for key in keys if key in self.declared]

    def encode(self, key: str, value: t.Any) -> t.Any:
        """*value* as it is stored; raises :exc:`UnstorableValue` or :exc:`InvalidFieldValue`."""
        if not isinstance(key, str):
            raise UnstorableValue(f"Session keys are text, not {type(key).__name__}.")

        declared = self.declared.get(key)
        return declared.encode(value) if declared else codec.encode(key, value)

    def keep(self, key: str, value: t.Any, encoded: t.Any) -> t.Any:
        """What the session answers with after *value* was assigned: what a field makes of it, else the very object."""
        declared = self.declared.get(key)
        return declared.load(encoded) if declared else value

    def encode_item(self, key: str, value: t.Any, limit: int | None = None) -> t.Any:
        """An item to append to *key* without reading, as it is stored; *limit* is how many items will be kept.

        Raises :exc:`InvalidFieldValue` where a declared list has a rule that such an append could break.
        """
        declared = self.declared.get(key)
        return declared.encode_item(value, limit) if declared else codec.encode(key, value)

    def check_number(self, key: str, by: float) -> None:
        """Raise :exc:`InvalidFieldValue` when *key* is declared as something that cannot be incremented by *by*."""
        if declared := self.declared.get(key):
            declared.check_number(by)

    def decode(self, key: str, encoded: t.Any) -> t.Any:
        """The Python value, in new containers; raises :exc:`DamagedDocument` for a free-form key.

        A declared value that its field cannot convert any more is handed out as it is stored; none is validated.
        """
        declared = self.declared.get(key)
        return declared.load(encoded) if declared else codec.decode(encoded)

    def differs(self, key: str, value: t.Any, encoded: t.Any) -> bool:
        """Whether *value* was changed since it was made of *encoded*; where that cannot be told, true.

        A declared value is compared after conversion, without validation: whatever its field normalises, an untouched
        one never differs.
        """
        declared = self.declared.get(key)
        return declared.differs(value, encoded) if declared else codec.differs(value, encoded)

    def default(self, key: str) -> t.Any:
        """The declared default of *key*, each time a copy of its own; raises :exc:`KeyError` where there is none."""
        declared = self.declared.get(key)
        default = declared.default() if declared else None
        if default is None:
            raise KeyError(key)

        return default

    def snapshot(self, key: str, value: t.Any) -> t.Any:
        """*value* of a declared key as if it were stored, not validated: to ask :meth:`differs` later.

        Taken when a default is handed out, so that one that varies from call to call does not look changed.
        """
        return self.declared[key].snapshot(value)

    def split(self, encoded: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The document's part that holds these keys."""
        document: dict[str, t.Any] = {"data": {}}
        for key, value in encoded.items():
            if declared := self.declared.get(key):
                document[declared.db_field] = value
            else:
                document["data"][codec.field_name(key)] = value

        return document

    def gather(self, document: t.Mapping[str, t.Any], unseal: Unseal | None = None) -> dict[str, t.Any]:
        """The encoded values by key; the reverse of :meth:`split`. Raises :exc:`DamagedDocument`.

        A declared key that still lies under ``data`` was written when it was not declared: before the model knew it, or
        by a process with another version of the model. That is the newer value; it is converted as by its field, after
        *unseal* decrypted it where values are encrypted. One that cannot be decrypted counts as absent.
        """
        data = document.get("data", {})
        if type(data) is not dict:
            raise DamagedDocument("The stored data is no document.")

        if not self.declared and "%" not in "".join(data):
            return data

        encoded = codec.by_key(data)
        for key, declared in self.declared.items():
            stale = encoded.pop(key, _ABSENT)
            found = _ABSENT if stale is _ABSENT else self._adopted(declared, stale, unseal)
            if found is _ABSENT:
                found = document.get(declared.db_field, _ABSENT)
            if found is not _ABSENT:
                encoded[key] = found

        return encoded

    def _adopted(self, declared: DeclaredField, stale: t.Any, unseal: Unseal | None) -> t.Any:
        if not self.sealed:
            return declared.adopt(stale)
        if unseal is None:
            return _ABSENT

        try:
            return declared.adopt(unseal(codec.field_name(declared.key), stale))
        except DamagedDocument:
            return _ABSENT

    def decode_all(self, encoded: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """All values, decoded; raises :exc:`DamagedDocument`."""
        if not self.declared:
            return codec.decode_all(encoded)

        return {key: self.decode(key, value) for key, value in encoded.items()}


def _free_path(key: str) -> str:
    return f"data.{codec.field_name(key)}"
