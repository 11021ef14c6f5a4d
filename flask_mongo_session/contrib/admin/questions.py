"""What is asked before much is ended; the page that asks works without JavaScript."""

from __future__ import annotations

import typing as t

from flask import session

from flask_mongo_session import MongoSession, current_user_id

from .ending import form_field

#: Sessions of a user that are counted for the question.
_MOST_COUNTED = 1_000


class Question(t.NamedTuple):
    """A question, and the form that goes with the answer."""

    #: The endpoint that the answer is sent to.
    action: str
    text: str
    consequence: str
    fields: t.Sequence[tuple[str, str]] = ()
    #: Whether the visitor may spare the session that is asking.
    keep: bool = False


def about_own(chosen: list[t.Any]) -> Question:
    """Among the *chosen* sessions is the visitor's own."""
    others = len(chosen) - 1
    more = f" {others} more will be ended, too." if others else ""
    return Question(
        "revoke",
        "End the session that you are using?",
        f"It is among the chosen ones. You will be logged out.{more}",
        [form_field(raw_id) for raw_id in chosen],
    )


def about_user(sessions: MongoSession, user: str, label: str | None) -> Question | None:
    """All sessions of a user are to be ended; ``None`` where there is none."""
    count = len(sessions.of_user(user, limit=_MOST_COUNTED)) if user else 0
    if not count:
        return None

    many = f"{count:,} or more sessions are" if count == _MOST_COUNTED else f"{count} sessions are"
    return Question(
        "revoke_user",
        f"End all sessions of {label or user}?",
        f"{'1 session is' if count == 1 else many} live. The user is logged out everywhere.",
        [("user", user)],
        keep=user == current_user_id(session),
    )


def about_everybody(sessions: MongoSession) -> Question:
    """Everything is to be ended."""
    with sessions.store.operation():
        count = sessions.store.collection.estimated_document_count()
    return Question(
        "revoke_all",
        "End all sessions of everybody?",
        f"About {count:,} are stored. Everybody is logged out, in the middle of whatever they "
        "do, and visitors who are not logged in lose what their sessions hold.",
        keep=True,
    )
