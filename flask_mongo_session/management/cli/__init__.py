"""The commands of ``flask``: thin, over functions of the extension, which is found through ``app.extensions``."""

from __future__ import annotations

import typing as t

from flask.cli import AppGroup

from .ending import erase_user, revoke, revoke_all, revoke_user
from .figures import stats, watch
from .looking import audit, export_user, list_sessions, show
from .moving import migrate
from .upkeep import doctor, indexes, sessions_cleanup

if t.TYPE_CHECKING:
    from flask import Flask

sessions = AppGroup("sessions", help="Look at sessions and end them.")
for _command in (
    *(list_sessions, show, export_user, audit),
    *(revoke, revoke_user, revoke_all, erase_user),
    *(stats, watch, indexes, doctor, migrate),
):
    sessions.add_command(_command)


def register(app: Flask) -> None:
    """Add the commands to *app*."""
    app.cli.add_command(sessions_cleanup)
    app.cli.add_command(sessions_cleanup, "session_cleanup")
    app.cli.add_command(sessions)
