"""Which records are live, expired or ended, as MongoDB filters: said here and nowhere else."""

from __future__ import annotations

import datetime as dt
import typing as t

Filter = dict[str, t.Any]

#: Seconds for which the record that a rotation ended stays, so that requests in flight meet it.
MARK_SECONDS = 10


def expired_filter(now: dt.datetime) -> Filter:
    """Records to remove: expired by *now*, rotation's marks a little later."""
    kept_since = now - dt.timedelta(seconds=MARK_SECONDS)
    return {"expires_at": {"$lte": now}, "ended.at": {"$not": {"$gt": kept_since}}}
