"""How many sessions there are, how active, how large: figures within bounded time, however many there are.

Up to :data:`EXACT` sessions they are counted, beyond that they are estimated from a random sample.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import Counter

from flask_mongo_session.document import filters
from flask_mongo_session.document.record import Document
from flask_mongo_session.mongo.bson_types import moment
from flask_mongo_session.store import MongoSessionStore

#: Sessions of which every one is looked at, and how many are drawn from more: at random places, when that is
#: less than a twentieth of them; otherwise the server reads all of them to choose.
EXACT = 5_000
SAMPLE = 1_000
#: Expired records and sessions of sampled users are counted up to here.
_MAX_COUNT = 50_000
_SAMPLED_USERS = 100
#: Live sessions are counted up to here where nothing else is asked for.
_COUNTED = 10_000
#: So many expired records are told from tombstones one by one, which the index does not; more of them by the sample.
_FEW = 2_000
_HOUR = dt.timedelta(hours=1)
_HOURS = 24
#: The spans of "active in the last …".
ACTIVE = {"5 minutes": dt.timedelta(minutes=5), "1 hour": _HOUR, "24 hours": dt.timedelta(hours=24)}
#: Upper bounds of the size classes (bytes) and of the classes of sessions per user; the last one is open.
SIZES = {"< 512 B": 512, "< 1 KiB": 1024, "< 4 KiB": 4096, "< 16 KiB": 16384, "< 64 KiB": 65536}
PER_USER = {"1": 1, "2": 2, "3–5": 5, "6–10": 10}

Series = list[tuple[str, int]]


class Figures(t.NamedTuple):
    """A picture of all sessions at one moment (UTC, the database's clock). A series is a list of (label, count)."""

    at: dt.datetime
    live: int
    #: Expired and not swept yet; up to 50,000, and beyond 2,000 without the tombstones by estimate.
    expired: int
    #: Whether everything is estimated: ``live`` from counts, or from a sample like the rest where more
    #: than 50,000 records wait for the sweep.
    estimated: bool
    #: Live sessions of somebody who is logged in.
    with_user: int
    active: Series
    #: By hour (UTC), the present one last.
    created: Series
    #: By hour (UTC), the present one first.
    expiring: Series
    sizes: Series
    average_size: int
    #: Users by how many live sessions they have, in percent.
    per_user: Series
    #: ``at``, ``count``, ``seconds``, newest first.
    sweeps: list[dict[str, t.Any]]


def measure(store: MongoSessionStore) -> Figures:
    """The figures of *store*, with seven bounded commands."""
    with store.operation():
        now = store.connection.now()
        total = store.collection.estimated_document_count()
        over = store.collection.count_documents({"expires_at": {"$lte": now}}, limit=_MAX_COUNT)  # tombstones, too

    sample = _rows(store, now, total)
    rows = [row for row in sample if row["live"]]
    live = len(rows) if total <= EXACT else _live(total, over, len(rows))
    scale = live / len(rows) if rows else 0.0
    sizes = [row["size"] for row in rows]

    return Figures(
        at=now,
        live=live,
        expired=_expired(store, now, over, sample),
        estimated=total > EXACT,
        with_user=round(scale * sum(isinstance(row.get("user_id"), str) for row in rows)),
        active=[(name, round(scale * _since(rows, now - span))) for name, span in ACTIVE.items()],
        created=_by_hour(rows, "created_at", _hour(now) - (_HOURS - 1) * _HOUR, scale),
        expiring=_by_hour(rows, "expires_at", _hour(now), scale),
        sizes=_classes(sizes, SIZES, "64 KiB +", scale, inclusive=False),
        average_size=round(sum(sizes) / len(sizes)) if sizes else 0,
        per_user=_per_user(store, rows, estimated=total > EXACT),
        sweeps=store.sweeps(),
    )


def live_count(store: MongoSessionStore) -> int:
    """How many sessions are alive: counted up to 10,000, estimated beyond; with four bounded commands at the most."""
    with store.operation():
        now, collection = store.connection.now(), store.collection
        live, sampled = collection.count_documents(filters.live(now), limit=_COUNTED), 0
        if live < _COUNTED:
            return live

        total = collection.estimated_document_count()
        over = collection.count_documents({"expires_at": {"$lte": now}}, limit=_MAX_COUNT)
        if over >= _MAX_COUNT:
            sample: list[Document] = [{"$sample": {"size": SAMPLE}}, {"$match": filters.live(now)}, {"$count": "live"}]
            sampled = next((found["live"] for found in collection.aggregate(sample)), 0)

    return max(_live(total, over, sampled), live)


def _live(total: int, over: int, sampled: int) -> int:
    """How many of *total* records are live: all but those that are *over*, as long as these were counted."""
    return max(total - over, 0) if over < _MAX_COUNT else round(total * sampled / SAMPLE)


def _expired(store: MongoSessionStore, now: dt.datetime, over: int, sample: list[Document]) -> int:
    """How many of the records that are *over* are no tombstones."""
    if over <= _FEW:
        with store.operation():
            return store.collection.count_documents(filters.expired(now), limit=_MAX_COUNT)

    gone = [row for row in sample if not row["live"]]
    return round(over * sum("ended_at" not in row for row in gone) / max(len(gone), 1))


def _rows(store: MongoSessionStore, now: dt.datetime, total: int) -> list[Document]:
    """What is to be known of each record, or of a random choice of them."""
    names = ("created_at", "touched_at", "expires_at", "user_id", "ended_at")
    pipeline: list[dict[str, t.Any]] = [] if total <= EXACT else [{"$sample": {"size": SAMPLE}}]
    computed = {"live": {"$gt": ["$expires_at", now]}, "size": {"$bsonSize": "$$ROOT"}}
    pipeline += [{"$project": {**dict.fromkeys(names, True), **computed}}]
    with store.operation():
        return list(store.collection.aggregate(pipeline, batchSize=EXACT))


def _since(rows: list[Document], moment: dt.datetime) -> int:
    return sum(_date(row, "touched_at") >= moment for row in rows)


def _date(row: Document, name: str) -> dt.datetime:
    """The date, or one long ago where a damaged record has something else."""
    value = row.get(name)
    return value if isinstance(value, dt.datetime) else moment(0)


def _hour(moment: dt.datetime) -> dt.datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _by_hour(rows: list[Document], name: str, first: dt.datetime, scale: float) -> Series:
    counts = Counter(_hour(_date(row, name)) for row in rows)
    hours = [first + number * _HOUR for number in range(_HOURS)]

    return [(f"{hour:%H}:00", round(scale * counts[hour])) for hour in hours]


def _classes(
    values: t.Iterable[float], bounds: t.Mapping[str, int], rest: str, scale: float, *, inclusive: bool
) -> Series:
    counts: Counter[str] = Counter()
    for value in values:
        below = (name for name, bound in bounds.items() if value < bound or (inclusive and value == bound))
        counts[next(below, rest)] += 1

    return [(name, round(scale * counts[name])) for name in (*bounds, rest)]


def _per_user(store: MongoSessionStore, rows: list[Document], *, estimated: bool) -> Series:
    """From all *rows*, or from a few users that a sample names, whose records the index counts, expired ones too.

    A user with many sessions is named so much more often, which is undone.
    """
    named = [row["user_id"] for row in rows if isinstance(row.get("user_id"), str)]
    if not estimated:
        return _percentages(Counter(Counter(named).values()), undo_bias=False)

    users = list(dict.fromkeys(named))
    pipeline: list[dict[str, t.Any]] = [
        {"$match": {"user_id": {"$in": users[:_SAMPLED_USERS]}}},
        {"$limit": _MAX_COUNT},
        {"$group": {"_id": "$user_id", "count": {"$sum": 1}}},
    ]
    with store.operation():
        counts = [found["count"] for found in store.collection.aggregate(pipeline)] if users else []
    return _percentages(Counter(counts), undo_bias=len(users) > _SAMPLED_USERS)


def _percentages(users_by_count: Counter[int], *, undo_bias: bool) -> Series:
    names: dict[str, float] = dict.fromkeys((*PER_USER, "11 +"), 0.0)
    for count, users in users_by_count.items():
        name = next((name for name, bound in PER_USER.items() if count <= bound), "11 +")
        names[name] += users / count if undo_bias else users

    total = sum(names.values()) or 1.0
    return [(name, round(100 * weight / total)) for name, weight in names.items()]
