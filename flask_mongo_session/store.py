"""Every command about one session: find, commit, create, change, touch, rotate, end; and the door to all of them.

The contract is that of Go's SCS stores: unknown, expired and malformed are *not found*, ending what is not there is
fine, and an error (:exc:`SessionStoreUnavailable`) always means the system.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
import time
import typing as t
import weakref

import bson
from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, WriteError

from . import codec, maintenance, signals
from .changes import Changes
from .connection import Connection, Operation
from .exceptions import ConfigurationTypeError, DamagedDocument, SessionStoreUnavailable, SessionTooLarge
from .model import SessionDocument
from .records import Document, Frame, Missing, Records, StoredSession
from .sweeper import Sweeper

if t.TYPE_CHECKING:
    from blinker import NamedSignal

    from .encryption import Sealer

#: Bytes; a MongoDB document may take 16 MiB.
MAX_SIZE = 1024 * 1024

#: How far a log-out follows the trail of rotations; each of them is at most ten seconds old.
_MAX_TRAIL = 16
_PATH_NOT_VIABLE = 28
_TOO_LARGE = (10334, 17419, 17420)


class MongoSessionStore:
    """Sessions of one model in one collection.

    :param model: a :class:`SessionDocument` subclass; its MongoEngine connection is used unless *database* is given.
    :param database: a PyMongo database to use instead; its client stays the caller's.
    :param cleanup_interval: seconds (or a timedelta) between sweeps by a daemon thread, which starts now; 0 = never.
    :param timeout: seconds for one operation, retries included.
    :param write_concern: for everything that has to be kept.
    :param max_size: bytes one session may take.
    :param sealer: encrypts the free-form keys (:class:`flask_mongo_session.encryption.Sealer`).
    :param collection: instead of the model's own.
    :param auto_index: whether the model's indexes are created in the background.
    :param ttl_index: whether the server removes expired records too, through a TTL index.
    :param connection: instead of *database*, *timeout* and *write_concern*; nothing starts before :meth:`start` then.
    """

    def __init__(  # noqa: PLR0913 - keywords, each with a default
        self,
        model: type[SessionDocument],
        *,
        database: Database[t.Any] | None = None,
        cleanup_interval: float | dt.timedelta = 60,
        timeout: float = 2.0,
        write_concern: str | int = "majority",
        max_size: int = MAX_SIZE,
        sealer: Sealer | None = None,
        collection: str | None = None,
        auto_index: bool = True,
        ttl_index: bool = False,
        connection: Connection | None = None,
    ) -> None:
        check_model(model)
        resolve = model.default_database if database is None else (lambda: database)
        self.model = model
        self.connection = connection or Connection(resolve, timeout=timeout, write_concern=write_concern)
        self.collection_name = collection or model.collection_name()
        self.max_size = max_size
        self.sealed = sealer is not None
        self.schema = model.schema(sealed=self.sealed)
        self._ttl_index = ttl_index
        self._auto_index = auto_index
        self._records = Records(self.schema, class_name=model.class_name(), sealer=sealer)
        self._sender: weakref.ref[t.Any] | None = None
        self._started_in: int | None = None
        self._stopped = False

        interval = cleanup_interval.total_seconds() if isinstance(cleanup_interval, dt.timedelta) else cleanup_interval
        self.sweeper = Sweeper(self._sweep, interval)
        self._lease = maintenance.Lease(self.connection, self.collection_name, interval)
        if connection is None:
            self.start()

    def __repr__(self) -> str:
        """Where it stores."""
        return f"<MongoSessionStore of {self.model.__name__} in {self.collection_name!r}>"

    # -- the store's contract ---------------------------------------------------------------------------------------

    def find(self, session_id: str) -> StoredSession | None:
        """The live session, or ``None`` when it is unknown, expired, damaged or no id at all."""
        found = self.load(session_id)
        return found if isinstance(found, StoredSession) else None

    def commit(self, session_id: str, data: t.Mapping[str, t.Any], expires_at: dt.datetime) -> None:
        """Create the session or replace it, data and expiry (aware, UTC) as a whole.

        Raises :exc:`UnstorableValue`, :exc:`InvalidFieldValue`, :exc:`SessionTooLarge`; nothing is stored then.
        """
        if not _is_id(session_id):
            raise TypeError("A session id is a non-empty text; make one with flask_mongo_session.session_id(token).")
        if expires_at.tzinfo is None:
            raise ValueError("expires_at has no timezone: give an aware datetime, for example in UTC.")

        encoded = {key: self.schema.encode(key, value) for key, value in data.items()}
        with self.operation():
            frame = Frame(now=self.connection.now(), expires_at=expires_at)
            document = self._records.document(session_id, encoded, frame)
            self._check_size(document)
            self.collection.replace_one({"_id": session_id}, document, upsert=True)

    def delete(self, session_id: str) -> None:
        """End the session; fine when there is none."""
        self.end(session_id)

    def all(self) -> dict[str, dict[str, t.Any]]:
        """Every live session's data by session id; see :meth:`iterate` for many."""
        return dict(self.iterate())

    def iterate(self) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
        """Live sessions one by one, as ``(session id, data)``, in constant memory; damaged ones are passed over."""
        fields = ["data", *(declared.db_field for declared in self.schema.declared.values())]
        with self.operation():
            cursor = self.collection.find({"expires_at": {"$gt": self.connection.now()}}, dict.fromkeys(fields, True))

        records = self._records
        while True:
            with self.operation():
                document = next(cursor, None)
            if document is None:
                return
            with contextlib.suppress(DamagedDocument):
                yield document["_id"], self.schema.decode_all(records.encoded(document))

    def delete_expired(self, batch_size: int = maintenance.BATCH_SIZE) -> int:
        """Remove all expired records now, whoever's turn it is; returns how many."""
        began = time.monotonic()
        count = sum(self.remove_batches(batch_size))
        self.announce(signals.sessions_swept, count=count, seconds=time.monotonic() - began)

        return count

    def remove_batches(self, batch_size: int = maintenance.BATCH_SIZE) -> t.Iterator[int]:
        """Remove expired records batch by batch; yields the count of each."""
        return maintenance.Remover(self.connection, self.collection_name, batch_size).batches()

    def count_expired(self) -> int:
        """How many records a sweep would remove now."""
        with self.operation():
            return self.collection.count_documents(maintenance.expired_filter(self.connection.now()))

    def stop_cleanup(self) -> None:
        """End the sweeping thread; fine without one, and again."""
        self._stopped = True
        self.sweeper.stop()

    # -- life of the store ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start what runs in the background, once in each process: the sweeping, and the building of indexes."""
        if self._started_in == os.getpid() or self._stopped:
            return

        if self._started_in is not None:
            self.sweeper.reset_after_fork()
        self._started_in = os.getpid()
        if self._auto_index:
            maintenance.build_in_background(self.connection, self.collection_name, self._index_models())
        self.sweeper.start()

    @property
    def collection(self) -> Collection[dict[str, t.Any]]:
        """The sessions' collection, with everything pinned that they need."""
        return self.connection.collection(self.collection_name)

    def operation(self) -> Operation:
        """A context for commands on :attr:`collection`: bounded in time, failing as :exc:`SessionStoreUnavailable`."""
        if self._started_in != os.getpid():
            self.start()

        return self.connection.operation()

    def now(self) -> dt.datetime:
        """The database's now (UTC)."""
        with self.connection.operation():
            return self.connection.now()

    def ensure_indexes(self) -> None:
        """Create the model's missing indexes and wait for them, however long that takes."""
        maintenance.ensure_indexes(self.connection, self.collection_name, self._index_models())

    def _index_models(self) -> list[IndexModel]:
        return maintenance.index_models(self.model.index_specs(), ttl=self._ttl_index)

    def sweeps(self) -> list[dict[str, t.Any]]:
        """The last sweeps of all workers, newest first: ``at``, ``count``, ``seconds``."""
        return self._lease.runs()

    def speak_for(self, sender: t.Any) -> None:
        """Send signals in the name of *sender*, which is not kept alive by it."""
        self._sender = weakref.ref(sender)

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        """Send *signal* in the name of the application, or of this store where there is none."""
        if signal.receivers:
            sender = self._sender() if self._sender else None
            signals.announce(signal, self if sender is None else sender, **arguments)

    def _sweep(self, stopping: threading.Event) -> int | None:
        """The thread's work: only when it is this worker's turn, and only as long as it is."""
        if not self._lease.acquire():
            return None

        began = renewed = time.monotonic()
        count = 0
        for removed in self.remove_batches():
            count += removed
            if stopping.is_set():
                break
            if time.monotonic() - renewed > self.sweeper.interval / 2:
                if not self._lease.still_ours():
                    break
                renewed = time.monotonic()

        seconds = time.monotonic() - began
        self._lease.record(count, seconds)
        self.announce(signals.sessions_swept, count=count, seconds=seconds)

        return count

    # -- what requests need -----------------------------------------------------------------------------------------

    def load(self, sid: str) -> StoredSession | Missing:
        """The live session, read with one command, or why there is none."""
        if not _is_id(sid):
            return Missing.UNKNOWN

        command = {"find": self.collection_name, "filter": {"_id": sid}, "limit": 1, "singleBatch": True}
        with self.operation():
            try:
                batch = self.connection.read(command)["cursor"]["firstBatch"]
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
            return self._damaged(sid, str(error))
        if stored.expires_at <= now:
            return Missing.EXPIRED

        self.announce(signals.session_loaded, sid=sid, user_id=stored.user_id)
        return stored

    def _damaged(self, sid: str, reason: str) -> Missing:
        signals.log.warning("The stored session %s is damaged and counts as empty: %s", sid, reason)
        return Missing.DAMAGED

    def create(self, sid: str, encoded: t.Mapping[str, t.Any], frame: Frame) -> bool:
        """Store a new session; ``False`` when it was revoked before it was there."""
        if not self._insert(sid, encoded, frame):
            return False

        self.announce(signals.session_created, sid=sid, user_id=frame.user_id)
        return True

    def _insert(self, sid: str, encoded: t.Mapping[str, t.Any], frame: Frame) -> bool:
        document = self._records.document(sid, encoded, frame)
        self._check_size(document)

        try:
            with self.operation():
                self.collection.insert_one(document)
        except DuplicateKeyError:
            return False

        return True

    def change(
        self, sid: str, changes: Changes, known_deadline: dt.datetime | None, frame: Frame, *, size: int = 0
    ) -> bool:
        """Store just the changed keys; ``False`` when there is no live session with the deadline that was known.

        *size*: bytes of the session as far as the request knows it.
        """
        update = self._records.update(sid, changes)
        update.setdefault("$set", {}).update(expires_at=frame.expires_at, touched_at=frame.now, **frame.device)
        self.check_fits(max(size, codec.size(update)))

        try:
            with self.operation():
                result = self.collection.update_one(_live(sid, frame.now, known_deadline), update)
        except WriteError as error:
            return self._refused(sid, error)
        except DocumentTooLarge as error:
            raise SessionTooLarge(codec.size(update), self.max_size) from error

        if result.matched_count:
            self.announce(signals.session_updated, sid=sid, keys=changes.keys)
        return bool(result.matched_count)

    def _refused(self, sid: str, error: WriteError) -> bool:
        """What the server says of an update that the stored data does not allow."""
        if error.code == _PATH_NOT_VIABLE:
            self._damaged(sid, "its data is no document")
            return False
        if error.code in _TOO_LARGE:
            raise SessionTooLarge(16 * 1024 * 1024, self.max_size) from error

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
        if self.connection.breaker.open:
            return None

        try:
            with self.operation():
                now = self.connection.now()
                update = {"$set": {"expires_at": expiry(now, known_deadline), "touched_at": now, **device}}
                collection = self.connection.collection(self.collection_name, w=1)
                found = collection.update_one(_live(sid, now, known_deadline), update).matched_count
        except (SessionStoreUnavailable, WriteError):
            return None

        return now if found else None

    def retire(self, sid: str, successor: str, user_id: str | None, now: dt.datetime) -> StoredSession | Missing:
        """First half of a rotation: empty the live record, leave a mark for requests in flight; the latest state of it.

        *user_id* is the successor's owner, so that revoking its sessions finds it before it is stored.
        """
        update = self._tombstone({"at": now, "successor": successor}, now)
        if user_id is not None:
            update["$set"]["user_id"] = user_id
            update["$unset"].pop("user_id")

        with self.operation():
            before = self.collection.find_one_and_update(_alive(sid, now), update)
            if before is None:
                return Missing.UNKNOWN

        try:
            return self._records.read(before)
        except DamagedDocument as error:
            return self._damaged(sid, str(error))

    def succeed(self, old_sid: str, sid: str, encoded: t.Mapping[str, t.Any], frame: Frame) -> bool:
        """Second half: store the successor; ``False`` when it was revoked in between."""
        if not self._insert(sid, encoded, frame):
            return False

        self.announce(signals.session_regenerated, sid=sid, old_sid=old_sid, user_id=frame.user_id)
        return True

    def end(self, sid: str, reason: str = "logout", user_id: str | None = None) -> bool:
        """End a session for good, under whatever id a rotation in flight may have moved it to; whether there was one.

        With *user_id*, only when it is that user's.
        """
        if not _is_id(sid):
            return False

        chosen: Document = {"_id": sid, "ended": None}
        if user_id is not None:
            chosen["user_id"] = user_id

        with self.operation():
            removed = self.collection.delete_one(chosen).deleted_count
            mark = None if removed else self.collection.find_one({**chosen, "ended": {"$ne": None}}, {"ended": True})
        if mark:
            return self.follow(mark, reason)
        if removed:
            self.announce(signals.session_destroyed, sid=sid, reason=reason)

        return bool(removed)

    def end_if_unchanged(self, stored: StoredSession) -> bool:
        """End a session that holds exactly what was read, so that a key added meanwhile is not lost."""
        same = {"touched_at": stored.touched_at} if self.sealed else self._records.unchanged(stored.encoded)
        with self.operation():
            removed = self.collection.delete_one({"_id": stored.sid, **same}).deleted_count
        if removed:
            self.announce(signals.session_destroyed, sid=stored.sid, reason="logout")

        return bool(removed)

    def follow(self, mark: Document, reason: str) -> bool:
        """End the successors of a rotated session, those that are about to be stored too."""
        ended = False
        for _ in range(_MAX_TRAIL):
            successor = mark["ended"].get("successor") if isinstance(mark.get("ended"), dict) else None
            if not isinstance(successor, str):
                return ended
            before = self._bury(successor)
            if before is None or "ended" not in before:
                self.announce(signals.session_destroyed, sid=successor, reason=reason)
                return True
            mark = before

        return ended

    def _bury(self, sid: str) -> Document | None:
        """Put a tombstone where the session is or is about to be; what was there before."""
        with self.operation():
            now = self.connection.now()
            return self.collection.find_one_and_update(
                {"_id": sid}, self._tombstone({"at": now}, now), upsert=True, projection={"ended": True}
            )

    def _tombstone(self, ended: Document, now: dt.datetime) -> dict[str, t.Any]:
        gone = ["user_id", "deadline", "permanent", "authenticated_at", "ip", "user_agent"]
        gone += [declared.db_field for declared in self.schema.declared.values()]

        return {"$set": {"data": {}, "ended": ended, "expires_at": now}, "$unset": dict.fromkeys(gone, "")}

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


