"""The sessions of a list as CSV or JSON, streamed: however many there are, a few hundred are in memory."""

from __future__ import annotations

import csv
import io
import itertools
import json
import typing as t

from flask import Flask, Response

from flask_mongo_session.management.privacy import plain

from .listing import Row
from .naming import device_name

Record = dict[str, t.Any]
Labels = t.Callable[[t.Iterable[str | None]], t.Mapping[str, str]]

#: What makes a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
FORMATS = tuple(_TYPES)


def download(app: Flask, batches: t.Iterator[list[Row]], labels: Labels, kind: str) -> Response:
    """The answer with all rows. The first batch is fetched before it begins, so that an outage is a 503.

    *labels* is called while the answer is sent, when the request is over: with the context of *app* alone.
    """
    first = next(batches, [])
    records = _records(app, itertools.chain([first], batches), labels)
    lines = _csv(records) if kind == "csv" else _json(records)
    headers = {
        "Content-Type": _TYPES[kind],
        "Content-Disposition": f'attachment; filename="sessions.{kind}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(lines, headers=headers)


def _records(app: Flask, batches: t.Iterable[list[Row]], labels: Labels) -> t.Iterator[list[Record]]:
    for rows in batches:
        with app.app_context():
            names = labels(row.info.user_id for row in rows)
        yield [_record(row, names) for row in rows]


def _record(row: Row, names: t.Mapping[str, str]) -> Record:
    info = row.info
    found = {name: plain(value) for name, value in info._asdict().items()}
    return {
        **found,
        "user_label": names.get(info.user_id or ""),
        "device": device_name(info.user_agent) if info.user_agent else "",
    }


_COLUMNS = (
    *("sid", "user_id", "user_label", "device", "ip", "created_at", "touched_at", "authenticated_at", "expires_at"),
    *("deadline", "permanent", "user_agent"),
)


def _csv(batches: t.Iterable[list[Record]]) -> t.Iterator[str]:
    """A text that a spreadsheet would take for a formula gets an apostrophe, as spreadsheets themselves write it."""
    yield ",".join(_COLUMNS) + "\r\n"
    for records in batches:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([_cell(record[name]) for name in _COLUMNS] for record in records)
        yield text.getvalue()


def _cell(value: t.Any) -> t.Any:
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value


def _json(batches: t.Iterable[list[Record]]) -> t.Iterator[str]:
    separator = "["
    for records in batches:
        for record in records:
            yield f"{separator}\n{json.dumps({name: record[name] for name in _COLUMNS}, ensure_ascii=False)}"
            separator = ","
    yield "[]\n" if separator == "[" else "\n]\n"
