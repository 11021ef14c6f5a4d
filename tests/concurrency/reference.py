"""What sessions are to do, once more and as plainly as possible: dictionaries, one thread, whole seconds.

Written from the design, to hold the implementation against it; knows no database, no cookies' signatures, no laziness.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field, replace

IDLE, TOUCH, MARK = 1_000, 60, 10
LIMIT = 3
USER_KEY = "user_id"


@dataclass
class Record:
    """A stored session, or (with ``ended_at``) the mark that a rotation or a log-out left."""

    data: dict
    expires: int
    deadline: int | None = None
    user: str | None = None
    ended_at: int | None = None
    successor: int | None = None


@dataclass(frozen=True)
class CookieContent:
    """What the cookie says."""

    token: int
    touched: int
    deadline: int | None = None


@dataclass
class Reference:
    """All that is stored, and what time it is."""

    now: int = 0
    records: dict = field(default_factory=dict)
    tokens: itertools.count = field(default_factory=itertools.count)

    def look(self, token):
        """The live record, or why there is none."""
        record = self.records.get(token)
        if record is None:
            return "gone"
        if record.ended_at is not None:
            fresh = record.successor is not None and self.now - record.ended_at < MARK
            return "superseded" if fresh else "gone"
        return "gone" if record.expires <= self.now else record

    def live(self):
        return {token: record for token, record in self.records.items() if self.look(token) is record}

    def expiry(self, deadline):
        return min(deadline if deadline is not None else self.now + IDLE, self.now + IDLE)

    def sweep(self):
        for token, record in list(self.records.items()):
            fresh_mark = record.ended_at is not None and self.now - record.ended_at < MARK
            if record.expires <= self.now and not fresh_mark:
                del self.records[token]

    def end(self, token):
        """A log-out: under whatever id a rotation has moved it to. Whether there was anything to end."""
        record = self.records.get(token)
        if record is None:
            return False
        if record.ended_at is None:
            del self.records[token]
            return True

        while record.successor is not None:
            successor = record.successor
            record = self.records.get(successor)
            trail = record.successor if record else None
            self.records[successor] = Record({}, -1, ended_at=self.now, successor=trail)
            if record is None or record.ended_at is None:
                return True
        return False

    def mark(self, token, successor):
        self.records[token] = Record({}, -1, ended_at=self.now, successor=successor)


class Request:
    """One request's view of its session: what it has read, and what it wants done, key by key."""

    def __init__(self, reference, ticket):
        self.reference, self.ticket, self.received = reference, ticket, ticket
        self.state = "none" if ticket is None else "unread"
        self.before = None
        self.wishes = {}
        self.deadline_wish = "unset"
        self.cleared = self.regenerating = self.dismissed = False
        self.to_end = self.to_merge = None
        self.new_token = next(reference.tokens)

    # what a view does

    def read(self):
        if self.state != "unread":
            return
        found = self.reference.look(self.ticket.token)
        if isinstance(found, Record):
            self.state, self.before = "loaded", copy.deepcopy(found)
            for key, (kind, value) in list(self.wishes.items()):
                if kind == "set":
                    self._wish(key, value)
        else:
            self._miss(found)

    def _miss(self, why):
        self.state = why
        self.wishes = {key: ("set", value) for key, value in self._applied({}).items()}

    def values(self):
        self.read()
        return self._applied(self.before.data if self.before else {})

    def _applied(self, data):
        data = copy.deepcopy(data)
        for key, (kind, value) in self.wishes.items():
            if kind == "set":
                data[key] = copy.deepcopy(value)
            elif kind == "delete":
                data.pop(key, None)
            elif kind == "add":
                data[key] = data.get(key, 0) + value
            else:
                data[key] = [*data.get(key, []), *value][-LIMIT:]
        return data

    def _wish(self, key, value):
        if self.before and key in self.before.data and self.before.data[key] == value:
            self.wishes.pop(key, None)
        else:
            self.wishes[key] = ("set", value)

    def set(self, key, value):
        if key == USER_KEY:
            self.read()
        self._wish(key, value)

    def delete(self, key):
        if key not in self.values():
            self.dismissed |= key == USER_KEY
        elif self.before and key in self.before.data:
            self.wishes[key] = ("delete", None)
        else:
            del self.wishes[key]

    def extend(self, key, value):
        """A change in place."""
        kind, known = self.wishes.get(key, (None, None))
        before = known if kind == "set" else self.values().get(key, [])
        self._wish(key, [*before, value])

    def _is_known(self, key):
        return self.state in ("none", "gone", "superseded") or self.wishes.get(key, ("",))[0] in ("set", "delete")

    def add(self, key, by):
        if self._is_known(key):
            self._wish(key, self._applied(self.before.data if self.before else {}).get(key, 0) + by)
        else:
            self.wishes[key] = ("add", self.wishes.get(key, ("", 0))[1] + by)

    def push(self, key, value):
        if self._is_known(key):
            before = self._applied(self.before.data if self.before else {}).get(key, [])
            self._wish(key, [*before, value][-LIMIT:])
        else:
            self.wishes[key] = ("push", [*self.wishes.get(key, ("", []))[1], value])

    def clear(self):
        if self.ticket and self.state != "gone":
            self.to_end = self.ticket.token
        self.state, self.ticket, self.before, self.wishes = "none", None, None, {}
        self.deadline_wish, self.regenerating, self.cleared = "unset", False, True

    def regenerate(self):
        self.read()
        self.regenerating = self.state == "loaded"

    def set_deadline(self, deadline):
        self.read()
        unchanged = self.before is not None and self.before.deadline == deadline
        self.deadline_wish = "unset" if unchanged else deadline

    def merge(self, token):
        self.read()
        if self.ticket and self.state != "gone" and token == self.ticket.token:
            return
        other = self.reference.look(token)
        if isinstance(other, Record):
            for key, value in copy.deepcopy(other.data).items():
                self.set(key, value)
            self.to_merge = token
            mine = self.before.deadline if self.deadline_wish == "unset" and self.before else self.deadline_wish
            if mine not in (None, "unset") and other.deadline is not None and other.deadline > mine:
                self.set_deadline(other.deadline)

    # what becomes of it

    def save(self):
        """The cookie that follows: a ticket, ``"deleted"``, or ``None`` for none."""
        user = self._user()
        if self.to_end is not None:
            record = self.reference.records.get(self.to_end)
            if user is None:
                self.reference.end(self.to_end)
            elif record is not None and record.ended_at is None:
                self.reference.mark(self.to_end, self.new_token)

        cookie, kept = self._save()
        if self.to_merge is not None and kept:
            self.reference.end(self.to_merge)
        return cookie

    def _user(self):
        return self._applied(self.before.data if self.before else {}).get(USER_KEY)

    def _user_changed(self):
        return USER_KEY in self.wishes and self._user() != (self.before.data.get(USER_KEY) if self.before else None)

    def _save(self):
        """The cookie, and whether anything of this request's session lives on or was ended by it."""
        values = self._applied(self.before.data if self.before else {})
        user, changed = self._user(), self._user_changed()

        if self.state == "superseded" and user is None:
            return self._ended(self.dismissed and self.reference.end(self.ticket.token))
        if self.state in ("none", "gone", "superseded"):
            return self._create()
        if self.state == "loaded" and not values and self._end_emptied(changed):
            return "deleted", True
        if self.regenerating or changed:
            return self._rotate(user, changed)
        if self.wishes or self.deadline_wish != "unset":
            return self._change()
        return self._touch()

    def _end_emptied(self, changed):
        """Unless another request has put something in, or this one never took anything out."""
        if not any(kind == "delete" for kind, _ in self.wishes.values()):
            return False
        if changed:
            return self.reference.end(self.ticket.token)

        there = self.reference.records.get(self.ticket.token)
        unchanged = there is not None and there.data == self.before.data
        if unchanged:
            del self.reference.records[self.ticket.token]
        return unchanged

    @staticmethod
    def _ended(truly):
        return ("deleted", True) if truly else (None, False)

    def _create(self):
        data, reference = self._applied({}), self.reference
        if not data:
            return self._ended(self.cleared)
        if self.new_token in reference.records:
            return None, False
        deadline = None if self.deadline_wish == "unset" else self.deadline_wish
        return self._store(data, deadline)

    def _store(self, data, deadline):
        reference = self.reference
        reference.records[self.new_token] = Record(data, reference.expiry(deadline), deadline, data.get(USER_KEY))
        return CookieContent(self.new_token, reference.now, deadline), True

    def _change(self):
        found = self.reference.look(self.ticket.token)
        if not isinstance(found, Record):
            if found == "superseded" or self.state == "loaded":
                return None, False
            self._miss("gone")
            return self._create()

        found.data = self._applied(found.data)
        if self.deadline_wish != "unset":
            found.deadline = self.deadline_wish
        found.expires = self.reference.expiry(found.deadline)
        now, touched = self.reference.now, self.ticket.touched
        ticket = CookieContent(self.ticket.token, now if now - touched >= TOUCH else touched, found.deadline)
        return (None if ticket == self.received else ticket), True

    def _rotate(self, user, changed):
        reference, token = self.reference, self.ticket.token
        found = reference.look(token)
        if not isinstance(found, Record):
            if not changed:
                return None, False
            return self._create() if user is not None else self._ended(reference.end(token))

        data = self._applied(found.data)
        reference.mark(token, self.new_token)
        if not data:
            return "deleted", True
        return self._store(data, found.deadline if self.deadline_wish == "unset" else self.deadline_wish)

    def _touch(self):
        reference, ticket = self.reference, self.ticket
        if self.before and self.before.deadline != ticket.deadline:
            return replace(ticket, deadline=self.before.deadline), True
        if reference.now - ticket.touched < TOUCH:
            return None, self.before is not None

        known = self.before.deadline if self.before else ticket.deadline
        found = reference.look(ticket.token)
        if not isinstance(found, Record) or found.deadline != known:
            return None, self.before is not None
        found.expires = reference.expiry(known)
        return replace(ticket, touched=reference.now), True
