"""Applications whose requests can be made to overlap; see interleaving.py."""

from __future__ import annotations

import pymongo
import pytest
from interleaving import Browser, Interleaver, add_views
from machine import StoppedClock

from flask_mongo_session.mongo import clock


@pytest.fixture
def interleaver():
    """Decides which request goes on."""
    return Interleaver()


@pytest.fixture
def client(mongo_server, commands, interleaver):
    """A client whose commands are recorded, and stop requests that run under :func:`interleaver`."""
    with pymongo.MongoClient(mongo_server.uri, event_listeners=[commands, interleaver]) as client:
        yield client


@pytest.fixture
def make_web(make_app, interleaver):
    """Makes applications with a view for everything that a request may do to its session."""

    def make(**config):
        return add_views(make_app(**config), interleaver)

    return make


@pytest.fixture
def web(make_web):
    """One with the default configuration."""
    return make_web()


@pytest.fixture
def browse(interleaver):
    """Makes browsers, which hold no cookie yet."""

    def browse(app, cookie=None):
        return Browser(app, interleaver, cookie)

    return browse


@pytest.fixture
def stopped_clock(monkeypatch):
    """Stops the database's clock and the boot clock; they move when they are told to."""
    stopped = StoppedClock()
    monkeypatch.setattr(clock, "boottime", stopped.boottime)
    monkeypatch.setattr(clock, "hello", stopped.hello)
    return stopped
