"""Which sessions a page of the list shows: by index, page by page, within bounded time however many there are."""

from __future__ import annotations

import datetime as dt
import itertools
import typing as t
from dataclasses import dataclass, field

from bson import DatetimeMS
from bson.errors import BSONError

from flask_mongo_session import SessionInfo
from flask_mongo_session.document.record import METADATA, Document
from flask_mongo_session.store import MongoSessionStore

from .query import Key, Query, state_filter
from .search import Filter, Pipeline, Search, aggregate

#: Sessions on a page, and how many are looked at for it where the order's index alone helps.
PAGE = 50
SCAN = 20_000
#: A condition that fewer records meet is looked up by its own index, and the result sorted.
NARROW = 10_000

_FIELDS = dict.fromkeys(METADATA, True)
#: Records that come at once in an export, and the seconds that all of it may take.
_BATCH, _EXPORT_SECONDS = 500, 600.0


@dataclass
class Page:
    """Sessions to show, and where the next page begins."""

    rows: list[Row] = field(default_factory=list)
    next: Key | None = None
    #: Whether looking ended before the page was full.
    gave_up: bool = False
    #: Whether a record could not even be read.
    unreadable: bool = False
    #: Whether an index is missing.
    slow: bool = False


class Row(t.NamedTuple):
    """A session, and the ``_id`` of its record, which is no text where something else put it there."""

    info: SessionInfo
    raw_id: t.Any


class _Plan(t.NamedTuple):
    """How the records of a query are found: *along* an index, within *bounds*, those that match *rest*."""

    along: str
    bounds: Filter
    rest: Filter
    sort: dict[str, int]
    #: Whether few records lie within the bounds.
    narrow: bool


def fetch(store: MongoSessionStore, query: Query, search: Search) -> Page:
    """The page; bounded commands along an index."""
    with store.operation():
        now = store.now()
        plan = _plan(store, query, search, now)
        after = query.after or Key()
        window: Pipeline = [] if plan.narrow else [{"$skip": after.skip}, {"$limit": SCAN}]
        pipeline = [*_start(plan), *window, {"$match": plan.rest}, {"$skip": after.passed}, {"$limit": PAGE + 1}]
        try:
            found, indexed = aggregate(store, [*pipeline, {"$project": _FIELDS}], plan.along or None)
            documents = list(found)
        except BSONError:
            return Page(unreadable=True)

        page = Page(_rows(documents[:PAGE], search), slow=not indexed)
        if query.state == "damaged":
            return page
        if len(documents) > PAGE:
            page.next = _key_after(documents[:PAGE], query)
        elif not plan.narrow:
            page.next = _key_behind_window(store, plan, query, indexed=indexed)
            page.gave_up = page.next is not None
        return page


def export(store: MongoSessionStore, query: Query, search: Search) -> t.Iterator[list[Row]]:
    """All sessions of a query in batches, in constant memory."""
    with store.connection.background_operation(_EXPORT_SECONDS):
        plan = _plan(store, query, search, store.now())
        pipeline = [*_start(plan), {"$match": plan.rest}, {"$project": _FIELDS}]
        cursor, _ = aggregate(store, pipeline, plan.along or None, _BATCH)

    while True:
        with store.connection.background_operation():
            documents = list(itertools.islice(cursor, _BATCH))
        if not documents:
            return
        yield _rows(documents, search)


def _plan(store: MongoSessionStore, query: Query, search: Search, now: dt.datetime) -> _Plan:
    """Along the index of a condition that few records meet, else along that of the order."""
    order, state = query.by, state_filter(query.state, now)
    conditions = [(search.field, dict(search.filter))] if search.field else []
    times = query.times()
    if times:
        conditions.append(("touched_at", times))

    damaged = query.state == "damaged"
    typed = {} if damaged else order.typed()
    everything = {"$and": [state, *(condition for _, condition in conditions), typed]}
    for name, condition in conditions:
        if store.collection.count_documents(condition, limit=NARROW) < NARROW:
            bounds = {"$and": [everything, _onwards(query)]}
            return _Plan(name, bounds, {}, {order.field: order.direction, "_id": 1}, narrow=True)
    if damaged:
        return _Plan("", everything, {}, {}, narrow=True)

    on_order = [_onwards(query), typed]
    on_order += [state] if order.field == "expires_at" else [times] if times else []
    return _Plan(order.field, {"$and": on_order}, everything, {order.field: order.direction}, narrow=False)


def _start(plan: _Plan) -> Pipeline:
    return [{"$match": plan.bounds}, *([{"$sort": plan.sort}] if plan.sort else [])]


def _onwards(query: Query) -> Filter:
    """Where the page begins."""
    if query.after is None or query.after.at is None:
        return {}

    return {query.by.field: {"$gte" if query.by.direction > 0 else "$lte": DatetimeMS(query.after.at)}}


def _rows(documents: list[Document], search: Search) -> list[Row]:
    rows = [Row(SessionInfo.of(document), document["_id"]) for document in documents]
    return [row for row in rows if search.accepts(row.info)]


def _key_after(shown: list[Document], query: Query) -> Key:
    """Behind the last session shown: its date, and how many sessions of that very date were shown."""
    name = query.by.field
    at = _milliseconds(shown[-1].get(name))
    same = sum(_milliseconds(document.get(name)) == at for document in shown)
    before = query.after or Key()
    return Key(at, same + before.passed, before.skip) if before.at == at else Key(at, same)


def _key_behind_window(store: MongoSessionStore, plan: _Plan, query: Query, *, indexed: bool) -> Key | None:
    """Behind the last record that was looked at; ``None`` where that was the last one there is."""
    before, name = query.after or Key(), query.by.field
    pipeline = [*_start(plan), {"$skip": before.skip + SCAN - 1}, {"$limit": 1}, {"$project": {name: True}}]
    last = next(iter(aggregate(store, pipeline, name if indexed else None)[0]), None)
    if last is None:
        return None

    at = _milliseconds(last[name]) or 0
    nearer = {name: {"$lt" if query.by.direction > 0 else "$gt": DatetimeMS(at)}}
    passed = store.collection.count_documents({"$and": [plan.bounds, nearer]}, limit=before.skip + SCAN)
    return Key(at, 0, before.skip + SCAN - passed)


def _milliseconds(value: t.Any) -> int | None:
    """A date as the driver reads it, also one that Python has no date for."""
    if isinstance(value, dt.datetime):
        return int(DatetimeMS(value))

    return int(value) if isinstance(value, DatetimeMS) else None
