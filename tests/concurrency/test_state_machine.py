"""Any interleaving of several clients' requests does what a plain reference does."""

from __future__ import annotations

import pytest
from machine import run


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(40, id="everyday"),
        pytest.param(300, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
    ],
)
def test_overlapping_requests_do_what_the_reference_does(make_app, stopped_clock, examples):
    """Reads, cookies and what is stored: no difference, however the requests interleave."""
    run(make_app(PERMANENT_SESSION_LIFETIME=1_000), stopped_clock, examples)
