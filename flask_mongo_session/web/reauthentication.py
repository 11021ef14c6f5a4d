"""Views that want the user to have been authenticated lately."""

from __future__ import annotations

import functools
import typing as t

from flask import abort, current_app, redirect, request, url_for

from .current import current_session

View = t.TypeVar("View", bound=t.Callable[..., t.Any])


def fresh_session(seconds: float, *, endpoint: str | None = None) -> t.Callable[[View], View]:
    """Let only those into a view who were authenticated at most *seconds* ago: by log-in or ``session.confirm()``.

    The others are redirected to *endpoint*, with the way back in ``next`` when the request was a GET; without one they
    meet what :meth:`MongoSession.needs_refresh_handler` was given, else a 401. Nobody logged in is never fresh.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def guarded(*args: t.Any, **kwargs: t.Any) -> t.Any:
            if current_session.fresh(seconds):
                return current_app.ensure_sync(view)(*args, **kwargs)

            return _ask_again(endpoint)

        return t.cast("View", guarded)

    return decorate


def _ask_again(endpoint: str | None) -> t.Any:
    if endpoint is not None:
        return redirect(url_for(endpoint, next=_way_back()))

    handler = current_app.extensions["mongo_session"].extension.refresh_handler
    return abort(401) if handler is None else current_app.ensure_sync(handler)()


def _way_back() -> str | None:
    """This page as a path on this host: what begins with two slashes would be another host.

    Browsers read backslashes as slashes, and skip tabs and line ends.
    """
    if request.method not in ("GET", "HEAD"):
        return None

    path = "".join((request.script_root + request.full_path).replace("\\", "/").split())
    return "/" + path.lstrip("/").removesuffix("?")
