"""What is wrong, or not as it should be, with an application's sessions: the findings of ``flask sessions doctor``."""

from __future__ import annotations

import datetime as dt
import os
import typing as t

from flask import Flask

from flask_mongo_session.storage.indexes import NEVER_SECONDS

if t.TYPE_CHECKING:
    from flask_mongo_session.config import SessionConfig
    from flask_mongo_session.store import MongoSessionStore

OK, NOTE, WRONG = "ok", "note", "wrong"

#: The oldest MongoDB that all commands used here work on.
OLDEST_SERVER = (5, 0)
_SHORTEST_KEY = 16
_CLOCKS_MAY_DIFFER = dt.timedelta(seconds=2)
_UNSWEPT = 10_000


class Finding(t.NamedTuple):
    """One thing that was looked at: its name, ``"ok"``, ``"note"`` or ``"wrong"``, and what was seen."""

    name: str
    verdict: str
    message: str


def examine(app: Flask, store: MongoSessionStore, config: SessionConfig) -> list[Finding]:
    """All findings, the database's last. Raises :exc:`SessionStoreUnavailable` when it cannot be asked."""
    results = [check(app) for check in (_secret_key, _secure, _http_only, _same_site)]
    results += [check(config) for check in (_encryption, _write_concern)]
    results += [_embedded(app, config)]
    results += [check(store) for check in (_server, _topology, _clock, _indexes)]
    results += [check(store, config) for check in (_expiry_index, _sweeping)]

    return [Finding(*result) for result in results]


Result = tuple[str, str, str]


def _secret_key(app: Flask) -> Result:
    key = app.secret_key
    if not key:
        return "secret key", WRONG, "SECRET_KEY is not set: there are no sessions at all."
    if len(key) < _SHORTEST_KEY:
        return "secret key", WRONG, f"SECRET_KEY is shorter than {_SHORTEST_KEY} characters: it can be guessed."

    older = len(app.config["SECRET_KEY_FALLBACKS"] or ())
    return "secret key", OK, f"set; {older} older ones are accepted"


def _secure(app: Flask) -> Result:
    if app.session_interface.get_cookie_secure(app):
        return "cookie Secure", OK, "sent over HTTPS only"

    verdict = NOTE if app.debug else WRONG
    return "cookie Secure", verdict, "SESSION_COOKIE_SECURE is off: the cookie travels over plain HTTP, too."


def _http_only(app: Flask) -> Result:
    if app.session_interface.get_cookie_httponly(app):
        return "cookie HttpOnly", OK, "kept from scripts"

    return "cookie HttpOnly", WRONG, "SESSION_COOKIE_HTTPONLY is off: any script on a page can take the session."


def _same_site(app: Flask) -> Result:
    same_site = app.session_interface.get_cookie_samesite(app)
    if same_site in ("Lax", "Strict"):
        return "cookie SameSite", OK, same_site
    if same_site is None:
        return "cookie SameSite", NOTE, 'SESSION_COOKIE_SAMESITE is not set; "Lax" keeps other sites from posting.'

    return "cookie SameSite", NOTE, f"SESSION_COOKIE_SAMESITE is {same_site!r}: other sites' pages send the cookie."


def _encryption(config: SessionConfig) -> Result:
    keys = config.encryption_keys
    return "encryption", OK, f"values are encrypted ({len(keys)} keys)" if keys else "off: values are stored readable"


def _write_concern(config: SessionConfig) -> Result:
    concern = config.mongodb_write_concern
    if concern == "majority":
        return "write concern", OK, "majority"

    return "write concern", NOTE, f"{concern!r}: log-ins and log-outs that were confirmed can be lost by a failure."


def _embedded(app: Flask, config: SessionConfig) -> Result:
    name = "embedded server"
    if not (config.mongodb_uri or "").startswith("embedded:"):
        return name, OK, "not used"
    if app.debug or app.testing:
        return name, OK, "used, for development or tests"

    return name, WRONG, "SESSION_MONGODB_URI is 'embedded:…' outside debug and testing: it is a developer's server."


def _server(store: MongoSessionStore) -> Result:
    with store.operation():
        version = store.connection.client.server_info()["version"]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        return "server", WRONG, f"MongoDB {version} is not supported; {oldest} or later is."

    return "server", OK, f"MongoDB {version}"


def _topology(store: MongoSessionStore) -> Result:
    with store.operation():
        hello = store.connection.client.admin.command("hello")
    if "setName" in hello or hello.get("msg") == "isdbgrid":
        return "topology", OK, "replica set" if "setName" in hello else "sharded cluster"

    return "topology", NOTE, "a single server: without it nobody is logged in. A replica set outlives a machine."


def _clock(store: MongoSessionStore) -> Result:
    offset = store.now() - dt.datetime.now(dt.timezone.utc)
    if abs(offset) <= _CLOCKS_MAY_DIFFER:
        return "clock", OK, "this host and the database agree"

    seconds = offset.total_seconds()
    return "clock", NOTE, f"the database is {seconds:+.0f} s off this host; sessions follow the database."


def _indexes(store: MongoSessionStore) -> Result:
    present = {tuple(index["key"].items()) for index in _existing_indexes(store)}
    wanted = [tuple(spec["fields"]) for spec in store.model.index_specs()]
    missing = [", ".join(name for name, _ in fields) for fields in wanted if fields not in present]
    if missing:
        return "indexes", WRONG, f"missing: {'; '.join(missing)}. Run 'flask sessions indexes'."

    return "indexes", OK, f"all {len(wanted)} are there"


def _expiry_index(store: MongoSessionStore, config: SessionConfig) -> Result:
    keys = [{**index} for index in _existing_indexes(store) if list(index["key"]) == ["expires_at"]]
    seconds = keys[0].get("expireAfterSeconds") if keys else None
    is_ttl = seconds is not None and seconds < NEVER_SECONDS
    if is_ttl != config.ttl_index:
        wanted = "on" if config.ttl_index else "off"
        return "TTL index", WRONG, f"SESSION_TTL_INDEX is {wanted}, the index is not. Run 'flask sessions indexes'."

    return "TTL index", OK, f"removes {seconds} s after the expiry" if is_ttl else "none"


def _existing_indexes(store: MongoSessionStore) -> list[t.Mapping[str, t.Any]]:
    with store.operation():
        return list(store.collection.list_indexes())


def _sweeping(store: MongoSessionStore, config: SessionConfig) -> Result:
    sweeper, waiting = store.sweeper, store.count_expired()
    runs = store.sweeps()
    last = f"last {runs[0]['at']:%Y-%m-%d %H:%M:%S} UTC, removed {runs[0]['count']}" if runs else "none recorded yet"
    state = f"{waiting} expired sessions wait; {last}"
    if sweeper.last_error is not None:
        return "sweeping", WRONG, f"the last sweep of process {os.getpid()} failed: {type(sweeper.last_error).__name__}"
    if not config.cleanup_interval and not config.ttl_index:
        return "sweeping", NOTE, f"no thread sweeps (SESSION_CLEANUP_INTERVAL is 0): schedule sessions-cleanup. {state}"
    if waiting > _UNSWEPT:
        return "sweeping", NOTE, f"the sweeping lags behind: {state}"

    interval = config.cleanup_interval.total_seconds()
    return "sweeping", OK, f"every {interval:g} s; {state}" if interval else f"by the server; {state}"
