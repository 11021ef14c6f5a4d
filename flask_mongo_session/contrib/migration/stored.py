"""Old sessions in a MongoDB collection."""

from __future__ import annotations

import datetime as dt
import typing as t

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.objectid import ObjectId
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_preferences import ReadPreference

from flask_mongo_session import SessionStoreUnavailable
from flask_mongo_session.web.old_cookie import Secret

from .layouts import Layout
from .old_session import Claim, OldSession, Unreadable

if t.TYPE_CHECKING:
    from flask import Flask
    from pymongo.client_session import ClientSession

    from flask_mongo_session.storage.repository import SessionRepository

Result = t.TypeVar("Result")


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
        chosen = {**self.everything, **self._layout.filter(claim.identity)}
        found = _quietly(repository, lambda session: self.collection(repository).find_one(chosen, session=session))
        if found is None:
            return None

        old = self.session_of(found)
        return old if old.expires_at is not None and old.expires_at > repository.now() else None

    def retire(self, repository: SessionRepository, claim: Claim, sid: str) -> None:  # noqa: ARG002 - same
        """See :class:`Source`."""
        chosen = {**self.everything, **self._layout.filter(claim.identity)}
        _quietly(repository, lambda session: self.collection(repository).delete_many(chosen, session=session))

    # -- all of them --------------------------------------------------------------------------------------------------

    @property
    def everything(self) -> dict[str, t.Any]:
        """The filter for all old sessions; never for ours, which may lie in the same collection."""
        return self._layout.old

    def count_live(self, repository: SessionRepository) -> int:
        """How many old sessions have not expired."""
        with repository.connection.background_operation(COUNT_SECONDS):
            chosen = {**self.everything, "expiration": {"$gt": repository.now()}}
            return self.collection(repository).count_documents(chosen)

    def prepare(self, repository: SessionRepository) -> None:
        """Create the index that looking for one old session needs, which Flask-Session does without."""
        if self._layout.indexed is not None:
            with repository.connection.background_operation(_INDEX_SECONDS):
                try:
                    self.collection(repository).create_index(self._layout.indexed)
                except OperationFailure as error:
                    if error.code not in _INDEX_EXISTS:
                        raise

    def identity_of(self, document: dict[str, t.Any]) -> Secret:
        """What the cookie of an old session says. Raises :exc:`Unreadable`."""
        return self._layout.key_of(document)

    def session_of(self, document: dict[str, t.Any]) -> OldSession:
        """The old session, whether it has expired or not. Raises :exc:`Unreadable`."""
        expires_at, _id = document.get("expiration"), document.get("_id")
        if not isinstance(expires_at, dt.datetime):
            raise Unreadable("Its expiry is no date.")
        if expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=dt.timezone.utc)

        created_at = _id.generation_time if isinstance(_id, ObjectId) else None
        return OldSession(self._layout.values_of(document), expires_at, created_at)

    def collection(self, repository: SessionRepository) -> Collection[dict[str, t.Any]]:
        """Where the old sessions are."""
        connection = repository.connection
        theirs = connection.database.codec_options if self._follow_client else _OPTIONS
        options = _OPTIONS.with_options(
            tz_aware=theirs.tz_aware, tzinfo=theirs.tzinfo, uuid_representation=theirs.uuid_representation
        )
        database: Database[t.Any] = connection.client[self._database or connection.database.name]
        return database.get_collection(
            self._collection,
            codec_options=options,
            read_preference=ReadPreference.PRIMARY,
            write_concern=connection.write_concern,
        )


_OPTIONS: CodecOptions[dict[str, t.Any]] = CodecOptions(
    document_class=dict,
    uuid_representation=UuidRepresentation.PYTHON_LEGACY,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
#: Seconds that counting sessions without an index may take.
COUNT_SECONDS = 60.0
#: What the server says where there is such an index with other options.
_INDEX_EXISTS = (85, 86)
#: Seconds that building an index may take.
_INDEX_SECONDS = 3600.0


def _quietly(repository: SessionRepository, command: t.Callable[[ClientSession], Result]) -> Result:
    """Run a command that names an old session's id, a bearer secret: no frame of a failure shows it to anybody."""
    failed: Exception
    try:
        with repository.connection.operation() as session:
            return command(session)
    except SessionStoreUnavailable:
        failed = SessionStoreUnavailable()
    except BSONError:
        failed = Unreadable("Its BSON is malformed.")

    raise failed  # outside, since the driver's frames would come along
