"""Running something periodically: start, stop, errors, and being forgotten."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref

import pytest

from flask_mongo_session.cleanup.sweeper import Sweeper

SECONDS = 5


class Work:
    """Counts its runs; may fail, or wait until it is told to stop."""

    def __init__(self, interval=0.01):
        self.runs = 0
        self.error = None
        self.waits = False
        self.ran = threading.Event()
        self.sweeper = Sweeper(self.run, interval)

    def run(self, stopping):
        self.runs += 1
        self.ran.set()
        if self.waits:
            stopping.wait(SECONDS)
        if self.error:
            raise self.error
        return self.runs


@pytest.fixture
def work():
    """Something to run; stopped at the end."""
    work = Work()
    yield work
    work.sweeper.stop()


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_runs_again_and_again(work):
    """From start to stop it runs, and tells about the last run."""
    assert (work.sweeper.last_run, work.sweeper.last_count, work.sweeper.last_seconds) == (None, None, None)
    work.sweeper.start()
    wait_for(lambda: work.runs > 3)
    work.sweeper.stop()
    runs = work.runs

    assert work.sweeper.last_count in (runs, runs - 1)
    assert abs(time.time() - work.sweeper.last_run) < SECONDS
    assert work.sweeper.last_seconds >= 0
    time.sleep(0.05)
    assert work.runs == runs


def test_start_and_stop_are_repeatable(work):
    """Starting twice makes one thread, stopping twice is fine, and starting again works."""
    work.sweeper.stop()
    for _ in range(3):
        work.sweeper.start()
        thread = work.sweeper._thread
        work.sweeper.start()
        assert work.sweeper._thread is thread
        assert work.sweeper.running
        assert thread.daemon
        work.sweeper.stop()
        work.sweeper.stop()
        assert not thread.is_alive()
        assert not work.sweeper.running


@pytest.mark.parametrize("interval", [0, -1])
def test_no_interval(interval):
    """Without an interval there is no thread."""
    work = Work(interval)
    work.sweeper.start()

    assert not work.sweeper.running


def test_stop_interrupts_the_wait():
    """Stopping does not wait for the interval to pass."""
    work = Work(interval=3600)
    work.sweeper.start()
    began = time.monotonic()
    work.sweeper.stop()

    assert time.monotonic() - began < SECONDS / 2
    assert work.runs == 0


def test_stop_tells_a_run(work):
    """A run under way is told to return early, and waited for."""
    work.waits = True
    work.sweeper.start()
    assert work.ran.wait(SECONDS)
    began = time.monotonic()
    work.sweeper.stop()

    assert time.monotonic() - began < SECONDS / 2
    assert not work.sweeper.running


def test_a_run_may_stop_its_own_thread(work):
    """Stopping from within does not wait for itself."""
    stopped = threading.Event()
    work.run = None

    class Own:
        def run(self, stopping):
            self.sweeper.stop()
            stopped.set()

    own = Own()
    own.sweeper = Sweeper(own.run, 0.01)
    own.sweeper.start()
    assert stopped.wait(SECONDS)


def test_errors_are_survived(work, caplog):
    """A failing run is logged once for each series, kept for those who ask, and tried again."""
    work.error = OSError("no luck")
    with caplog.at_level(logging.WARNING):
        work.sweeper.start()
        wait_for(lambda: work.runs > 2)
        assert work.sweeper.last_error is work.error
        work.error = None
        wait_for(lambda: work.sweeper.last_error is None and work.sweeper.last_count)

    assert caplog.text.count("no luck") == 1


def test_failures_back_off(work):
    """Each failure in a row doubles the pause, up to eight intervals; a success ends that."""
    work.error = OSError()
    pauses = [work.sweeper.run(threading.Event()) / work.sweeper.interval for _ in range(6)]
    work.error = None

    assert pauses == pytest.approx([1, 2, 4, 8, 8, 8], rel=0.06)
    assert work.sweeper.run(threading.Event()) / work.sweeper.interval == pytest.approx(1, rel=0.06)


def test_pauses_differ(work):
    """Many workers started together do not stay together."""
    assert len({work.sweeper.run(threading.Event()) for _ in range(20)}) > 10


def test_no_turn_is_no_run():
    """A run that had no turn leaves what is told about the last one."""

    class Idle:
        def run(self, stopping):
            return None

    idle = Idle()
    sweeper = Sweeper(idle.run, 1)
    sweeper.run(threading.Event())

    assert sweeper.last_run is sweeper.last_count is None


def test_forgotten_owner_ends_the_thread():
    """When nobody else holds the object any more, the thread ends, long before its next run."""
    work = Work(interval=3600)
    work.sweeper.start()
    thread, reference = work.sweeper._thread, weakref.ref(work)
    del work
    gc.collect()

    assert reference() is None
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_repr(work):
    """Whether it runs and what it last did."""
    assert repr(work.sweeper) == "<Sweeper stopped every 0.01 s, last removed None>"
