"""Carries out what a finished request owes the database, and says what its cookie may rely on."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import typing as t

from flask_mongo_session import signals
from flask_mongo_session.document import codec, filters
from flask_mongo_session.document.changes import REMOVE, WIDE, Changes
from flask_mongo_session.document.standing import Standing
from flask_mongo_session.exceptions import SessionStoreUnavailable, TooManySessions
from flask_mongo_session.mongo import clock
from flask_mongo_session.storage.repository import SessionRepository

from . import metadata
from .draft import FRESH, SessionDraft
from .lifetime import Policy
from .overtaken import end_merged, end_overtaken, is_revoked, merge_writes
from .plan import WRITES, Step, UserChange, Wishes, plan
from .state import NOTHING, UNOPENED, CookieContent, Phase, SessionState, new_session_id, new_token
from .writing import live, remember, renew, send, send_whole, weigh

#: Seconds for which a load alone says that its token is the current one.
_KNOWN_SECONDS = 0.1
#: Bytes that a new record takes at most beside its values and the name of its user, which is one of them.
_METADATA_BYTES = 4096


class Outcome(enum.Enum):
    """What the request knows of its cookie's token at its end."""

    #: Nothing certain: the cookie is left alone.
    UNKNOWN = "unknown"
    #: It is the current one, or the new one is.
    CURRENT = "current"
    #: This request ended the session.
    ENDED = "ended"


