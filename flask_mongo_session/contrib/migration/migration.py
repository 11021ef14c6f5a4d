"""Moves a visitor's session of another library when it is first used, and lets the old cookie lead to it for a while.

The order is what makes it safe. The old session is read; a record with an id and a token computed from the old cookie
is inserted, which only one request can do; it ends again if its user was revoked meanwhile; the old session is retired;
then the record is found as any other. Whoever dies in between leaves either the old session, or a record that the old
cookie leads to and an old session that the next request retires. Nobody gets our cookie, and so nobody can log out,
before the old session is retired.

The old cookie leads to the record until the browser has shown ours. From then on, but for requests under way, it is
worthless, as it is after a log-in or a log-out.
"""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session import SessionTooLarge
from flask_mongo_session.document import filters
from flask_mongo_session.document.standing import GRACE, Missing, Standing
from flask_mongo_session.web.old_cookie import Secret

from .bulk import BulkMigration
from .mover import UNTIL, Mover
from .old_session import Recognised, Source, Unreadable, secret_keys
from .revoked import RevocationCheck
from .stored import COUNT_SECONDS, StoredSource

if t.TYPE_CHECKING:
    from flask import Flask

    from flask_mongo_session.storage.repository import Found, SessionRepository
    from flask_mongo_session.web.old_cookie import OldCookie


class SessionMigration:
    """Takes over one session after the other as their visitors come, or all that a collection holds."""

    def __init__(
        self, repository: SessionRepository, sources: t.Sequence[Source], mover: Mover, revocations: RevocationCheck
    ) -> None:
        self._repository = repository
        self._revocations = revocations
        self.sources = sources
        self.mover = mover

    def recognise(self, app: Flask, value: Secret) -> Recognised | None:
        """The old cookie, by the first source that knows its form and all others that read it alike."""
        found = [(source, claim) for source in self.sources if (claim := source.recognise(app, value)) is not None]
        if not found:
            return None

        same = [(source, claim) for source, claim in found if claim.identity == found[0][1].identity]
        return Recognised(same, secret_keys(app), self.mover.lifetimes(app.permanent_session_lifetime))

    def find(self, old: OldCookie | None, sid: str, token: bytes, reading: float) -> Found:
        """See :class:`Migration`."""
        if not isinstance(old, Recognised) or sid != old.cookie.sid:
            found = self._repository.find(sid, token, reading)
            self._arrived(found, token)
            return found

        self._move(old)
        found = self._repository.find(sid, old.hashed, reading)
        stored = (found.record or {}).get("token")
        if stored in old.hashes[1:]:
            found = self._repository.find(sid, stored, reading)  # it was moved under an older secret key
        if found.standing is Standing.LIVE and self._is_spent(found, reading):
            return found._replace(standing=Standing.GONE, record=None, reason=Missing.UNKNOWN)
        if found.record is not None:
            old.settle(found.record)
        return found

    # -- all at once --------------------------------------------------------------------------------------------------

    def in_bulk(self) -> list[str]:
        """The sources whose sessions can be moved all at once."""
        return [source.name for source in self.sources if isinstance(source, StoredSource)]

    def bulk(self, app: Flask, name: str) -> BulkMigration | None:
        """A walk through all sessions of the source called *name*; ``None`` where there is no such source."""
        for source in self.sources:
            if isinstance(source, StoredSource) and source.name == name:
                return BulkMigration(app, self._repository, source, self.mover, self._revocations)

        return None

    # -- what is left -------------------------------------------------------------------------------------------------

    def unmoved(self) -> int:
        """How many old sessions that are alive lie in their collections."""
        stored = [source for source in self.sources if isinstance(source, StoredSource)]
        return sum(source.count_live(self._repository) for source in stored)

    def awaited(self) -> int:
        """How many moved sessions nothing but the old cookie leads to: their browsers have not shown ours."""
        now = self._repository.now()
        chosen = {**filters.live(now), UNTIL: {"$gt": now + GRACE}}
        with self._repository.connection.background_operation(COUNT_SECONDS):
            return self._repository.collection.count_documents(chosen)

    # -- moving -------------------------------------------------------------------------------------------------------

    def _move(self, old: Recognised) -> None:
        """Move the old session, if it is still there."""
        sid = old.cookie.sid
        for source, claim in old.claims:
            try:
                session = source.read(self._repository, claim, sid)
                if session is None or not session.content:
                    continue
                now = self._repository.now()
                document = self.mover.document(sid, old.hashed, session, old.lifetimes, now)
                if self._repository.insert(document):
                    self.mover.counts["moved"] += 1
                self._revocations.end_revoked([document])
            except (Unreadable, SessionTooLarge) as error:
                self.mover.refused(error)
                continue
            source.retire(self._repository, claim, sid)

    # -- the end of the old cookie ------------------------------------------------------------------------------------

    def _is_spent(self, found: Found, reading: float) -> bool:
        """Whether the old cookie came too late: the browser has ours."""
        until = (found.record or {}).get(UNTIL)
        began = self._repository.connection.clock.at(reading) or found.now
        return not isinstance(until, dt.datetime) or until < began

    def _arrived(self, found: Found, token: bytes) -> None:
        """The browser has shown our cookie: the old one is good for requests under way, no longer."""
        record = found.record
        until = record.get(UNTIL) if record else None
        if record is None or found.standing is not Standing.LIVE or not isinstance(until, dt.datetime):
            return

        ends = found.now + GRACE
        if until > ends:
            self._repository.touch({"_id": record["_id"], "token": token}, {UNTIL: ends}, confirmed=False)
