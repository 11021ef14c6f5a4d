"""``flask sessions-cleanup`` and its alias: what it prints, what it removes, how it fails."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import sys
import time

import pytest

from flask_mongo_session import new_session_id
from flask_mongo_session.document.filters import TOMBSTONE_LIFE
from flask_mongo_session.storage.repository import tombstone

REMOVED = re.compile(r"^Removed (\d+) expired sessions in \d+\.\d\d seconds\.$")
PROGRAM = """
from flask import Flask
from flask_mongo_session import MongoSession

app = Flask(__name__)
app.config.update(SECRET_KEY="x", SESSION_MONGODB_URI={uri!r}, SESSION_MONGODB_DB={name!r})
MongoSession(app)
"""


@pytest.fixture
def expired(store, sessions):
    """Five records that a sweep removes, one an old tombstone; two live sessions and a fresh tombstone, whose ids."""
    now = store.now()
    old = [{"expires_at": now, "data": {}}] * 4 + [tombstone(now - TOMBSTONE_LIFE)]
    sessions.insert_many([{"_id": f"old{n}", **record} for n, record in enumerate(old)])
    sessions.insert_one({"_id": "ended", **tombstone(now)})
    live = {new_session_id() for _ in range(2)}
    for sid in live:
        store.commit(sid, {}, now.replace(year=now.year + 1))
    return {*live, "ended"}


@pytest.fixture
def run(app):
    """Runs a command of the application."""
    return lambda *args: app.test_cli_runner().invoke(args=args)


def ids(sessions):
    return {document["_id"] for document in sessions.find()}


@pytest.mark.parametrize("name", ["sessions-cleanup", "session_cleanup"])
def test_cleanup(run, expired, sessions, name):
    """One line with the count and the seconds; what expired is gone, what lives stays; a second time finds nothing."""
    for count in ("5", "0"):
        result = run(name)
        assert result.exit_code == 0
        assert REMOVED.match(result.output)[1] == count

    assert ids(sessions) == expired


def test_dry_run(run, expired, sessions):
    """Says what would be removed, and removes nothing."""
    result = run("sessions-cleanup", "--dry-run")

    assert (result.exit_code, result.output) == (0, "5 expired sessions would be removed.\n")
    assert len(ids(sessions)) == 8


def test_batch_size(run, expired, sessions, commands):
    """No command removes more than a batch."""
    commands.clear()
    result = run("sessions-cleanup", "--batch-size", "2")

    assert REMOVED.match(result.output)[1] == "5"
    assert commands.names.count("delete") >= 3
    assert ids(sessions) == expired


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_wrong_batch_size(run, expired, sessions, size):
    """A batch of nothing is a mistake: exit code 2, nothing removed."""
    result = run("sessions-cleanup", "--batch-size", size)

    assert result.exit_code == 2
    assert "--batch-size" in result.output
    assert len(ids(sessions)) == 8


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_unreachable(make_app, options):
    """With nobody listening: one line, exit code 1, no traceback, within the time limit; no password is printed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    uri = f"mongodb://user:hunter2@127.0.0.1:{port}/"
    app = make_app(SESSION_MONGODB=None, SESSION_MONGODB_URI=uri, SESSION_MONGODB_TIMEOUT=0.3)
    began = time.monotonic()
    result = app.test_cli_runner().invoke(args=["sessions-cleanup", *options])

    assert time.monotonic() - began < 5
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert result.output.startswith("Error: The session store is unavailable: ")
    assert "hunter2" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_the_databases_clock_decides(run, expired, move_clock, store):
    """The command judges by the database's clock, as everything does."""
    move_clock(2 * 366 * 24 * 3600)
    assert run("sessions-cleanup", "--dry-run").output.startswith("8 ")
    assert store.all() == {}


@pytest.mark.parametrize("seconds", [0, 1, 60, 898, 902, 86_400 * 366])
def test_a_dry_run_says_what_a_run_removes(run, expired, move_clock, seconds):
    """Whatever the time: expired records, and tombstones that are 15 minutes old."""
    move_clock(seconds)
    announced = run("sessions-cleanup", "--dry-run").output.split()[0]

    assert REMOVED.match(run("sessions-cleanup").output)[1] == announced


def test_a_command_is_recorded_like_a_sweep(run, expired, store):
    """So that people see that the scheduled command runs; looking alone is no sweep."""
    run("sessions-cleanup", "--dry-run")
    assert store.sweeps() == []
    run("sessions-cleanup")
    run("sessions-cleanup")

    assert [sweep["count"] for sweep in store.sweeps()] == [0, 5]


def on_a_terminal(command, **options):
    """What the command shows to a person, and its exit code."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True, **options) as process:
        os.close(theirs)
        shown, deadline = b"", time.monotonic() + 60
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end was closed
                break
            if not part:
                break
            shown += part
        os.close(ours)
        code = process.wait(10)

    return shown.decode(), code


def test_progress_for_a_person(mongo_server, database, expired, sessions, tmp_path):
    """On a terminal a progress bar runs up to all, followed by the same line as ever."""
    (tmp_path / "shop.py").write_text(PROGRAM.format(uri=mongo_server.uri, name=database.name))
    shown, code = on_a_terminal(
        [sys.executable, "-m", "flask", "--app", "shop", "sessions-cleanup", "--batch-size", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm", "COLUMNS": "100"},
    )

    assert code == 0, shown
    assert "Removing expired sessions" in shown
    assert "100%" in shown
    assert REMOVED.match(shown.splitlines()[-1])[1] == "5"
    assert ids(sessions) == expired
