"""The example application, on a real MongoDB: through its test client, and served by the command of the README."""

from __future__ import annotations

import base64
import hashlib
import http.cookiejar
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

for needed in ("flask_login", "flask_wtf", "flask_admin", "ua_parser"):
    pytest.importorskip(needed, reason="the example application needs the extra [example]")

if t.TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

ROOT = Path(__file__).parent.parent
PASSWORD = "correct horse"
TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')
PATIENCE = 60


class Customer:
    """A browser without scripts: follows redirects, fills in forms with the token that the page came with."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    @property
    def cookie(self) -> str | None:
        found = self.client.get_cookie("session")
        return found.value if found else None

    def get(self, path: str) -> TestResponse:
        return self.client.get(path, follow_redirects=True)

    def post(self, path: str, page: str | None = None, **fields: str) -> TestResponse:
        token = TOKEN.search(self.get(page or path).text)[1]
        return self.client.post(path, data={"csrf_token": token, **fields}, follow_redirects=True)

    def register(self, email: str = "ada@example.com") -> TestResponse:
        return self.post("/register", name="Ada", email=email, password=PASSWORD)

    def log_in(self, password: str = PASSWORD, **fields: str) -> TestResponse:
        return self.post("/login", email="ada@example.com", password=password, **fields)

    def log_out(self) -> TestResponse:
        return self.post("/logout", page="/account")

    def add(self, slug: str) -> TestResponse:
        return self.post(f"/cart/add/{slug}", page=f"/product/{slug}")


@pytest.fixture
def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[..., Flask]]:
    """Makes the example application, on a server and in a database of its own there."""
    from example_app import create_app

    monkeypatch.setenv("SHOP_INSTANCE_PATH", str(tmp_path / "instance"))
    stores = []

    def make(server: t.Any, **config: t.Any) -> Flask:
        database = f"shop_{uuid.uuid4().hex[:12]}"
        app = create_app({"SESSION_MONGODB_URI": server.uri, "SESSION_MONGODB_DB": database, "TESTING": True, **config})
        stores.append(app.extensions["mongo_session"].store)
        return app

    yield make
    for store in stores:
        store.stop_cleanup()


@pytest.fixture
def shop(make_shop: t.Callable[..., Flask], mongo_server: t.Any) -> t.Iterator[Flask]:
    """The example application on the server that all tests share."""
    app = make_shop(mongo_server)
    yield app
    database = app.extensions["mongo_session"].store.collection.database
    database.client.drop_database(database.name)


@pytest.fixture
def customer(shop: Flask) -> Customer:
    """Somebody who has never been here."""
    return Customer(shop.test_client())


@pytest.fixture
def staff(shop: Flask) -> Customer:
    """A member of the staff, logged in."""
    from example_app.models import User

    robin = Customer(shop.test_client())
    robin.register("robin@example.com")
    with shop.app_context():
        User.objects(email="robin@example.com").update_one(set__is_staff=True)
    return robin


def documents(shop: Flask) -> list[dict[str, t.Any]]:
    """The sessions that are alive, as MongoDB holds them."""
    return list(shop.extensions["mongo_session"].store.collection.find({"ended_at": None}))


# --- Customers


def test_registering_logs_in_and_keeps_one_readable_document(customer: Customer, shop: Flask) -> None:
    """One document, its data readable, the user mirrored, the token nowhere in it."""
    page = customer.register()

    assert "Welcome, Ada!" in page.text
    (document,) = documents(shop)
    assert document["data"]["_user_id"] == document["user_id"]
    assert customer.cookie.split(".")[1] not in repr(document)


def test_the_index_on_the_expiry_is_built(customer: Customer, shop: Flask) -> None:
    """Soon after the first use, in the background: ``expires_at``, and the declared one on ``cart``."""
    customer.register()
    collection = shop.extensions["mongo_session"].store.collection

    def indexed() -> set[str]:
        return {fields[0][0] for fields in (index["key"] for index in collection.index_information().values())}

    deadline = time.monotonic() + PATIENCE
    while not {"expires_at", "cart"} <= indexed() and time.monotonic() < deadline:
        time.sleep(0.02)

    assert {"expires_at", "cart"} <= indexed()


def test_a_second_account_with_the_same_e_mail_is_refused(customer: Customer, shop: Flask) -> None:
    """However the address is written; the message says what is wrong."""
    customer.register()
    customer.log_out()

    assert "There is an account with this e-mail already." in customer.register("  ADA@example.com ").text


def test_the_password_is_kept_as_a_hash(customer: Customer, shop: Flask) -> None:
    """Nothing in the collection of users reads like the password."""
    from example_app.models import User

    customer.register()

    with shop.app_context():
        (user,) = User.objects.as_pymongo()
    assert PASSWORD not in repr(user)
    assert user["password_hash"].startswith("scrypt:")


def test_logging_in_changes_the_token(customer: Customer, shop: Flask) -> None:
    """The cookie from before is worth nothing afterwards, and the cart comes along."""
    customer.register()
    customer.log_out()
    customer.add("morning-mug")
    before = customer.cookie

    assert "Welcome back, Ada." in customer.log_in().text

    assert customer.cookie.split(".")[1] != before.split(".")[1]
    assert "Morning mug" in customer.get("/cart").text
    stranger = Customer(shop.test_client())
    stranger.client.set_cookie("session", before)
    assert "Morning mug" not in stranger.get("/cart").text


@pytest.mark.parametrize(("email", "password"), [("ada@example.com", "wrong"), ("bob@example.com", PASSWORD)])
def test_a_wrong_log_in_tells_nothing(customer: Customer, email: str, password: str) -> None:
    """An unknown e-mail and a wrong password get the same answer."""
    customer.register()
    customer.log_out()

    page = customer.post("/login", email=email, password=password)

    assert "E-mail and password do not match." in page.text
    assert customer.get("/account").request.path == "/login"


def test_remember_me_makes_the_cookie_last(customer: Customer) -> None:
    """Ticked, the session is permanent: the cookie has an expiry. Otherwise it ends with the browser."""
    customer.register()
    assert customer.client.get_cookie("session").expires is None
    customer.log_out()

    customer.log_in(remember="y")

    assert customer.client.get_cookie("session").expires is not None


def test_logging_out_ends_the_session_and_keeps_the_theme(customer: Customer, shop: Flask) -> None:
    """User, cart and message are gone, also for who kept the old cookie; the choice of the theme stays."""
    customer.register()
    customer.add("ramen-bowl")
    customer.post("/theme", theme="dark")
    old = customer.cookie

    page = customer.log_out()

    assert "You are logged out." in page.text
    assert 'data-theme="dark"' in page.text
    assert "There is nothing in it yet." in customer.get("/cart").text
    customer.client.set_cookie("session", old)
    assert customer.get("/account").request.path == "/login"


def test_after_logging_in_one_is_where_one_wanted_to_go(customer: Customer) -> None:
    """Asked for the account, sent to log in, sent on to the account."""
    customer.register()
    customer.log_out()

    page = customer.post("/login?next=/account", email="ada@example.com", password=PASSWORD)

    assert page.request.path == "/account"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "\t//evil.example", "javascript:x"]
)
def test_nobody_is_sent_to_another_site(target: str) -> None:
    """What is not a plain path of ours is no place to go on to."""
    from example_app.navigation import is_ours

    assert not is_ours(target)


def test_changing_the_password_logs_out_everywhere_else(customer: Customer, shop: Flask) -> None:
    """With the current one only; the old one stops working, here one stays, elsewhere the next click asks to log in."""
    customer.register()
    elsewhere = Customer(shop.test_client())
    elsewhere.log_in()
    fields = {"password": "battery staple", "repeat": "battery staple"}

    assert "This is not your password." in customer.post("/account/password", current="wrong", **fields).text
    assert elsewhere.get("/account").request.path == "/account"
    assert "Your password is changed" in customer.post("/account/password", current=PASSWORD, **fields).text

    assert customer.get("/account").request.path == "/account"
    assert elsewhere.get("/account").request.path == "/login"
    assert "do not match" in elsewhere.log_in().text
    assert "Welcome back" in elsewhere.log_in("battery staple").text


def test_deleting_the_account_ends_all_its_sessions(customer: Customer, shop: Flask) -> None:
    """The user is gone, here and elsewhere nobody is logged in any more."""
    from example_app.models import User

    customer.register()
    elsewhere = Customer(shop.test_client())
    elsewhere.log_in()

    assert "Your account is deleted." in customer.post("/account/delete").text

    with shop.app_context():
        assert User.objects.count() == 0
    assert customer.get("/account").request.path == "/login"
    assert elsewhere.get("/account").request.path == "/login"
    assert all("user_id" not in document for document in documents(shop))


def test_deleting_the_account_asks_for_the_password_when_that_was_long_ago(customer: Customer, shop: Flask) -> None:
    """Neither the page nor a form sent straight to it deletes; giving the password leads there, under a new token."""
    from example_app.models import User

    customer.register()
    old = documents(shop)[0]["authenticated_at"] - timedelta(hours=1)
    sessions = shop.extensions["mongo_session"].store.collection
    sessions.update_many({}, {"$set": {"authenticated_at": old}})

    assert customer.post("/account/delete", page="/account").request.path == "/account/confirm"
    asked = customer.get("/account/delete")
    assert asked.request.path == "/account/confirm"
    with shop.app_context():
        assert User.objects.count() == 1

    before = customer.cookie.split(".")[1]
    where = asked.request.full_path
    assert "This is not your password." in customer.post(where, password="wrong").text
    assert customer.post(where, password=PASSWORD).request.path == "/account/delete"
    assert customer.cookie.split(".")[1] != before
    assert "Your account is deleted." in customer.post("/account/delete").text


# --- Devices and staff

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
STAFF_PAGES = ["/admin/", "/admin/sessions/", "/admin/sessions/overview", "/admin/sessions/session?id=none"]


def ids_of(shop: Flask, email: str) -> list[str]:
    """The session ids of this user."""
    from example_app.models import User

    with shop.app_context():
        user_id = User.objects.get(email=email).get_id()
    return [document["_id"] for document in documents(shop) if document.get("user_id") == user_id]


def test_a_device_is_seen_and_ended(customer: Customer, shop: Flask) -> None:
    """Both are listed in the shop's own page; the other one is asked to log in at its next click, this one is not."""
    customer.register()
    elsewhere = Customer(shop.test_client())
    elsewhere.client.environ_base["HTTP_USER_AGENT"] = FIREFOX
    elsewhere.log_in()

    page = customer.get("/account/devices/")
    assert page.text.count('<li class="device') == 2
    assert "Firefox on Linux" in page.text
    assert 'aria-label="Shop"' in page.text

    sid = re.search(r'name="session_id" value="([^"]+)"', page.text)[1]
    page = customer.post("/account/devices/end", page="/account/devices/", session_id=sid)
    assert page.text.count('<li class="device') == 1
    assert elsewhere.get("/account").request.path == "/login"
    assert customer.get("/account").request.path == "/account"


