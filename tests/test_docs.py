"""What the documentation shows is run as it stands, and what a user can type is documented."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import mongoengine
import pytest
from bson import ObjectId
from flask import Flask
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import flask_mongo_session
from flask_mongo_session import MongoSession, MongoSessionError, MongoSessionState, Session
from flask_mongo_session.config import SessionConfig

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted([README, *DOCS.rglob("*.md")])


def text_of(page):
    return page.read_text(encoding="utf-8")


def files_of(page):
    """The files that a page tells its reader to write: Python blocks that begin with ``# name.py``, by name."""
    files = {}
    for name, source in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL):
        files[name] = f"{files.get(name, '')}\n\n{source}"
    return files


WRITTEN = [page for page in PAGES if files_of(page)]


def run_examples(path, **names):
    """Evaluate every Python block of a page, one after the other; what they leave behind."""
    document = Sybil(parsers=[PythonCodeBlockParser()], encoding="utf-8").parse(path)
    document.namespace.update(names, __name__="__main__")
    for example in document.examples():
        example.evaluate()

    return document.namespace


def stop(namespace):
    for value in namespace.values():
        if isinstance(value, Flask) and "mongo_session" in value.extensions:
            value.extensions["mongo_session"].store.stop_cleanup()


@pytest.fixture
def uri(mongo_server, mongo_database):
    """Where the examples of one page keep what they store, whatever those of others do meanwhile."""
    return mongo_server.uri.replace("/?", f"/{mongo_database.name}?")


@pytest.fixture
def application(uri):
    """The application that a page takes for granted."""
    app = Flask("documented")
    app.config.update(SECRET_KEY="x", SESSION_MONGODB_URI=uri, SESSION_CLEANUP_INTERVAL=0)
    app.extensions["sessions"] = MongoSession(app)
    return app


@pytest.mark.parametrize("page", [page for page in PAGES if page not in WRITTEN], ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_security", "ignore::DeprecationWarning:passlib")
def test_examples_run(page, application, uri):
    """Every Python block of every page runs, in the order of the page."""
    namespace = run_examples(
        page,
        app=application,
        sessions=application.extensions["sessions"],
        mongodb_uri=uri,
    )

    stop(namespace)
    mongoengine.disconnect_all()


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_written_files_pass_their_tests(page, tmp_path):
    """Whoever writes the files that the page shows, and runs pytest, sees all of its tests pass."""
    for name, source in files_of(page).items():
        (tmp_path / name).write_text(source, encoding="utf-8")

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--require-mongod"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_XDIST_TESTRUNUID", None)  # a server of its own
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{text_of(page).count('def test_')} passed" in done.stdout


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("/account?a=1", "/account?a=1"),
        *((bad, "/") for bad in ("//evil.example/", "/\\evil.example/", "/\t/evil.example/", "https://evil.example/")),
        *((bad, "/") for bad in ("/\n//evil.example", "\\\\evil.example", "javascript:alert(1)", "///evil.example")),
    ],
    ids=ascii,
)
def test_the_documented_way_back_stays_on_this_host(target, where):
    """The check that howto/people.md shows holds against what browsers make of an address."""
    text = text_of(DOCS / "howto" / "people.md")
    source = text[text.index("def is_ours") : text.index('@app.route("/confirm"')]
    names = {}
    exec(source, names)  # noqa: S102
    assert (target if names["is_ours"](target) else "/") == where


def test_readme_application_works(uri, tmp_path, monkeypatch):
    """The ten lines of the README keep a session in a real MongoDB, and so does the declared one."""
    monkeypatch.chdir(tmp_path)
    namespace = run_examples(README, mongodb_uri=uri)
    browser = namespace["app"].test_client()
    with namespace["shop"].test_client().session_transaction() as declared, pytest.raises(ValueError, match="theme"):
        declared["theme"] = "purple"

    assert browser.get("/put").text == "ok"
    assert browser.get("/get").text == "Hello from a session!"
    assert namespace["shop"].test_client().get(f"/carts-with/{ObjectId()}").json == {"sessions": 0}
    stop(namespace)


