"""``flask sessions …``: tables for people, JSON for programs, exit codes for scripts."""

from __future__ import annotations

import datetime as dt
import json
import re
import socket

import pytest
from flask import session

from flask_mongo_session.document.filters import TOMBSTONE_LIFE
from flask_mongo_session.storage.repository import tombstone

SAFE = {"SECRET_KEY": "x" * 32, "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "Lax"}
SAFE |= {
    "SESSION_COOKIE_NAME": "__Host-session",
    "SESSION_ANONYMOUS_LIFETIME": 60 * 60,
    "SESSION_IDLE_TIMEOUT": 30 * 60,
}
SAFE |= {"SESSION_ABSOLUTE_LIFETIME": 12 * 60 * 60, "SESSION_MAX_PER_USER": 5, "SESSION_TRACK_DEVICE": "truncated"}


@pytest.fixture
def run(app):
    """Runs a command of the application; the result with its output and exit code."""
    return lambda *words, **options: app.test_cli_runner().invoke(args=["sessions", *words], **options)


@pytest.fixture
def log_in(app):
    """Logs a user in; the session's id."""

    def log_in(user):
        browser = app.test_client()
        browser.get(f"/login/{user}")
        with browser.session_transaction() as found:
            return found.sid

    return log_in


def test_list_shows_live_sessions_as_a_table(run, log_in):
    """One line each, with its id, its user and its times; of one user only when asked."""
    ada, bob = log_in("ada"), log_in("bob")

    listed = run("list")
    assert listed.exit_code == 0
    assert listed.output.splitlines()[0].split()[:2] == ["SESSION", "USER"]
    assert ada in listed.output
    assert bob in listed.output
    assert bob not in run("list", "--user", "ada").output
    limited = run("list", "--limit", "1")
    assert len(limited.output.splitlines()) == 3
    assert "--limit shows more" in limited.stderr


def test_list_for_programs(run, log_in):
    """JSON with every field, dates in ISO 8601."""
    sid = log_in("ada")

    (found,) = json.loads(run("list", "--json").output)
    assert (found["sid"], found["user_id"]) == (sid, "ada")
    assert dt.datetime.fromisoformat(found["expires_at"]).tzinfo


def test_a_hostile_user_agent_does_not_reach_the_terminal(run, log_in, sessions):
    """Control characters in what a browser sent are not printed."""
    log_in("ada")
    sessions.update_many({}, {"$set": {"user_agent": "evil\x1b[2Jagent\nline"}})

    assert "evil?[2Jagent?line" in run("list").output
    assert "\x1b" not in run("list", "--json").output


def test_show_shows_the_data(app, run, log_in):
    """All fields and keys; of an unknown id it says what to type, with exit code 1."""
    sid = log_in("ada")

    shown = run("show", sid)
    assert (shown.exit_code, "[user_id]" in shown.output, '"ada"' in shown.output) == (0, True, True)
    assert json.loads(run("show", sid, "--json").output)["data"] == {"user_id": "ada"}

    unknown = run("show", "made-up")
    assert unknown.exit_code == 1
    assert unknown.output.startswith("Error: There is no live session 'made-up'; 'flask sessions list' shows")
    assert "sessions show [OPTIONS] SESSION_ID" in unknown.output


def test_revoke_ends_one(run, log_in):
    """Once; the second time there is no such session any more."""
    sid = log_in("ada")

    assert run("revoke", sid).output == "Ended 1 session.\n"
    assert run("revoke", sid).exit_code == 1
    assert sid not in run("list").output


@pytest.mark.parametrize("beginning", ["-", "--", "-x", "-h", "--json", "--help"])
def test_an_id_may_begin_with_a_dash(store, run, beginning):
    """One in 64 does: it is an id all the same, and so is a user's."""
    sid = beginning.ljust(43, "A")
    store.commit(sid, {"user_id": f"{beginning}ada"}, store.now() + dt.timedelta(hours=1))

    assert json.loads(run("show", sid, "--json").output)["data"] == {"user_id": f"{beginning}ada"}
    assert [one["sid"] for one in json.loads(run("export-user", f"{beginning}ada").output)["sessions"]] == [sid]
    assert run("revoke", sid).output == "Ended 1 session.\n"
    assert run("revoke-user", f"{beginning}ada").output == "Ended 0 sessions.\n"
    assert run("erase-user", f"{beginning}ada", "--yes").exit_code == 0


def test_revoke_user_ends_all_but_one(run, log_in):
    """And says how many."""
    keep, bob = log_in("ada"), log_in("bob")
    log_in("ada")
    log_in("ada")

    assert run("revoke-user", "ada", "--keep", keep).output == "Ended 2 sessions.\n"
    assert [keep in run("list").output, bob in run("list").output] == [True, True]


def test_stats_counts(run, log_in):
    """Live sessions, activity, sizes; for programs with all series."""
    log_in("ada")

    lines = dict(line.rsplit("  ", 1) for line in run("stats").output.splitlines())
    assert lines[next(name for name in lines if name.startswith("live"))].strip() == "1"
    figures = json.loads(run("stats", "--json").output)
    assert (figures["live"], figures["active"]["5 minutes"]) == (1, 1)
    assert dt.datetime.fromisoformat(figures["at"]).tzinfo


def test_ended_sessions_are_none(app, run, log_in, store):
    """What they leave behind for requests in flight is neither listed, shown, exported nor counted."""
    ended, revoked = log_in("ada"), log_in("ada")
    store.delete(ended)
    run("revoke", revoked)

    assert run("list", "--json").output == run("list", "--user", "ada", "--json").output == "[]\n"
    assert [run("show", sid).exit_code for sid in (ended, revoked)] == [1, 1]
    assert json.loads(run("export-user", "ada").output)["sessions"] == []
    figures = json.loads(run("stats", "--json").output)
    assert (figures["live"], figures["expired"]) == (0, 0)
    assert run("revoke-user", "ada").output == "Ended 0 sessions.\n"


def test_stats_tells_of_the_last_sweeps(run, store):
    """What sweeping did is in the table."""
    store.lease.acquire()
    store.lease.record(7, 0.5)

    assert "7 in 0.5 s" in run("stats").output


def test_indexes_are_created(run, sessions):
    """The model's indexes are there afterwards."""
    assert run("indexes").output == "All indexes are there.\n"
    assert {"expires_at_1", "user_id_1"} <= set(sessions.index_information())


def test_export_and_erase(run, log_in):
    """All that is stored of a user, as JSON; then nothing is. Erasing asks, unless told not to."""
    sid = log_in("ada")

    exported = json.loads(run("export-user", "ada").output)
    assert [one["sid"] for one in exported["sessions"]] == [sid]
    assert run("erase-user", "ada", input="n\n").exit_code == 1
    assert "Removed 1 session" in run("erase-user", "ada", "--yes").output
    assert json.loads(run("export-user", "ada").output)["sessions"] == []


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["show", "x"],
        ["revoke", "x"],
        ["revoke-user", "x"],
        ["revoke-all", "--yes"],
        ["audit"],
        ["stats"],
        ["indexes"],
        ["export-user", "x"],
        ["erase-user", "x", "--yes"],
    ],
)
def test_an_unreachable_database_is_one_line(make_app, words):
    """Exit code 1 and one line that says so; no traceback."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"mongodb://127.0.0.1:{nobody.getsockname()[1]}/?serverSelectionTimeoutMS=300"
        app = make_app(SESSION_MONGODB=None, SESSION_MONGODB_URI=uri, SESSION_MONGODB_TIMEOUT=0.3)
        result = app.test_cli_runner().invoke(args=["sessions", *words])

    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert result.output.startswith("Error: ")


_HARDENING = ["SESSION_IDLE_TIMEOUT", "SESSION_ABSOLUTE_LIFETIME", "SESSION_MAX_PER_USER", "SESSION_ANONYMOUS_LIFETIME"]


# -- doctor -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def findings(make_app):
    """The findings about an application with this configuration, by name; and the exit code."""

    def findings(*, indexes=True, **config):
        app = make_app(**{**SAFE, **config})
        store = app.extensions["mongo_session"].store
        if indexes:
            store.ensure_indexes()
        result = app.test_cli_runner().invoke(args=["sessions", "doctor", "--json"])
        return {found["name"]: found for found in json.loads(result.output)}, result.exit_code

    return findings


def test_doctor_is_content(findings):
    """With safe cookies and all indexes nothing is wrong: exit code 0."""
    found, exit_code = findings(SESSION_CLEANUP_INTERVAL=60)

    assert exit_code == 0
    assert {name for name, one in found.items() if one["verdict"] != "ok"} == {"topology"}


@pytest.mark.parametrize(
    ("config", "name", "verdict"),
    [
        ({"SECRET_KEY": "dev"}, "secret key", "wrong"),
        ({"SECRET_KEY": None}, "secret key", "wrong"),
        ({"SESSION_COOKIE_SECURE": False}, "cookie Secure", "wrong"),
        ({"SESSION_COOKIE_HTTPONLY": False}, "cookie HttpOnly", "wrong"),
        ({"SESSION_COOKIE_SAMESITE": None}, "cookie SameSite", "note"),
        ({"SESSION_COOKIE_SAMESITE": "None"}, "cookie SameSite", "note"),
        ({"SESSION_MONGODB_WRITE_CONCERN": 1}, "write concern", "note"),
        ({"SESSION_COOKIE_NAME": "session"}, "cookie name", "note"),
        ({"SESSION_COOKIE_SECURE": False}, "cookie name", "wrong"),
        ({"SESSION_COOKIE_DOMAIN": "example.org"}, "cookie name", "wrong"),
        ({"SESSION_COOKIE_PATH": "/shop"}, "cookie name", "wrong"),
        ({"APPLICATION_ROOT": "/shop"}, "cookie name", "wrong"),
        ({"SESSION_COOKIE_NAME": "__Secure-x", "SESSION_COOKIE_DOMAIN": "example.org"}, "cookie name", "ok"),
        ({"SESSION_COOKIE_NAME": "__Secure-x", "SESSION_COOKIE_SECURE": False}, "cookie name", "wrong"),
        ({"SESSION_IDLE_TIMEOUT": None}, "idle timeout", "note"),
        ({"SESSION_ABSOLUTE_LIFETIME": None}, "absolute lifetime", "note"),
        ({"SESSION_MAX_PER_USER": None}, "sessions per user", "note"),
        ({"SESSION_TRACK_DEVICE": False}, "device", "note"),
        ({"SESSION_ANONYMOUS_LIFETIME": None, "SESSION_IDLE_TIMEOUT": None}, "anonymous lifetime", "note"),
        ({"SESSION_ANONYMOUS_LIFETIME": None, "SESSION_IDLE_TIMEOUT": 3600}, "anonymous lifetime", "ok"),
        ({"REMEMBER_COOKIE_DURATION": 60}, "remember-me cookie", "note"),
        ({"SESSION_CLEANUP_INTERVAL": 0}, "sweeping", "note"),
        ({"indexes": False}, "indexes", "wrong"),
        ({"indexes": False, "SESSION_TTL_INDEX": True}, "TTL index", "wrong"),
        ({"SESSION_TTL_INDEX": True}, "TTL index", "ok"),
    ],
)
def test_doctor_finds(findings, config, name, verdict):
    """Each of these is named; what is wrong makes the exit code 1, a note does not."""
    found, exit_code = findings(**config)

    assert found[name]["verdict"] == verdict
    assert exit_code == any(one["verdict"] == "wrong" for one in found.values())


def test_doctor_says_what_to_type(findings):
    """Whatever is not in order comes with the key to set, or the command to run."""
    found, _ = findings(indexes=False, SECRET_KEY="dev", **dict.fromkeys(_HARDENING))

    for name, one in found.items():
        assert (
            one["verdict"] == "ok"
            or name == "topology"
            or re.search(r"SESSION_\w+|flask sessions|python -c", one["message"])
        )


def test_doctor_without_a_database(make_app):
    """What needs none is said all the same; that it is away is wrong, and why."""
    app = make_app(
        **SAFE, SESSION_MONGODB=None, SESSION_MONGODB_URI="mongodb://127.0.0.1:9/", SESSION_MONGODB_TIMEOUT=0.3
    )
    result = app.test_cli_runner().invoke(args=["sessions", "doctor", "--json"])
    found = {one["name"]: one for one in json.loads(result.output)}

    assert result.exit_code == 1
    assert found["cookie name"]["verdict"] == "ok"
    assert found["database"]["verdict"] == "wrong"
    assert "mongod" in found["database"]["message"]
    assert "server" not in found


@pytest.mark.parametrize(
    ("key", "rule", "config", "verdict"),
    [
        ("uid", "/login", {}, "note"),
        ("userid", "/auth/google", {}, "note"),
        ("account_id", "/sign-in", {}, "note"),
        ("uid", "/page", {}, "ok"),
        ("uid", "/login", {"SESSION_USER_KEY": "uid"}, "ok"),
        ("cart", "/login", {}, "ok"),
        ("user_id", "/login", {}, "ok"),
        ("uid", "/login", {"SESSION_ENCRYPTION_KEYS": ["a" * 64]}, "note"),
    ],
)
def test_doctor_notices_a_user_that_nobody_declared(make_app, *, key, rule, config, verdict):
    """Where people log in, and sessions of nobody hold what looks like somebody; it says which key to set."""
    app = make_app(**SAFE, **config)
    app.add_url_rule(rule, "view", lambda: session.update({key: "xavier"}) or "")
    app.test_client().get(rule, base_url="https://localhost")
    result = app.test_cli_runner().invoke(args=["sessions", "doctor", "--json"])
    found = {one["name"]: one for one in json.loads(result.output)}

    assert found["user key"]["verdict"] == verdict
    assert (f"SESSION_USER_KEY = {key!r}" in found["user key"]["message"]) == (verdict == "note")
    assert "xavier" not in result.output


def test_doctor_misses_the_end_of_audit_records(make_app):
    """Records of revocations that nothing removes are noticed."""
    app = make_app(**SAFE)
    app.extensions["sessions"].revoke_user("ada")
    examine = app.extensions["sessions"].examine

    with app.app_context():
        assert [one.verdict for one in examine() if one.name == "audit"] == ["note"]
        app.extensions["mongo_session"].store.ensure_indexes()
        assert [one.verdict for one in examine() if one.name == "audit"] == ["ok"]


def test_doctor_is_lenient_while_debugging(findings, monkeypatch):
    """On a developer's machine there is no HTTPS."""
    monkeypatch.setenv("FLASK_DEBUG", "1")

    found, exit_code = findings(SESSION_COOKIE_SECURE=False, SESSION_COOKIE_NAME="session")
    assert (found["cookie Secure"]["verdict"], exit_code) == ("note", 0)


