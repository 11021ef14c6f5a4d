"""The only reader of this package's ``SESSION_*`` keys: one frozen, validated object.

Flask's own keys (``SESSION_COOKIE_*``, ``PERMANENT_SESSION_LIFETIME`` …) keep Flask's meaning and are read by Flask,
at request time.
"""

from __future__ import annotations

import datetime as dt
import difflib
import os
import re
import sys
import typing as t
import warnings
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

import pymongo
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from .exceptions import ConfigurationError, ConfigurationTypeError

DEFAULT_DATABASE = "flask_session"

#: Seconds; beyond it dates would run over.
_LONGEST = 365_000 * 24 * 60 * 60
_PREFIX = "SESSION_MONGO"
_PACKAGE = os.path.dirname(__file__)  # noqa: PTH120 - to compare it with the file names of frames
_QUOTED = """(?s)["'].*["']"""
_NOT_IN_A_DATABASE = r'[/\\. "$\0]'
_NOT_IN_A_COLLECTION = r"[$\0]|^\.|\.\.|\.$"


@dataclass(frozen=True, repr=False)
class SessionConfig:
    """The configuration, checked: the keys in lower case without ``SESSION_``. Durations are timedeltas."""

    mongodb_uri: str | None = None
    mongodb: t.Any = None
    mongodb_alias: str = "default"
    mongodb_db: str | None = None
    mongodb_collect: str | None = None
    mongodb_timeout: float = 2.0
    mongodb_write_concern: str | int = "majority"
    auto_index: bool = True
    ttl_index: bool = False
    cleanup_interval: dt.timedelta = dt.timedelta(seconds=60)
    permanent: bool = False
    idle_timeout: dt.timedelta | None = None
    absolute_lifetime: dt.timedelta | None = None
    anonymous_lifetime: dt.timedelta | None = None
    touch_interval: dt.timedelta = dt.timedelta(seconds=60)
    user_key: tuple[str, ...] = ("_user_id", "user_id")
    forget_on_login: tuple[str, ...] = ("csrf_token",)
    track_device: bool | str = False
    max_size: int = 1024 * 1024
    max_per_user: tuple[int, str] | None = None
    encryption_keys: tuple[str | bytes, ...] | t.Callable[[], t.Any] | None = None
    admin_hide: tuple[str, ...] = ("csrf_token", "_id")
    audit_lifetime: dt.timedelta = dt.timedelta(days=90)
    migrate_from: tuple[str, ...] = ()
    migrate_db: str | None = None
    migrate_collect: str | None = None
    migrate_pickle: bool = False
    key_prefix: str | None = None
    use_signer: bool = False

    def __repr__(self) -> str:
        """Without the URI's password and the encryption keys."""
        hidden = {"mongodb_uri", "encryption_keys"}
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name not in hidden)
        return f"<SessionConfig {', '.join(shown)}>"

    @classmethod
    def from_mapping(cls, config: t.Mapping[str, t.Any]) -> SessionConfig:
        """Read and check; raises :exc:`ConfigurationError` naming the key and the fix."""
        _refuse_unknown(config)
        values = {}
        for name, parse in _PARSERS.items():
            key = f"SESSION_{name.upper()}"
            if key in config:
                values[name] = parse(key, config[key])

        return cls(**values)


#: Keys of Flask and of other extensions that look like ours and are none.
_FOREIGN = frozenset(
    {
        *("SESSION_COOKIE_DOMAIN", "SESSION_COOKIE_HTTPONLY", "SESSION_COOKIE_NAME", "SESSION_COOKIE_PARTITIONED"),
        *("SESSION_COOKIE_PATH", "SESSION_COOKIE_SAMESITE", "SESSION_COOKIE_SECURE", "SESSION_REFRESH_EACH_REQUEST"),
        "SESSION_PROTECTION",  # Flask-Login's
    }
)
_ALWAYS_MONGODB = "sessions are always kept in MongoDB"
#: Keys of Flask-Session and flask-mongoengine that mean nothing here, and what does instead.
_REPLACED = {
    "SESSION_TYPE": _ALWAYS_MONGODB,
    "SESSION_KEY_PREFIX": "use SESSION_MONGODB_COLLECT for a collection of its own",
    "SESSION_USE_SIGNER": "the cookie is always signed",
    "SESSION_ID_LENGTH": "a token always has 256 random bits",
    "SESSION_SERIALIZATION_FORMAT": "values are always BSON",
    "SESSION_CLEANUP_N_REQUESTS": "use SESSION_CLEANUP_INTERVAL, in seconds",
    "SESSION_TTL": "use SESSION_IDLE_TIMEOUT, in seconds",
    **dict.fromkeys(("SESSION_REDIS", "SESSION_MEMCACHED", "SESSION_CACHELIB"), _ALWAYS_MONGODB),
    **dict.fromkeys(("SESSION_FILE_DIR", "SESSION_FILE_THRESHOLD", "SESSION_FILE_MODE"), _ALWAYS_MONGODB),
    **dict.fromkeys(("SESSION_SQLALCHEMY", "SESSION_SQLALCHEMY_TABLE"), _ALWAYS_MONGODB),
    **dict.fromkeys(("SESSION_SQLALCHEMY_SEQUENCE", "SESSION_SQLALCHEMY_SCHEMA"), _ALWAYS_MONGODB),
    **dict.fromkeys(("SESSION_SQLALCHEMY_BIND_KEY", "SESSION_DYNAMODB", "SESSION_DYNAMODB_TABLE"), _ALWAYS_MONGODB),
}
#: Those that say where Flask-Session's sessions are, as long as they are migrated.
_OF_MIGRATION = {"SESSION_KEY_PREFIX", "SESSION_USE_SIGNER"}
_MIGRATED = ("flask-session", "flask-mongoengine", "cookie")
_SIMILAR = 0.9


