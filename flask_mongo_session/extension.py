"""The extension: puts the parts together for an application, and answers for whose sessions there are."""

from __future__ import annotations

import datetime as dt
import typing as t
import weakref

from flask import current_app, has_app_context

from .config import SessionConfig
from .database import connect
from .document.model import Session, SessionDocument
from .document.record import SessionInfo, user_text
from .exceptions import SetupError
from .management.privacy import check_user, describe, export_user
from .management.revocation import Revocations
from .management.statistics import Figures, measure
from .storage.marks import Marks
from .storage.user_sessions import ANYBODY, Anybody, Keep, UserSessions
from .store import MongoSessionStore, check_model
from .web import login_id
from .web.actor import current_actor
from .web.interface import MongoSessionInterface

if t.TYPE_CHECKING:
    from flask import Flask

    from .encryption import Sealer
    from .management.doctor import Finding
    from .storage.audit import AuditRecord
    from .web.old_cookie import Migration

_NAME = "mongo_session"

Handler = t.TypeVar("Handler", bound=t.Callable[[], t.Any])


class MongoSessionState(t.NamedTuple):
    """What the extension keeps for one application, under ``app.extensions["mongo_session"]``."""

    store: MongoSessionStore
    model: type[SessionDocument]
    config: SessionConfig
    extension: MongoSession


