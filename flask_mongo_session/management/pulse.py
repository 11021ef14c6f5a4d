"""What happens to sessions from one moment to the next, as far as the database can tell."""

from __future__ import annotations

import collections
import datetime as dt
import typing as t

from flask_mongo_session.document.standing import GRACE

if t.TYPE_CHECKING:
    from flask_mongo_session.store import MongoSessionStore

#: A tombstone's expiry lies so far before the end that it tells of, at most.
_BEFORE_ITS_END = 3 * GRACE
#: Ended and expired records that are looked at one by one. Beyond it, as after the end of everybody's sessions, the
#: number of live sessions has to tell how many were ended.
_MOST = 10_000


class Beat(t.NamedTuple):
    """How many sessions there are, and what happened since the beat before."""

    at: dt.datetime
    live: int
    #: Sessions that began, were ended, and expired. A session that began and ended in between counts in both.
    created: int = 0
    ended: int = 0
    expired: int = 0
    #: Cookies that led to no session, per second: a mean over a minute at least, since each process tells how many it
    #: rejected when it looks whether it is to sweep. ``None`` where none does.
    rejected: float | None = None
    #: Since the beat before; 0 for the first.
    seconds: float = 0.0


class Pulse:
    """Looks at the same store again and again; each look is one query along the index on the expiry.

    Beside it, the server is asked how many records it keeps count of; after a crash of it that may be off by a few.
    """

    def __init__(self, store: MongoSessionStore) -> None:
        self._store = store
        self._last: Beat | None = None
        self._floor: dt.datetime | None = None
        self._tombstones: int | None = 0
        #: When how many cookies had been rejected in all; the first is the latest before the time of the mean.
        self._rejected: collections.deque[tuple[dt.datetime, int]] = collections.deque()
        self._mean_over = max(dt.timedelta(seconds=60), dt.timedelta(seconds=store.sweeper.interval))

    def beat(self) -> Beat:
        """Look now. Raises :exc:`SessionStoreUnavailable`; the next look then tells of the time since the last one."""
        store, last = self._store, self._last
        with store.operation():
            now = store.connection.now()
            before = now if last is None else last.at
            floor, known_floor = before - _BEFORE_ITS_END, self._floor or now - _BEFORE_ITS_END
            total = store.collection.estimated_document_count()
            answer = list(store.collection.aggregate(self._pipeline(now, before, floor, known_floor)))

        names = "over", "old", "new", "expired", "seen", "rejected"
        sums = {name: sum(part.get(name, 0) for part in answer) for name in names}
        live = max(total - sums["over"], 0)
        expired = sums["expired"] if last else 0
        tombstones = sums["new"] if sums["seen"] < _MOST else None
        ended = created = 0
        if last and self._tombstones is not None and tombstones is not None:
            ended = max(sums["old"] - self._tombstones, 0)
            created = max(live - last.live + ended + expired, 0)
        elif last:
            ended = max(last.live - live - expired, 0)

        self._floor, self._tombstones = floor, tombstones
        rejected = self._mean_rejected(now, sums["rejected"]) if self._store.sweeper.interval else None
        self._last = Beat(now, live, created, ended, expired, rejected, (now - before).total_seconds())
        return self._last

    def _mean_rejected(self, now: dt.datetime, total: int) -> float:
        known = self._rejected
        known.append((now, total))
        while len(known) > 2 and known[1][0] <= now - self._mean_over:  # noqa: PLR2004 - the first and the last
            known.popleft()

        since, before = known[0]
        return (total - before) / max(now - since, self._mean_over).total_seconds()

    def _pipeline(
        self, now: dt.datetime, before: dt.datetime, floor: dt.datetime, known_floor: dt.datetime
    ) -> list[dict[str, t.Any]]:
        """What is over; of it the tombstones since two floors, and what has just expired."""
        is_tombstone = {"$gt": ["$ended_at", None]}
        late = [
            {"$match": {"expires_at": {"$gt": known_floor, "$lte": now}}},
            {"$limit": _MOST},
            {
                "$group": {
                    "_id": None,
                    "seen": {"$sum": 1},
                    "old": _count(is_tombstone),
                    "new": _count({"$and": [is_tombstone, {"$gt": ["$expires_at", floor]}]}),
                    "expired": _count({"$and": [{"$not": [is_tombstone]}, {"$gt": ["$expires_at", before]}]}),
                }
            },
        ]
        return [
            {"$match": {"expires_at": {"$lte": now}}},
            {"$count": "over"},
            {"$unionWith": {"coll": self._store.collection_name, "pipeline": late}},
            {"$unionWith": {"coll": self._store.lease.name, "pipeline": [{"$project": {"rejected": 1}}]}},
        ]


def _count(condition: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"$sum": {"$cond": [condition, 1, 0]}}