class UnitOfWork:
    """One request's save; :meth:`save` is called once.

    :param device: what is to be kept of the browser, ``ip`` and ``user_agent``; asked for when something is written.
    """

    __slots__ = ("_device", "_draft", "_policy", "_renewing", "_repository", "_weighed", "confirmed")

    def __init__(
        self,
        draft: SessionDraft,
        repository: SessionRepository,
        policy: Policy,
        device: t.Callable[[], t.Mapping[str, str]] = dict,
    ) -> None:
        self._draft = draft
        self._repository = repository
        self._policy = policy
        self._device = device
        #: The cookie that a rotation is to bring, from the moment at which it is sent until it is confirmed.
        self._renewing: CookieContent | None = None
        #: Whether it was computed that the session keeps within its limit.
        self._weighed = False
        #: Whether a new token was stored, so that the cookie has to follow whatever else goes wrong.
        self.confirmed = False

    def save(self) -> Outcome:
        """Send what is owed. Raises :exc:`SessionStoreUnavailable`, or what assigning a value would have raised."""
        draft = self._draft
        values = draft.values
        if draft.closed:
            return Outcome.UNKNOWN
        if FRESH in values.changes:
            draft.load_to_save()  # whether that confirms the user depends on what it was
        if draft.everything:
            draft.load_to_save()
            values.write_all()
        if values.handed_out or values.defaults:
            draft.settle()

        state = draft.state if draft.state is not UNOPENED else draft.opened()
        if values.changes or draft.intents is not NOTHING or draft.merges:
            outcome = self._save_changes(state)
        else:
            outcome = self._used(state) if state.phase is Phase.LOADED else Outcome.UNKNOWN
        draft.closed = True
        return outcome

    def log_out(self) -> None:
        """End a session that was cleared, though what was written after that could not be stored."""
        draft = self._draft
        if draft.intents.cleared and draft.values.changes:
            draft.values.forget()
            self._save_changes(draft.opened())

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _save_changes(self, state: SessionState) -> Outcome:
        if state.phase is Phase.UNREAD and state.cookie and state.cookie.unsettled:
            state = self._draft.load_to_save(anyway=True)  # which token is the current one
        wishes = self._wishes(state)
        outcome = self._carry_out(plan(state.phase, wishes, was_loaded=state.loaded is not None), wishes)
        if self._draft.merges and outcome is Outcome.CURRENT:
            end_merged(self._draft, self._repository)

        return outcome

    def _wishes(self, state: SessionState) -> Wishes:
        draft = self._draft
        values, intents, loaded = draft.values, draft.intents, state.phase is Phase.LOADED
        written = bool(values.same) or list(values.changes.values()).count(REMOVE) < len(values.changes)
        more = draft.user_touched or draft.merges or draft.rotation_may_follow or FRESH in values.changes
        if written and values.changes and intents is NOTHING and not more:
            return WRITES

        before, after = (draft.user_before, draft.user_after) if draft.user_touched else (None, None)
        changed = bool(values.changes or draft.merges or intents.permanent is not None or intents.deadline)
        confirmed = loaded and (intents.confirm or FRESH in values.changes) and draft.confirmed
        whole = intents.cleared or intents.replaced
        fresh_from = {*values.changes, *values.same, *values.stored} if before != after or intents.cleared else ()

        return Wishes(
            changed=changed,
            written=written,
            cleared=intents.cleared,
            dismissed=intents.dismissed,
            emptied=loaded and not written and bool(values.changes) and not values.keys(),
            rotate=loaded and (intents.regenerate or whole or confirmed or (changed and draft.rotation_may_follow)),
            whole=whole,
            user=UserChange.between(before, after) if before != after else UserChange.NONE,
            user_before=before,
            user_after=after,
            remembered=FRESH in fresh_from and values.get(FRESH) is False,
            touch=loaded and not changed and self._touch_is_due(state),
        )

    def _carry_out(self, step: Step, wishes: Wishes) -> Outcome:
        """The step; where it found nothing, one look at the record says why, and one more attempt follows."""
        attempt: t.Callable[[Wishes], Outcome | None]
        match step:
            case Step.UPDATE:
                attempt = self._update
            case Step.ROTATE:
                attempt = self._rotate
            case Step.END:
                attempt = self._end
            case Step.END_EMPTIED:
                attempt = self._end_emptied
            case _:
                return self._certain(step, wishes)

        done = attempt(wishes)
        if done is not None:
            return done
        if self._look_again() is not Standing.LIVE:
            state = self._draft.state
            return self._carry_out(plan(state.phase, wishes, was_loaded=state.loaded is not None), wishes)

        done = attempt(wishes)
        if done is None:
            raise SessionStoreUnavailable
        return done

    def _certain(self, step: Step, wishes: Wishes) -> Outcome:
        """A step that does not depend on the session being alive."""
        if step is Step.CREATE:
            return self._create(wishes)
        if step is Step.MERGE:
            merge_writes(self._draft, self._repository)
            return Outcome.UNKNOWN
        if step is Step.TOUCH:
            return self._touch()

        state = self._draft.state
        return self._used(state) if state.phase is Phase.LOADED else Outcome.UNKNOWN

    def _look_again(self) -> Standing:
        """Find out why an update found nothing, and go on from there."""
        self._renewing = None
        draft, state = self._draft, self._draft.state
        cookie = t.cast("CookieContent", state.cookie)
        found = draft.source.find(cookie.sid, cookie.hashed)
        state = state._replace(record=found.record)
        if found.standing is Standing.SUPERSEDED:
            state = state._replace(phase=Phase.SUPERSEDED)
        elif found.standing is Standing.GONE:
            state = state._replace(phase=Phase.GONE)
            self._repository.rejected(cookie.sid, found.reason.value if found.reason else None)
        elif not (draft.intents.cleared or draft.intents.replaced):
            weigh(draft, self._repository, found.record or {}, draft.values.changes)
            self._weighed = True

        draft.state = state
        return found.standing

    # -- used ---------------------------------------------------------------------------------------------------------

    def _used(self, state: SessionState) -> Outcome:
        """The session was read and not changed."""
        draft, record = self._draft, state.record or {}
        if draft.presented is None:
            return self._touch()  # the browser has yet to get the session's cookie
        if not self._policy.refresh:
            return Outcome.UNKNOWN
        if self._policy.is_due(record.get("touched_at"), t.cast("dt.datetime", state.loaded_at)):
            return self._touch()
        if draft.rotation_may_follow:
            return Outcome.UNKNOWN
        if record.get("permanent") is True and clock.boottime() - state.read_at < _KNOWN_SECONDS:
            return Outcome.CURRENT

        return Outcome.UNKNOWN

    def _touch_is_due(self, state: SessionState) -> bool:
        touched_at = (state.record or {}).get("touched_at")
        return self._policy.refresh and self._policy.is_due(touched_at, t.cast("dt.datetime", state.loaded_at))

    def _touch(self) -> Outcome:
        draft, repository = self._draft, self._repository
        if repository.connection.known_to_be_away:
            return Outcome.UNKNOWN

        try:
            now = repository.now()
        except SessionStoreUnavailable:
            return Outcome.UNKNOWN
        deadline = metadata.known_deadline(draft)
        fields = {"expires_at": self._policy.expiry(now, deadline), "touched_at": now, **self._device()}
        permanent = (draft.state.record or {}).get("permanent") is True
        confirmed = permanent or draft.presented is None  # only then a cookie depends on it
        if not repository.touch({**live(draft, now), "deadline": deadline}, fields, confirmed=confirmed):
            return Outcome.UNKNOWN

        remember(draft, fields)
        return Outcome.CURRENT if confirmed and not draft.rotation_may_follow else Outcome.UNKNOWN

    # -- changed ------------------------------------------------------------------------------------------------------

    def _update(self, _wishes: Wishes) -> Outcome | None:
        draft, repository = self._draft, self._repository
        state, changes = draft.state, draft.values.changes
        now = repository.connection.clock.known() or repository.now()
        cookie = t.cast("CookieContent", state.cookie)
        chosen = filters.one_live(cookie.sid, cookie.hashed, now)
        fields = {} if draft.intents is NOTHING else metadata.changed(draft)
        if self._moves_expiry(state, now):
            known = metadata.known_deadline(draft)
            if "deadline" not in fields:
                chosen["deadline"] = known  # the new expiry is computed from it
            deadline = fields.get("deadline", known)
            fields.update(expires_at=self._policy.expiry(now, deadline), touched_at=now, **self._device())

        if len(changes) <= WIDE or not send_whole(draft, repository, chosen, fields):
            update = draft.context.mapper.update(chosen["_id"], changes, fields, draft.values.stored)
            if not update:
                return Outcome.UNKNOWN
            if not send(draft, repository, chosen, update, weighed=self._weighed):
                return None

        if fields:
            remember(draft, fields)
        if signals.session_updated.receivers and (changes or fields.keys() & {"permanent", "deadline"}):
            repository.announce(signals.session_updated, sid=chosen["_id"], keys=changes.names)
        return Outcome.CURRENT

    def _moves_expiry(self, state: SessionState, now: dt.datetime) -> bool:
        """A write that did not read always moves it, since it cannot know; others when a touch is due."""
        if state.loaded is None or self._draft.merges or self._draft.intents.deadline is not None:
            return True

        return self._policy.is_due(state.loaded.get("touched_at"), now)

    # -- new ----------------------------------------------------------------------------------------------------------

    def _create(self, wishes: Wishes) -> Outcome:
        draft, repository = self._draft, self._repository
        before = draft.state.cookie.sid if draft.state.cookie else None
        copies = self._may_copy(wishes)
        encoded = draft.values.all_encoded() if copies else draft.values.written_so_far()
        if not encoded:
            return Outcome.UNKNOWN

        if not copies and draft.state.loaded is not None:
            draft.state = draft.state._replace(loaded=None)
        cookie = CookieContent(draft.new_sid or new_session_id(), new_token())
        now, sid, user = repository.now(), cookie.sid, wishes.user_after
        fields = {**metadata.created(draft, self._policy, now, cookie.hashed, wishes), **self._device()}
        mapper, values = draft.context.mapper, draft.values
        at_most = None if copies or values.same else _METADATA_BYTES + 2 * mapper.growth(values.changes, {})
        if not repository.insert(mapper.document(sid, encoded, fields), at_most):
            raise SessionStoreUnavailable
        if user and is_revoked(draft, repository, sid):
            return Outcome.UNKNOWN

        renew(draft, cookie, fields)
        self.confirmed = True
        repository.announce(signals.session_created, sid=sid, user_id=user)
        return self._admitted(user, before) if user else Outcome.CURRENT

    def _may_copy(self, wishes: Wishes) -> bool:
        """Whether a log-in that was overtaken takes what it had loaded along: then a double click loses no cart.

        Not if somebody was, or had been, logged in there, nor if the record has ended.
        """
        state = self._draft.state
        if state.phase is not Phase.SUPERSEDED or state.loaded is None or wishes.whole:
            return False

        return wishes.user is UserChange.LOGIN and "ended_at" not in (state.record or {"ended_at": None})

    # -- rotated ------------------------------------------------------------------------------------------------------

    def _rotate(self, wishes: Wishes) -> Outcome | None:
        draft, repository = self._draft, self._repository
        cookie, mapper = t.cast("CookieContent", draft.state.cookie), draft.context.mapper
        renewed, known = CookieContent(cookie.sid, new_token()), metadata.known_deadline(draft)
        now = repository.connection.clock.known() or repository.now()
        fields = metadata.rotated(draft, self._policy, now, renewed.hashed, known, wishes)
        fields.update(self._device())
        self._renewing = renewed
        chosen = {**filters.one_live(cookie.sid, cookie.hashed, now), "deadline": known}
        values, wide = draft.values, len(draft.values.changes) > WIDE and not wishes.whole
        if not (wide and send_whole(draft, repository, chosen, fields)):
            if wishes.whole:
                whole = mapper.replacement(cookie.sid, values.written_so_far(), fields)
                repository.check_fits(codec.size(whole))
                stored = repository.update(chosen, whole)
            else:
                update = mapper.update(cookie.sid, values.changes, fields, values.stored)
                stored = send(draft, repository, chosen, update, weighed=self._weighed)
            if not stored:
                return None

        self._renewing = None
        renew(draft, renewed, fields)
        self.confirmed = True
        if signals.session_regenerated.receivers:
            reason, user = _reason(wishes, confirmed=draft.intents.confirm), fields.get("user_id", self._user_id())
            repository.announce(signals.session_regenerated, sid=cookie.sid, user_id=user, reason=reason)
        return self._admitted(wishes.user_after, cookie.sid) if draft.context.limit else Outcome.CURRENT

    @property
    def unconfirmed(self) -> CookieContent | None:
        """A cookie with both tokens, while nobody can say whether a rotation was stored."""
        cookie = self._draft.state.cookie
        if self._renewing is None or cookie is None:
            return None

        return dataclasses.replace(cookie, pending=self._renewing.token)

    def _user_id(self) -> str | None:
        return t.cast("str | None", (self._draft.state.record or {}).get("user_id"))

    def _admitted(self, user: str | None, before: str | None) -> Outcome:
        """Keep the number of the user's sessions in bounds, now that this one is stored."""
        draft = self._draft
        limit, cookie = draft.context.limit, t.cast("CookieContent", draft.state.cookie)
        if limit is None or user is None or user == draft.user_before:
            return Outcome.CURRENT

        merged = [merge.record["_id"] for merge in draft.merges]
        if limit.enforce(user, cookie.sid, before, merged):
            return Outcome.CURRENT
        if limit.refuses:
            self._take_user_out(cookie.sid, user)
            raise TooManySessions(limit.allowed)

        return Outcome.UNKNOWN

    def _take_user_out(self, sid: str, user: str) -> None:
        """Undo a log-in that came too late to be refused; the data stays, but for another user who logs in."""
        context, changes = self._draft.context, Changes()
        for key in context.user_keys:
            changes.remove(key)
        update = context.mapper.update(sid, changes, {"user_id": None, "last_user_id": user, "authenticated_at": None})
        self._repository.update(live(self._draft, self._repository.now()), update)

    # -- ended --------------------------------------------------------------------------------------------------------

    def _end(self, wishes: Wishes) -> Outcome | None:
        draft, repository, now = self._draft, self._repository, self._repository.now()
        if draft.state.phase in (Phase.LOADED, Phase.UNREAD):
            return self._ended() if repository.end(live(draft, now), now) else None

        if end_overtaken(draft, repository, now):
            return self._ended()
        if draft.state.phase is Phase.GONE and wishes.written and draft.state.loaded is None:
            return self._create(wishes)
        return Outcome.UNKNOWN

    def _end_emptied(self, wishes: Wishes) -> Outcome | None:
        """End a session that holds exactly what was loaded, so that a key added meanwhile is not lost."""
        draft, now = self._draft, self._repository.now()
        same = draft.context.mapper.same_content(draft.state.loaded or {})
        if self._repository.end({**live(draft, now), **same}, now):
            return self._ended()

        return self._rotate(wishes) if wishes.rotate else self._update(wishes)

    def _ended(self) -> Outcome:
        draft = self._draft
        cookie = t.cast("CookieContent", draft.state.cookie)
        self._repository.announce(signals.session_destroyed, sid=cookie.sid, reason="logout", actor=None)
        draft.state = SessionState(Phase.NEW)
        draft.values.forget()
        return Outcome.ENDED


def _reason(wishes: Wishes, *, confirmed: bool) -> str:
    if wishes.user is not UserChange.NONE:
        return str(wishes.user.value)
    if wishes.cleared:
        return "clear"

    return "confirm" if confirmed else "regenerate"
