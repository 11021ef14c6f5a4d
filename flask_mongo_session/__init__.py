"""Server-side sessions for Flask on MongoDB."""

from .document.model import Session, SessionDocument, SessionQuerySet
from .document.record import StoredSession
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
from .session.session import ServerSideSession, SessionStatus
from .session.tokens import new_token, session_id
from .signals import (
    session_created,
    session_destroyed,
    session_loaded,
    session_regenerated,
    session_rejected,
    session_updated,
    sessions_swept,
)
from .storage.user_sessions import SessionInfo
from .store import MongoSessionStore
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
    "fresh_session",
    "new_token",
    "session_created",
    "session_destroyed",
    "session_id",
    "session_loaded",
    "session_regenerated",
    "session_rejected",
    "session_updated",
    "sessions_swept",
]
