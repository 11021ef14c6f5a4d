"""Tables for people, JSON for programs."""

from __future__ import annotations

import datetime as dt
import importlib
import json
import typing as t

import click

if t.TYPE_CHECKING:
    from flask_mongo_session.document.record import SessionInfo


def count_of(count: int) -> str:
    """So many sessions, in words."""
    return "1 session" if count == 1 else f"{count} sessions"


def time_of(moment: dt.datetime | None) -> str:
    """A date for people (UTC)."""
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "–"


def device_name(user_agent: str | None) -> str:
    """The browser and its system by name, as the device page has it; else the beginning of the header."""
    try:
        names = importlib.import_module("flask_mongo_session.contrib.devices.names")  # with the extra [devices]
        name = str(names.device_name(user_agent))
    except ImportError:
        return (user_agent or "")[:60]

    return (user_agent or "")[:60] if name == names.UNKNOWN else name


def device_of(info: SessionInfo) -> str:
    """A session's device: address and name."""
    return " ".join(part for part in (info.ip, device_name(info.user_agent)) if part) or "–"


def print_json(value: t.Any) -> None:
    """Indented; dates in ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=dt.datetime.isoformat))


def print_table(head: tuple[str, ...], rows: t.Iterable[t.Iterable[t.Any]]) -> None:
    """Columns as wide as what is in them, without control characters; times are UTC."""
    lines = [tuple(printable(str(cell)) for cell in row) for row in rows]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    for line in (head, *lines) if any(head) else lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """*text* without what would steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
