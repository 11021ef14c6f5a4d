"""The breaker: what is known of a database that does not answer, and said of it in the log."""

from __future__ import annotations

import logging
import threading

from pymongo.errors import PyMongoError

from flask_mongo_session.exceptions import SessionStoreUnavailable

from .clock import boottime
from .reason import reason

log = logging.getLogger(__name__)

#: Failures in a row that open the breaker, and the seconds that it then answers by itself.
BREAKER_FAILURES = 3
BREAKER_SECONDS = 0.5
#: Seconds in which a further failure still belongs to the outage that the log told of.
OUTAGE_SECONDS = 10.0


class CircuitBreaker:
    """Answers for a database that failed several times in a row, so that requests do not queue up behind it.

    Half a second later one operation may try; the others go on being refused until it is back. Times are readings of
    :func:`boottime`, which a test that stops the clock does not leave in a faked future.
    """

    def __init__(self, trial_seconds: float) -> None:
        self._trial_seconds = trial_seconds
        #: Failures in a row.
        self.failures = 0
        #: Whether the last operation went well, so that there is no reason to look for a server first.
        self.closed = False
        self._refuse_until = self._recovered = self._quiet_until = 0.0
        self._announced = False
        self._refusal: object = None
        self._lock = threading.Lock()

    @property
    def tripped(self) -> bool:
        """Whether so many operations failed in a row that further ones are refused but for a trial now and then."""
        return self.failures >= BREAKER_FAILURES

    @property
    def open(self) -> bool:
        """Whether an operation would be refused right now."""
        return self.failures >= BREAKER_FAILURES and boottime() < self._refuse_until

    def enter(self) -> None:
        """Let an operation begin, or raise :exc:`SessionStoreUnavailable` at once."""
        if self.failures < BREAKER_FAILURES:
            return

        with self._lock:
            if self.open:
                raise SessionStoreUnavailable
            self._refuse_until = boottime() + self._trial_seconds

    def succeeded(self) -> None:
        """The database answered."""
        if self.closed:
            return
        self.closed = True
        if self.failures:
            self.failures, self._recovered = 0, boottime()
            if self._announced:
                log.info("The session store answers again.")
                self._announced = False
        self._refusal = None

    def failed(self, error: BaseException, began: float) -> None:
        """The database did not answer an operation that *began* then; said in the log once for each outage.

        One that began before the database was back says nothing about now.
        """
        if began < self._recovered:
            return
        now = boottime()
        if not self.failures and now >= self._quiet_until:
            log.warning("The session store is unavailable: %s: %s", type(error).__name__, reason(error))
            self._announced, self._quiet_until = True, now + OUTAGE_SECONDS

        self.failures += 1
        self._refuse_until = now + BREAKER_SECONDS
        self.closed = False  # last: whoever succeeds at the same time finds something to tidy up

    def refused(self, error: PyMongoError) -> None:
        """The database answered that it would not; said in the log once, until something succeeds."""
        self.failures = 0
        refusal = (type(error), getattr(error, "code", None))
        if refusal != self._refusal:
            log.error("The session store refused: %s: %s", type(error).__name__, reason(error))
            self._refusal = refusal
        self.closed = False
