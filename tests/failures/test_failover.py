"""A replica set loses its primary in every way there is: nothing that was acknowledged is lost, no log-out undone."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pymongo
import pytest
from pymongo.write_concern import WriteConcern
from waiting import eventually

pytestmark = pytest.mark.replica

log = logging.getLogger(__name__)

WRITERS = 8
LIMIT = 2.0
#: Writes into one session before it is left for another one, or logged out.
WRITES = 30


@dataclass
class Log:
    """What one writer was told."""

    kept: dict[str, set[str]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    codes: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    answered: list[float] = field(default_factory=list)
    renewed: int = 0
    logged_out: list[str] = field(default_factory=list)


class Writer(threading.Thread):
    """A visitor that logs in, writes, renews the token, logs out, and notes what was acknowledged."""

    def __init__(self, app, number, stopping):
        super().__init__(daemon=True)
        self.log = Log()
        self._app, self._number, self._stopping = app, number, stopping
        self._chance = random.Random(number)

    def run(self):
        while not self._stopping.is_set():
            self._visit()

    def _visit(self):
        browser = self._app.test_client()
        if not self._get(browser, f"/login/{self._number}"):
            return
        sid, written = sid_of(browser), {"user_id"}
        self.log.kept[sid] = written
        for number in range(WRITES):
            if self._stopping.is_set():
                return
            if self._get(browser, f"/write/k{number}/{number}"):
                written.add(f"k{number}")
            elif sid_of(browser) != sid:
                return
            if number % 10 == 5:
                self.log.renewed += self._get(browser, "/renew")
                self._check_logged_in(browser)
        if self._chance.random() < 0.5:
            self.log.kept.pop(sid)
            if self._get(browser, "/logout"):
                self.log.ended.add(sid)

    def _check_logged_in(self, browser):
        """Whoever is answered is who they were, also after a rotation whose answer stayed out."""
        response = browser.get("/read/user_id")
        if response.status_code == 200 and response.text != str(self._number):
            self.log.logged_out.append(response.text)

    def _get(self, browser, path):
        began = time.monotonic()
        response = browser.get(path)
        now = time.monotonic()
        self.log.codes[response.status_code] += 1
        self.log.slowest = max(self.log.slowest, now - began)
        if response.status_code == 200:
            self.log.answered.append(now)
        time.sleep(0.02)
        return response.status_code == 200


def sid_of(browser):
    cookie = browser.get_cookie("session")
    return cookie and cookie.value.partition(".")[0]


class Traffic:
    """Eight writers, from entering to leaving."""

    def __init__(self, app):
        self._stopping = threading.Event()
        self._app = app
        self._writers = [Writer(app, number, self._stopping) for number in range(WRITERS)]

    def __enter__(self):
        for writer in self._writers:
            writer.start()
        return self

    def __exit__(self, *error):
        self._stopping.set()
        for writer in self._writers:
            writer.join(LIMIT * 4)

    @property
    def logs(self):
        return [writer.log for writer in self._writers]

    def answers_after(self, moment):
        return [answer for log in self.logs for answer in list(log.answered) if answer > moment]

    def back_after(self, moment):
        """Seconds from *moment* until somebody was served."""
        return min(eventually(lambda: self.answers_after(moment), 10, "an answer")) - moment


def check(traffic, store):
    """Hold what was acknowledged against what is there; the figures for a report."""
    kept = {sid: keys for log in traffic.logs for sid, keys in log.kept.items()}
    found = {sid: eventually(lambda sid=sid: ask(store, sid), 20, "the store") for sid in kept}
    lost = {sid: keys - found[sid] for sid, keys in kept.items() if keys - found[sid]}
    ended = set().union(*(log.ended for log in traffic.logs))
    undone = {sid for sid in ended if store.find(sid)}
    codes = sum((log.codes for log in traffic.logs), Counter())
    slowest = max(log.slowest for log in traffic.logs)

    assert not lost
    assert not undone
    assert not [text for log in traffic.logs for text in log.logged_out]
    assert sum(log.renewed for log in traffic.logs) > 10
    assert set(codes) <= {200, 503}
    assert codes[200] > 100
    assert slowest <= LIMIT + 0.5
    return {"writes": sum(map(len, kept.values())), "log-outs": len(ended), "codes": dict(codes), "slowest": slowest}


def ask(store, sid):
    """The keys of a session, as a set that is never false when the store answered."""
    try:
        found = store.find(sid)
    except Exception:
        return None
    return {"": None, **(found.data if found else {})}.keys()


@pytest.fixture
def replica_shop(replica_set, make_shop, request):
    """An application on the replica set, by an address that asks for less than we keep."""
    uri = replica_set.uri.replace("/?", f"/failover_{abs(hash(request.node.name))}?") + "&w=1&readPreference=secondary"
    app = make_shop(uri, SESSION_MONGODB_TIMEOUT=LIMIT)
    eventually(lambda: app.test_client().get("/write/a/1").status_code == 200, 20, "the replica set")
    return app


def kill(replica_set):
    replica_set.primary().kill()


def step_down(replica_set):
    replica_set.step_down()


def force_down(replica_set):
    replica_set.step_down(force=True)


def cut_off(replica_set):
    """Nothing is replicated for three seconds, then the primary dies with what it alone knows."""
    for node in replica_set.secondaries():
        node.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
    primary = replica_set.primary()
    time.sleep(3)
    primary.kill()
    for node in replica_set.nodes:
        if node is not primary:
            node.command("configureFailPoint", "stopReplProducer", mode="off")


def hang(replica_set):
    """The primary stops in its tracks, with all connections open."""
    replica_set.primary().pause()


def restart_all(replica_set):
    """Every node ends cleanly and comes back."""
    for node in replica_set.nodes:
        node.restart()


def suffer(replica_set, traffic, harm, *, calm=2.0):
    """Do harm and wait for a new primary that can confirm; seconds from then until somebody was served."""
    before = replica_set.primary()
    harm(replica_set)
    began = time.monotonic()
    eventually(lambda: new_primary(replica_set, before, harm), 30, "a new primary")
    with replica_set.client() as driver:
        elected = eventually(lambda: majority_write(driver), 90, "a majority")
    back = traffic.back_after(elected)
    log.info("%s: elected after %.2f s, served %.2f s later", harm.__name__, elected - began, back)
    time.sleep(calm)
    return back


def new_primary(replica_set, before, harm):
    """Whether another primary is seen (any at all, after a restart of all)."""
    primary = replica_set._find_primary()
    return primary and (primary is not before or harm is restart_all)


def majority_write(driver):
    """When the driver alone had a write confirmed by a majority: a secondary may yet have to find the new primary."""
    confirmed = driver.get_database("probe", write_concern=WriteConcern("majority"))
    try:
        with pymongo.timeout(1):
            confirmed.probe.insert_one({})
    except pymongo.errors.PyMongoError:
        return None
    return time.monotonic()


@pytest.mark.soak
def test_a_primary_dies_and_another_one_steps_down(replica_set, replica_shop):
    """``kill -9`` of the primary, then an orderly change: nothing acknowledged is lost, users see 2xx or 503."""
    with Traffic(replica_shop) as traffic:
        time.sleep(1)
        back = [suffer(replica_set, traffic, kill, calm=0.5)]
        replica_set.heal()
        back.append(suffer(replica_set, traffic, step_down, calm=1))

    log.info(check(traffic, replica_shop.extensions["mongo_session"].store))
    assert max(back) <= 1


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_every_way_to_lose_a_primary(replica_set, replica_shop):
    """Killed, stepped down by force and gracefully, cut off and killed, hung for 20 s, all nodes restarted."""
    back = {}
    with Traffic(replica_shop) as traffic:
        time.sleep(2)
        for harm in (kill, step_down, force_down, cut_off):
            back[harm.__name__] = suffer(replica_set, traffic, harm)
            replica_set.heal()
        back["hang"] = suffer(replica_set, traffic, hang, calm=20)
        replica_set.heal()
        back["restart_all"] = suffer(replica_set, traffic, restart_all)
        replica_set.heal()

    log.info("%s, back after %s", check(traffic, replica_shop.extensions["mongo_session"].store), back)
    assert max(back.values()) <= 1
