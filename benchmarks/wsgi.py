"""Requests in process: no server, no test client between the clock and the application."""

from __future__ import annotations

import http.cookies
import typing as t

from flask import Flask


def environ_of(path: str, cookie: str | None = None) -> dict[str, t.Any]:
    """A WSGI request for *path*."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    return environ if cookie is None else {**environ, "HTTP_COOKIE": f"session={cookie}"}


def call(app: Flask, environ: dict[str, t.Any]) -> list[tuple[str, str]]:
    """One request, in process; the response's headers. Anything but a 200 ends the benchmarks."""
    answered: list[t.Any] = []
    body = app.wsgi_app(environ, lambda status, headers: answered.extend((status, headers)))
    b"".join(body)
    body.close()
    if answered[0] != "200 OK":
        raise AssertionError(f"{environ['PATH_INFO']} answered {answered[0]}")
    return answered[1]


def cookie_of(app: Flask, path: str = "/fill") -> str:
    """The session cookie that a new visitor gets from *path*."""
    headers = call(app, environ_of(path))
    cookie = http.cookies.SimpleCookie(next(value for name, value in headers if name == "Set-Cookie"))
    return cookie["session"].value
