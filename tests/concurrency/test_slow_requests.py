"""Requests that take longer than ten seconds while another tab of their browser decides who is logged in."""

from __future__ import annotations

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from interleaving import store_of

ROUNDS, SOAK_ROUNDS, REAL_ROUNDS = 15, 500, 12
#: Longer than the grace within which an overtaken request is told apart by the clock alone.
SECONDS = 11
#: Between what the other tab does.
PAUSES = [1, 4, SECONDS]

#: What slow requests do at their ends; the last ones began with a read, or with the write.
SLOW = [
    "/write/late/1?begun",
    "/count/late?begun",
    "/nested/late?begun",
    "/increment/n?begun",
    "/permanent?begun",
    "/pop/other?begun",
    "/count-late/late",
    "/write/late/1?slow",
]
COOKIES = [
    {"SESSION_PERMANENT": permanent, "SESSION_REFRESH_EACH_REQUEST": refresh}
    for permanent, refresh in itertools.product([False, True], repeat=2)
]


class Tab:
    """Another tab of a browser: whatever it does is over before it does the next thing."""

    def __init__(self, browser, chance, users, user):
        self.browser, self.chance, self.users = browser, chance, users
        #: Who is logged in by what this tab did, as text.
        self.user = user

    def log_in(self):
        self.user = self.chance.choice(self.users)
        self._get(self.chance.choice(["/login", "/login-anew", "/sign-in"]) + f"/{self.user}")

    def regenerate(self):
        self._get("/regenerate")

    def log_out_and_in(self):
        self._get(self.chance.choice(["/logout", "/logout-user"]))
        self.log_in()

    def be_revoked_and_log_in(self):
        extension = self.browser.app.extensions["sessions"]
        if self.user is not None and self.chance.random() < 0.5:
            extension.revoke_user(self.user)
        else:
            extension.revoke(self.browser.cookie.partition(".")[0])
        self.log_in()

    def _get(self, path):
        response = self.browser.get(path)
        assert response.status_code == 200, path


DEEDS = {
    "logs in": [Tab.log_in],
    "regenerates": [Tab.regenerate],
    "logs out and in again": [Tab.log_out_and_in],
    "is revoked and logs in again": [Tab.be_revoked_and_log_in],
    "does several of these": [Tab.log_in, Tab.regenerate, Tab.log_out_and_in, Tab.be_revoked_and_log_in],
}


class Round:
    """A browser, logged in or not, with slow requests under way, and what its other tab does meanwhile."""

    def __init__(self, app, browse, seed, deeds):
        self.chance = chance = random.Random(seed)
        self.browser = browser = browse(app)
        users = [f"{seed}-7", f"{seed}-8"]
        user = chance.choice([None, users[0]])
        browser.get("/write/cart/full")
        browser.get("/write/other/1")
        if user:
            browser.get(f"/login/{user}")
        self.cookie = browser.cookie
        self.tab = Tab(browser, chance, users, user)
        self.deeds = deeds if len(deeds) == 1 else chance.choices(deeds, k=chance.randint(2, 4))
        self.slow = chance.sample(SLOW, chance.randint(1, 3))
        self.nobody = browse(app)

    def request(self, path):
        return lambda: self.browser.get(path, cookie=self.cookie).status_code

    def check(self, codes):
        """Every slow request was answered, and the browser is who its other tab made it."""
        assert set(codes) <= {200}, (self.slow, codes)
        assert self.browser.cookie is not None, self.slow
        found = self.nobody.get("/whoami", cookie=self.browser.cookie).text
        assert found == str(self.tab.user), (self.slow, self.deeds)


@pytest.fixture
def apps(make_web):
    """Applications for every kind of cookie, on one database."""
    return [make_web(**cookies) for cookies in COOKIES]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(ROUNDS, id="everyday"),
        pytest.param(SOAK_ROUNDS, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(1_800)]),
    ],
)
@pytest.mark.parametrize("deeds", DEEDS.values(), ids=DEEDS)
def test_the_browser_is_who_its_last_log_in_said(*, apps, browse, interleaver, move_clock, deeds, count):
    """Slow requests began before it; what their answers bring, in the order of their ends, undoes nothing of it."""
    for seed in range(count):
        store_of(apps[0]).collection.delete_many({})
        one, passing = Round(apps[seed % len(apps)], browse, seed, deeds), Time(interleaver, move_clock)

        def other_tab(one=one, passing=passing):
            for deed in one.deeds:
                passing.let(one.chance.choice(PAUSES))
                deed(one.tab)
            passing.let(SECONDS)

        def choose(waiting, one=one, passing=passing):
            beginning = [worker for worker in waiting if worker.point == "begin" and worker.number < len(one.slow)]
            slow_enough = [worker for worker in waiting if worker.point != "view" or passing.seconds >= SECONDS]
            return beginning[0] if beginning else one.chance.choice(slow_enough)

        *codes, _ = interleaver.run([*map(one.request, one.slow), other_tab], choose)

        one.check(codes)


class Time:
    """Passes when a request is chosen that waits for it."""

    def __init__(self, interleaver, move_clock):
        self.interleaver, self.move_clock, self.seconds = interleaver, move_clock, 0

    def let(self, seconds):
        self.interleaver.stop("time")
        self.move_clock(seconds)
        self.seconds += seconds


@pytest.mark.soak
def test_in_real_time(apps, browse):
    """The same without any clock moved: a dozen browsers of each kind side by side, with requests of eleven seconds."""
    for app in apps:
        app.extensions["interleaver"] = RealTime()
    rounds = [
        Round(apps[seed % len(apps)], browse, 1_000 * kind + seed, deeds)
        for kind, deeds in enumerate(DEEDS.values())
        for seed in range(REAL_ROUNDS)
    ]

    def other_tab(one):
        for deed in one.deeds:
            threading.Event().wait(one.chance.uniform(1, 2.5))
            deed(one.tab)

    with ThreadPoolExecutor(len(rounds) * 4) as threads:
        slow = [[threads.submit(one.request(path)) for path in one.slow] for one in rounds]
        tabs = [threads.submit(other_tab, one) for one in rounds]
        for tab in tabs:
            tab.result(60)
        codes = [[request.result(60) for request in requests] for requests in slow]

    for one, answered in zip(rounds, codes, strict=True):
        one.check(answered)


class RealTime:
    """Stops a request for as long as a slow one takes."""

    def stop(self, point):
        threading.Event().wait(SECONDS)
