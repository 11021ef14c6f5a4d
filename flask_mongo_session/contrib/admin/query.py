"""What the visitor asks for, as the address of the page says it."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass, replace

from bson import DatetimeMS

from flask_mongo_session.document import filters

Filter = dict[str, t.Any]

STATES = ("live", "expired", "damaged")

#: Most sessions that may share one date: a stranger's number must not send the server over the whole index.
_MOST_PASSED = 1_000_000
#: The earliest date that MongoDB has, and the dates that Python has: from the year 1 to 9999.
EARLIEST = DatetimeMS(-(2**63))
_FIRST = DatetimeMS(dt.datetime.min.replace(tzinfo=dt.timezone.utc))
_LAST = DatetimeMS(dt.datetime.max.replace(tzinfo=dt.timezone.utc))
#: Everything but a date; what is missing counts as null, and an array lies in the index by its elements.
_NO_DATES = [
    *("double", "string", "object", "binData", "objectId", "bool", "null", "regex", "int", "long"),
    *("decimal", "timestamp", "minKey", "maxKey"),
]


class Order(t.NamedTuple):
    """What the list is sorted by, in whose direction, and what that is called."""

    field: str
    direction: int
    name: str

    def typed(self) -> Filter:
        """Sorted by activity, a record that has none is left out, and so is a date that is none."""
        return {} if self.field == "expires_at" else {self.field: {"$gte": EARLIEST}}


ORDERS = {
    "latest": Order("expires_at", -1, "expiry, latest first"),
    "soonest": Order("expires_at", 1, "expiry, soonest first"),
    "recent": Order("touched_at", -1, "activity, latest first"),
    "idle": Order("touched_at", 1, "activity, oldest first"),
}


class Key(t.NamedTuple):
    """Where a page begins: a date in UTC milliseconds, and how many sessions with that very date lie before."""

    at: int
    passed: int

    def pack(self) -> str:
        """As text for an address."""
        return f"{self.at}-{self.passed}"

    @classmethod
    def unpack(cls, text: str) -> Key | None:
        """The reverse; ``None`` for anything else, and for numbers that no page of ours names."""
        try:
            key = cls(*map(int, text.rsplit("-", 1)))
            DatetimeMS(key.at)
        except (TypeError, ValueError, OverflowError):
            return None

        return key if 0 <= key.passed <= _MOST_PASSED else None


@dataclass(frozen=True)
class Query:
    """What the visitor asks for."""

    q: str = ""
    state: str = "live"
    order: str = "latest"
    #: The last activity lies between these (UTC), as the form has them: ``2026-11-24T12:30``.
    since: str = ""
    until: str = ""
    after: Key | None = None

    @classmethod
    def of(cls, arguments: t.Mapping[str, str]) -> Query:
        """From an address; what makes no sense is left out."""
        state, order = arguments.get("state", ""), arguments.get("order", "")
        since, until = arguments.get("since", ""), arguments.get("until", "")
        return cls(
            arguments.get("q", "").strip(),
            state if state in STATES else "live",
            order if order in ORDERS else "latest",
            since if _moment(since) else "",
            until if _moment(until) else "",
            Key.unpack(arguments.get("after", "")),
        )

    def arguments(self, after: Key | None = None, **others: str) -> dict[str, t.Any]:
        """For the address of the page that begins *after*, with *others* in place of what it says now."""
        shown = {"q": self.q, "state": self.state, "order": self.order, "since": self.since, "until": self.until}
        packed = {"after": after.pack()} if after else {}
        return {name: value for name, value in (shown | others).items() if value} | packed

    def first_page(self) -> Query:
        """The same from its beginning."""
        return replace(self, after=None)

    @property
    def by(self) -> Order:
        """What the list is sorted by."""
        return ORDERS[self.order]

    def times(self) -> Filter:
        """The filter for the last activity; empty where every one will do."""
        bounds = {"$gte": _moment(self.since), "$lt": _moment(self.until)}
        bounds = {operator: moment for operator, moment in bounds.items() if moment}
        return {"touched_at": bounds} if bounds else {}


def state_filter(state: str, now: dt.datetime) -> Filter:
    """For MongoDB; tombstones are in none of the states."""
    if state == "damaged":
        damaged = [None, {"$type": _NO_DATES}, {"$lt": _FIRST}, {"$gt": _LAST}]
        return {"$or": [{"expires_at": one} for one in damaged], **filters.not_ended()}

    return filters.live(now) if state == "live" else filters.expired(now)


def _moment(text: str) -> dt.datetime | None:
    """The time that a form names, UTC where it does not say; ``None`` for anything else."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.astimezone(dt.timezone.utc) if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)
    except (ValueError, OverflowError):
        return None
