"""What sessions are to do, once more and as plainly as possible: dictionaries, one thread, whole seconds.

Written from the design, to hold the implementation against it; knows no database, no signatures, no laziness.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field
from typing import NamedTuple

IDLE, TOUCH, GRACE, TOMBSTONE, KNOWN = 1_000, 60, 10, 900, 0
LIMIT = 3
USER_KEY, FORGET = "user_id", "csrf_token"
ALL = "all keys"
UNSET = "unset"
DELETED = "deleted"


class CookieContent(NamedTuple):
    """What the cookie says."""

    sid: int
    token: int
    permanent: bool = False
    deadline: int | None = None


@dataclass
class Previous:
    """The token before the last rotation."""

    token: int
    at: int
    keeps_writes: bool
    login: bool
    wrote: set


@dataclass
class Record:
    """A stored session; a tombstone once it has an ``ended_at``."""

    token: int | None
    data: dict
    touched: int
    expires: int
    deadline: int | None = None
    permanent: bool = False
    user: str | None = None
    last_user: str | None = None
    previous: Previous | None = None
    ended_at: int | None = None


@dataclass
class Reference:
    """All that is stored, and what time it is."""

    now: int = 0
    records: dict = field(default_factory=dict)
    numbers: itertools.count = field(default_factory=itertools.count)

    def standing(self, cookie, began):
        """What the record says to a cookie's token, for a request that began then."""
        record = self.records.get(cookie.sid)
        if record is None:
            return "gone"
        if record.ended_at is not None:
            return "superseded" if began <= record.ended_at + GRACE else "gone"
        if record.expires <= self.now:
            return "gone"
        if record.token == cookie.token:
            return "live"
        if record.previous is None:
            return "gone"
        return "superseded" if began <= record.previous.at + GRACE else "gone"

    def expiry(self, deadline):
        """An expiry is never beyond the deadline."""
        return self.now + IDLE if deadline is None else min(deadline, self.now + IDLE)

    def end(self, sid):
        """Leave a tombstone: nothing of the session but the time of its end."""
        self.records[sid] = Record(None, {}, 0, self.now - GRACE, ended_at=self.now)

    def sweep(self):
        """Remove expired sessions, and tombstones that are old enough."""
        for sid, record in list(self.records.items()):
            over = record.expires <= self.now if record.ended_at is None else record.ended_at + TOMBSTONE <= self.now
            if over:
                del self.records[sid]


