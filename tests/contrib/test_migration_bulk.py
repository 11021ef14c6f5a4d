"""``flask sessions migrate``: all at once, in batches, as often as it is killed; nobody notices."""

from __future__ import annotations

import ast
import datetime as dt
import itertools
import json
import os
import random
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from old_applications import COLLECTION, make_old, make_values, values_in

pytestmark = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning")

UTC = dt.timezone.utc
PAST = dt.datetime(2020, 1, 1, tzinfo=UTC)
HERE = Path(__file__).parent


def store(database, count, **more):
    """Sessions as Flask-Session stores them; their ids."""
    ids = [secrets.token_urlsafe(32) for _ in range(count)]
    ends = dt.datetime.now(UTC) + dt.timedelta(days=30)
    documents = (
        {
            "id": f"session:{sid}",
            "val": msgspec.msgpack.encode({"_permanent": True, "_user_id": str(number), "cart": ["book"] * 5, **more}),
            "expiration": ends,
        }
        for number, sid in enumerate(ids)
    )
    while batch := list(itertools.islice(documents, 5_000)):
        database[COLLECTION].insert_many(batch)
    return ids


def migrate(app, *arguments):
    result = app.test_cli_runner().invoke(args=["sessions", "migrate", *arguments])
    return result.exit_code, result.output


def doctor(app):
    """What the doctor says of the migration, if it does."""
    result = app.test_cli_runner().invoke(args=["sessions", "doctor", "--json"])
    return next((row["message"] for row in json.loads(result.output) if row["name"] == "migration"), None)


def test_nobody_notices(flask_session_app, new_app, restart, database, sessions):
    """Old cookies find what was moved at once, as they find what they move themselves, and end as they do."""
    app = new_app("flask-session")
    olds = [make_old(flask_session_app(), path=f"/login/{number}") for number in range(5)]
    code, output = migrate(app)
    assert f"Moving sessions of flask-session from {database.name}.{COLLECTION}\n" in output
    assert (code, "Moved 5 sessions of flask-session; skipped 0" in output) == (0, True)
    assert database[COLLECTION].count_documents({}) == 0
    assert sessions.count_documents({}) == 5

    for number, old in enumerate(olds):
        browser, stolen = restart(old, app), restart(old, app)
        assert browser.get("/user").text == str(number)
        assert values_in(browser) == {**make_values(str(number)), "_flashes": [["message", "Welcome"]]}
        assert browser.get_cookie("session").value.partition(".")[0] in {record["_id"] for record in sessions.find()}
        browser.get("/logout")
        assert stolen.get("/user").text == "nobody"


def test_flask_mongoengine(mongoengine_app, new_app, restart):
    """The same from flask-mongoengine."""
    app, old = new_app("flask-mongoengine"), make_old(mongoengine_app)

    assert "Moved 1 sessions of flask-mongoengine" in migrate(app, "--from", "flask-mongoengine")[1]
    assert restart(old, app).get("/user").text == "7"


def test_a_dry_run_only_counts(new_app, database, sessions):
    """Neither collection changes; what would be moved, skipped and refused is counted."""
    app, past = new_app("flask-session"), dt.datetime.now(UTC) - dt.timedelta(days=1)
    store(database, 5)
    ids = [document["_id"] for document in database[COLLECTION].find()]
    database[COLLECTION].update_one({"_id": ids[0]}, {"$set": {"expiration": past}})
    database[COLLECTION].update_one({"_id": ids[1]}, {"$set": {"val": b"\x80\x04garbage"}})
    database[COLLECTION].update_one({"_id": ids[2]}, {"$set": {"id": 5}})
    database[COLLECTION].insert_one({"not": "a session"})

    counted = "2 sessions of flask-session; skipped 1 (expired, empty, revoked, or moved before), refused 2."
    before = list(database[COLLECTION].find())
    dry_run = migrate(app, "--dry-run")[1]
    assert f"Counting sessions of flask-session in {database.name}.{COLLECTION}\n" in dry_run
    assert f"Would move {counted}" in dry_run
    assert list(database[COLLECTION].find()) == before
    assert sessions.count_documents({}) == 0
    assert f"Moved {counted}" in migrate(app, "--batch-size", "2")[1]
    assert "Moved 0 sessions of flask-session; skipped 1" in migrate(app)[1]
    assert sessions.count_documents({}) == 2


def test_what_a_killed_run_left_is_not_stored_twice(new_app, restart, database, sessions):
    """Inserted and not removed: the next run removes it, and a session that ended meanwhile stays ended."""
    app = new_app("flask-session")
    store(database, 3)
    documents = list(database[COLLECTION].find())
    migrate(app)
    database[COLLECTION].insert_many(documents)
    app.extensions["sessions"].revoke_user("1")

    assert "Moved 0 sessions of flask-session; skipped 3" in migrate(app)[1]
    assert database[COLLECTION].count_documents({}) == 0
    assert sorted(record["user_id"] for record in sessions.find({"ended_at": None})) == ["0", "2"]


