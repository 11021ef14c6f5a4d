"""The extensions, made once and bound to an application by the factory."""

from __future__ import annotations

from flask_login import LoginManager
from flask_wtf import CSRFProtect

from flask_mongo_session import MongoSession

from .models import ShopSession, User

sessions = MongoSession(model=ShopSession)
csrf = CSRFProtect()

login_manager = LoginManager()
login_manager.login_view = "accounts.login"
login_manager.login_message = "Please log in to see this page."
login_manager.login_message_category = "info"
login_manager.user_loader(User.by_id)