def _is_id(value: object) -> bool:
    """Never let anything else into a filter: a mapping would act as an operator."""
    return isinstance(value, str) and value != ""


def _alive(sid: str, now: dt.datetime) -> Document:
    return {"_id": sid, "expires_at": {"$gt": now}}


def _live(sid: str, now: dt.datetime, deadline: dt.datetime | None) -> Document:
    """Live, and with the deadline that the new expiry was computed from."""
    return {"_id": sid, "expires_at": {"$gt": now}, "deadline": deadline}


def _is_fresh_mark(document: Document, now: dt.datetime) -> bool:
    """Whether the record was ended so recently that requests of its time may still be under way."""
    ended = document.get("ended")
    at = ended.get("at") if isinstance(ended, dict) else None

    return type(at) is dt.datetime and at > now - dt.timedelta(seconds=maintenance.MARK_SECONDS)


def check_model(model: t.Any) -> None:
    """Raise :exc:`ConfigurationTypeError` unless *model* can be stored."""
    if not (isinstance(model, type) and issubclass(model, SessionDocument)) or model.is_abstract():
        raise ConfigurationTypeError(
            f"model={model!r} is no session model: subclass flask_mongo_session.SessionDocument (itself abstract), "
            "or leave it out to use flask_mongo_session.Session."
        )
