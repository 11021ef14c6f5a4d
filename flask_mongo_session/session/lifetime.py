"""How long sessions live, and when their expiry moves: pure, durations as timedelta, dates in UTC."""

from __future__ import annotations

import datetime as dt
import typing as t

#: The last moment that Python has a date for.
_LAST = dt.datetime.max.replace(tzinfo=dt.timezone.utc, microsecond=0)


class Policy:
    """How long sessions live, and when their expiry moves.

    :param idle: how long a session lives without being used.
    :param absolute: how long it lives however much it is used; ``None`` for no such limit.
    :param touch_interval: reading a session extends its life at most once in this time, and at most once in a tenth of
        *idle*, or of *anonymous*.
    :param anonymous: how long a session of nobody lives until it is used again; ``None`` for *idle*.
    :param refresh: whether reading extends its life at all (``SESSION_REFRESH_EACH_REQUEST``).
    """

    def __init__(
        self,
        idle: dt.timedelta,
        absolute: dt.timedelta | None = None,
        touch_interval: dt.timedelta = dt.timedelta(seconds=60),
        anonymous: dt.timedelta | None = None,
        *,
        refresh: bool = True,
    ) -> None:
        self.idle = idle
        self.anonymous = idle if anonymous is None else min(anonymous, idle)
        self.absolute = absolute
        self.refresh = refresh
        self._due_after = max(min(touch_interval, self.anonymous / 10), dt.timedelta(milliseconds=1))

    def expiry(self, now: dt.datetime, deadline: dt.datetime | None) -> dt.datetime:
        """When a session that is used *now* expires."""
        try:
            idle = now + self.idle
        except OverflowError:
            idle = _LAST
        return idle if deadline is None else min(deadline, idle)

    def first_expiry(self, now: dt.datetime, deadline: dt.datetime | None, user: str | None) -> dt.datetime:
        """When a session that *user*, or nobody, begins *now* expires unless it is used again."""
        return self.expiry(now, deadline) if user else min(self.expiry(now, deadline), later(now, self.anonymous))

    def new_deadline(self, now: dt.datetime) -> dt.datetime | None:
        """The deadline of a session that begins *now*."""
        return None if self.absolute is None else later(now, self.absolute)

    def is_due(self, touched_at: t.Any, now: dt.datetime) -> bool:
        """Whether the last touch is so long ago that the next one is due; a time in the future says nothing."""
        return not isinstance(touched_at, dt.datetime) or not touched_at <= now < touched_at + self._due_after


def later(now: dt.datetime, duration: dt.timedelta) -> dt.datetime:
    """*now* plus *duration*, at most the end of the year 9999."""
    try:
        return now + duration
    except OverflowError:
        return _LAST
