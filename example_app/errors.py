"""Pages for what goes wrong. When the database is what went wrong, they do without the session and the customer."""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, render_template
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


def init_app(app: Flask) -> None:
    """Answer every error with a page in the shop's clothes."""
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(PyMongoError, database_error)


def http_error(error: HTTPException) -> tuple[str, int, list[tuple[str, str]]]:
    """The error's status and headers (``Retry-After``, ``Allow``), with our own body.

    A page for a fault of ours stands on its own: a session that could not be read or saved looks like an empty one,
    and the customer would seem to be logged out.
    """
    status = error.code or 500
    headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
    details = {"status": status, "title": TITLES.get(status, error.name), "detail": error.description}
    skeleton = "base.html" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "layout.html"

    try:
        page = render_template("error.html", skeleton=skeleton, **details)
    except (SessionStoreUnavailable, PyMongoError):
        page = render_template("error.html", skeleton="layout.html", **details)

    return page, status, headers


def database_error(error: PyMongoError) -> tuple[str, int, list[tuple[str, str]]]:
    """A product or customer could not be read or written: the same 503 as for a session."""
    return http_error(ServiceUnavailable("Our database does not answer. Please try again shortly.", retry_after=2))
