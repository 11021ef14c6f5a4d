"""The forms. Every one of them carries a CSRF token, also those that are a single button."""

from __future__ import annotations

import typing as t

from flask_wtf import FlaskForm
from wtforms import BooleanField, EmailField, Field, IntegerField, PasswordField, StringField
from wtforms.validators import EqualTo, InputRequired, Length, NumberRange, Regexp

MOST_PIECES = 20

Filter = t.Callable[[t.Any], t.Any]


def stripped(value: str | None) -> str | None:
    """Without the spaces that an autocomplete leaves at either end."""
    return value.strip() if value else value


def lowered(value: str | None) -> str | None:
    """E-mails are compared in lower case."""
    return value.lower() if value else value


class ButtonForm(FlaskForm):
    """Nothing but the CSRF token: for forms that are one button."""


class LoginForm(FlaskForm):
    """Who is it, and shall we remember."""

    email = EmailField("E-mail", filters=[stripped, lowered], validators=[InputRequired("Please enter your e-mail.")])
    password = PasswordField("Password", validators=[InputRequired("Please enter your password.")])
    remember = BooleanField("Keep me logged in on this device")


class RegisterForm(FlaskForm):
    """A new customer."""

    name = StringField(
        "Name", filters=[stripped], validators=[InputRequired("What shall we call you?"), Length(max=80)]
    )
    email = EmailField(
        "E-mail",
        filters=[stripped, lowered],
        validators=[
            InputRequired("Please enter your e-mail."),
            Length(max=254),
            Regexp(r"^[^@\s]+@[^@\s]+\.[^@\s]+$", message="That does not look like an e-mail address."),
        ],
    )
    password = PasswordField(
        "Password",
        description="At least 10 characters.",
        validators=[InputRequired("Please choose a password."), Length(10, 200, "Please use at least 10 characters.")],
    )


class ChangePasswordForm(FlaskForm):
    """The old one, the new one, and the new one again."""

    current = PasswordField("Current password", validators=[InputRequired("Please enter your current password.")])
    password = PasswordField(
        "New password",
        description="At least 10 characters.",
        validators=[InputRequired("Please choose a password."), Length(10, 200, "Please use at least 10 characters.")],
    )
    repeat = PasswordField("New password again", validators=[EqualTo("password", "The two are not the same.")])


class ConfirmForm(FlaskForm):
    """It is really you: asked again before something that cannot be undone."""

    password = PasswordField("Password", validators=[InputRequired("Please enter your password.")])


class QuantityForm(FlaskForm):
    """How many pieces; zero takes the product out of the cart."""

    quantity = IntegerField(
        "Quantity",
        validators=[InputRequired("How many?"), NumberRange(0, MOST_PIECES, f"Between 0 and {MOST_PIECES}, please.")],
    )


class ThemeForm(FlaskForm):
    """A free text on purpose: what is allowed is said once, by the session's own field."""

    theme = StringField("Theme")


def refuse(field: Field, message: str) -> None:
    """Put ``message`` beside ``field``, as a validator would."""
    field.errors = [*field.errors, message]
