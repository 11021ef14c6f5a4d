"""What a stored record says to a cookie: pure, and tested as a table."""

from __future__ import annotations

import datetime as dt
import enum
import typing as t

#: How long after a rotation, or an end, a request may have begun and still be told that something better exists: its
#: cookie was sent before the browser knew.
GRACE = dt.timedelta(seconds=10)


class Standing(enum.Enum):
    """Where a cookie's token stands with the record that it names."""

    #: It is the current token of a live session.
    LIVE = "live"
    #: A rotation or a log-out overtook the request; the browser has, or is about to get, another cookie.
    SUPERSEDED = "superseded"
    #: There is no such session, or this token has nothing to do with it any more.
    GONE = "gone"


class Missing(enum.Enum):
    """Why a cookie names no live session."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    DAMAGED = "damaged"


def damage_of(record: t.Mapping[str, t.Any]) -> str | None:
    """What makes a session's record unusable as a whole, or ``None``."""
    if not isinstance(record.get("expires_at"), dt.datetime):
        return "The expiry is no date."
    if not isinstance(record.get("deadline"), (dt.datetime, type(None))):
        return "The deadline is no date."
    if type(record.get("data", {})) is not dict:
        return "The stored data is no document."

    return None


def standing(
    record: t.Mapping[str, t.Any] | None, token: bytes, began: dt.datetime | None, now: dt.datetime
) -> Standing:
    """Judge the *token* (a SHA-256) of a request that *began* then, by the *record* as found *now*.

    *began* is a reading of the database's clock; ``None``, unknown, counts as *now*.
    """
    if record is None:
        return Standing.GONE

    began = now if began is None else began
    if "ended_at" in record:
        return _overtaken(record["ended_at"], began)
    expires_at, deadline = record.get("expires_at"), record.get("deadline")
    if not isinstance(expires_at, dt.datetime) or expires_at <= now or type(record.get("data", {})) is not dict:
        return Standing.GONE
    if deadline is not None and (not isinstance(deadline, dt.datetime) or deadline <= now):
        return Standing.GONE
    if record.get("token") == token:
        return Standing.LIVE

    previous = record.get("previous")
    return _overtaken(previous.get("at") if isinstance(previous, dict) else None, began)


def why_gone(record: t.Mapping[str, t.Any] | None, now: dt.datetime) -> Missing:
    """The reason, for a record whose standing is GONE."""
    if record is None or "ended_at" in record:
        return Missing.UNKNOWN
    if damage_of(record):
        return Missing.DAMAGED

    over = record["expires_at"] <= now or (record.get("deadline") or now + GRACE) <= now
    return Missing.EXPIRED if over else Missing.UNKNOWN


def _overtaken(at: t.Any, began: dt.datetime) -> Standing:
    return Standing.SUPERSEDED if isinstance(at, dt.datetime) and began - GRACE <= at else Standing.GONE
