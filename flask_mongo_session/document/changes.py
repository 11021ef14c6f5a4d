"""What one request does to the keys of a session, as data: recorded key by key, sent as one update.

A key has one pending operation; a later one is folded into it, since one MongoDB update may name a path only once.
"""

from __future__ import annotations

import typing as t

Number = int | float

#: Keys up to which an update names each change by itself. The server's work grows with the square of them, and it
#: does not look at the time limit meanwhile: 30,000 keys take 7 s one by one, 0.05 s as one document.
WIDE = 100


class Assign(t.NamedTuple):
    """Set an encoded value."""

    encoded: t.Any


class Remove(t.NamedTuple):
    """Remove the key."""


class Add(t.NamedTuple):
    """Add to a number."""

    by: Number


class Push(t.NamedTuple):
    """Append encoded items to a list, and keep only so many of its last items (``None``: all)."""

    items: list[t.Any]
    limit: int | None = None

    def onto(self, items: list[t.Any]) -> list[t.Any]:
        """The list as the server will leave it."""
        longer = [*items, *self.items]
        return longer if self.limit is None else longer[-self.limit :]


REMOVE: t.Final = Remove()
Operation = Assign | Remove | Add | Push
#: Where a session key lives in the document.
Path = t.Callable[[str], str]


class Changes(dict[str, Operation]):
    """Pending operations by session key."""

    __slots__ = ()

    @property
    def names(self) -> frozenset[str]:
        """Names of the keys with a pending operation."""
        return frozenset(self)

    def assign(self, key: str, encoded: t.Any) -> None:
        """The last assignment counts, whatever was pending."""
        self[key] = Assign(encoded)

    def remove(self, key: str) -> None:
        """The key goes, whatever was pending."""
        self[key] = REMOVE

    def add(self, key: str, by: Number) -> None:
        """Add to what is there when the update arrives."""
        before = self.get(key)
        self[key] = Add(before.by + by if type(before) is Add else by)

    def append(self, key: str, encoded: t.Any, limit: int | None) -> None:
        """Append to what is there when the update arrives; an earlier limit still holds for what was there by then."""
        before = self.get(key)
        if type(before) is not Push:
            self[key] = Push([encoded], limit)
            return

        bounds = [bound for bound in (limit, before.limit and before.limit + 1) if bound is not None]
        self[key] = Push([*before.items, encoded], min(bounds, default=None))

    def without(self, keys: t.Container[str]) -> Changes:
        """The same changes but those of *keys*."""
        return Changes((key, operation) for key, operation in self.items() if key not in keys)

    def replay(self, encoded: dict[str, t.Any]) -> None:
        """Do to a mapping of encoded values what the update would do to the document.

        Raises :exc:`TypeError` where the server would refuse: adding to no number, appending to no list.
        """
        for key, operation in self.items():
            if operation is REMOVE:
                encoded.pop(key, None)
            else:
                encoded[key] = applied(key, operation, encoded.get(key, ABSENT))


#: Stands for no value.
ABSENT: t.Final[t.Any] = object()


def applied(key: str, operation: Operation, encoded: t.Any) -> t.Any:
    """The encoded value after an operation, or :data:`ABSENT`; :exc:`TypeError` where the server would refuse."""
    match operation:
        case Assign(new):
            return new
        case Add(by):
            return added(key, 0 if encoded is ABSENT else encoded, by)
        case Push():
            return operation.onto([] if encoded is ABSENT else listed(key, encoded))

    return ABSENT


