"""``flask seed``: a shop that looks as if it had been open for a while."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import random
import secrets
import typing as t
from datetime import datetime, timedelta, timezone

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from werkzeug.security import generate_password_hash

from flask_mongo_session import new_session_id

from . import extensions
from .database import store
from .models import THEMES, Product, ShopSession, User
from .stock import stock_shelves

CHANCE = random.Random()  # noqa: S311 - invents visitors, no secrets

BROWSERS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    *(
        f"Mozilla/5.0 ({system}) AppleWebKit/{engine} (KHTML, like Gecko) {browser}"
        for system, engine, browser in (
            ("Windows NT 10.0; Win64; x64", "537.36", "Chrome/126.0.0.0 Safari/537.36"),
            ("Windows NT 10.0; Win64; x64", "537.36", "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0"),
            ("Macintosh; Intel Mac OS X 10_15_7", "605.1.15", "Version/17.5 Safari/605.1.15"),
            ("iPhone; CPU iPhone OS 17_5 like Mac OS X", "605.1.15", "Version/17.5 Mobile/15E148 Safari/604.1"),
            ("Linux; Android 14; Pixel 8", "537.36", "Chrome/126.0.0.0 Mobile Safari/537.36"),
        )
    ),
]

# Of the visits: how many are by customers, how many left a message, how many are over already.
CUSTOMERS, MESSAGES, OVER = 0.7, 0.2, 0.03


def init_app(app: Flask) -> None:
    """Add ``flask seed``."""
    app.cli.add_command(seed)


@click.command("seed")
@click.option("--customers", default=40, show_default=True, help="How many customers there shall be.")
@click.option("--sessions", default=240, show_default=True, help="How many visits there shall be.")
@with_appcontext
def seed(customers: int, sessions: int) -> None:
    """Fill the shop: products, customers, visits, and a member of the staff who may look at them.

    Safe to repeat: it adds what is missing and changes nobody's password.
    """
    store().ensure_indexes()
    click.echo(f"Products: {len(stock_shelves())}")

    people = invite(customers)
    click.echo(f"Customers: {len(people)}")

    missing = max(sessions - ShopSession.objects(__raw__={"ended_at": None}).count(), 0)
    with click.progressbar(visits(people, missing), length=missing) as bar:
        for batch in batches(bar, 1000):
            ShopSession.objects.insert(batch, load_bulk=False)
    click.echo(f"Sessions: {missing} more, {ShopSession.objects.live().count()} live")

    email, password = hire()
    click.echo(f"Staff: log in as {email} with the password {password or 'that you gave it'}")


def invite(count: int) -> list[User]:
    """At least ``count`` customers with invented names; their passwords are known to nobody."""
    User.ensure_indexes()
    password_hash = generate_password_hash(secrets.token_hex())
    names = itertools.islice(full_names(), count)

    for name in names:
        User.objects(email=f"{name.lower().replace(' ', '.')}@example.com").update_one(
            upsert=True,
            set_on_insert__name=name,
            set_on_insert__password_hash=password_hash,
            set_on_insert__joined_at=datetime.now(timezone.utc) - timedelta(days=CHANCE.uniform(14, 700)),
        )

    return list(User.objects(is_staff__ne=True))


def hire() -> tuple[str, str | None]:
    """A member of the staff and the password, ``None`` if Robin changed it; a customer of that address is logged out.

    The password comes from the shop's secret key, so it is the same each time and nobody else can know it.
    """
    email, key = "staff@example.com", current_app.config["SECRET_KEY"].encode()
    password = hmac.new(key, b"the staff's first password", hashlib.sha256).hexdigest()[:12]
    user = User.objects(email=email).first() or User(email=email, name="Robin of Kiln Street")
    if user.is_staff:
        return email, password if user.has_password(password) else None

    user.is_staff = True
    user.set_password(password)
    user.save()
    extensions.sessions.revoke_user(user.get_id())

    return email, password


def full_names() -> t.Iterator[str]:
    """Invented people, each name once."""
    first = (
        "Ada",
        "Bela",
        "Carla",
        "Dario",
        "Elif",
        "Farah",
        "Goran",
        "Hana",
        "Ivo",
        "Jun",
        "Kofi",
        "Lena",
        "Mia",
        "Noor",
    )
    last = (
        "Abel",
        "Brandt",
        "Conti",
        "Dvorak",
        "Eriksen",
        "Fischer",
        "Garcia",
        "Horvat",
        "Ito",
        "Jansen",
        "Kaya",
        "Lind",
    )

    for generation in itertools.count(1):
        for offset in range(len(last)):
            for place, name in enumerate(first):
                surname = last[(offset + place) % len(last)]
                yield f"{name} {surname}" if generation == 1 else f"{name} {surname} {generation}"


def visits(people: list[User], count: int) -> t.Iterator[ShopSession]:
    """Sessions last used within two weeks, some of them over; nobody has the tokens that they belong to."""
    now = ShopSession.database_now()
    products = [product.id for product in Product.objects.only("id")]

    for _ in range(count):
        seen = now - timedelta(days=14 * CHANCE.random() ** 1.5)
        begun = seen - timedelta(hours=CHANCE.expovariate(1 / 8))
        customer = CHANCE.choice(people) if people and CHANCE.random() < CUSTOMERS else None
        who = {"_user_id": customer.get_id(), "_fresh": True} if customer else {}
        over = CHANCE.random() < OVER

        yield ShopSession(
            id=new_session_id(),
            data={"message": "Hello from a session!", **who} if CHANCE.random() < MESSAGES else who,
            theme=CHANCE.choice(THEMES),
            cart=CHANCE.choices(products, k=CHANCE.choice((0, 0, 1, 1, 2, 3, 5))),
            user_id=customer.get_id() if customer else None,
            created_at=begun,
            authenticated_at=begun if customer else None,
            touched_at=seen,
            expires_at=now - timedelta(minutes=CHANCE.uniform(1, 600)) if over else seen + timedelta(days=14),
            ip=f"198.51.100.{CHANCE.randrange(1, 255)}",
            user_agent=CHANCE.choice(BROWSERS),
        )


def batches(items: t.Iterable[ShopSession], size: int) -> t.Iterator[list[ShopSession]]:
    """``items`` in lists of at most ``size``."""
    iterator = iter(items)

    while batch := list(itertools.islice(iterator, size)):
        yield batch
