"""Which sessions a page of the list shows: by index, page by page, within bounded time however many there are."""

from __future__ import annotations

import datetime as dt
import itertools
import typing as t
from dataclasses import dataclass, field

from bson import DatetimeMS
from bson.errors import BSONError
from pymongo.errors import OperationFailure

from flask_mongo_session import MongoSessionStore, SessionInfo
from flask_mongo_session.document.record import METADATA, Document

from .query import Filter, Key, Query, state_filter
from .search import Search

#: Sessions on a page, and how many are looked at for it where the order's index alone helps.
PAGE = 50
SCAN = 20_000
#: A condition that fewer records meet is looked up by its own index, and the result sorted.
NARROW = 10_000

#: What the server says of a hint that names no index, or one that is not ready.
_BAD_HINT = 2
_FIELDS = dict.fromkeys(METADATA, True)
#: Records that come at once in an export, and the seconds that all of it and one batch may take.
_BATCH, _EXPORT_SECONDS, _BATCH_SECONDS = 500, 600.0, 30.0


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
    """How the records of a query are found: *along* an index, all that match *chosen*."""

    along: str
    chosen: list[Filter]
    sort: list[tuple[str, int]]
    #: Whether few records are looked at, however many match.
    narrow: bool


def fetch(store: MongoSessionStore, query: Query, search: Search) -> Page:
    """The page; bounded commands along an index."""
    with store.operation():
        try:
            return _fetch(store, query, search, indexed_fields(store))
        except OperationFailure as error:
            if error.code != _BAD_HINT:
                raise
            return _fetch(store, query, search, set())  # an index is listed while it is being built
        except BSONError:
            return Page(unreadable=True)


def _fetch(store: MongoSessionStore, query: Query, search: Search, indexed: set[str]) -> Page:
    plan = _plan(store, query, search, indexed)
    end = None if plan.narrow else _window_end(store, plan, query)
    skip = query.after.passed if query.after else 0
    documents = list(_find(store, plan, _until(query, end), limit=PAGE + 1, skip=skip))

    page = Page(_rows(documents[:PAGE], search), slow=bool(_wanted(query, search) - indexed))
    if query.state != "damaged":
        page.gave_up = len(documents) <= PAGE and end is not None
        page.next = _key_behind(query, end) if page.gave_up else _key_after(documents, query)
    return page


def export(store: MongoSessionStore, query: Query, search: Search) -> t.Iterator[list[Row]]:
    """All sessions of a query in batches, in constant memory."""
    seconds = _EXPORT_SECONDS  # the server counts the first command's limit over all that follow
    with store.operation():
        cursor = _find(store, _plan(store, query, search, indexed_fields(store)), {})

    while True:
        with store.connection.background_operation(seconds):
            documents = list(itertools.islice(cursor, _BATCH))
        if not documents:
            return
        yield _rows(documents, search)
        seconds = _BATCH_SECONDS


def _plan(store: MongoSessionStore, query: Query, search: Search, indexed: set[str]) -> _Plan:
    """Along the index of a condition that few records meet, else along that of the order."""
    order, damaged = query.by, query.state == "damaged"
    conditions = [(search.field, dict(search.filter))] if search.field else []
    conditions += [("touched_at", query.times())] if query.times() else []
    chosen = [state_filter(query.state, store.now()), *(condition for _, condition in conditions)]
    chosen += [] if damaged else [order.typed(), _onwards(query)]

    for name, condition in conditions:
        if name in indexed and _is_narrow(store, name, condition):
            return _Plan(name, chosen, [(order.field, order.direction), ("_id", 1)], narrow=True)
    if damaged:
        return _Plan("", chosen, [], narrow=True)

    if order.field not in indexed:
        return _Plan("", chosen, [(order.field, order.direction), ("_id", 1)], narrow=False)

    return _Plan(order.field, chosen, [(order.field, order.direction)], narrow=False)


def _is_narrow(store: MongoSessionStore, name: str, condition: Filter) -> bool:
    return store.collection.count_documents(condition, limit=NARROW, hint=[(name, 1)]) < NARROW


def _find(store: MongoSessionStore, plan: _Plan, bound: Filter, **options: t.Any) -> t.Any:
    hint = [(plan.along, 1)] if plan.along else None
    chosen = {"$and": [*plan.chosen, bound]}
    return store.collection.find(chosen, _FIELDS, sort=plan.sort or None, hint=hint, batch_size=_BATCH, **options)


def _wanted(query: Query, search: Search) -> set[str]:
    """The fields without whose index the page is slow."""
    return {query.by.field, *([search.field] if search.field else [])}


def indexed_fields(store: MongoSessionStore) -> set[str]:
    """The fields that have an index of their own."""
    keys = [list(index["key"]) for index in store.collection.list_indexes()]
    return {"_id", *(key[0] for key in keys if len(key) == 1)}


def _window_end(store: MongoSessionStore, plan: _Plan, query: Query) -> int | None:
    """The date up to which the next :data:`SCAN` records lie; ``None`` where there are fewer. From the index alone."""
    name = query.by.field
    bounds = {"$and": [{}, *({name: condition[name]} for condition in plan.chosen if name in condition)]}
    hint = [(plan.along, 1)] if plan.along else None
    found = store.collection.find(bounds, {name: True, "_id": False}, sort=plan.sort, hint=hint, skip=SCAN - 1, limit=1)
    return next((_milliseconds(document.get(name)) for document in found), None)


def _onwards(query: Query) -> Filter:
    """Where the page begins."""
    if query.after is None:
        return {}

    return {query.by.field: {"$gte" if query.by.direction > 0 else "$lte": DatetimeMS(query.after.at)}}


def _until(query: Query, end: int | None) -> Filter:
    """Where looking ends, that date included: said without equality, which would let the server turn the order round.

    Sessions of the same date have to come in the same order on each page.
    """
    if end is None:
        return {}

    beside = DatetimeMS(_beside(end, query.by.direction))
    return {query.by.field: {"$lt" if query.by.direction > 0 else "$gt": beside}}


def _rows(documents: list[Document], search: Search) -> list[Row]:
    rows = [Row(SessionInfo.of(document), document["_id"]) for document in documents]
    return [row for row in rows if search.accepts(row.info)]


def _key_after(documents: list[Document], query: Query) -> Key | None:
    """Behind the last session shown: its date, and how many sessions of that very date were shown."""
    if len(documents) <= PAGE:
        return None

    dates = [_milliseconds(document.get(query.by.field)) for document in documents[:PAGE]]
    at = dates[-1] or 0
    before = query.after.passed if query.after and query.after.at == at else 0
    return Key(at, dates.count(at) + before)


def _key_behind(query: Query, end: int | None) -> Key:
    """Behind all records up to *end*."""
    return Key(_beside(end or 0, query.by.direction), 0)


def _beside(milliseconds: int, direction: int) -> int:
    """The next date, as far as MongoDB has one."""
    return max(-(2**63), min(2**63 - 1, milliseconds + direction))


def _milliseconds(value: t.Any) -> int | None:
    """A date as the driver reads it, also one that Python has no date for."""
    if isinstance(value, dt.datetime):
        return int(DatetimeMS(value))

    return int(value) if isinstance(value, DatetimeMS) else None
