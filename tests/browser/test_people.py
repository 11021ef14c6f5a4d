"""The device page and the administration as people meet them: in Chromium, with a keyboard, on a phone."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask, request, session
from flask_admin import Admin
from flask_babel import Babel
from plain_site import plain_site, seed
from selenium.webdriver.common.keys import Keys

from flask_mongo_session.contrib.admin import SessionAdmin
from flask_mongo_session.contrib.devices import devices_blueprint

if t.TYPE_CHECKING:
    from conftest import Visitor

pytestmark = pytest.mark.browser

DEVICES, LIST, OVERVIEW = "/devices/", "/admin/sessions/", "/admin/sessions/overview"


@pytest.fixture
def shop_app(mongo_server) -> t.Iterator[Flask]:
    """An application with nothing but the two pages, in place of the example's."""
    with plain_site(mongo_server, landing=DEVICES) as (app, sessions):
        Babel(app, locale_selector=lambda: request.accept_languages.best_match(["en", "de"]))
        devices = devices_blueprint(sessions, place=lambda ip: "Lisbon" if ip == "198.51.100.1" else None)
        app.register_blueprint(devices, url_prefix="/devices")
        Admin(app, name="Staff").add_view(SessionAdmin(sessions, is_allowed=lambda: session.get("user_id") == "root"))
        yield app


@pytest.fixture
def seeded(shop_app: Flask) -> list[str]:
    """Sessions of several users on several devices; the ids of Ada's."""
    return seed(shop_app, "198.51.100.{}".format, other_agent="")


def log_in(visitor: Visitor, user: str = "ada") -> Visitor:
    return visitor.open(f"/login/{user}")


def names(visitor: Visitor) -> list[str]:
    return [found.text for found in visitor.all(".device h2")]


def test_ending_the_other_device(visit: t.Callable[[], Visitor]) -> None:
    """Both devices are seen, the other one is ended, and is logged out at its next click; this one is not."""
    here, there = log_in(visit()), log_in(visit())
    here.open(DEVICES)
    assert len(names(here)) == 2
    assert here.one(".this-one .badge").text == "This device"

    here.press("Log out")
    assert "has been ended" in here.one("[role=status]").text
    assert len(names(here)) == 1
    assert "Unauthorized" in there.open(DEVICES).text
    assert len(names(here.open(DEVICES))) == 1


def test_that_was_not_me(visit: t.Callable[[], Visitor], seeded: list[str]) -> None:
    """A device from elsewhere is marked as new; saying "that was not me" logs out all but this one."""
    here, there = log_in(visit()), log_in(visit())
    here.open(DEVICES)
    assert sorted(found.text for found in here.all(".badge")) == ["New", "New", "This device"]
    assert "Lisbon (198.51.100.0/24)" in here.text

    here.press("That was not me", within="//li[contains(@class, 'new-one')]")
    assert "Please change your password now." in here.one("[role=status]").text
    assert len(names(here)) == 1
    assert "Unauthorized" in there.open(DEVICES).text


def test_it_works_without_scripts_and_with_the_keyboard(visit: t.Callable[[], Visitor], seeded: list[str]) -> None:
    """With JavaScript off, the tabulator and the enter key end all other devices."""
    visitor = visit()
    visitor.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        log_in(visitor)
        assert len(names(visitor)) == 4
        for _ in range(7):
            visitor.driver.switch_to.active_element.send_keys(Keys.TAB)
        focused = visitor.driver.switch_to.active_element
        assert focused.text == "Log out all other devices"
        focused.send_keys(Keys.ENTER)
        assert visitor.one("[role=status]").text == "All other sessions have been ended."
        assert len(names(visitor)) == 1
    finally:
        visitor.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_cookie_and_where_everything_comes_from(visitor: Visitor, seeded: list[str]) -> None:
    """The cookie is kept from scripts; nothing is loaded from another host."""
    cookie = log_in(visitor, "root").driver.get_cookie("session")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")

    for path in (DEVICES, LIST, OVERVIEW):
        visitor.open(path)
        loaded = visitor.driver.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
        assert loaded
        assert [url for url in loaded if not url.startswith(visitor.url)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_everybody(visitor: Visitor, seeded: list[str], axe: str, scheme: str) -> None:
    """At 375 pixels nothing is wider than the window; axe-core finds no serious fault. Takes the pictures."""
    visitor.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    look_at(log_in(visitor), axe, scheme, {"devices": DEVICES})
    visitor.driver.execute_cdp_cmd("Network.enable", {})
    visitor.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Accept-Language": "de"}})
    assert visitor.open(DEVICES).one("h1").text == "Ihre Geräte"
    look_at(visitor, axe, scheme, {"devices-de": DEVICES})
    visitor.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})
    visitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def look_at(visitor: Visitor, axe: str, scheme: str, pages: dict[str, str]) -> None:
    for name, path in pages.items():
        for width in (1280, 375):
            visitor.resize(width).open(path)
            assert len(visitor.all("h1")) == 1, path
            assert visitor.overflow() <= 0, f"{path} at {width}"
            visitor.picture(f"people-{name}-{scheme}-{width}")
            assert visitor.faults(axe) == [], f"{path} at {width}"
