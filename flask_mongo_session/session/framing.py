"""What a record that is about to be written says beside its keys: when it ends, whose it is; and the cookie likewise.

Pure: what the session and the policy come to at a given time. No I/O.
"""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session.document.changes import UNSET
from flask_mongo_session.document.record import Metadata, StoredSession
from flask_mongo_session.mongo.bson_types import milliseconds, moment

from .lifetime import Policy
from .session import ServerSideSession
from .tokens import CookieContent


def new_frame(session: ServerSideSession, policy: Policy, now: dt.datetime) -> Metadata:
    """For a session that begins *now*."""
    deadline = _chosen_deadline(session, None if policy.absolute is None else now + policy.absolute)
    user_id = session.user_id

    return Metadata(
        now=now,
        expires_at=policy.expiry(now, deadline),
        deadline=deadline,
        permanent=session.permanent,
        user_id=user_id,
        authenticated_at=None if user_id is None else now,
        device=session.context.device,
    )


def changed_frame(
    session: ServerSideSession, policy: Policy, now: dt.datetime, known_deadline: dt.datetime | None
) -> Metadata:
    """For a live session that is written to."""
    deadline, before = _chosen_deadline(session, known_deadline), session.stored

    return Metadata(
        now=now,
        expires_at=policy.expiry(now, deadline),
        deadline=deadline,
        permanent=session.permanent,
        user_id=session.user_id if before else None,
        authenticated_at=before.authenticated_at if before else None,
        device=session.context.device,
    )


def rotated_frame(session: ServerSideSession, policy: Policy, now: dt.datetime, latest: StoredSession) -> Metadata:
    """For a rotation's successor: what the record says at the latest, its lifetime begun anew."""
    moved = session.stored is not None and session.stored.user_id != latest.user_id  # by a log-in without rotation
    user_id = latest.user_id if moved and not session.user_changed else session.user_id
    deadline = _chosen_deadline(session, latest.deadline if policy.absolute is None else now + policy.absolute)
    authenticated = now if session.user_changed or session.confirmed else latest.authenticated_at
    permanent = session.changes.permanent

    return Metadata(
        now=now,
        expires_at=policy.expiry(now, deadline),
        deadline=deadline,
        permanent=permanent if isinstance(permanent, bool) else latest.permanent,
        user_id=user_id,
        authenticated_at=None if user_id is None else authenticated,
        device=session.context.device or _device_of(latest),
    )


def ticket_of(token: str, frame: Metadata) -> CookieContent:
    """What the cookie says of a record that was just stored."""
    return CookieContent(token, milliseconds(frame.now), frame.permanent, optional_milliseconds(frame.deadline))


def renewed_ticket(before: CookieContent, policy: Policy, frame: Metadata) -> CookieContent:
    """The cookie's time moves only when a touch would have been due: its value stays the same in between."""
    now = milliseconds(frame.now)
    touched = now if policy.is_due(before.touched, now) else before.touched

    return CookieContent(before.token, touched, frame.permanent, optional_milliseconds(frame.deadline))


def known_deadline(session: ServerSideSession) -> dt.datetime | None:
    """The deadline as far as this request knows: the record's, where it was read, else the cookie's."""
    if session.stored:
        return session.stored.deadline

    ms = t.cast("CookieContent", session.ticket).deadline
    return None if ms is None else moment(ms)


def optional_milliseconds(value: dt.datetime | None) -> int | None:
    """UTC milliseconds, or ``None`` for none."""
    return None if value is None else milliseconds(value)


def _chosen_deadline(session: ServerSideSession, otherwise: dt.datetime | None) -> dt.datetime | None:
    """What the application set in this request, if it did."""
    chosen = session.changes.deadline
    return otherwise if chosen is UNSET else t.cast("dt.datetime | None", chosen)


def _device_of(stored: StoredSession) -> dict[str, str]:
    return {name: value for name in ("ip", "user_agent") if (value := getattr(stored, name)) is not None}
