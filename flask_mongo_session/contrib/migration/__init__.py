"""Nobody is logged out: takes over the sessions that another library kept, one by one or all at once.

``SESSION_MIGRATE_FROM`` turns it on; see ``docs/howto/migrating.md``.
"""

from __future__ import annotations

import logging
import typing as t
import warnings

from flask_mongo_session import ConfigurationError

from .cookies import CookieSource
from .layouts import FlaskSessionLayout, MongoEngineLayout
from .migration import SessionMigration
from .mover import Mover
from .old_session import Source
from .revoked import RevocationCheck
from .serialized import decoder
from .stored import StoredSource

if t.TYPE_CHECKING:
    from flask_mongo_session.config import SessionConfig
    from flask_mongo_session.storage.marks import Marks
    from flask_mongo_session.storage.repository import SessionRepository

__all__ = ["SessionMigration", "make_migration"]

log = logging.getLogger(__name__)

#: Where the libraries keep their sessions unless they are told otherwise.
_PREFIX = "session:"
_FLASK_SESSION_DATABASE, _FLASK_SESSION_COLLECTION, _MONGOENGINE_COLLECTION = "flask_session", "sessions", "session"


def make_migration(config: SessionConfig, repository: SessionRepository, marks: Marks) -> SessionMigration:
    """What takes sessions over as configured. Warns where pickles are allowed; raises :exc:`SetupError`. No I/O."""
    if config.migrate_pickle:
        warning = (
            "SESSION_MIGRATE_PICKLE is on: whoever can write to the old collection of sessions can run any program "
            "in this application. Turn it off as soon as the old sessions are moved."
        )
        warnings.warn(warning, stacklevel=5)
        log.warning(warning)

    if config.migrate_collect is not None and {"flask-session", "flask-mongoengine"} <= {*config.migrate_from}:
        raise ConfigurationError(
            "SESSION_MIGRATE_COLLECT cannot name the collections of two libraries: leave it out, or move from one "
            "library after the other."
        )

    sources = [_SOURCES[name](config) for name in dict.fromkeys(config.migrate_from)]
    return SessionMigration(repository, sources, Mover(repository, config), RevocationCheck(repository, marks))


def _flask_session(config: SessionConfig) -> Source:
    """By default where Flask-Session keeps them, which reads the same keys as we do, but no database in a URI."""
    layout = FlaskSessionLayout(
        _PREFIX if config.key_prefix is None else config.key_prefix,
        decoder(pickles=config.migrate_pickle),
        signed=config.use_signer,
    )
    database = config.migrate_db or config.mongodb_db or _FLASK_SESSION_DATABASE
    collection = config.migrate_collect or config.mongodb_collect or _FLASK_SESSION_COLLECTION
    return StoredSource(layout, database, collection)


def _mongoengine(config: SessionConfig) -> Source:
    """By default in the database of our own sessions; dates as the application's own client reads them."""
    collection = config.migrate_collect or _MONGOENGINE_COLLECTION
    return StoredSource(MongoEngineLayout(), config.migrate_db, collection, follow_client=config.mongodb_uri is None)


_SOURCES: dict[str, t.Callable[[SessionConfig], Source]] = {
    "flask-session": _flask_session,
    "flask-mongoengine": _mongoengine,
    "cookie": lambda config: CookieSource(config.user_key),
}
