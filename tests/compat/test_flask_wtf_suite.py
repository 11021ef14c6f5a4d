"""Flask-WTF's own test suite, with our sessions on every application that it makes."""

import pytest

pytestmark = [pytest.mark.compat, pytest.mark.timeout(300)]


def test_flask_wtfs_own_suite_passes_with_our_sessions(same_with_our_sessions):
    """The CSRF token lives in the session: made, kept, checked and refused as with Flask's own sessions."""
    ours = same_with_our_sessions("Flask-WTF")

    assert len(ours.passed) > 50
