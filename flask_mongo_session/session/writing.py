"""Sends one update of a session, and knows afterwards what is stored without reading it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t

import bson

from flask_mongo_session.document import codec, filters
from flask_mongo_session.document.changes import Assign
from flask_mongo_session.document.mapper import Fields, Update
from flask_mongo_session.exceptions import SessionTooLarge
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS, milliseconds
from flask_mongo_session.storage.repository import SessionRepository

from .draft import SessionDraft
from .state import CookieContent, Phase


def live(draft: SessionDraft, now: dt.datetime) -> filters.Filter:
    """The filter for the session of a request, while its token is the current one."""
    cookie = t.cast("CookieContent", draft.state.cookie)
    return filters.one_live(cookie.sid, cookie.hashed, now)


def send(
    draft: SessionDraft, repository: SessionRepository, chosen: filters.Filter, update: Update, *, whole: bool = False
) -> bool:
    """Send an update, unless the session would outgrow its limit by it; whether it found the session.

    *whole*: it replaces all values. The exact size is computed only near the limit: of a session that was not read the
    database knows it, else what was loaded and what is added bound it. Raises :exc:`SessionTooLarge`.
    """
    loaded = draft.state.loaded
    growth = update
    if isinstance(update, list):
        growth = draft.context.mapper.growth(draft.sid, draft.values.changes, update)
    size = len(bson.encode({"": growth, " ": None if whole else loaded}, codec_options=CODEC_OPTIONS))
    if whole or loaded is None:
        repository.check_fits(size)
    elif size > repository.max_size:
        _check_exactly(draft, repository, loaded)
    if loaded is None and not whole:
        chosen = {**chosen, "$expr": {"$lte": [{"$bsonSize": "$$ROOT"}, repository.max_size - size]}}

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


def _check_exactly(draft: SessionDraft, repository: SessionRepository, loaded: t.Mapping[str, t.Any]) -> None:
    """Raise :exc:`SessionTooLarge` where the values grow beyond the limit; what a rotation adds beside them is free."""
    mapper = draft.context.mapper
    names = mapper.content_fields
    before = {name: value for name, value in loaded.items() if name in names}
    after = mapper.schema.split(draft.values.all_encoded())
    growth = codec.size(after) - codec.size(before)
    if growth > 0:
        repository.check_fits(codec.size({**loaded}) + growth)


def check_room(draft: SessionDraft, repository: SessionRepository, record: t.Mapping[str, t.Any]) -> None:
    """Raise :exc:`SessionTooLarge` where a write that did not read found a live *record* without room for it."""
    mapper, changes = draft.context.mapper, draft.values.changes
    size = codec.size({"": mapper.growth(draft.sid, changes, mapper.update(draft.sid, changes, {})), " ": record})
    if size > repository.max_size:
        raise SessionTooLarge(size, repository.max_size)


def remember(draft: SessionDraft, fields: Fields) -> None:
    """Note what was stored beside the keys."""
    state = draft.state
    cookie = t.cast("CookieContent", state.cookie)
    known = {"permanent": cookie.permanent} if state.record is None else state.record
    record = {**known, **fields}
    permanent, deadline = record.get("permanent") is True, cookie.deadline
    if state.record is not None or "deadline" in fields:
        deadline = record["deadline"] and milliseconds(record["deadline"]) if record.get("deadline") else None

    if (permanent, deadline) != (cookie.permanent, cookie.deadline):
        cookie = dataclasses.replace(cookie, permanent=permanent, deadline=deadline)
    draft.state = state._replace(record=None if state.record is None else record, cookie=cookie)


def renew(draft: SessionDraft, cookie: CookieContent, fields: Fields) -> None:
    """Note that another token, or another session, is stored."""
    record = {**(draft.state.loaded or {}), **fields, "_id": cookie.sid}
    deadline = record.get("deadline")
    cookie.permanent, cookie.deadline = record.get("permanent") is True, deadline and milliseconds(deadline)
    draft.state = draft.state._replace(phase=Phase.LOADED, record=record, cookie=cookie, reason=None)
