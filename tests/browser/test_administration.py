"""The administration as the one on call meets it: in Chromium, without scripts, on a phone, in the dark."""

from __future__ import annotations

import datetime as dt
import typing as t

import pytest
from flask import Flask, session
from flask_admin import Admin
from plain_site import plain_site, seed
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from flask_mongo_session.contrib.admin import SessionAdmin

if t.TYPE_CHECKING:
    from conftest import Visitor

pytestmark = pytest.mark.browser

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
LIST, OVERVIEW, AUDIT = "/admin/sessions/", "/admin/sessions/overview", "/admin/sessions/audit"
REVOKE_ALL, DETAILS = "/admin/sessions/revoke-all", "/admin/sessions/session?id="
NAMES = {"ada": "Ada Lovelace", **{f"user-{number}": f"Customer {number}" for number in range(7)}}


@pytest.fixture
def shop_app(mongo_server) -> t.Iterator[Flask]:
    """An application with nothing but the administration, in place of the example's."""
    with plain_site(mongo_server, landing="/who") as (app, sessions):
        view = SessionAdmin(
            sessions,
            is_allowed=lambda: session.get("user_id") == "root",
            user_label=lambda ids: {user: NAMES[user] for user in ids if user in NAMES},
            find_user=lambda text: [user for user, name in NAMES.items() if text.lower() in name.lower()],
        )
        Admin(app, name="Staff").add_view(view)
        app.add_url_rule("/who", "who", lambda: str(session.get("user_id")))
        yield app


@pytest.fixture
def seeded(shop_app: Flask) -> list[str]:
    """Sessions of several users on several devices, with all indexes; the ids of Ada's."""
    shop_app.extensions["mongo_session"].store.ensure_indexes()
    return seed(shop_app, lambda number: f"198.51.{number % 3}.{number}", other_agent=CHROME)


@pytest.fixture
def without_scripts(visit: t.Callable[[], Visitor]) -> t.Iterator[Visitor]:
    """An administrator whose browser runs no script."""
    visitor = visit()
    visitor.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    yield visitor.open("/login/root")
    visitor.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.fixture
def admin(visitor: Visitor, seeded: list[str], look: str, width: int) -> t.Iterator[Visitor]:
    """An administrator whose system says "light" or "dark", in a window of this width."""
    features = [{"name": "prefers-color-scheme", "value": look}]
    visitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    yield visitor.resize(width).open("/login/root")
    visitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def press(visitor: Visitor, name: str) -> None:
    """Click a button or link and wait for the page it leads to, without a script in the page."""
    left = visitor.one("html")
    found = f"//main//*[(self::button or self::a) and starts-with(normalize-space(), '{name}')]"
    visitor.driver.find_element(By.XPATH, found).click()
    WebDriverWait(visitor.driver, 15).until(lambda driver: driver.find_elements(By.TAG_NAME, "html") != [left])


def search(visitor: Visitor, text: str) -> Visitor:
    visitor.field("Search").clear()
    visitor.field("Search").send_keys(text)
    press(visitor, "Show")
    return visitor


def column(visitor: Visitor, label: str) -> set[str]:
    return {cell.text for cell in visitor.all(f"td[data-label='{label}'] > span")}


def said(visitor: Visitor) -> str:
    return visitor.one("[role=status]").text


def in_sight(visitor: Visitor, name: str, height: int) -> bool:
    """Whether the button is on the screen before anybody scrolls."""
    box = visitor.driver.find_element(
        By.XPATH, f"//main//*[self::a or self::button][starts-with(normalize-space(), '{name}')]"
    ).rect
    return box["y"] + box["height"] <= height


