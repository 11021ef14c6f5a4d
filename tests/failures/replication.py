"""A replica set whose majority confirms nothing, without any node being gone."""

from __future__ import annotations

import contextlib

import pymongo
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern
from waiting import eventually


def confirms(driver, seconds=1.0):
    """Whether a majority confirms a write."""
    confirmed = driver.get_database("probe", write_concern=WriteConcern("majority"))
    try:
        with pymongo.timeout(seconds):
            confirmed.probe.insert_one({})
    except PyMongoError:
        return False
    return True


@contextlib.contextmanager
def lagging(nodes):
    """The secondaries fetch nothing any more; the primary hears of them and stays what it is."""
    secondaries = nodes.secondaries()
    for node in secondaries:
        node.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
    with nodes.client() as driver:
        eventually(lambda: not confirms(driver, 0.3), 20, "the end of replication")
    yield
    for node in secondaries:
        node.command("configureFailPoint", "stopReplProducer", mode="off")
