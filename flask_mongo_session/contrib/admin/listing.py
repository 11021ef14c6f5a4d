"""Which sessions a page of the list shows: by index, page by page, within bounded time however many there are."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass, field, replace

from bson.errors import BSONError

from flask_mongo_session import MongoSession, SessionInfo

STATES = ("live", "expired", "damaged")
ORDERS = {"latest": -1, "soonest": 1}

#: Sessions on a page, and how many are looked at for it where no index helps (the device).
PAGE = 50
SCAN = 5_000

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_FIELDS = dict.fromkeys(SessionInfo._fields, True)
#: Everything but a date; what is missing counts as null, and an array lies in the index by its elements.
_NO_DATES = [
    *("double", "string", "object", "binData", "objectId", "bool", "null", "regex", "int", "long"),
    *("decimal", "timestamp", "minKey", "maxKey"),
]

Filter = dict[str, t.Any]


class Key(t.NamedTuple):
    """Where a page ends: an expiry, and how many sessions with that very expiry lie before."""

    expires_at: dt.datetime
    passed: int

    def pack(self) -> str:
        """As text for an address."""
        return f"{(self.expires_at - _EPOCH) // dt.timedelta(milliseconds=1)}-{self.passed}"

    @classmethod
    def unpack(cls, text: str) -> Key | None:
        """The reverse; ``None`` for anything else."""
        try:
            ms, passed = map(int, text.split("-"))
            return cls(_EPOCH + dt.timedelta(milliseconds=ms), max(passed, 0))
        except (ValueError, OverflowError):
            return None


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
        """For MongoDB: equality, and a range of the index on the expiry; never a regular expression."""
        chosen: Filter = {"ended": None}
        if self.user:
            chosen["user_id"] = self.user
        if self.state == "damaged":
            return {**chosen, "$or": [{"expires_at": None}, {"expires_at": {"$type": _NO_DATES}}]}

        span: Filter = {"$gt": now} if self.state == "live" else {"$lte": now}
        bounds = [{"expires_at": span}]
        if self.after:
            bounds.append({"expires_at": {"$lte" if ORDERS[self.order] < 0 else "$gte": self.after.expires_at}})
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
            last = _advance(last, info.expires_at)
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


def _advance(last: Key | None, expires_at: dt.datetime) -> Key:
    """The key behind one more session."""
    if last is not None and last.expires_at == expires_at:
        return Key(expires_at, last.passed + 1)

    return Key(expires_at, 1)
