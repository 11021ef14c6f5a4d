"""The commands on one session's record while it lives, each with its filter: find, insert, update, touch.

What is not live is not found, by any of them; an error (:exc:`SessionStoreUnavailable`) always means the system.
"""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
import weakref

import bson
from pymongo.collection import Collection
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, WriteError

from flask_mongo_session import signals
from flask_mongo_session.document import codec
from flask_mongo_session.document.changes import Changes
from flask_mongo_session.document.filters import MARK_SECONDS
from flask_mongo_session.document.record import Document, DocumentMapper, Metadata, Missing, StoredSession
from flask_mongo_session.exceptions import DamagedDocument, SessionStoreUnavailable, SessionTooLarge
from flask_mongo_session.mongo.connection import Connection
from flask_mongo_session.mongo.operation import Operation

if t.TYPE_CHECKING:
    from blinker import NamedSignal

    from flask_mongo_session.document.schema import Schema

_PATH_NOT_VIABLE = 28
_TOO_LARGE = (10334, 17419, 17420)
_NOT_COMPUTABLE = (2, 14)  # BadValue, TypeMismatch
#: Bytes that MongoDB allows for one document.
_MAX_DOCUMENT = 16 * 1024 * 1024


class RecordCommands:
    """One collection of sessions, a record at a time."""

    connection: Connection
    collection_name: str
    schema: Schema
    max_size: int
    sealed: bool
    _records: DocumentMapper
    _sender: weakref.ref[t.Any] | None

    @property
    def collection(self) -> Collection[dict[str, t.Any]]:
        """The sessions' collection, with everything pinned that they need."""
        return self.connection.collection(self.collection_name)

    def operation(self) -> Operation:
        """A context for commands on :attr:`collection`: bounded in time, failing as :exc:`SessionStoreUnavailable`."""
        return self.connection.operation()

    def now(self) -> dt.datetime:
        """The database's now (UTC)."""
        known = self.connection.clock.known()
        if known is not None:
            return known

        with self.connection.operation():
            return self.connection.now()

    def speak_for(self, sender: t.Any) -> None:
        """Send signals in the name of *sender*, which is not kept alive by it."""
        self._sender = weakref.ref(sender)

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        """Send *signal* in the name of the application, or of this store where there is none."""
        if signal.receivers:
            sender = self._sender() if self._sender else None
            signals.announce(signal, self if sender is None else sender, **arguments)

    def load(self, sid: str) -> StoredSession | Missing:
        """The live session, read with one command, or why there is none."""
        if not is_id(sid):
            return Missing.UNKNOWN

        command = {"find": self.collection_name, "filter": {"_id": sid}, "limit": 1, "singleBatch": True}
        with self.operation() as session:
            try:
                batch = self.connection.read(command, session)["cursor"]["firstBatch"]
            except bson.errors.BSONError:
                return self._damaged(sid, "its BSON is malformed")
            if not batch:
                return Missing.UNKNOWN
            now = self.connection.now()

        return self._judge(sid, batch[0], now)

    def _judge(self, sid: str, document: Document, now: dt.datetime) -> StoredSession | Missing:
        if "ended" in document:
            return Missing.SUPERSEDED if _is_fresh_mark(document, now) else Missing.UNKNOWN

        try:
            stored = self._records.read(document)
        except DamagedDocument as error:
            return self._damaged(sid, str(error), error.level)
        if stored.expires_at <= now:
            return Missing.EXPIRED

        if signals.session_loaded.receivers:
            self.announce(signals.session_loaded, sid=sid, user_id=stored.user_id)
        return stored

    def _damaged(self, sid: str, reason: str, level: int = logging.WARNING) -> Missing:
        signals.log.log(level, "The stored session %s is damaged and counts as empty: %s", sid, reason)
        return Missing.DAMAGED

    def create(self, sid: str, encoded: t.Mapping[str, t.Any], frame: Metadata) -> bool:
        """Store a new session; ``False`` when it was revoked before it was there."""
        document = self._records.document(sid, encoded, frame)
        self._check_size(document)
        if not self._insert(document):
            return False

        self.announce(signals.session_created, sid=sid, user_id=frame.user_id)
        return True

    def _insert(self, document: Document) -> bool:
        try:
            with self.operation() as session:
                self.collection.insert_one(document, session=session)
        except DuplicateKeyError:
            return False
        except DocumentTooLarge as error:
            raise SessionTooLarge(codec.size(document), _MAX_DOCUMENT) from error

        return True

    def change(
        self, sid: str, changes: Changes, known_deadline: dt.datetime | None, frame: Metadata, *, size: int = 0
    ) -> bool:
        """Store just the changed keys; ``False`` when there is no live session with the deadline that was known.

        *size*: bytes of the session as far as the request knows it.
        """
        update = self._records.update(sid, changes)
        update.setdefault("$set", {}).update(expires_at=frame.expires_at, touched_at=frame.now, **frame.device)
        self.check_fits(max(size, codec.size(update)))

        try:
            with self.operation() as session:
                chosen = _live(sid, frame.now, known_deadline)
                result = self.collection.update_one(chosen, update, session=session)
        except WriteError as error:
            return self._refused(sid, error)
        except DocumentTooLarge as error:
            raise SessionTooLarge(codec.size(update), _MAX_DOCUMENT) from error

        found = bool(result.matched_count)
        if found and signals.session_updated.receivers:
            self.announce(signals.session_updated, sid=sid, keys=changes.keys)
        return found

    def _refused(self, sid: str, error: WriteError) -> bool:
        """What the server says of an update that the stored data does not allow."""
        if error.code == _PATH_NOT_VIABLE:
            self._damaged(sid, "its data is no document")
            return False
        if error.code in _TOO_LARGE:
            raise SessionTooLarge(_MAX_DOCUMENT + 1, _MAX_DOCUMENT) from error
        if error.code not in _NOT_COMPUTABLE:
            signals.log.error("The session store refused an update of %s: code %s", sid, error.code)
            raise SessionStoreUnavailable from error

        raise TypeError(
            "A stored value cannot be incremented or appended to: it is no number, no list, or too large."
        ) from error

    def touch(
        self,
        sid: str,
        known_deadline: dt.datetime | None,
        expiry: t.Callable[[dt.datetime, dt.datetime | None], dt.datetime],
        device: t.Mapping[str, str],
    ) -> dt.datetime | None:
        """Move the expiry of a live session, best effort: not waiting for a majority, and never an error.

        The time of the touch, or ``None`` where there was nothing to touch, or nobody to ask.
        """
        if self.connection.known_to_be_away:
            return None

        try:
            with self.operation() as session:
                now = self.connection.now()
                update = {"$set": {"expires_at": expiry(now, known_deadline), "touched_at": now, **device}}
                collection = self.connection.collection(self.collection_name, w=1)
                found = collection.update_one(_live(sid, now, known_deadline), update, session=session).matched_count
        except (SessionStoreUnavailable, WriteError):
            return None

        return now if found else None

    def peek(self, sid: str) -> tuple[bool, dt.datetime | None, bool]:
        """Why an update found nothing: whether the session lives, with which deadline; whether it was superseded."""
        with self.operation():
            now = self.connection.now()
            fields = {"expires_at": True, "deadline": True, "ended": True}
            document = self.collection.find_one({"_id": sid}, fields) or {}

        expires_at, deadline = document.get("expires_at"), document.get("deadline")
        lives = type(expires_at) is dt.datetime and expires_at > now and "ended" not in document
        return lives, deadline if type(deadline) is dt.datetime else None, _is_fresh_mark(document, now)

    def _check_size(self, document: Document) -> None:
        self.check_fits(codec.size(document))

    def check_fits(self, size: int) -> None:
        """Raise :exc:`SessionTooLarge` when a session of *size* bytes may not be stored."""
        if size > self.max_size:
            raise SessionTooLarge(size, self.max_size)


def is_id(value: object) -> bool:
    """Never let anything else into a filter: a mapping would act as an operator, a lone surrogate is no BSON."""
    return isinstance(value, str) and value != "" and (value.isascii() or codec.is_unicode(value))


def alive(sid: str, now: dt.datetime) -> Document:
    """The filter for a session that lives."""
    return {"_id": sid, "expires_at": {"$gt": now}, "ended": None}


def _live(sid: str, now: dt.datetime, deadline: dt.datetime | None) -> Document:
    """Live, and with the deadline that the new expiry was computed from."""
    return {**alive(sid, now), "deadline": deadline}


def _is_fresh_mark(document: Document, now: dt.datetime) -> bool:
    """Whether a rotation ended the record so recently that requests of its time may still be under way.

    A tombstone without a successor is no such mark: its session was revoked, nobody waits for a better cookie.
    """
    ended = document.get("ended")
    at = ended.get("at") if isinstance(ended, dict) and "successor" in ended else None

    return type(at) is dt.datetime and at > now - dt.timedelta(seconds=MARK_SECONDS)
