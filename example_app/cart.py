"""The cart: a declared field of the session, one product id per piece."""

from __future__ import annotations

import secrets
import typing as t
from collections import Counter

from bson import ObjectId
from flask import Blueprint, abort, flash, redirect, render_template, session, url_for
from werkzeug.wrappers import Response

from .forms import MOST_PIECES, ButtonForm, QuantityForm
from .models import Product

blueprint = Blueprint("cart", __name__)


class Line(t.NamedTuple):
    """One product in the cart, with the form that changes its quantity."""

    product: Product
    quantity: int
    form: QuantityForm

    @property
    def total(self) -> int:
        """In cents."""
        return self.product.price * self.quantity


@blueprint.get("/cart")
def show() -> str:
    """What is in the cart, and what it costs."""
    lines = cart_lines()

    return render_template("cart/cart.html", lines=lines, total=total_of(lines), most=MOST_PIECES, button=ButtonForm())


@blueprint.post("/cart/add/<slug>")
def add(slug: str) -> Response:
    """One piece more. ``append`` is one ``$push``: two tabs that add at the same moment both count."""
    product = product_or_404(slug)

    if session["cart"].count(product.id) >= MOST_PIECES:
        flash(f"{MOST_PIECES} of “{product.name}” is as much as we can send at once.", "error")
    else:
        session.append("cart", product.id)
        flash(f"“{product.name}” is in your cart.", "success")

    return redirect(url_for("cart.show"))


@blueprint.post("/cart/change/<slug>")
def change(slug: str) -> Response:
    """Another quantity; zero takes the product out."""
    product = product_or_404(slug)
    form = QuantityForm()

    if form.validate_on_submit():
        session["cart"] = with_quantity(session["cart"], product.id, form.quantity.data or 0)
        flash(f"“{product.name}”: {form.quantity.data or 'none'} in your cart.", "success")
    else:
        flash(form.quantity.errors[0], "error")

    return redirect(url_for("cart.show"))


@blueprint.post("/checkout")
def checkout() -> Response:
    """Pretend to sell: the cart is emptied, nothing is charged, the receipt stays in the session."""
    lines = cart_lines()

    if not lines:
        flash("There is nothing in your cart yet.", "error")
        return redirect(url_for("cart.show"))

    session["receipt"] = {
        "number": secrets.token_hex(3).upper(),
        "lines": [[line.product.name, line.quantity, line.total] for line in lines],
        "total": total_of(lines),
    }
    del session["cart"]

    return redirect(url_for("cart.thanks"))


@blueprint.get("/thanks")
def thanks() -> str:
    """The receipt of the last pretend order."""
    if "receipt" not in session:
        abort(404, "There is no order of yours in this session.")

    return render_template("cart/thanks.html", receipt=session["receipt"])


@blueprint.app_context_processor
def cart_size() -> dict[str, t.Callable[[], int]]:
    """``cart_size()`` for the header; read only by templates that show it."""
    return {"cart_size": lambda: len(session["cart"])}


def cart_lines() -> list[Line]:
    """The cart by product, in the order things were put in; a product that was taken off the shelf is left out."""
    quantities = Counter(session["cart"])
    products = Product.objects.in_bulk(list(quantities)) if quantities else {}

    return [
        Line(products[key], quantity, QuantityForm(formdata=None, quantity=quantity))
        for key, quantity in quantities.items()
        if key in products
    ]


def total_of(lines: list[Line]) -> int:
    """In cents."""
    return sum(line.total for line in lines)


def with_quantity(cart: list[ObjectId], product_id: ObjectId, quantity: int) -> list[ObjectId]:
    """``cart`` with exactly ``quantity`` of this product, where its first piece was."""
    others = [item for item in cart if item != product_id]
    place = cart.index(product_id) if product_id in cart else len(others)

    return [*others[:place], *[product_id] * quantity, *others[place:]]


def product_or_404(slug: str) -> Product:
    """The product of this name, or the page that says there is none."""
    product = Product.objects(slug=slug).first()

    if product is None:
        abort(404, "We do not sell this, or not any more.")

    return product
