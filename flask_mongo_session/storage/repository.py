"""Every command on one session's record, each with its filter: find, insert, update, touch, end.

What is not live is not found, by any of them. Every exception but those about the data itself is a
:exc:`SessionStoreUnavailable`: MongoDB failed. Absent or expired sessions are none.
"""

from __future__ import annotations

import collections
import datetime as dt
import logging
import typing as t
import weakref

import bson
from pymongo.collection import Collection
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, WriteError

from flask_mongo_session import signals
from flask_mongo_session.document import codec, filters
from flask_mongo_session.document.mapper import DocumentMapper, Update, warn_of_damage
from flask_mongo_session.document.record import Document, StoredSession
from flask_mongo_session.document.standing import GRACE, Missing, Standing, damage_of, standing, why_gone
from flask_mongo_session.exceptions import DamagedDocument, SessionStoreUnavailable, SessionTooLarge
from flask_mongo_session.mongo.bson_types import make_aware
from flask_mongo_session.mongo.connection import Connection
from flask_mongo_session.mongo.operation import Operation

if t.TYPE_CHECKING:
    from blinker import NamedSignal

log = logging.getLogger(__name__)

#: What it says where there is no document to write keys into: PathNotViable; in a pipeline, $mergeObjects.
_NO_DOCUMENT = (28, 40400)
_TOO_LARGE = (10334, 17419, 17420)
#: What the server says of an increment or append that the stored value does not allow: BadValue, TypeMismatch; in a
#: pipeline: an overflow, $add, $concatArrays.
_NOT_COMPUTABLE = (2, 14, 241, 16554, 28664)
#: Bytes that MongoDB allows for one document.
_MAX_DOCUMENT = 16 * 1024 * 1024
#: Rejected cookies that are counted at most until they are told to the database.
_MOST_REJECTED = 100_000


class Found(t.NamedTuple):
    """What a cookie's record says at this moment."""

    standing: Standing
    #: The database's time.
    now: dt.datetime
    #: The record, whatever its standing; ``None`` where there is none, or it is no BSON.
    record: Document | None = None
    #: Why it is GONE.
    reason: Missing | None = None


