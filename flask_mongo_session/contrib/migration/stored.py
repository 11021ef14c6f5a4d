"""Old sessions in a MongoDB collection: Flask-Session's, and those of flask-mongoengine."""

from __future__ import annotations

import datetime as dt
import re
import typing as t

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from itsdangerous import BadSignature, Signer
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.read_preferences import ReadPreference

from flask_mongo_session import SessionStoreUnavailable
from flask_mongo_session.web.old_cookie import Secret

from .old_session import Claim, OldSession, Unreadable

if t.TYPE_CHECKING:
    from flask import Flask
    from pymongo.client_session import ClientSession

    from flask_mongo_session.storage.repository import SessionRepository

Result = t.TypeVar("Result")
Raw = Collection[RawBSONDocument]

#: What ``secrets.token_urlsafe`` and ``uuid.uuid4`` make.
_SESSION_ID = re.compile(r"[\w-]{8,512}", re.ASCII)
_SALT = "flask-session"


class StoredSource:
    """Old sessions of one collection.

    :param layout: how the library stores a session.
    :param database: its name; ``None``: that of our sessions.
    :param follow_client: read dates and UUIDs as the application's client says; else as MongoEngine's default does.
    """

    def __init__(self, layout: Layout, database: str | None, collection: str, *, follow_client: bool = False) -> None:
        self.name = layout.name
        self._layout = layout
        self._database = database
        self._collection = collection
        self._follow_client = follow_client

    def recognise(self, app: Flask, value: Secret) -> Claim | None:
        """See :class:`Source`."""
        key = self._layout.key_in(app, value)
        return None if key is None else Claim(key)

    def read(self, repository: SessionRepository, claim: Claim, sid: str) -> OldSession | None:  # noqa: ARG002 - cookies need it
        """See :class:`Source`."""
        chosen = {**self._layout.old, **self._layout.filter(claim.identity)}
        found = _quietly(repository, lambda session: self.collection(repository).find_one(chosen, session=session))
        if found is None:
            return None

        old = self.session_of(repository, found)
        return old if old.expires_at is not None and old.expires_at > repository.now() else None

    def retire(self, repository: SessionRepository, claim: Claim, sid: str) -> None:  # noqa: ARG002 - same
        """See :class:`Source`."""
        chosen = {**self._layout.old, **self._layout.filter(claim.identity)}
        _quietly(repository, lambda session: self.collection(repository).delete_many(chosen, session=session))

    # -- all of them --------------------------------------------------------------------------------------------------

    @property
    def everything(self) -> dict[str, t.Any]:
        """The filter for all old sessions; never for ours, which may lie in the same collection."""
        return self._layout.old

    def prepare(self, repository: SessionRepository) -> None:
        """Create the index that looking for one old session needs, which Flask-Session does without."""
        if self._layout.indexed is not None:
            with repository.connection.background_operation(_INDEX_SECONDS):
                self.collection(repository).create_index(self._layout.indexed)

    def identity_of(self, document: RawBSONDocument) -> Secret:
        """What the cookie of an old session says. Raises :exc:`Unreadable`."""
        return self._layout.key_of(_decoded(document, _OPTIONS))

    def session_of(self, repository: SessionRepository, document: RawBSONDocument) -> OldSession:
        """The old session, whether it has expired or not. Raises :exc:`Unreadable`."""
        theirs = repository.connection.database.codec_options if self._follow_client else _OPTIONS
        options = _OPTIONS.with_options(
            tz_aware=theirs.tz_aware, tzinfo=theirs.tzinfo, uuid_representation=theirs.uuid_representation
        )
        decoded = _decoded(document, options)
        expires_at = decoded.get("expiration")
        if not isinstance(expires_at, dt.datetime):
            raise Unreadable("Its expiry is no date.")

        _id = decoded.get("_id")
        created_at = _id.generation_time if isinstance(_id, ObjectId) else None
        if expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=dt.timezone.utc)
        return OldSession(self._layout.values_of(decoded), expires_at, created_at)

    def collection(self, repository: SessionRepository) -> Raw:
        """The collection as undecoded documents, so that a damaged one stands in nobody's way."""
        connection = repository.connection
        name = self._database or connection.database.name
        database: Database[t.Any] = connection.client[name]
        return database.get_collection(
            self._collection,
            codec_options=_RAW,
            read_preference=ReadPreference.PRIMARY,
            write_concern=connection.write_concern,
        )


