"""Ends what the administration's forms name: sessions, and records that are damaged or were never sessions."""

from __future__ import annotations

import typing as t

from bson import json_util
from bson.errors import BSONError

from flask_mongo_session import MongoSession, session_destroyed
from flask_mongo_session.document import filters

from .query import state_filter

if t.TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    from flask_mongo_session.store import MongoSessionStore

    from .query import Filter

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
        except (ValueError, TypeError, KeyError, RecursionError, BSONError):
            continue


def end(sessions: MongoSession, raw_id: t.Any) -> bool:
    """End one session, or a record that no request takes for one; whether there was such a one."""
    if isinstance(raw_id, str) and sessions.revoke(raw_id):
        return True

    store = sessions.store
    ended = store.repository.end(_unusable(store, raw_id), store.now())
    if ended:
        store.repository.announce(session_destroyed, sid=str(raw_id), reason="revoked")
    return ended


def _unusable(store: MongoSessionStore, raw_id: t.Any) -> Filter:
    """The record with this id, if its expiry is no date, or its id no text."""
    chosen = {"_id": {"$eq": raw_id}}  # whatever a form says, it is a value, no operator
    return {**chosen, **(state_filter("damaged", store.now()) if isinstance(raw_id, str) else filters.not_ended())}
