"""Sessions in Flask-Admin (2 or later): look for them, look at them, end them; an overview with pictures.

::

    from flask_mongo_session.contrib.admin import SessionAdmin

    admin.add_view(SessionAdmin(sessions, is_allowed=lambda: current_user.is_staff))

Nobody is allowed unless the application says so. There is no creating and no editing. Every page is bounded, also
with a million sessions: the list goes along an index, the overview draws a sample. Everything works without JavaScript.
"""

from __future__ import annotations

import json
import typing as t
from importlib.util import find_spec
from pathlib import Path

from flask import abort, current_app, flash, redirect, request, session, url_for

from flask_mongo_session import MongoSession, current_user_id
from flask_mongo_session.contrib.forgery import is_genuine, token_field
from flask_mongo_session.contrib.protection import protect_pages

from .audit import ACTIONS, audit_page
from .charts import overview_cards, overview_charts
from .downloads import FORMATS, download
from .ending import end, end_everything, form_field, named_in
from .listing import PAGE, SCAN, export, fetch
from .naming import device_name
from .people import UserLabel, labels, own_sid
from .query import ORDERS, STATES, Query
from .questions import Question, about_everybody, about_own, about_user
from .search import KINDS, FindUser, understand

try:
    from flask_admin import BaseView, expose
except ImportError as error:
    raise ImportError(
        "flask_mongo_session.contrib.admin needs Flask-Admin: pip install 'flask-mongoengine-session[admin]'"
    ) from error

__all__ = ["SessionAdmin"]

_FOLDER = Path(__file__).parent
_STALE = "This page was out of date. Nothing was changed; please try again."


