"""The drill for a breach, with nothing but the page that describes it."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from flask import Flask, session

from flask_mongo_session import MongoSession

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "breach-drill.md"
APPLICATION = textwrap.dedent(
    """
    from flask import Flask
    from flask_mongo_session import MongoSession

    app = Flask("shop")
    app.config.from_prefixed_env()
    MongoSession(app)
    """
)


@pytest.fixture
def environment(mongo_server, database):
    """What the shop's processes have in their environment, before anything happened."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(["", *sys.path]),
        "FLASK_APP": "shop",
        "FLASK_SECRET_KEY": secrets.token_hex(),
        "FLASK_SESSION_ENCRYPTION_KEYS": json.dumps([secrets.token_hex()]),
        "FLASK_SESSION_MONGODB_URI": mongo_server.uri,
        "FLASK_SESSION_MONGODB_DB": database.name,
        "FLASK_SESSION_CLEANUP_INTERVAL": "0",
    }


@pytest.fixture
def start(environment, monkeypatch):
    """Starts a worker of the shop with the environment as it is now."""

    def start():
        for name, value in environment.items():
            if name.startswith("FLASK_"):
                monkeypatch.setenv(name, value)
        app = Flask("shop")
        app.config.from_prefixed_env()
        MongoSession(app)
        app.add_url_rule("/login/<user>", "login", lambda user: session.update(user_id=user, note="secret") or "")
        app.add_url_rule("/who", "who", lambda: f"{session.get('user_id')} {session.get('note')}")
        return app

    return start


@pytest.fixture
def steps(environment, tmp_path):
    """The page's console blocks, one after the other, each run as it stands in one shell's environment."""
    (tmp_path / "shop.py").write_text(APPLICATION)
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    def run():
        for block in blocks:
            commands = [line.removeprefix("$ ") for line in block.splitlines()]
            script = "\n".join(["set -o pipefail", *commands, "code=$?", "env -0 > environment", "exit $code"])
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert "Error" not in done.stdout + done.stderr, (block, done.stdout, done.stderr)
            told = (tmp_path / "environment").read_text().split("\0")
            environment.update(entry.split("=", 1) for entry in told if entry.startswith("FLASK_"))
            yield done.stdout

    return run()


def enter(app, user):
    browser = app.test_client()
    browser.get(f"/login/{user}")
    return browser


def who(*browsers):
    return [browser.get("/who").text for browser in browsers]


@pytest.mark.soak
def test_the_drill(start, steps):
    """Revoke all but mine, make the keys anew, see nobody else logged in, and the audit shows it."""
    app = start()
    root, ada, thief = enter(app, "root"), enter(app, "ada"), enter(app, "ada")
    assert next(steps) == "Ended 2 sessions.\n"
    assert who(root, ada, thief) == ["root secret", "None None", "None None"]

    intruder, before = enter(app, "eve"), app.secret_key
    next(steps)
    app = start()
    assert before != app.secret_key
    assert len(app.config["SESSION_ENCRYPTION_KEYS"]) == 2
    stolen = app.test_client()
    stolen.set_cookie("session", intruder.get_cookie("session").decoded_value)
    assert who(stolen) == ["None None"], "what was signed with the old key is worth nothing"

    root = enter(app, "root")
    assert next(steps) == "Ended 2 sessions.\n"  # the intruder's, and one's own under the old key
    assert who(root) == ["root secret"]

    shown = next(steps)
    sessions, audit, doctor = re.split(r"^(?=WHEN| +WHAT)", shown, flags=re.MULTILINE)
    assert [line.split()[1] for line in sessions.splitlines()[1:]] == ["root"]
    assert [line.split()[-1] for line in audit.splitlines()[1:]] == ["2", "2"]
    assert "2 keys; only the first is needed" in doctor

    assert "values are encrypted (1 key)" in next(steps)
    last = start()
    root_again = last.test_client()
    root_again.set_cookie("session", root.get_cookie("session").decoded_value)
    assert who(root_again) == ["root secret"]
    with pytest.raises(StopIteration):
        next(steps)
