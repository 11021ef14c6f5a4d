"""The store: the door to all sessions of one model.

The contract is that of Go's SCS stores: unknown, expired and malformed are *not found*, ending what is not there is
fine, and an error (:exc:`SessionStoreUnavailable`) always means the system.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
import time
import typing as t

from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.database import Database

from . import process, signals
from .cleanup.expired import BATCH_SIZE, Remover
from .cleanup.lease import Lease
from .cleanup.sweeper import Sweeper
from .document import filters
from .document.mapper import DocumentMapper
from .document.model import SessionDocument
from .document.record import StoredSession, user_of
from .exceptions import ConfigurationTypeError
from .mongo.connection import Connection
from .mongo.operation import BACKGROUND_SECONDS, WALK_SECONDS, Operation
from .storage import audit, indexes
from .storage.repository import SessionRepository, is_id

if t.TYPE_CHECKING:
    from .encryption import Sealer

log = logging.getLogger(__name__)

#: Bytes; a MongoDB document may take 16 MiB.
MAX_SIZE = 1024 * 1024
#: Records that come at once where all of them are wanted, and in which order.
_BATCH, _NATURAL = 2000, [("$natural", 1)]
#: Seconds after which a thread that could not be started is tried again.
_TRY_AGAIN_SECONDS = 10.0


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
    :param user_keys: the session keys that may name the user; :meth:`commit` notes whose session it is.
    :param audit_lifetime: how long it is kept who ended whose sessions.
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
        user_keys: tuple[str, ...] = ("_user_id", "user_id"),
        connection: Connection | None = None,
        audit_lifetime: dt.timedelta = audit.LIFETIME,
    ) -> None:
        check_model(model)
        resolve = model.default_database if database is None else (lambda: database)
        self.model = model
        self.connection = connection or Connection(
            resolve, timeout=timeout, write_concern=write_concern, follow=database is None
        )
        self.collection_name = collection or model.collection_name()
        self.schema = model.schema(sealed=sealer is not None)
        sealer = sealer and sealer.at(self._place)
        #: What encrypts values, or ``None``.
        self.sealer = sealer
        mapper = DocumentMapper(self.schema, class_name=model.class_name(), sealer=sealer)
        #: The commands on one record.
        self.repository = SessionRepository(self.connection, self.collection_name, mapper, max_size)
        self.repository.speak_for(self)
        #: Who ended whose sessions.
        self.audit = audit.AuditLog(self.repository, audit_lifetime, auto_index=auto_index)
        self._ttl_index = ttl_index
        self._user_keys = user_keys
        self._auto_index = auto_index
        self._started_in: int | None = None
        self._try_again = 0.0
        self._stopped = False

        interval = cleanup_interval.total_seconds() if isinstance(cleanup_interval, dt.timedelta) else cleanup_interval
        self.sweeper = Sweeper(self._sweep, interval)
        #: Whose turn it is to sweep, and what workers tell each other beside it.
        self.lease = Lease(self.connection, self.collection_name, interval)
        if connection is None:
            self.start()

    def __repr__(self) -> str:
        """Where it stores."""
        return f"<MongoSessionStore of {self.model.__name__} in {self.collection_name!r}>"

    # -- the store's contract ---------------------------------------------------------------------------------------

    def find(self, session_id: str) -> StoredSession | None:
        """The live session, or ``None`` when it is unknown, expired, damaged, ended, or no id at all."""
        self._notice()
        return self.repository.find_live(session_id)

    def commit(self, session_id: str, data: t.Mapping[str, t.Any], expires_at: dt.datetime) -> None:
        """Create the session or replace it, data and expiry (aware, UTC) as a whole.

        The cookie of a live session goes on working; a session that is created here has none. Raises
        :exc:`UnstorableValue`, :exc:`InvalidFieldValue`, :exc:`SessionTooLarge`; nothing is stored then.
        """
        if not is_id(session_id):
            raise TypeError("A session id is a non-empty text; make one with flask_mongo_session.new_session_id().")
        if expires_at.tzinfo is None:
            raise ValueError("expires_at has no timezone: give an aware datetime, for example in UTC.")

        self._notice()
        encoded = {key: self.schema.encode(key, value) for key, value in data.items()}
        self.repository.commit(session_id, encoded, expires_at, user_of(data, self._user_keys))

    def delete(self, session_id: str) -> None:
        """End the session; fine when there is none."""
        self._notice()
        self.repository.delete(session_id)

    def all(self) -> dict[str, dict[str, t.Any]]:
        """Every live session's data by session id; see :meth:`iterate` for many."""
        return dict(self.iterate())

    def iterate(self) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
        """Live sessions one by one, as ``(session id, data)``, in constant memory; damaged ones are passed over.

        In the order in which the server keeps them, which no renewal changes: each session comes once. A server that
        stops answering in between raises :exc:`SessionStoreUnavailable`.
        """
        fields = self.repository.mapper.content_fields
        with self.operation():
            live = {"_id": {"$gt": ""}, **filters.live(self.connection.now())}

        batches = self.collection.find_raw_batches(live, dict.fromkeys(fields, True), batch_size=_BATCH, hint=_NATURAL)
        seconds = WALK_SECONDS
        while True:
            with self.connection.background_operation(seconds):
                batch = next(batches, None)
            if batch is None:
                return
            yield from self.repository.mapper.read_batch(t.cast("bytes", batch))
            seconds = BACKGROUND_SECONDS

    def delete_expired(self, batch_size: int = BATCH_SIZE) -> int:
        """Remove all expired records now, whoever's turn it is; returns how many."""
        return sum(self.remove_batches(batch_size))

    def remove_batches(self, batch_size: int = BATCH_SIZE) -> t.Iterator[int]:
        """The same batch by batch; yields the count of each."""
        began, count = time.monotonic(), 0
        for removed in self._batches(batch_size):
            count += removed
            yield removed

        self._record_sweep(count, time.monotonic() - began)

    def _record_sweep(self, count: int, seconds: float) -> None:
        self.lease.record(count, seconds)
        self.repository.announce(signals.sessions_swept, count=count, seconds=seconds)

    def _batches(self, batch_size: int = BATCH_SIZE) -> t.Iterator[int]:
        return Remover(self.connection, self.collection_name, batch_size).batches()

    def count_expired(self) -> int:
        """How many records a sweep would remove now."""
        with self.connection.background_operation():
            return self.collection.count_documents(filters.removable(self.connection.now()))

    def stop_cleanup(self) -> None:
        """End the sweeping thread; fine without one, and again."""
        self._stopped = True
        self.sweeper.stop()

    # -- life of the store ------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start what runs in the background, once in each process: the sweeping, and the building of indexes.

        Whether that is done. Where the system gives no more threads it is a warning, and a later call tries again.
        """
        process.notice_fork()
        if self._started_in == process.current or self._stopped:
            return True
        if time.monotonic() < self._try_again:
            return False

        try:
            self.sweeper.start()
            if self._auto_index:
                self._build_indexes()
        except RuntimeError as error:
            self._try_again = time.monotonic() + _TRY_AGAIN_SECONDS
            log.warning("Could not start a thread for sweeping and indexes, which is tried again: %s", error)
            return False

        self._started_in = process.current
        return True

    def _build_indexes(self) -> None:
        indexes.build_in_background(self.connection, self.collection_name, self._index_models())

    def _place(self) -> str:
        """Where encrypted values are at home."""
        return f"{self.connection.database.name}.{self.collection_name}"

    def _notice(self) -> None:
        if self._started_in != process.current or process.current != os.getpid():
            self.start()

    @property
    def collection(self) -> Collection[dict[str, t.Any]]:
        """The sessions' collection, with everything pinned that they need."""
        if self.connection.follows:
            self.connection.catch_up()

        return self.repository.collection

    def operation(self) -> Operation:
        """A context for commands on :attr:`collection`: bounded in time, failing as :exc:`SessionStoreUnavailable`."""
        self._notice()
        return self.connection.operation()

    def now(self) -> dt.datetime:
        """The database's now (UTC)."""
        self._notice()
        return self.repository.now()

    def ensure_indexes(self) -> None:
        """Create the model's missing indexes, and the audit's, and wait for them, however long that takes."""
        indexes.ensure_indexes(self.connection, self.collection_name, self._index_models())
        self.audit.ensure_indexes()

    def _index_models(self) -> list[IndexModel]:
        return indexes.index_models(self.model.index_specs(), ttl=self._ttl_index)

    def sweeps(self) -> list[dict[str, t.Any]]:
        """The last sweeps of all workers, newest first: ``at``, ``count``, ``seconds``."""
        return self.lease.runs()

    def _sweep(self, stopping: threading.Event) -> int | None:
        """The thread's work: only when it is this worker's turn, and only as long as it is."""
        if rejected := self.repository.take_rejections():
            self.lease.tell_rejected(rejected)
        if not self.lease.acquire():
            return None
        if self._auto_index and indexes.are_gone(self.connection, self.collection_name, self._index_models()):
            self._build_indexes()

        began = renewed = time.monotonic()
        count = 0
        for removed in self._batches():
            count += removed
            if stopping.is_set():
                break
            if time.monotonic() - renewed > self.sweeper.interval / 2:
                if not self.lease.still_ours():
                    break
                renewed = time.monotonic()

        self._record_sweep(count, time.monotonic() - began)
        return count


def check_model(model: t.Any) -> None:
    """Raise :exc:`ConfigurationTypeError` unless *model* can be stored."""
    if not (isinstance(model, type) and issubclass(model, SessionDocument)) or model.is_abstract():
        raise ConfigurationTypeError(
            f"model={model!r} is no session model: subclass flask_mongo_session.SessionDocument (itself abstract), "
            "or leave it out to use flask_mongo_session.Session."
        )
