"""What a finished request owes the database: decided here, without I/O, and tested as a table."""

from __future__ import annotations

import enum
import typing as t

from .state import Phase


class Step(enum.Enum):
    """The one command that a request ends with."""

    NOTHING = "nothing"
    #: Move the expiry, since the session was used.
    TOUCH = "touch"
    #: Insert a session of its own.
    CREATE = "create"
    #: Write just the changed keys.
    UPDATE = "update"
    #: Write them into a session that a rotation gave another token meanwhile.
    MERGE = "merge"
    #: Write them, with a new token.
    ROTATE = "rotate"
    #: Turn the record into a tombstone.
    END = "end"
    #: The same, if it holds exactly what was loaded; else write just the removed keys.
    END_EMPTIED = "end emptied"


class UserChange(enum.Enum):
    """What a request did to the user of its session."""

    NONE = "none"
    LOGIN = "login"
    LOGOUT = "logout"
    SWITCH = "switch"

    @classmethod
    def between(cls, before: str | None, after: str | None) -> UserChange:
        """From *before* to *after*; ``None`` is nobody."""
        if before == after:
            return cls.NONE
        if before is None:
            return cls.LOGIN

        return cls.LOGOUT if after is None else cls.SWITCH


class Wishes(t.NamedTuple):
    """What a request wants of its session, as far as it decides about the command."""

    #: There are keys or metadata to write.
    changed: bool = False
    #: There are keys that this request wrote, so that a new session would not be empty.
    written: bool = False
    #: ``clear()`` or ``destroy()``.
    cleared: bool = False
    #: The user key was taken out where none was to be seen.
    dismissed: bool = False
    #: All keys that were loaded have been removed one by one.
    emptied: bool = False
    #: A new token was asked for, or the user was confirmed.
    rotate: bool = False
    #: ``clear()``, or one user follows another: nothing of what was stored stays.
    whole: bool = False
    user: UserChange = UserChange.NONE
    #: Whose session it was, and is now; ``None`` is nobody.
    user_before: str | None = None
    user_after: str | None = None
    #: The log-in came by Flask-Login's remember-me cookie, not by a password.
    remembered: bool = False
    #: A touch is due.
    touch: bool = False

    @property
    def logs_in(self) -> bool:
        """Whether somebody is logged in who was not before, or was until ``clear()``."""
        return self.user in (UserChange.LOGIN, UserChange.SWITCH) or (self.cleared and self.user_after is not None)

    @property
    def logs_out(self) -> bool:
        """Whether the session is to end, or its user to leave, with nobody following."""
        return not self.logs_in and (self.cleared or self.dismissed or self.user is UserChange.LOGOUT)


#: Keys were written, and nothing else is wanted: what most requests end with that change anything.
WRITES: t.Final = Wishes(changed=True, written=True)


def plan(phase: Phase, wishes: Wishes, *, was_loaded: bool) -> Step:
    """The step for a session in *phase*; *was_loaded*: it had been found alive before it turned out gone."""
    match phase:
        case Phase.FAILED:
            return Step.NOTHING
        case Phase.NEW:
            return Step.CREATE if wishes.written else Step.NOTHING
        case Phase.UNREAD | Phase.LOADED:
            return _plan_live(wishes)
        case Phase.GONE:
            return _plan_gone(wishes, was_loaded=was_loaded)
        case Phase.SUPERSEDED:
            return _plan_superseded(wishes)


def _plan_live(wishes: Wishes) -> Step:
    if wishes.cleared and not wishes.written:
        return Step.END
    if wishes.emptied:
        return Step.END if wishes.user is UserChange.LOGOUT else Step.END_EMPTIED
    if wishes.cleared or wishes.rotate or wishes.user is not UserChange.NONE:
        return Step.ROTATE
    if wishes.changed:
        return Step.UPDATE

    return Step.TOUCH if wishes.touch else Step.NOTHING


def _plan_gone(wishes: Wishes, *, was_loaded: bool) -> Step:
    """As if the id had been unknown, but what was computed from a session that is over is dropped."""
    if wishes.logs_in:
        return Step.CREATE
    if wishes.logs_out:
        return Step.END

    return Step.CREATE if wishes.written and not was_loaded else Step.NOTHING


def _plan_superseded(wishes: Wishes) -> Step:
    """A log-out always wins, a log-in gets a session of its own, writes go where the session went.

    A log-in by remember-me cookie holds for this request only, since it must not undo a log-out.
    """
    if wishes.logs_out:
        return Step.END
    if wishes.logs_in:
        return Step.NOTHING if wishes.remembered else Step.CREATE

    return Step.MERGE if wishes.changed else Step.NOTHING