class Request:
    """One request's view of its session: what it has read, and what it wants done, key by key."""

    def __init__(self, reference, cookie):
        self.reference, self.received, self.cookie, self.began = reference, cookie, cookie, reference.now
        self.phase = "new" if cookie is None else "unread"
        #: The record as loaded while alive, as known last, and when it was loaded.
        self.loaded = self.known = self.loaded_at = None
        #: What is under the changes, the changes, and what was assigned although it was stored already.
        self.base, self.changes, self.same = {}, {}, {}
        #: Keys whose absence was seen while the session was not alive.
        self.looked_at = set()
        self.user_touched, self.user_before, self.user_after = False, None, None
        self._forget_wishes()

    def _forget_wishes(self, *, cleared=False):
        self.cleared, self.replaced, self.dismissed = cleared, False, False
        self.regenerating, self.confirming = False, False
        self.permanent_wish = self.deadline_wish = UNSET

    # -- what a view does ---------------------------------------------------------------------------------------------

    def read(self, *, anyway=False):
        """Load; after ``clear()`` only for what the record says of the user."""
        if self.phase != "unread" or (self.cleared and not anyway):
            return
        standing = self.reference.standing(self.cookie, self.began)
        self.known = copy.deepcopy(self.reference.records.get(self.cookie.sid))
        if standing != "live":
            self.phase = standing
            return

        self.phase, self.loaded, self.loaded_at = "loaded", self.known, self.reference.now
        if not self.cleared:
            self.base = copy.deepcopy(self.known.data)
            for key, (kind, value) in list(self.changes.items()):
                if kind == "set":
                    self._assign(key, value)

    def _look(self, key):
        if self.phase == "superseded" and self.looked_at != ALL and not self._is_set(key):
            self.looked_at.add(key)

    def _is_set(self, key):
        return self.changes.get(key, ("",))[0] == "set"

    def _now(self, base=None):
        """All values with the changes on top."""
        return applied(self.base if base is None else base, self.changes)

    def values(self):
        self.read()
        if self.phase == "superseded":
            self.looked_at = ALL
        return self._now()

    def get(self, key):
        if not self._is_set(key):
            self.read()
        self._look(key)
        return self._now().get(key)

    def set(self, key, value):
        if key == USER_KEY:
            self._change_user(value)
        self._assign(key, value)

    def _assign(self, key, value):
        if key in self.base and self.base[key] == value:
            self.changes.pop(key, None)
            self.same[key] = value
        else:
            self.changes[key] = ("set", copy.deepcopy(value))
            self.same.pop(key, None)

    def delete(self, key):
        self.read()
        self._look(key)
        if key not in self._now():
            self.dismissed |= key == USER_KEY and self.phase in {"gone", "superseded"}
            return
        if key == USER_KEY:
            self._change_user(None)
        self.same.pop(key, None)
        if key in self.base:
            self.changes[key] = ("remove", None)
        else:
            self.changes.pop(key, None)

    def delete_all(self):
        for key in list(self.values()):
            self.delete(key)

    def extend(self, key, value):
        """A change in place of a list, a new one where there is none."""
        before = self.get(key)
        self._assign(key, [*(before or []), value])

    def _computes(self, key):
        """Whether the value is this request's own."""
        own = self.changes.get(key, ("",))[0] in {"set", "remove"}
        return self.cleared or self.replaced or own or self.phase in {"new", "gone"}

    def add(self, key, by):
        if self._computes(key):
            self._assign(key, self._now().get(key, 0) + by)
        else:
            self.changes[key] = ("add", self.changes.get(key, ("", 0))[1] + by)

    def push(self, key, value):
        if self._computes(key):
            self._assign(key, [*self._now().get(key, []), value][-LIMIT:])
        else:
            self.changes[key] = ("push", [*self.changes.get(key, ("", []))[1], value])

    def clear(self):
        self._forget_wishes(cleared=True)
        self._forget_values()
        if not self.user_touched and self.loaded:
            self.user_touched, self.user_before = True, self.loaded.user
        self.user_after = None

    def _forget_values(self):
        self.base, self.changes, self.same, self.looked_at = {}, {}, {}, set()

    def regenerate(self):
        self.read()
        self.regenerating = True

    def confirm(self):
        self.read()
        self._look("_fresh")
        self.confirming = True

    def set_permanent(self, value):
        self.permanent_wish = UNSET if value == self._stored_permanent() else value

    def _stored_permanent(self):
        if self.cleared or self.phase in {"new", "gone"}:
            return False
        return self.loaded.permanent if self.loaded else self.cookie.permanent

    def set_deadline(self, deadline):
        self.read()
        unchanged = self.loaded and not self.cleared and self.loaded.deadline == deadline
        self.deadline_wish = UNSET if unchanged else deadline

    def _change_user(self, user):
        """Before one user follows another, what is there goes; at each change, what is to be forgotten."""
        self.read(anyway=True)
        now = self._now().get(USER_KEY)
        if not self.user_touched:
            stored = self.loaded.user if self.loaded else None
            self.user_touched, self.user_before = True, stored if self.cleared else now
        if user != now:
            last = self.user_before or (self.loaded.last_user if self.loaded else None)
            if user is not None and last is not None and last != user and not (self.cleared or self.replaced):
                self._forget_values()
                self.replaced = True
            else:
                self.same.pop(FORGET, None)
                self.changes[FORGET] = ("remove", None)
        self.user_after = user

    # -- what becomes of it -------------------------------------------------------------------------------------------

    def save(self):
        """The cookie that follows: its content, ``DELETED``, or ``None`` for none."""
        for _ in range(2):
            if self.phase in {"unread", "loaded"}:
                if not (self._changed or self._wants):
                    return self._use()
                standing = self.reference.standing(self.cookie, self.began)
                if standing == "live":
                    return self._live(self.reference.records[self.cookie.sid])
                if not (self._changed or self._ends or self._rotates):
                    return None  # nothing but a touch
                self.known = copy.deepcopy(self.reference.records.get(self.cookie.sid))
                self.phase = standing

        return {"new": self._new, "gone": self._gone, "superseded": self._superseded}[self.phase]()

    @property
    def _changed(self):
        return bool(self.changes) or self.permanent_wish != UNSET or self.deadline_wish != UNSET

    @property
    def _wants(self):
        return self._ends or self._rotates

    @property
    def _written(self):
        """Whether a new session would not be empty."""
        return bool(self.same) or any(kind != "remove" for kind, _ in self.changes.values())

    @property
    def _whole(self):
        return self.cleared or self.replaced

    @property
    def _user_change(self):
        before, after = (self.user_before, self.user_after) if self.user_touched else (None, None)
        if before == after:
            return None
        if before is None:
            return "login"
        return "logout" if after is None else "switch"

    @property
    def _logs_in(self):
        """Whether somebody is logged in who was not, or is anew after ``clear()``."""
        return self._user_change in {"login", "switch"} or (self.cleared and self.user_after is not None)

    @property
    def _logs_out(self):
        return not self._logs_in and (self.cleared or self.dismissed or self._user_change == "logout")

    @property
    def _ends(self):
        return (self.cleared and not self._written) or self._emptied

    @property
    def _emptied(self):
        return self.loaded is not None and bool(self.changes) and not self._written and not self._now()

    @property
    def _rotates(self):
        asked = self.regenerating or self.confirming or self.replaced
        return self.cleared or (asked and self.loaded is not None) or self._user_change is not None

    def _live(self, record):
        if self.cleared and not self._written:
            return self._end()
        if self._emptied and (self._user_change == "logout" or record.data == self.loaded.data):
            return self._end()
        return self._rotate(record) if self._rotates else self._update(record)

    def _end(self):
        self.reference.end(self.cookie.sid)
        return DELETED

    def _due(self, now):
        return self.loaded.touched + TOUCH <= now

    def _use(self):
        """Whatever was only read: touched when that is due, the cookie of a permanent one renewed."""
        if self.loaded is None or self.phase != "loaded":
            return None
        reference, record = self.reference, self.reference.records.get(self.cookie.sid)
        if self._due(self.loaded_at):
            live = reference.standing(self.cookie, self.began) == "live"
            if not live or record.deadline != self.loaded.deadline:
                return None
            record.expires, record.touched = reference.expiry(record.deadline), reference.now
            self._remember()
            return self._sent() if self.loaded.permanent else None

        sure = self.loaded.permanent and reference.now - self.loaded_at <= KNOWN
        return self._sent() if sure else None

    def _sent(self):
        """A cookie that the browser has is sent again only if it is permanent."""
        return self.cookie if self.cookie != self.received or self.cookie.permanent else None

    def _remember(self):
        """The cookie says what is known of the record."""
        permanent, deadline = self.cookie.permanent, self.cookie.deadline
        if self.known is not None:
            permanent, deadline = self.known.permanent, self.known.deadline
        if self.permanent_wish != UNSET:
            permanent = self.permanent_wish
        if self.deadline_wish != UNSET:
            deadline = self.deadline_wish
        self.cookie = self.cookie._replace(permanent=permanent, deadline=deadline)

    def _update(self, record):
        """Just the changed keys; the expiry moves with a blind write, or when a touch is due."""
        reference = self.reference
        moves = self.loaded is None or self.deadline_wish != UNSET or self._due(reference.now)
        record.data = applied(record.data, self.changes)
        if self.permanent_wish != UNSET:
            record.permanent = self.permanent_wish
        if self.deadline_wish != UNSET:
            record.deadline = self.deadline_wish
        elif moves:
            self._look_at_deadline(record)
        if moves:
            record.expires, record.touched = reference.expiry(record.deadline), reference.now
        if moves or self.permanent_wish != UNSET:
            self._remember()
        return self._sent()

    def _look_at_deadline(self, record):
        """An expiry is computed from the deadline, so that a request whose idea of it is wrong looks it up."""
        if record.deadline != (self.known.deadline if self.known else self.cookie.deadline):
            self.known = copy.deepcopy(record)

    def _rotate(self, record):
        """A new token within the record."""
        reference, change = self.reference, self._user_change
        stays = change is None and not self.confirming
        keeps = (stays or change == "login") and not self._whole
        wrote = set(self.changes) if keeps else set()
        record.previous = Previous(record.token, reference.now, keeps, self._logs_in, wrote)
        record.token = next(reference.numbers)
        if self._whole:
            record.data, record.permanent = self._fresh(), False
        else:
            record.data = applied(record.data, self.changes)
        if self.permanent_wish != UNSET:
            record.permanent = self.permanent_wish
        if self.deadline_wish != UNSET:
            record.deadline = self.deadline_wish
        record.expires, record.touched = reference.expiry(record.deadline), reference.now

        if self._logs_in:
            record.user, record.last_user = self.user_after, None
        elif change == "logout" or self.cleared:
            record.user, record.last_user = None, None if self.cleared else self.user_before
        permanent = record.permanent
        if not self._whole and self.permanent_wish == UNSET:
            permanent = self.loaded.permanent
        return CookieContent(self.cookie.sid, record.token, permanent, record.deadline)

    def _fresh(self):
        """What this request wrote, over nothing."""
        return applied(copy.deepcopy(self.same), self.changes)

    def _new(self):
        return self._create() if self._written else None

    def _gone(self):
        """As if the id had been unknown, but what was computed from a session that is over is dropped."""
        if self._logs_in:
            return self._create()
        if self._logs_out and self._end_overtaken():
            return DELETED
        return self._create() if self._written and self.loaded is None else None

    def _superseded(self):
        """A log-out always wins, a log-in gets a session of its own, writes go where the session went."""
        if self._logs_out:
            return DELETED if self._end_overtaken() else None
        if self._logs_in:
            return self._create()
        self._merge()
        return None

    def _end_overtaken(self):
        record = self.reference.records.get(self.cookie.sid)
        if record is None or record.ended_at is not None:
            return False
        if self.phase == "gone":
            before = record.previous
            if before is None or before.token != self.cookie.token or before.login:
                return False
        self.reference.end(self.cookie.sid)
        return True

    def _merge(self):
        record = self.reference.records.get(self.cookie.sid)
        if record is None or record.previous is None or record.expires <= self.reference.now:
            return
        before = record.previous
        if before.token != self.cookie.token or not before.keeps_writes or self.began > before.at:
            return
        if self.looked_at == ALL:
            return
        withheld = {*self.looked_at, *before.wrote, USER_KEY, FORGET}
        chosen = {key: change for key, change in self.changes.items() if key not in withheld}
        record.data = applied(record.data, chosen)

    def _create(self):
        """A session of its own; of a log-in that was overtaken, with what it had loaded itself."""
        reference = self.reference
        copies = self.phase == "superseded" and self.loaded is not None and not self._whole
        copies = copies and self._user_change == "login" and self.known is not None and self.known.ended_at is None
        data = self._now() if copies else self._fresh()
        if not data:
            return None
        permanent = copies and self.loaded.permanent if self.permanent_wish == UNSET else self.permanent_wish
        deadline = None if self.deadline_wish == UNSET else self.deadline_wish
        sid, token = next(reference.numbers), next(reference.numbers)
        record = Record(token, data, reference.now, reference.expiry(deadline), deadline, permanent, self.user_after)
        reference.records[sid] = record
        return CookieContent(sid, token, permanent, deadline)


def applied(data, changes):
    """The data with changes on top."""
    data = copy.deepcopy(data)
    for key, (kind, value) in changes.items():
        if kind == "set":
            data[key] = copy.deepcopy(value)
        elif kind == "remove":
            data.pop(key, None)
        elif kind == "add":
            data[key] = data.get(key, 0) + value
        else:
            data[key] = [*data.get(key, []), *value][-LIMIT:]
    return data
