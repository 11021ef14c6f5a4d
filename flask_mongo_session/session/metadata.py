"""What a record says beside its keys, for each step that writes it: pure.

Each function makes the fields of an update: a value to set, or ``None`` to remove the field.
"""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session.mongo.bson_types import moment

from .draft import SessionDraft
from .lifetime import Policy
from .plan import UserChange, Wishes

Fields = dict[str, t.Any]

#: Names of keys that a rotation remembers to have written; beyond it keeps no writes that are under way.
MAX_WROTE = 100


def created(draft: SessionDraft, policy: Policy, now: dt.datetime, hashed: bytes, wishes: Wishes) -> Fields:
    """For a session that begins *now*."""
    intents, loaded = draft.intents, draft.state.loaded
    deadline = policy.new_deadline(now) if intents.deadline is None else intents.deadline[0]
    permanent = draft.context.permanent if loaded is None else loaded.get("permanent") is True
    return {
        "token": hashed,
        "created_at": now,
        "touched_at": now,
        "expires_at": policy.first_expiry(now, deadline, wishes.user_after),
        "deadline": deadline,
        "permanent": (permanent if intents.permanent is None else intents.permanent) or None,
        "user_id": wishes.user_after,
        "authenticated_at": authenticated(draft, now, wishes) if wishes.user_after else None,
    }


def changed(draft: SessionDraft) -> Fields:
    """What the application said of the session as a whole."""
    intents = draft.intents
    fields: Fields = {}
    if intents.permanent is not None:
        fields["permanent"] = intents.permanent or None
    if intents.deadline is not None:
        fields["deadline"] = intents.deadline[0]

    return fields


def rotated(  # noqa: PLR0913, PLR0917 - all of it is known one step above
    draft: SessionDraft,
    policy: Policy,
    now: dt.datetime,
    hashed: bytes,
    known: dt.datetime | None,
    wishes: Wishes,
) -> Fields:
    """For a session that goes on under another token, its lifetime begun anew; *known* is its deadline.

    *hashed* is the new token's SHA-256.
    """
    intents = draft.intents
    deadline = known if policy.absolute is None else policy.new_deadline(now)
    if intents.deadline is not None:
        deadline = intents.deadline[0]

    fields: Fields = {
        "token": hashed,
        "previous": _previous(draft, now, wishes),
        "touched_at": now,
        "expires_at": policy.expiry(now, deadline),
        "deadline": deadline,
    }
    if wishes.whole:
        permanent = draft.context.permanent if intents.permanent is None else intents.permanent
        fields.update(created_at=now, permanent=permanent or None)
    elif intents.permanent is not None:
        fields["permanent"] = intents.permanent or None

    if wishes.logs_in:
        fields["previous"]["login"] = True
        proved = authenticated(draft, now, wishes) if draft.merges or wishes.remembered else now
        fields.update(user_id=wishes.user_after, last_user_id=None, authenticated_at=proved)
    elif wishes.user is UserChange.LOGOUT or wishes.cleared:
        left = None if wishes.cleared else wishes.user_before
        fields.update(user_id=None, last_user_id=left, authenticated_at=None)
    elif draft.confirmed and draft.user() is not None:
        fields["authenticated_at"] = now
    return fields


def authenticated(draft: SessionDraft, now: dt.datetime, wishes: Wishes) -> dt.datetime | None:
    """When the user who is being logged in proved who they are; ``None`` where a remember-me cookie did it."""
    for merge in draft.merges:
        if merge.brings_user:
            return merge.info.authenticated_at

    return None if wishes.remembered else now


def known_deadline(draft: SessionDraft) -> dt.datetime | None:
    """The deadline as far as this request knows: the record's where it was read, else the cookie's."""
    state = draft.state
    if state.record is not None:
        return t.cast("dt.datetime | None", state.record.get("deadline"))

    ms = state.cookie.deadline if state.cookie else None
    return None if ms is None else moment(ms)


def _previous(draft: SessionDraft, now: dt.datetime, wishes: Wishes) -> Fields:
    """What the record says of the token that goes: whether writes of requests under way still count, and which."""
    changes = draft.values.changes
    stays = wishes.user is UserChange.NONE and not draft.confirmed
    keeps = (stays or wishes.user is UserChange.LOGIN) and not wishes.whole and len(changes) <= MAX_WROTE
    return {
        "token": draft.state.cookie.hashed if draft.state.cookie else b"",
        "at": now,
        "keeps_writes": keeps,
        "wrote": list(changes) if keeps else [],
    }