def test_that_was_not_me_asks_for_another_password(customer: Customer, shop: Flask) -> None:
    """The other device is logged out, and the customer is led to where the password is changed."""
    customer.register()
    elsewhere = Customer(shop.test_client())
    elsewhere.log_in()
    sid = re.search(r'name="session_id" value="([^"]+)"', customer.get("/account/devices/").text)[1]

    page = customer.post("/account/devices/not-me", page="/account/devices/", session_id=sid)
    assert page.request.path == "/account/password"
    assert "choose another password" in page.text
    assert elsewhere.get("/account").request.path == "/login"


def test_somebody_else_s_session_cannot_be_ended(customer: Customer, shop: Flask) -> None:
    """The same answer as for an id that was made up; the other customer stays logged in."""
    customer.register()
    other = Customer(shop.test_client())
    other.register("bob@example.com")
    sid = ids_of(shop, "bob@example.com")[0]

    answers = [
        customer.post("/account/devices/end", page="/account/devices/", session_id=handle)
        for handle in (sid, "made up")
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert other.get("/account").request.path == "/account"


def test_only_staff_may_go_behind_the_counter(customer: Customer, staff: Customer, shop: Flask) -> None:
    """Who is not logged in may log in; a customer is refused, finds no link, and ends nobody's session."""
    sid = ids_of(shop, "robin@example.com")[0]
    assert [customer.get(path).request.path for path in STAFF_PAGES] == ["/login"] * 4

    customer.register()
    assert [customer.get(path).status_code for path in STAFF_PAGES] == [403] * 4
    assert "/admin/" not in customer.get("/account").text
    assert customer.post("/admin/sessions/revoke", page="/account", session_id=sid).status_code == 403

    assert "/admin/sessions/" in staff.get("/account").text
    assert [staff.get(path).status_code for path in STAFF_PAGES] == [200, 200, 200, 404]


def test_who_is_no_longer_staff_is_refused_at_once(staff: Customer, shop: Flask) -> None:
    """The right is asked for at every request, not kept in the session."""
    from example_app.models import User

    with shop.app_context():
        User.objects.update(set__is_staff=False)

    assert staff.get("/admin/sessions/").status_code == 403


def test_staff_end_a_session(customer: Customer, staff: Customer, shop: Flask) -> None:
    """Only with the form's token; the customer is asked to log in at the next click."""
    customer.register()
    sid = ids_of(shop, "ada@example.com")[0]

    assert staff.client.post("/admin/sessions/revoke", data={"session_id": sid}).status_code == 400
    assert customer.get("/account").request.path == "/account"

    page = staff.post("/admin/sessions/revoke", page="/admin/sessions/", session_id=sid)
    assert "1 session has been ended." in page.text
    assert customer.get("/account").request.path == "/login"


def test_staff_see_what_is_in_a_session_but_no_secrets(customer: Customer, staff: Customer, shop: Flask) -> None:
    """The message is shown; Flask-WTF's secret and Flask-Login's fingerprint are masked; no token is in the page."""
    customer.get("/put")
    customer.add("morning-mug")
    document = next(one for one in documents(shop) if "message" in one.get("data", {}))

    page = staff.get(f"/admin/sessions/session?id={document['_id']}")

    assert "Hello from a session!" in page.text
    assert "•••" in page.text
    assert document["data"]["csrf_token"] not in page.text
    assert customer.cookie.split(".")[1] not in page.text


# --- Catalogue and cart


def test_who_only_looks_around_gets_no_session(customer: Customer, shop: Flask) -> None:
    """The catalogue shows its twelve products, sets no cookie and stores nothing."""
    page = customer.get("/")

    assert page.text.count('class="card"') == 12
    assert customer.cookie is None
    assert documents(shop) == []
    assert "You have none." in customer.get("/session").text


def test_the_cart_is_a_declared_field(customer: Customer, shop: Flask) -> None:
    """Product ids at the document's top level, one per piece, found by a typed query on live sessions."""
    from example_app.models import Product, ShopSession

    for slug in ("morning-mug", "ramen-bowl", "morning-mug"):
        customer.add(slug)

    with shop.app_context():
        mug, bowl = (Product.objects.get(slug=slug) for slug in ("morning-mug", "ramen-bowl"))
        assert ShopSession.objects.live().filter(cart=bowl.id).count() == 1
    assert documents(shop)[0]["cart"] == [mug.id, bowl.id, mug.id]
    assert "In one cart right now." in customer.get("/product/ramen-bowl").text


def test_quantities_are_changed_and_removed(customer: Customer, shop: Flask) -> None:
    """The total follows; zero takes the product out; what is no number is refused with a message."""
    customer.add("morning-mug")

    assert "€\N{NO-BREAK SPACE}54.00" in customer.post("/cart/change/morning-mug", page="/cart", quantity="3").text
    assert "Between 0 and 20" in customer.post("/cart/change/morning-mug", page="/cart", quantity="21").text
    assert len(documents(shop)[0]["cart"]) == 3
    assert "There is nothing in it yet." in customer.post("/cart/change/morning-mug", page="/cart", quantity="0").text


def test_checking_out_empties_the_cart_and_keeps_a_receipt(customer: Customer, shop: Flask) -> None:
    """The receipt is free-form data in the same session."""
    customer.add("two-cup-teapot")

    page = customer.post("/checkout", page="/cart")

    assert page.request.path == "/thanks"
    assert "Two-cup teapot" in page.text
    (document,) = documents(shop)
    assert not document.get("cart")
    assert document["data"]["receipt"]["total"] == 5600


def test_an_empty_cart_cannot_be_checked_out(customer: Customer) -> None:
    """The form of another page, sent late: a message, no receipt."""
    customer.add("bud-vase")
    customer.post("/checkout", page="/cart")

    assert "There is nothing in your cart yet." in customer.post("/checkout", page="/product/bud-vase").text


@pytest.mark.parametrize("path", ["/product/no-such-thing", "/no/such/page"])
def test_what_is_not_there_is_a_page_too(customer: Customer, path: str) -> None:
    """A 404 in the shop's clothes."""
    page = customer.get(path)

    assert page.status_code == 404
    assert "There is nothing on this shelf" in page.text


# --- Without the database

CLOSED = "The shop is closed for a moment"


@pytest.fixture
def fragile(make_shop: t.Callable[..., Flask], mongo_server_own: t.Any) -> Flask:
    """The shop on a server of its own, which the test may harm; errors become pages as in production."""
    return make_shop(mongo_server_own, SESSION_MONGODB_TIMEOUT=1.0, SESSION_AUTO_INDEX=False, TESTING=False)


@pytest.fixture
def ada(fragile: Flask) -> Customer:
    """Somebody who is logged in there, with the dark theme and a mug in the cart."""
    ada = Customer(fragile.test_client())
    ada.register()
    ada.post("/theme", theme="dark")
    ada.add("morning-mug")
    return ada


def once_open(customer: Customer, path: str) -> TestResponse:
    """The page, as soon as the shop is open again."""
    deadline = time.monotonic() + PATIENCE
    while (page := customer.get(path)).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    return page


def stands_on_its_own(page: TestResponse) -> bool:
    """Whether a page is whole without the session: it neither greets the customer nor asks to log in."""
    said = page.text.partition("<main")[0] + page.text.partition("<footer")[2]
    words = ("Ada", "Log in", "Log out", "Register", "Cart", "Your session")
    alone = page.status_code < 400 or ("<link" not in page.text and "<style>" in page.text)
    return alone and not any(word in said for word in words)


def test_error_pages_do_without_sessions_that_are_away(ada: Customer, mongo_server_own: t.Any) -> None:
    """The shop's own pages all the same; what needs no session is as ever, and nobody is logged out by it."""
    cookie = ada.cookie
    mongo_server_own.kill()

    for path in ("/cart", "/session", "/account", "/account/devices/", "/put", "/admin/sessions/"):
        page = ada.get(path)
        assert (page.status_code, CLOSED in page.text) == (503, True), path
        assert stands_on_its_own(page), path
        assert page.headers["Retry-After"]
        assert page.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    began = time.monotonic()
    missing = ada.get("/no/such/page")
    assert (missing.status_code, "There is nothing on this shelf" in missing.text) == (404, True)
    assert time.monotonic() - began < 0.5  # asks nobody
    assert stands_on_its_own(missing)
    with ada.get("/static/shop.css") as style:
        assert style.status_code == 200

    assert ada.cookie == cookie
    mongo_server_own.start()
    assert once_open(ada, "/account").request.path == "/account"
    assert "Morning mug" in ada.get("/cart").text


def test_products_are_served_while_sessions_are_away(ada: Customer, fragile: Flask, mongo_server_own: t.Any) -> None:
    """As the shop last saw them, without cart and forms, within one time limit; and for visitors without a cookie."""
    stranger = Customer(fragile.test_client())
    ada.get("/")
    cookie = ada.cookie
    mongo_server_own.pause()
    try:
        for customer in (ada, stranger):
            for path in ("/", "/product/morning-mug"):
                began = time.monotonic()
                page = customer.get(path)
                assert time.monotonic() - began < 3.5, path
                assert (page.status_code, "Morning mug" in page.text) == (200, True), path
                assert "Your cart and your account will be back in a moment." in page.text
                assert "<form" not in page.text
                assert stands_on_its_own(page), path
        assert ada.get("/product/no-such-thing").status_code == 404
        assert ada.get("/cart").status_code == 503
    finally:
        mongo_server_own.resume()

    assert (ada.cookie, stranger.cookie) == (cookie, None)
    assert "Morning mug" in once_open(ada, "/cart").text
    assert "Put into the cart" in ada.get("/product/morning-mug").text


def test_a_session_that_cannot_be_saved_is_told_on_a_page_that_stands_on_its_own(
    ada: Customer, mongo_server_own: t.Any
) -> None:
    """The customer is told, does not seem to be logged out, and finds everything as it was afterwards."""
    refused = {"failCommands": ["update"], "errorCode": 91}
    mongo_server_own.command("configureFailPoint", "failCommand", mode="alwaysOn", data=refused)

    page = ada.add("ramen-bowl")
    assert (page.status_code, CLOSED in page.text) == (503, True)
    assert stands_on_its_own(page)

    mongo_server_own.command("configureFailPoint", "failCommand", mode="off")
    cart = once_open(ada, "/cart").text
    assert "Morning mug" in cart
    assert "Ramen bowl" not in cart
    assert 'data-theme="dark"' in cart


def test_a_fault_of_ours_is_a_page_that_stands_on_its_own(fragile: Flask) -> None:
    """A 500 in the shop's clothes, which needs nothing that may be what is broken."""
    fragile.add_url_rule("/broken", "broken", lambda: 1 / 0)

    page = Customer(fragile.test_client()).get("/broken")

    assert (page.status_code, "Something broke" in page.text) == (500, True)
    assert stands_on_its_own(page)


# --- The session itself


def test_put_and_get(customer: Customer) -> None:
    """The two views of every first example."""
    assert customer.get("/get").text == ""
    assert customer.get("/put").text == "ok"
    assert customer.get("/get").text == "Hello from a session!"


def test_a_flash_is_seen_once(customer: Customer) -> None:
    """The message survives the redirect and nothing more."""
    assert "is in your cart." in customer.add("milk-pitcher").text
    assert "is in your cart." not in customer.get("/cart").text


def test_the_theme_is_validated_by_its_field(customer: Customer, shop: Flask) -> None:
    """A value that the field does not allow comes back as the field's message; the session keeps the old one."""
    customer.post("/theme", theme="dark")

    page = customer.post("/theme", theme="purple")

    assert page.status_code == 422
    assert "must be one of" in page.text
    assert documents(shop)[0]["theme"] == "dark"


def test_the_page_about_the_session_shows_everything_but_secrets(customer: Customer, shop: Flask) -> None:
    """Keys, expiry and the stored document are shown; neither the token nor the CSRF secret is."""
    customer.register()
    customer.add("lidded-jar")
    customer.get("/put")

    text = customer.get("/session").text

    (document,) = documents(shop)
    for shown in (
        document["_id"],
        "Hello from a session!",
        document["expires_at"].strftime("%H:%M:%S UTC"),
        "declared",
    ):
        assert shown in text
    _, token, _, signature = customer.cookie.split(".")
    for secret in (token, signature, document["data"]["csrf_token"]):
        assert secret not in text


# --- Safety


@pytest.mark.parametrize("path", ["/login", "/register", "/logout", "/theme", "/checkout", "/cart/add/morning-mug"])
def test_a_form_without_its_token_is_refused(customer: Customer, shop: Flask, path: str) -> None:
    """400, and nothing is stored."""
    assert customer.client.post(path, data={"theme": "dark"}).status_code == 400
    assert documents(shop) == []


def test_every_response_carries_the_safe_headers(customer: Customer, staff: Customer) -> None:
    """No script, nothing inline but the error pages' style, no frame, no sniffing; caches keep no page."""
    for path in ("/", "/login", "/session", "/no/such/page", "/static/shop.css", "/account/devices/", *STAFF_PAGES):
        response = staff.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"<script| style=| on\w+=", response.text)
        for style in re.findall(r"<style>(.*?)</style>", response.text, re.DOTALL):
            allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            assert f"'sha256-{allowed}'" in policy
        response.close()

    assert customer.get("/login").headers["Cache-Control"] == "no-store"
    assert staff.get("/admin/sessions/").headers["Cache-Control"] == "no-store"


