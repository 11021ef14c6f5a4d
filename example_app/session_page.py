"""The session itself: what is in it, what of it is stored, the theme, and the two views of every first example."""

from __future__ import annotations

import re
import typing as t

from bson import json_util
from flask import Blueprint, Response, current_app, flash, redirect, render_template, session
from mongoengine.errors import ValidationError

from flask_mongo_session import SessionDocument

from .database import store
from .forms import ThemeForm, refuse
from .models import THEMES, ShopSession
from .navigation import asked_for

blueprint = Blueprint("session_page", __name__)

DECLARED = set(ShopSession._fields) - set(SessionDocument._fields)

# Flask-WTF's secret and Flask-Login's fingerprint of the browser: yours, but not for who looks over your shoulder.
HIDDEN = ("csrf_token", "_id")

NOW = {
    "system": "The shop is as light or dark as your device.",
    "light": "The shop is light now.",
    "dark": "The shop is dark now.",
}

# {"$oid": "…"} and {"$date": "…"}, which would take three lines each.
TAGGED = re.compile(r'\{\s+("\$\w+": "[^"]*")\s+\}')


@blueprint.get("/put")
def put() -> Response:
    """Store a message."""
    session["message"] = "Hello from a session!"

    return plain("ok")


@blueprint.get("/get")
def get() -> Response:
    """The message, or nothing."""
    return plain(session.get("message", ""))


@blueprint.get("/session")
def show() -> str:
    """What is in the session, when it ends, and the document as MongoDB holds it."""
    document = stored_document()

    return render_template(
        "session/session.html",
        items=[(key, key in DECLARED, readable(key, value)) for key, value in session.items()],
        document=as_json(document) if document else None,
        cookie=current_app.config["SESSION_COOKIE_NAME"],
        collection=store().collection.full_name,
    )


@blueprint.route("/theme", methods=["GET", "POST"])
def theme() -> str | Response | tuple[str, int]:
    """As the device, light or dark. Anything else is refused by the session's field, whose message is shown."""
    form = ThemeForm()

    if not form.validate_on_submit():
        return render_template("session/theme.html", form=form, themes=THEMES)

    try:
        session["theme"] = form.theme.data
    except ValidationError as error:
        refuse(form.theme, str(error))
        return render_template("session/theme.html", form=form, themes=THEMES), 422

    flash(NOW[form.theme.data], "success")

    return redirect(asked_for("catalogue.index"))


def stored_document() -> dict[str, t.Any] | None:
    """This visitor's document as it is stored before this request ends; ``None`` when nothing is stored yet."""
    if session.new:
        return None

    with store().operation():
        return store().collection.find_one({"_id": session.sid})


def as_json(document: dict[str, t.Any]) -> str:
    """A stored document as a person reads it in the MongoDB shell."""
    data = {key: readable(key, value) for key, value in document.get("data", {}).items()}

    text = json_util.dumps(
        {**document, "data": data}, indent=2, ensure_ascii=False, json_options=json_util.RELAXED_JSON_OPTIONS
    )

    return TAGGED.sub(r"{\1}", text)


def readable(key: str, value: t.Any) -> t.Any:
    """``value``, or how long it is where looking at it helps nobody."""
    return f"({len(value)} characters, not shown)" if key in HIDDEN else value


def plain(text: str) -> Response:
    """A response that is nothing but text."""
    return Response(text, mimetype="text/plain")
