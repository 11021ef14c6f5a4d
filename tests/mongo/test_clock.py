"""The database's clock on a host whose own clocks a test stops, moves and turns back."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import time

import pytest
from freezegun import freeze_time

from flask_mongo_session.mongo import clock
from flask_mongo_session.mongo.clock import DatabaseClock, database_now

MOMENTS = [None, "1970-01-01", "1999-12-31", "2387-01-01"]
CLOCKS = {"as it is": clock.boottime, "without a boot clock": lambda: time.monotonic()}  # noqa: PLW0108 - looked up anew


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the system has no such clock")
@pytest.mark.parametrize("moment", MOMENTS[1:])
def test_the_boot_clock(moment):
    """Where the system has a clock that goes on while it sleeps, it is the one that is read, and no test fakes it."""
    with freeze_time(moment):
        assert abs(clock.boottime() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5


@pytest.mark.parametrize("moments", [*itertools.permutations(MOMENTS, 3)], ids=str)
@pytest.mark.parametrize("boottime", CLOCKS.values(), ids=CLOCKS)
def test_never_anchored_to_a_faked_clock(client, monkeypatch, boottime, moments):
    """Whichever blocks it was read in before, whichever clocks of the host are faked: the time is the database's."""
    monkeypatch.setattr(clock, "boottime", boottime)
    read = DatabaseClock()

    for moment in moments:
        with freeze_time(moment) if moment else contextlib.nullcontext():
            for now in (read.known() or read.now(client), read.known(), read.now(client), read.estimate()):
                assert abs(now - database_now(client)) < dt.timedelta(seconds=5)
