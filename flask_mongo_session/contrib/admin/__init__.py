"""Sessions in Flask-Admin (2 or later): look for them, look at them, end them; an overview with pictures.

::

    from flask_mongo_session.contrib.admin import SessionAdmin

    admin.add_view(SessionAdmin(sessions, is_allowed=lambda: current_user.is_staff))

Nobody is allowed unless the application says so. There is no creating and no editing. Every page is bounded, also
with a million sessions: the list goes along an index, the overview draws a sample.
"""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from flask import flash, redirect, request, url_for

from flask_mongo_session import Figures, MongoSession
from flask_mongo_session.contrib.forgery import is_genuine, token_field
from flask_mongo_session.contrib.protection import protect_pages

from .charts import bar_chart, short
from .listing import ORDERS, PAGE, SCAN, STATES, Query, fetch

try:
    from flask_admin import BaseView, expose
except ImportError as error:
    raise ImportError(
        "flask_mongo_session.contrib.admin needs Flask-Admin: pip install 'flask-mongoengine-session[admin]'"
    ) from error

try:
    from flask_mongo_session.contrib.devices.names import device_name as _device_name
except ImportError:  # without the extra [devices] the raw header has to do

    def _device_name(user_agent: str | None) -> str:  # type: ignore[misc]  # the other one caches
        return (user_agent or "Unknown device")[:80]


__all__ = ["SessionAdmin"]

_FOLDER = Path(__file__).parent


class SessionAdmin(BaseView):
    """The sessions of an application, for its administrators.

    :param sessions: the application's :class:`MongoSession`.
    :param is_allowed: whether the visitor of the current request may see and end everybody's sessions. Without it
        nobody may.
    """

    def __init__(
        self,
        sessions: MongoSession,
        is_allowed: t.Callable[[], bool] | None = None,
        *,
        name: str = "Sessions",
        endpoint: str = "sessions",
        **options: t.Any,
    ) -> None:
        self._sessions = sessions
        self._is_allowed = is_allowed
        super().__init__(
            name, endpoint=endpoint, static_folder=str(_FOLDER / "static"), static_url_path="/static", **options
        )

    def is_accessible(self) -> bool:
        """Only for whom the application says so; anybody else meets a 403 and finds no menu entry."""
        return self._is_allowed is not None and bool(self._is_allowed())

    def create_blueprint(self, admin: t.Any) -> t.Any:
        """Flask-Admin's, with our templates, and pages that nobody keeps or frames."""
        blueprint = super().create_blueprint(admin)
        blueprint.template_folder = str(_FOLDER / "templates")
        protect_pages(blueprint)
        return blueprint

    def render(self, template: str, **kwargs: t.Any) -> str:
        """Flask-Admin's page, which does not say what language it is in."""
        page = t.cast("str", super().render(template, **kwargs))
        return page.replace("<html>", '<html lang="en">', 1)

    @expose("/")
    def index(self) -> t.Any:
        """The list."""
        return self._list()

    @expose("/overview")
    def overview(self) -> t.Any:
        """Figures and pictures."""
        figures = self._sessions.figures()
        return self.render(
            "mongo_session/admin/overview.html", figures=figures, charts=_charts(figures), cards=_cards(figures)
        )

    @expose("/session/<session_id>")
    def details(self, session_id: str) -> t.Any:
        """One session with its data, hidden values masked."""
        return self._details(session_id)

    @expose("/revoke", methods=["POST"])
    def revoke(self) -> t.Any:
        """End the chosen sessions."""
        if not is_genuine():
            return self._list("This page was out of date. Nothing was changed; please try again."), 400

        chosen = request.form.getlist("session_id")[:PAGE]
        ended = sum(self._sessions.revoke(sid) for sid in chosen)
        if not ended:
            return self._list("Nothing was chosen, or it is not active any more."), 404

        return self._back(ended)

    @expose("/revoke-user", methods=["POST"])
    def revoke_user(self) -> t.Any:
        """End all sessions of one user."""
        if not is_genuine():
            return self._list("This page was out of date. Nothing was changed; please try again."), 400

        user = request.form.get("user", "")
        ended = self._sessions.revoke_user(user) if user else 0
        return self._back(ended) if ended else (self._list("That user has no session."), 404)

    def _list(self, problem: str | None = None) -> str:
        query = Query.of(request.args)
        page = fetch(self._sessions, query)
        field_name, token = token_field()

        return self.render(
            "mongo_session/admin/list.html",
            query=query,
            page=page,
            next_url=url_for(".index", **query.arguments(page.next)) if page.next else None,
            states=STATES,
            orders=tuple(ORDERS),
            scan=SCAN,
            device_name=_device_name,
            problem=problem,
            csrf_field=field_name,
            csrf_token_value=token,
        )

    def _details(self, session_id: str) -> t.Any:
        description = self._sessions.describe(session_id)
        field_name, token = token_field()
        data = {} if description is None else description.pop("data")
        page = self.render(
            "mongo_session/admin/details.html",
            session_id=session_id,
            description=description,
            device=_device_name((description or {}).get("user_agent")),
            data={key: json.dumps(value, indent=2, ensure_ascii=False) for key, value in data.items()},
            csrf_field=field_name,
            csrf_token_value=token,
        )
        return page if description is not None else (page, 404)

    def _back(self, ended: int) -> t.Any:
        flash("1 session has been ended." if ended == 1 else f"{ended} sessions have been ended.", "success")
        query = Query.of(request.args)
        return redirect(url_for(".index", **query.arguments()), 303)


def _cards(figures: Figures) -> list[tuple[str, str]]:
    about = "≈ " if figures.estimated else ""
    cards = [("Live now", short(figures.live)), ("Logged in", about + short(figures.with_user))]
    cards += [(f"Active in {span}", about + short(count)) for span, count in figures.active]

    return [
        *cards,
        ("Expired, not swept", short(figures.expired)),
        ("Average size", f"{about}{short(figures.average_size)} B"),
    ]


def _charts(figures: Figures) -> list[tuple[str, t.Any]]:
    return [
        ("Created per hour (UTC)", bar_chart(figures.created, "Sessions created per hour")),
        ("Expiring per hour (UTC)", bar_chart(figures.expiring, "Sessions expiring per hour")),
        ("Sizes", bar_chart(figures.sizes, "Sessions by size")),
        ("Users by number of sessions", bar_chart(figures.per_user, "Users by number of sessions", " %")),
    ]
