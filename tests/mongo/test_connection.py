"""The way to the database: the driver's sessions are checked out, one operation at a time."""

from __future__ import annotations

import threading

import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure

from flask_mongo_session.exceptions import SessionStoreUnavailable


def test_operations_in_a_row_share_a_session(app, commands):
    """Starting one for each command would cost more than reusing one."""
    browser = app.test_client()
    browser.get("/write/a/1")
    browser.get("/count")
    browser.get("/logout")

    assert commands.names == ["insert", "find", "update", "update"]
    assert len({command["lsid"]["id"] for command in commands.sent}) == 1


def test_operations_at_once_share_none(connection):
    """The driver's sessions are not for several threads: whoever has one keeps it until the operation is over."""
    line, seen = threading.Barrier(8), []

    def work():
        for _ in range(50):
            with connection.operation() as session:
                line.wait(10)
                seen.append(session)
                line.wait(10)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    rounds = [seen[start : start + 8] for start in range(0, len(seen), 8)]
    assert len(rounds) == 50
    assert all(len(set(map(id, sessions))) == 8 for sessions in rounds)
    assert len(set(map(id, seen))) == 8


def test_a_nested_operation_has_one_of_its_own(connection):
    """A signal's receiver may use the store in the middle of an operation."""
    with connection.operation() as one, connection.operation() as other:
        assert one is not other


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (DuplicateKeyError("there already"), DuplicateKeyError),
        (OperationFailure("no", 13), SessionStoreUnavailable),
        (KeyError("a mistake"), KeyError),
    ],
)
def test_a_session_is_not_reused_after_an_error(connection, error, raised):
    """Nobody knows what the server still does under it; the client gets it back, which tells the server at the end."""
    used = []

    def fail():
        with connection.operation() as session:
            used.append(session)
            connection.now()
            raise error

    with pytest.raises(raised):
        fail()

    assert used[0].has_ended
    with connection.operation() as other:
        assert other is not used[0]


def test_sessions_end_with_the_process(connection):
    """Idle ones go back to their client, and come from it again."""
    with connection.operation() as session:
        pass
    connection.end_sessions()

    assert session.has_ended
    with connection.operation() as other:
        assert not other.has_ended
        assert connection.database.client.admin.command("ping", session=other)["ok"]