def update_of(changes: Changes, path: Path, fields: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """An update with one operation for each change; *fields* are set too, or removed where they are ``None``."""
    update: dict[str, dict[str, t.Any]] = {"$set": {}, "$unset": {}, "$inc": {}, "$push": {}}
    for key, operation in changes.items():
        if isinstance(operation, Assign):
            update["$set"][path(key)] = operation.encoded
        elif isinstance(operation, Remove):
            update["$unset"][path(key)] = ""
        elif isinstance(operation, Add):
            update["$inc"][path(key)] = operation.by
        else:
            update["$push"][path(key)] = _push(operation)

    for name, value in fields.items():
        if value is None:
            update["$unset"][name] = ""
        else:
            update["$set"][name] = value
    for operator in ("$set", "$unset", "$inc", "$push"):
        if not update[operator]:
            del update[operator]
    return update


def pipeline_of(changes: Changes, path: Path, fields: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """The same as a pipeline: its cost does not grow with the square of the changes, and new keys keep their order."""
    stage: dict[str, t.Any] = {name: {"$literal": value} for name, value in fields.items() if value is not None}
    free: dict[str, Assign | Add | Push] = {}
    removed = [name for name, value in fields.items() if value is None]
    for key, operation in changes.items():
        place = path(key)
        if isinstance(operation, Remove):
            removed.append(place)
        elif place.startswith(_DATA):
            free[place[len(_DATA) :]] = operation
        else:
            stage[place] = _expression(operation, f"${place}")

    if free:
        stage["data"] = _merged(free)
    stages: list[tuple[str, t.Any]] = [("$set", stage), ("$unset", removed)]
    return [{operator: operand} for operator, operand in stages if operand]


def keeps_order(changes: Changes, path: Path, stored: t.Container[str]) -> bool:
    """Whether :func:`update_of` leaves free-form keys that are not yet *stored* in the order in which they came.

    The server adds the new fields of one update by name, those made of digits by number.
    """
    new = [path(key) for key, operation in changes.items() if operation is not REMOVE and key not in stored]
    free = [place for place in new if place.startswith(_DATA)]
    return free == sorted(free) and not any(place[len(_DATA) :].isdigit() for place in free)


_DATA = "data."


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


def _merged(free: dict[str, Assign | Add | Push]) -> dict[str, t.Any]:
    """The document of free-form keys after these operations, by field name."""
    assigned = {name: operation.encoded for name, operation in free.items() if isinstance(operation, Assign)}
    if len(assigned) == len(free):
        return {"$mergeObjects": ["$data", {"$literal": assigned}]}

    # The server finds fields of a copy by a hash map; in what is stored, it walks through all of them for each one
    # that is not there.
    new = {name: _expression(operation, f"$$data.{name}") for name, operation in free.items()}
    copied = {"data": {"$mergeObjects": ["$data"]}}
    return {"$let": {"vars": copied, "in": {"$mergeObjects": ["$$data", new]}}}


def _expression(operation: Assign | Add | Push, value: str) -> dict[str, t.Any]:
    """The new value, computed from the one that the expression *value* finds."""
    if isinstance(operation, Assign):
        return {"$literal": operation.encoded}
    if isinstance(operation, Push):
        return _concatenation(value, operation)

    return _sum(value, operation.by)


def _sum(value: str, by: Number) -> dict[str, t.Any]:
    """The sum; where whole numbers outgrow 64 bits the server makes a double of them, which is refused instead.

    So is what ``$inc`` refuses and ``$add`` takes: nothing at all for a number, and a date.
    """
    kind, total = {"$type": value}, {"$add": [value, {"$literal": by}]}
    if isinstance(by, int):
        outgrown = {"$and": [{"$eq": [{"$type": total}, "double"]}, {"$ne": [kind, "double"]}]}
        total = {"$cond": [outgrown, _refusal(kind), total]}
    first = {"$cond": [{"$eq": [kind, "missing"]}, {"$literal": by}, _refusal(kind)]}

    return {"$cond": [{"$isNumber": value}, total, first]}


def _concatenation(value: str, push: Push) -> dict[str, t.Any]:
    kind = {"$type": value}
    longer = {"$concatArrays": [{"$ifNull": [value, []]}, {"$literal": push.items}]}
    kept = longer if push.limit is None else {"$slice": [longer, -push.limit]}

    return {"$cond": [{"$eq": [kind, "null"]}, _refusal(kind), kept]}


def _refusal(kind: dict[str, t.Any]) -> dict[str, t.Any]:
    """An error: converting the name of a type to a number is none that works."""
    return {"$toLong": kind}
