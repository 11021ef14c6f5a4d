"""Server-side sessions for Flask on MongoDB."""

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
from .figures import Figures
from .freshness import fresh_session
from .interface import MongoSessionInterface
from .model import Session, SessionDocument, SessionQuerySet
from .owners import SessionInfo
from .records import StoredSession
from .session import ServerSideSession, SessionStatus
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
from .tokens import new_token, session_id

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
