"""How numbers and moments read on a page."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from flask import Flask


def init_app(app: Flask) -> None:
    """Give the templates the filters ``money``, ``moment`` and ``until``."""
    app.add_template_filter(money)
    app.add_template_filter(moment)
    app.add_template_filter(until)


def money(cents: int) -> str:
    """``1850`` as ``€ 18.50``."""
    return f"€\N{NO-BREAK SPACE}{cents / 100:,.2f}"


def moment(when: datetime) -> str:
    """A moment in UTC, to the second."""
    return when.astimezone(timezone.utc).strftime("%-d %B %Y, %H:%M:%S UTC")


def until(when: datetime) -> str:
    """How far away a moment is, in its largest unit: ``in 14 days``, ``2 hours ago``, ``now``."""
    distance = when - datetime.now(timezone.utc)
    size = abs(distance)

    for unit in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)):
        if size >= unit:
            break
    else:
        return "now"

    names = {86400: "day", 3600: "hour", 60: "minute", 1: "second"}
    count = round(size / unit)
    words = f"{count} {names[int(unit.total_seconds())]}{'' if count == 1 else 's'}"

    return f"in {words}" if distance > timedelta(0) else f"{words} ago"
