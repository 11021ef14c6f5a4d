"""Pages for what goes wrong. They stand on their own: no session, no customer, no style sheet that may be away, too."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from flask import Flask, current_app
from pymongo.errors import PyMongoError
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from flask_mongo_session import SessionStoreUnavailable

TITLES = {
    400: "That form could not be accepted",
    403: "Staff only",
    404: "There is nothing on this shelf",
    405: "That does not work here",
    413: "That was too much",
    500: "Something broke",
    503: "The shop is closed for a moment",
}
# Where nobody said more than the status says.
DETAILS = {
    404: "We have no page at this address. It may have been mistyped, or the page has moved.",
    405: "This page cannot be used that way.",
    500: "This is our fault, not yours. Please try again; if it happens again, tell us what you did.",
}
CLOSED = "Our database does not answer. Nothing of yours is lost. Please try again in a moment."

STYLE = (Path(__file__).parent / "templates" / "error.css").read_text(encoding="utf-8")

# What the Content-Security-Policy allows beside the style sheet.
STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


def init_app(app: Flask) -> None:
    """Answer every error with a page in the shop's clothes."""
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(SessionStoreUnavailable, closed)
    app.register_error_handler(PyMongoError, closed)


def http_error(error: HTTPException) -> tuple[str, int, list[tuple[str, str]]]:
    """The error's status and headers (``Retry-After``, ``Allow``), with our own body.

    Rendered without context processors: Flask-Login's would ask the session who is looking.
    """
    status = error.code or 500
    headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
    page = current_app.jinja_env.get_template("error.html")
    said = error.description if error.description != type(error).description else DETAILS.get(status, error.description)

    return page.render(status=status, title=TITLES.get(status, error.name), detail=said, style=STYLE), status, headers


def closed(error: SessionStoreUnavailable | PyMongoError) -> tuple[str, int, list[tuple[str, str]]]:
    """A session, a product or a customer could not be read or written."""
    return http_error(ServiceUnavailable(CLOSED, retry_after=getattr(error, "retry_after", 2)))
