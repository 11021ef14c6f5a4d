"""Ends sessions for people and commands: moves the marks, ends the records, keeps a record of who did it."""

from __future__ import annotations

import time
import typing as t

from flask_mongo_session.document.record import user_text
from flask_mongo_session.storage.audit import Actor
from flask_mongo_session.storage.marks import UNDER_WAY, Marks
from flask_mongo_session.storage.user_sessions import ANYBODY, Keep, UserSessions, session_ids

from .privacy import check_user

if t.TYPE_CHECKING:
    from flask_mongo_session.store import MongoSessionStore

#: By how many seconds the workers' readings of the database's clock may differ.
_CLOCKS_DIFFER = 0.1


class Revocations:
    """What *actor* does to the sessions of *store*."""

    def __init__(self, store: MongoSessionStore, actor: Actor) -> None:
        self._sessions = UserSessions(store.repository)
        self._marks = Marks(store.repository)
        self._audit = store.audit
        self._actor = actor

    def revoke(self, sid: str, user_id: t.Any = ANYBODY) -> bool:
        """End one session, of that user only; whether there was such a live one. Nothing is recorded otherwise."""
        owner = self._sessions.owner(sid) if user_id is ANYBODY else user_text(user_id)
        ended = self._sessions.end(sid, user_id, actor=self._actor.name)
        if ended:
            self._audit.write("revoke", self._actor, sid=sid, user_id=owner, ended=1)

        return ended

    def revoke_user(self, user_id: t.Any, keep: Keep = None) -> int:
        """End a user's sessions but *keep*; how many there were."""
        return self._end_user("revoke_user", self._sessions.end_all, user_id, keep)

    def erase_user(self, user_id: t.Any, keep: Keep = None) -> int:
        """The same, and remove what expired sessions still say of the user."""
        return self._end_user("erase_user", self._sessions.forget, user_id, keep)

    def _end_user(self, action: str, end: t.Callable[..., int], user_id: t.Any, keep: Keep) -> int:
        check_user(user_id)
        kept, user = session_ids(keep), user_text(user_id)
        if user is None:
            return 0

        self._marks.move(user)
        record = self._audit.write(action, self._actor, user_id=user, kept=kept)
        count = end(user, kept, actor=self._actor.name)
        self._audit.complete(record, count)
        return count

    def revoke_all(self, keep: Keep = None) -> int:
        """End everybody's sessions but *keep*, in batches; how many there were.

        Log-ins under way are awaited: what a request stores within :data:`UNDER_WAY` of its beginning is found here,
        and who takes longer looks at the mark.
        """
        kept, actor = session_ids(keep), self._actor.name
        record = self._audit.write("revoke_all", self._actor, kept=kept)
        count = self._sessions.end_all(ANYBODY, kept, actor=actor)

        under_way = self._marks.move() + UNDER_WAY
        count += self._sessions.end_created_until(under_way, kept, actor=actor)
        time.sleep(UNDER_WAY.total_seconds() + _CLOCKS_DIFFER)
        count += self._sessions.end_created_until(under_way, kept, actor=actor)

        self._audit.complete(record, count)
        return count
