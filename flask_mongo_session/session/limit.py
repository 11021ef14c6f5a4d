"""How many sessions a user may have at once: ``SESSION_MAX_PER_USER``."""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session.document.record import SessionInfo
from flask_mongo_session.document.standing import GRACE
from flask_mongo_session.exceptions import TooManySessions
from flask_mongo_session.mongo.bson_types import moment
from flask_mongo_session.storage.user_sessions import UserSessions


class SessionLimit:
    """Keeps the number of a user's live sessions within bounds.

    :param allowed: how many there may be.
    :param policy: what gives way: ``"oldest"`` ends the sessions that logged in first, ``"refuse"`` the new log-in.
    """

    def __init__(self, sessions: UserSessions, allowed: int, policy: str) -> None:
        self._sessions = sessions
        self.allowed = allowed
        #: Whether a log-in that is too many is refused.
        self.refuses = policy == "refuse"

    def check_room(self, user_id: str, sid: str) -> None:
        """Raise :exc:`TooManySessions` where a log-in in the session *sid* would be refused."""
        if self.refuses and self._sessions.count(user_id, but=sid, up_to=self.allowed) >= self.allowed:
            raise TooManySessions(self.allowed)

    def enforce(self, user_id: str, sid: str, cookie_sid: str | None, merged: t.Collection[str] = ()) -> bool:
        """After the log-in of *sid*: end what is too many; ``False`` when that is *sid* itself.

        All log-ins of the same moment judge by the same order, and the last of them sees all: the limit holds. The
        session that the browser's cookie named before is the first to give way, since its browser has a better one.
        Those that were *merged* into *sid* do not count: they are about to end.
        """
        now = self._sessions.now()
        listed = (info for info in self._sessions.listed(user_id) if info.sid not in merged)
        live = sorted(listed, key=lambda info: _rank(info, now))
        old = [info.sid for info in live if info.sid == cookie_sid != sid]
        ranked = [*old, *(info.sid for info in live if info.sid not in old)]
        excess = max(len(ranked) - self.allowed, 0)
        doomed = ranked[:excess]
        if self.refuses:
            kept = [one for one in ranked if one not in old[:excess]]
            doomed = [*old[:excess], *kept[self.allowed :]] if sid in kept[: self.allowed] else old[:excess]
            admitted = sid in kept[: self.allowed]
        else:
            admitted = sid not in doomed

        for one in doomed:
            self._sessions.end(one)
        return admitted


def _rank(info: SessionInfo, now: dt.datetime) -> tuple[dt.datetime, str]:
    """By the time of the log-in; a time in the future, as after a clock went back, counts as the oldest."""
    at = info.authenticated_at or info.created_at or moment(0)
    return (moment(0) if at > now + GRACE else at), info.sid
