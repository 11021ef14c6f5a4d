"""What the administration shows of the audit: who ended whose sessions."""

from __future__ import annotations

import typing as t

from flask_mongo_session import MongoSession
from flask_mongo_session.document.record import user_text

from .listing import PAGE

if t.TYPE_CHECKING:
    from flask_mongo_session.storage.audit import AuditRecord

#: What people call the actions.
ACTIONS = {
    "revoke": "ended a session",
    "revoke_user": "ended all of a user",
    "revoke_all": "ended everything",
    "erase_user": "erased a user",
}


def audit_page(sessions: MongoSession, asked: t.Mapping[str, str]) -> list[AuditRecord]:
    """The records that were *asked* for, newest first, and one more where there are more than a page."""
    names = {"actor": "actor", "user": "user_id", "before": "before"}
    chosen = {names[name]: user_text(text) for name, text in asked.items() if text}
    return sessions.audit(PAGE + 1, **chosen)
