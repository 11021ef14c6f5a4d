"""Which database the configuration names: by an address, a client or a MongoEngine connection."""

from __future__ import annotations

import typing as t

from mongoengine.connection import ConnectionFailure, get_db
from pymongo.database import Database
from pymongo.uri_parser import parse_uri

from .config import DEFAULT_DATABASE, SessionConfig
from .exceptions import SetupError
from .mongo.connection import Connection, client_for


def connect(config: SessionConfig) -> Connection:
    """The way to that database; it is opened on first use."""
    return Connection(
        _resolver(config),
        timeout=config.mongodb_timeout,
        write_concern=config.mongodb_write_concern,
        follow=config.mongodb_uri is None and config.mongodb is None,
    )


def _resolver(config: SessionConfig) -> t.Callable[[], Database[t.Any]]:
    """How to get at the database on first use: by URI, else the given client, else the MongoEngine alias."""
    uri, client, name = config.mongodb_uri, config.mongodb, config.mongodb_db
    if uri is not None:
        database = name or _database_in(uri) or DEFAULT_DATABASE
        _hold_embedded(uri)
        return lambda: client_for(uri, config.mongodb_timeout)[database]
    if client is not None:
        return lambda: client[name] if name else client.get_default_database(DEFAULT_DATABASE)

    return lambda: _database_of(config.mongodb_alias, name)


def _database_of(alias: str, name: str | None) -> Database[t.Any]:
    """That of MongoEngine's *alias*, or the one called *name* on its client."""
    try:
        database: Database[t.Any] = get_db(alias)
    except ConnectionFailure:
        raise SetupError(
            "There is no database for sessions: set SESSION_MONGODB_URI, or SESSION_MONGODB to a client, "
            f"or connect MongoEngine's alias {alias!r} first."
        ) from None

    return database.client[name] if name else database


def _database_in(uri: str) -> str | None:
    """The database a URI names; an SRV address is not resolved for it."""
    if uri.startswith("mongodb://"):
        return t.cast("str | None", parse_uri(uri)["database"])

    path = "" if uri.startswith("embedded:") else uri.partition("//")[2].partition("/")[2]
    return path.partition("?")[0] or None


def _hold_embedded(uri: str) -> None:
    if uri.startswith("embedded:"):
        from .embedded.server import embedded_server  # noqa: PLC0415 - only for those who use it

        embedded_server(uri)
