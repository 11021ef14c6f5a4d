"""Flask's reloader starts the application anew at each change; an embedded server and its data outlive that."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from http import HTTPStatus
from http.client import HTTPConnection

import pytest
from gunicorn_server import HERE, free_port
from waiting import eventually

PROGRAM = """
import os
from flask import Flask, session
from flask_mongo_session import MongoSession

app = Flask(__name__)
app.config.update(SECRET_KEY="a secret", SESSION_MONGODB_URI="embedded:./data", SESSION_MONGODB_TIMEOUT=20)
MongoSession(app)


@app.get("/")
def count():
    session["count"] = session.get("count", 0) + 1
    return f"{os.getpid()} {session['count']}"
"""


def ask(port, cookie=None):
    """Process id, count and cookie; ``None`` where nobody answers, or a process that is ending says 503."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        try:
            connection.request("GET", "/", headers={"Cookie": cookie} if cookie else {})
            response = connection.getresponse()
        except OSError:
            return None
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        pid, count = response.read().decode().split()
        return int(pid), int(count), (response.getheader("Set-Cookie") or cookie or "").partition(";")[0]


@pytest.mark.timeout(110)
def test_a_reload_keeps_the_sessions(mongo_server, tmp_path):
    """The worker is another one, the server and the session are the same."""
    program, port = tmp_path / "reloaded.py", free_port()
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "flask", "--app", "reloaded", "run", "--debug", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE.parents[1])])}
    with (tmp_path / "log").open("wb") as log:
        flask = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            before, count, cookie = eventually(lambda: ask(port), 40, "the application")
            assert count == 1
            program.write_text(f"{PROGRAM}\n# changed\n")
            reloaded = eventually(
                lambda: (answer := ask(port, cookie)) and answer[0] != before and answer, 40, "a reload"
            )
        finally:
            flask.terminate()
            flask.wait(20)

    assert reloaded[1] > 1
    assert reloaded[2] == cookie
