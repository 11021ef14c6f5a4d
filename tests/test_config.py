"""The configuration: each key right, of the wrong type, of the wrong value; unknown names; nothing secret shown."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import pymongo
import pytest
from flask import Flask
from flask_session.defaults import Defaults

from flask_mongo_session import ConfigurationError, ConfigurationTypeError, MongoSession
from flask_mongo_session.config import SessionConfig

MINUTE = dt.timedelta(seconds=60)
CLIENT = pymongo.MongoClient(connect=False)
CLIENT.close()

#: Key: values that are right, with what becomes of them; of the wrong type; of the right type but wrong.
KEYS = {
    "SESSION_MONGODB_URI": (
        {
            None: None,
            "mongodb://localhost": ...,
            "mongodb://u:p@h1:27018,h2/db?replicaSet=x": ...,
            "mongodb+srv://example.org/db": ...,
            "embedded:": ...,
            "embedded:./folder": ...,
        },
        [1, b"mongodb://localhost", ["mongodb://localhost"]],
        ["", "localhost", "http://localhost", "mongodb://", "mongodb://h:port", "mongodb://h:70000"],
    ),
    "SESSION_MONGODB": ({None: None, CLIENT: CLIENT}, ["mongodb://localhost", {}], []),
    "SESSION_MONGODB_ALIAS": ({"default": "default", "sessions": "sessions"}, [None, 1], [""]),
    "SESSION_MONGODB_DB": ({None: None, "shop": "shop"}, [1, b"shop"], ["", "a.b", "a b", "a/b", "a$b", "a\0b"]),
    "SESSION_MONGODB_COLLECT": (
        {None: None, "shop_sessions": ..., "shop.sessions": ...},
        [1, b"x"],
        ["", "a$b", ".a", "a.", "a..b", "a\0b"],
    ),
    "SESSION_MONGODB_TIMEOUT": ({2: 2.0, 0.5: 0.5, MINUTE: 60.0}, ["2", None, True], [0, -1, math.inf, math.nan]),
    "SESSION_MONGODB_WRITE_CONCERN": (
        {"majority": ..., 1: 1, 3: 3, "dc": ...},
        [None, 1.0, True, ["majority"]],
        [0, -1, "", "majorty", "Majority", "MAJORITY"],
    ),
    "SESSION_AUTO_INDEX": ({True: True, False: False}, [1, 0, "no", None], []),
    "SESSION_TTL_INDEX": ({True: True, False: False}, [1, "yes", None], []),
    "SESSION_CLEANUP_INTERVAL": (
        {60: MINUTE, 0: dt.timedelta(0), 0.5: MINUTE / 120, MINUTE: MINUTE},
        ["60", None, True],
        [-1, -MINUTE, math.inf, math.nan, 1e300],
    ),
    "SESSION_PERMANENT": ({True: True, False: False}, [1, "yes", None], []),
    "SESSION_IDLE_TIMEOUT": (
        {None: None, 60: MINUTE, MINUTE: MINUTE},
        ["60", True],
        [0, -1, math.nan, 1e300, 10**30, dt.timedelta.max],
    ),
    "SESSION_ABSOLUTE_LIFETIME": ({None: None, 60: MINUTE, MINUTE: MINUTE}, ["60", True], [0, -1, math.nan]),
    "SESSION_ANONYMOUS_LIFETIME": ({None: None, 60: MINUTE, MINUTE: MINUTE}, ["60", True], [0, -1, math.nan]),
    "SESSION_TOUCH_INTERVAL": ({60: MINUTE, 0: dt.timedelta(0), MINUTE: MINUTE}, ["60", None, True], [-1, math.nan]),
    "SESSION_USER_KEY": (
        {"uid": ("uid",), ("a", "b"): ("a", "b"), (): ()},
        [None, 1, (1,), b"x"],
        [],
    ),
    "SESSION_FORGET_ON_LOGIN": ({"a": ("a",), ("a", "b"): ..., (): ()}, [None, 1, (1,)], []),
    "SESSION_TRACK_DEVICE": ({True: True, False: False, "truncated": ...}, ["full", 1, None], []),
    "SESSION_MAX_SIZE": ({1024: 1024}, ["1 MiB", 1.5, True, None], [0, -1]),
    "SESSION_MAX_PER_USER": (
        {None: None, 3: (3, "oldest"), (3, "refuse"): ...},
        ["3", True, 1.5, ("3", "oldest")],
        [0, (0, "refuse"), (3, "newest")],
    ),
    "SESSION_ENCRYPTION_KEYS": ({None: None, "a": ("a",), (b"b", "a"): ..., tuple: ...}, [1, (1,), {"a": 1}], [()]),
    "SESSION_AUDIT_LIFETIME": ({60: MINUTE, MINUTE: MINUTE}, ["60", None, True], [0, -1, math.nan]),
    "SESSION_ADMIN_HIDE": ({"a": ("a",), ("a", "b"): ..., (): ()}, [None, 1, (1,)], []),
    "SESSION_MIGRATE_FROM": (
        {None: (), "cookie": ("cookie",), ("flask-session", "flask-mongoengine"): ..., (): ()},
        [1, (1,), b"cookie"],
        ["flask_session", ("cookie", "django")],
    ),
    "SESSION_MIGRATE_DB": ({None: None, "shop": "shop"}, [1], ["", "a.b"]),
    "SESSION_MIGRATE_COLLECT": ({None: None, "old": "old"}, [1], ["", "a$b"]),
    "SESSION_MIGRATE_PICKLE": ({True: True, False: False}, [1, None], []),
    # Flask-Session's: with a value and nothing to migrate, they are named in the warning below.
    "SESSION_KEY_PREFIX": ({None: None}, [], []),
    "SESSION_USE_SIGNER": ({None: False}, [], []),
}


def parameters(which):
    return [
        pytest.param(key, value, id=f"{key.removeprefix('SESSION_')}-{value!a}"[:50])
        for key, kinds in KEYS.items()
        for value in kinds[which]
    ]


def read(key, value):
    return getattr(SessionConfig.from_mapping({key: value}), key.removeprefix("SESSION_").lower())


@pytest.mark.parametrize(("key", "value"), parameters(0))
def test_right(key, value):
    """What is right is taken, durations as timedeltas, several names as a tuple."""
    wanted = KEYS[key][0][value]

    assert read(key, value) == (value if wanted is ... else wanted)


@pytest.mark.parametrize(("key", "value"), parameters(1))
def test_wrong_type(key, value):
    """A wrong type is refused when the application is set up, naming the key, what it takes, and what it got."""
    app = Flask("tests")
    app.config[key] = value
    with pytest.raises(ConfigurationTypeError, match=rf"{key} .*(must be|takes)|{key} must be") as caught:
        MongoSession(app)

    assert isinstance(caught.value, TypeError)
    assert type(value).__name__ in str(caught.value) or isinstance(value, tuple)


@pytest.mark.parametrize(("key", "value"), parameters(2))
def test_wrong_value(key, value):
    """A value that cannot work is refused when the application is set up, naming the key."""
    app = Flask("tests")
    app.config[key] = value
    with pytest.raises(ConfigurationError, match=rf"^{key} ") as caught:
        MongoSession(app)

    assert isinstance(caught.value, ValueError)
    assert "mongo_session" not in app.extensions


def test_every_key_is_tested_here():
    """The table above has every key, and its defaults are those that are promised."""
    assert {f"SESSION_{field.name.upper()}" for field in dataclasses.fields(SessionConfig)} == set(KEYS)

    config = SessionConfig.from_mapping({})
    assert config == SessionConfig()
    assert (config.mongodb_timeout, config.mongodb_write_concern, config.cleanup_interval) == (2, "majority", MINUTE)
    assert (config.touch_interval, config.user_key, config.max_size) == (MINUTE, ("_user_id", "user_id"), 2**20)
    assert (config.forget_on_login, config.idle_timeout, config.absolute_lifetime) == (("csrf_token",), None, None)
    assert (config.max_per_user, config.encryption_keys, config.track_device) == (None, None, False)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("SESSION_MONGODB_URL", "SESSION_MONGODB_URI"),
        ("SESSION_MONGO_URI", "SESSION_MONGODB_URI"),
        ("SESSION_MONGODB_COLLECTION", "SESSION_MONGODB_COLLECT"),
        ("SESSION_MONGODB_TIMEOUTS", "SESSION_MONGODB_TIMEOUT"),
        ("SESSION_MONGODB_WRITECONCERN", "SESSION_MONGODB_WRITE_CONCERN"),
    ],
)
def test_unknown_key(key, nearest):
    """A misspelt key is refused, with the nearest right one."""
    with pytest.raises(ConfigurationError, match=f"'{key}'.*'{nearest}'"):
        SessionConfig.from_mapping({key: "x"})


def test_every_key_of_flask_session_is_honoured_or_named():
    """All of Flask-Session's defaults: none is silently without effect."""
    theirs = {name for name in vars(Defaults) if name.startswith("SESSION_")}
    ours = {"SESSION_MONGODB", "SESSION_MONGODB_DB", "SESSION_MONGODB_COLLECT", "SESSION_PERMANENT"}
    given = dict.fromkeys(theirs - ours, "x")
    with pytest.warns(UserWarning, match="without effect") as heard:
        SessionConfig.from_mapping(given)

    assert len(heard) == 1
    assert [name for name in given if f"{name}: " not in str(heard[0].message)] == []


