"""The example application as a person meets it: in Chromium."""

from __future__ import annotations

import re
import time
import typing as t

import pytest
from flask import Flask
from selenium.webdriver.common.by import By

if t.TYPE_CHECKING:
    from conftest import Visitor

pytestmark = pytest.mark.browser

PAGES = {
    "catalogue": "/",
    "product": "/product/two-cup-teapot",
    "cart": "/cart",
    "session": "/session",
    "theme": "/theme",
    "account": "/account",
    "devices": "/account/devices/",
    "password": "/account/password",
    "confirm": "/account/confirm",
    "delete": "/account/delete",
    "error": "/no-such-page",
}
DEVICES, LIST, OVERVIEW = "/account/devices/", "/admin/sessions/", "/admin/sessions/overview"


@pytest.fixture
def staff(shop_app: Flask) -> dict[str, str]:
    """A shop that has been open for a while: e-mail and password of its member of the staff."""
    result = shop_app.test_cli_runner().invoke(args=["seed"])
    found = re.search(r"log in as (?P<email>\S+) with the password (?P<password>\S+)", result.output)
    assert found, result.output
    return found.groupdict()


def test_a_visit_from_registration_to_log_out(visitor: Visitor) -> None:
    """Register, put into the cart, see the flash, check out, log out: every step shows its result."""
    assert "Ada" in visitor.register().one("header").text
    assert visitor.flashes == ["Welcome, Ada!"]

    visitor.open("/").press("Ramen bowl").press("Put into the cart")
    assert visitor.path == "/cart"
    assert visitor.flashes == ["“Ramen bowl” is in your cart."]
    visitor.picture("light-cart-flash-1280")
    assert visitor.open("/cart").flashes == []

    visitor.press("Check out")
    assert visitor.path == "/thanks"
    assert "Ramen bowl" in visitor.text

    visitor.press("Log out", within="//header")
    assert visitor.flashes == ["You are logged out."]
    assert visitor.open("/account").path.startswith("/login")


def test_logging_in_changes_the_cookie_and_keeps_the_cart(visitor: Visitor) -> None:
    """The token from before the log-in is worth nothing afterwards; what was in the cart still is."""
    visitor.register().press("Log out", within="//header")
    visitor.open("/product/morning-mug").press("Put into the cart")
    before = visitor.driver.get_cookie("session")["value"]

    visitor.log_in()

    assert visitor.driver.get_cookie("session")["value"] != before
    assert visitor.one(".count").text.split() == ["1", "piece"]
    assert "Morning mug" in visitor.open("/cart").text


def test_the_cookie_is_kept_from_scripts_and_ends_with_the_browser(visitor: Visitor) -> None:
    """HttpOnly, SameSite=Lax, the whole site, no expiry; no script can read it."""
    cookie = visitor.register().driver.get_cookie("session")

    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert "expiry" not in cookie
    assert visitor.driver.execute_script("return document.cookie") == ""


def test_remembered_the_cookie_has_an_expiry(visitor: Visitor) -> None:
    """“Keep me logged in” makes the cookie outlive the browser, by the fourteen days that the shop promises."""
    visitor.register().press("Log out", within="//header")

    cookie = visitor.log_in(remember=True).driver.get_cookie("session")

    assert cookie["expiry"] - time.time() == pytest.approx(14 * 86400, abs=120)


def test_a_visitor_who_only_looks_gets_no_cookie(visitor: Visitor) -> None:
    """The catalogue neither creates a session nor sets a cookie."""
    visitor.open("/").open("/session")

    assert "You have none." in visitor.text
    assert visitor.driver.get_cookies() == []


def test_the_theme_is_switched_and_kept(visitor: Visitor) -> None:
    """Dark stays dark on the next page, and over a log-out."""
    visitor.register().open("/theme").press("Aa Dark")
    assert visitor.one("html").get_attribute("data-theme") == "dark"

    visitor.press("Log out", within="//header")
    assert visitor.one("html").get_attribute("data-theme") == "dark"


def test_a_bad_theme_shows_the_fields_message(visitor: Visitor) -> None:
    """A value that the form never offered comes back with what the session's field says about it."""
    visitor.open("/theme")
    visitor.driver.execute_script("document.querySelector('.swatch[value=light]').value = 'purple'")

    visitor.press("Aa Light")

    assert "must be one of" in visitor.one("[role=alert]").text
    visitor.picture("light-theme-refused-1280")
    assert visitor.one("html").get_attribute("data-theme") == "system"


