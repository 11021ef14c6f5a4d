"""Moves all old sessions of one collection, batch by batch.

Each record gets the id and the token that the visitor's old cookie leads to, so nobody notices. A batch is inserted
and then removed from the old collection: what is done is gone from there, so a run that was killed is resumed by
starting again. What a killed run had inserted and not removed is found by its id, and not stored twice.
"""

from __future__ import annotations

import collections
import typing as t

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError

from flask_mongo_session import SessionStoreUnavailable, SessionTooLarge
from flask_mongo_session.document import codec
from flask_mongo_session.web.old_cookie import OldCookie

from .old_session import Unreadable, secret_keys
from .stored import StoredSource

if t.TYPE_CHECKING:
    from flask import Flask

    from flask_mongo_session.document.record import Document
    from flask_mongo_session.storage.repository import SessionRepository

    from .mover import Mover
    from .revoked import RevocationCheck

#: Seconds that the whole walk may take; the server counts the first command's limit over all that follow.
_WALK_SECONDS = 24 * 3600.0
_DUPLICATE_KEY = 11000

#: How many sessions were ``moved``, ``skipped`` (expired, empty, revoked, or moved before) and ``refused``.
Counts = collections.Counter[str]


class BulkMigration:
    """One walk through one source's collection."""

    def __init__(
        self,
        app: Flask,
        repository: SessionRepository,
        source: StoredSource,
        mover: Mover,
        revocations: RevocationCheck,
    ) -> None:
        self._repository = repository
        self._revocations = revocations
        self._source = source
        self._mover = mover
        self._options = source.collection(repository).codec_options
        self._keys = secret_keys(app)
        self._lifetimes = mover.lifetimes(app.permanent_session_lifetime)

    @property
    def place(self) -> str:
        """Where they are: database and collection."""
        return self._source.collection(self._repository).full_name

    def count(self) -> int:
        """How many old sessions there are."""
        with self._repository.connection.background_operation():
            return self._source.collection(self._repository).count_documents(self._source.everything)

    def run(self, batch_size: int, *, dry_run: bool = False) -> t.Iterator[Counts]:
        """Move all; yields the counts of each batch. With *dry_run* nothing is written.

        Raises :exc:`SessionStoreUnavailable` where the database stops answering; what is moved until then is moved.
        """
        if not dry_run:
            self._source.prepare(self._repository)
        connection = self._repository.connection
        collection = self._source.collection(self._repository)
        seconds = _WALK_SECONDS
        with collection.find_raw_batches(self._source.everything, batch_size=batch_size, sort=[("_id", 1)]) as batches:
            while True:
                with connection.background_operation(seconds):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield self._move(bson.decode_all(t.cast("bytes", batch), _RAW), dry_run=dry_run)
                seconds = _BATCH_SECONDS

    def _move(self, batch: list[RawBSONDocument], *, dry_run: bool) -> Counts:
        counts = Counts(moved=0, skipped=0, refused=0)
        records, done = [], []
        for old in batch:
            record = self._record(old, counts)
            if record is not None:
                records.append(record)
                done.append(old["_id"])

        counts["moved"] = len(records)
        if records and not dry_run:
            again = min(self._insert(records) + self._revocations.end_revoked(records), len(records))
            counts.update(moved=-again, skipped=again)
            with self._repository.connection.background_operation(_BATCH_SECONDS):
                self._source.collection(self._repository).delete_many({**self._source.everything, "_id": {"$in": done}})
        return counts

    def _record(self, old: RawBSONDocument, counts: Counts) -> Document | None:
        """The record of an old session; ``None`` for one that is not moved, which is counted."""
        now = self._repository.now()
        try:
            document = _decoded(old, self._options)
            session = self._source.session_of(document)
            if not session.content or (session.expires_at is not None and session.expires_at <= now):
                counts["skipped"] += 1
                return None

            cookie = OldCookie(self._source.identity_of(document), self._keys)
            record = self._mover.document(cookie.cookie.sid, cookie.hashed, session, self._lifetimes, now)
            self._repository.check_fits(codec.size(record))
        except (Unreadable, SessionTooLarge) as error:
            self._mover.refused(error)
            counts["refused"] += 1
            return None

        return record

    def _insert(self, records: list[Document]) -> int:
        """Store the records; how many of them were there already."""
        with self._repository.connection.background_operation(_BATCH_SECONDS):
            try:
                self._repository.collection.insert_many(records, ordered=False)
            except BulkWriteError as error:
                details = error.details
            else:
                return 0

        duplicates = [one for one in details["writeErrors"] if one["code"] == _DUPLICATE_KEY]
        if len(duplicates) < len(details["writeErrors"]) or details["writeConcernErrors"]:
            raise SessionStoreUnavailable
        return len(duplicates)


def _decoded(document: RawBSONDocument, options: CodecOptions[t.Any]) -> dict[str, t.Any]:
    try:
        return t.cast("dict[str, t.Any]", bson.decode(document.raw, options))
    except BSONError:
        pass

    raise Unreadable("Its BSON is malformed.")  # outside, since the driver's message quotes the document


#: Seconds for one command on a batch.
_BATCH_SECONDS = 60.0
#: So that a damaged document stands in nobody's way.
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(RawBSONDocument)
