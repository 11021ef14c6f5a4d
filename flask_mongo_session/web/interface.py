"""Between Flask and the session: the only file that touches responses."""

from __future__ import annotations

import datetime as dt
import operator
import os
import typing as t

from flask import after_this_request, has_request_context
from flask.globals import request_ctx
from flask.sessions import SessionInterface, SessionMixin
from pymongo.errors import DuplicateKeyError, ServerSelectionTimeoutError
from werkzeug.exceptions import InternalServerError

from flask_mongo_session import process, signals
from flask_mongo_session.exceptions import SessionStoreUnavailable
from flask_mongo_session.mongo.bson_types import moment
from flask_mongo_session.session.context import SessionContext
from flask_mongo_session.session.draft import SessionDraft
from flask_mongo_session.session.lifetime import Policy
from flask_mongo_session.session.limit import SessionLimit
from flask_mongo_session.session.session import ServerSideSession, draft_of
from flask_mongo_session.session.state import Phase
from flask_mongo_session.session.unit_of_work import Outcome, UnitOfWork
from flask_mongo_session.storage.repository import SessionRepository
from flask_mongo_session.storage.user_sessions import UserSessions

from .cookie import CookieSigner, find_cookie, says_permanent
from .error_response import error_response, mark_unkept, replace_response
from .flask_login import follow_log_outs
from .old_cookie import Migration
from .request_source import RequestSource

if t.TYPE_CHECKING:
    from flask import Flask, Request
    from flask.wrappers import Response

    from flask_mongo_session.config import SessionConfig

#: The configuration that the cookie's attributes come from.
_attributes_of = operator.itemgetter(
    "APPLICATION_ROOT",
    "SESSION_COOKIE_DOMAIN",
    "SESSION_COOKIE_HTTPONLY",
    "SESSION_COOKIE_PARTITIONED",
    "SESSION_COOKIE_PATH",
    "SESSION_COOKIE_SAMESITE",
    "SESSION_COOKIE_SECURE",
)
#: The configuration, beside our own, that lifetimes come from.
_policy_from = operator.itemgetter("PERMANENT_SESSION_LIFETIME", "SESSION_REFRESH_EACH_REQUEST")


class Store(t.Protocol):
    """What the interface needs of a store."""

    @property
    def repository(self) -> SessionRepository:
        """The commands on its records."""

    def start(self) -> bool:
        """Start what runs in the background, once in each process; whether that is done."""