def test_what_says_where_old_sessions_are_has_an_effect():
    """While they are migrated, these two of Flask-Session's keys are honoured."""
    config = SessionConfig.from_mapping(
        {"SESSION_MIGRATE_FROM": "flask-session", "SESSION_KEY_PREFIX": "", "SESSION_USE_SIGNER": 1}
    )
    assert (config.key_prefix, config.use_signer) == ("", True)


def test_others_keys_are_none_of_our_business():
    """Flask's own keys and other extensions' are left alone."""
    SessionConfig.from_mapping({"SESSION_TYPE": "mongodb", "SESSION_COOKIE_NAME": 5, "MONGODB_SETTINGS": {}})


def test_it_is_frozen():
    """Nobody changes a checked configuration."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        SessionConfig().max_size = 5


def test_repr_hides_secrets():
    """Neither the URI's password nor an encryption key is shown."""
    config = SessionConfig.from_mapping(
        {
            "SESSION_MONGODB_URI": "mongodb://user:hunter2@localhost/",
            "SESSION_ENCRYPTION_KEYS": ["correct horse"],
            "SESSION_MONGODB_DB": "shop",
        }
    )
    text = repr(config) + str(config)
    assert "hunter2" not in text
    assert "horse" not in text
    assert "mongodb_db='shop'" in text


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://user:hunter2/db",
        "mongodb://user:hunter2@host:port/db",
        "mongodb://user:hunt/er2@host/db",
        "mongodb://user:hunt%er2@host",
        "mongodb://user:hunter2@host/db?authSource",
        "mongodb://:hunter2@host/",
        "user:hunter2@host",
        "mongodb://us@er:hunter2@host",
        "mongodb://user:hunter2@host1:1:1",
    ],
)
def test_error_hides_the_password(uri):
    """The error about a URI that does not parse does not repeat what may be a password."""
    with pytest.raises(ConfigurationError, match="SESSION_MONGODB_URI") as caught:
        SessionConfig.from_mapping({"SESSION_MONGODB_URI": uri})

    assert "er2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("SESSION_ENCRYPTION_KEY", "SESSION_ENCRYPTION_KEYS"),
        ("SESSION_IDLE_TIMOUT", "SESSION_IDLE_TIMEOUT"),
        ("SESSION_FORGET_ON_LOGINS", "SESSION_FORGET_ON_LOGIN"),
        ("SESSION_MAX_PER_USERS", "SESSION_MAX_PER_USER"),
        ("SESSION_USERKEY", "SESSION_USER_KEY"),
        ("SESSION_TTL_INDEXES", "SESSION_TTL_INDEX"),
    ],
)
def test_a_near_miss_is_refused(key, meant):
    """A misspelt key would be a setting that silently does not hold."""
    with pytest.raises(ConfigurationError, match=f"{key!r}; did you mean {meant!r}"):
        SessionConfig.from_mapping({key: 1})


