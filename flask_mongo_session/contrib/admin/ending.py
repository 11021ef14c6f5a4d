"""Ends what the administration's forms name: sessions, and records that are damaged or were never sessions."""

from __future__ import annotations

import logging
import typing as t
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning

from bson import json_util
from bson.errors import BSONError
from flask import copy_current_request_context

from flask_mongo_session import MongoSession, session_destroyed
from flask_mongo_session.document import filters
from flask_mongo_session.web.actor import current_actor

from .query import state_filter

if t.TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    from flask_mongo_session import MongoSessionStore

    from .query import Filter

log = logging.getLogger(__name__)

#: Seconds that a page waits for the end of everything.
_WAIT_SECONDS = 15.0
#: Names of form fields: a session id as it is, and any other ``_id`` as extended JSON.
PLAIN, ENCODED = "session_id", "record"


def form_field(raw_id: t.Any) -> tuple[str, str]:
    """Name and value of the form field that names a record; browsers would change line ends in a plain text."""
    is_plain = isinstance(raw_id, str) and raw_id.isprintable()
    return (PLAIN, raw_id) if is_plain else (ENCODED, json_util.dumps(raw_id))


def named_in(form: MultiDict[str, str], most: int) -> list[t.Any]:
    """The ids that a form names, *most* of them; what makes no sense is left out."""
    return [*form.getlist(PLAIN)[:most], *_decoded(form.getlist(ENCODED)[:most])]


def _decoded(texts: list[str]) -> t.Iterator[t.Any]:
    for text in texts:
        try:
            yield json_util.loads(text)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, BSONError):
            continue


def end(sessions: MongoSession, raw_id: t.Any) -> bool:
    """End one session, or a record that no request takes for one; whether there was such a one."""
    if isinstance(raw_id, str) and sessions.revoke(raw_id):
        return True

    store, name = sessions.store, str(raw_id)
    ended = store.repository.end(_unusable(store, raw_id), store.now())
    if ended:
        actor = current_actor(whole_address=sessions.state.config.track_device is True)
        store.audit.write("revoke", actor, sid=name, ended=1)
        store.repository.announce(session_destroyed, sid=name, reason="revoked", actor=actor.name)
    return ended


def end_everything(sessions: MongoSession, keep: str | None) -> int | None:
    """End everybody's sessions but the one to *keep*; how many there were.

    With very many it takes longer than a server waits for a page: after some seconds it goes on in a thread, and this
    returns ``None``. An interpreter that is told to stop waits for it.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix="mongo-session-revoke-all")
    ending = worker.submit(copy_current_request_context(sessions.revoke_all), keep)
    worker.shutdown(wait=False)
    try:
        return ending.result(_WAIT_SECONDS)
    except StillRunning:
        ending.add_done_callback(_report)
        return None


def _report(ending: Future[int]) -> None:
    error = ending.exception()
    if error is not None:
        log.error("Not all sessions could be ended (%s): end everything once more.", type(error).__name__)


def _unusable(store: MongoSessionStore, raw_id: t.Any) -> Filter:
    """The record with this id, if its expiry is no date, or its id no text."""
    chosen = {"_id": {"$eq": raw_id}}  # whatever a form says, it is a value, no operator
    return {**chosen, **(state_filter("damaged", store.now()) if isinstance(raw_id, str) else filters.not_ended())}
