"""Who users are to people, by the application's hooks, and which session is the visitor's own."""

from __future__ import annotations

import typing as t

from flask import session

from flask_mongo_session.document.record import user_text

#: User ids to labels: ``lambda ids: {user.id: user.name for user in User.objects(id__in=ids)}``.
UserLabel = t.Callable[[list[str]], t.Mapping[t.Any, str]]


def labels(hook: UserLabel | None, users: t.Iterable[str | None]) -> dict[str, str]:
    """What people call *users*, from one call of *hook*; its keys may be the ids as the application has them."""
    wanted = list(dict.fromkeys(user for user in users if user))
    if hook is None or not wanted:
        return {}

    return {str(user_text(user)): str(label) for user, label in hook(wanted).items() if label}


def own_sid() -> str:
    """The id of the session that is looking."""
    return session.sid  # type: ignore[attr-defined,no-any-return]  # ours, behind Flask's proxy
