"""Forms that no other site can post: through Flask-WTF where the application uses it, else with a token of our own."""

from __future__ import annotations

import hashlib
import hmac
import typing as t

from flask import current_app, request, session

_FIELD = "csrf_token"


def token_field() -> tuple[str, str]:
    """Name and value of the hidden field that every form has to carry."""
    config = current_app.config
    if "csrf" in current_app.extensions:
        from flask_wtf.csrf import generate_csrf  # noqa: PLC0415 - the application has it

        return config.get("WTF_CSRF_FIELD_NAME", _FIELD), generate_csrf()

    return _FIELD, _own_token()


def is_genuine() -> bool:
    """Whether the posted form came from a page of ours; Flask-WTF answers by itself when it did not."""
    protection = current_app.extensions.get("csrf")
    if protection is None:
        token = _own_token()
        return token != "" and hmac.compare_digest(request.form.get(_FIELD, "").encode(), token.encode())
    if current_app.config.get("WTF_CSRF_ENABLED", True):
        protection.protect()

    return True


def _own_token() -> str:
    """The form token of this session; ``""`` without one.

    It is computed from the session's token, so another user or a new token makes it worthless, and nobody without the
    secret key can make one. Loading the session first tells whether the cookie's token is still the current one.
    """
    if session.new or session.token is None:  # type: ignore[attr-defined]  # ours, behind Flask's proxy
        return ""

    key = t.cast("str | bytes", current_app.secret_key)
    secret = key.encode() if isinstance(key, str) else key
    message = f"flask-mongoengine-session form {session.token}"  # type: ignore[attr-defined]  # same

    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()
