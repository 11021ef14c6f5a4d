"""Server-side sessions for Flask on MongoDB."""

from importlib.util import find_spec as _find_spec

from .document.model import Session, SessionDocument, SessionQuerySet
from .document.record import SessionInfo, StoredSession
from .exceptions import (
    ConfigurationError,
    ConfigurationTypeError,
    EmbeddedServerError,
    EncryptionUnsupported,
    InvalidFieldValue,
    ModelError,
    MongoSessionError,
    SessionStoreUnavailable,
    SessionTooLarge,
    SetupError,
    TooManySessions,
    UnstorableValue,
)
from .extension import MongoSession, MongoSessionState
from .management.statistics import Figures
from .session.session import ServerSideSession, SessionStatus, current_user_id
from .session.state import new_session_id
from .signals import (
    session_created,
    session_destroyed,
    session_loaded,
    session_regenerated,
    session_rejected,
    session_updated,
    sessions_swept,
)
from .store import MongoSessionStore
from .web.current import current_session, typed_session
from .web.interface import MongoSessionInterface
from .web.reauthentication import fresh_session

__version__ = "0.1.0"

__all__ = [
    "ConfigurationError",
    "ConfigurationTypeError",
    "EmbeddedServerError",
    "EncryptionUnsupported",
    "Figures",
    "InvalidFieldValue",
    "ModelError",
    "MongoSession",
    "MongoSessionError",
    "MongoSessionInterface",
    "MongoSessionState",
    "MongoSessionStore",
    "ServerSideSession",
    "Session",
    "SessionDocument",
    "SessionInfo",
    "SessionQuerySet",
    "SessionStatus",
    "SessionStoreUnavailable",
    "SessionTooLarge",
    "SetupError",
    "StoredSession",
    "TooManySessions",
    "UnstorableValue",
    "current_session",
    "current_user_id",
    "fresh_session",
    "new_session_id",
    "session_created",
    "session_destroyed",
    "session_loaded",
    "session_regenerated",
    "session_rejected",
    "session_updated",
    "sessions_swept",
    "typed_session",
]

if _find_spec(f"{__name__}.session_processor"):
    _message = (
        "Another distribution, 'flask-mongo-session', is installed and shares this package's folder. Run "
        "`pip uninstall flask-mongo-session`, which takes files of both along, and then "
        "`pip install --force-reinstall --no-deps flask-mongoengine-session`."
    )
    raise ImportError(_message)
