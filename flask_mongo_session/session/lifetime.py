"""How long sessions live, and when they move."""

from __future__ import annotations

import datetime as dt


class Policy:
    """How long sessions live, and when they move; durations as timedelta.

    :param refresh: whether use alone moves the expiry (``SESSION_REFRESH_EACH_REQUEST``).
    :param max_per_user: how many live sessions a user may have, and what gives way: ``"oldest"`` or ``"refuse"``;
        ``None``: any number.
    """

    def __init__(  # noqa: PLR0913 - keywords, each with a default
        self,
        idle: dt.timedelta,
        absolute: dt.timedelta | None = None,
        touch_interval: dt.timedelta = dt.timedelta(seconds=60),
        *,
        refresh: bool = True,
        rotate_on_login: bool = True,
        max_per_user: tuple[int, str] | None = None,
    ) -> None:
        self.idle = idle
        self.absolute = absolute
        self.refresh = refresh
        self.rotate_on_login = rotate_on_login
        self.max_per_user = max_per_user
        self._due_after = max(min(touch_interval, idle / 10) // dt.timedelta(milliseconds=1), 1)

    def expiry(self, now: dt.datetime, deadline: dt.datetime | None) -> dt.datetime:
        """The one truth about expiry."""
        idle = now + self.idle
        return idle if deadline is None else min(deadline, idle)

    def is_due(self, touched: int, now: int) -> bool:
        """Whether the last touch is so long ago that the next one is due; a time in the future says nothing."""
        return not 0 <= now - touched < self._due_after

    def wants_touch(self, touched: int, now: int) -> bool:
        """Whether use alone has to move the expiry by now."""
        return self.refresh and self.is_due(touched, now)
