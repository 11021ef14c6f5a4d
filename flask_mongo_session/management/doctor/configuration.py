"""What the doctor reads from the configuration alone: the points of the security page, each with what to set."""

from __future__ import annotations

import datetime as dt
import typing as t

from .finding import NOTE, OK, WRONG, Result

if t.TYPE_CHECKING:
    from flask import Flask

    from flask_mongo_session.config import SessionConfig

_SHORTEST_KEY = 16
_LONG_FIRST_LIFE = dt.timedelta(days=1)
_NEW_KEY = "Make one: python -c 'import secrets; print(secrets.token_hex())'"
_HOST, _SECURE = "__Host-", "__Secure-"


def examine_configuration(app: Flask, config: SessionConfig) -> t.Iterator[Result]:
    """Each point; no command is sent."""
    for check in (_secret_key, _name, _secure, _http_only, _same_site, _remember_me):
        yield check(app)
    for check_with_config in (_idle, _anonymous, _embedded):
        yield check_with_config(app, config)
    for check_config in (_absolute, _per_user, _tracking, _write_concern):
        yield check_config(config)


def _secret_key(app: Flask) -> Result:
    key = app.secret_key
    if not key:
        return "secret key", WRONG, f"SECRET_KEY is not set: there are no sessions at all. {_NEW_KEY}"
    if len(key) < _SHORTEST_KEY:
        return (
            "secret key",
            WRONG,
            f"SECRET_KEY is shorter than {_SHORTEST_KEY} characters, and can be guessed. {_NEW_KEY}",
        )

    older = len(app.config["SECRET_KEY_FALLBACKS"] or ())
    return "secret key", OK, f"set; {older} older ones are accepted"


def _name(app: Flask) -> Result:
    """Whether browsers keep other hosts from setting the cookie, and whether they take it at all."""
    interface = app.session_interface
    name = interface.get_cookie_name(app)
    if not name.startswith((_HOST, _SECURE)):
        return "cookie name", NOTE, f'{name!r}: other hosts can plant it; SESSION_COOKIE_NAME = "__Host-session"'

    broken = [] if interface.get_cookie_secure(app) else ["SESSION_COOKIE_SECURE = True"]
    if name.startswith(_HOST):
        broken += [] if interface.get_cookie_path(app) == "/" else ['SESSION_COOKIE_PATH = "/"']
        broken += [] if interface.get_cookie_domain(app) is None else ["SESSION_COOKIE_DOMAIN = None"]
    if broken:
        return "cookie name", WRONG, f"browsers refuse {name!r}, so that nobody stays logged in: {', '.join(broken)}"

    return "cookie name", OK, name


def _secure(app: Flask) -> Result:
    if app.session_interface.get_cookie_secure(app):
        return "cookie Secure", OK, "sent over HTTPS only"

    verdict = NOTE if app.debug else WRONG
    return (
        "cookie Secure",
        verdict,
        "SESSION_COOKIE_SECURE is off: the cookie travels over plain HTTP, too. Set it to True.",
    )


def _http_only(app: Flask) -> Result:
    if app.session_interface.get_cookie_httponly(app):
        return "cookie HttpOnly", OK, "kept from scripts"

    return (
        "cookie HttpOnly",
        WRONG,
        "SESSION_COOKIE_HTTPONLY is off: any script on a page can take the session. Remove the key.",
    )


def _same_site(app: Flask) -> Result:
    same_site = app.session_interface.get_cookie_samesite(app)
    if same_site in ("Lax", "Strict"):
        return "cookie SameSite", OK, same_site
    if same_site is None:
        return "cookie SameSite", NOTE, 'SESSION_COOKIE_SAMESITE is not set; "Lax" keeps other sites from posting.'

    return "cookie SameSite", NOTE, f"SESSION_COOKIE_SAMESITE is {same_site!r}: other sites' pages send the cookie."


def _remember_me(app: Flask) -> Result:
    """Whether Flask-Login's remember-me cookie is in use: it is not kept here, so nothing here can end it."""
    used = sorted(key for key in app.config if key.startswith("REMEMBER_COOKIE_"))
    if not used:
        return "remember-me cookie", OK, "no REMEMBER_COOKIE_ key is set"

    return (
        "remember-me cookie",
        NOTE,
        (
            f"{used[0]} is set: Flask-Login's cookie outlives every revocation, unless get_id() gives "
            "sessions.login_id(…) and the user_loader asks sessions.user_behind(…); session.permanent = True needs none"
        ),
    )


def _idle(app: Flask, config: SessionConfig) -> Result:
    if config.idle_timeout:
        return "idle timeout", OK, f"a session that is not used ends after {config.idle_timeout}"

    lifetime = app.permanent_session_lifetime
    return "idle timeout", NOTE, f"a session that is not used lives for {lifetime}; SESSION_IDLE_TIMEOUT = 30 * 60"


def _absolute(config: SessionConfig) -> Result:
    if config.absolute_lifetime:
        return "absolute lifetime", OK, f"a log-in ends after {config.absolute_lifetime}"

    return "absolute lifetime", NOTE, "a session that is used never ends; SESSION_ABSOLUTE_LIFETIME = 12 * 60 * 60"


def _anonymous(app: Flask, config: SessionConfig) -> Result:
    """Whether sessions that nobody comes back to pile up."""
    idle = config.idle_timeout or app.permanent_session_lifetime
    first = min(config.anonymous_lifetime or idle, idle)
    if first <= _LONG_FIRST_LIFE:
        return "anonymous lifetime", OK, f"a session of nobody that is not used again is over after {first}"

    return (
        "anonymous lifetime",
        NOTE,
        f"a crawler's session is kept for {first}; SESSION_ANONYMOUS_LIFETIME = 60 * 60",
    )


def _per_user(config: SessionConfig) -> Result:
    if config.max_per_user:
        count, policy = config.max_per_user
        return "sessions per user", OK, f"{count} at most; {'the oldest' if policy == 'oldest' else 'the new one'} goes"

    return "sessions per user", NOTE, 'as many as somebody makes; SESSION_MAX_PER_USER = (5, "oldest")'


def _tracking(config: SessionConfig) -> Result:
    if config.track_device:
        return "device", OK, "address and browser are kept" if config.track_device is True else "network and browser"

    return (
        "device",
        NOTE,
        'nobody can tell sessions apart; SESSION_TRACK_DEVICE = "truncated"',
    )


def _write_concern(config: SessionConfig) -> Result:
    concern = config.mongodb_write_concern
    if concern == "majority":
        return "write concern", OK, "majority"

    return (
        "write concern",
        NOTE,
        f"{concern!r}: log-ins and log-outs that were confirmed can be lost by a failure. Remove the key.",
    )


def _embedded(app: Flask, config: SessionConfig) -> Result:
    name = "embedded server"
    if not (config.mongodb_uri or "").startswith("embedded:"):
        return name, OK, "not used"
    if app.debug or app.testing:
        return name, OK, "used, for development or tests"

    return name, WRONG, "SESSION_MONGODB_URI is 'embedded:…' outside debug and testing: it is a developer's server."