def test_a_wrong_password_is_told_beside_the_field(visitor: Visitor) -> None:
    """The message belongs to the input, for the eye and for a screen reader."""
    visitor.register().press("Log out", within="//header")

    visitor.log_in(password="wrong")

    visitor.picture("light-login-refused-1280")
    entry = visitor.field("Password")
    assert entry.get_attribute("aria-invalid") == "true"
    assert visitor.one("#" + entry.get_attribute("aria-describedby")).text == "E-mail and password do not match."


def test_ending_the_other_device(visit: t.Callable[[], Visitor]) -> None:
    """Logged in at two browsers, both are seen; the other one is ended and asked to log in at its next click."""
    here, there = visit(), visit()
    here.register()
    assert there.log_in().flashes == ["Welcome back, Ada."]

    here.open("/account").press("Your devices")
    assert [found.text for found in here.all(".device h2")] == ["Chrome on Linux"] * 2
    here.press("Log out", within="//main")

    assert here.flashes == ["The session has been ended: that device is logged out."]
    assert len(here.all(".device")) == 1
    assert there.press("Ada").path.startswith("/login")
    assert here.press("Ada").path == "/account"


def test_another_password_logs_out_the_other_browser(visit: t.Callable[[], Visitor]) -> None:
    """Here one stays logged in; there the next click asks to log in, and only the new password will do."""
    here, there = visit(), visit()
    here.register()
    there.log_in()

    here.open("/account/password").fill(
        Current_password="correct horse", New_password="battery staple", New_password_again="battery staple"
    )
    here.press("Change the password", within="//main")

    assert "every other device is logged out" in here.flashes[0]
    assert here.open("/account").path == "/account"
    assert there.open("/account").path.startswith("/login")
    assert "do not match" in there.log_in().text
    assert there.log_in(password="battery staple").flashes == ["Welcome back, Ada."]


def test_staff_find_a_customer_and_end_the_session(visit: t.Callable[[], Visitor], staff: dict[str, str]) -> None:
    """List, search by the network and by the name, look at the data, end: the customer is logged out."""
    customer, robin = visit(), visit()
    handle = customer.register().open("/session").one(".facts code").text[:8]
    customer.open("/put")
    robin.log_in(**staff).press("Staff")
    assert len(robin.all("tbody tr")) == 50

    robin.fill(Search="127.0.0.0/8").press("Show")
    assert len(robin.all("tbody tr")) == 2
    row = next(row for row in robin.all("tbody tr") if row.text.startswith(handle))
    robin.press(row.find_element(By.CSS_SELECTOR, "[data-label=User] a").text)
    assert len(robin.all("tbody tr")) == 1

    robin.one("tbody td:nth-child(2) a").click()
    assert "Hello from a session!" in robin.text
    robin.press("End this session")
    assert robin.one("[role=status]").text == "1 session has been ended."
    assert customer.open("/account").path.startswith("/login")


def test_a_customer_finds_no_door_to_the_administration(visitor: Visitor) -> None:
    """No link, and a page that says so to whom knows the address."""
    visitor.register()

    assert visitor.all("a[href*='/admin']") == []
    assert visitor.open(LIST).one("h1").text == "Staff only"


def test_the_overview_draws(visitor: Visitor, staff: dict[str, str]) -> None:
    """Four pictures with bars that have a height, and nothing that the Content-Security-Policy had to stop."""
    visitor.log_in(**staff).open(OVERVIEW)
    heights = visitor.driver.execute_script(
        "return [...document.querySelectorAll('svg.chart')].map(chart =>"
        " Math.max(...[...chart.querySelectorAll('rect')].map(bar => bar.getBoundingClientRect().height)))"
    )

    assert len(heights) == 4
    assert min(heights) > 50
    assert refused_by_the_policy(visitor) == []


def test_everything_comes_from_the_shop(visitor: Visitor, staff: dict[str, str]) -> None:
    """No page loads anything from another host, or anything that its own policy refuses."""
    visitor.log_in(**staff)

    for path in ("/", "/session", DEVICES, LIST, OVERVIEW):
        visitor.open(path)
        loaded = visitor.driver.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
        assert any(url.endswith(".css") or ".css?" in url for url in loaded), path
        assert [url for url in loaded if not url.startswith(visitor.url)] == []
    assert refused_by_the_policy(visitor) == []


