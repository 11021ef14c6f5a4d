"""A page on which users see where they are logged in, and end what they do not know.

::

    from flask_mongo_session.contrib.devices import devices_blueprint

    app.register_blueprint(devices_blueprint(sessions), url_prefix="/devices")

Works without JavaScript. What it shows of a device is kept with ``SESSION_TRACK_DEVICE``. Templates to override in the
application's folder: ``mongo_session/devices/base.html`` (the page around it, with a block ``content``) and
``mongo_session/devices/devices.html``.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, session, url_for

from flask_mongo_session import MongoSession, SessionInfo, current_user_id
from flask_mongo_session.contrib.forgery import is_genuine, token_field
from flask_mongo_session.contrib.protection import protect_pages

from .names import device_name, time_ago

__all__ = ["Device", "devices_blueprint"]

#: Sessions shown at most; all others can still be ended.
SHOWN = 100

MESSAGES = {
    "ended": "The session has been ended: that device is logged out.",
    "ended-others": "All other sessions have been ended.",
    "gone": "That session is not active any more.",
    "stale": "This page was out of date. Nothing was changed; please try again.",
}


@dataclass(frozen=True)
class Device:
    """A session as its owner sees it."""

    #: The session id, the handle by which it is ended.
    sid: str
    name: str
    ip: str | None
    #: Its last activity, as a date (UTC) and as people say it.
    active_at: dt.datetime | None
    active: str
    #: Since when the user is logged in there (UTC).
    since: dt.datetime | None
    #: Whether it is the one that is asking.
    this_one: bool


def devices_blueprint(
    sessions: MongoSession, *, name: str = "devices", messages: t.Mapping[str, str] | None = None
) -> Blueprint:
    """The blueprint of the device page; its endpoints are ``index``, ``end`` and ``end_others``.

    Whoever is not logged in meets Flask-Login's ``unauthorized()`` where that is set up, else a 401.

    :param messages: texts to use instead of those in :data:`MESSAGES`.
    """
    blueprint = Blueprint(name, __name__, template_folder="templates", static_folder="static")
    page = _DevicePage(sessions, {**MESSAGES, **(messages or {})})
    blueprint.before_request(_refuse_strangers)
    protect_pages(blueprint)
    blueprint.add_url_rule("/", "index", page.index)
    blueprint.add_url_rule("/end", "end", page.end, methods=["POST"])
    blueprint.add_url_rule("/end-others", "end_others", page.end_others, methods=["POST"])

    return blueprint


class _DevicePage:
    def __init__(self, sessions: MongoSession, messages: t.Mapping[str, str]) -> None:
        self._sessions = sessions
        self._messages = messages

    def index(self) -> str:
        return self._render()

    def end(self) -> t.Any:
        """End one of the user's other sessions; an unknown, an expired and a foreign id are all the same."""
        sid = request.form.get("session_id", "")
        if not is_genuine():
            return self._render("stale"), 400
        if sid == _sid() or not self._sessions.revoke(sid, user_id=_user_id()):
            return self._render("gone"), 404

        return self._back("ended")

    def end_others(self) -> t.Any:
        if not is_genuine():
            return self._render("stale"), 400

        self._sessions.revoke_user(_user_id(), keep=_sid())
        return self._back("ended-others")

    def _render(self, problem: str | None = None) -> str:
        found = self._sessions.of_user(_user_id(), limit=SHOWN)
        devices = sorted(map(self._device, found), key=lambda device: not device.this_one)
        field_name, token = token_field()

        return render_template(
            "mongo_session/devices/devices.html",
            devices=devices,
            others=sum(not device.this_one for device in devices),
            shown=SHOWN,
            problem=self._messages[problem] if problem else None,
            csrf_field=field_name,
            csrf_token_value=token,
        )

    def _device(self, info: SessionInfo) -> Device:
        return Device(
            info.sid,
            device_name(info.user_agent),
            info.ip,
            info.touched_at,
            time_ago(info.touched_at, self._sessions.store.now()),
            info.authenticated_at,
            info.sid == _sid(),
        )

    def _back(self, message: str) -> t.Any:
        flash(self._messages[message], "success")
        return redirect(url_for(".index"), 303)


def _sid() -> str:
    return session.sid  # type: ignore[attr-defined,no-any-return]  # ours, behind Flask's proxy


def _user_id() -> str | None:
    return current_user_id(session)


def _refuse_strangers() -> t.Any:
    if request.endpoint == f"{request.blueprint}.static" or _user_id() is not None:
        return None

    login_manager = getattr(current_app, "login_manager", None)
    return login_manager.unauthorized() if login_manager else abort(401)