class MongoSessionInterface(SessionInterface):
    """Opens a session without asking the database, and saves it with the fewest commands.

    Policies to override are Flask's: ``get_cookie_*``, ``should_set_cookie``, ``get_expiration_time``.
    """

    session_class = ServerSideSession

    def __init__(self, store: Store, config: SessionConfig, migration: Migration | None = None) -> None:
        self.store = store
        #: What takes over sessions of another library.
        self.migration = migration
        self.config = config
        self.repository = repository = store.repository
        self._signer: CookieSigner | None = None
        self._signer_keys: tuple[t.Any, ...] = ()
        self._policy: Policy | None = None
        self._policy_from: tuple[t.Any, ...] = ()
        self._attributes: tuple[t.Any, ...] | None = None
        self._started_in = 0
        connection, users = repository.connection, UserSessions(repository)
        self._context = SessionContext(
            repository.mapper,
            lambda: connection.clock.estimate(),  # noqa: PLW0108 - another clock after a fork
            config.user_key,
            config.forget_on_login,
            config.permanent,
            SessionLimit(users, *config.max_per_user) if config.max_per_user else None,
        )

    # -- open ---------------------------------------------------------------------------------------------------------

    def open_session(self, app: Flask, request: Request) -> ServerSideSession | None:
        """A session that knows where its cookie is to be found; nothing is parsed, verified or read.

        ``None`` without a secret key, so that Flask's null session explains the fix.
        """
        if not app.secret_key:
            return None

        if process.current != os.getpid() or self._started_in != process.current:
            self._start()
        source = RequestSource(self, app, request)
        if has_request_context():
            after_this_request(source.view_returned)
        return self.session_class(self._context, source)

    def regenerate(self, session: ServerSideSession) -> None:
        """``session.regenerate()``, as Flask-Session spells it; nothing happens to an empty session."""
        if session:
            session.regenerate()

    def _start(self) -> None:
        """Once in each process."""
        process.notice_fork()
        self._started_in = process.current if self.store.start() else 0
        follow_log_outs()

    def signer(self, app: Flask) -> CookieSigner | None:
        """The signer for the application's present keys; ``None`` when it has none."""
        secret_key = app.secret_key
        if not secret_key:
            return None

        keys = (secret_key, *(app.config["SECRET_KEY_FALLBACKS"] or ()))
        if self._signer is None or keys != self._signer_keys:
            self._signer, self._signer_keys = CookieSigner(secret_key, keys[1:]), keys
        return self._signer

    # -- save ---------------------------------------------------------------------------------------------------------

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Store what changed and let the cookie follow. Never raises into Flask, which would save a second time."""
        if session.accessed:
            _vary(response)
        draft = t.cast("ServerSideSession", session)._begun
        if draft is None:
            self._leave(app, session, response)
            return

        if draft.state.phase is Phase.FAILED:
            self._failed_before(app, session, response)
            return

        reason = draft.state.reason
        if reason is not None:
            self.repository.rejected(draft.state.cookie.sid if draft.state.cookie else None, reason.value)
        source = t.cast("RequestSource", draft.source)
        policy = self._policy
        if policy is None or self._policy_from != _policy_from(app.config):
            policy = self._policy_of(app)
        work = UnitOfWork(draft, self.repository, policy, source.client_info if self.config.track_device else dict)
        try:
            outcome = work.save()
        except Exception as error:  # noqa: BLE001 - whatever it is, Flask must not save again
            if not (isinstance(error, SessionStoreUnavailable) and source.static):
                self._failed(app, session, response, error, work)
            return

        if outcome is Outcome.CURRENT:
            self._send_cookie(app, session, draft, response)
        elif outcome is Outcome.ENDED:
            self._delete_cookie(app, response)

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """Flask's rule, but an unchanged cookie of a session that is not permanent is not sent again.

        Asked only where this request knows that its token is the current one.
        """
        draft = t.cast("ServerSideSession", session)._begun
        if draft is None or draft.cookie_changed:
            return draft is not None

        cookie = draft.state.cookie
        permanent = cookie is not None and cookie.permanent
        return permanent and (app.config["SESSION_REFRESH_EACH_REQUEST"] or session.modified)

    def get_expiration_time(self, app: Flask, session: SessionMixin) -> dt.datetime | None:
        """Flask's, but never beyond the session's deadline, nor beyond the year 9999."""
        draft = t.cast("ServerSideSession", session)._begun
        cookie = draft.state.cookie if draft else None
        if cookie is None or not cookie.permanent:
            return None

        try:
            expires = super().get_expiration_time(app, session)
        except OverflowError:
            expires = dt.datetime.max.replace(tzinfo=dt.timezone.utc)
        if expires is None or cookie.deadline is None:
            return expires

        left = max(moment(cookie.deadline) - self.repository.connection.clock.estimate(), dt.timedelta(0))
        now = dt.datetime.now(dt.timezone.utc)
        return min(expires, now + min(left, expires - now))

    def _policy_of(self, app: Flask) -> Policy:
        """As configured at this moment."""
        config = self.config
        self._policy = Policy(
            config.idle_timeout or app.permanent_session_lifetime,
            config.absolute_lifetime,
            config.touch_interval,
            config.anonymous_lifetime,
            refresh=bool(app.config["SESSION_REFRESH_EACH_REQUEST"]),
        )
        self._policy_from = _policy_from(app.config)
        return self._policy

    # -- cookie -------------------------------------------------------------------------------------------------------

    def _cookie_attributes(self, app: Flask) -> dict[str, t.Any]:
        return {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }

    def _send_cookie(self, app: Flask, session: SessionMixin, draft: SessionDraft, response: Response) -> None:
        """Set the cookie where the rules ask for it, now that its token is known to be the current one."""
        attributes, config = self._attributes, app.config
        content, self._attributes = draft.state.cookie, _attributes_of(config)
        same = content is draft.presented and attributes in (None, self._attributes)
        if content is None or (same and not content.permanent and not config["SECRET_KEY_FALLBACKS"]):
            return

        signer = self._signer or self.signer(app)
        if signer is None:
            return
        value = signer.sign(content)
        draft.cookie_changed = value != t.cast("RequestSource", draft.source).received or not same
        if self.should_set_cookie(app, session):
            self._set_cookie(app, session, value, response)

    def _set_cookie(self, app: Flask, session: SessionMixin, value: str, response: Response) -> None:
        """With ``Max-Age`` beside ``Expires``, since the browser's clock may be off (RFC 6265 §5.3: it wins)."""
        expires = self.get_expiration_time(app, session)
        max_age = None if expires is None else round((expires - dt.datetime.now(dt.timezone.utc)).total_seconds())
        response.set_cookie(self.get_cookie_name(app), value, max_age, expires, **self._cookie_attributes(app))
        if not session.accessed:
            _vary(response)

    def _delete_cookie(self, app: Flask, response: Response) -> None:
        response.delete_cookie(self.get_cookie_name(app), **self._cookie_attributes(app))
        _vary(response)

    def _leave(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """A session that nobody used; of a permanent one another response to this URL may carry a refreshed cookie."""
        if signals.session_rejected.receivers:
            draft_of(session).opened()  # whoever counts forged cookies wants those on all pages
        if not app.config["SESSION_REFRESH_EACH_REQUEST"]:
            return

        source = t.cast("RequestSource", t.cast("ServerSideSession", session)._source)
        value = find_cookie(source.request, self.get_cookie_name(app))
        if value is not None and says_permanent(value):
            _vary(response)

    # -- failure ------------------------------------------------------------------------------------------------------

    def _failed(
        self,
        app: Flask,
        session: SessionMixin,
        response: Response,
        error: Exception,
        work: UnitOfWork | None = None,
    ) -> None:
        """Turn the response into the error's, in place; what was to be saved is not, and the cookie stays as it is.

        Unless nobody can say whether a rotation was stored: then the cookie carries both tokens. A log-out that could
        not be confirmed takes the browser's cookie away.
        """
        if work is not None and not isinstance(error, SessionStoreUnavailable):
            work.log_out()  # whatever became of what was written after it
        if request_ctx._session is not session:
            raise error  # a session_transaction: its caller is the one to tell

        draft = draft_of(session)
        logged_out = draft.logs_out
        unconfirmed = work.unconfirmed if work and _may_have_arrived(error) else None
        draft.fail()
        replace_response(response, error_response(app, error))
        mark_unkept(response, error)
        signer = self.signer(app)
        if logged_out:
            self._delete_cookie(app, response)
        elif unconfirmed is not None and signer is not None:
            self._set_cookie(app, session, signer.sign(unconfirmed), response)
        elif work is not None and work.confirmed:
            self._send_cookie(app, session, draft, response)

    def _failed_before(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """The database did not answer a read of this request.

        An error page stays, another answer too, unless it relies on something that was written.
        """
        again, draft = SessionStoreUnavailable(), draft_of(session)
        lost = draft.modified and not draft.source.static
        if response.status_code < InternalServerError.code and lost:
            self._failed(app, session, response, again)
            return

        if response.status_code >= InternalServerError.code:
            mark_unkept(response, again)
        if draft.logs_out:
            self._delete_cookie(app, response)


def _may_have_arrived(error: Exception) -> bool:
    """Whether a command that failed with *error* may have been carried out all the same."""
    cause = error.__cause__
    return (
        isinstance(error, SessionStoreUnavailable)
        and cause is not None
        and not isinstance(cause, (ServerSelectionTimeoutError, DuplicateKeyError))
    )


def _vary(response: Response) -> None:
    """``Vary: Cookie``, without taking a header apart that is hardly ever there before."""
    present = response.headers.getlist("Vary")
    if not present:
        response.headers.add("Vary", "Cookie")
    elif present != ["Cookie"]:
        response.vary.add("Cookie")
