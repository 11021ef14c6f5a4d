"""The declaration of a session: the MongoEngine documents, their fields, indexes and queries.

Requests read and write through the collection, with the names declared here; objects of these classes are for queries,
admin views and people.
"""

from __future__ import annotations

import datetime as dt
import typing as t

from flask import current_app, has_app_context
from mongoengine import Document, EmbeddedDocument
from mongoengine.base import BaseField, get_document
from mongoengine.connection import ConnectionFailure
from mongoengine.errors import NotRegistered
from mongoengine.fields import (
    BinaryField,
    BooleanField,
    CachedReferenceField,
    DateTimeField,
    DictField,
    DynamicField,
    EmbeddedDocumentField,
    FileField,
    GenericEmbeddedDocumentField,
    GenericLazyReferenceField,
    GenericReferenceField,
    ReferenceField,
    SequenceField,
    StringField,
)
from mongoengine.queryset import QuerySet
from pymongo.collection import Collection
from pymongo.database import Database

from flask_mongo_session.exceptions import ModelError, SetupError
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS
from flask_mongo_session.mongo.clock import database_now

from . import filters
from .record import user_text
from .schema import Schema


class _Store(t.Protocol):
    """What the documents need of the current application's store."""

    @property
    def collection(self) -> Collection[dict[str, t.Any]]: ...

    def now(self) -> dt.datetime: ...


_REFUSED: tuple[tuple[type[BaseField], str], ...] = (
    (SequenceField, "it writes to a counter of its own; generate the number where it is needed"),
    (FileField, "a file does not belong in a session; keep its id in an ObjectIdField"),
    (
        ReferenceField,
        "following it would send commands that no request should pay for; use LazyReferenceField or ObjectIdField",
    ),
    (CachedReferenceField, "it is kept up to date by signals of another document; use LazyReferenceField"),
    (GenericReferenceField, "following it would send commands; use GenericLazyReferenceField or ObjectIdField"),
    (
        DynamicField,
        "what is stored would name the class of the object that is made; use DictField, or leave the key undeclared",
    ),
)
#: A subclass of a refused kind that is none.
_ACCEPTED = GenericLazyReferenceField
_REFUSED_OPTIONS = {
    "required": "a session starts empty",
    "unique": "a session must never fail to be saved because of another one",
    "unique_with": "a session must never fail to be saved because of another one",
    "primary_key": "a session has an id of its own",
}


class SessionQuerySet(QuerySet):
    """Queries about sessions; *now* is the database's now."""

    def live(self) -> SessionQuerySet:
        """Sessions that have not expired."""
        return self.filter(__raw__=filters.live(self._document.database_now()))  # type: ignore[no-any-return]

    def expired(self) -> SessionQuerySet:
        """Sessions that have expired and were not swept yet."""
        return self.filter(__raw__=filters.expired(self._document.database_now()))  # type: ignore[no-any-return]

    def of_user(self, user: t.Any) -> SessionQuerySet:
        """Sessions of the user with this id (text, int, ObjectId …): the live ones, unless the query says otherwise.

        Nobody's (``None``, ``""``) are none.
        """
        text = user_text(user)
        chosen = self if "expires_at" in self._query else self.live()
        return chosen.none() if text is None else chosen.filter(user_id=text)  # type: ignore[no-any-return]


