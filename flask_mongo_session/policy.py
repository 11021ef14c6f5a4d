"""How long sessions live, and when they move."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Policy:
    """How long sessions live, and when they move; durations as timedelta."""

    idle: dt.timedelta
    absolute: dt.timedelta | None = None
    touch_interval: dt.timedelta = dt.timedelta(seconds=60)
    #: Whether use alone moves the expiry (``SESSION_REFRESH_EACH_REQUEST``).
    refresh: bool = True
    rotate_on_login: bool = True
    #: How many live sessions a user may have, and what gives way: ``"oldest"`` or ``"refuse"``; ``None``: any number.
    max_per_user: tuple[int, str] | None = None
    #: Milliseconds after which a touch is due. (No ``cached_property``: before Python 3.12 it takes one lock for all,
    #: which a fork may leave locked for ever.)
    due_after: int = field(init=False)

    def __post_init__(self) -> None:
        interval = min(self.touch_interval, self.idle / 10)
        object.__setattr__(self, "due_after", max(interval // dt.timedelta(milliseconds=1), 1))

    def expiry(self, now: dt.datetime, deadline: dt.datetime | None) -> dt.datetime:
        """The one truth about expiry."""
        idle = now + self.idle
        return idle if deadline is None else min(deadline, idle)

    def is_due(self, touched: int, now: int) -> bool:
        """Whether the last touch is so long ago that the next one is due; a time in the future says nothing."""
        return not 0 <= now - touched < self.due_after
