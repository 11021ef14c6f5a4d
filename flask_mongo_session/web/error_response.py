"""Turning a response into that of an error, in place: Flask would answer an exception here by saving a second time."""

from __future__ import annotations

import sys
import typing as t

from flask import got_request_exception
from werkzeug.exceptions import InternalServerError

from flask_mongo_session.exceptions import SessionStoreUnavailable

if t.TYPE_CHECKING:
    from flask import Flask
    from flask.wrappers import Response

#: Headers that describe a body; they go when the body does.
_BODY_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Expires",
    "Last-Modified",
    "Location",
)


def mark_unkept(response: Response, error: Exception) -> None:
    """Say when to come back, and that nobody may keep this answer or frame it."""
    if isinstance(error, SessionStoreUnavailable) and response.status_code == error.code:
        response.headers.setdefault("Retry-After", str(error.retry_after))
    response.headers["Cache-Control"] = "no-store"
    keep_private(response)


def keep_private(response: Response) -> None:
    """Forbid, unless the application said something else, to keep this answer or to show it in a frame."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Frame-Options", "DENY")
    response.headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")


def error_response(app: Flask, error: Exception) -> Response:
    """What the application makes of *error*, through its own handlers."""
    try:
        return app.make_response(app.handle_user_exception(error))
    except SessionStoreUnavailable as again:  # the handler itself asked the store
        return t.cast("Response", again.get_response())
    except Exception as unhandled:  # noqa: BLE001 - no handler of the application's took it
        return _internal_error(app, unhandled)


def _internal_error(app: Flask, error: Exception) -> Response:
    """As Flask treats an unhandled exception, without a second save."""
    propagate = app.config["PROPAGATE_EXCEPTIONS"]
    if app.testing or app.debug if propagate is None else propagate:
        raise error  # on to Flask, which announces it

    got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    app.log_exception(sys.exc_info())
    return app.make_response(app.handle_http_exception(InternalServerError(original_exception=error)))


def replace_response(response: Response, by: Response) -> None:
    """Status, body and what describes the body; the other headers stay."""
    if close := getattr(response.response, "close", None):
        close()
    for name in _BODY_HEADERS:
        response.headers.remove(name)

    response.direct_passthrough = by.direct_passthrough = False
    response.status = by.status
    response.set_data(by.get_data())
    by.close()
    _add_headers(response, by)


def _add_headers(response: Response, by: Response) -> None:
    """What *by* says of its body, and what it says beside unless ``after_request`` said something else."""
    response.vary.update(by.vary)
    for name in dict.fromkeys(by.headers.keys()):
        if name == "Set-Cookie":
            response.headers.extend((name, value) for value in by.headers.getlist(name))
        elif name in _BODY_HEADERS or name not in response.headers:
            response.headers.setlist(name, by.headers.getlist(name))
