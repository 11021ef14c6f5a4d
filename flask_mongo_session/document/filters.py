"""Which records are live, expired or ended, as MongoDB filters: said here and nowhere else."""

from __future__ import annotations

import datetime as dt
import typing as t

Filter = dict[str, t.Any]

#: How long an ended session leaves a tombstone: longer than any request takes.
TOMBSTONE_LIFE = dt.timedelta(minutes=15)


def live(now: dt.datetime) -> Filter:
    """Sessions that have not expired; a tombstone's expiry lies in the past, so it is never among them."""
    return {"expires_at": {"$gt": now}}


def expired(now: dt.datetime) -> Filter:
    """Sessions that have expired and were not swept yet, without tombstones."""
    return {"expires_at": {"$lte": now}, "ended_at": None}


def removable(now: dt.datetime) -> Filter:
    """What a sweep removes: expired sessions, and tombstones that are old enough."""
    return {"expires_at": {"$lte": now}, "ended_at": {"$not": {"$gt": now - TOMBSTONE_LIFE}}}


def not_ended() -> Filter:
    """Everything but tombstones, expired sessions included."""
    return {"ended_at": None}


def one_live(sid: str, token: bytes, now: dt.datetime) -> Filter:
    """The session with this id, if *token* (a SHA-256) is its current one and it has not expired."""
    return {"_id": sid, "token": token, "expires_at": {"$gt": now}}