def _refuse_unknown(config: t.Mapping[str, t.Any]) -> None:
    """Raise :exc:`ConfigurationError` for what is probably misspelt, and warn of what has no effect."""
    if "SESSION_ROTATE_ON_LOGIN" in config:
        raise ConfigurationError(
            "SESSION_ROTATE_ON_LOGIN does not exist: a log-in always brings a new token. Remove the key."
        )

    known = [f"SESSION_{name.upper()}" for name in _PARSERS]
    for key in config:
        if key.startswith("SESSION_") and key not in {*known, *_FOREIGN, *_REPLACED}:
            similar = 0.0 if key.startswith(_PREFIX) else _SIMILAR
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=similar)
            if nearest:
                raise ConfigurationError(f"Unknown configuration key {key!r}; did you mean {nearest[0]!r}?")

    needed = _OF_MIGRATION if config.get("SESSION_MIGRATE_FROM") else set()
    present = [key for key in _REPLACED if config.get(key) is not None and key not in needed]
    without_effect = [key for key in present if key != "SESSION_TYPE" or str(config[key]).lower() != "mongodb"]
    if without_effect:
        reasons = "; ".join(f"{key}: {_REPLACED[key]}" for key in without_effect)
        warnings.warn(f"Configuration keys without effect: {reasons}.", stacklevel=_level_of_the_application())


