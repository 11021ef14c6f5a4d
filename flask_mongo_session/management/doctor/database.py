"""What the doctor asks the database: server, clock, indexes, sweeping, what is in the sessions."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
import typing as t

from flask import Flask
from pymongo.errors import OperationFailure

from flask_mongo_session.document import filters
from flask_mongo_session.mongo.retry import Client, hello
from flask_mongo_session.storage.indexes import NEVER_SECONDS

from .finding import NOTE, OK, WRONG, Result

if t.TYPE_CHECKING:
    from flask_mongo_session.config import SessionConfig
    from flask_mongo_session.store import MongoSessionStore

#: The oldest MongoDB that all commands used here work on.
OLDEST_SERVER = (5, 0)
_CLOCKS_MAY_DIFFER = dt.timedelta(seconds=2)
_UNSWEPT = 10_000
_HOUR, _DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
#: Sessions that are looked at for the keys that they need, and for users that nobody declared.
_SAMPLE = 1_000
_NOT_STABLE = 323  # APIStrictError
#: Servers by what they say of their protocol, the newest first.
_WIRE_VERSIONS = ((25, "8.0"), (21, "7.0"), (17, "6.0"), (13, "5.0"))
#: Keys that probably say who is logged in, and views that log somebody in.
_LIKE_A_USER = re.compile(r"(?i)_?(uid|(user|account|member|customer|profile)_?(id|name)?|login|email)")
_LIKE_A_LOG_IN = re.compile(r"(?i)log.?in|sign.?in|auth")


def examine_database(app: Flask, store: MongoSessionStore, config: SessionConfig) -> t.Iterator[Result]:
    """Each point. Raises :exc:`SessionStoreUnavailable` when the database cannot be asked."""
    for check in (_server, _topology, _clock, _indexes, _encryption, _audit):
        yield check(store)
    for check_with_config in (_expiry_index, _sweeping):
        yield check_with_config(store, config)
    yield _user_key(app, store, config)
    if migration := getattr(app.session_interface, "migration", None):
        yield _migration(migration, config)


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


def _audit(store: MongoSessionStore) -> Result:
    """Whether records of revocations, which name people, go away in time."""
    with store.operation():
        collection = store.repository.beside("audit")
        if collection.find_one() is None:
            return "audit", OK, "nothing was revoked in the time that is kept"
        expiring = any("expireAfterSeconds" in index for index in collection.list_indexes())
    if expiring:
        return "audit", OK, "who ended whose sessions: see 'flask sessions audit'"

    return "audit", NOTE, "records of revocations are never removed: run 'flask sessions indexes'"


def _user_key(app: Flask, store: MongoSessionStore, config: SessionConfig) -> Result:
    """Whether sessions of nobody hold a key that probably names somebody, in an application where people log in."""
    name, declared = "user key", " or ".join(map(repr, config.user_key)) or "none"
    if not _has_log_in(app):
        return name, OK, f"{declared}; no view looks like a log-in"

    suspects = sorted(key for key in _keys_of_nobody(store) - {*config.user_key} if _LIKE_A_USER.fullmatch(key))
    if not suspects:
        return name, OK, declared

    return (
        name,
        NOTE,
        (
            f"sessions of nobody hold session[{suspects[0]!r}]. If that says who is logged in, set "
            f"SESSION_USER_KEY = {suspects[0]!r}: without it a log-in brings no new token, and revoke_user finds none."
        ),
    )


def _migration(migration: t.Any, config: SessionConfig) -> Result:
    """Whether SESSION_MIGRATE_FROM can go: not while a visitor has nothing but an old cookie."""
    unmoved, awaited = migration.unmoved(), migration.awaited()
    seen = []
    if unmoved:
        seen.append(f"{unmoved:,} live sessions have not moved: 'flask sessions migrate' moves them.")
    if awaited:
        seen.append(f"{awaited:,} moved ones have only their old cookie: without SESSION_MIGRATE_FROM they are lost.")
    if "cookie" in config.migrate_from:
        seen.append("Sessions in cookies cannot be counted: wait for PERMANENT_SESSION_LIFETIME.")

    return "migration", NOTE, " ".join(seen) or "every visitor has a cookie of ours: SESSION_MIGRATE_FROM can go."


def _keys_of_nobody(store: MongoSessionStore) -> set[str]:
    """The names of all keys in the latest sessions of nobody, and of their records' fields; no value is fetched."""
    with store.operation():
        pipeline: list[dict[str, t.Any]] = [
            {"$match": {"user_id": None, **filters.live(store.connection.now())}},
            {"$sort": {"expires_at": -1}},
            {"$limit": _SAMPLE},
            {"$project": {"names": {"$concatArrays": [_names("$$ROOT"), _names("$data")]}}},
        ]
        return {name for found in store.collection.aggregate(pipeline) for name in found["names"]}


def _names(document: str) -> dict[str, t.Any]:
    names = {"$map": {"input": {"$objectToArray": document}, "in": "$$this.k"}}
    return {"$cond": [{"$eq": [{"$type": document}, "object"]}, names, []]}


def _has_log_in(app: Flask) -> bool:
    rules = app.url_map.iter_rules()
    return hasattr(app, "login_manager") or any(_LIKE_A_LOG_IN.search(f"{rule.endpoint} {rule.rule}") for rule in rules)
