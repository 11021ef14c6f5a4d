"""A shop that is served for real, and Chromium to visit it with."""

from __future__ import annotations

import base64
import importlib.util
import itertools
import os
import threading
import typing as t
import uuid
from pathlib import Path

import pytest
from flask import Flask
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from werkzeug.serving import make_server

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]
PATIENCE = 15
PASSWORD = "correct horse"


class Visitor:
    """One person at one browser: opens pages, fills in forms by their labels, presses what has a name."""

    def __init__(self, driver: Chrome, url: str, pictures: Path) -> None:
        self.driver = driver
        self.url = url
        self.pictures = pictures

    def open(self, path: str) -> Visitor:
        self.driver.get(self.url + path)
        return self

    @property
    def path(self) -> str:
        return self.driver.current_url.removeprefix(self.url)

    @property
    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    @property
    def flashes(self) -> list[str]:
        return [found.text for found in self.all(".flash")]

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def field(self, label: str) -> WebElement:
        found = self.driver.find_element(By.XPATH, f"//label[normalize-space()='{label}']")
        return self.one(
            "#" + str(found.get_attribute("for") or found.find_element(By.TAG_NAME, "input").get_dom_attribute("id"))
        )

    def fill(self, **fields: str) -> Visitor:
        for label, value in fields.items():
            entry = self.field(label.replace("_", " "))
            entry.clear()
            entry.send_keys(value)
        return self

    def press(self, name: str, within: str = "//body") -> Visitor:
        """Click the button or link of this name and wait for the page that it leads to."""
        left = self.one("html")
        matches = f"starts-with(normalize-space(), '{name}')"
        self.driver.find_element(By.XPATH, f"({within}//button[{matches}] | {within}//a[{matches}])[1]").click()
        WebDriverWait(self.driver, PATIENCE).until(lambda driver: driver.find_element(By.TAG_NAME, "html") != left)
        WebDriverWait(self.driver, PATIENCE).until(
            lambda driver: driver.execute_script("return document.readyState") == "complete"
        )
        return self

    def resize(self, width: int, height: int = 900) -> Visitor:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        return self

    def overflow(self) -> int:
        """How many pixels the page is wider than the window."""
        return self.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    def picture(self, name: str) -> Path:
        """A picture of the whole page, for a person to look at."""
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path = self.pictures / f"{name}.png"
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def faults(self, axe: str) -> list[str]:
        """What axe-core finds that is serious or worse: the rule, and the elements."""
        self.driver.execute_script(axe)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1]; axe.run().then(result => done(result.violations))"
        )
        return [
            f"{fault['id']}: {[node['html'][:120] for node in fault['nodes']][:5]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]

    def register(self, name: str = "Ada", email: str = "ada@example.com", password: str = PASSWORD) -> Visitor:
        self.open("/register").fill(Name=name, **{"E-mail": email}, Password=password)
        return self.press("Register", within="//main")

    def log_in(self, email: str = "ada@example.com", password: str = PASSWORD, *, remember: bool = False) -> Visitor:
        self.open("/login").fill(**{"E-mail": email}, Password=password)
        if remember:
            self.field("Keep me logged in on this device").click()
        return self.press("Log in", within="//main")


class Browsers:
    """Chromium, as often as a test needs it; starting takes seconds, so they are cleaned and used again."""

    def __init__(self, profiles: Path) -> None:
        self.profiles = profiles
        self.drivers: list[Chrome] = []

    def clean(self, number: int) -> Chrome:
        """Browser *number*, as if nobody had used it."""
        if number == len(self.drivers):
            self.drivers.append(self.launch(number))
        driver = self.drivers[number]
        driver.get("about:blank")
        for command in (
            "Network.clearBrowserCookies",
            "Network.clearBrowserCache",
            "Emulation.clearDeviceMetricsOverride",
        ):
            driver.execute_cdp_cmd(command, {})
        return driver

    def launch(self, number: int) -> Chrome:
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (*ARGUMENTS, f"--user-data-dir={self.profiles / str(number)}"):
            options.add_argument(argument)
        driver = Chrome(options=options, service=Service(str(CHROMEDRIVER)))
        driver.set_page_load_timeout(PATIENCE)
        driver.set_script_timeout(PATIENCE)
        return driver


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: the folder in ``SCREENSHOTS``, else a temporary one."""
    chosen = os.environ.get("SCREENSHOTS")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, as a package of the test requirements brings it."""
    package = importlib.util.find_spec("axe_core_python")
    assert package is not None, "pip install -r requirements-dev.txt"
    return Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def shop_app(mongo_server: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Flask]:
    """The example application on a database of its own."""
    from example_app import create_app

    monkeypatch.setenv("SHOP_INSTANCE_PATH", str(tmp_path / "instance"))
    database = f"browser_{uuid.uuid4().hex[:12]}"
    app = create_app({"SESSION_MONGODB_URI": mongo_server.uri, "SESSION_MONGODB_DB": database})
    yield app
    with app.app_context():
        store = app.extensions["mongo_session"].store
        store.stop_cleanup()
        store.collection.database.client.drop_database(database)


@pytest.fixture
def shop_url(shop_app: Flask) -> t.Iterator[str]:
    """Where the example application is served."""
    server = make_server("127.0.0.1", 0, shop_app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="shop")
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(PATIENCE)
    server.server_close()


@pytest.fixture(scope="session")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Browsers]:
    """The browsers of this run."""
    missing = [str(path) for path in (CHROMIUM, CHROMEDRIVER) if not path.exists()]
    if missing:
        reason = f"{' and '.join(missing)} not found: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)

    pool = Browsers(tmp_path_factory.mktemp("profiles"))
    yield pool
    for driver in pool.drivers:
        driver.quit()


@pytest.fixture
def visit_site(browsers: Browsers, pictures: Path) -> t.Callable[[str], Visitor]:
    """``visit_site(url)`` is a person who has never been there, each at a browser of their own."""
    numbers = itertools.count()
    return lambda url: Visitor(browsers.clean(next(numbers)), url, pictures)


@pytest.fixture
def visit(shop_url: str, visit_site: t.Callable[[str], Visitor]) -> t.Callable[[], Visitor]:
    """``visit()`` is somebody who has never been to the shop."""
    return lambda: visit_site(shop_url)


@pytest.fixture
def visitor(visit: t.Callable[[], Visitor]) -> Visitor:
    """One person who has never been here."""
    return visit()
