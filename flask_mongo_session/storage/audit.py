"""Who ended whose sessions: a record of each revocation, which expires by itself."""

from __future__ import annotations

import datetime as dt
import logging
import secrets
import typing as t

import pymongo
from pymongo import IndexModel

from flask_mongo_session.mongo.bson_types import milliseconds
from flask_mongo_session.mongo.operation import Operation

from .repository import SessionRepository

log = logging.getLogger(__name__)

#: How long a record is kept by default.
LIFETIME = dt.timedelta(days=90)
_INDEXES = [
    IndexModel([("expires_at", 1)], expireAfterSeconds=0),
    IndexModel([("user_id", 1), ("_id", -1)]),
]


class Actor(t.NamedTuple):
    """Who ends sessions, and from where."""

    #: A user's id, an account of the operating system, or what the application says; ``None``: nobody is known.
    name: str | None = None
    #: ``"request"``, ``"command"`` or ``"code"`` (a job, a shell).
    via: str = "code"
    #: A request's address or network, a command's host.
    address: str | None = None


class AuditRecord(t.NamedTuple):
    """One revocation. Dates are aware, UTC."""

    id: str
    at: dt.datetime
    #: ``"revoke"``, ``"revoke_user"``, ``"revoke_all"`` or ``"erase_user"``.
    action: str
    actor: str | None
    via: str
    address: str | None
    #: Whose sessions were to end; ``None`` for everybody's.
    user_id: str | None
    #: The session, where it was one.
    sid: str | None
    #: The sessions that were to stay.
    kept: list[str]
    #: How many were ended; ``None`` where that is not known: it goes on, or it was cut short.
    ended: int | None


class AuditLog:
    """The revocations of one collection of sessions. Writing never raises: a revocation goes first.

    :param lifetime: how long a record is kept.
    :param auto_index: whether the first record that is written creates the indexes.
    """

    def __init__(
        self, repository: SessionRepository, lifetime: dt.timedelta = LIFETIME, *, auto_index: bool = True
    ) -> None:
        self._repository = repository
        self._lifetime = lifetime
        self._indexes_wanted = auto_index

    @property
    def _collection(self) -> t.Any:
        return self._repository.beside("audit")

    def write(self, action: str, actor: Actor, **details: t.Any) -> str | None:
        """Keep a record of what *actor* does; its id for :meth:`complete`, ``None`` where it could not be kept."""
        try:
            with Operation(self._repository.connection) as session:
                now = self._repository.connection.now()
                record = {"_id": _id(now), "at": now, "action": action, **actor._asdict(), **details}
                self._collection.insert_one({**record, "expires_at": now + self._lifetime}, session=session)
                self._index()
        except Exception:
            log.exception("A revocation (%s by %s) could not be recorded; it takes place all the same.", action, actor)
            return None

        return str(record["_id"])

    def complete(self, record: str | None, ended: int) -> None:
        """Note how many sessions were ended."""
        if record is None:
            return

        try:
            with Operation(self._repository.connection) as session:
                self._collection.update_one({"_id": record}, {"$set": {"ended": ended}}, session=session)
        except Exception:
            log.exception("How many sessions were ended (%d) could not be recorded.", ended)

    def _index(self) -> None:
        """Create the indexes with the first record that this process writes; cheap where they are there."""
        if self._indexes_wanted:
            self._indexes_wanted = False
            self._collection.create_indexes(_INDEXES)

    def find(  # noqa: PLR0913 - keywords, each of them a filter
        self,
        limit: int = 50,
        *,
        user_id: str | None = None,
        actor: str | None = None,
        session_id: str | None = None,
        action: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        before: str | None = None,
    ) -> list[AuditRecord]:
        """The latest records that fit, newest first; *before* is the ``id`` of one: those older than it."""
        wanted = {"user_id": user_id, "name": actor, "sid": session_id, "action": action}
        chosen: dict[str, t.Any] = {name: str(value) for name, value in wanted.items() if value is not None}
        span = {"$gte": since, "$lt": until}
        if since or until:
            chosen["at"] = {operator: value for operator, value in span.items() if value}
        if before is not None:
            chosen["_id"] = {"$lt": str(before)}

        with Operation(self._repository.connection) as session:
            found = self._collection.find(chosen, sort=[("_id", -1)], limit=limit, session=session)
            return [_record(document) for document in found]

    def ensure_indexes(self) -> None:
        """Create the indexes, one of which lets the server remove what has expired."""
        with pymongo.timeout(None):
            self._collection.create_indexes(_INDEXES)


def _id(now: dt.datetime) -> str:
    """An id that sorts by the database's time."""
    return f"{milliseconds(now):012x}-{secrets.token_hex(4)}"


def _record(document: dict[str, t.Any]) -> AuditRecord:
    return AuditRecord(
        document["_id"],
        document["at"],
        document["action"],
        document.get("name"),
        document.get("via", "code"),
        document.get("address"),
        document.get("user_id"),
        document.get("sid"),
        document.get("kept") or [],
        document.get("ended"),
    )
