"""Dates as people type them."""

from __future__ import annotations

import datetime as dt
import re
import typing as t

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Moment: t.TypeAlias = "dt.datetime | dt.timedelta | None"


def moment(text: str) -> Moment:
    """A date and time in ISO 8601, UTC unless it says otherwise, or how long ago: ``90s``, ``15m``, ``2h``, ``7d``."""
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if ago:
        return dt.timedelta(**{_UNITS[ago[2]]: int(ago[1])})

    try:
        date = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time: give 2026-01-31, 2026-01-31T12:00 (UTC), 90s, 15m, 2h or 7d."
        ) from None
    return date if date.tzinfo else date.replace(tzinfo=dt.timezone.utc)


def before(now: dt.datetime, given: Moment) -> dt.datetime | None:
    """The date itself: a span of time counts back from *now*."""
    return now - given if isinstance(given, dt.timedelta) else given


since_option = click.option("--since", type=moment, metavar="TIME", help="Not before this time, in UTC, or 2h, 7d ago.")
until_option = click.option("--until", type=moment, metavar="TIME", help="Before this time, or so long ago.")
