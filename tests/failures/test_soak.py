"""Mixed load on two gunicorn workers: no error, flat memory, and nothing in the logs that does not belong there."""

from __future__ import annotations

import http.client
import logging
import random
import threading
import time
import uuid
from collections import Counter

import pytest
from gunicorn_server import Gunicorn

log = logging.getLogger(__name__)

VISITORS = 4
MEGABYTE = 1024 * 1024


class Visitor(threading.Thread):
    """Reads, writes, counts, logs in and out; remembers each token and value that it ever held."""

    def __init__(self, gunicorn, number, until):
        super().__init__(daemon=True)
        self.codes = Counter()
        self.secrets = set()
        self.errors = []
        self._gunicorn, self._until, self._chance = gunicorn, until, random.Random(number)
        self._cookie = None

    def run(self):
        try:
            while time.monotonic() < self._until:
                self._step()
        except Exception as error:
            self.errors.append(repr(error))

    def _step(self):
        value = f"precious{uuid.uuid4().hex}"
        path = self._chance.choice(
            ["/untouched", "/read/kept", "/count", "/renew", f"/write/kept/{value}", f"/login/{value}", "/logout"]
        )
        try:
            status, _, self._cookie = self._gunicorn.get(path, self._cookie)
        except (OSError, http.client.HTTPException) as error:
            self.errors.append(repr(error))
            return
        self.codes[status] += 1
        self.secrets.add(value)
        if self._cookie:
            self.secrets.add(self._cookie.split(".")[1])


def put_under_load(gunicorn, seconds, warm_up):
    """Codes and errors, the secrets used, and by how much each worker's memory grew after the warm-up (bytes)."""
    until = time.monotonic() + seconds
    visitors = [Visitor(gunicorn, number, until) for number in range(VISITORS)]
    for visitor in visitors:
        visitor.start()
    time.sleep(warm_up)
    before = gunicorn.states()
    for visitor in visitors:
        visitor.join(seconds + 60)
    after = gunicorn.states()

    codes = sum((visitor.codes for visitor in visitors), Counter())
    errors = [error for visitor in visitors for error in visitor.errors]
    secrets = set().union(*(visitor.secrets for visitor in visitors)) - {""}
    growth = {pid: after[pid]["memory"] - before[pid]["memory"] for pid in before}
    return codes, errors, secrets, growth


def found_in(text, secrets):
    """The secrets that a log gave away."""
    return [secret for secret in secrets if secret in text]


@pytest.fixture
def gunicorn(tmp_path, uri):
    """Two workers with threads, sweeping often, telling all they have to tell."""
    config = {"SESSION_MONGODB_URI": uri, "SESSION_CLEANUP_INTERVAL": 1, "SESSION_MONGODB_TIMEOUT": 10}
    with Gunicorn(tmp_path, "gthread", 2, "--threads", "2", **config) as server:
        yield server.wait_ready()


def test_a_little_load(gunicorn):
    """Four seconds: not one error, and the log holds no token and no value."""
    codes, errors, secrets, _ = put_under_load(gunicorn, 4, warm_up=1)

    assert errors == []
    assert set(codes) == {200}
    assert len(secrets) > 20
    assert found_in(gunicorn.text(), secrets) == []


@pytest.mark.soak
@pytest.mark.timeout(200)
def test_half_a_minute_of_load(gunicorn):
    """Thirty seconds: no error, less than 3 MB more memory for each worker after the first ten, a clean log."""
    codes, errors, secrets, growth = put_under_load(gunicorn, 30, warm_up=10)
    log.info("%s, growth %s MB", codes, {pid: round(bytes_ / MEGABYTE, 2) for pid, bytes_ in growth.items()})

    assert errors == []
    assert set(codes) == {200}
    assert max(growth.values()) < 3 * MEGABYTE
    assert found_in(gunicorn.text(), secrets) == []


def test_the_log_of_failures_is_clean_too(shop, server, stored, visitor, caplog):
    """Outages, refusals, damage, values too large or of a wrong type: no token and no value is logged."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pymongo").setLevel(logging.WARNING)  # the driver's own debugging quotes commands
    browser = shop.test_client()
    secrets = [f"precious{number}" for number in range(6)]
    browser.get(f"/login/{secrets[0]}")
    token = browser.get_cookie("session").value.split(".")[1]

    stored.sessions.update_one({"user_id": secrets[0]}, {"$set": {"data.broken": {"~t": secrets[1], "v": secrets[2]}}})
    browser.get("/read/broken")
    stored.sessions.update_one({"user_id": secrets[0]}, {"$set": {"data": secrets[3]}})
    browser.get(f"/write/kept/{secrets[4]}")
    shop.extensions["mongo_session"].store.connection.breaker.succeeded()
    server.kill()
    browser.get(f"/write/kept/{secrets[5]}")
    visitor(shop).get(f"/write/kept/{secrets[5]}")
    server.start()

    assert caplog.records
    assert found_in(caplog.text, [token, *secrets]) == []
