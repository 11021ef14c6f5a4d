"""An application with the administration, under either protection of its forms."""

from __future__ import annotations

import pytest
from admin_site import logged_in
from flask import session
from flask_admin import Admin
from flask_wtf import CSRFProtect

from flask_mongo_session.contrib.admin import SessionAdmin


@pytest.fixture(params=["own", "flask-wtf"])
def protection(request):
    """What protects the forms."""
    return request.param


@pytest.fixture
def site(make_app):
    """An application with the admin, for the user "root" only."""
    app = make_app(SESSION_ADMIN_HIDE=("card",))
    admin = Admin(app)
    admin.add_view(SessionAdmin(app.extensions["sessions"], is_allowed=lambda: session.get("user_id") == "root"))

    @app.get("/login/<user>")
    def login(user):
        session.update(user_id=user, card="4111 1111", shop=[{"name": "Kiosk", "card": "4222"}])
        return user

    @app.get("/who")
    def who():
        return str(session.get("user_id"))

    @app.get("/ids")
    def ids():
        return {"sid": session.sid, "token": session.token}

    @app.get("/logout")
    def logout():
        session.clear()
        return "bye"

    return app


@pytest.fixture
def protected(site, protection):
    """The same, under either protection."""
    if protection == "flask-wtf":
        CSRFProtect(site)
    return site


@pytest.fixture
def root(site):
    """The administrator's browser."""
    return logged_in(site, "root")
