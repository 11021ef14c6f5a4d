"""``flask.session`` with types: for what it can do, and for the keys that a model declares."""

from __future__ import annotations

import typing as t

from flask import session

from flask_mongo_session.document.model import SessionDocument
from flask_mongo_session.exceptions import ModelError
from flask_mongo_session.session.session import ServerSideSession

Keys = t.TypeVar("Keys")

#: ``flask.session`` itself, as what it is where :class:`MongoSession` is set up.
current_session: t.Final = t.cast("ServerSideSession", session)


def typed_session(model: type[SessionDocument], keys: type[Keys]) -> Keys:
    """``flask.session``, for a type checker a dictionary with the *keys* that a ``TypedDict`` names.

    Nothing is converted or checked while the application runs: the fields of *model* do that. Raises
    :exc:`ModelError` when a field that *model* declares is missing in *keys*, and :exc:`TypeError` when *keys* is no
    ``TypedDict``. Keys that are no fields are free-form ones.
    """
    if not hasattr(keys, "__required_keys__"):  # is_typeddict() does not know those of typing_extensions
        raise TypeError(f"typed_session() takes a model and a TypedDict that names its keys, not {keys!r}.")

    missing = sorted(model.schema().declared.keys() - _names(keys))
    if missing:
        raise ModelError(f"{keys.__name__} does not name {missing[0]!r}, which {model.__name__} declares: add it.")

    return t.cast("Keys", session)


def _names(keys: t.Any) -> frozenset[str]:
    return t.cast("frozenset[str]", keys.__required_keys__ | keys.__optional_keys__)
