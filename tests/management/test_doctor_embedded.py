"""What ``flask sessions doctor`` says of an embedded server."""

import pytest
from flask import Flask

from flask_mongo_session import MongoSession
from flask_mongo_session.embedded.server import embedded_server


@pytest.fixture
def verdict_of(tmp_path):
    """Examines an application on an embedded server, unless configured otherwise; the verdict on that server."""
    uri = f"embedded:{tmp_path / 'data'}"

    def verdict_of(**config):
        app = Flask("tests")
        app.config.update(SECRET_KEY="x", SESSION_MONGODB_URI=uri, SESSION_CLEANUP_INTERVAL=0, SESSION_AUTO_INDEX=False)
        app.config.update(config)
        findings = {finding.name: finding for finding in MongoSession(app).examine()}
        return findings["embedded server"].verdict

    yield verdict_of
    embedded_server(uri).release()


@pytest.mark.parametrize(
    ("config", "verdict"),
    [
        ({}, "wrong"),
        ({"DEBUG": True}, "ok"),
        ({"TESTING": True}, "ok"),
    ],
)
def test_an_embedded_server_is_for_developers(verdict_of, config, verdict):
    """It is wrong wherever the application is neither debugged nor tested."""
    assert verdict_of(**config) == verdict


def test_a_server_of_ones_own_is_none_of_its_business(verdict_of, mongo_server):
    """A URI of another kind is fine outside debug and testing, too."""
    assert verdict_of(SESSION_MONGODB_URI=mongo_server.uri) == "ok"
