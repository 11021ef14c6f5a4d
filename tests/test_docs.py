"""What the documentation shows is run as it stands, and what a user can type is documented."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from bson import ObjectId
from flask import Flask
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import flask_mongo_session
from flask_mongo_session import MongoSession, MongoSessionState
from flask_mongo_session.config import SessionConfig

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted([README, *(ROOT / "docs").rglob("*.md")])


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
def application(mongo_server):
    """The application that a page takes for granted."""
    app = Flask("documented")
    app.config.update(SECRET_KEY="x", SESSION_MONGODB_URI=mongo_server.uri, SESSION_CLEANUP_INTERVAL=0)
    app.extensions["sessions"] = MongoSession(app)
    return app


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page, application, mongo_server):
    """Every Python block of every page runs, in the order of the page."""
    namespace = run_examples(
        page,
        app=application,
        sessions=application.extensions["sessions"],
        mongodb_uri=mongo_server.uri,
    )

    stop(namespace)


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
    """The check that docs/people.md shows holds against what browsers make of an address."""
    text = (ROOT / "docs" / "people.md").read_text(encoding="utf-8")
    source = text[text.index("def is_ours") : text.index('@app.route("/confirm"')]
    names = {}
    exec(source, names)  # noqa: S102
    assert (target if names["is_ours"](target) else "/") == where


def test_readme_application_works(mongo_server, tmp_path, monkeypatch):
    """The ten lines of the README keep a session in a real MongoDB, and so does the declared one."""
    monkeypatch.chdir(tmp_path)
    namespace = run_examples(README, mongodb_uri=mongo_server.uri)
    browser = namespace["app"].test_client()
    with namespace["shop"].test_client().session_transaction() as declared, pytest.raises(ValueError, match="theme"):
        declared["theme"] = "purple"

    assert browser.get("/put").text == "ok"
    assert browser.get("/get").text == "Hello from a session!"
    assert namespace["shop"].test_client().get(f"/carts-with/{ObjectId()}").json == {"sessions": 0}
    stop(namespace)


def test_config_table_is_complete():
    """The README's table names every key that is read, and no other."""
    table = README.read_text(encoding="utf-8").partition("<!-- config-table -->")[2].partition("\n\n")[0]

    assert sorted(re.findall(r"^\| `(SESSION_\w+)`", table, re.MULTILINE)) == sorted(
        f"SESSION_{field.name.upper()}" for field in fields(SessionConfig)
    )


def test_commands_are_documented():
    """Every command that the extension adds stands in the README or on a page."""
    app = Flask("documented")
    MongoSession(app)
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

    names = [name for name in app.cli.commands if name.startswith("session")]
    for name in names:
        assert f"flask {name}" in pages
    for name in app.cli.commands["sessions"].commands if "sessions" in names else ():
        assert f"flask sessions {name}" in pages


def test_signals_are_documented():
    """Every exported signal has its row in the table."""
    page = (ROOT / "docs" / "sessions.md").read_text(encoding="utf-8")

    for name in flask_mongo_session.__all__:
        if isinstance(getattr(flask_mongo_session, name), flask_mongo_session.session_created.__class__):
            assert f"| `{name}` |" in page


def test_state_is_what_the_extension_keeps(application):
    """``app.extensions["mongo_session"]`` has the store, the model and the configuration."""
    state = application.extensions["mongo_session"]

    assert isinstance(state, MongoSessionState)
    assert state.store.model is state.model
    assert isinstance(state.config, SessionConfig)