def test_links_of_the_readme_lead_somewhere():
    """Every relative link and picture of the README is there (Sphinx checks those of the other pages)."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text_of(README))

    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_config_table_is_complete():
    """The table names every key that is read, and no other."""
    table = text_of(REFERENCE / "configuration.md").partition("<!-- config-table -->")[2].partition("\n\n")[0]

    assert sorted(re.findall(r"^\| `(SESSION_\w+)`", table, re.MULTILINE)) == sorted(
        f"SESSION_{field.name.upper()}" for field in fields(SessionConfig)
    )


@pytest.fixture(scope="module")
def commands():
    """The commands that the extension adds, as they are typed after ``flask``."""
    app = Flask("documented")
    MongoSession(app)
    mine = {name: command for name, command in app.cli.commands.items() if name.startswith("session")}
    group = mine.pop("sessions").commands
    return {**mine, **{f"sessions {name}": command for name, command in group.items()}}


def test_commands_are_documented(commands):
    """Every command has its row, and the row names every option."""
    page = text_of(REFERENCE / "commands.md")

    for name, command in commands.items():
        row = re.search(rf"^\| `flask {name}( [A-Z]+)?` .*$", page, re.MULTILINE)
        assert row, name
        if name != "session_cleanup":  # the same by another name
            options = {option for parameter in command.params for option in parameter.opts if "--" in option}
            assert options == set(re.findall(r"--[\w-]+", row[0])), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shown_commands_can_be_typed(page, commands):
    """Every ``flask session…`` line of a console block parses: the command, its options and its arguments exist."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]

    assert all(line.startswith("$ ") for line in lines)
    for line in lines:
        name, _, arguments = re.sub(r"^\$ flask (--app \S+ )?", "", line).partition(" ")
        if name == "sessions":
            name, _, arguments = arguments.partition(" ")
            name = f"sessions {name}"
        if line.startswith("$ flask ") and name.startswith("session"):
            commands[name].make_context(name, shlex.split(arguments))


def test_signals_are_documented():
    """Every exported signal has its row in the table."""
    page = text_of(REFERENCE / "signals.md")

    for name in signal_names():
        assert f"| `{name}` |" in page


def signal_names():
    kind = flask_mongo_session.session_created.__class__
    return [name for name in flask_mongo_session.__all__ if isinstance(getattr(flask_mongo_session, name), kind)]


def test_errors_are_documented():
    """Every exported error has its section, which says what to do."""
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", text_of(REFERENCE / "errors.md"), re.MULTILINE | re.DOTALL))
    exported = [getattr(flask_mongo_session, name) for name in flask_mongo_session.__all__]
    errors = {kind.__name__ for kind in exported if isinstance(kind, type) and issubclass(kind, MongoSessionError)}

    assert set(sections) == errors
    assert all("*Do:*" in sections[name] for name in errors - {"MongoSessionError"})


def test_public_names_are_in_the_api():
    """Every exported name is documented from its docstring, or named where that stands elsewhere."""
    page = text_of(REFERENCE / "api.md")
    shown = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE))

    named = {*signal_names(), "current_session"}

    assert shown | named == set(flask_mongo_session.__all__)
    assert all(f"`{name}`" in page for name in named)


def test_fields_of_the_record_are_documented():
    """Every field that a stored session can have has its row."""
    rows = re.findall(r"^\| (`.*?) \|", text_of(REFERENCE / "record.md"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert {field.db_field for field in Session._fields.values()} == named


def test_state_is_what_the_extension_keeps(application):
    """``app.extensions["mongo_session"]`` has the store, the model and the configuration."""
    state = application.extensions["mongo_session"]

    assert isinstance(state, MongoSessionState)
    assert state.store.model is state.model
    assert isinstance(state.config, SessionConfig)