def test_doctor_tells_of_a_clock_that_is_off(findings, move_clock):
    """The database's clock decides; that it differs is worth knowing."""
    move_clock(90)

    found, _ = findings()
    assert found["clock"]["verdict"] == "note"
    assert "+90 s" in found["clock"]["message"]


@pytest.fixture
def swept(store, database):
    """Records sweeps at so many hours before now."""

    def swept(*hours):
        now = store.now()
        runs = [
            {"at": now - dt.timedelta(hours=ago), "count": 1, "seconds": 0.1} for ago in sorted(hours, reverse=True)
        ]
        database["sessions_lease"].update_one({"_id": "sweep"}, {"$set": {"runs": runs}}, upsert=True)

    return swept


@pytest.mark.parametrize(
    ("config", "hours", "verdict", "words"),
    [
        ({"SESSION_CLEANUP_INTERVAL": 0}, [], "note", "schedule sessions-cleanup"),
        ({"SESSION_CLEANUP_INTERVAL": 0}, [1], "ok", "by a command"),
        ({"SESSION_CLEANUP_INTERVAL": 0}, [47], "ok", "by a command"),
        ({"SESSION_CLEANUP_INTERVAL": 0}, [49], "wrong", "still scheduled?"),
        ({"SESSION_CLEANUP_INTERVAL": 0}, [2.5, 3.5, 4.5], "wrong", "still scheduled?"),
        ({"SESSION_CLEANUP_INTERVAL": 0}, [24 * 8, 24 * 15], "ok", "by a command"),
        ({"SESSION_CLEANUP_INTERVAL": 0}, [24 * 15, 24 * 22], "wrong", "still scheduled?"),
        ({"SESSION_CLEANUP_INTERVAL": 0, "SESSION_TTL_INDEX": True}, [999], "ok", "by the server"),
        ({"SESSION_CLEANUP_INTERVAL": 60}, [], "ok", "every 60 s"),
        ({"SESSION_CLEANUP_INTERVAL": 60}, [1, 1.02, 1.04], "ok", "every 60 s"),
        ({"SESSION_CLEANUP_INTERVAL": 60}, [3, 3.02, 3.04], "note", "does the application run?"),
    ],
)
def test_doctor_misses_a_sweep(findings, swept, *, config, hours, verdict, words):
    """A command that was scheduled and no longer runs is missed, by how often it used to run."""
    swept(*hours)
    found, exit_code = findings(**config)

    assert found["sweeping"]["verdict"] == verdict
    assert words in found["sweeping"]["message"]
    assert exit_code == (verdict == "wrong")


