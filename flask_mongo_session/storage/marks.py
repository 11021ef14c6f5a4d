"""When everybody's sessions, or one user's, were revoked last.

Sessions themselves are ended in their records. The marks are for what no record knows: log-ins that are under way, and
log-ins by cookies that hold no session (Flask-Login's "remember me"). They stay for good, one small document a user,
since such cookies have no end that the server could rely on.
"""

from __future__ import annotations

import datetime as dt
import typing as t

from flask_mongo_session.mongo.bson_types import moment
from flask_mongo_session.mongo.operation import Operation

from .repository import SessionRepository

_EVERYBODY = "everybody"
#: Log-ins that take longer than this look at the mark themselves; all others are awaited by ``revoke_all``.
UNDER_WAY = dt.timedelta(seconds=2)


class Mark(t.NamedTuple):
    """How often somebody's sessions were revoked, and when last (UTC)."""

    generation: int = 0
    not_before: dt.datetime | None = None


class Marks:
    """The marks beside one collection of sessions."""

    def __init__(self, repository: SessionRepository) -> None:
        self._repository = repository

    @property
    def _collection(self) -> t.Any:
        return self._repository.beside("revocations")

    def move(self, user: str | None = None) -> dt.datetime:
        """Set the mark of *user* (everybody's without one) to now, which is returned."""
        with Operation(self._repository.connection) as session:
            now = self._repository.connection.now()
            change = {"$inc": {"generation": 1}, "$max": {"at": now}}
            self._collection.update_one({"_id": _key(user)}, change, upsert=True, session=session)

        return now

    def of(self, user: str | None = None) -> Mark:
        """The mark that counts for *user*: their own and everybody's together; without one everybody's alone."""
        keys = [_key(None)] if user is None else [_key(None), _key(user)]
        with Operation(self._repository.connection) as session:
            found = list(self._collection.find({"_id": {"$in": keys}}, session=session))

        if not found:
            return Mark()
        return Mark(sum(mark["generation"] for mark in found), max(mark.get("at", moment(0)) for mark in found))

    def latest(self, users: t.Iterable[str]) -> dict[str | None, dt.datetime]:
        """When the sessions of each of *users*, and everybody's (``None``), were revoked last, if ever; one query."""
        keys: dict[str, str | None] = {_key(None): None, **{_key(user): user for user in users}}
        with Operation(self._repository.connection) as session:
            found = list(self._collection.find({"_id": {"$in": list(keys)}}, session=session))

        return {keys[mark["_id"]]: mark["at"] for mark in found if "at" in mark}


def _key(user: str | None) -> str:
    return _EVERYBODY if user is None else f"user:{user}"