_RAW: CodecOptions[RawBSONDocument] = CodecOptions(RawBSONDocument)
_OPTIONS: CodecOptions[dict[str, t.Any]] = CodecOptions(
    document_class=dict,
    uuid_representation=UuidRepresentation.PYTHON_LEGACY,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
#: Seconds that building an index may take.
_INDEX_SECONDS = 3600.0


class Layout(t.Protocol):
    """How a library stores a session."""

    name: str
    #: What its documents have and ours have not.
    old: t.ClassVar[dict[str, t.Any]]
    #: The field to find a session by, where the library has no index on it.
    indexed: t.ClassVar[str | None]

    def key_in(self, app: Flask, value: Secret) -> Secret | None:
        """The session id in a cookie."""

    def filter(self, key: Secret) -> dict[str, t.Any]:
        """The document with this id."""

    def key_of(self, document: dict[str, t.Any]) -> Secret:
        """The id of a document."""

    def values_of(self, document: dict[str, t.Any]) -> dict[t.Any, t.Any]:
        """The session's values."""


class FlaskSessionLayout:
    """Flask-Session 0.4 to 0.8: ``{id: "session:<sid>", val, expiration}``.

    :param signed: accept only signed ids (``SESSION_USE_SIGNER``).
    """

    name = "flask-session"
    old: t.ClassVar[dict[str, t.Any]] = {"val": {"$exists": True}, "expires_at": None}
    indexed: t.ClassVar[str | None] = "id"

    def __init__(
        self,
        prefix: str,
        decode: t.Callable[[bytes], dict[t.Any, t.Any]],
        *,
        signed: bool,
    ) -> None:
        self._prefix = prefix
        self._decode = decode
        self._signed = signed

    def key_in(self, app: Flask, value: Secret) -> Secret | None:
        """The id, whose signature is verified where there is one."""
        for key in (app.secret_key, *(app.config["SECRET_KEY_FALLBACKS"] or ())):
            try:
                return Secret(Signer(t.cast("str", key), salt=_SALT, key_derivation="hmac").unsign(value).decode())
            except (BadSignature, UnicodeDecodeError):
                continue

        return None if self._signed else session_id(value)

    def filter(self, key: Secret) -> dict[str, t.Any]:
        """By the id with its prefix."""
        return {"id": Secret(self._prefix + key)}

    def key_of(self, document: dict[str, t.Any]) -> Secret:
        """The id without its prefix."""
        key = document.get("id")
        if not isinstance(key, str) or not key.startswith(self._prefix):
            raise Unreadable("Its id does not begin with SESSION_KEY_PREFIX.")

        return Secret(key.removeprefix(self._prefix))

    def values_of(self, document: dict[str, t.Any]) -> dict[t.Any, t.Any]:
        """Decoded from ``val``."""
        serialized = document.get("val")
        if isinstance(serialized, str):
            serialized = serialized.encode("utf-8", "surrogatepass")
        if not isinstance(serialized, bytes):
            raise Unreadable("What it holds are no bytes.")

        return self._decode(serialized)


class MongoEngineLayout:
    """flask-mongoengine and flask-mongoengine-3: ``{_id: sid, data, expiration}``."""

    name = "flask-mongoengine"
    old: t.ClassVar[dict[str, t.Any]] = {"expiration": {"$exists": True}, "expires_at": None}
    indexed: t.ClassVar[str | None] = None

    def key_in(self, app: Flask, value: Secret) -> Secret | None:  # noqa: ARG002 - nothing is signed
        """The cookie is the id."""
        return session_id(value)

    def filter(self, key: Secret) -> dict[str, t.Any]:
        """By the id."""
        return {"_id": key}

    def key_of(self, document: dict[str, t.Any]) -> Secret:
        """The id."""
        key = document.get("_id")
        if not isinstance(key, str):
            raise Unreadable("Its id is no text.")

        return Secret(key)

    def values_of(self, document: dict[str, t.Any]) -> dict[t.Any, t.Any]:
        """As they are."""
        values = document.get("data", {})
        if not isinstance(values, dict):
            raise Unreadable("Its data is no document.")

        return values


def session_id(value: Secret) -> Secret | None:
    """The cookie's value if it may be an unsigned session id."""
    return value if _SESSION_ID.fullmatch(value) else None


def _decoded(document: RawBSONDocument, options: CodecOptions[dict[str, t.Any]]) -> dict[str, t.Any]:
    try:
        return bson.decode(document.raw, options)
    except BSONError:
        pass

    raise Unreadable("Its BSON is malformed.")  # outside, since the driver's message quotes the document


def _quietly(repository: SessionRepository, command: t.Callable[[ClientSession], Result]) -> Result:
    """Run a command that names an old session's id, a bearer secret: no frame of a failure shows it to anybody."""
    try:
        with repository.connection.operation() as session:
            return command(session)
    except SessionStoreUnavailable:
        pass

    raise SessionStoreUnavailable  # outside, since the driver's frames would come along
