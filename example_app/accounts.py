"""Customers: register, log in, log out, change the password, leave for good."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, session, url_for
from flask_login import current_user, login_required, login_user, logout_user
from mongoengine.errors import NotUniqueError
from werkzeug.wrappers import Response

from flask_mongo_session import fresh_session
from flask_mongo_session.contrib.devices import Device

from .extensions import sessions
from .forms import ButtonForm, ChangePasswordForm, ConfirmForm, LoginForm, RegisterForm, refuse
from .models import User
from .navigation import asked_for

blueprint = Blueprint("accounts", __name__)

# Seconds after which the password is asked again before something that cannot be undone.
CONFIRM_AFTER = 300


@blueprint.route("/register", methods=["GET", "POST"])
def register() -> str | Response:
    """A new customer, logged in at once; the cart comes along."""
    form = RegisterForm()

    if form.validate_on_submit():
        user = User(name=form.name.data, email=form.email.data)
        user.set_password(form.password.data or "")

        if kept(user):
            login_user(user)
            flash(f"Welcome, {user.name}!", "success")
            return redirect(asked_for("catalogue.index"))

        refuse(form.email, "There is an account with this e-mail already.")

    return render_template("accounts/register.html", form=form)


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> str | Response:
    """Who is it. The session's token changes by itself; ``session.permanent`` is what remembers the device."""
    form = LoginForm()

    if form.validate_on_submit():
        user = User.by_password(form.email.data or "", form.password.data or "")

        if user is not None:
            session.permanent = form.remember.data
            login_user(user)
            flash(f"Welcome back, {user.name}.", "success")
            return redirect(asked_for("catalogue.index"))

        refuse(form.password, "E-mail and password do not match.")

    return render_template("accounts/login.html", form=form)


@blueprint.post("/logout")
def logout() -> Response:
    """The session ends. The next one, under another token, knows the theme and nothing else."""
    theme = session["theme"]

    logout_user()
    session.clear()
    session["theme"] = theme
    flash("You are logged out.", "success")

    return redirect(url_for("catalogue.index"))


@blueprint.get("/account")
@login_required
def account() -> str:
    """What the shop knows about its customer, and what can be done about it."""
    return render_template("accounts/account.html")


@blueprint.route("/account/password", methods=["GET", "POST"])
@login_required
def password() -> str | Response:
    """Another password; every other device is logged out."""
    form = ChangePasswordForm()

    if form.validate_on_submit():
        if current_user.has_password(form.current.data or ""):
            current_user.set_password(form.password.data or "")
            current_user.save()
            sessions.revoke_user(current_user.get_id(), keep=session.sid)
            flash("Your password is changed, and every other device is logged out.", "success")
            return redirect(url_for("accounts.account"))

        refuse(form.current, "This is not your password.")

    return render_template("accounts/password.html", form=form)


def not_me(_user_id: str, _device: Device | None) -> Response:
    """Somebody else was logged in, and so knows the password: everybody else is logged out by now."""
    flash("Every other device is logged out. Please choose another password now.", "info")

    return redirect(url_for("accounts.password"))


@blueprint.route("/account/confirm", methods=["GET", "POST"])
@login_required
def confirm() -> str | Response:
    """Still you? Asked before something that cannot be undone."""
    form = ConfirmForm()

    if form.validate_on_submit():
        if current_user.has_password(form.password.data or ""):
            session.confirm()
            return redirect(asked_for("accounts.account"))

        refuse(form.password, "This is not your password.")

    return render_template("accounts/confirm.html", form=form)


@blueprint.route("/account/delete", methods=["GET", "POST"])
@login_required
@fresh_session(CONFIRM_AFTER, endpoint="accounts.confirm")
def delete() -> str | Response:
    """Leave for good: the account and its sessions go. Only for who has given the password a moment ago."""
    form = ButtonForm()

    if form.validate_on_submit():
        user_id = current_user.get_id()
        User.objects(id=user_id).delete()
        sessions.erase_user(user_id, keep=session.sid)
        logout_user()
        session.clear()
        flash("Your account is deleted. Thank you for your visits.", "success")
        return redirect(url_for("catalogue.index"))

    return render_template("accounts/delete.html", form=form)


@blueprint.app_context_processor
def button_form() -> dict[str, type[ButtonForm]]:
    """``ButtonForm()`` for the log-out button of the header."""
    return {"ButtonForm": ButtonForm}


def kept(user: User) -> bool:
    """Whether ``user`` could be saved: not when the e-mail is taken, which the index decides, also in a race."""
    User.ensure_indexes()

    try:
        user.save(force_insert=True)
    except NotUniqueError:
        return False

    return True