def test_the_doctor_says_when_migration_can_end(flask_session_app, new_app, restart, database):
    """Not while sessions have not moved, nor while a moved one has nothing but its old cookie."""
    app = new_app("flask-session")
    olds = [make_old(flask_session_app(), path=f"/login/{number}") for number in range(2)]
    expired = store(database, 1)[0]
    database[COLLECTION].update_one({"id": f"session:{expired}"}, {"$set": {"expiration": PAST}})

    assert "2 live sessions have not moved" in doctor(app)
    assert "have only their old cookie" not in doctor(app)
    migrate(app)
    assert "2 moved ones have only their old cookie" in doctor(app)
    assert "have not moved" not in doctor(app)

    for old in olds:
        browser = restart(old, app)
        browser.get("/user")  # brings our cookie
        assert "moved ones have only their old cookie" in doctor(app)
        browser.get("/user")  # shows it
    assert "SESSION_MIGRATE_FROM can go" in doctor(app)


def test_the_doctor_cannot_count_cookies(make_app):
    """It says so; without migration it says nothing of it."""
    assert "cookies cannot be counted" in doctor(make_app(SESSION_MIGRATE_FROM="cookie"))
    assert doctor(make_app()) is None


def test_what_was_revoked_before_stays_revoked(new_app, database, sessions):
    """It does not come to life by being moved."""
    app = new_app("flask-session")
    store(database, 3)
    app.extensions["sessions"].revoke_user("1")

    assert "Moved 2 sessions of flask-session; skipped 1" in migrate(app)[1]
    assert sorted(record["user_id"] for record in sessions.find({"ended_at": None})) == ["0", "2"]


def test_the_same_collection(make_app, database, sessions):
    """With old and new sessions in one collection, only the old ones are moved, once."""
    app = make_app(SESSION_MIGRATE_FROM="flask-session", SESSION_MIGRATE_COLLECT="sessions")
    database[COLLECTION].rename("sessions") if store(database, 50) else None

    assert "Moved 50 sessions" in migrate(app, "--batch-size", "7")[1]
    assert sessions.count_documents({}) == sessions.count_documents({"token": {"$exists": True}}) == 50
    assert "Moved 0 sessions of flask-session; skipped 0" in migrate(app)[1]


def test_what_is_left_in_the_same_collection_can_be_removed(make_app, database, sessions):
    """The documented filter finds every session that was not moved, and none of ours."""
    page = (HERE.parent.parent / "docs" / "howto" / "migrating.md").read_text(encoding="utf-8")
    old = ast.literal_eval(re.search(r"^old = ({.*})", page, re.MULTILINE)[1])
    app = make_app(SESSION_MIGRATE_FROM="flask-session", SESSION_MIGRATE_COLLECT="sessions")
    store(database, 3)
    database[COLLECTION].rename("sessions")
    migrate(app)
    sessions.insert_one({"id": "session:x", "val": b"\x80\x04garbage", "expiration": PAST})

    assert sessions.delete_many(old).deleted_count == 1
    assert sessions.count_documents({}) == 3


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        ({}, [], "Set SESSION_MIGRATE_FROM"),
        ({"SESSION_MIGRATE_FROM": "flask-session"}, ["--from", "redis"], "allows: flask-session"),
        ({"SESSION_MIGRATE_FROM": "cookie"}, ["--from", "cookie"], "allows: none"),
    ],
)
def test_what_cannot_be_moved_at_once(make_app, config, arguments, message):
    """One line says why, and the exit code is 1."""
    code, output = migrate(make_app(**config), *arguments)

    assert (code, message in output) == (1, True)


def test_cookies_move_when_they_come(make_app):
    """There is nothing to move before."""
    assert migrate(make_app(SESSION_MIGRATE_FROM="cookie")) == (
        0,
        "Sessions in cookies move one by one, when their visitors come.\n",
    )


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_killed_and_resumed(new_app, mongo_server, database, sessions):
    """Of 100,000 sessions, after as many kill -9 as it takes, none is lost and none is there twice."""
    count = 100_000
    ids = store(database, count)
    environment = {
        **os.environ,
        "MONGODB_URI": mongo_server.uri,
        "MONGODB_DATABASE": database.name,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)]),
    }
    command = [sys.executable, "-m", "flask", "--app", "migrating_shop:create_app", "sessions", "migrate"]
    kills = 0
    while kills < 4:
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            moved = sessions.estimated_document_count()
            deadline = time.monotonic() + 60
            while sessions.estimated_document_count() == moved and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.5))
            process.kill()
        kills += 1
    assert 0 < sessions.count_documents({}) < count

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert "refused 0" in done.stdout
    assert database[COLLECTION].count_documents({}) == 0
    assert sessions.count_documents({}) == len(sessions.distinct("user_id")) == count

    app = new_app("flask-session")
    for number in random.sample(range(count), 100):
        browser = app.test_client()
        browser.set_cookie("session", ids[number])
        assert browser.get("/user").text == str(number)