@pytest.mark.parametrize("width", [1280, pytest.param(375, marks=pytest.mark.soak)])
def test_a_night_on_call(without_scripts: Visitor, seeded: list[str], width: int) -> None:
    """Search by device, network and name, end what was found, a user's, one's own, everything: without a script."""
    admin = without_scripts.resize(width).open(LIST)
    assert len(admin.all("tr.own")) == 1
    for name in ("End the chosen", "Choose all", "CSV", "End everything"):
        assert in_sight(admin, name, 900), name

    assert column(search(admin, "Safari on iPhone"), "Device") == {"Safari on iPhone"}
    assert column(search(admin, "198.51.1.0/24"), "Address") == {f"198.51.1.{number}" for number in range(1, 120, 3)}
    admin.one("td[data-label=Session] a").click()
    press(admin, "All sessions of Customer")
    assert len(column(admin, "User")) == 1

    search(admin, "lovelace")
    assert {box.get_attribute("value") for box in admin.all("tbody input")} == set(seeded)
    press(admin, "Choose all 3")
    admin.one("tbody input").click()
    press(admin, "End the chosen")
    assert said(admin) == "2 sessions have been ended."

    press(admin, "End all of Ada Lovelace")
    assert "1 session is live" in admin.text
    press(admin, "Yes, end all")
    assert said(admin) == "1 session has been ended."

    search(admin.open(LIST), "user:root")
    admin.one("tr.own input").click()
    press(admin, "End the chosen")
    assert admin.one("h1").text == "End the session that you are using?"
    press(admin, "No, go back")
    press(admin, "End everything")
    press(admin, "Yes, end all")
    assert said(admin).endswith("sessions have been ended.")
    assert len(admin.open(LIST).all("tbody tr")) == 1
    assert any(text.startswith("ended everything") for text in column(admin.open(AUDIT), "What"))


def test_orders_times_and_pages(visitor: Visitor, seeded: list[str]) -> None:
    """Sorted by activity, since and until; page by page through all of them; a list as a file."""
    admin = visitor.open("/login/root").open(LIST)
    seen = []
    for _ in range(3):
        seen += [box.get_attribute("value") for box in admin.all("tbody input")]
        if admin.all("a[rel=next]"):
            press(admin, "Next page")
    assert len(seen) == len(set(seen)) == 121

    admin.one("summary").click()
    now = dt.datetime.now(dt.timezone.utc)
    for name, hours in (("since", 4), ("until", 1)):
        moment = f"{now - dt.timedelta(hours=hours):%Y-%m-%dT%H:%M}"
        admin.driver.execute_script("arguments[0].value = arguments[1]", admin.one(f"#{name}"), moment)
    admin.field("Sorted by").send_keys("activity, oldest")
    press(admin, "Show")
    times = [cell.text for cell in admin.all("td[data-label=Active]")]
    assert times == sorted(times)
    assert 20 < len(times) < 30
    assert admin.one("#since").is_displayed()

    text = admin.driver.execute_async_script(
        "fetch(arguments[0]).then(answer => answer.text()).then(arguments[1])",
        admin.one(".downloads a").get_attribute("href"),
    )
    assert len(text.splitlines()) == len(times) + 1


@pytest.mark.parametrize(("look", "width"), [("light", 1280), ("dark", 375)])
def test_the_list_fits_and_is_read_by_everybody(admin: Visitor, axe: str, look: str, width: int) -> None:
    """In the visitor's colours, no wider than the window, a table or cards; axe-core finds no serious fault."""
    check(admin, axe, f"{look}-{width}", {"list": f"{LIST}?all=1"})

    page = admin.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(255, 255, 255)") is (look == "light")
    label = admin.driver.execute_script(
        "return getComputedStyle(document.querySelector('td[data-label=User]'), '::before').content"
    )
    assert (label == '"User"') is (width == 375)


@pytest.mark.soak
@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_every_page_fits_and_is_read_by_everybody(
    admin: Visitor, seeded: list[str], axe: str, look: str, width: int
) -> None:
    """The same for all pages. Takes the pictures."""
    pages = {
        "found": f"{LIST}?q=Safari+on+iPhone&all=1",
        "user": f"{LIST}?q=user:ada&since=2020-01-01T00:00",
        "nothing": f"{LIST}?q=nobody+and+nothing",
        "ask": REVOKE_ALL,
        "details": DETAILS + seeded[1],
        "overview": OVERVIEW,
        "unknown": DETAILS + "unknown",
    }
    check(admin, axe, f"{look}-{width}", pages)

    admin.open(f"{LIST}?q=user:ada")
    press(admin, "End all of Ada Lovelace")
    press(admin, "Yes, end all")
    look_at(admin, axe, f"ended-{look}-{width}")
    check(admin, axe, f"{look}-{width}", {"audit": AUDIT})


def check(admin: Visitor, axe: str, name: str, pages: dict[str, str]) -> None:
    for page, path in pages.items():
        admin.open(path)
        look_at(admin, axe, f"{page}-{name}")


def look_at(admin: Visitor, axe: str, name: str) -> None:
    assert len(admin.all("h1")) == 1, name
    assert admin.overflow() <= 0, name
    admin.picture(f"admin-{name}")
    assert admin.faults(axe) == [], name
