"""``current_session`` is ``flask.session`` with its real type."""

import datetime as dt
from typing import Any

from flask import Flask
from typing_extensions import assert_type

from flask_mongo_session import (
    MongoSession,
    ServerSideSession,
    SessionInfo,
    SessionStatus,
    current_session,
    current_user_id,
    fresh_session,
)

app = Flask(__name__)
sessions = MongoSession(app)


@app.get("/account")
@fresh_session(300, endpoint="login")
def account() -> dict[str, Any]:
    """What the session can do is known, with what it takes and answers."""
    assert_type(current_session, ServerSideSession)
    assert_type(current_session.sid, str)
    assert_type(current_session.token, str | None)
    assert_type(current_session.new, bool)
    assert_type(current_session.status, SessionStatus)
    assert_type(current_session.created_at, dt.datetime | None)
    assert_type(current_session.fresh(300), bool)
    assert_type(current_session.copy(), dict[str, Any])
    assert_type(current_session["anything"], Any)

    current_session["anything"] = object()
    current_session.permanent = True
    current_session.deadline = dt.datetime.now(dt.timezone.utc)
    current_session.increment("hits", by=2)
    current_session.append("seen", "page", limit=20)
    current_session.regenerate()
    return {"user": current_user_id(current_session)}


@sessions.needs_refresh_handler
def ask_again() -> str:
    """The decorators keep the types of what they decorate."""
    return "Who are you?"


def mistakes() -> None:
    """Each of these lines is an error; an ignore without one would be an error itself."""
    current_session.incremnt("hits")  # type: ignore[attr-defined]
    current_session.increment("hits", by="2")  # type: ignore[arg-type]
    current_session[1] = "a key is text"  # type: ignore[index]
    current_session.deadline = 60  # type: ignore[assignment]
    current_session.sid = "nobody chooses it"  # type: ignore[misc]
    fresh_session("300")  # type: ignore[arg-type]


assert_type(ask_again(), str)
assert_type(sessions.of_user(7), list[SessionInfo])
assert_type(sessions.revoke_user(7, keep=current_session.sid), int)