def test_doctor_counts_what_waits_for_a_sweep(findings, store, sessions):
    """Expired records and tombstones that are old enough, not those that requests in flight may still need."""
    now = store.now()
    records = [{"expires_at": now}, tombstone(now), tombstone(now - TOMBSTONE_LIFE)]
    sessions.insert_many([{"_id": str(number), **record} for number, record in enumerate(records)])

    found, _ = findings(SESSION_CLEANUP_INTERVAL=60)
    assert "2 records wait" in found["sweeping"]["message"]


def test_doctor_tells_of_a_failed_sweep(make_app):
    """What this process's sweeper last met is not kept secret."""
    app = make_app(**SAFE)
    app.extensions["mongo_session"].store.sweeper.last_error = TimeoutError("late")

    result = app.test_cli_runner().invoke(args=["sessions", "doctor"])
    assert "failed: TimeoutError" in result.output
    assert result.exit_code == 1


def test_no_token_is_ever_printed(app, run, log_in):
    """Not in tables, not in JSON."""
    tokens = []
    app.add_url_rule("/token", view_func=lambda: tokens.append(session.token) or "kept")
    browser = app.test_client()
    browser.get("/login/ada")
    browser.get("/token")
    outputs = [run("list"), run("list", "--json"), run("export-user", "ada"), run("stats", "--json")]

    assert tokens[0]
    assert not [output for output in outputs if tokens[0] in output.output]
