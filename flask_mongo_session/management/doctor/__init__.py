"""What is wrong, or not as it should be, with an application's sessions: the findings of ``flask sessions doctor``."""

from __future__ import annotations

import typing as t

from flask_mongo_session.exceptions import SessionStoreUnavailable, SetupError

from .configuration import examine_configuration
from .database import examine_database
from .finding import NOTE, OK, WRONG, Finding

if t.TYPE_CHECKING:
    from flask import Flask

    from flask_mongo_session.config import SessionConfig
    from flask_mongo_session.store import MongoSessionStore

__all__ = ["NOTE", "OK", "WRONG", "Finding", "examine"]


def examine(app: Flask, store: MongoSessionStore, config: SessionConfig) -> list[Finding]:
    """All findings: the configuration's, then the database's. A database that is away is a finding, too."""
    results = list(examine_configuration(app, config))
    try:
        results += examine_database(app, store, config)
    except SessionStoreUnavailable as error:
        reason = " ".join(str(error.__cause__ or error).partition(", Timeout: ")[0].split())
        advice = "Nothing else could be asked. Does mongod run, and is SESSION_MONGODB_URI right?"
        results.append(("database", WRONG, f"unavailable: {reason.rstrip('.')}. {advice}"))
    except SetupError as error:
        results.append(("database", WRONG, str(error)))

    return [Finding(*result) for result in results]
