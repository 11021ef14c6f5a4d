"""Flask's own test suite, with our sessions on every application that it makes."""

import pytest

pytestmark = [pytest.mark.compat, pytest.mark.timeout(300)]


def test_flasks_own_suite_passes_with_our_sessions(same_with_our_sessions):
    """Null sessions, fallback keys, cookie flags, reference counts, resource warnings: as with Flask's own sessions."""
    ours = same_with_our_sessions("Flask")

    assert len(ours.passed) > 400