class SessionDocument(Document):
    """A stored session. Subclass it to declare session keys as fields; :class:`Session` is ready to use."""

    id = StringField(primary_key=True)
    data = DictField()
    user_id = StringField()
    created_at = DateTimeField()
    expires_at = DateTimeField()
    touched_at = DateTimeField()
    authenticated_at = DateTimeField()
    deadline = DateTimeField()
    permanent = BooleanField()
    ip = StringField()
    user_agent = StringField()
    #: Who was logged in last, where nobody is now.
    last_user_id = StringField()
    #: The SHA-256 of the cookie's secret.
    token = BinaryField()
    #: The token before the last rotation, when it went, and what that rotation wrote.
    previous = DictField(default=None)
    #: Only on a tombstone, which an ended session leaves for 15 minutes.
    ended_at = DateTimeField()

    meta: t.ClassVar[dict[str, t.Any]] = {
        "abstract": True,
        "auto_create_index": False,
        "strict": False,
        "queryset_class": SessionQuerySet,
        "indexes": [
            "expires_at",
            {"fields": ["user_id"], "sparse": True},
            {"fields": ["last_user_id"], "sparse": True},
            {"fields": ["touched_at"], "sparse": True},
            {"fields": ["ip"], "sparse": True},
            {"fields": ["user_agent"], "sparse": True},
        ],
        "index_cls": False,
    }

    def __init_subclass__(cls, **kwargs: t.Any) -> None:
        """Refuse, with the reason, what a session cannot have."""
        super().__init_subclass__(**kwargs)
        inherited = SessionDocument._fields
        for name, field in cls._fields.items():
            if inherited.get(name) is not field and not (name == "_cls" and cls._meta.get("allow_inheritance")):
                _check_field(cls.__name__, name, field)

    def __repr__(self) -> str:
        """Whose and until when; never what is in it."""
        return f"<{type(self).__name__} {self.id} user={self.user_id!r} expires={self.expires_at}>"

    @classmethod
    def is_abstract(cls) -> bool:
        """Whether the model is only there to be subclassed."""
        return bool(cls._meta.get("abstract"))

    @classmethod
    def collection_name(cls) -> str:
        """The collection's name, as declared in ``meta``."""
        return cls._get_collection_name()  # type: ignore[no-any-return]

    @classmethod
    def default_database(cls) -> Database[t.Any]:
        """The database of the model's MongoEngine alias."""
        try:
            return cls._get_db()  # type: ignore[no-any-return]
        except ConnectionFailure:
            alias = cls._meta.get("db_alias", "default")
            raise SetupError(
                f"There is no database for {cls.__name__}: give the store a database, or connect MongoEngine's alias "
                f"{alias!r} first."
            ) from None

    @classmethod
    def class_name(cls) -> str | None:
        """What a record says of its class, where several models share a collection."""
        return cls._class_name if cls._meta.get("allow_inheritance") else None

    @classmethod
    def index_specs(cls) -> list[dict[str, t.Any]]:
        """The indexes, as MongoEngine understood ``meta``."""
        return cls._meta["index_specs"]  # type: ignore[no-any-return]

    @classmethod
    def schema(cls, *, sealed: bool = False) -> Schema:
        """The declared fields, by session key; raises :exc:`ModelError` for what could not be checked before."""
        base = {*SessionDocument._fields, "_cls"}
        fields = {name: field for name, field in cls._fields.items() if name not in base}
        for name, field in fields.items():
            _check_kind(_described(cls.__name__, name, field), field, seen=set())

        return Schema(fields, sealed=sealed)

    @classmethod
    def database_now(cls) -> dt.datetime:
        """The time of the server that holds these sessions (UTC)."""
        store = cls._current_store()
        return store.now() if store else database_now(cls._get_collection().database.client)

    @classmethod
    def _current_store(cls) -> _Store | None:
        """The store of the current application, when that manages this model, or one that shares its collection."""
        state = current_app.extensions.get("mongo_session") if has_app_context() else None
        if state is None:
            return None

        related = issubclass(state.model, cls) or issubclass(cls, state.model)
        return state.store if related and state.model.collection_name() == cls.collection_name() else None

    @classmethod
    def _get_collection(cls) -> Collection[dict[str, t.Any]]:
        """The current application's collection, else the alias's, read in our own way whatever the client says.

        MongoEngine would keep one collection for each class, whichever application asked first.
        """
        store = cls._current_store()
        if store is not None:
            return store.collection

        return cls._get_db()[cls._get_collection_name()].with_options(codec_options=CODEC_OPTIONS)  # type: ignore[no-any-return]

    @property
    def contents(self) -> dict[str, t.Any]:
        """All session keys with their values, decoded: the free-form ones and the declared ones, defaults too."""
        schema = type(self).schema()
        return schema.decode_all(schema.gather(self.to_mongo().to_dict()))


class Session(SessionDocument):
    """The session without declared fields."""

    meta: t.ClassVar[dict[str, t.Any]] = {"collection": "sessions"}


_RESERVED = frozenset(dir(SessionDocument)) | {"_id", "_cls", "objects"}
_RESERVED_DB_FIELDS = frozenset(field.db_field for field in SessionDocument._fields.values()) | {"_cls"}


def _check_field(model: str, name: str, field: BaseField) -> None:
    where = _described(model, name, field)

    if name in _RESERVED or name.startswith("_"):
        raise ModelError(f"{where} cannot be declared: the name belongs to the session document. Choose another one.")
    if field.db_field in _RESERVED_DB_FIELDS:
        raise ModelError(
            f"{where} cannot be stored as {field.db_field!r}: the session document uses that field itself."
        )
    for option, reason in _REFUSED_OPTIONS.items():
        if getattr(field, option, False):
            raise ModelError(f"{where} cannot be declared with {option}: {reason}.")

    _check_kind(where, field, seen=set())


def _described(model: str, name: str, field: BaseField) -> str:
    return f"{model}.{name} ({type(field).__name__})"


def _check_kind(where: str, field: BaseField, seen: set[type]) -> None:
    for kind, reason in _REFUSED:
        if isinstance(field, kind) and not isinstance(field, _ACCEPTED):
            raise ModelError(f"{where} cannot hold a {type(field).__name__}: {reason}.")

    inner = getattr(field, "field", None)
    if isinstance(inner, BaseField):
        _check_kind(where, inner, seen)
    for document in _embedded_documents(field):
        if document not in seen:
            seen.add(document)
            _check_embedded(where, document, seen)


def _check_embedded(where: str, document: type[EmbeddedDocument], seen: set[type]) -> None:
    if document._dynamic:  # noqa: SLF001 - the declaration
        raise ModelError(
            f"{where} cannot hold a {document.__name__}: fields that it does not declare are DynamicFields."
        )

    for part in document._fields.values():
        _check_kind(where, part, seen)


def _embedded_documents(field: BaseField) -> list[type[EmbeddedDocument]]:
    """The embedded documents that the field may hold; one that is not defined yet is checked when the model is used."""
    named: t.Iterable[t.Any] = ()
    if isinstance(field, EmbeddedDocumentField):
        named = [field.document_type_obj]
    elif isinstance(field, GenericEmbeddedDocumentField):
        named = field.choices or ()

    found = (_document(name) if isinstance(name, str) else name for name in named)
    return [one for one in found if isinstance(one, type) and issubclass(one, EmbeddedDocument)]


def _document(name: str) -> type | None:
    """The class of that name; none for ``"self"``, which is being checked anyway."""
    try:
        return get_document(name)  # type: ignore[no-any-return]
    except NotRegistered:
        return None
