"""Headers for pages that show people's sessions: nobody keeps such a page, and no other site frames its buttons."""

from __future__ import annotations

import typing as t

from flask import request, request_finished

from flask_mongo_session.web.error_response import keep_private

if t.TYPE_CHECKING:
    from flask import Blueprint, Flask
    from flask.blueprints import BlueprintSetupState
    from flask.wrappers import Response

_MARK = "flask_mongo_session.private"


def protect_pages(blueprint: Blueprint) -> None:
    """Forbid to keep or frame the pages of *blueprint*, refusals included, unless the application says something else.

    The headers are added when the response is finished, so that a policy which the application's own ``after_request``
    functions set is already there, also one that they set only where there is none.
    """
    blueprint.after_request(_mark)
    blueprint.record(_listen)


def _listen(state: BlueprintSetupState) -> None:
    request_finished.connect(_add_headers, state.app)


def _mark(response: Response) -> Response:
    request.environ[_MARK] = True
    return response


def _add_headers(_app: Flask, response: Response, **_: t.Any) -> None:
    if _MARK in request.environ and response.mimetype == "text/html":
        keep_private(response)