class SessionRepository:
    """The sessions of one collection, a record at a time.

    :param max_size: bytes that one session may take.
    """

    def __init__(self, connection: Connection, collection_name: str, mapper: DocumentMapper, max_size: int) -> None:
        self.connection = connection
        self.collection_name = collection_name
        self.mapper = mapper
        self.max_size = max_size
        self._sender: weakref.ref[t.Any] | None = None
        #: One item for each cookie that was rejected and not told yet; a deque, since adding to it needs no lock.
        self._rejections: collections.deque[None] = collections.deque(maxlen=_MOST_REJECTED)

    @property
    def collection(self) -> Collection[dict[str, t.Any]]:
        """The sessions' collection, with everything pinned that they need."""
        return self.connection.collection(self.collection_name)

    def beside(self, name: str) -> Collection[dict[str, t.Any]]:
        """A collection beside the sessions', named after it, with the same things pinned."""
        return self.connection.collection(f"{self.collection_name}_{name}")

    def now(self) -> dt.datetime:
        """The database's now (UTC)."""
        known = self.connection.clock.known()
        if known is not None:
            return known

        with Operation(self.connection):
            return self.connection.now()

    # -- signals ----------------------------------------------------------------------------------------------------

    def speak_for(self, sender: t.Any) -> None:
        """Send signals in the name of *sender*, which is not kept alive by it."""
        self._sender = weakref.ref(sender)

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        """Send *signal* in the name of the application, or of this repository's store where there is none."""
        if signal.receivers:
            sender = self._sender() if self._sender else None
            signals.announce(signal, self if sender is None else sender, **arguments)

    def rejected(self, sid: str | None, reason: str | None) -> None:
        """Count and announce a cookie that leads to no session; *sid* is ``None`` for one that is not ours."""
        self._rejections.append(None)
        self.announce(signals.session_rejected, sid=sid, reason=reason)

    def take_rejections(self) -> int:
        """How many cookies were rejected since this was asked last."""
        count = len(self._rejections)
        for _ in range(count):
            self._rejections.popleft()

        return count

    # -- finding ----------------------------------------------------------------------------------------------------

    def find(self, sid: str, token: bytes, began: float | None = None) -> Found:
        """The record and its standing towards *token* (a SHA-256), for a request that *began* then; one command.

        *began* is a reading of :func:`flask_mongo_session.mongo.clock.boottime`.
        """
        connection = self.connection
        command = {"find": self.collection_name, "filter": {"_id": sid}, "limit": 1, "singleBatch": True}
        with Operation(connection) as session:
            try:
                batch = connection.read(command, session)["cursor"]["firstBatch"]
            except bson.errors.BSONError:
                self._log_damage(sid, "Its BSON is malformed.")
                return Found(Standing.GONE, connection.now(), None, Missing.DAMAGED)
            now = connection.clock.known() or connection.now()

        record = batch[0] if batch else None
        if record is not None:
            make_aware(record)
            previous = record.get("previous")
            if isinstance(previous, dict):
                make_aware(previous)
        overtaken = began is not None and record is not None and record.get("token") != token
        judged = standing(record, token, connection.clock.at(t.cast("float", began)) if overtaken else None, now)
        if judged is Standing.GONE:
            return Found(judged, now, record, self._reason(sid, record, now))

        return Found(judged, now, record)

    def find_live(self, sid: str) -> StoredSession | None:
        """The live session with this id, whatever its token; ``None`` when it is unknown, expired, damaged or ended."""
        if not is_id(sid):
            return None

        found = self.find(sid, b"")
        record = found.record
        if record is None or "ended_at" in record or found.reason not in (None, Missing.UNKNOWN):
            return None
        stored = self.mapper.stored(record)
        self.announce(signals.session_loaded, sid=sid, user_id=stored.user_id)
        return stored

    def _reason(self, sid: str, record: Document | None, now: dt.datetime) -> Missing:
        reason = why_gone(record, now)
        if record is not None and reason is Missing.DAMAGED:
            self._log_damage(sid, damage_of(record) or "")

        return reason

    def _log_damage(self, sid: str, reason: str) -> None:
        warn_of_damage(sid, DamagedDocument(f"it counts as empty. {reason}"))

    # -- writing ----------------------------------------------------------------------------------------------------

    def insert(self, document: Document, at_most: int | None = None) -> bool:
        """Store a new record; ``False`` when there is one with its id. Raises :exc:`SessionTooLarge`.

        *at_most*: bytes that it surely does not exceed; without, or near the limit, its size is computed.
        """
        if at_most is None or at_most > self.max_size:
            self.check_fits(codec.size(document))
        try:
            with Operation(self.connection) as session:
                self.collection.insert_one(document, session=session)
        except DuplicateKeyError:
            return False
        except DocumentTooLarge as error:
            raise SessionTooLarge(codec.size(document), _MAX_DOCUMENT) from error

        return True

    def update(self, chosen: filters.Filter, update: Update, *, w: str | int | None = None) -> bool:
        """Update the record that *chosen* selects; whether it did. Never creates one.

        Raises :exc:`TypeError` where a stored value cannot be computed with, :exc:`SessionTooLarge`.
        """
        try:
            with Operation(self.connection) as session:
                collection = self.connection.collection(self.collection_name, w=w)
                return collection.update_one(chosen, update, session=session).matched_count == 1
        except WriteError as error:
            return self._refused(chosen["_id"], error)
        except DocumentTooLarge as error:
            raise SessionTooLarge(_MAX_DOCUMENT + 1, _MAX_DOCUMENT) from error

    def touch(self, chosen: filters.Filter, fields: t.Mapping[str, t.Any], *, confirmed: bool) -> bool:
        """Move the expiry of a live session, best effort; whether it is known to have moved. Never an error.

        A majority confirms it only if *confirmed* is asked for.
        """
        if self.connection.known_to_be_away:
            return False

        try:
            return self.update(chosen, {"$set": {**fields}}, w=None if confirmed else 1)
        except SessionStoreUnavailable:
            return False

    def end(self, chosen: filters.Filter, ended_at: dt.datetime) -> bool:
        """Turn the record that *chosen* selects into a tombstone; whether there was one."""
        with Operation(self.connection) as session:
            replaced = self.collection.replace_one(chosen, tombstone(ended_at), session=session)

        return replaced.matched_count == 1

    def commit(self, sid: str, encoded: t.Mapping[str, t.Any], expires_at: dt.datetime, user_id: str | None) -> None:
        """Create the record or replace its values and expiry; a live one keeps its token and what goes with it."""
        with Operation(self.connection) as session:
            now = self.connection.now()
            new = self.mapper.document(
                sid, encoded, {"created_at": now, "touched_at": now, "expires_at": expires_at, "user_id": user_id}
            )
            self.check_fits(codec.size(new))
            fields = {**new}
            first = {name: fields.pop(name) for name in ("_id", "_cls", "created_at") if name in new}
            update = {"$set": fields, "$setOnInsert": first}
            if gone := {name: "" for name in (*self.mapper.content_fields, "user_id") if name not in new}:
                update["$unset"] = gone

            alive, over = {"_id": sid, **filters.live(now)}, {"_id": sid, "expires_at": {"$not": {"$gt": now}}}
            try:
                self.collection.update_one(alive, update, upsert=True, session=session)
            except DuplicateKeyError:
                if not self.collection.replace_one(over, new, session=session).matched_count:
                    self.collection.update_one(alive, update, upsert=True, session=session)

    def delete(self, sid: str) -> bool:
        """End a session: a record without a token goes, any other leaves a tombstone. Whether there was one."""
        if not is_id(sid):
            return False

        with Operation(self.connection) as session:
            chosen = {"_id": sid, **filters.not_ended()}
            deleted = self.collection.delete_one({**chosen, "token": None}, session=session).deleted_count
        if deleted or self.end(chosen, self.now()):
            self.announce(signals.session_destroyed, sid=sid, reason="logout", actor=None)
            return True

        return False

    def check_fits(self, size: int) -> None:
        """Raise :exc:`SessionTooLarge` when a session of *size* bytes may not be stored."""
        if size > self.max_size:
            raise SessionTooLarge(size, self.max_size)

    def _refused(self, sid: str, error: WriteError) -> bool:
        """Say what the server's refusal of an update means; ``False`` where the record is damaged."""
        if error.code in _NO_DOCUMENT:
            self._log_damage(sid, "Its data is no document.")
            return False
        if error.code in _TOO_LARGE:
            raise SessionTooLarge(_MAX_DOCUMENT + 1, _MAX_DOCUMENT) from None
        if error.code not in _NOT_COMPUTABLE:
            log.error("The session store refused an update of %s: code %s", sid, error.code)
            raise SessionStoreUnavailable from None

        raise TypeError(
            "A stored value cannot be incremented or appended to: it is no number, no list, or too large."
        ) from None  # the server's message quotes the value


def tombstone(ended_at: dt.datetime) -> Document:
    """What remains of an ended session: no personal data, and an expiry that no live query ever sees."""
    return {"ended_at": ended_at, "expires_at": ended_at - GRACE}


def is_id(value: object) -> bool:
    """Never let anything else into a filter: a mapping would act as an operator, a lone surrogate is no BSON."""
    return isinstance(value, str) and value != "" and (value.isascii() or codec.is_unicode(value))
