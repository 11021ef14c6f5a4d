"""Mixed load while the servers of a replica set are killed, restarted, stepped down and frozen in turn.

``MIXED_LOAD_SECONDS=300`` makes it five minutes.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter

import pytest
from flask import session

pytestmark = [pytest.mark.replica, pytest.mark.soak]

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("MIXED_LOAD_SECONDS", "32"))
VISITORS, LIMIT = 6, 2.0
PAGES = ["/untouched", "/read/kept", "/write/kept/1", "/count", "/renew", "/login/7", "/leave", "/logout"]
STATIC = ["/static/style.css", "/static/style.css?v=2"]


class Visitor(threading.Thread):
    """One browser after the other, without a rest; what each page answered, and how long the slowest took."""

    def __init__(self, app, number, stopping):
        super().__init__(daemon=True)
        self.pages, self.static, self.slowest, self.errors = Counter(), Counter(), 0.0, []
        self._app, self._stopping, self._chance = app, stopping, random.Random(number)

    def run(self):
        browser = self._app.test_client()
        while not self._stopping.is_set():
            if self._chance.random() < 0.02:
                browser = self._app.test_client()
            try:
                self._visit(browser)
            except Exception as error:
                self.errors.append(repr(error))
            time.sleep(0.01)

    def _visit(self, browser):
        static = self._chance.random() < 0.25
        path, began = self._chance.choice(STATIC if static else PAGES), time.monotonic()
        with browser.get(path) as response:
            (self.static if static else self.pages)[response.status_code] += 1
        self.slowest = max(self.slowest, time.monotonic() - began)


def kill(replica_set):
    replica_set.primary().kill()


def restart(replica_set):
    replica_set.primary().restart()


def step_down(replica_set):
    replica_set.step_down()


def freeze(replica_set):
    replica_set.primary().pause()


@pytest.fixture
def shop(replica_set, make_shop, tmp_path):
    """An application with a static file, and what Flask-Login does: its session is asked for after each request."""
    (tmp_path / "style.css").write_text("body {}")
    app = make_shop(replica_set.uri.replace("/?", "/mixed_load?"), SESSION_MONGODB_TIMEOUT=LIMIT)
    app.static_folder = str(tmp_path)

    @app.after_request
    def look(response):
        session.get("kept")
        return response

    return app


@pytest.mark.timeout(int(SECONDS) + 120)
def test_mixed_load(replica_set, shop, caplog):
    """Only 200 and 503, static files always 200, each within the time limit; a dozen lines in the log, at most."""
    caplog.set_level(logging.INFO, "flask_mongo_session")
    stopping = threading.Event()
    visitors = [Visitor(shop, number, stopping) for number in range(VISITORS)]
    for visitor in visitors:
        visitor.start()

    for harm in (kill, restart, step_down, freeze):
        until = time.monotonic() + SECONDS / 4
        harm(replica_set)
        time.sleep(SECONDS / 8)
        replica_set.heal()
        time.sleep(max(until - time.monotonic(), 0))
    stopping.set()
    for visitor in visitors:
        visitor.join(LIMIT * 4)

    pages = sum((visitor.pages for visitor in visitors), Counter())
    static = sum((visitor.static for visitor in visitors), Counter())
    slowest = max(visitor.slowest for visitor in visitors)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("flask_mongo_session")]
    lines = [line for line in lines if "for development and tests" not in line]
    log.info("pages %s, static files %s, slowest %.2f s, %d lines: %s", pages, static, slowest, len(lines), lines)

    assert [error for visitor in visitors for error in visitor.errors] == []
    assert set(pages) <= {200, 503}
    assert pages[200] > 100
    assert set(static) == {200}
    assert slowest <= LIMIT + 0.75
    assert len(lines) <= 12
