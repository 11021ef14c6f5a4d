"""Flask-Login's own test suite, with our sessions on every application that it makes."""

import pytest

pytestmark = [pytest.mark.compat, pytest.mark.timeout(300)]


def test_flask_logins_own_suite_passes_with_our_sessions(same_with_our_sessions):
    """Log-in, log-out, fresh log-ins, remember-me cookies, session protection: as with Flask's own sessions."""
    ours = same_with_our_sessions("Flask-Login")

    assert len(ours.passed) >= 80
