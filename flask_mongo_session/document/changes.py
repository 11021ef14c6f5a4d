"""What one request does to a session, as data: recorded key by key, sent as one update, or replayed on a copy.

A key has at most one pending operation; a later one is folded into it, since one MongoDB update may name a path only
once.
"""

from __future__ import annotations

import datetime as dt
import typing as t

Number = int | float


class _Unset:
    """The type of :data:`UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


#: Nobody said anything about this; ``None`` would be saying something.
UNSET: t.Final = _Unset()


class Push(t.NamedTuple):
    """Encoded items to append to a list, and how many of its last items to keep (``None``: all)."""

    items: list[t.Any]
    limit: int | None = None

    def onto(self, items: list[t.Any]) -> list[t.Any]:
        """The list as the server will leave it."""
        longer = [*items, *self.items]
        return longer if self.limit is None else longer[-self.limit :]


class Changes:
    """Pending operations by session key (values encoded), and on the session as a whole."""

    permanent: bool | _Unset = UNSET
    deadline: dt.datetime | _Unset | None = UNSET
    #: The new owner (``None``: nobody any more) and when it was authenticated.
    user_id: str | _Unset | None = UNSET
    authenticated_at: dt.datetime | _Unset | None = UNSET

    def __init__(self) -> None:
        self.assigned: dict[str, t.Any] = {}
        self.removed: set[str] = set()
        self.incremented: dict[str, Number] = {}
        self.appended: dict[str, Push] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to store."""
        if self.assigned or self.removed or self.incremented or self.appended:
            return True

        return not (self.permanent is self.deadline is self.user_id is self.authenticated_at is UNSET)

    def __contains__(self, key: str) -> bool:
        """Whether *key* has a pending operation."""
        return key in self.assigned or key in self.removed or key in self.incremented or key in self.appended

    @property
    def keys(self) -> frozenset[str]:
        """Names of the keys with a pending operation."""
        return frozenset({*self.assigned, *self.removed, *self.incremented, *self.appended})

    def discard(self, key: str) -> None:
        """Forget what was pending for *key*."""
        self.assigned.pop(key, None)
        self.removed.discard(key)
        self.incremented.pop(key, None)
        self.appended.pop(key, None)

    def assign(self, key: str, encoded: t.Any) -> None:
        """The last assignment counts, whatever was pending."""
        self.discard(key)
        self.assigned[key] = encoded

    def remove(self, key: str) -> None:
        """The key goes."""
        self.discard(key)
        self.removed.add(key)

    def add(self, key: str, by: Number) -> None:
        """Add to what is there when the update arrives."""
        self.incremented[key] = self.incremented.get(key, 0) + by

    def append(self, key: str, encoded: t.Any, limit: int | None) -> None:
        """Append to what is there when the update arrives; the last limit given counts."""
        before = self.appended.get(key, Push([]))
        self.appended[key] = Push([*before.items, encoded], limit)

    def update_of(self, path: t.Callable[[str], str]) -> dict[str, dict[str, t.Any]]:
        """The keys' part of a MongoDB update; *path* says where a key lives in the document."""
        update: dict[str, dict[str, t.Any]] = {}
        if self.assigned:
            update["$set"] = {path(key): encoded for key, encoded in self.assigned.items()}
        if self.removed:
            update["$unset"] = {path(key): "" for key in self.removed}
        if self.incremented:
            update["$inc"] = {path(key): by for key, by in self.incremented.items()}
        if self.appended:
            update["$push"] = {path(key): _push(push) for key, push in self.appended.items()}

        return update

    def replay(self, encoded: dict[str, t.Any]) -> None:
        """Do to a mapping of encoded values what the update would do to the document.

        Raises :exc:`TypeError` where the server would refuse: adding to no number, appending to no list.
        """
        encoded.update(self.assigned)
        for key in self.removed:
            encoded.pop(key, None)
        for key, by in self.incremented.items():
            encoded[key] = added(key, encoded.get(key, 0), by)
        for key, push in self.appended.items():
            encoded[key] = push.onto(listed(key, encoded.get(key, [])))


def added(key: str, value: t.Any, by: Number) -> Number:
    """``value + by``, or :exc:`TypeError` where the key holds no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Session key {key!r} holds no number that could be incremented, but a {type(value).__name__}.")

    return value + by


def listed(key: str, value: t.Any) -> list[t.Any]:
    """*value*, or :exc:`TypeError` where the key holds no list."""
    if not isinstance(value, list):
        raise TypeError(f"Session key {key!r} holds no list to append to, but a {type(value).__name__}.")

    return value


def _push(push: Push) -> dict[str, t.Any]:
    each: dict[str, t.Any] = {"$each": push.items}
    if push.limit is not None:
        each["$slice"] = -push.limit

    return each
