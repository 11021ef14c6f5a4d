"""A page on which users see where they are logged in, and end what they do not know.

::

    from flask_mongo_session.contrib.devices import devices_blueprint

    app.register_blueprint(devices_blueprint(sessions), url_prefix="/devices")

Works without JavaScript. What it shows of a device is kept with ``SESSION_TRACK_DEVICE``. Templates to override in the
application's folder: ``mongo_session/devices/base.html`` (the page around it, with a block ``content``) and
``mongo_session/devices/devices.html``. Texts follow Flask-Babel's language where the application uses it.
"""

from __future__ import annotations

import datetime as dt
import typing as t

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, session, url_for

from flask_mongo_session import MongoSession, SessionInfo, current_user_id
from flask_mongo_session.contrib.forgery import is_genuine, token_field
from flask_mongo_session.contrib.protection import protect_pages

from .device import Device, Viewer
from .logins import LoginWatch, NewLogin, NewLoginHook
from .places import PlaceName
from .texts import language, noted, say, say_moment

__all__ = ["Device", "NewLogin", "devices_blueprint"]

#: Sessions shown at most; all others can still be ended.
SHOWN = 100

MESSAGES = {
    "ended": noted("The session has been ended: that device is logged out."),
    "ended-others": noted("All other sessions have been ended."),
    "not-me": noted("All other sessions have been ended, that one included. Please change your password now."),
    "gone": noted("That session is not active any more."),
    "stale": noted("This page was out of date. Nothing was changed; please try again."),
}

#: Called with the user's id and, if that session was still alive, its device; may return a response.
NotMeHook = t.Callable[[str, "Device | None"], t.Any]


def devices_blueprint(  # noqa: PLR0913 - keywords, each with a default
    sessions: MongoSession,
    *,
    name: str = "devices",
    messages: t.Mapping[str, str] | None = None,
    place: PlaceName | None = None,
    new_for: dt.timedelta = dt.timedelta(days=7),
    on_not_me: NotMeHook | None = None,
    on_new_login: NewLoginHook | None = None,
) -> Blueprint:
    """The blueprint of the device page; its endpoints are ``index``, ``end``, ``end_others`` and ``not_me``.

    Whoever is not logged in meets Flask-Login's ``unauthorized()`` where that is set up, else a 401.

    :param messages: texts to use instead of those in :data:`MESSAGES`; they are not translated.
    :param place: given the stored address, the name of the place, or ``None``. If it raises, that is logged.
    :param new_for: how long a device that the user's earlier sessions do not know is marked as new.
    :param on_not_me: called when a user says of a session "that was not me", after all but this one were ended.
    :param on_new_login: called with a :class:`NewLogin` after a log-in from a new device was stored. If it raises, that
        is logged. Needs ``SESSION_TRACK_DEVICE``: registering raises :exc:`ConfigurationError` without it.
    """
    blueprint = Blueprint(name, __name__, template_folder="templates", static_folder="static")
    page = _DevicePage(sessions, {**MESSAGES, **(messages or {})}, place, new_for, on_not_me)
    blueprint.before_request(_refuse_strangers)
    protect_pages(blueprint)
    if on_new_login is not None:
        blueprint.record(LoginWatch(sessions, on_new_login, page.describe).install)
    blueprint.add_url_rule("/", "index", page.index)
    blueprint.add_url_rule("/end", "end", page.end, methods=["POST"])
    blueprint.add_url_rule("/end-others", "end_others", page.end_others, methods=["POST"])
    blueprint.add_url_rule("/not-me", "not_me", page.not_me, methods=["POST"])

    return blueprint


class _DevicePage:
    def __init__(
        self,
        sessions: MongoSession,
        messages: t.Mapping[str, str],
        place: PlaceName | None,
        new_for: dt.timedelta,
        on_not_me: NotMeHook | None,
    ) -> None:
        self._sessions = sessions
        self._messages = messages
        self._place = place
        self._new_for = new_for
        self._on_not_me = on_not_me

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

    def not_me(self) -> t.Any:
        """End all of the user's sessions but this one, and tell the application, which may have more to do.

        Whoever was there may have ended that session meanwhile: the others are ended all the same.
        """
        if not is_genuine():
            return self._render("stale"), 400

        sid, user_id = request.form.get("session_id", ""), t.cast("str", _user_id())
        if sid == _sid():
            return self._render("gone"), 404
        device = next((one for one in self._devices() if one.sid == sid), None)
        self._sessions.revoke_user(user_id, keep=_sid())
        answer = self._on_not_me(user_id, device) if self._on_not_me else None

        return self._back("not-me") if answer is None else answer

    def describe(self, info: SessionInfo, sessions: t.Sequence[SessionInfo]) -> Device:
        """One of a user's *sessions*, for the hook at a log-in."""
        return self._viewer(None).device(info, sessions)

    def _viewer(self, sid: str | None) -> Viewer:
        return Viewer(sid, self._sessions.store.now(), self._place, self._new_for)

    def _devices(self) -> list[Device]:
        found = self._sessions.of_user(_user_id(), limit=SHOWN)
        viewer = self._viewer(_sid())
        return [viewer.device(info, found) for info in found]

    def _render(self, problem: str | None = None) -> str:
        devices = sorted(self._devices(), key=lambda device: not device.this_one)
        field_name, token = token_field()

        return render_template(
            "mongo_session/devices/devices.html",
            devices=devices,
            others=sum(not device.this_one for device in devices),
            shown=SHOWN,
            problem=self._say(problem) if problem else None,
            csrf_field=field_name,
            csrf_token_value=token,
            say=say,
            say_moment=say_moment,
            language=language(),
        )

    def _say(self, message: str) -> str:
        text = self._messages[message]
        return say(text) if text == MESSAGES[message] else text

    def _back(self, message: str) -> t.Any:
        flash(self._say(message), "success")
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
