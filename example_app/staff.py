"""Behind the counter: the sessions of all customers, for the staff."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from bson import ObjectId
from flask import Flask, abort, redirect, url_for
from flask_admin import Admin, AdminIndexView, expose
from flask_admin.theme import Bootstrap4Theme
from flask_login import current_user
from mongoengine import Q
from werkzeug.wrappers import Response

from flask_mongo_session.contrib.admin import SessionAdmin

from .extensions import login_manager, sessions
from .models import User


def init_app(app: Flask) -> None:
    """Serve the administration under ``/admin/``, in a page that needs no script: see ``templates/staff/base.html``."""
    if find_spec("flask_babel"):  # Flask-Admin uses it then, and wants it set up
        import_module("flask_babel").Babel(app)
    admin = Admin(app, name="Kiln Street", index_view=Door(), theme=Bootstrap4Theme(base_template="staff/base.html"))
    admin.add_view(Visits(sessions, is_allowed=is_staff, user_label=names_of, find_user=customers_called))


def is_staff() -> bool:
    """Whether the visitor of this request is a member of the staff: asked again at every request."""
    return current_user.is_authenticated and current_user.is_staff


def names_of(ids: list[str]) -> dict[str, str]:
    """What the list calls customers: one query a page."""
    known = [ObjectId(text) for text in ids if ObjectId.is_valid(text)]
    return {str(user.id): user.name for user in User.objects(id__in=known).only("name")}


def customers_called(text: str) -> list[str]:
    """Whom the search field may mean."""
    return [str(user.id) for user in User.objects(Q(name__icontains=text) | Q(email=text)).only("id").limit(100)]


class Guarded:
    """What a Flask-Admin view answers to whom it is not for."""

    def inaccessible_callback(self, _name: str, **_arguments: object) -> Response:
        """Who is not logged in may do so; a customer is refused."""
        if current_user.is_authenticated:
            abort(403, "This door is for the staff.")

        return login_manager.unauthorized()


class Door(Guarded, AdminIndexView):
    """``/admin/`` itself: straight on to the sessions."""

    def is_accessible(self) -> bool:
        return is_staff()

    @expose("/")
    def index(self) -> Response:
        return redirect(url_for("sessions.index"))


class Visits(Guarded, SessionAdmin):
    """The list, the details and the overview, as the package brings them."""
