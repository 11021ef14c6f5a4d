"""The shelves: every product, and one of them. They are served while sessions are away, too."""

from __future__ import annotations

import typing as t

from flask import Blueprint, abort, current_app, render_template, session
from pymongo.errors import PyMongoError

from flask_mongo_session import SessionStoreUnavailable

from .database import store
from .forms import ButtonForm
from .models import Product
from .stock import stock_shelves

blueprint = Blueprint("catalogue", __name__)


class Shelves(t.NamedTuple):
    """The products in their order, and whether they are all that can be had at this moment."""

    products: list[Product]
    alone: bool

    @property
    def skeleton(self) -> str:
        """The page around them: with the customer's name and cart, or without."""
        return "alone.html" if self.alone else "base.html"


@blueprint.get("/")
def index() -> str:
    """All products. It has no form, so a visitor who only looks around never gets a session."""
    found = shelves()

    return render_template("catalogue/index.html", products=found.products, skeleton=found.skeleton)


@blueprint.get("/product/<slug>")
def product(slug: str) -> str:
    """One product, and how many visitors have it in their cart."""
    found = shelves()
    one = next((item for item in found.products if item.slug == slug), None)

    if one is None:
        abort(404, "We do not sell this, or not any more.")

    form = None if found.alone else ButtonForm()
    return render_template("catalogue/product.html", product=one, form=form, skeleton=found.skeleton)


def shelves() -> Shelves:
    """What there is to look at; a shop that never opened before is stocked first.

    While the database is away these are the products as they were when it last answered, so that nobody waits for it
    twice: the visitor's session was asked for first.
    """
    answers = session_answers()
    kept: list[Product] = current_app.extensions.get("shop_shelves", [])

    if kept and not answers and store().connection.known_to_be_away:
        return Shelves(kept, alone=True)

    try:
        products = list(Product.objects) or stock_shelves()
    except PyMongoError:
        if not kept:
            raise
        return Shelves(kept, alone=True)

    current_app.extensions["shop_shelves"] = products
    return Shelves(products, alone=not answers)


def session_answers() -> bool:
    """Whether the visitor's session can be read. Without a cookie there is none, and nothing is asked."""
    try:
        session.get("theme")
    except SessionStoreUnavailable:
        return False

    return True