def test_the_secret_key_is_made_once_and_kept_private(shop: Flask, tmp_path: Path, mongo_server: t.Any) -> None:
    """In the instance folder, for its owner's eyes; the next start finds the same."""
    from example_app import create_app

    path = tmp_path / "instance" / "secret_key"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(shop.config["SECRET_KEY"]) >= 32
    assert create_app({"SESSION_MONGODB_URI": mongo_server.uri}).config["SECRET_KEY"] == shop.config["SECRET_KEY"]
    assert [entry.name for entry in path.parent.iterdir()] == ["secret_key"]


def test_two_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    """Whoever comes second takes the first one's."""
    from example_app.security import kept_secret_key

    keys: list[str] = []
    threads = [threading.Thread(target=lambda: keys.append(kept_secret_key(tmp_path / "new"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(keys) == 8
    assert len(set(keys)) == 1


# --- The commands


def test_seed_fills_the_shop(shop: Flask) -> None:
    """Products, customers, their visits, indexed, and a member of the staff whose printed password works."""
    from example_app.models import ShopSession, User

    result = shop.test_cli_runner().invoke(args=["seed", "--customers", "20", "--sessions", "50"])

    assert result.exit_code == 0, result.output
    email, password = re.search(r"log in as (\S+) with the password (\S+)", result.output).groups()
    with shop.app_context():
        assert User.by_password(email, password).is_staff
        assert User.objects(is_staff__ne=True).count() == 20
        assert ShopSession.objects.count() == 50
        assert {"expires_at_1", "user_id_1", "cart_1"} <= set(ShopSession._get_collection().index_information())
        customer = ShopSession.objects.live().filter(user_id__ne=None).first()
        assert User.by_id(customer.user_id) is not None

    staff = Customer(shop.test_client())
    staff.post("/login", email=email, password=password)
    assert staff.get("/admin/sessions/").text.count('name="session_id"') > 40
    assert customer.user_id in staff.get(f"/admin/sessions/?user={customer.user_id}").text
    assert staff.get("/admin/sessions/overview").text.count("<svg") == 4


def test_seeding_again_changes_nothing(shop: Flask) -> None:
    """The same customers, visits and password; the staff stays logged in; a password of their own is kept."""
    from example_app.models import ShopSession, User

    def seed() -> str:
        result = shop.test_cli_runner().invoke(args=["seed", "--customers", "3", "--sessions", "9"])
        assert result.exit_code == 0, result.output
        return re.search(r"log in as (\S+) with the password (.+)", result.output)[2]

    password = seed()
    robin = Customer(shop.test_client())
    robin.post("/login", email="staff@example.com", password=password)
    assert seed() == password
    with shop.app_context():
        assert User.objects.count() == 4
        assert ShopSession.objects.count() == 10  # the nine, and Robin's
    assert robin.get("/admin/sessions/").request.path == "/admin/sessions/"

    fields = {"current": password, "password": "battery staple", "repeat": "battery staple"}
    robin.post("/account/password", **fields)
    assert seed() == "that you gave it"
    with shop.app_context():
        assert User.by_password("staff@example.com", "battery staple") is not None


def test_seeding_logs_out_who_had_the_address_of_the_staff(customer: Customer, shop: Flask) -> None:
    """A customer who registered with it before neither stays logged in nor knows the password."""
    customer.register("staff@example.com")

    shop.test_cli_runner().invoke(args=["seed", "--customers", "1", "--sessions", "1"])

    assert customer.get("/admin/sessions/").request.path == "/login"
    assert "do not match" in customer.post("/login", email="staff@example.com", password=PASSWORD).text


class Browser:
    """As much of a browser as the standard library has: cookies, redirects, forms."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def get(self, path: str) -> str:
        with self.opener.open(self.url + path, timeout=PATIENCE) as response:
            return response.read().decode()

    def post(self, path: str, page: str | None = None, **fields: str) -> str:
        fields["csrf_token"] = TOKEN.search(self.get(page or path))[1]
        with self.opener.open(self.url + path, urllib.parse.urlencode(fields).encode(), timeout=PATIENCE) as response:
            return response.read().decode()


@pytest.fixture
def served(tmp_path: Path) -> t.Iterator[t.Callable[[], Browser]]:
    """Call it to start ``flask --app example_app run``, told only where to keep things; again, to restart."""
    running: list[subprocess.Popen[bytes]] = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "SHOP_"))}
    environment["SHOP_INSTANCE_PATH"] = str(tmp_path / "instance")

    def stop() -> None:
        while running:
            process = running.pop()
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()

    def start() -> Browser:
        stop()
        port = free_port()
        command = [sys.executable, "-m", "flask", "--app", "example_app", "run", "--port", str(port)]
        with (tmp_path / "log").open("ab") as log:
            running.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        browser = Browser(f"http://127.0.0.1:{port}")
        wait_until_it_answers(browser, running[0], tmp_path / "log")
        return browser

    yield start
    stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(browser: Browser, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            browser.get("/get")
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"The shop did not come up:\n{log.read_text()}")


def test_the_readme_s_command_serves_the_shop(served: t.Callable[[], Browser], tmp_path: Path) -> None:
    """Nothing configured: register, cart, flash, log out; started again in between, everything is still there."""
    browser = served()
    assert "Welcome, Ada!" in browser.post("/register", name="Ada", email="ada@example.com", password=PASSWORD)
    assert "is in your cart." in browser.post("/cart/add/bud-vase", page="/product/bud-vase")
    assert browser.get("/put") == "ok"

    again = served()
    again.cookies = browser.cookies
    again.opener.add_handler(urllib.request.HTTPCookieProcessor(again.cookies))
    assert again.get("/get") == "Hello from a session!"
    assert "Bud vase" in again.get("/cart")
    assert "You are logged out." in again.post("/logout", page="/account")
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert (tmp_path / "instance" / "mongodb").is_dir()
