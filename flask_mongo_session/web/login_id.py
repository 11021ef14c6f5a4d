"""What Flask-Login keeps of a user, so that a revocation ends its remember-me cookies, too.

Such a cookie holds nothing but the text that ``get_id()`` gave. A *login id* is the user's id with the generation of
the user's sessions: how often they were revoked. One of an older generation is worth nothing any more.
"""

from __future__ import annotations

import typing as t

from flask import session

from flask_mongo_session.document.record import login_text, split_login
from flask_mongo_session.session.session import ServerSideSession, draft_of
from flask_mongo_session.storage.marks import Marks

#: The session key that says for which login id a stored session has been looked at.
_CHECKED = "_login_id_checked"


def login_id(marks: Marks, user: str) -> str:
    """The text for ``get_id()``: the *user* and the generation that counts now; one query."""
    return login_text(user, marks.of(user).generation)


def user_behind(marks: Marks, login: str, user_keys: t.Iterable[str]) -> str | None:
    """The user's id in a login id; ``None`` where the user's sessions were revoked after it had been made.

    A session that holds the id and was revoked is gone anyway. So the database is asked only when a cookie without a
    session brings the id, and once more when the session that came of it is read for the first time: from then on a
    revocation finds it.
    """
    user, generation = split_login(login)
    own: t.Any = session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - what is behind the proxy
    if not isinstance(own, ServerSideSession):
        return user if marks.of(user).generation == generation else None

    draft = draft_of(own)
    stored = login in (draft.loaded_value(key) for key in user_keys)
    if stored and draft.loaded_value(_CHECKED) == login:
        return user
    if marks.of(user).generation != generation:
        _forget(own, user_keys)
        return None

    if stored:
        own[_CHECKED] = login
    return user


def _forget(own: ServerSideSession, user_keys: t.Iterable[str]) -> None:
    """Take the user out of the session, and let Flask-Login remove its cookie."""
    for key in (*user_keys, _CHECKED):
        own.pop(key, None)
    own["_remember"] = "clear"
