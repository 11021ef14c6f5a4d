"""The example application as a person meets it: in Chromium."""

from __future__ import annotations

import time
import typing as t

import pytest

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
    "password": "/account/password",
    "confirm": "/account/confirm",
    "delete": "/account/delete",
    "error": "/no-such-page",
}


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
    visitor.driver.execute_script("document.querySelector('.swatch').value = 'purple'")

    visitor.press("Aa Light")

    assert "must be one of" in visitor.one("[role=alert]").text
    visitor.picture("light-theme-refused-1280")
    assert visitor.one("html").get_attribute("data-theme") == "light"


def test_a_wrong_password_is_told_beside_the_field(visitor: Visitor) -> None:
    """The message belongs to the input, for the eye and for a screen reader."""
    visitor.register().press("Log out", within="//header")

    visitor.log_in(password="wrong")

    visitor.picture("light-login-refused-1280")
    entry = visitor.field("Password")
    assert entry.get_attribute("aria-invalid") == "true"
    assert visitor.one("#" + entry.get_attribute("aria-describedby")).text == "E-mail and password do not match."


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_fits_a_phone(visitor: Visitor, theme: str) -> None:
    """At 375 pixels nothing is wider than the window; each page has one heading and a title. Takes the pictures."""
    visitor.open("/theme").press(f"Aa {theme.capitalize()}")
    look_at(visitor, theme, {"login": "/login", "register": "/register"})

    visitor.register(name="Ada Lovelace")
    for slug in ("two-cup-teapot", "morning-mug"):
        visitor.open(f"/product/{slug}").press("Put into the cart")
    look_at(visitor, theme, PAGES)

    visitor.open("/cart").press("Check out")
    look_at(visitor, theme, {"thanks": "/thanks"})


def look_at(visitor: Visitor, theme: str, pages: dict[str, str]) -> None:
    for name, path in pages.items():
        visitor.open(path)
        assert len(visitor.all("h1")) == 1, path
        assert visitor.driver.title.endswith("Kiln Street"), path
        for width in (1280, 375):
            visitor.resize(width)
            assert visitor.overflow() <= 0, f"{path} at {width}"
            visitor.picture(f"{theme}-{name}-{width}")
