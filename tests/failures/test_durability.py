"""``kill -9`` of a single server right after an acknowledgement: what was acknowledged is there afterwards."""

from __future__ import annotations

import pytest
from waiting import eventually


def is_served(browser, path):
    return browser.get(path).status_code == 200


def lose_power(server, shop, rounds, visitors):
    """Log in, kill, start again, so many times; the browsers whose log-in was lost, and those logged out again."""
    browsers, leaving = [], []
    for number in range(rounds):
        for _ in range(visitors):
            browser = shop.test_client()
            for path in ("/write/cart/book", f"/login/{number}"):  # so that the log-in is a rotation
                eventually(lambda browser=browser, path=path: is_served(browser, path), 10, "a log-in")
            browsers.append((browser, str(number)))
        leaver, _ = browsers[-1]
        cookie = leaver.get_cookie("session").value
        if number % 2:
            assert leaver.get("/logout").status_code == 200
            browsers.pop()
            leaving.append(cookie)
        server.kill()
        server.start()

    reader = shop.test_client()
    eventually(lambda: is_served(reader, "/write/a/1"), 10, "the server")
    lost = [user for browser, user in browsers if browser.get("/all").json != {"cart": "book", "user_id": user}]
    undone = []
    for cookie in leaving:
        reader.set_cookie("session", cookie)
        undone += [cookie] if reader.get("/read/user_id").text != "None" else []
    return len(browsers), lost, undone


def test_acknowledged_log_ins_survive(server, make_shop, uri):
    """Fifteen and more log-ins, three sudden ends, by an address that asks for no durability at all."""
    count, lost, undone = lose_power(server, make_shop(f"{uri}&w=1&journal=false"), rounds=3, visitors=6)

    assert count >= 15
    assert lost == []
    assert undone == []


@pytest.mark.soak
def test_each_of_fifteen_log_ins_survives(server, make_shop, uri):
    """The server is killed after each of them."""
    count, lost, undone = lose_power(server, make_shop(f"{uri}&w=1"), rounds=15, visitors=2)

    assert count >= 15
    assert lost == []
    assert undone == []
