"""What is wrong, or not as it should be, with an application's sessions: the findings of ``flask sessions doctor``."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import typing as t

from flask import Flask
from pymongo.errors import OperationFailure

from flask_mongo_session.document import filters
from flask_mongo_session.mongo.retry import Client, hello
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
_LONG_FIRST_LIFE = dt.timedelta(days=1)
_HOUR, _DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
#: Sessions that are looked at for the keys that they need.
_SAMPLE = 1_000
_NOT_STABLE = 323  # APIStrictError
#: Servers by what they say of their protocol, the newest first.
_WIRE_VERSIONS = ((25, "8.0"), (21, "7.0"), (17, "6.0"), (13, "5.0"))


class Finding(t.NamedTuple):
    """One thing that was looked at: its name, ``"ok"``, ``"note"`` or ``"wrong"``, and what was seen."""

    name: str
    verdict: str
    message: str


def examine(app: Flask, store: MongoSessionStore, config: SessionConfig) -> list[Finding]:
    """All findings, the database's last. Raises :exc:`SessionStoreUnavailable` when it cannot be asked."""
    results = [check(app) for check in (_secret_key, _secure, _http_only, _same_site)]
    results += [_remember_me(app), _write_concern(config), _lifetimes(app, config), _embedded(app, config)]
    results += [check(store) for check in (_encryption, _server, _topology, _clock, _indexes)]
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


def _encryption(store: MongoSessionStore) -> Result:
    """Which keys of the ring live sessions still need, and whether one is missing."""
    if store.sealer is None:
        return "encryption", OK, "off: values are stored readable"

    ring, needed, unknown = store.sealer.key_ids, set(), 0
    with store.operation():
        found = store.collection.find(filters.live(store.connection.now()), {"data": True}, limit=_SAMPLE)
        for document in found:
            ids = {store.sealer.key_id_of(value) for value in _values(document)}
            needed |= ids
            unknown += not ids <= set(ring)
    if unknown:
        return "encryption", WRONG, f"{unknown} of up to {_SAMPLE:,} live sessions need a key that is not in the ring."

    if len(ring) == 1:
        return "encryption", OK, "values are encrypted (1 key)"

    old = [str(number) for number, key_id in enumerate(ring[1:], 2) if key_id in needed]
    still = f"still needed beside the first: {', '.join(old)}" if old else "only the first is needed"
    return "encryption", OK, f"values are encrypted ({len(ring)} keys; {still})"


def _values(document: t.Mapping[str, t.Any]) -> t.Iterable[t.Any]:
    data = document.get("data")
    return data.values() if isinstance(data, dict) else ()


def _remember_me(app: Flask) -> Result:
    """Whether Flask-Login's remember-me cookie is in use: it is not kept here, so nothing here can end it."""
    used = sorted(key for key in app.config if key.startswith("REMEMBER_COOKIE_"))
    if not used:
        return "remember-me cookie", OK, "no REMEMBER_COOKIE_ key is set"

    return (
        "remember-me cookie",
        NOTE,
        (f"{used[0]} is set: Flask-Login's cookie outlives every revocation; session.permanent = True does not"),
    )


def _lifetimes(app: Flask, config: SessionConfig) -> Result:
    """Whether sessions that nobody comes back to pile up."""
    idle = config.idle_timeout or app.permanent_session_lifetime
    first = min(config.anonymous_lifetime or idle, idle)
    if first <= _LONG_FIRST_LIFE:
        return "anonymous lifetime", OK, f"a session of nobody that is not used again is over after {first}"

    return (
        "anonymous lifetime",
        NOTE,
        (f"a crawler's session is kept for {first}; SESSION_ANONYMOUS_LIFETIME, an hour for example, ends it sooner"),
    )


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
        version = _version(store.connection.client)
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        return "server", WRONG, f"MongoDB {version} is not supported; {oldest} or later is."

    return "server", OK, f"MongoDB {version}"


def _version(client: Client) -> str:
    """The server's; under the strict Stable API, which does not have ``buildInfo``, the oldest that it can be."""
    try:
        return t.cast("str", client.server_info()["version"])
    except OperationFailure as error:
        if error.code != _NOT_STABLE:
            raise

    wire = hello(client)["maxWireVersion"]
    return next((version for least, version in _WIRE_VERSIONS if wire >= least), "4.4")


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
    name, sweeper, interval = "sweeping", store.sweeper, config.cleanup_interval
    waiting, runs = store.count_expired(), store.sweeps()
    last = f"last {runs[0]['at']:%Y-%m-%d %H:%M:%S} UTC, removed {runs[0]['count']}" if runs else "none recorded yet"
    state = f"{waiting} records wait; {last}"
    by_command = not interval and not config.ttl_index

    if sweeper.last_error is not None:
        return name, WRONG, f"the last sweep of process {os.getpid()} failed: {type(sweeper.last_error).__name__}"
    if by_command and not runs:
        return name, NOTE, f"no thread sweeps (SESSION_CLEANUP_INTERVAL is 0): schedule sessions-cleanup. {state}"
    if not config.ttl_index and _is_overdue(runs, interval, store.now()):
        missed = "is sessions-cleanup still scheduled?" if by_command else "does the application run?"
        return name, WRONG if by_command else NOTE, f"the next sweep is overdue: {missed} {state}"
    if waiting > _UNSWEPT:
        return name, NOTE, f"the sweeping lags behind: {state}"
    if interval:
        return name, OK, f"every {interval.total_seconds():g} s; {state}"

    return name, OK, f"by {'a command' if by_command else 'the server'}; {state}"


def _is_overdue(runs: list[dict[str, t.Any]], interval: dt.timedelta, now: dt.datetime) -> bool:
    """Whether the last sweep is more than twice as long ago as the longest pause between those before it."""
    if not runs:
        return False

    since, *pauses = (later - earlier for later, earlier in itertools.pairwise([now, *(run["at"] for run in runs)]))
    return bool(since > 2 * max(interval, _HOUR, max(pauses, default=_DAY)))
