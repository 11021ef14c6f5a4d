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
        """Append to what is there when the update arrives; the last limit given counts."""
        before = self.get(key)
        self[key] = Push([*before.items, encoded] if type(before) is Push else [encoded], limit)

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
    """The same as a pipeline, whose cost does not grow with the square of the changes."""
    free: dict[str, t.Any] = {}
    stage: dict[str, t.Any] = {name: {"$literal": value} for name, value in fields.items() if value is not None}
    computed: dict[str, t.Any] = {}
    removed = [name for name, value in fields.items() if value is None]
    for key, operation in changes.items():
        place = path(key)
        match operation:
            case Assign(encoded) if place.startswith(_DATA):
                free[place[len(_DATA) :]] = encoded
            case Assign(encoded):
                stage[place] = {"$literal": encoded}
            case Add(by):
                computed[place] = _sum(place, by)
            case Push():
                computed[place] = _concatenation(place, operation)
            case Remove():
                removed.append(place)

    if free:
        stage["data"] = {"$mergeObjects": ["$data", {"$literal": free}]}
    stages: list[tuple[str, t.Any]] = [("$set", stage), ("$set", computed), ("$unset", removed)]
    return [{operator: operand} for operator, operand in stages if operand]


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


def _sum(path: str, by: Number) -> dict[str, t.Any]:
    """The sum; where whole numbers outgrow 64 bits the server makes a double of them, which is refused instead.

    So is what ``$inc`` refuses and ``$add`` takes: nothing at all for a number, and a date.
    """
    kind = {"$type": f"${path}"}
    total = {"$add": [{"$ifNull": [f"${path}", 0]}, {"$literal": by}]}
    refused: list[t.Any] = [{"$in": [kind, ["null", "date"]]}]
    if isinstance(by, int):
        refused.append({"$and": [{"$in": [kind, ["int", "long"]]}, {"$eq": [{"$type": total}, "double"]}]})

    return {"$cond": [{"$or": refused}, _refusal(kind), total]}


def _concatenation(path: str, push: Push) -> dict[str, t.Any]:
    kind = {"$type": f"${path}"}
    longer = {"$concatArrays": [{"$ifNull": [f"${path}", []]}, {"$literal": push.items}]}
    kept = longer if push.limit is None else {"$slice": [longer, -push.limit]}

    return {"$cond": [{"$eq": [kind, "null"]}, _refusal(kind), kept]}


def _refusal(kind: dict[str, t.Any]) -> dict[str, t.Any]:
    """An error: converting the name of a type to a number is none that works."""
    return {"$toLong": kind}
