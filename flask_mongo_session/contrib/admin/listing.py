"""Which sessions a page of the list shows: by index, page by page, within bounded time however many there are."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass, field, replace

from bson import DatetimeMS
from bson.errors import BSONError

from flask_mongo_session import MongoSession, SessionInfo
from flask_mongo_session.document import filters
from flask_mongo_session.document.record import Document, user_text

STATES = ("live", "expired", "damaged")
ORDERS = {"latest": -1, "soonest": 1}

#: Sessions on a page, and how many are looked at for it where no index helps (the device).
PAGE = 50
SCAN = 5_000

_FIELDS = dict.fromkeys(SessionInfo._fields, True)
#: Most sessions that may share one expiry: a stranger's number must not send the server over the whole index.
_MOST_PASSED = 1_000_000
#: The dates that Python has: from the year 1 to 9999.
_FIRST = DatetimeMS(dt.datetime.min.replace(tzinfo=dt.timezone.utc))
_LAST = DatetimeMS(dt.datetime.max.replace(tzinfo=dt.timezone.utc))
#: Everything but a date; what is missing counts as null, and an array lies in the index by its elements.
_NO_DATES = [
    *("double", "string", "object", "binData", "objectId", "bool", "null", "regex", "int", "long"),
    *("decimal", "timestamp", "minKey", "maxKey"),
]

Filter = dict[str, t.Any]


class Key(t.NamedTuple):
    """Where a page ends: an expiry in UTC milliseconds, and how many sessions with that very expiry lie before."""

    expires_at: int
    passed: int

    def pack(self) -> str:
        """As text for an address."""
        return f"{self.expires_at}-{self.passed}"

    @classmethod
    def unpack(cls, text: str) -> Key | None:
        """The reverse; ``None`` for anything else, and for numbers that no page of ours names."""
        try:
            key = cls(*map(int, text.rsplit("-", 1)))
            DatetimeMS(key.expires_at)
        except (TypeError, ValueError, OverflowError):
            return None

        return key if 0 <= key.passed <= _MOST_PASSED else None


@dataclass(frozen=True)
class Query:
    """What the visitor asks for."""

    state: str = "live"
    user: str = ""
    device: str = ""
    order: str = "latest"
    after: Key | None = None

    @classmethod
    def of(cls, arguments: t.Mapping[str, str]) -> Query:
        """From an address; what makes no sense is left out."""
        state, order = arguments.get("state", ""), arguments.get("order", "")
        return cls(
            state if state in STATES else "live",
            arguments.get("user", "").strip(),
            arguments.get("device", "").strip(),
            order if order in ORDERS else "latest",
            Key.unpack(arguments.get("after", "")),
        )

    def arguments(self, after: Key | None = None) -> dict[str, t.Any]:
        """For the address of the page that begins *after*."""
        shown = {"state": self.state, "user": self.user, "device": self.device, "order": self.order}
        return {name: value for name, value in shown.items() if value} | ({"after": after.pack()} if after else {})

    def filter(self, now: dt.datetime) -> Filter:
        """For MongoDB: equality, and a range of the index on the expiry; never a regular expression.

        Tombstones are in none of the states.
        """
        chosen: Filter = {"user_id": user_text(self.user)} if self.user else {}
        if self.state == "damaged":
            damaged = [None, {"$type": _NO_DATES}, {"$lt": _FIRST}, {"$gt": _LAST}]
            return {**chosen, "$or": [{"expires_at": one} for one in damaged], **filters.not_ended()}

        bounds = [filters.live(now) if self.state == "live" else filters.expired(now)]
        if self.after:
            onwards = "$lte" if ORDERS[self.order] < 0 else "$gte"
            bounds.append({"expires_at": {onwards: DatetimeMS(self.after.expires_at)}})
        return {**chosen, "$and": bounds}

    def sort(self) -> list[tuple[str, int]] | None:
        """By the index, whose order among equals is a fixed one; a user's few are sorted by themselves."""
        if self.state == "damaged":
            return None

        direction = ORDERS[self.order]
        return [("expires_at", direction), ("_id", 1)] if self.user else [("expires_at", direction)]

    def matches(self, info: SessionInfo) -> bool:
        """Whether the session is on such a device: a part of its name, or the beginning of its address."""
        wanted = self.device.lower()
        return wanted in (info.user_agent or "").lower() or (info.ip or "").startswith(wanted)


@dataclass
class Page:
    """Sessions to show, and where the next page begins."""

    rows: list[SessionInfo] = field(default_factory=list)
    next: Key | None = None
    #: Whether looking ended before the page was full.
    gave_up: bool = False
    #: Whether a record could not even be read.
    unreadable: bool = False


def fetch(sessions: MongoSession, query: Query) -> Page:
    """The page; one query that goes along an index and ends after :data:`SCAN` records."""
    if query.state == "damaged":
        query = replace(query, after=None)

    store = sessions.store
    limit = SCAN if query.device else PAGE + 1
    with store.operation():
        cursor = store.collection.find(
            query.filter(store.now()),
            _FIELDS,
            sort=query.sort(),
            skip=query.after.passed if query.after else 0,
            limit=limit,
            batch_size=500,
        )
        return _fill(cursor, query, limit)


def _fill(cursor: t.Iterable[t.Any], query: Query, limit: int) -> Page:
    page, last, looked_at = Page(), query.after, 0
    try:
        for document in cursor:
            if len(page.rows) == PAGE:
                page.next = last
                break
            looked_at += 1
            info = SessionInfo.of(document)
            last = _advance(last, document)
            if query.matches(info):
                page.rows.append(info)
        else:
            page.gave_up = looked_at == limit
            page.next = last if page.gave_up else None
    except BSONError:
        page.unreadable = True
    if query.state == "damaged":
        page.next = None

    return page


def _advance(last: Key | None, document: Document) -> Key:
    """The key behind one more session."""
    expires_at = _milliseconds(document.get("expires_at"))
    if last is not None and last.expires_at == expires_at:
        return Key(expires_at, last.passed + 1)

    return Key(expires_at, 1)


def _milliseconds(value: t.Any) -> int:
    """A date as the driver reads it, also one that Python has no date for; 0 for anything else."""
    if isinstance(value, dt.datetime):
        return int(DatetimeMS(value))

    return int(value) if isinstance(value, DatetimeMS) else 0