class SessionAdmin(BaseView):
    """The sessions of an application, for its administrators.

    :param sessions: the application's :class:`MongoSession`.
    :param is_allowed: whether the visitor of the current request may see and end everybody's sessions. Without it
        nobody may.
    :param user_label: what people call users: called once for each page with the user ids on it (texts), returns a
        mapping of ids to labels; ids that it leaves out are shown as they are.
    :param find_user: the ids of the users that a text in the search field may mean, a hundred at most.
    """

    def __init__(  # noqa: PLR0913 - keywords, each with a default
        self,
        sessions: MongoSession,
        is_allowed: t.Callable[[], bool] | None = None,
        *,
        user_label: UserLabel | None = None,
        find_user: FindUser | None = None,
        name: str = "Sessions",
        endpoint: str = "sessions",
        **options: t.Any,
    ) -> None:
        self._sessions = sessions
        self._is_allowed = is_allowed
        self._user_label = user_label
        self._find_user = find_user
        super().__init__(
            name, endpoint=endpoint, static_folder=str(_FOLDER / "static"), static_url_path="/static", **options
        )

    def is_accessible(self) -> bool:
        """Only for whom the application says so; anybody else finds no menu entry."""
        return self._is_allowed is not None and bool(self._is_allowed())

    def inaccessible_callback(self, name: str, **kwargs: t.Any) -> t.Any:  # noqa: ARG002 - Flask-Admin's
        """Whoever is not logged in is sent to do so, where Flask-Login knows where; anybody else meets a 403."""
        login_manager = getattr(current_app, "login_manager", None)
        return login_manager.unauthorized() if login_manager and current_user_id(session) is None else abort(403)

    def create_blueprint(self, admin: t.Any) -> t.Any:
        """Flask-Admin's, with our templates, and pages that nobody keeps or frames."""
        blueprint = super().create_blueprint(admin)
        blueprint.template_folder = str(_FOLDER / "templates")
        protect_pages(blueprint)
        if find_spec("flask_babel"):
            blueprint.before_app_request(_set_up_babel)
        return blueprint

    def render(self, template: str, **kwargs: t.Any) -> str:
        """Flask-Admin's page, which does not say what language it is in."""
        field_name, token = token_field()
        kwargs.update(csrf_field=field_name, csrf_token_value=token, own_sid=own_sid(), device_name=device_name)
        page = t.cast("str", super().render(f"mongo_session/admin/{template}.html", **kwargs))
        return page.replace("<html>", '<html lang="en">', 1)

    # -- looking ------------------------------------------------------------------------------------------------------

    @expose("/")
    def index(self) -> t.Any:
        """The list."""
        return self._list()

    @expose("/export.<any(csv, json):kind>")
    def export(self, kind: str) -> t.Any:
        """The list as a file, all pages of it."""
        query = Query.of(request.args)
        search = understand(self._sessions.store, query.q, self._find_user)
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - no proxy
        return download(app, export(self._sessions.store, query.first_page(), search), self._labels, kind)

    @expose("/overview")
    def overview(self) -> t.Any:
        """Figures and pictures."""
        figures = self._sessions.figures()
        return self.render("overview", figures=figures, charts=overview_charts(figures), cards=overview_cards(figures))

    @expose("/session")
    def details(self) -> t.Any:
        """One session with its data, hidden values masked; its id may be any text."""
        session_id = request.args.get("id", "")
        description = self._sessions.describe(session_id)
        data = {} if description is None else description.pop("data")
        user = (description or {}).get("user_id")
        page = self.render(
            "details",
            session_id=session_id,
            end_field=form_field(session_id),
            description=description,
            user=user,
            label=self._labels([user]).get(user or ""),
            data={key: json.dumps(value, indent=2, ensure_ascii=False) for key, value in data.items()},
        )
        return page if description is not None else (page, 404)

    # -- ending -------------------------------------------------------------------------------------------------------

    @expose("/revoke", methods=["POST"])
    def revoke(self) -> t.Any:
        """End the chosen sessions; the visitor's own one is asked about."""
        if not is_genuine():
            return self._list(_STALE), 400

        chosen = named_in(request.form, PAGE)
        if own_sid() in chosen and "confirmed" not in request.form:
            return self._ask(about_own(chosen))

        ended = sum(end(self._sessions, raw_id) for raw_id in chosen)
        return self._back(ended) if ended else (self._list("Nothing was chosen, or it is not active any more."), 404)

    @expose("/revoke-user", methods=["POST"])
    def revoke_user(self) -> t.Any:
        """End all sessions of one user, who is asked about first."""
        if not is_genuine():
            return self._list(_STALE), 400

        user = request.form.get("user", "")
        if "confirmed" not in request.form:
            question = about_user(self._sessions, user, self._labels([user]).get(user))
            return self._ask(question) if question else (self._list("That user has no session."), 404)

        ended = self._sessions.revoke_user(user, keep=self._kept()) if user else 0
        return self._back(ended) if ended else (self._list("That user has no session."), 404)

    @expose("/revoke-all", methods=["GET", "POST"])
    def revoke_all(self) -> t.Any:
        """End everything; a GET asks."""
        if request.method == "GET":
            return self._ask(about_everybody(self._sessions))
        if not is_genuine():
            return self._list(_STALE), 400

        ended = end_everything(self._sessions, self._kept())
        if ended is None:
            flash("All sessions are being ended: the audit says when that is done.", "info")
            return redirect(url_for(".audit"), 303)

        return self._back(ended)

    @expose("/audit")
    def audit(self) -> t.Any:
        """Who ended what."""
        asked = {name: request.args.get(name, "").strip() for name in ("actor", "user", "before")}
        records = audit_page(self._sessions, asked)
        shown = records[:PAGE]
        return self.render(
            "audit",
            asked=asked,
            records=shown,
            next_id=shown[-1].id if len(records) > PAGE else None,
            actions=ACTIONS,
            labels=self._labels(user for record in shown for user in (record.actor, record.user_id)),
        )

    def _ask(self, question: Question) -> str:
        query = Query.of(request.args)
        return self.render(
            "ask",
            question=question,
            action=url_for(f".{question.action}", **query.arguments(query.after)),
            back=url_for(".index", **query.arguments(query.after)),
        )

    def _kept(self) -> str | None:
        return own_sid() if "keep" in request.form else None

    def _back(self, ended: int) -> t.Any:
        flash("1 session has been ended." if ended == 1 else f"{ended:,} sessions have been ended.", "success")
        return redirect(url_for(".index", **Query.of(request.args).arguments()), 303)

    # -- the list -----------------------------------------------------------------------------------------------------

    def _labels(self, users: t.Iterable[str | None]) -> dict[str, str]:
        return labels(self._user_label, users)

    def _list(self, problem: str | None = None) -> str:
        query = Query.of(request.args)
        search = understand(self._sessions.store, query.q, self._find_user)
        page = fetch(self._sessions.store, query, search)

        return self.render(
            "list",
            query=query,
            search=search,
            kinds=KINDS,
            page=page,
            next_url=url_for(".index", **query.arguments(page.next)) if page.next else None,
            labels=self._labels(row.info.user_id for row in page.rows),
            form_field=form_field,
            all_chosen="all" in request.args,
            tracking=self._sessions.state.config.track_device,
            states=STATES,
            orders=ORDERS,
            formats=FORMATS,
            scan=SCAN,
            problem=problem,
        )


def _set_up_babel() -> None:
    """Flask-Admin asks Flask-Babel wherever that is installed, and fails where nobody has set it up: English then."""
    if "babel" not in current_app.extensions:
        from flask_babel import Babel  # noqa: PLC0415 - it is installed

        Babel(current_app._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001 - no proxy