def test_the_shop_is_as_light_or_dark_as_the_device(visitor: Visitor) -> None:
    """Until the visitor chooses; a choice wins over the device."""
    grounds = {}
    for scheme in ("light", "dark"):
        prefer(visitor, scheme)
        grounds[scheme] = ground(visitor.open("/"))
    assert grounds["light"] != grounds["dark"]

    visitor.open("/theme").press("Aa Light")
    assert ground(visitor.open("/")) == grounds["light"]
    assert ground(visitor.open("/no/such/page")) == grounds["dark"]  # asks no session, follows the device
    prefer(visitor, "")


def test_the_header_of_a_phone_has_two_rows(visitor: Visitor, staff: dict[str, str]) -> None:
    """Brand and navigation, also for a member of the staff with something in the cart; nothing is cut off."""
    visitor.log_in(**staff).open("/product/morning-mug").press("Put into the cart")

    visitor.resize(375).open("/")
    visitor.picture("light-header-staff-375")
    rows = {round(item.rect["y"] + item.rect["height"] / 2, -1) for item in visitor.all(".top li, .brand")}
    assert len(rows) == 2
    parts = "[...document.querySelectorAll('.top a, .top button')]"
    assert visitor.driver.execute_script(f"return {parts}.filter(e => e.scrollWidth > e.clientWidth + 1).length") == 0


def test_what_everybody_visits_fits_a_phone_and_everybody(visitor: Visitor, axe: str) -> None:
    """In the dark, as the device prefers it: the catalogue, a product, and the page about nothing."""
    prefer(visitor, "dark")
    look_at(
        visitor, axe, "system-dark", {"catalogue": "/", "product": "/product/morning-mug", "error": "/no/such/page"}
    )
    prefer(visitor, "")


@pytest.mark.soak
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_fits_a_phone_and_everybody(visitor: Visitor, shop_app: Flask, axe: str, theme: str) -> None:
    """At 375 pixels nothing is wider than the window; axe-core finds no serious fault. Takes the pictures."""
    from example_app.models import ShopSession, User
    from example_app.seed import visits

    visitor.open("/theme").press(f"Aa {theme.capitalize()}")
    look_at(visitor, axe, theme, {"login": "/login", "register": "/register"})

    visitor.register(name="Ada Lovelace")
    for slug in ("two-cup-teapot", "morning-mug"):
        visitor.open(f"/product/{slug}").press("Put into the cart")
    with shop_app.app_context():
        ShopSession.objects.insert(list(visits([User.objects.get(name="Ada Lovelace")], 5)))
    look_at(visitor, axe, theme, PAGES)

    visitor.open("/cart").press("Check out")
    look_at(visitor, axe, theme, {"thanks": "/thanks"})


@pytest.mark.soak
def test_the_pages_of_the_staff_fit_a_phone_and_everybody(
    visitor: Visitor, shop_app: Flask, axe: str, staff: dict[str, str]
) -> None:
    """The same behind the counter."""
    from example_app.models import ShopSession

    with shop_app.app_context():
        telling = ShopSession.objects.live().filter(data__message__exists=True, user_id__ne=None, cart__1__exists=True)
        details = f"{LIST}session?id={telling.first().id}"

    visitor.log_in(**staff)
    look_at(visitor, axe, "light", {"staff-list": LIST, "staff-details": details, "staff-overview": OVERVIEW})


def look_at(visitor: Visitor, axe: str, theme: str, pages: dict[str, str]) -> None:
    for name, path in pages.items():
        visitor.open(path)
        assert len(visitor.all("h1")) == 1, path
        assert visitor.driver.title.endswith("Kiln Street"), path
        for width in (1280, 375):
            visitor.resize(width)
            assert visitor.overflow() <= 0, f"{path} at {width}"
            visitor.picture(f"{theme}-{name}-{width}")
            assert visitor.faults(axe) == [], f"{path} at {width}"


def prefer(visitor: Visitor, scheme: str) -> None:
    """What the device prefers; "" forgets it."""
    features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
    visitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def ground(visitor: Visitor) -> str:
    """The colour of the page."""
    return visitor.driver.execute_script("return getComputedStyle(document.body).backgroundColor")


def refused_by_the_policy(visitor: Visitor) -> list[str]:
    """What the browser's log says about the Content-Security-Policy."""
    return [entry["message"] for entry in visitor.driver.get_log("browser") if "Content Security" in entry["message"]]
