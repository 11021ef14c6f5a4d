"""Flask-Dance's own test suite, with our sessions on every application that it makes."""

import pytest

pytestmark = [pytest.mark.compat, pytest.mark.timeout(300)]

REQUIRES = (
    *("Flask-Dance[sqla,signals]==7.1.0", "oauthlib[signedtoken]", "flask-login", "freezegun"),
    *("flask-sqlalchemy>=3,<4", "flask-caching>=2,<3", "betamax<1", "responses<1", "pytest-mock>=3,<4"),
)
PLUGINS = ("-pflask_dance.fixtures.pytest", "-ppytest_mock", "-pbetamax.fixtures.pytest")


@pytest.mark.soak
def test_flask_dances_own_suite_passes_with_our_sessions(same_with_our_sessions):
    """OAuth's states, and its tokens, which are subclasses of dictionaries: kept as in Flask's own sessions."""
    ours = same_with_our_sessions("Flask-Dance", version="7.1.0", requires=REQUIRES, options=PLUGINS)

    assert len(ours.passed) >= 200
