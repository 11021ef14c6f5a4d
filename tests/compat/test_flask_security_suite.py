"""Flask-Security's own test suite, with our sessions on every application that it makes."""

import pytest

pytestmark = [pytest.mark.compat, pytest.mark.timeout(1800)]

#: Without mongomock, since nothing here runs on an imitation.
REQUIRES = (
    *("Flask-Security[babel,fsqla,common,mfa]==5.9.2", "flask-sqlalchemy-lite<1", "sqlalchemy<2.1"),
    *("sqlalchemy-utils<1", "authlib>=1.6,<2", "requests>=2,<3", "peewee>=3.17,<5", "cbor2", "zxcvbn>=4,<5"),
    "freezegun>=1.5,<2",
)
#: What touches no session: commands, databases, hashes, texts. What logs in as other modules do, and adds mails and
#: forms. And many tests run once for each kind of user database.
NO_SESSIONS = ("async", "cli", "configuration", "context_processors", "datastore", "entities", "hashing", "phone_util")
NOTHING_NEW = ("change_username", "confirmable", "passwordless", "recoverable", "registerable", "response", "templates")
ONE_DATABASE = "not mongo and not peewee and not sqla-session and not fsqlalite"
OPTIONS = (
    "-oaddopts=",  # theirs need pytest's cache
    *("-pxdist.plugin", "-n2"),
    *(f"--ignore=tests/test_{name}.py" for name in (*NO_SESSIONS, *NOTHING_NEW)),
    f"-k{ONE_DATABASE} and (not test_misc or fresh or session)",
)


@pytest.mark.soak
def test_flask_securitys_own_suite_passes_with_our_sessions(same_with_our_sessions):
    """Log-ins by every means, second factors, fresh log-ins, time that stands still: as with Flask's own sessions.

    Ours forgets form tokens at a log-in, which a dozen of these tests would notice; an application that gives its
    scripts one token for the time before and after sets the same.
    """
    ours = same_with_our_sessions(
        "Flask-Security",
        version="5.9.2",
        requires=REQUIRES,
        options=OPTIONS,
        config={"SESSION_FORGET_ON_LOGIN": []},
        shim="read_through_the_app",
        seconds=800,
    )

    assert len(ours.passed) > 300
