"""Sends one update of a session, and knows afterwards what is stored without reading it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import typing as t

from flask_mongo_session.document import codec, filters
from flask_mongo_session.document.changes import Assign, Changes
from flask_mongo_session.document.mapper import Fields, Update
from flask_mongo_session.document.record import Document
from flask_mongo_session.exceptions import DamagedDocument
from flask_mongo_session.storage.repository import SessionRepository

from .draft import SessionDraft
from .state import CookieContent, Phase, SessionState, extras_of


def live(draft: SessionDraft, now: dt.datetime) -> filters.Filter:
    """The filter for the session of a request, while its token is the current one."""
    cookie = t.cast("CookieContent", draft.state.cookie)
    return filters.one_live(cookie.sid, cookie.hashed, now)


def send(
    draft: SessionDraft, repository: SessionRepository, chosen: filters.Filter, update: Update, *, weighed: bool
) -> bool:
    """Send the changes, unless the session would outgrow its limit by them; whether it was found with room for them.

    The database, which knows the size of the record, tells whether there is room, unless that was *weighed* before.
    Raises :exc:`SessionTooLarge` where there can be none.
    """
    changes = draft.values.changes
    growth = 0 if weighed else draft.context.mapper.growth(changes, draft.values.stored)
    if growth > repository.max_size:
        weigh(draft, repository, draft.state.loaded or {}, changes)
    if growth:
        chosen["$expr"] = {"$lte": [{"$bsonSize": "$$ROOT"}, repository.max_size - growth]}

    return repository.update(chosen, update)


def send_whole(draft: SessionDraft, repository: SessionRepository, chosen: filters.Filter, fields: Fields) -> bool:
    """For a wide change: all values anew, if those stored are still what was loaded; whether they were.

    One operation for each of many keys to be removed or computed keeps the server busy for seconds.
    """
    loaded, values, mapper = draft.state.loaded, draft.values, draft.context.mapper
    if loaded is None or all(isinstance(operation, Assign) for operation in values.changes.values()):
        return False

    update = mapper.replacement(draft.sid, values.all_encoded(), fields)
    if codec.size(update) > repository.max_size:
        return False
    return repository.update({**chosen, **mapper.same_content(loaded)}, update)


def weigh(draft: SessionDraft, repository: SessionRepository, record: Document, changes: Changes) -> None:
    """Raise :exc:`SessionTooLarge` where *changes* make a live *record* grow beyond the limit.

    Computes the exact size. Only an update that found no record with room for it needs that.
    """
    mapper, before = draft.context.mapper, {}
    for key, stored in mapper.gather(record).items():
        with contextlib.suppress(DamagedDocument):
            before[key] = mapper.open(draft.sid, key, stored)
    after = dict(before)
    changes.replay(after)

    growth = codec.size(mapper.schema.split(after)) - codec.size(mapper.schema.split(before))
    if growth > 0:  # what a rotation adds beside the values is free
        repository.check_fits(codec.size(record) + growth)


def remember(draft: SessionDraft, fields: Fields) -> None:
    """Note what was stored beside the keys."""
    state = draft.state
    if state.record is None and not ("permanent" in fields or "deadline" in fields):
        return

    cookie = t.cast("CookieContent", state.cookie)
    record = {**(state.record or {"permanent": cookie.permanent}), **fields}
    permanent, deadline = extras_of(record)
    if state.record is None and "deadline" not in fields:
        deadline = cookie.deadline

    if (permanent, deadline) != (cookie.permanent, cookie.deadline):
        cookie = dataclasses.replace(cookie, permanent=permanent, deadline=deadline)
    draft.state = state._replace(record=None if state.record is None else record, cookie=cookie)


def renew(draft: SessionDraft, cookie: CookieContent, fields: Fields) -> None:
    """Note that another token, or another session, is stored."""
    state = draft.state
    record = {**(state.loaded or {}), **fields, "_id": cookie.sid}
    cookie.permanent, cookie.deadline = extras_of(record)
    draft.state = SessionState(Phase.LOADED, cookie, state.loaded, record, state.loaded_at, state.read_at)
