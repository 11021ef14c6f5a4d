"""Run a callable periodically on a daemon thread. Knows neither MongoDB nor Flask."""

from __future__ import annotations

import atexit
import logging
import random
import threading
import time
import typing as t
import weakref

from flask_mongo_session import process

log = logging.getLogger(__name__)

#: A failing run is tried again after one interval, then two, four … of them, at most this many.
_MAX_BACK_OFF = 8
#: Runs come early by up to this part of the interval, so that many workers do not knock at once.
JITTER = 0.05
#: Seconds that :meth:`Sweeper.stop` waits for a run to notice.
_JOIN_TIMEOUT, _JOIN_AT_EXIT = 5.0, 1.0


class Sweeper:
    """Calls *target* every *interval* seconds, from :meth:`start` to :meth:`stop`, again and again if wanted.

    *target* is a bound method of an object that is held weakly: when nobody else holds the object, the thread ends.
    It is called with a :class:`threading.Event` that is set when it should return early, and returns how many things it
    removed, or ``None`` when it had no turn. An exception is logged, kept in :attr:`last_error`, and waited out.
    """

    def __init__(self, target: t.Callable[[threading.Event], int | None], interval: float) -> None:
        self.interval = interval
        #: When the last run that had its turn began (UTC seconds), how long it took, how many it removed; ``None``
        #: before.
        self.last_run: float | None = None
        self.last_seconds: float | None = None
        self.last_count: int | None = None
        #: What the last run raised; ``None`` after one that did not.
        self.last_error: Exception | None = None
        self._target = weakref.WeakMethod(target)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failures = 0
        process.register(self)
        _sweepers.add(self)

    def __repr__(self) -> str:
        """Whether it runs and what it last did."""
        state = "running" if self.running else "stopped"
        return f"<Sweeper {state} every {self.interval:g} s, last removed {self.last_count}>"

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread unless it runs, or the interval is 0."""
        if self.interval <= 0:
            return

        process.notice_fork()

        with self._lock:
            if self.running:
                return
            self._stopping = threading.Event()
            weakref.finalize(self, self._stopping.set)
            self._thread = threading.Thread(
                target=_loop, args=(weakref.ref(self), self._stopping), name="mongo-session-sweeper", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float = _JOIN_TIMEOUT) -> None:
        """End the thread and wait for it; harmless without one, and from the thread itself."""
        self._stopping.set()
        thread, self._thread = self._thread, None

        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(timeout)

    def reset_after_fork(self, *, announced: bool = False) -> None:  # noqa: ARG002 - the same either way
        """Forget the parent's thread and lock: neither exists on this side of a fork."""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = None

    def pause(self, intervals: int = 1) -> float:
        """Seconds until the next run."""
        return self.interval * intervals * (1 - random.uniform(0, JITTER))  # noqa: S311 - not a secret

    def run(self, stopping: threading.Event) -> float | None:
        """One run; the seconds until the next one, or ``None`` when there is nothing left to call."""
        target = self._target()
        if target is None:
            return None

        began, clock = time.time(), time.monotonic()
        try:
            count = target(stopping)
        except Exception as error:  # noqa: BLE001 - a sweep that failed must not end the sweeping
            return None if stopping.is_set() else self._failed(error)

        self.last_error, self._failures = None, 0
        if count is not None:
            self.last_run, self.last_count, self.last_seconds = began, count, time.monotonic() - clock

        return self.pause()

    def _failed(self, error: Exception) -> float:
        level = logging.DEBUG if self._failures else logging.WARNING
        log.log(level, "A sweep failed and will be tried again: %s", error)
        self.last_error = error
        self._failures += 1

        return self.pause(min(2 ** (self._failures - 1), _MAX_BACK_OFF))


_sweepers: weakref.WeakSet[Sweeper] = weakref.WeakSet()


def _loop(reference: weakref.ref[Sweeper], stopping: threading.Event) -> None:
    """The thread: holds nothing while it waits, so that a forgotten sweeper can be collected."""
    sweeper = reference()
    pause = sweeper.pause() if sweeper else None
    del sweeper

    while pause is not None and not stopping.wait(pause):
        sweeper = reference()
        pause = sweeper.run(stopping) if sweeper else None
        del sweeper


def _stop_all() -> None:
    """At the end of the process, before clients are closed under a sweep that would complain."""
    for sweeper in list(_sweepers):
        sweeper.stop(_JOIN_AT_EXIT)


atexit.register(_stop_all)