def _level_of_the_application() -> int:
    """The stack level of the code that sets the extension up, so that the caller's warning points there."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001 - what `warnings` itself uses
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1

    return level


def _wrong_type(key: str, value: t.Any, wanted: str) -> t.NoReturn:
    raise ConfigurationTypeError(f"{key} must be {wanted}, not {type(value).__name__}.")


def _flag(key: str, value: t.Any) -> bool:
    if not isinstance(value, bool):
        _wrong_type(key, value, "True or False")

    return value


def _any_text(key: str, value: t.Any) -> str:
    if not isinstance(value, str):
        _wrong_type(key, value, "text")

    return value


def _text(key: str, value: t.Any) -> str:
    text = _any_text(key, value)
    if not text:
        raise ConfigurationError(f"{key} is empty; leave it out to use the default.")

    return text


def _optional(parse: t.Callable[[str, t.Any], t.Any]) -> t.Callable[[str, t.Any], t.Any]:
    return lambda key, value: None if value is None else parse(key, value)


def _duration(key: str, value: t.Any) -> dt.timedelta:
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        _wrong_type(key, value, "a number of seconds or a timedelta")
    if not 0 <= seconds <= _LONGEST:
        raise ConfigurationError(f"{key} must be between 0 and {_LONGEST:,} seconds (a thousand years).")

    return dt.timedelta(seconds=seconds)


def _positive_duration(key: str, value: t.Any) -> dt.timedelta:
    duration = _duration(key, value)
    if not duration:
        raise ConfigurationError(f"{key} must be more than 0 seconds; leave it out for no limit of its own.")

    return duration


def _positive_seconds(key: str, value: t.Any) -> float:
    return _positive_duration(key, value).total_seconds()


def _positive_int(key: str, value: t.Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _wrong_type(key, value, "a whole number")
    if value < 1:
        raise ConfigurationError(f"{key} must be 1 or more.")

    return value


def _uri(key: str, value: t.Any) -> str:
    uri = _text(key, value)
    if uri.startswith("embedded:"):
        return uri

    scheme = urlsplit(uri).scheme
    if scheme not in ("mongodb", "mongodb+srv"):
        raise ConfigurationError(f"{key} must begin with mongodb://, mongodb+srv:// or embedded:")
    if scheme == "mongodb":
        try:
            parse_uri(uri)
        except (PyMongoError, ValueError) as error:
            reason = re.sub(_QUOTED, "…", str(error))  # it may be a part of the password
            raise ConfigurationError(f"{key} is no valid MongoDB URI: {reason}") from None

    return uri


def _database(key: str, value: t.Any) -> str:
    name = _text(key, value)
    if re.search(_NOT_IN_A_DATABASE, name):
        raise ConfigurationError(f'{key} is no name for a database: it may not hold a blank or any of /\\."$')

    return name


def _collection(key: str, value: t.Any) -> str:
    name = _text(key, value)
    if re.search(_NOT_IN_A_COLLECTION, name):
        raise ConfigurationError(
            f"{key} is no name for a collection: it may not hold a $, nor begin or end with a dot."
        )

    return name


def _client(key: str, value: t.Any) -> t.Any:
    if not isinstance(value, pymongo.MongoClient):
        _wrong_type(key, value, "a pymongo.MongoClient (for an address use SESSION_MONGODB_URI)")

    return value


def _write_concern(key: str, value: t.Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        _wrong_type(key, value, '"majority", the name of a custom concern, or a number of nodes')
    if value == "" or (isinstance(value, int) and value < 1):
        raise ConfigurationError(f"{key} must be at least 1: with 0 nobody would confirm that a session was stored.")
    if value != "majority" and isinstance(value, str) and difflib.get_close_matches(value.lower(), ["majority"]):
        raise ConfigurationError(f"{key} is {value!r}; did you mean 'majority'?")

    return value


def _names(key: str, value: t.Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (tuple, list, set, frozenset)) or not all(isinstance(name, str) for name in names):
        _wrong_type(key, value, "a session key or several of them")

    return tuple(names)


def _libraries(key: str, value: t.Any) -> tuple[str, ...]:
    names = () if value is None else _names(key, value)
    unknown = [name for name in names if name not in _MIGRATED]
    if unknown:
        raise ConfigurationError(f"{key} takes {', '.join(map(repr, _MIGRATED))} or several of them.")

    return names


def _track(key: str, value: t.Any) -> bool | str:
    if value == "truncated":
        return "truncated"
    if not isinstance(value, bool):
        _wrong_type(key, value, 'True, False or "truncated" (keep only the network of the address)')

    return value


def _per_user(key: str, value: t.Any) -> tuple[int, str]:
    count, policy = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, "oldest")  # noqa: PLR2004
    if policy not in ("oldest", "refuse"):
        raise ConfigurationError(f'{key} takes a number, or a number and what gives way: "oldest" or "refuse".')

    return _positive_int(key, count), policy


def _key_ring(key: str, value: t.Any) -> tuple[str | bytes, ...] | t.Callable[[], t.Any]:
    if callable(value):
        return t.cast("t.Callable[[], t.Any]", value)

    keys = (value,) if isinstance(value, (str, bytes)) else value
    if not isinstance(keys, (tuple, list)) or not all(isinstance(one, (str, bytes)) for one in keys):
        _wrong_type(key, value, "a list of keys, the newest first, or a callable that returns one")
    if not keys:
        raise ConfigurationError(f"{key} is empty; leave it out to store in plain.")

    return tuple(keys)


_PARSERS: dict[str, t.Callable[[str, t.Any], t.Any]] = {
    "mongodb_uri": _optional(_uri),
    "mongodb": _optional(_client),
    "mongodb_alias": _text,
    "mongodb_db": _optional(_database),
    "mongodb_collect": _optional(_collection),
    "mongodb_timeout": _positive_seconds,
    "mongodb_write_concern": _write_concern,
    "auto_index": _flag,
    "ttl_index": _flag,
    "cleanup_interval": _duration,
    "permanent": _flag,
    "idle_timeout": _optional(_positive_duration),
    "absolute_lifetime": _optional(_positive_duration),
    "anonymous_lifetime": _optional(_positive_duration),
    "touch_interval": _duration,
    "user_key": _names,
    "forget_on_login": _names,
    "track_device": _track,
    "max_size": _positive_int,
    "max_per_user": _optional(_per_user),
    "encryption_keys": _optional(_key_ring),
    "admin_hide": _names,
    "audit_lifetime": _positive_duration,
    "migrate_from": _libraries,
    "migrate_db": _optional(_database),
    "migrate_collect": _optional(_collection),
    "migrate_pickle": _flag,
    "key_prefix": _optional(_any_text),
    "use_signer": lambda _key, value: bool(value),
}