@pytest.mark.parametrize("key", ["SESSION_PROTECTION", "SESSION_COOKIE_NAME", "SESSION_WHATEVER_IT_IS"])
def test_keys_of_others_are_theirs(key):
    """Flask's, Flask-Login's, and what is far from any of ours."""
    assert SessionConfig.from_mapping({key: "x"}) == SessionConfig()


def test_a_log_in_always_brings_a_new_token():
    """The key that once switched this off is refused by name."""
    with pytest.raises(ConfigurationError, match="SESSION_ROTATE_ON_LOGIN does not exist"):
        SessionConfig.from_mapping({"SESSION_ROTATE_ON_LOGIN": True})


def test_flask_sessions_keys_without_effect():
    """One warning names them all, with what to use instead; the type "mongodb" is what it is here, too."""
    with pytest.warns(
        UserWarning, match="SESSION_KEY_PREFIX: use SESSION_MONGODB_COLLECT.*; SESSION_USE_SIGNER"
    ) as heard:
        SessionConfig.from_mapping({"SESSION_TYPE": "mongodb", "SESSION_KEY_PREFIX": "s:", "SESSION_USE_SIGNER": True})

    assert len(heard) == 1
    assert "SESSION_TYPE" not in str(heard[0].message)


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("SESSION_TYPE", "redis", "MongoDB"),
        ("SESSION_KEY_PREFIX", "s:", "SESSION_MONGODB_COLLECT"),
        ("SESSION_USE_SIGNER", False, "always signed"),
        ("SESSION_ID_LENGTH", 64, "256 random bits"),
        ("SESSION_SERIALIZATION_FORMAT", "json", "BSON"),
        ("SESSION_CLEANUP_N_REQUESTS", 100, "SESSION_CLEANUP_INTERVAL"),
        ("SESSION_TTL", {"days": 1}, "SESSION_IDLE_TIMEOUT"),
        ("SESSION_REDIS", object(), "MongoDB"),
        ("SESSION_FILE_DIR", "/x", "MongoDB"),
    ],
)
def test_each_of_them_is_named(key, value, instead):
    """With what replaces it, once, when the application is set up."""
    app = Flask("tests")
    app.config[key] = value
    with pytest.warns(UserWarning, match=f"{key}: .*{instead}") as heard:
        MongoSession(app)

    assert [one.filename for one in heard] == [__file__], "it points at the line that set the extension up"
