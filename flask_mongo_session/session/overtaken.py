"""What a request may still do to a session that went on without it."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t

from flask_mongo_session import signals
from flask_mongo_session.document import filters
from flask_mongo_session.document.changes import Assign, Changes
from flask_mongo_session.document.standing import Standing
from flask_mongo_session.exceptions import MongoSessionError
from flask_mongo_session.storage.marks import UNDER_WAY, Marks
from flask_mongo_session.storage.repository import SessionRepository

from .draft import FRESH, SessionDraft
from .merging import Merge
from .state import CookieContent, Phase
from .writing import live, weigh

log = logging.getLogger(__name__)

_MERGE_ATTEMPTS = 3
#: By how much the workers' readings of the database's clock may differ.
_CLOCKS_DIFFER = dt.timedelta(milliseconds=50)


def merge_writes(draft: SessionDraft, repository: SessionRepository) -> None:
    """Bring values into a session that a rotation gave another token after this request had begun.

    Values alone: not the user's keys, nor those to be forgotten, nor what the rotation wrote itself, nor what this
    request computed from the emptiness that it saw.
    """
    values, context = draft.values, draft.context
    cookie = t.cast("CookieContent", draft.state.cookie)
    previous = (draft.state.record or {}).get("previous")
    if not _keeps(previous, cookie.hashed, draft.source.began) or values.looked_at is None:
        return

    wrote = t.cast("dict[str, t.Any]", previous).get("wrote")
    withheld = {*values.looked_at, *context.user_keys, *context.forget}
    changes = values.changes.without(withheld.union(wrote if isinstance(wrote, list) else ()))
    same = {"previous.token": cookie.hashed, "previous.keeps_writes": True}
    chosen = {"_id": cookie.sid, **same, **filters.live(repository.now())}
    weigh(draft, repository, draft.state.record or {}, changes)
    update = context.mapper.update(cookie.sid, changes, {})
    if update and repository.update(chosen, update):
        repository.announce(signals.session_updated, sid=cookie.sid, keys=changes.names)


def _keeps(previous: t.Any, token: bytes, began: dt.datetime | None) -> bool:
    """Whether a rotation from *token* keeps writes of a request that *began* then."""
    if not isinstance(previous, dict) or previous.get("token") != token or previous.get("keeps_writes") is not True:
        return False

    return began is not None and began <= previous["at"] + _CLOCKS_DIFFER


def end_overtaken(draft: SessionDraft, repository: SessionRepository, now: dt.datetime) -> bool:
    """End, for a log-out, what a rotation made of the session; whether there was something to end.

    Not if a log-in made it and the request began too late to be one that the log-in overtook.
    """
    state = draft.state
    cookie, record = t.cast("CookieContent", state.cookie), state.record
    if record is None or "ended_at" in record:
        return False

    chosen: filters.Filter = {"_id": cookie.sid, **filters.not_ended()}
    if state.phase is Phase.GONE:
        previous = record.get("previous")
        if not isinstance(previous, dict) or previous.get("token") != cookie.hashed or "login" in previous:
            return False
        chosen.update({"previous.token": cookie.hashed, "previous.login": None})

    return repository.end(chosen, now)


def is_revoked(draft: SessionDraft, repository: SessionRepository, sid: str) -> bool:
    """End again a session that a log-in has just stored, if everybody's were revoked since the request began.

    ``revoke_all`` waits for requests that store theirs in time, so that they need not ask.
    """
    began = draft.source.began
    if began is None or repository.now() - began <= UNDER_WAY:
        return False

    mark = Marks(repository).of().not_before
    if mark is None or mark < began - _CLOCKS_DIFFER:
        return False

    repository.end({"_id": sid}, repository.now())
    draft.fail()
    return True


def end_merged(draft: SessionDraft, repository: SessionRepository) -> None:
    """End the sessions that were taken over. Nothing that goes wrong here fails the answer: all data is kept."""
    for merge in draft.merges:
        try:
            _end_one_merged(merge, draft, repository)
        except (MongoSessionError, TypeError) as error:
            sid, reason = merge.record["_id"], type(error).__name__
            log.warning("Session %s was taken over, but goes on: %s", sid, reason)


def _end_one_merged(merge: Merge, draft: SessionDraft, repository: SessionRepository) -> None:
    """End it if it is as it was read; else take what is new there, and try again."""
    context, sid = draft.context, merge.record["_id"]
    for _ in range(_MERGE_ATTEMPTS):
        now = repository.now()
        chosen = {**filters.one_live(sid, merge.token, now), **context.mapper.same_content(merge.record)}
        if repository.end(chosen, now):
            repository.announce(signals.session_destroyed, sid=sid, reason="merged", actor=None)
            return

        found = draft.source.find(sid, merge.token)
        if found.standing is not Standing.LIVE or found.record is None:
            return
        news = merge.news(context.mapper, found.record)
        changes = Changes({key: Assign(value) for key, value in news.items()}).without({*context.user_keys, FRESH})
        update = context.mapper.update(draft.sid, changes, {})
        if update and not repository.update(live(draft, now), update):
            return
