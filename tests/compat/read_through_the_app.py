"""A pytest plugin for Flask-Security's suite, whose helpers decode Flask's cookie: they ask the application instead."""

from __future__ import annotations

import http.cookies

import flask


def pytest_collection():
    """Replace the helpers before the first test module imports them."""
    from tests import test_utils  # the suite's, in the folder that it runs in

    test_utils.get_session = of_response
    test_utils.get_existing_session = of_client


def of_response(response):
    """What is in the session that the response's cookie names; without one, that the request's cookie named."""
    sent = [cookie for line in response.headers.getlist("Set-Cookie") if (cookie := _session_in(line)) is not None]
    cookie = sent[0] if sent else _session_in(response.request.headers.get("Cookie", ""))
    return _content(response.json_module._app, cookie) if cookie else None


def of_client(client):
    """What is in the session of the client's cookie."""
    cookie = client.get_cookie("session")
    return _content(client.application, cookie.value) if cookie else None


def _session_in(line):
    cookie = http.cookies.SimpleCookie(line).get("session")
    return None if cookie is None else cookie.value


def _content(app, cookie):
    with app.test_request_context(headers={"Cookie": f"session={cookie}"}):
        return dict(flask.session)
