"""The object behind ``flask.session``: a plain mapping, and the vocabulary of a session manager. No I/O of its own."""

from __future__ import annotations

import datetime as dt
import enum
import typing as t
from collections.abc import Iterator, Mapping

from flask.sessions import SessionMixin

from flask_mongo_session.document.changes import ABSENT, Assign, Number, added, listed
from flask_mongo_session.mongo.bson_types import LAST_MOMENT, milliseconds, moment

from .context import SessionContext, Source
from .draft import FRESH, SessionDraft
from .merging import find_other, parse
from .state import Intents, Phase
from .values import within_int64

if t.TYPE_CHECKING:
    from typing_extensions import Self

_REQUIRED: t.Final[t.Any] = object()


class SessionStatus(enum.Enum):
    """What becomes of the session at the end of the request (SCS's ``Status``)."""

    UNMODIFIED = "unmodified"
    MODIFIED = "modified"
    DESTROYED = "destroyed"


class ServerSideSession(SessionMixin):
    """A session that lives in the database.

    A plain :class:`~collections.abc.MutableMapping` with ``copy`` and ``|=``. The first read loads the record, an
    assignment alone does not. A value is checked when it is assigned (:exc:`UnstorableValue`,
    :exc:`InvalidFieldValue`). What is changed in place is found by comparing. Attributes are never items. Works
    outside every Flask context.

    Reading raises :exc:`SessionStoreUnavailable` where the database does not answer. From then on the session is empty,
    and what is written goes nowhere: an error page may flash a message, any other answer becomes a 503.
    """

    accessed = False

    def __init__(self, context: SessionContext, source: Source) -> None:
        self._context = context
        self._source = source
        #: Made when the session is used for the first time.
        self._begun: SessionDraft | None = None

    @property
    def _draft(self) -> SessionDraft:
        """The request's work on its session."""
        if self._begun is None:
            self._begun = SessionDraft(self._context, self._source)

        return self._begun

    def __repr__(self) -> str:
        """Counts, never contents, and no token."""
        draft = self._draft
        return f"<{type(self).__name__} keys={len(draft.values)} {draft.state.phase.value}>"

    # -- the mapping ------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> t.Any:
        draft = self._begun or self._draft
        values = draft.values
        if draft.state.phase is Phase.UNREAD and type(values.changes.get(key)) is not Assign:
            draft.load()

        value = values.get(key)
        return values.default(key) if value is ABSENT else value

    def __setitem__(self, key: str, value: t.Any) -> None:
        draft = self._begun or self._draft
        if key in draft.context.user_keys:
            draft.change_user(key, value)
        else:
            draft.values.assign(key, value)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __contains__(self, key: object) -> bool:
        draft = self._begun or self._draft
        if type(draft.values.changes.get(key)) is not Assign:  # type: ignore[call-overload]  # any key may be asked for
            draft.load()
        return draft.values.has(key)

    def __iter__(self) -> Iterator[str]:
        self._draft.load()
        return iter(self._draft.values.keys())

    def __len__(self) -> int:
        self._draft.load()
        return len(self._draft.values.keys())

    def __ior__(self, other: Mapping[str, t.Any]) -> Self:
        self.update(other)
        return self

    def __or__(self, other: Mapping[str, t.Any]) -> dict[str, t.Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, t.Any]) -> dict[str, t.Any]:
        return {**other, **self}

    def copy(self) -> dict[str, t.Any]:
        """The keys and values as a plain, shallow dictionary."""
        return dict(self)

    def get(
        self,
        key: str,
        default: t.Any = None,
        type: t.Callable[[t.Any], t.Any] | None = None,  # noqa: A002 - Werkzeug's name
    ) -> t.Any:
        """The value, converted by *type*; *default* when there is none or it does not convert (as in Werkzeug)."""
        draft = self._begun or self._draft
        values = draft.values
        if draft.state.phase is Phase.UNREAD and not isinstance(values.changes.get(key), Assign):
            draft.load()
        value = values.get(key)
        if value is ABSENT:
            try:
                value = values.default(key)
            except KeyError:
                return default
        if type is None:
            return value

        try:
            return type(value)
        except (ValueError, TypeError):
            return default

    def pop(
        self,
        key: str,
        default: t.Any = _REQUIRED,
        type: t.Callable[[t.Any], t.Any] | None = None,  # noqa: A002
    ) -> t.Any:
        """Remove the key and return its value, converted as in :meth:`get`; KeyError without key and default."""
        is_user = key in self._draft.context.user_keys
        self._draft.load_to_remove(is_user=is_user)
        self._draft.values.keep_changed_defaults()
        value = self._draft.values.get(key)
        if value is ABSENT:
            if is_user:
                self._draft.dismiss_user()
            if default is _REQUIRED:
                raise KeyError(key)
            return default

        if is_user:
            self._draft.change_user(key, ABSENT)
        else:
            self._draft.values.remove(key)
        try:
            return value if type is None else type(value)
        except (ValueError, TypeError):
            if default is _REQUIRED:
                raise
            return default

    def setdefault(self, key: str, default: t.Any = None) -> t.Any:
        """The value, after assigning *default* when the key is absent."""
        if key not in self:
            self[key] = default

        return self[key]

    def clear(self) -> None:
        """End the session: log out. What is written afterwards shares nothing with it and goes on under a new token."""
        self._draft.intents = Intents(cleared=True)
        self._draft.merges = []
        self._draft.everything = False
        self._draft.values.forget()
        self._draft.lose_user()

    # -- the manager's vocabulary -----------------------------------------------------------------------------------

    def destroy(self) -> None:
        """End the session (SCS's ``Destroy``); the same as :meth:`clear`."""
        self.clear()

    def regenerate(self) -> None:
        """Go on under a new token, data kept, lifetime restarted (SCS's ``RenewToken``, OWASP ASVS 5.0 7.2.4)."""
        self._draft.load()
        self._draft.intents = self._draft.intents._replace(regenerate=True)

    def merge(self, token: str | None) -> None:
        """Take over another session: its values win, the later deadline stays, it ends (SCS's ``MergeSession``).

        *token* is the other session's :attr:`token`. Nothing happens when it is this very session, or there is none.
        The other's user is taken only where nobody is logged in here, with the time of their log-in: merging never
        makes anything fresh.
        """
        wanted, token = parse(token), None  # what raises below shows no secret
        self._draft.load()
        if wanted is None or wanted[0] == self.sid:
            return

        mapper = self._draft.context.mapper
        other = find_other(*wanted, self._draft.source)
        if other is None:
            return

        self._draft.take(other, other.everything(mapper))
        mine, theirs = self.deadline, other.record.get("deadline")
        if mine is not None and theirs is not None and theirs > mine:
            self.deadline = theirs
        self._draft.merges.append(other)

    def increment(self, key: str, by: Number = 1) -> None:
        """Add *by* to a number, from 0 where there is none, in the database: no concurrent increment is lost.

        Does not read. Raises TypeError where the value is known to be no number, else when it is saved. The limits of a
        declared field are those of the sum only where it is known: the database knows none.
        """
        if isinstance(by, bool) or not isinstance(by, (int, float)):
            raise TypeError(f"increment({key!r}) adds a number, not a {type(by).__name__}.")
        self._draft.values.check_computable(key)
        self._draft.context.mapper.schema.check_number(key, within_int64(key, by))

        if self._draft.is_known(key):
            self[key] = within_int64(key, added(key, self.get(key, 0), by))
        else:
            self._draft.values.increment(key, by, blind=not self._draft.is_loaded)

    def append(self, key: str, value: t.Any, limit: int | None = None) -> None:
        """Append to a list, a new one where there is none, in the database: no concurrent append is lost.

        *limit* keeps only that many of the last items. Does not read. Raises TypeError where the value is known to be
        no list, else when it is saved.
        """
        if limit is not None and limit < 1:
            raise ValueError("append() keeps at least one item: limit must be 1 or more, or None for all.")
        self._draft.values.check_computable(key)
        if self._draft.is_known(key):
            longer = [*listed(key, self.get(key, [])), value]
            self[key] = longer if limit is None else longer[-limit:]
            return

        encoded = self._draft.context.mapper.schema.encode_item(key, value, limit)
        self._draft.values.append(key, encoded, limit, blind=not self._draft.is_loaded)

    def confirm(self) -> None:
        """The user has just been authenticated again: :meth:`fresh` counts from now, under a new token.

        Where Flask-Login says that the log-in is not fresh, it is from now on.
        """
        self._draft.load()
        self._draft.intents = self._draft.intents._replace(confirm=True)
        if self._draft.values.get(FRESH) is False:
            self._draft.values.assign(FRESH, True)

    def fresh(self, max_age: float) -> bool:
        """Whether the user was authenticated at most *max_age* seconds ago (by the database's clock).

        A log-in by Flask-Login's remember-me cookie is none, until it is confirmed.
        """
        draft = self._draft
        draft.load()
        if draft.user() is None or draft.values.get(FRESH) is False:
            return False
        if draft.confirmed or (draft.user_touched and draft.user_before != draft.user_after):
            return not draft.brings_user

        at = draft.recorded("authenticated_at")
        age = None if at is None else draft.context.clock() - at
        return age is not None and dt.timedelta(seconds=-10) <= age <= dt.timedelta(seconds=max_age)

    @property
    def token(self) -> str | None:
        """What :meth:`merge` takes: ``id.secret``, or ``None``. Never log it: :attr:`sid` is for that."""
        state = self._draft.opened()
        if state.cookie and state.cookie.unsettled:
            state = self._draft.load(anyway=True)  # which token is the current one
        cookie = state.cookie
        if cookie is None or self._draft.is_new(state) or state.phase is Phase.SUPERSEDED:
            return None

        return f"{cookie.sid}.{cookie.token}"

    @property
    def sid(self) -> str:
        """The session id, safe to show, to store and to log; before the first save the one that it will get."""
        return self._draft.sid

    @property
    def new(self) -> bool:  # type: ignore[override]  # a plain attribute there
        """Whether no record of this session exists yet."""
        return self._draft.is_new(self._draft.load())

    @property
    def status(self) -> SessionStatus:
        """What would become of the session if the request ended now."""
        if self._draft.intents.cleared and not self._draft.values.changes:
            return SessionStatus.DESTROYED

        return SessionStatus.MODIFIED if self.modified else SessionStatus.UNMODIFIED

    @property
    def modified(self) -> bool:
        """Whether anything changed, in place too. Set to ``True`` every key is written, to ``False`` none."""
        return self._draft.modified

    @modified.setter
    def modified(self, value: bool) -> None:
        self._draft.everything = value
        if not value:
            self._draft.values.discard_changes()

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser; kept in the cookie and in the record."""
        chosen = self._draft.intents.permanent
        return self._draft.stored_permanent() if chosen is None else chosen

    @permanent.setter
    def permanent(self, value: bool) -> None:
        changed = bool(value) != self._draft.stored_permanent()
        self._draft.intents = self._draft.intents._replace(permanent=bool(value) if changed else None)

    @property
    def created_at(self) -> dt.datetime | None:
        """When this session began (UTC); ``None`` before the first save."""
        return self._draft.recorded("created_at")

    @property
    def expires_at(self) -> dt.datetime | None:
        """When it ends unless it is used again (UTC); ``None`` before the first save."""
        return self._draft.recorded("expires_at")

    @property
    def deadline(self) -> dt.datetime | None:
        """When it ends however much it is used (UTC); ``None`` for never. Set an aware datetime, or ``None``."""
        chosen = self._draft.intents.deadline
        return self._draft.recorded("deadline") if chosen is None else chosen[0]

    @deadline.setter
    def deadline(self, value: dt.datetime | None) -> None:
        if value is not None and value.tzinfo is None:
            raise ValueError("session.deadline has no timezone: give an aware datetime, for example in UTC.")

        exact = None if value is None else moment(min(milliseconds(value), LAST_MOMENT))
        self._draft.load()
        unchanged = self._draft.is_loaded and self._draft.recorded("deadline") == exact
        self._draft.intents = self._draft.intents._replace(deadline=None if unchanged else (exact,))


def draft_of(session: SessionMixin) -> SessionDraft:
    """The request's work behind a session; the session itself shows only its keys and its vocabulary."""
    own = t.cast("ServerSideSession", session)
    return own._begun or own._draft  # noqa: SLF001 - the one way in


def current_user_id(session: SessionMixin) -> str | None:
    """Who is logged in: the text of the first ``SESSION_USER_KEY`` that *session* holds; ``None`` for nobody.

    It is what ``of_user`` and ``revoke_user`` take: ``sessions.revoke_user(current_user_id(session))``.
    """
    draft = draft_of(session)
    draft.load()
    return draft.user()
