"""The shelves: every product, and one of them."""

from __future__ import annotations

from flask import Blueprint, abort, render_template

from .forms import ButtonForm
from .models import Product
from .stock import stock_shelves

blueprint = Blueprint("catalogue", __name__)


@blueprint.get("/")
def index() -> str:
    """All products. It has no form, so a visitor who only looks around never gets a session."""
    return render_template("catalogue/index.html", products=shelves())


@blueprint.get("/product/<slug>")
def product(slug: str) -> str:
    """One product, and how many visitors have it in their cart."""
    found = next((item for item in shelves() if item.slug == slug), None)

    if found is None:
        abort(404, "We do not sell this, or not any more.")

    return render_template("catalogue/product.html", product=found, form=ButtonForm())


def shelves() -> list[Product]:
    """The products in their order; a shop that never opened before is stocked first."""
    return list(Product.objects) or stock_shelves()
