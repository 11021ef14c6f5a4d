"""Hears from Flask-Login, where an application uses it, that a user logs out."""

from __future__ import annotations

import sys
import typing as t

from flask import has_request_context
from flask.globals import request_ctx

from flask_mongo_session.session.session import ServerSideSession, draft_of


def follow_log_outs() -> None:
    """Listen to ``user_logged_out`` if Flask-Login is loaded; calling it again changes nothing.

    ``logout_user()`` removes only what it finds in the session. A request that a rotation overtook finds nothing, and
    yet its log-out has to win.
    """
    signals = sys.modules.get("flask_login.signals")
    if signals is not None:
        signals.user_logged_out.connect(_user_logged_out)


def _user_logged_out(_app: t.Any, **_arguments: t.Any) -> None:
    session = request_ctx._session if has_request_context() else None  # noqa: SLF001 - the property counts as a use
    if isinstance(session, ServerSideSession):
        draft_of(session).dismiss_user()
