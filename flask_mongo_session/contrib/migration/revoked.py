"""Ends what was revoked before it moved: a revocation finds records, and an old session is none yet."""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session.document.standing import GRACE

if t.TYPE_CHECKING:
    from flask_mongo_session.document.record import Document
    from flask_mongo_session.storage.marks import Marks
    from flask_mongo_session.storage.repository import SessionRepository


class RevocationCheck:
    """Compares records that were just stored with the marks that revocations leave.

    The order is what makes it complete: a revocation sets its mark first and ends records then. So of a record stored
    beside it, either the revocation finds the record, or this check finds the mark.
    """

    def __init__(self, repository: SessionRepository, marks: Marks) -> None:
        self._repository = repository
        self._marks = marks

    def end_revoked(self, records: t.Iterable[Document]) -> int:
        """End those of *records* whose user was revoked, or everybody, after the old session began; how many."""
        stored = list(records)
        marks = self._marks.latest({record["user_id"] for record in stored if "user_id" in record})
        if not marks:
            return 0

        now = self._repository.now()
        return sum(self._end(record, now) for record in stored if _is_revoked(record, marks))

    def _end(self, record: Document, now: dt.datetime) -> bool:
        """As a revocation does: the log-in page that follows may store its form token at once."""
        chosen = {"_id": record["_id"], "token": record["token"], "ended_at": None}
        return self._repository.end(chosen, now - GRACE)


def _is_revoked(record: Document, marks: t.Mapping[str | None, dt.datetime]) -> bool:
    began: dt.datetime = record["created_at"] if "created_at" in record else record["touched_at"]
    return any(began <= marks[who] for who in (None, record.get("user_id")) if who in marks)