class MongoSession:
    """Keeps an application's sessions in MongoDB.

    ``MongoSession(app)``, or ``MongoSession()`` and :meth:`init_app` later; one object may serve several applications.

    :param model: a :class:`SessionDocument` subclass that declares session keys as fields.
    """

    def __init__(self, app: Flask | None = None, *, model: type[SessionDocument] = Session) -> None:
        check_model(model)
        self.model = model
        #: What a view under :func:`fresh_session` answers when the authentication is too old; ``None``: a 401.
        self.refresh_handler: t.Callable[[], t.Any] | None = None
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app)

    def __repr__(self) -> str:
        """How many applications it serves."""
        return f"<MongoSession of {self.model.__name__} for {len(self._apps)} applications>"

    def init_app(self, app: Flask) -> None:
        """Plug into *app*. Reads and checks the configuration, does no I/O and starts nothing.

        (With an embedded server it takes the lock that keeps the server alive: the one exception.)
        Raises :exc:`ConfigurationError` naming the key, and :exc:`SetupError` the second time.
        """
        if _NAME in app.extensions:
            raise SetupError(
                "MongoSession is already set up on this application: use MongoSession(app) or init_app(app), once."
            )

        config = SessionConfig.from_mapping(app.config)
        store = MongoSessionStore(
            self.model,
            connection=connect(config),
            cleanup_interval=config.cleanup_interval,
            max_size=config.max_size,
            sealer=_sealer(config),
            collection=config.mongodb_collect,
            auto_index=config.auto_index,
            ttl_index=config.ttl_index,
            user_keys=config.user_key,
            audit_lifetime=config.audit_lifetime,
        )
        store.repository.speak_for(app)
        app.extensions[_NAME] = MongoSessionState(store, self.model, config, self)
        app.session_interface = MongoSessionInterface(store, config, _migration(config, store))
        self._apps.add(app)

        from .management.cli import register  # noqa: PLC0415 - thin, and only where there is an application

        register(app)

    @property
    def state(self) -> MongoSessionState:
        """The current application's; outside of every context that of the only application there is."""
        return t.cast("MongoSessionState", self._app.extensions[_NAME])

    @property
    def _app(self) -> Flask:
        current = current_app._get_current_object() if has_app_context() else None  # type: ignore[attr-defined]  # noqa: SLF001 - the application itself, not its proxy
        if current is not None and current in self._apps:
            return t.cast("Flask", current)

        apps = list(self._apps)
        if len(apps) == 1:
            return apps[0]
        if not apps:
            raise SetupError("MongoSession serves no application yet. Did you forget to call 'init_app'?")

        raise SetupError("MongoSession serves several applications: call this inside 'with app.app_context():'.")

    @property
    def store(self) -> MongoSessionStore:
        """The store of :attr:`state`."""
        return self.state.store

    # -- whose sessions there are -------------------------------------------------------------------------------------

    def of_user(self, user_id: t.Any, limit: int | None = None) -> list[SessionInfo]:
        """The user's live sessions without their data, newest activity first; one indexed query."""
        return self._user_sessions.listed(user_id, limit)

    def recent(self, limit: int = 50) -> list[SessionInfo]:
        """Live sessions of everybody, those that expire last first; one indexed query."""
        return self._user_sessions.listed(limit=limit)

    def with_prefix(self, prefix: str, limit: int = 10) -> list[SessionInfo]:
        """Live sessions whose id begins with *prefix*, by id: what a shortened id may mean; one indexed query."""
        return self._user_sessions.with_prefix(prefix, limit)

    def revoke(self, session_id: str, user_id: t.Any | Anybody = ANYBODY, *, actor: str | None = None) -> bool:
        """End a session; with *user_id* only when it is that user's, and never for nobody (``None``).

        Whether there was such a live one. *actor* is who does it, for :meth:`audit` and the signal; by default the
        request's user, or who typed the command.
        """
        return self._revocations(actor).revoke(session_id, user_id)

    def revoke_user(self, user_id: t.Any, keep: Keep = None, *, actor: str | None = None) -> int:
        """End all sessions of a user but *keep* (a session id, or several); how many there were.

        None that was logged in before the call survives it, requests in flight included; the user's :meth:`login_id`
        changes. *actor* as in :meth:`revoke`. Raises :exc:`TypeError` for ``None``.
        """
        return self._revocations(actor).revoke_user(user_id, keep)

    def revoke_all(self, keep: Keep = None, *, actor: str | None = None) -> int:
        """End everybody's sessions but *keep* (a session id, or several), in batches; how many there were.

        Takes two seconds, and longer the more sessions there are. When it returns, no session is left in which
        anybody was logged in before, nor does a request that began before store one afterwards: whoever logs in while
        it runs may have to do so once more. Every :meth:`login_id` changes. *actor* as in :meth:`revoke`.
        """
        return self._revocations(actor).revoke_all(keep)

    def not_before(self, user_id: t.Any = None) -> dt.datetime | None:
        """When the user's sessions, or everybody's, were revoked last (UTC); ``None``: never. One query.

        For what carries a date of its own, such as an API token. For Flask-Login see :meth:`login_id`.
        """
        return Marks(self.store.repository).of(user_text(user_id)).not_before

    def login_id(self, user_id: t.Any) -> str:
        """What ``get_id()`` of a Flask-Login user returns so that its remember-me cookies end with a revocation.

        Raises :exc:`TypeError` for ``None``. One query, at log-in. :meth:`user_behind` is the way back.
        """
        check_user(user_id)
        return login_id.login_id(Marks(self.store.repository), str(user_text(user_id)))

    def user_behind(self, login: str) -> str | None:
        """The user's id in a :meth:`login_id`, for a Flask-Login ``user_loader``; ``None`` once it was revoked.

        Sends a query when a remember-me cookie logs somebody in, and at the first request after a log-in.
        """
        state = self.state
        return login_id.user_behind(Marks(state.store.repository), login, state.config.user_key)

    def audit(self, limit: int = 50, **filters: t.Any) -> list[AuditRecord]:
        """Who ended whose sessions, newest first: the revocations of the last ``SESSION_AUDIT_LIFETIME``.

        *filters*: ``user_id`` (whose sessions), ``actor``, ``session_id``, ``action``, ``since`` and ``until`` (dates),
        ``before`` (the ``id`` of a record: those older than it, for the next page).
        """
        return self.store.audit.find(limit, **filters)

    def export_user(self, user_id: t.Any) -> dict[str, t.Any]:
        """All that is stored in the user's sessions, ready for JSON, without any token."""
        return export_user(self.store.repository, user_id)

    def erase_user(self, user_id: t.Any, keep: Keep = None, *, actor: str | None = None) -> int:
        """Remove all that is stored of the user's sessions, expired ones too; how many of them were alive.

        *keep* is the id of a session that stays as it is, so that a view may clear its own and go on: what a request
        writes into a session that was erased meanwhile is dropped. *actor* as in :meth:`revoke`, whose record is what
        remains. Raises :exc:`TypeError` for ``None``.
        """
        return self._revocations(actor).erase_user(user_id, keep)

    def describe(self, session_id: str) -> dict[str, t.Any] | None:
        """One stored session with its data, for people and JSON; values of ``SESSION_ADMIN_HIDE`` keys are masked."""
        state = self.state
        return describe(state.store.repository, session_id, state.config.admin_hide)

    def figures(self) -> Figures:
        """How many sessions there are, how active and how large; estimated from a sample where there are many."""
        return measure(self.store)

    def examine(self) -> list[Finding]:
        """What is wrong, or worth a note, with the application's configuration and database.

        A database that is away is a finding, too, after those about the configuration.
        """
        from .management.doctor import examine  # noqa: PLC0415 - only for those who ask

        app = self._app
        state: MongoSessionState = app.extensions[_NAME]
        return examine(app, state.store, state.config)

    def needs_refresh_handler(self, handler: Handler) -> Handler:
        """Decorate what answers instead of a view under :func:`fresh_session` when the authentication is too old."""
        self.refresh_handler = handler
        return handler

    @property
    def _user_sessions(self) -> UserSessions:
        return UserSessions(self.store.repository)

    def _revocations(self, actor: str | None) -> Revocations:
        state = self.state
        return Revocations(state.store, current_actor(actor, whole_address=state.config.track_device is True))


def _migration(config: SessionConfig, store: MongoSessionStore) -> Migration | None:
    if not config.migrate_from:
        return None

    from .contrib.migration import make_migration  # noqa: PLC0415 - only for those who migrate

    return make_migration(config, store.repository, Marks(store.repository))


def _sealer(config: SessionConfig) -> Sealer | None:
    if not config.encryption_keys:
        return None

    try:
        from .encryption import Sealer  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise SetupError(
            "SESSION_ENCRYPTION_KEYS needs the package 'cryptography': "
            "pip install 'flask-mongoengine-session[encryption]'"
        ) from error

    return Sealer(config.encryption_keys)
